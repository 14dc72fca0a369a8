#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/dialect_openai.h"
#include "worker/sse.h"

#include "fixture_testing.h"

enum { CAP_BYTES = 4 << 20 };

static struct json_doc scratch;

static int make_scratch(void **state) {
    (void)state;
    json_doc_init(&scratch);
    return 0;
}

static int free_scratch(void **state) {
    (void)state;
    json_doc_fini(&scratch);
    return 0;
}

/* Hears one event's data as if it were the stream's only one. */
static struct answer_event hear(const char *data) {
    struct answer_listener listener;
    struct answer_event out;
    answer_listener_init(&listener);
    openai_hear_event(&listener, &scratch, SPAN_EMPTY, span_text(data), &out, NULL);
    return out;
}

/* Hears a recorded stream in pieces of `step` bytes. Only its last event may be cut off and so invalid. */
static void hear_stream(struct span text, size_t step, struct answer_listener *listener) {
    struct sse_splitter splitter;
    struct sse_event event;
    struct answer_event out;
    answer_listener_init(listener);
    sse_init(&splitter, CAP_BYTES);
    for (size_t at = 0; at < text.len; at += step) {
        struct span input = span_of(text.base + at, step < text.len - at ? step : text.len - at);
        while (sse_next(&splitter, &input, &event) == SSE_EVENT) {
            if (event.has_data) {
                openai_hear_event(listener, &scratch, event.name, event.data, &out, NULL);
                if (out.is_invalid) {
                    fail_msg("invalid: %.*s", SPAN_ARGUMENTS(event.data));
                }
            }
        }
    }
    if (sse_finish(&splitter, &event)) {
        openai_hear_event(listener, &scratch, event.name, event.data, &out, NULL);
    }
    sse_fini(&splitter);
}

static void expect_count(const struct fixtures *fixtures, int file, const char *field, int64_t got, const char *name) {
    int64_t expected = fixture_expected(fixtures, file, field);
    if (got != (expected < 0 ? 0 : expected)) {
        fail_msg("%s: %s is %lld, not %lld", name, field, (long long)expected, (long long)got);
    }
}

/* Compares what was heard with what the index expects. */
static void expect_heard(const struct fixtures *fixtures, int file, const struct answer_listener *heard,
                         const char *name) {
    const struct json_doc *index = &fixtures->index;
    int expected = json_member(index, file, "expected");
    const struct token_counts *tokens = &heard->usage.tokens;
    assert_int_equal(heard->has_usage, fixture_expected(fixtures, file, "prompt_tokens") >= 0);
    expect_count(fixtures, file, "prompt_tokens", tokens->input_tokens, name);
    expect_count(fixtures, file, "completion_tokens", tokens->output_tokens, name);
    expect_count(fixtures, file, "cached_tokens", tokens->cached_input_tokens, name);
    expect_count(fixtures, file, "cache_write_tokens", tokens->cache_write_tokens, name);
    expect_count(fixtures, file, "reasoning_tokens", tokens->reasoning_tokens, name);
    assert_false(heard->usage.clamped);
    char finish[ANSWER_FINISH_BYTES] = "";
    (void)!json_string_copy(index, json_member(index, expected, "finish_reason"), finish, sizeof(finish));
    if (strcmp(finish, heard->finish_reason) != 0) {
        fail_msg("%s: finish_reason is %s, not %s", name, finish, heard->finish_reason);
    }
    assert_int_equal(heard->is_done, json_type_of(index, json_member(index, expected, "has_done_marker")) == JSON_TRUE);
    bool has_error = json_type_of(index, json_member(index, json_member(index, file, "extra"), "error")) == JSON_OBJECT;
    if (heard->is_error != has_error) {
        fail_msg("%s: error %d, not %d", name, has_error, heard->is_error);
    }
    /* The index counts choice 0's text only. */
    if (strstr(name, "-n2") == NULL && strstr(name, "-n3") == NULL && strstr(name, "-batch") == NULL) {
        expect_count(fixtures, file, "text_bytes", heard->text_bytes[ANSWER_TEXT_CONTENT], name);
    }
    int64_t reasoning = 0;
    if (json_int(index, json_member(index, json_member(index, file, "extra"), "reasoning_text_bytes"), &reasoning) &&
        heard->text_bytes[ANSWER_TEXT_REASONING] != reasoning) {
        fail_msg("%s: reasoning is %lld, not %lld bytes", name, (long long)reasoning,
                 (long long)heard->text_bytes[ANSWER_TEXT_REASONING]);
    }
    assert_int_equal(heard->text_bytes[ANSWER_TEXT_TOOL] != 0, fixture_expected(fixtures, file, "tool_call_count") > 0);
}

