#include "worker/gemini_usage.h"

/* Reads the count `name`. False when it is absent, null or no number; what cannot be a count is clamped. */
static bool read_count(const struct json_doc *doc, int object, const char *name, bool *clamped, int64_t *out) {
    int value = json_member(doc, object, name);
    enum json_type type = json_type_of(doc, value);
    if (type == JSON_ABSENT || type == JSON_NULL) {
        return false;
    }
    if (!json_count(doc, value, out)) {
        *clamped = true;
        return false;
    }
    if (*out < 0 || *out > TOKENS_MOST) {
        *clamped = true;
        *out = *out < 0 ? 0 : TOKENS_MOST;
    }
    return true;
}

static int64_t at_most(int64_t count, int64_t most, bool *clamped) {
    *clamped |= count > most;
    return count > most ? most : count;
}

bool gemini_usage_read(const struct json_doc *doc, int value, struct usage_report *out) {
    struct token_counts *tokens = &out->tokens;
    int64_t prompt = 0;
    int64_t tools = 0;
    int64_t candidates = 0;
    int64_t thoughts = 0;
    int64_t cached = 0;
    int64_t total = 0;
    bool clamped = false;
    *out = (struct usage_report){0};
    out->has_input = read_count(doc, value, "promptTokenCount", &clamped, &prompt);
    out->has_input |= read_count(doc, value, "toolUsePromptTokenCount", &clamped, &tools);
    bool has_candidates = read_count(doc, value, "candidatesTokenCount", &clamped, &candidates);
    bool has_thoughts = read_count(doc, value, "thoughtsTokenCount", &clamped, &thoughts);
    bool has_total = read_count(doc, value, "totalTokenCount", &clamped, &total);
    (void)read_count(doc, value, "cachedContentTokenCount", &clamped, &cached);
    out->has_output = has_candidates || has_thoughts || (has_total && out->has_input);
    tokens->input_tokens = at_most(prompt + tools, TOKENS_MOST, &clamped);
    if (!has_candidates && has_total && out->has_input && total > tokens->input_tokens + thoughts) {
        candidates = total - tokens->input_tokens - thoughts;
    }
    tokens->output_tokens = at_most(candidates + thoughts, TOKENS_MOST, &clamped);
    tokens->reasoning_tokens = at_most(thoughts, tokens->output_tokens, &clamped);
    tokens->cached_input_tokens = at_most(cached, tokens->input_tokens, &clamped);
    int64_t stated = tokens->input_tokens + tokens->output_tokens;
    out->unexplained_tokens = has_total && total > stated ? total - stated : 0;
    out->clamped = clamped;
    return out->has_input || out->has_output;
}
