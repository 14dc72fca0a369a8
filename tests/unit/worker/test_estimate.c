#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/dialect_openai.h"
#include "worker/sse.h"

#include "fixture_testing.h"

enum { ANSWERS_MOST = 128, CAP_BYTES = 4 << 20, SHORT_TOKENS = 30 };

/* Errors against the providers' own counts, in thousandths. */
struct errors {
    int64_t absolute[ANSWERS_MOST];
    int count;
};

static int compare_numbers(const void *a, const void *b) {
    int64_t first = *(const int64_t *)a;
    int64_t second = *(const int64_t *)b;
    return (first > second) - (first < second);
}

static void hear_fixture(struct span text, bool is_stream, struct answer_listener *listener) {
    struct json_doc scratch;
    struct sse_splitter splitter;
    struct sse_event event;
    struct answer_event out;
    json_doc_init(&scratch);
    answer_listener_init(listener);
    sse_init(&splitter, CAP_BYTES);
    if (!is_stream) {
        openai_hear_answer(listener, &scratch, text, &out, NULL);
    }
    while (is_stream && sse_next(&splitter, &text, &event) == SSE_EVENT) {
        openai_hear_event(listener, &scratch, event.name, event.data, &out, NULL);
    }
    sse_fini(&splitter);
    json_doc_fini(&scratch);
}

/* Only texts that were relayed in full can be compared: hidden reasoning, tool calls with a server's own framing and
 * answers without usage cannot. */
static bool is_comparable(const struct answer_listener *heard) {
    bool has_hidden = heard->usage.tokens.reasoning_tokens > heard->text_bytes[ANSWER_TEXT_REASONING];
    return heard->has_usage && !has_hidden && !heard->is_error && !heard->usage.contradicts &&
           heard->text_bytes[ANSWER_TEXT_TOOL] == 0 && heard->usage.tokens.output_tokens >= SHORT_TOKENS;
}

static void add_error(struct errors *errors, const struct answer_listener *heard, const char *name) {
    int64_t true_tokens = heard->usage.tokens.output_tokens;
    int64_t by_text = estimate_tokens(&heard->output);
    struct answer_listener without_usage = *heard;
    without_usage.usage = (struct usage_report){0};
    int64_t estimated = answer_output_estimate(&without_usage);
    int64_t error = (estimated - true_tokens) * 1000 / true_tokens;
    print_message("%7lld %8lld %8lld %+7.1f%%  %s\n", (long long)true_tokens, (long long)by_text, (long long)estimated,
                  (double)error / 10, name);
    assert_true(errors->count < ANSWERS_MOST);
    errors->absolute[errors->count++] = error < 0 ? -error : error;
}

static void recorded_answers_are_estimated_well(void **state) {
    (void)state;
    struct fixtures fixtures;
    struct errors errors = {.count = 0};
    fixtures_load(&fixtures);
    print_message("   true  by text estimate   error\n");
    for (int file = json_first(&fixtures.index, fixtures.files); file >= 0; file = json_next(&fixtures.index, file)) {
        bool is_stream = fixture_is(&fixtures, file, "kind", "stream");
        if (!fixture_is(&fixtures, file, "api", "openai.chat") ||
            (!is_stream && !fixture_is(&fixtures, file, "kind", "json"))) {
            continue;
        }
        char name[FIXTURE_PATH_BYTES];
        struct buffer text;
        struct answer_listener heard;
        fixture_open(&fixtures, file, name, &text);
        hear_fixture(buffer_span(&text), is_stream, &heard);
        if (is_comparable(&heard)) {
            add_error(&errors, &heard, name);
        }
        buffer_fini(&text);
    }
    assert_true(errors.count >= 5);
    qsort(errors.absolute, (size_t)errors.count, sizeof(errors.absolute[0]), compare_numbers);
    int64_t median = errors.absolute[errors.count / 2];
    print_message("median %.1f%% of %d answers\n", (double)median / 10, errors.count);
    assert_true(median < 100);
    fixtures_free(&fixtures);
}

static void expect_tokens(const char *text, int64_t least, int64_t most) {
    int64_t tokens = estimate_text(span_text(text));
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
    int64_t whole = estimate_text(SPAN_LITERAL(text));
    for (size_t step = 1; step < sizeof(text); step++) {
        struct estimate estimate;
        estimate_init(&estimate);
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
    int64_t plain = estimate_text(SPAN_LITERAL("ABC \"x\" \xF0\x9F\x98\x80\n\xE4\xBD\xA0\t/"));
    for (size_t step = 1; step < sizeof(escaped); step++) {
        struct estimate estimate;
        estimate_init(&estimate);
        for (size_t at = 0; at < sizeof(escaped) - 1; at += step) {
            size_t left = sizeof(escaped) - 1 - at;
            estimate_add_json(&estimate, span_of(escaped + at, step < left ? step : left));
        }
        assert_int_equal(estimate_tokens(&estimate), plain);
    }
    struct estimate broken;
    estimate_init(&broken);
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
        estimate_init(&estimate);
        estimate_add(&estimate, span_of(bytes, sizeof(bytes)));
        estimate_add_json(&estimate, span_of(bytes, sizeof(bytes)));
        assert_in_range(estimate_tokens(&estimate), 1, 4 * sizeof(bytes));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_answers_are_estimated_well),
        cmocka_unit_test(known_texts_are_close),
        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(escapes_count_as_what_they_stand_for),
        cmocka_unit_test(any_bytes_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
