#include "worker/estimate.h"

enum {
    BLOCK_BYTES = 16 << 10,
    BLOCKS_PER_LOOK = 8,
    CHUNK_BYTES = 1024,
    RATIO_LEAST_PERCENT = 75,
    RATIO_MOST_PERCENT = 200
};

static const struct tokenizer *tokenizer_for(const struct estimate *estimate) {
    return estimate->tokenizer != NULL ? estimate->tokenizer : tokenizer_of(SPAN_EMPTY);
}

void estimate_init(struct estimate *estimate, struct span model) {
    *estimate = (struct estimate){.tokenizer = tokenizer_of(model)};
}

void estimate_copy(struct estimate *to, const struct estimate *from) {
    memcpy(to, from, offsetof(struct estimate, exact));
    bpe_copy(&to->exact, &from->exact);
}

/* How much of a text of `len` bytes comes before the counted bytes reach `most`. */
static size_t bytes_until(const struct estimate *estimate, int64_t most, size_t len) {
    int64_t left = most - estimate->counted_bytes;
    return left <= 0 ? 0 : (uint64_t)left < len ? (size_t)left : len;
}

/* Counting stops here: from now on there is only the guess, and the sample to judge it by. */
static void end_sample(struct estimate *estimate, const struct vocabulary *vocabulary, enum vocabulary_kind kind) {
    bpe_break(&estimate->exact, vocabulary, kind);
    guess_break(&estimate->guess);
    estimate->sample = estimate->guess;
    estimate->sample_tokens = estimate->exact.tokens - estimate->sample_tokens;
}

/* Counts the text up to the bound. Returns how much that was. */
static size_t count(struct estimate *estimate, const struct vocabulary *vocabulary, enum vocabulary_kind kind,
                    struct span text) {
    size_t before_sample = bytes_until(estimate, ESTIMATE_EXACT_BYTES - ESTIMATE_SAMPLE_BYTES, text.len);
    bpe_add(&estimate->exact, vocabulary, kind, span_of(text.base, before_sample));
    estimate->counted_bytes += (int64_t)before_sample;
    struct span rest = span_skip(text, before_sample);
    size_t in_sample = bytes_until(estimate, ESTIMATE_EXACT_BYTES, rest.len);
    if (in_sample == 0) {
        return before_sample;
    }
    if (estimate->counted_bytes == ESTIMATE_EXACT_BYTES - ESTIMATE_SAMPLE_BYTES) {
        estimate->sample_tokens = estimate->exact.tokens;
    }
    bpe_add(&estimate->exact, vocabulary, kind, span_of(rest.base, in_sample));
    guess_add(&estimate->guess, span_of(rest.base, in_sample));
    estimate->counted_bytes += (int64_t)in_sample;
    if (estimate->counted_bytes == ESTIMATE_EXACT_BYTES) {
        end_sample(estimate, vocabulary, kind);
    }
    return before_sample + in_sample;
}

/* Guesses a text: all of it up to a bound, then one block in several. */
static void guess_rest(struct estimate *estimate, struct span text) {
    while (text.len != 0) {
        int64_t at = estimate->guessed_bytes + estimate->skipped_bytes;
        int64_t left = BLOCK_BYTES - at % BLOCK_BYTES;
        struct span block = span_of(text.base, (uint64_t)left < text.len ? (size_t)left : text.len);
        if (at < ESTIMATE_WHOLE_BYTES || at / BLOCK_BYTES % BLOCKS_PER_LOOK == 0) {
            guess_add(&estimate->guess, block);
            estimate->guessed_bytes += (int64_t)block.len;
        } else {
            estimate->skipped_bytes += (int64_t)block.len;
        }
        text = span_skip(text, block.len);
    }
}

void estimate_add(struct estimate *estimate, struct span text) {
    struct vocabulary vocabulary;
    enum vocabulary_kind kind = tokenizer_for(estimate)->vocabulary;
    size_t counted = 0;
    if (estimate->counted_bytes < ESTIMATE_EXACT_BYTES && vocabulary_get(kind, &vocabulary)) {
        counted = count(estimate, &vocabulary, kind, text);
    }
    guess_rest(estimate, span_skip(text, counted));
}

