#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/dialect_anthropic.h"
#include "worker/dialect_gemini.h"
#include "worker/dialect_openai.h"
#include "worker/sse.h"

#include "fixture_testing.h"

enum { ANSWERS_MOST = 128, CAP_BYTES = 4 << 20, SHORT_TOKENS = 30, MODEL_BYTES = 128 };

/* What may be off, in thousandths: with the vocabularies, and without. */
enum { MEDIAN_MOST = 20, UNDER_MOST = 100, MEDIAN_GUESSED_MOST = 60, UNDER_GUESSED_MOST = 100 };
/* Answers shorter than SHORT_TOKENS, in tokens. */
enum { SHORT_UNDER_MOST = 5 };

/* Errors against the providers' own counts, in thousandths. */
struct errors {
    int64_t absolute[ANSWERS_MOST];
    int64_t most_under;
    int64_t most_tokens_under; /* of short answers */
    int count;
};

static bool has_vocabulary(void) {
    struct vocabulary vocabulary;
    return vocabulary_get(VOCABULARY_O200K, &vocabulary);
}

static int compare_numbers(const void *a, const void *b) {
    int64_t first = *(const int64_t *)a;
    int64_t second = *(const int64_t *)b;
    return (first > second) - (first < second);
}

typedef void hear_event_fn(struct answer_listener *listener, struct json_doc *scratch, struct span name,
                           struct span data, struct answer_event *out, const struct answer_sink *sink);
typedef void hear_answer_fn(struct answer_listener *listener, struct json_doc *scratch, struct span body,
                            struct answer_event *out, const struct answer_sink *sink);

static const struct dialect {
    const char *api;
    hear_event_fn *hear_event;
    hear_answer_fn *hear_answer;
    bool sums_up_reasoning; /* what it sends of it is not what it counts, but the count stands apart */
} dialects[] = {
    {"anthropic.messages", anthropic_hear_event, anthropic_hear_answer, false},
    {"gemini.generateContent", gemini_hear_event, gemini_hear_answer, true},
    {"openai.chat", openai_hear_event, openai_hear_answer, false},
    {"openai.completions", openai_hear_event, openai_hear_answer, false},
    {"openai.responses", openai_hear_event, openai_hear_answer, false},
};

static const struct dialect *dialect_of(const struct fixtures *fixtures, int file) {
    for (size_t i = 0; i < sizeof(dialects) / sizeof(dialects[0]); i++) {
        if (fixture_is(fixtures, file, "api", dialects[i].api)) {
            return &dialects[i];
        }
    }
    return NULL;
}

static void hear_fixture(struct span text, const struct dialect *dialect, bool is_stream,
                         struct answer_listener *listener) {
    struct json_doc scratch;
    struct sse_splitter splitter;
    struct sse_event event;
    struct answer_event out;
    json_doc_init(&scratch);
    sse_init(&splitter, CAP_BYTES);
    if (!is_stream) {
        dialect->hear_answer(listener, &scratch, text, &out, NULL);
    }
    while (is_stream && sse_next(&splitter, &text, &event) == SSE_EVENT) {
        dialect->hear_event(listener, &scratch, event.name, event.data, &out, NULL);
    }
    sse_fini(&splitter);
    json_doc_fini(&scratch);
}

/* The model as the upstream calls it: as it was asked for, else as the answer names it. */
static struct span model_of(const struct fixtures *fixtures, int file, struct span text,
                            char model[static MODEL_BYTES]) {
    static const char *const names[] = {"\"model\":", "\"modelVersion\":"};
    if (json_string_copy(&fixtures->index, json_member(&fixtures->index, file, "model"), model, MODEL_BYTES)) {
        return span_text(model);
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *found = memmem(text.base, text.len, names[i], strlen(names[i]));
        const char *end = text.base + text.len;
        const char *start =
            found != NULL ? memchr(found + strlen(names[i]), '"', (size_t)(end - found) - strlen(names[i])) : NULL;
        const char *stop = start != NULL ? memchr(start + 1, '"', (size_t)(end - start) - 1) : NULL;
        if (stop != NULL) {
            return span_of(start + 1, (size_t)(stop - start) - 1);
        }
    }
    return SPAN_EMPTY;
}

/* Marks of answers of which a part was counted and not sent: summaries in place of reasoning, tools that the server
 * called, texts that a filter held back. */