static bool is_openai(const struct fixtures *fixtures, int file) {
    static const char *const apis[] = {"openai.chat", "openai.completions", "openai.embeddings", "openai.responses"};
    for (size_t i = 0; i < sizeof(apis) / sizeof(apis[0]); i++) {
        if (fixture_is(fixtures, file, "api", apis[i])) {
            return true;
        }
    }
    return false;
}

static void every_recorded_answer_is_counted_as_expected(void **state) {
    (void)state;
    struct fixtures fixtures;
    fixtures_load(&fixtures);
    int count = 0;
    for (int file = json_first(&fixtures.index, fixtures.files); file >= 0; file = json_next(&fixtures.index, file)) {
        bool is_stream = fixture_is(&fixtures, file, "kind", "stream");
        if (!is_openai(&fixtures, file) || (!is_stream && !fixture_is(&fixtures, file, "kind", "json"))) {
            continue;
        }
        char name[FIXTURE_PATH_BYTES];
        struct buffer text;
        struct answer_listener heard;
        struct answer_event out;
        fixture_open(&fixtures, file, name, &text);
        if (is_stream) {
            static const size_t steps[] = {SIZE_MAX, 1, 7, 1000};
            for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
                hear_stream(buffer_span(&text), steps[i] < text.len ? steps[i] : text.len, &heard);
                expect_heard(&fixtures, file, &heard, name);
            }
        } else {
            answer_listener_init(&heard);
            openai_hear_answer(&heard, &scratch, buffer_span(&text), &out, NULL);
            assert_false(out.is_invalid);
            expect_heard(&fixtures, file, &heard, name);
        }
        buffer_fini(&text);
        count++;
    }
    assert_true(count >= 80);
    fixtures_free(&fixtures);
}

static void recorded_error_bodies_are_heard(void **state) {
    (void)state;
    struct fixtures fixtures;
    fixtures_load(&fixtures);
    for (int file = json_first(&fixtures.index, fixtures.files); file >= 0; file = json_next(&fixtures.index, file)) {
        if (!is_openai(&fixtures, file) || !fixture_is(&fixtures, file, "kind", "error")) {
            continue;
        }
        char name[FIXTURE_PATH_BYTES];
        struct buffer text;
        struct answer_listener heard;
        struct answer_event out;
        fixture_open(&fixtures, file, name, &text);
        answer_listener_init(&heard);
        openai_hear_answer(&heard, &scratch, buffer_span(&text), &out, NULL);
        /* Mistral's {"detail"} is an error by its status alone. */
        if (!out.is_error && !out.is_invalid && memmem(text.base, text.len, "detail", 6) == NULL) {
            fail_msg("%s is no error", name);
        }
        assert_false(out.has_usage);
        buffer_fini(&text);
    }
    fixtures_free(&fixtures);
}

/* A truncated answer is never whole: cut anywhere, it is invalid and leaves nothing behind. */
static void cut_answers_are_invalid(void **state) {
    (void)state;
    struct buffer text;
    fixture_read("openai/chat-parallel-tools.json", &text);
    while (text.len != 0 && text.base[text.len - 1] != '}') {
        text.len--;
    }
    for (size_t len = 0; len < text.len; len++) {
        struct answer_listener heard;
        struct answer_event out;
        char *copy = malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy, text.base, len);
        answer_listener_init(&heard);
        openai_hear_answer(&heard, &scratch, span_of(copy, len), &out, NULL);
        assert_true(out.is_invalid);
        assert_false(heard.has_usage || heard.has_finish || heard.is_error);
        assert_int_equal(estimate_tokens(&heard.output), 0);
        free(copy);
    }
    buffer_fini(&text);
}

static void words_in_texts_mean_nothing(void **state) {
    (void)state;
    struct answer_event out =
        hear("{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"error\\\":{\\\"usage\\\":{\\\"prompt_"
             "tokens\\\":1}} [DONE] \\\\\"},\"finish_reason\":null}],\"usage\":null,\"error\":null}");
    assert_false(out.is_invalid || out.is_error || out.has_usage || out.is_usage_only || out.has_finish || out.is_done);
    assert_int_equal(out.text_bytes[ANSWER_TEXT_CONTENT],
                     strlen("\"error\":{\"usage\":{\"prompt_tokens\":1}} [DONE] \\"));
    out = hear(
        "{\"choices\":[{\"delta\":{\"error\":{\"a\":1},\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}}]}");
    assert_false(out.is_error || out.has_usage);
}

