#include "worker/usage.h"

/* A usage object being read. */
struct source {
    const struct json_doc *doc;
    int object;
    bool clamped;
};

/* Reads the count `name` of `object`. False when it is absent or null, or no number; anything that is there but cannot
 * be a count marks the source as clamped. */
static bool read_count(struct source *source, int object, const char *name, int64_t *out) {
    int value = json_member(source->doc, object, name);
    enum json_type type = json_type_of(source->doc, value);
    if (type == JSON_ABSENT || type == JSON_NULL) {
        return false;
    }
    double fraction = 0;
    if (!json_count(source->doc, value, out)) {
        source->clamped = true;
        if (!json_double(source->doc, value, &fraction) || !(fraction < (double)TOKENS_MOST)) {
            return false;
        }
        *out = fraction > 0 ? (int64_t)fraction + 1 : 0; /* what is begun counts */
    }
    if (*out < 0 || *out > TOKENS_MOST) {
        source->clamped = true;
        *out = *out < 0 ? 0 : TOKENS_MOST;
    }
    return true;
}

/* As read_count for a count whose name differs between providers: the first that is there. */
static bool read_either(struct source *source, int object, const char *name, const char *other_name, int64_t *out) {
    return read_count(source, object, name, out) || read_count(source, object, other_name, out);
}

/* `part` of `whole`: no more than that. */
static int64_t part_of(struct source *source, int64_t part, int64_t whole) {
    if (part <= whole) {
        return part;
    }
    source->clamped = true;
    return whole;
}

static void read_input(struct source *source, struct usage_report *out) {
    int64_t hit = 0;
    int64_t miss = 0;
    bool has_hit = read_count(source, source->object, "prompt_cache_hit_tokens", &hit); /* DeepSeek */
    bool has_miss = read_count(source, source->object, "prompt_cache_miss_tokens", &miss);
    out->has_input = read_either(source, source->object, "prompt_tokens", "input_tokens", &out->tokens.input_tokens);
    if (!out->has_input && has_hit && has_miss) {
        out->has_input = true;
        out->tokens.input_tokens = part_of(source, hit + miss, TOKENS_MOST);
    }
    int details = json_member(source->doc, source->object, "prompt_tokens_details");
    if (json_type_of(source->doc, details) != JSON_OBJECT) {
        details = json_member(source->doc, source->object, "input_tokens_details");
    }
    if (!read_count(source, details, "cached_tokens", &out->tokens.cached_input_tokens) &&
        !read_either(source, source->object, "cached_tokens", "cache_read_input_tokens",
                     &out->tokens.cached_input_tokens)) {
        out->tokens.cached_input_tokens = hit;
    }
    if (!read_count(source, details, "cache_write_tokens", &out->tokens.cache_write_tokens)) {
        (void)read_count(source, source->object, "cache_creation_input_tokens", &out->tokens.cache_write_tokens);
    }
}

static void read_output(struct source *source, struct usage_report *out) {
    out->has_output =
        read_either(source, source->object, "completion_tokens", "output_tokens", &out->tokens.output_tokens);
    int details = json_member(source->doc, source->object, "completion_tokens_details");
    if (json_type_of(source->doc, details) != JSON_OBJECT) {
        details = json_member(source->doc, source->object, "output_tokens_details");
    }
    if (!read_count(source, details, "reasoning_tokens", &out->tokens.reasoning_tokens)) {
        (void)read_count(source, source->object, "reasoning_tokens", &out->tokens.reasoning_tokens); /* SGLang */
    }
}

/* What the total says about the parts: an input that only it states, reasoning that the completion count leaves out
 * (xAI), tokens nobody names (Gemini's layer). */
static void compare_total(struct source *source, struct usage_report *out) {
    struct token_counts *tokens = &out->tokens;
    int64_t total = 0;
    bool has_total = read_count(source, source->object, "total_tokens", &total);
    if (has_total && !out->has_input) {
        out->has_input = true;
        tokens->input_tokens = total > tokens->output_tokens ? total - tokens->output_tokens : 0;
    }
    int64_t stated = tokens->input_tokens + tokens->output_tokens;
    if (has_total && tokens->reasoning_tokens > 0 && total >= stated + tokens->reasoning_tokens) {
        tokens->output_tokens = part_of(source, tokens->output_tokens + tokens->reasoning_tokens, TOKENS_MOST);
        stated = tokens->input_tokens + tokens->output_tokens;
    }
    out->contradicts = out->has_output && tokens->reasoning_tokens > tokens->output_tokens;
    out->unexplained_tokens = has_total && total > stated ? total - stated : 0;
}