static bool has_unseen_part(struct span text) {
    static const char *const marks[] = {"reasoning_summary_text", "toolUsePromptTokenCount", "\"SAFETY\"",
                                        "UNEXPECTED_TOOL_CALL",   "redacted_thinking",       "server_tool_use"};
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        if (memmem(text.base, text.len, marks[i], strlen(marks[i])) != NULL) {
            return true;
        }
    }
    return false;
}

/* Only texts that were relayed in full can be compared: not hidden reasoning, and not counts that are of less than half
 * the text. */
static bool is_comparable(const struct answer_listener *heard, const struct dialect *dialect, int64_t true_tokens,
                          int64_t reasoning_tokens) {
    const int64_t *bytes = heard->text_bytes;
    bool has_text = (bytes[0] | bytes[1] | bytes[2] | bytes[3]) != 0;
    bool is_hidden = dialect->sums_up_reasoning ? bytes[ANSWER_TEXT_REASONING] != 0
                                                : reasoning_tokens > bytes[ANSWER_TEXT_REASONING];
    return true_tokens > 0 && has_text && !is_hidden && !heard->is_error && !heard->usage.contradicts &&
           estimate_tokens(&heard->output) < 2 * true_tokens + SHORT_TOKENS / 2;
}

static void add_error(struct errors *errors, const struct answer_listener *heard, int64_t true_tokens,
                      const char *name) {
    struct answer_listener without_usage = *heard;
    without_usage.usage = (struct usage_report){0};
    int64_t estimated = answer_output_estimate(&without_usage);
    int64_t error = (estimated - true_tokens) * 1000 / true_tokens;
    bool is_short = true_tokens < SHORT_TOKENS;
    print_message("%7lld %8lld %8lld %+7.1f%% %s %s\n", (long long)true_tokens,
                  (long long)estimate_tokens(&heard->output), (long long)estimated, (double)error / 10,
                  is_short ? "(short)" : "       ", name);
    if (is_short) {
        int64_t under = true_tokens - estimated;
        errors->most_tokens_under = under > errors->most_tokens_under ? under : errors->most_tokens_under;
        return;
    }
    assert_true(errors->count < ANSWERS_MOST);
    errors->absolute[errors->count++] = error < 0 ? -error : error;
    errors->most_under = -error > errors->most_under ? -error : errors->most_under;
}

static void judge_fixture(struct errors *errors, const struct fixtures *fixtures, int file) {
    const struct dialect *dialect = dialect_of(fixtures, file);
    bool is_stream = fixture_is(fixtures, file, "kind", "stream");
    int64_t true_tokens = fixture_expected(fixtures, file, "completion_tokens");
    int64_t reasoning_tokens = fixture_expected(fixtures, file, "reasoning_tokens");
    if (dialect == NULL || (!is_stream && !fixture_is(fixtures, file, "kind", "json")) || true_tokens <= 0) {
        return;
    }
    char name[FIXTURE_PATH_BYTES];
    char model[MODEL_BYTES];
    struct buffer text;
    struct answer_listener heard;
    fixture_open(fixtures, file, name, &text);
    answer_listener_init(&heard);
    answer_listener_expect(&heard, model_of(fixtures, file, buffer_span(&text), model));
    hear_fixture(buffer_span(&text), dialect, is_stream, &heard);
    true_tokens -= dialect->sums_up_reasoning && reasoning_tokens > 0 ? reasoning_tokens : 0;
    if (!has_unseen_part(buffer_span(&text)) && is_comparable(&heard, dialect, true_tokens, reasoning_tokens)) {
        add_error(errors, &heard, true_tokens, name);
    }
    buffer_fini(&text);
}

static void recorded_answers_are_estimated_well(void **state) {
    (void)state;
    struct fixtures fixtures;
    struct errors errors = {.count = 0};
    fixtures_load(&fixtures);
    print_message("vocabularies: %s\n   true  by text estimate   error\n", vocabulary_describe());
    for (int file = json_first(&fixtures.index, fixtures.files); file >= 0; file = json_next(&fixtures.index, file)) {
        judge_fixture(&errors, &fixtures, file);
    }
    assert_true(errors.count >= 25);
    qsort(errors.absolute, (size_t)errors.count, sizeof(errors.absolute[0]), compare_numbers);
    int64_t median = (errors.absolute[(errors.count - 1) / 2] + errors.absolute[errors.count / 2]) / 2;
    print_message(
        "%d answers of %d tokens or more: median %.1f%%, most under %.1f%%; shorter ones: %lld tokens under\n",
        errors.count, SHORT_TOKENS, (double)median / 10, (double)errors.most_under / 10,
        (long long)errors.most_tokens_under);
    assert_true(median <= (has_vocabulary() ? MEDIAN_MOST : MEDIAN_GUESSED_MOST));
    assert_true(errors.most_under <= (has_vocabulary() ? UNDER_MOST : UNDER_GUESSED_MOST));
    assert_true(errors.most_tokens_under <= SHORT_UNDER_MOST);
    fixtures_free(&fixtures);
}