static void errors_are_told(void **state) {
    (void)state;
    assert_true(hear("{\"error\":{\"message\":\"x\"}}").is_error);
    assert_true(hear("{\"error\":\"text\"}").is_error);
    assert_true(hear("{\"object\":\"error\",\"message\":\"x\"}").is_error);
    assert_true(hear("{\"type\":\"error\",\"message\":\"x\"}").is_error);
    assert_false(hear("{\"error\":null,\"choices\":[]}").is_error);
    assert_false(hear("{\"error\":{},\"choices\":[]}").is_error);
    struct answer_listener listener;
    struct answer_event out;
    answer_listener_init(&listener);
    openai_hear_event(&listener, &scratch, SPAN_LITERAL("error"), SPAN_LITERAL("oops"), &out, NULL);
    assert_true(out.is_error && out.is_invalid && listener.is_error);
}

static void usage_only_events_are_told(void **state) {
    (void)state;
    assert_true(hear("{\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}").is_usage_only);
    assert_true(hear(" {\"usage\" : {\"prompt_tokens\":3 } , \"choices\" : [ ] } ").is_usage_only);
    assert_false(hear("{\"choices\":[],\"usage\":null}").is_usage_only);
    assert_false(hear("{\"choices\":[],\"prompt_filter_results\":[{}]}").is_usage_only);
    assert_false(hear("{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}").is_usage_only);
    assert_false(hear("{\"choices\":[{\"index\":0}],\"usage\":{\"prompt_tokens\":3}}").is_usage_only);
    assert_false(hear("{\"choices\":[],\"error\":\"x\",\"usage\":{\"prompt_tokens\":3}}").is_usage_only);
    struct answer_event out =
        hear("{\"choices\":[],\"x_groq\":{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}}");
    assert_true(out.has_usage);
    assert_true(span_is(out.usage_raw, "{\"prompt_tokens\":3,\"completion_tokens\":1}"));
}

/* What of a Responses stream reaches the client begins the answer; its last event is not only usage. */
static void responses_events_are_parts_of_an_answer(void **state) {
    (void)state;
    assert_true(
        hear("{\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\",\"usage\":null}}").has_choices);
    assert_false(hear("{\"type\":\"keepalive\",\"sequence_number\":3}").has_choices);
    struct answer_event out = hear(
        "{\"type\":\"response.completed\",\"response\":{\"object\":\"response\",\"status\":\"completed\",\"error\":"
        "null,\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"pong\"}]}],"
        "\"usage\":{\"input_tokens\":11,\"output_tokens\":5,\"total_tokens\":16}}}");
    assert_true(out.has_choices && out.has_usage && out.has_finish);
    assert_false(out.is_usage_only || out.is_error || out.is_done);
    assert_string_equal(out.finish_reason, "completed");
    /* The whole text stands there again: it was heard before. */
    assert_int_equal(out.text_bytes[ANSWER_TEXT_CONTENT], 0);
    out = hear("{\"type\":\"response.incomplete\",\"response\":{\"status\":\"incomplete\",\"error\":null,\"incomplete_"
               "details\":{\"reason\":\"max_output_tokens\"},\"usage\":{\"input_tokens\":1,\"output_tokens\":16}}}");
    assert_true(out.has_usage && out.has_finish);
    assert_false(out.is_error || out.is_usage_only);
    assert_string_equal(out.finish_reason, "incomplete");
}

static void responses_errors_are_told(void **state) {
    (void)state;
    static const char *const errors[] = {
        "{\"type\":\"error\",\"code\":\"server_error\",\"message\":\"x\",\"param\":null,\"sequence_number\":2}",
        "{\"type\":\"error\",\"sequence_number\":2,\"error\":{\"type\":\"x\",\"code\":\"y\",\"message\":\"z\"}}",
        "{\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"message\":\"y\"}}}",
        "{\"response\":{\"error\":null,\"status\":\"failed\"},\"type\":\"response.failed\"}",
        "{\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"error\":{\"message\":\"x\"}}}",
    };
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        assert_true(hear(errors[i]).is_error);
    }
    struct answer_listener listener;
    struct answer_event out;
    answer_listener_init(&listener);
    openai_hear_answer(
        &listener, &scratch,
        SPAN_LITERAL(
            "{\"object\":\"response\",\"status\":\"failed\",\"error\":{\"code\":\"server_error\"},\"output\":[]}"),
        &out, NULL);
    assert_true(out.is_error);
    assert_string_equal(out.finish_reason, "failed");
}