bool usage_read(const struct json_doc *doc, int value, struct usage_report *out) {
    *out = (struct usage_report){0};
    if (json_type_of(doc, value) != JSON_OBJECT) {
        return false;
    }
    struct source source = {.doc = doc, .object = value};
    read_input(&source, out);
    read_output(&source, out);
    compare_total(&source, out);
    struct token_counts *tokens = &out->tokens;
    tokens->cached_input_tokens = part_of(&source, tokens->cached_input_tokens, tokens->input_tokens);
    tokens->cache_write_tokens =
        part_of(&source, tokens->cache_write_tokens, tokens->input_tokens - tokens->cached_input_tokens);
    out->clamped = source.clamped;
    return out->has_input || out->has_output;
}

bool usage_read_anthropic(const struct json_doc *doc, int value, struct usage_report *out) {
    *out = (struct usage_report){0};
    if (json_type_of(doc, value) != JSON_OBJECT) {
        return false;
    }
    struct source source = {.doc = doc, .object = value};
    struct token_counts *tokens = &out->tokens;
    int64_t plain = 0;
    int64_t short_writes = 0;
    int64_t long_writes = 0;
    int creation = json_member(doc, value, "cache_creation");
    out->has_input = read_count(&source, value, "input_tokens", &plain);
    (void)read_count(&source, value, "cache_read_input_tokens", &tokens->cached_input_tokens);
    if (!read_count(&source, value, "cache_creation_input_tokens", &tokens->cache_write_tokens)) {
        (void)read_count(&source, creation, "ephemeral_5m_input_tokens", &short_writes);
        (void)read_count(&source, creation, "ephemeral_1h_input_tokens", &long_writes);
        tokens->cache_write_tokens = part_of(&source, short_writes + long_writes, TOKENS_MOST);
    }
    tokens->cached_input_tokens = part_of(&source, tokens->cached_input_tokens, TOKENS_MOST - plain);
    tokens->cache_write_tokens =
        part_of(&source, tokens->cache_write_tokens, TOKENS_MOST - plain - tokens->cached_input_tokens);
    tokens->input_tokens = plain + tokens->cached_input_tokens + tokens->cache_write_tokens;
    out->has_output = read_count(&source, value, "output_tokens", &tokens->output_tokens);
    int details = json_member(doc, value, "output_tokens_details");
    (void)read_count(&source, details, "thinking_tokens", &tokens->reasoning_tokens);
    tokens->reasoning_tokens = part_of(&source, tokens->reasoning_tokens, tokens->output_tokens);
    out->clamped = source.clamped;
    return out->has_input || out->has_output;
}

static void raise_to(int64_t *count, int64_t other) {
    if (other > *count) {
        *count = other;
    }
}

/* Parts of several reports together may not be larger than the whole. */
static bool fit_parts(struct token_counts *tokens) {
    int64_t cached_most = tokens->input_tokens;
    bool fits = tokens->cached_input_tokens <= cached_most;
    tokens->cached_input_tokens = fits ? tokens->cached_input_tokens : cached_most;
    int64_t written_most = tokens->input_tokens - tokens->cached_input_tokens;
    fits = fits && tokens->cache_write_tokens <= written_most;
    tokens->cache_write_tokens = tokens->cache_write_tokens <= written_most ? tokens->cache_write_tokens : written_most;
    return !fits;
}

void usage_merge(struct usage_report *total, const struct usage_report *next) {
    bool clamped = total->clamped || next->clamped;
    if ((next->has_input && next->has_output) || (!total->has_input && !total->has_output)) {
        *total = *next;
    } else {
        raise_to(&total->tokens.input_tokens, next->tokens.input_tokens);
        raise_to(&total->tokens.cached_input_tokens, next->tokens.cached_input_tokens);
        raise_to(&total->tokens.cache_write_tokens, next->tokens.cache_write_tokens);
        raise_to(&total->tokens.output_tokens, next->tokens.output_tokens);
        raise_to(&total->tokens.reasoning_tokens, next->tokens.reasoning_tokens);
        total->has_input |= next->has_input;
        total->has_output |= next->has_output;
        clamped = fit_parts(&total->tokens) || clamped;
    }
    total->clamped = clamped;
}