static void expect_tokens(const char *text, int64_t least, int64_t most) {
    int64_t tokens = estimate_text(SPAN_LITERAL("gpt-4o"), span_text(text));
    if (tokens < least || tokens > most) {
        fail_msg("%s: %lld, not %lld to %lld", text, (long long)tokens, (long long)least, (long long)most);
    }
}

/* Ranges around counts of the o200k vocabulary. */
static void known_texts_are_close(void **state) {
    (void)state;
    expect_tokens("", 0, 0);
    expect_tokens("a", 1, 2);
    expect_tokens("Hello, world!", 3, 5);
    expect_tokens("The quick brown fox jumps over the lazy dog.", 9, 12);
    expect_tokens("1234567890", 4, 5);
    expect_tokens("{\"name\":\"get_weather\",\"arguments\":{\"city\":\"Paris\"}}", 12, 22);
    expect_tokens("\xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C\xE4\xB8\x96\xE7\x95\x8C", 3, 7);
    expect_tokens("\xF0\x9F\x98\x80\xF0\x9F\x98\x80", 2, 5);
}

/* Pieces of any size give what the whole gives. */
static void pieces_do_not_matter(void **state) {
    (void)state;
    static const char text[] =
        "It's 12,345.67 \xE2\x82\xAC \xE2\x80\x94 na\xC3\xAFve HTTPServer()\n\n  \xE4\xBD\xA0\xE5\xA5\xBD "
        "\xD0\x9F\xD1\x80\xD0\xB8 \xF0\x9F\x98\x80 \xFF\xC3 \x80 end";
    int64_t whole = estimate_text(SPAN_LITERAL("gpt-4o"), SPAN_LITERAL(text));
    for (size_t step = 1; step < sizeof(text); step++) {
        struct estimate estimate;
        estimate_init(&estimate, SPAN_LITERAL("gpt-4o"));
        for (size_t at = 0; at < sizeof(text) - 1; at += step) {
            size_t left = sizeof(text) - 1 - at;
            estimate_add(&estimate, span_of(text + at, step < left ? step : left));
        }
        assert_int_equal(estimate_tokens(&estimate), whole);
        assert_int_equal(estimate_tokens(&estimate), whole);
    }
}

static void escapes_count_as_what_they_stand_for(void **state) {
    (void)state;
    static const char escaped[] = "A\\u0042C \\\"x\\\" \\ud83d\\ude00\\n\\u4f60\\t\\/";
    int64_t plain = estimate_text(SPAN_LITERAL("gpt-4o"), SPAN_LITERAL("ABC \"x\" \xF0\x9F\x98\x80\n\xE4\xBD\xA0\t/"));
    for (size_t step = 1; step < sizeof(escaped); step++) {
        struct estimate estimate;
        estimate_init(&estimate, SPAN_LITERAL("gpt-4o"));
        for (size_t at = 0; at < sizeof(escaped) - 1; at += step) {
            size_t left = sizeof(escaped) - 1 - at;
            estimate_add_json(&estimate, span_of(escaped + at, step < left ? step : left));
        }
        assert_int_equal(estimate_tokens(&estimate), plain);
    }
    struct estimate broken;
    estimate_init(&broken, SPAN_LITERAL("gpt-4o"));
    estimate_add_json(&broken, SPAN_LITERAL("\\ud83d\\ud83dx\\uZZZZ\\"));
    estimate_break(&broken);
    assert_true(estimate_tokens(&broken) > 0);
}

/* Any bytes, of any length: never negative, never more than two tokens a byte. */
static void any_bytes_are_taken(void **state) {
    (void)state;
    unsigned seed = 5;
    for (int round = 0; round < 500; round++) {
        char bytes[300];
        for (size_t i = 0; i < sizeof(bytes); i++) {
            seed = seed * 1103515245U + 12345U;
            bytes[i] = (char)(seed >> 16);
        }
        struct estimate estimate;
        estimate_init(&estimate, SPAN_LITERAL("gpt-4o"));
        estimate_add(&estimate, span_of(bytes, sizeof(bytes)));
        estimate_add_json(&estimate, span_of(bytes, sizeof(bytes)));
        assert_in_range(estimate_tokens(&estimate), 1, 4 * sizeof(bytes));
    }
}