void estimate_add_json(struct estimate *estimate, struct span escaped) {
    char chunk[CHUNK_BYTES];
    if (!unescape_is_open(&estimate->unescape) &&
        (escaped.len == 0 || memchr(escaped.base, '\\', escaped.len) == NULL)) {
        estimate_add(estimate, escaped);
        return;
    }
    while (escaped.len != 0) {
        size_t len = unescape_next(&estimate->unescape, &escaped, chunk, sizeof(chunk));
        estimate_add(estimate, span_of(chunk, len));
    }
}

void estimate_break(struct estimate *estimate) {
    struct vocabulary vocabulary;
    enum vocabulary_kind kind = tokenizer_for(estimate)->vocabulary;
    if (unescape_is_open(&estimate->unescape)) {
        char chunk[UNESCAPE_BYTES_LEAST];
        estimate_add(estimate, span_of(chunk, unescape_end(&estimate->unescape, chunk)));
    }
    if (estimate->exact.open_bytes != 0 && vocabulary_get(kind, &vocabulary)) {
        bpe_break(&estimate->exact, &vocabulary, kind);
    }
    guess_break(&estimate->guess);
}

/* The guess of what is beyond the counted text, in thousandths, put right by the sample. */
static int64_t guessed_thousandths(const struct estimate *estimate) {
    int64_t guessed = guess_thousandths(&estimate->guess) - estimate->sample.token_thousandths;
    if (estimate->skipped_bytes != 0) {
        guessed += guessed / estimate->guessed_bytes * estimate->skipped_bytes +
                   guessed % estimate->guessed_bytes * estimate->skipped_bytes / estimate->guessed_bytes;
    }
    if (estimate->sample.token_thousandths == 0) {
        return guessed;
    }
    int64_t percent = estimate->sample_tokens * 100000 / estimate->sample.token_thousandths;
    percent = percent < RATIO_LEAST_PERCENT ? RATIO_LEAST_PERCENT : percent;
    percent = percent > RATIO_MOST_PERCENT ? RATIO_MOST_PERCENT : percent;
    return guessed / 100 * percent;
}

static int64_t counted_tokens(const struct estimate *estimate) {
    struct vocabulary vocabulary;
    enum vocabulary_kind kind = tokenizer_for(estimate)->vocabulary;
    return estimate->exact.open_bytes != 0 && vocabulary_get(kind, &vocabulary)
               ? bpe_tokens(&estimate->exact, &vocabulary, kind)
               : estimate->exact.tokens;
}

int64_t estimate_tokens(const struct estimate *estimate) {
    const struct tokenizer *tokenizer = tokenizer_for(estimate);
    bool is_guessed = estimate->guessed_bytes != 0;
    int64_t thousandths = counted_tokens(estimate) * 1000 + (is_guessed ? guessed_thousandths(estimate) : 0);
    thousandths =
        thousandths / 1000 * tokenizer->ratio_thousandths + thousandths % 1000 * tokenizer->ratio_thousandths / 1000;
    if (tokenizer->splits_digits) {
        int64_t guessed_digits = is_guessed ? estimate->guess.extra_digits - estimate->sample.extra_digits : 0;
        thousandths += (estimate->exact.extra_digits + guessed_digits) * 1000;
    }
    return (thousandths + 500) / 1000;
}

int64_t estimate_framing(const struct estimate *estimate, bool has_text, bool has_reasoning, int64_t tool_calls) {
    const struct tokenizer *tokenizer = tokenizer_for(estimate);
    int64_t each = tool_calls > 1 ? tokenizer->parallel_call_tokens : tokenizer->call_tokens;
    return (has_text ? tokenizer->answer_tokens : 0) + (has_reasoning ? tokenizer->reasoning_tokens : 0) +
           each * tool_calls;
}

int64_t estimate_text(struct span model, struct span text) {
    struct estimate estimate;
    estimate_init(&estimate, model);
    estimate_add(&estimate, text);
    estimate_break(&estimate);
    int64_t tokens = estimate_tokens(&estimate);
    return tokens == 0 && text.len != 0 ? 1 : tokens;
}

bool estimate_is_exact(const struct estimate *estimate) {
    return tokenizer_for(estimate)->is_exact && estimate->counted_bytes != 0 && estimate->guessed_bytes == 0;
}

int64_t estimate_convert(int64_t tokens, const struct tokenizer *from, const struct tokenizer *to) {
    return (tokens * to->ratio_thousandths + from->ratio_thousandths / 2) / from->ratio_thousandths;
}

/* ---- prompts ---- */