/* Each kind of delta counts as what it is. */
static void responses_deltas_are_heard(void **state) {
    (void)state;
    static const struct {
        const char *type;
        enum answer_text kind;
    } cases[] = {
        {"response.output_text.delta", ANSWER_TEXT_CONTENT},
        {"response.refusal.delta", ANSWER_TEXT_REFUSAL},
        {"response.reasoning_text.delta", ANSWER_TEXT_REASONING},
        {"response.reasoning_summary_text.delta", ANSWER_TEXT_REASONING},
        {"response.function_call_arguments.delta", ANSWER_TEXT_TOOL},
        {"response.custom_tool_call_input.delta", ANSWER_TEXT_TOOL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char data[256];
        (void)snprintf(data, sizeof(data), "{\"output_index\":1,\"delta\":\"a\\nb\",\"type\":\"%s\"}", cases[i].type);
        struct answer_event out = hear(data);
        for (int kind = 0; kind < ANSWER_TEXT_KINDS; kind++) {
            assert_int_equal(out.text_bytes[kind], kind == (int)cases[i].kind ? 3 : 0);
        }
        assert_true(out.is_first_text);
    }
}

static void embeddings_have_no_output(void **state) {
    (void)state;
    struct answer_listener listener;
    struct answer_event out;
    answer_listener_init(&listener);
    openai_hear_answer(
        &listener, &scratch,
        SPAN_LITERAL("{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":\"AAAA\"}],"
                     "\"model\":\"m\",\"usage\":{\"prompt_tokens\":7,\"total_tokens\":7}}"),
        &out, NULL);
    assert_true(out.has_usage && out.usage.has_input && !out.usage.has_output && !out.is_error);
    assert_int_equal(out.usage.tokens.input_tokens, 7);
    assert_int_equal(out.usage.tokens.output_tokens, 0);
    assert_int_equal(answer_output_estimate(&listener), 0);
}

static void malformed_events_are_invalid(void **state) {
    (void)state;
    static const char *const texts[] = {
        "x",
        "7",
        "\"a\"",
        "null",
        "[]",
        "{",
        "}",
        "{}}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":\"b}",
        "{\"a\":[1,2}",
        "{\"choices\":[}",
        "{\"choices\":[{]}",
        "{\"choices\":[{}",
        "{\"a\":1}x",
        "{\"choices\":[{\"delta\":{\"content\":\"a\\\"}}]}",
        "{\"choices\":[,]}",
        "{\"choices\":[{},]}",
        "{a:1}",
        "{\"usage\":{\"prompt_tokens\":1x}}",
        "{\"usage\":{\"prompt_tokens\"}}",
        "<html>",
        "{\"error\":",
        "{\"a\":\x80}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (!hear(texts[i]).is_invalid) {
            fail_msg("%s is not invalid", texts[i]);
        }
    }
    static const char *const foreign[] = {
        "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}],\"usageMetadata\":{}}",
        "{\"type\":\"message_start\",\"message\":{}}",
        "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}",
        "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"usage\":{\"output_tokens\":1}"
        "}"};
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        assert_true(hear(foreign[i]).is_invalid);
    }
    assert_false(hear("{\"choices\":[],\"candidates\":[],\"type\":\"message_x\"}").is_invalid);
    assert_false(hear("{\"type\":\"ping\"}").is_invalid);
    assert_false(hear("").is_invalid);
    assert_false(hear("{}").is_invalid);
    /* Nesting costs no stack. */
    struct buffer deep;
    buffer_init(&deep, 1 << 22);
    buffer_append_text(&deep, "{\"choices\":[{\"delta\":{\"content\":");
    for (int i = 0; i < 300000; i++) {
        buffer_append_text(&deep, "[{\"thinking\":");
    }
    assert_true(hear(buffer_text(&deep)).is_invalid);
    buffer_fini(&deep);
}

static void text_is_measured_unescaped(void **state) {
    (void)state;
    struct answer_event out =
        hear("{\"choices\":[{\"delta\":{\"content\":\"a\\n\\u00e9\\u4e2d\\ud83d\\ude00\\u0041\\\\é\","
             "\"reasoning\":\"ab\",\"reasoning_content\":\"ab\",\"refusal\":\"abc\"}},"
             "{\"index\":1,\"text\":\"xy\",\"finish_reason\":\"length\"}]}");
    assert_int_equal(out.text_bytes[ANSWER_TEXT_CONTENT], 1 + 1 + 2 + 3 + 4 + 1 + 1 + 2 + 2);
    assert_int_equal(out.text_bytes[ANSWER_TEXT_REASONING], 2);
    assert_int_equal(out.text_bytes[ANSWER_TEXT_REFUSAL], 3);
    assert_int_equal(out.choice_count, 2);
    assert_true(out.is_first_text);
    assert_string_equal(out.finish_reason, "length");
}