static void models_have_their_tokenizers(void **state) {
    (void)state;
    static const struct {
        const char *model;
        const char *family;
        enum vocabulary_kind vocabulary;
    } models[] = {
        {"gpt-4o-mini", "gpt-4o", VOCABULARY_O200K},
        {"openai/gpt-4.1", "gpt-4.", VOCABULARY_O200K},
        {"gpt-4-0613", "gpt-4", VOCABULARY_CL100K},
        {"gpt-35-turbo", "gpt-3", VOCABULARY_CL100K},
        {"GPT-5-nano", "gpt-5", VOCABULARY_O200K},
        {"gpt-5.4-nano", "gpt-5.", VOCABULARY_O200K},
        {"openai.gpt-oss-120b-1:0", "gpt-oss", VOCABULARY_O200K},
        {"openai/o3-mini", "^o3", VOCABULARY_O200K},
        {"o1", "^o1", VOCABULARY_O200K},
        {"foo1-large", "", VOCABULARY_O200K},
        {"us.anthropic.claude-sonnet-4-5-v1:0", "claude", VOCABULARY_O200K},
        {"deepseek-r1-distill-qwen-32b", "distill-qwen", VOCABULARY_O200K},
        {"deepseek-chat", "deepseek", VOCABULARY_O200K},
        {"meta-llama/Llama-3.3-70B-Instruct", "llama", VOCABULARY_O200K},
        {"codestral-latest", "stral", VOCABULARY_O200K},
        {"text-embedding-3-small", "text-embedding", VOCABULARY_CL100K},
        {"demo", "^demo", VOCABULARY_O200K},
        {"", "", VOCABULARY_O200K},
    };
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        const struct tokenizer *tokenizer = tokenizer_of(span_text(models[i].model));
        assert_string_equal(tokenizer->name, models[i].family);
        assert_int_equal(tokenizer->vocabulary, models[i].vocabulary);
        assert_true(tokenizer->ratio_thousandths == 1000 || !tokenizer->is_exact);
    }
    const struct tokenizer *claude = tokenizer_of(SPAN_LITERAL("claude-3"));
    int64_t converted = estimate_convert(1000, tokenizer_of(SPAN_LITERAL("gpt-4o")), claude);
    assert_int_equal(converted, claude->ratio_thousandths);
    assert_in_range(estimate_convert(converted, claude, tokenizer_of(SPAN_LITERAL("gpt-4o"))), 999, 1001);
}

/* Digits that a model takes one by one are so counted. */
static void digits_count_as_the_model_takes_them(void **state) {
    (void)state;
    struct span digits = SPAN_LITERAL("123456789012");
    assert_in_range(estimate_text(SPAN_LITERAL("gpt-4o"), digits), 4, 5);
    assert_in_range(estimate_text(SPAN_LITERAL("mistral-small"), digits), 12, 13);
}

/* Past the bounds of counting and of looking, the estimate keeps to what the text's start was like. */
static void long_texts_are_extrapolated(void **state) {
    (void)state;
    enum { LONG_BYTES = 6 << 20, START_BYTES = 96 << 10 };
    static const char *const texts[] = {
        "The relay counts every word of a prompt that it can, and guesses the rest. ",
        "\xE4\xBB\x8A\xE5\xA4\xA9\xE5\xA4\xA9\xE6\xB0\x94\xE5\xBE\x88\xE5\xA5\xBD\xEF\xBC\x8C",
        "for (int i = 0; i < 10; i++) {\n    sum += prices[i] * 1.25;\n}\n"};
    char *text = malloc(LONG_BYTES);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        size_t len = strlen(texts[i]);
        for (size_t at = 0; at < LONG_BYTES; at++) {
            text[at] = texts[i][at % len];
        }
        int64_t start = estimate_text(SPAN_LITERAL("gpt-4o"), span_of(text, START_BYTES));
        int64_t whole = estimate_text(SPAN_LITERAL("gpt-4o"), span_of(text, LONG_BYTES));
        assert_in_range(whole * 1000 / (start * (LONG_BYTES / START_BYTES)), 970, 1030);
    }
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_answers_are_estimated_well),
        cmocka_unit_test(known_texts_are_close),
        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(escapes_count_as_what_they_stand_for),
        cmocka_unit_test(any_bytes_are_taken),
        cmocka_unit_test(models_have_their_tokenizers),
        cmocka_unit_test(digits_count_as_the_model_takes_them),
        cmocka_unit_test(long_texts_are_extrapolated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
