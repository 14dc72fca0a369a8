#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "worker/demo_answer.h"
#include "worker/dialect_openai.h"
#include "worker/sse.h"

enum { BYTES_MOST = 8 << 20 };

/* What a client of the demo saw. */
struct seen {
    struct buffer bytes;
    struct answer_listener listener;
    int64_t tokens; /* events that said they were one */
    bool has_usage_event;
};

static bool start(struct demo_answer *answer, const char *body) {
    struct json_doc scratch;
    const char *error = NULL;
    json_doc_init(&scratch);
    bool is_made = demo_answer_init(answer, &scratch, span_text(body), 1700000000, &error);
    assert_true(is_made == (error == NULL));
    json_doc_fini(&scratch);
    return is_made;
}

static void stream(const char *body, struct seen *seen) {
    struct demo_answer answer;
    struct json_doc scratch;
    struct sse_splitter splitter;
    struct answer_event heard;
    bool is_token = false;
    json_doc_init(&scratch);
    sse_init(&splitter, BYTES_MOST);
    *seen = (struct seen){.tokens = 0};
    buffer_init(&seen->bytes, BYTES_MOST);
    answer_listener_init(&seen->listener);
    assert_true(start(&answer, body));
    int64_t promised = demo_answer_tokens(&answer);
    for (size_t before = 0; demo_answer_next(&answer, &seen->bytes, &is_token); before = seen->bytes.len) {
        struct span piece = span_skip(buffer_span(&seen->bytes), before);
        struct sse_event event;
        seen->tokens += is_token;
        assert_int_equal(sse_next(&splitter, &piece, &event), SSE_EVENT);
        assert_int_equal(piece.len, 0);
        openai_hear_event(&seen->listener, &scratch, event.name, event.data, &heard, NULL);
        assert_true(heard.is_done || json_parse(&scratch, event.data));
        assert_false(heard.is_invalid || heard.is_error);
        seen->has_usage_event |= heard.is_usage_only;
    }
    assert_true(seen->listener.is_done && seen->listener.has_finish);
    assert_int_equal(seen->tokens, promised);
    sse_fini(&splitter);
    demo_answer_fini(&answer);
    json_doc_fini(&scratch);
}

#define ASK(more)                                                                                                      \
    "{\"model\":\"demo\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Why \\\"so\\\"?\"}]" more "}"

static void streams_are_complete(void **state) {
    (void)state;
    struct seen seen;
    stream(ASK(""), &seen);
    assert_in_range(seen.tokens, 40, 400);
    assert_false(seen.has_usage_event || seen.listener.has_usage);
    assert_string_equal(seen.listener.finish_reason, "stop");
    assert_non_null(strstr(buffer_text(&seen.bytes), "tollgate"));
    assert_non_null(strstr(buffer_text(&seen.bytes), "Why"));
    assert_non_null(strstr(buffer_text(&seen.bytes), "\"role\":\"assistant\""));
    struct seen again;
    stream(ASK(""), &again);
    assert_string_equal(buffer_text(&again.bytes), buffer_text(&seen.bytes));
    buffer_fini(&again.bytes);
    buffer_fini(&seen.bytes);
}

static void usage_is_what_was_sent(void **state) {
    (void)state;
    struct seen seen;
    stream(ASK(",\"stream_options\":{\"include_usage\":true},\"n\":3,\"max_tokens\":17"), &seen);
    assert_true(seen.has_usage_event);
    assert_int_equal(seen.tokens, 51);
    assert_int_equal(seen.listener.usage.tokens.output_tokens, 51);
    assert_true(seen.listener.usage.tokens.input_tokens > 5);
    assert_string_equal(seen.listener.finish_reason, "length");
    buffer_fini(&seen.bytes);
    stream(ASK(",\"stream_options\":{\"include_usage\":true},\"max_tokens\":100000"), &seen);
    assert_int_equal(seen.listener.usage.tokens.output_tokens, seen.tokens);
    assert_string_equal(seen.listener.finish_reason, "stop");
    buffer_fini(&seen.bytes);
}

static void whole_answers_say_the_same(void **state) {
    (void)state;
    static const char *const bodies[] = {ASK(""), ASK(",\"n\":2"), ASK(",\"max_tokens\":1"),
                                         ASK(",\"max_tokens\":30,\"n\":128")};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct seen seen;
        struct demo_answer answer;
        struct buffer whole;
        struct json_doc doc;
        struct answer_listener listener;
        struct answer_event heard;
        bool is_token = false;
        stream(bodies[i], &seen);
        json_doc_init(&doc);
        buffer_init(&whole, BYTES_MOST);
        answer_listener_init(&listener);
        assert_true(start(&answer, bodies[i]));
        demo_answer_whole(&answer, &whole);
        assert_false(demo_answer_next(&answer, &whole, &is_token));
        openai_hear_answer(&listener, &doc, buffer_span(&whole), &heard, NULL);
        assert_true(json_parse(&doc, buffer_span(&whole)));
        assert_true(heard.has_usage);
        assert_int_equal(listener.usage.tokens.output_tokens, seen.tokens);
        assert_int_equal(listener.text_bytes[ANSWER_TEXT_CONTENT], seen.listener.text_bytes[ANSWER_TEXT_CONTENT]);
        assert_string_equal(listener.finish_reason, seen.listener.finish_reason);
        demo_answer_fini(&answer);
        buffer_fini(&whole);
        json_doc_fini(&doc);
        buffer_fini(&seen.bytes);
    }
}

static void odd_questions_are_answered(void **state) {
    (void)state;
    static const char *const contents[] = {
        "\"\"",
        "\"\\n\"",
        "[{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]",
        "[{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}},{\"type\":\"text\",\"text\":\"what is it?\"}]",
        "\"\\ud83d\\ude00\\u0000\\ud800\"",
        "\"\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD"
        "\xE4\xB8\xAD\xE4\xB8\xAD"
        "\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD"
        "\xE4\xB8\xAD\xE4\xB8\xAD"
        "\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD"
        "\xE4\xB8\xAD\xE4\xB8\xAD"
        "\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD"
        "\xE4\xB8\xAD\xE4\xB8\xAD"
        "\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD"
        "\xE4\xB8\xAD\xE4\xB8\xAD\"",
    };
    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        char body[1024];
        struct seen seen;
        (void)snprintf(body, sizeof(body), "{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":%s}]}",
                       contents[i]);
        stream(body, &seen);
        buffer_fini(&seen.bytes);
    }
    struct demo_answer answer;
    assert_false(start(&answer, "{}"));
    assert_false(start(&answer, "hello"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_complete),
        cmocka_unit_test(usage_is_what_was_sent),
        cmocka_unit_test(whole_answers_say_the_same),
        cmocka_unit_test(odd_questions_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