/* What a server adds around messages, and flat rates for what is no text. */
enum {
    MESSAGE_TOKENS = 4,
    ANSWER_PRIMER_TOKENS = 3,
    NAME_TOKENS = 1,
    TOOL_TOKENS = 8,
    IMAGE_TOKENS = 765,
    IMAGE_LOW_TOKENS = 85,
    AUDIO_TOKENS = 500,
    FILE_TOKENS = 2000
};

/* The inside of a string value; empty for any other. */
static struct span string_inside(const struct json_doc *doc, int value) {
    if (json_type_of(doc, value) != JSON_STRING) {
        return SPAN_EMPTY;
    }
    struct span raw = json_raw(doc, value);
    return span_of(raw.base + 1, raw.len - 2);
}

static void add_string(struct estimate *estimate, const struct json_doc *doc, int value) {
    estimate_add_json(estimate, string_inside(doc, value));
    estimate_break(estimate);
}

/* A JSON value as it is written, when there is one: schemas and the like reach the model as text. */
static void add_raw(struct estimate *estimate, const struct json_doc *doc, int value) {
    estimate_add(estimate, json_raw(doc, value));
    estimate_break(estimate);
}

/* Tokens of a content part that is no text. */
static int64_t flat_tokens(const struct json_doc *doc, int part) {
    int image = json_member(doc, part, "image_url");
    if (image >= 0) {
        return json_string_is(doc, json_member(doc, image, "detail"), "low") ? IMAGE_LOW_TOKENS : IMAGE_TOKENS;
    }
    return json_member(doc, part, "input_audio") >= 0 ? AUDIO_TOKENS
           : json_member(doc, part, "file") >= 0      ? FILE_TOKENS
                                                      : 0;
}

/* A message's content: a text, or parts. Returns the flat tokens in it. */
static int64_t add_content(struct estimate *estimate, const struct json_doc *doc, int content) {
    int64_t flat = 0;
    add_string(estimate, doc, content);
    if (json_type_of(doc, content) != JSON_ARRAY) {
        return 0;
    }
    for (int part = json_first(doc, content); part >= 0; part = json_next(doc, part)) {
        add_string(estimate, doc, part);
        add_string(estimate, doc, json_member(doc, part, "text"));
        add_string(estimate, doc, json_member(doc, part, "refusal"));
        flat += flat_tokens(doc, part);
    }
    return flat;
}

static int64_t add_tool_calls(struct estimate *estimate, const struct json_doc *doc, int message) {
    int64_t flat = 0;
    int calls = json_member(doc, message, "tool_calls");
    for (int call = json_type_of(doc, calls) == JSON_ARRAY ? json_first(doc, calls) : -1; call >= 0;
         call = json_next(doc, call)) {
        int function = json_member(doc, call, "function");
        add_string(estimate, doc, json_member(doc, function, "name"));
        add_string(estimate, doc, json_member(doc, function, "arguments"));
        flat += TOOL_TOKENS;
    }
    add_raw(estimate, doc, json_member(doc, message, "function_call"));
    return flat;
}

static int64_t add_message(struct estimate *estimate, const struct json_doc *doc, int message) {
    int64_t flat = MESSAGE_TOKENS + add_content(estimate, doc, json_member(doc, message, "content"));
    int name = json_member(doc, message, "name");
    add_string(estimate, doc, name);
    return flat + (name >= 0 ? NAME_TOKENS : 0) + add_tool_calls(estimate, doc, message);
}

int64_t estimate_chat_prompt(const struct json_doc *doc, int root) {
    struct estimate estimate;
    estimate_init(&estimate, string_inside(doc, json_member(doc, root, "model")));
    int64_t flat = ANSWER_PRIMER_TOKENS;
    int messages = json_member(doc, root, "messages");
    for (int message = json_type_of(doc, messages) == JSON_ARRAY ? json_first(doc, messages) : -1; message >= 0;
         message = json_next(doc, message)) {
        flat += add_message(&estimate, doc, message);
    }
    int tools = json_member(doc, root, "tools");
    flat += (int64_t)json_size(doc, tools) * TOOL_TOKENS;
    add_raw(&estimate, doc, tools);
    add_raw(&estimate, doc, json_member(doc, root, "functions"));
    int format = json_member(doc, root, "response_format");
    add_raw(&estimate, doc, json_member(doc, format, "json_schema"));
    int64_t tokens = flat + estimate_tokens(&estimate);
    return tokens < INT32_MAX ? tokens : INT32_MAX;
}