static void finish_reason_is_choice_zeros(void **state) {
    (void)state;
    assert_string_equal(
        hear("{\"choices\":[{\"finish_reason\":\"length\",\"index\":1},{\"index\":0,\"finish_reason\":\"stop\"}]}")
            .finish_reason,
        "stop");
    struct answer_event out =
        hear("{\"choices\":[{\"finish_reason\":\"a_reason_that_is_longer_than_any_record_can_hold\"}]}");
    assert_int_equal(strlen(out.finish_reason), ANSWER_FINISH_BYTES - 1);
}

static void add_cost(const char *around, const char *usage, const char *expected) {
    struct buffer out;
    struct span whole = span_text(around);
    const char *at = strstr(around, usage);
    assert_non_null(at);
    buffer_init(&out, 4096);
    assert_true(openai_add_cost(whole, span_of(at, strlen(usage)), 12500, &out));
    assert_string_equal(buffer_text(&out), expected);
    buffer_fini(&out);
}

static void cost_is_spliced_in(void **state) {
    (void)state;
    add_cost("data: {\"usage\":{\"a\":1},\"x\":[]}\n\n", "{\"a\":1}",
             "data: {\"usage\":{\"a\":1,\"cost\":0.000012500},\"x\":[]}\n\n");
    add_cost("{\"usage\":{}}", "{}", "{\"usage\":{\"cost\":0.000012500}}");
    add_cost("{\"usage\":{ \"cost\" : 5e-3, \"b\":{\"cost\":1}}}", "{ \"cost\" : 5e-3, \"b\":{\"cost\":1}}",
             "{\"usage\":{ \"cost\" : 0.000012500, \"b\":{\"cost\":1}}}");
    add_cost("{\"usage\":{\"b\":{\"cost\":1},\"cost\":{\"total\":1}}}", "{\"b\":{\"cost\":1},\"cost\":{\"total\":1}}",
             "{\"usage\":{\"b\":{\"cost\":1},\"cost\":0.000012500}}");
    struct buffer small;
    struct span whole = SPAN_LITERAL("{\"usage\":{}}");
    buffer_init(&small, 16);
    assert_false(openai_add_cost(whole, span_of(whole.base + 9, 2), 1, &small));
    buffer_fini(&small);
}

/* Without usage the output is estimated; a partial report is a lower bound. */
static void output_without_usage_is_estimated(void **state) {
    (void)state;
    struct answer_listener listener;
    struct answer_event out;
    answer_listener_init(&listener);
    answer_listener_expect(&listener, SPAN_LITERAL("gpt-4o"));
    assert_int_equal(answer_output_estimate(&listener), 0);
    static const char *const words[] = {"The",   " quick", " brown", " fox", " jumps",
                                        " over", " the",   " lazy",  " dog", "."};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        char data[128];
        (void)snprintf(data, sizeof(data), "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"}}]}", words[i]);
        openai_hear_event(&listener, &scratch, SPAN_EMPTY, span_text(data), &out, NULL);
    }
    assert_int_equal(answer_output_estimate(&listener), 10);
    openai_hear_event(&listener, &scratch, SPAN_EMPTY,
                      SPAN_LITERAL("{\"choices\":[],\"usage\":{\"completion_tokens\":44}}"), &out, NULL);
    assert_int_equal(answer_output_estimate(&listener), 44);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recorded_answer_is_counted_as_expected),
        cmocka_unit_test(recorded_error_bodies_are_heard),
        cmocka_unit_test(cut_answers_are_invalid),
        cmocka_unit_test(words_in_texts_mean_nothing),
        cmocka_unit_test(errors_are_told),
        cmocka_unit_test(usage_only_events_are_told),
        cmocka_unit_test(responses_events_are_parts_of_an_answer),
        cmocka_unit_test(responses_errors_are_told),
        cmocka_unit_test(responses_deltas_are_heard),
        cmocka_unit_test(embeddings_have_no_output),
        cmocka_unit_test(malformed_events_are_invalid),
        cmocka_unit_test(text_is_measured_unescaped),
        cmocka_unit_test(finish_reason_is_choice_zeros),
        cmocka_unit_test(cost_is_spliced_in),
        cmocka_unit_test(output_without_usage_is_estimated),
    };
    return cmocka_run_group_tests(tests, make_scratch, free_scratch);
}
