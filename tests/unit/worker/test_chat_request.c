#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "worker/chat_request.h"

#define MESSAGES "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define BODY(more) "{\"model\":\"m\"," MESSAGES more "}"

static struct json_doc doc;

static int make_doc(void **state) {
    (void)state;
    json_doc_init(&doc);
    return 0;
}

static int free_doc(void **state) {
    (void)state;
    json_doc_fini(&doc);
    return 0;
}

static struct chat_request read_good(const char *body) {
    struct chat_request request;
    struct chat_verdict verdict;
    if (!chat_request_read(&doc, span_text(body), &request, &verdict)) {
        fail_msg("%s refused: %s (%s)", body, verdict.message, verdict.param);
    }
    assert_int_equal(verdict.status, 0);
    return request;
}

static void expect_refusal(struct span body, int status, const char *code, const char *param) {
    struct chat_request request;
    struct chat_verdict verdict;
    /* Memory of its own shows reads past the end. */
    char *copy = malloc(body.len + 1);
    assert_non_null(copy);
    memcpy(copy, body.base, body.len);
    if (chat_request_read(&doc, span_of(copy, body.len), &request, &verdict)) {
        fail_msg("%.*s was taken", SPAN_ARGUMENTS(body));
    }
    free(copy);
    if (verdict.status != status || strcmp(verdict.code, code) != 0 || strcmp(verdict.param, param) != 0) {
        fail_msg("%.*s: %d %s '%s' %s", SPAN_ARGUMENTS(body), verdict.status, verdict.code, verdict.param,
                 verdict.message);
    }
    assert_true(strlen(verdict.message) > 10);
}

static void good_bodies_are_read(void **state) {
    (void)state;
    struct chat_request request = read_good(BODY(""));
    assert_string_equal(request.model, "m");
    assert_false(request.stream || request.include_usage || request.has_tools);
    assert_int_equal(request.choices, 1);
    assert_int_equal(request.max_tokens, 0);
    assert_int_equal(request.message_count, 1);
    assert_in_range(request.prompt_tokens, 5, 12);
    request = read_good(
        "{ \"stream\" : true, \"stream_options\":{\"include_usage\":true,\"x\":1},\"n\":3,\"user\":\"u\\u00e9\","
        "\"max_tokens\":50,\"max_completion_tokens\":40,\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}"
        "}],"
        "\"mod\\u0065l\":\"a\\/b\", " MESSAGES " }");
    assert_true(request.stream && request.include_usage && request.has_tools);
    assert_int_equal(request.choices, 3);
    assert_int_equal(request.max_tokens, 40);
    assert_string_equal(request.end_user, "u\xC3\xA9");
    assert_string_equal(request.model, "a/b");
    request =
        read_good(BODY(",\"metadata\":{\"user_id\":\"w\"},\"tools\":[],\"n\":null,\"max_tokens\":null,\"stream\":null,"
                       "\"temperature\":null,\"stop\":null,\"seed\":-3,\"unknown\":{\"a\":[1]},\"unknown\":2"));
    assert_string_equal(request.end_user, "w");
    assert_false(request.has_tools);
}

static void documented_fields_pass(void **state) {
    (void)state;
    (void)read_good(
        BODY(",\"temperature\":2,\"top_p\":0.0,\"presence_penalty\":-2.0,\"frequency_penalty\":2,\"logprobs\":true,"
             "\"top_logprobs\":20,\"stop\":[\"a\",\"b\",\"c\",\"d\"],\"seed\":9007199254740993,"
             "\"parallel_tool_calls\":false,\"tool_choice\":\"auto\",\"response_format\":{\"type\":\"json_object\"},"
             "\"reasoning_effort\":\"low\",\"metadata\":{},\"store\":false,\"logit_bias\":{\"1\":-100},\"n\":128,"
             "\"max_completion_tokens\":2147483647,\"modalities\":[\"text\"],\"service_tier\":\"auto\""));
    (void)read_good("{\"model\":\"m\",\"messages\":["
                    "{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]},"
                    "{\"role\":\"developer\",\"content\":\"\"},"
                    "{\"role\":\"user\",\"name\":\"joe\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
                    "\"https://x\"}},"
                    "{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"AA\",\"format\":\"wav\"}}]},"
                    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\","
                    "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
                    "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"4\"},"
                    "{\"role\":\"assistant\"},{\"role\":\"function\",\"name\":\"f\",\"content\":null}]}");
}

static const struct {
    const char *body;
    const char *code;
    const char *param;
} bad_bodies[] = {
    {"", "invalid_json", ""},
    {"{", "invalid_json", ""},
    {"null", "invalid_json", ""},
    {"[]", "invalid_json", ""},
    {"\"x\"", "invalid_json", ""},
    {BODY("") "x", "invalid_json", ""},
    {BODY(",\"a\":\"\xFF\""), "invalid_json", ""},
    {BODY(",\"a\":01"), "invalid_json", ""},
    {BODY(",\"a\":NaN"), "invalid_json", ""},
    {BODY(",\"a\":'x'"), "invalid_json", ""},
    {BODY(","), "invalid_json", ""},
    {"{\"model\":\"m\"," MESSAGES, "invalid_json", ""},
    {"{}", "missing_field", "model"},
    {"{" MESSAGES "}", "missing_field", "model"},
    {"{\"model\":\"m\"}", "missing_field", "messages"},
    {"{\"model\":null," MESSAGES "}", "invalid_value", "model"},
    {"{\"model\":7," MESSAGES "}", "invalid_value", "model"},
    {"{\"model\":\"\"," MESSAGES "}", "invalid_value", "model"},
    {"{\"model\":[\"m\"]," MESSAGES "}", "invalid_value", "model"},
    {"{\"model\":\"m\",\"messages\":null}", "invalid_value", "messages"},
    {"{\"model\":\"m\",\"messages\":[]}", "invalid_value", "messages"},
    {"{\"model\":\"m\",\"messages\":\"hi\"}", "invalid_value", "messages"},
    {"{\"model\":\"m\",\"messages\":{}}", "invalid_value", "messages"},
    {"{\"model\":\"m\",\"messages\":[7]}", "invalid_value", "messages[0]"},
    {"{\"model\":\"m\",\"messages\":[{}]}", "missing_field", "messages[0].role"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"king\",\"content\":\"\"}]}", "invalid_value", "messages[0].role"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":1,\"content\":\"\"}]}", "invalid_value", "messages[0].role"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\"}]}", "missing_field", "messages[0].content"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":null}]}", "missing_field", "messages[0].content"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":7}]}", "invalid_value", "messages[0].content"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[]}]}", "invalid_value", "messages[0].content"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}", "invalid_value",
     "messages[0].content"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{}}]}]}",
     "invalid_value", "messages[0].content"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"content\":\"b\"}]}", "invalid_value",
     "messages[0]"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"tool\",\"tool_call_id\":3,"
     "\"content\":\"b\"}]}",
     "invalid_value", "messages[1].tool_call_id"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
     "\"arguments\":{}}}]}]}",
     "invalid_value", "messages[0].tool_calls"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"name\":3}]}", "invalid_value",
     "messages[0].name"},
    {BODY(",\"stream\":1"), "invalid_value", "stream"},
    {BODY(",\"stream\":\"true\""), "invalid_value", "stream"},
    {BODY(",\"stream_options\":true"), "invalid_value", "stream_options"},
    {BODY(",\"stream_options\":{\"include_usage\":1}"), "invalid_value", "stream_options.include_usage"},
    {BODY(",\"stream_options\":{\"include_usage\":true,\"include_usage\":false}"), "invalid_value",
     "stream_options.include_usage"},
    {BODY(",\"max_tokens\":0"), "invalid_value", "max_tokens"},
    {BODY(",\"max_tokens\":-1"), "invalid_value", "max_tokens"},
    {BODY(",\"max_tokens\":1.5"), "invalid_value", "max_tokens"},
    {BODY(",\"max_tokens\":\"10\""), "invalid_value", "max_tokens"},
    {BODY(",\"max_tokens\":2147483648"), "invalid_value", "max_tokens"},
    {BODY(",\"max_tokens\":99999999999999999999999"), "invalid_value", "max_tokens"},
    {BODY(",\"max_completion_tokens\":0"), "invalid_value", "max_completion_tokens"},
    {BODY(",\"n\":0"), "invalid_value", "n"},
    {BODY(",\"n\":129"), "invalid_value", "n"},
    {BODY(",\"n\":true"), "invalid_value", "n"},
    {BODY(",\"temperature\":2.1"), "invalid_value", "temperature"},
    {BODY(",\"temperature\":-0.1"), "invalid_value", "temperature"},
    {BODY(",\"temperature\":\"1\""), "invalid_value", "temperature"},
    {BODY(",\"temperature\":1e999"), "invalid_value", "temperature"},
    {BODY(",\"top_p\":1.01"), "invalid_value", "top_p"},
    {BODY(",\"presence_penalty\":3"), "invalid_value", "presence_penalty"},
    {BODY(",\"frequency_penalty\":-2.01"), "invalid_value", "frequency_penalty"},
    {BODY(",\"stop\":7"), "invalid_value", "stop"},
    {BODY(",\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]"), "invalid_value", "stop"},
    {BODY(",\"stop\":[\"a\",1]"), "invalid_value", "stop"},
    {BODY(",\"tools\":{}"), "invalid_value", "tools"},
    {BODY(",\"tools\":[7]"), "invalid_value", "tools[0].type"},
    {BODY(",\"tools\":[{\"type\":\"function\"}]"), "invalid_value", "tools[0].function.name"},
    {BODY(",\"tool_choice\":7"), "invalid_value", "tool_choice"},
    {BODY(",\"response_format\":\"json\""), "invalid_value", "response_format"},
    {BODY(",\"response_format\":{}"), "invalid_value", "response_format"},
    {BODY(",\"user\":7"), "invalid_value", "user"},
    {BODY(",\"metadata\":[]"), "invalid_value", "metadata"},
    {BODY(",\"logprobs\":2"), "invalid_value", "logprobs"},
    {BODY(",\"top_logprobs\":21"), "invalid_value", "top_logprobs"},
    {BODY(",\"seed\":1.5"), "invalid_value", "seed"},
    {BODY(",\"parallel_tool_calls\":\"no\""), "invalid_value", "parallel_tool_calls"},
    {BODY(",\"reasoning_effort\":3"), "invalid_value", "reasoning_effort"},
    {BODY(",\"model\":\"x\""), "invalid_value", "model"},
    {BODY(",\"mod\\u0065l\":\"x\""), "invalid_value", "model"},
    {BODY("," MESSAGES), "invalid_value", "messages"},
    {BODY(",\"stream\":true,\"stream\":false"), "invalid_value", "stream"},
    {BODY(",\"max_tokens\":1,\"max_tokens\":1"), "invalid_value", "max_tokens"},
    {BODY(",\"n\":1,\"n\":null"), "invalid_value", "n"},
    {BODY(",\"tools\":[],\"tools\":[]"), "invalid_value", "tools"},
    {BODY(",\"user\":\"a\",\"user\":\"b\""), "invalid_value", "user"},
    {BODY(",\"stream_options\":{},\"stream_options\":{}"), "invalid_value", "stream_options"},
};

static void bad_bodies_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(bad_bodies) / sizeof(bad_bodies[0]); i++) {
        expect_refusal(span_text(bad_bodies[i].body), 400, bad_bodies[i].code, bad_bodies[i].param);
    }
    expect_refusal(span_of("{\"model\":\"m\0\"," MESSAGES "}", sizeof("{\"model\":\"m\0\"," MESSAGES "}") - 1), 400,
                   "invalid_json", "");
    expect_refusal(SPAN_LITERAL("{\"model\":\"m\\u0000x\"," MESSAGES "}"), 404, "model_not_found", "model");
}

static void sizes_are_bounded(void **state) {
    (void)state;
    struct buffer body;
    buffer_init(&body, 1 << 20);
    buffer_append_text(&body, "{\"model\":\"");
    for (int i = 0; i < CHAT_MODEL_BYTES; i++) {
        buffer_append_byte(&body, 'm');
    }
    buffer_append_text(&body, "\"," MESSAGES "}");
    expect_refusal(buffer_span(&body), 404, "model_not_found", "model");
    buffer_clear(&body);
    buffer_append_text(&body, "{\"model\":\"m\"," MESSAGES ",\"user\":\"");
    for (int i = 0; i < 1000; i++) {
        buffer_append_text(&body, "\xC3\xA9");
    }
    buffer_append_text(&body, "\"}");
    struct chat_request request = read_good(buffer_text(&body));
    assert_int_equal(strlen(request.end_user), CHAT_USER_BYTES - 2);
    for (int depth = 120; depth <= 140; depth += 20) {
        buffer_clear(&body);
        buffer_append_text(&body, "{\"model\":\"m\"," MESSAGES ",\"deep\":");
        for (int i = 0; i < depth; i++) {
            buffer_append_byte(&body, '[');
        }
        for (int i = 0; i < depth; i++) {
            buffer_append_byte(&body, ']');
        }
        buffer_append_byte(&body, '}');
        if (depth < JSON_DEPTH_MOST) {
            (void)read_good(buffer_text(&body));
        } else {
            expect_refusal(buffer_span(&body), 400, "invalid_json", "");
        }
    }
    buffer_fini(&body);
}

static void expect_rewrite(const char *body, struct chat_rewrite rewrite, const char *expected) {
    struct chat_request request = read_good(body);
    struct buffer out;
    buffer_init(&out, 1 << 16);
    assert_true(chat_request_rewrite(&request, &rewrite, &out));
    if (strcmp(buffer_text(&out), expected) != 0) {
        fail_msg("%s became %s, not %s", body, buffer_text(&out), expected);
    }
    assert_true(json_parse(&doc, buffer_span(&out)));
    assert_int_equal(json_duplicate(&doc, 0), -1);
    buffer_fini(&out);
}

static void rewriting_changes_nothing_else(void **state) {
    (void)state;
    const struct chat_rewrite nothing = {.model = NULL};
    static const char *const odd =
        " {\"big\":123456789012345678901234567890, \"model\" : \"m\",\"s\":\"\\ud83d\\ude00\\/\"," MESSAGES
        ",\"max_tokens\":7 }\n";
    expect_rewrite(odd, nothing, odd);
    expect_rewrite(odd, (struct chat_rewrite){.model = "m", .max_tokens = 7}, odd);
    expect_rewrite(
        odd, (struct chat_rewrite){.model = "q\"x", .stream = true, .max_tokens = 5},
        " {\"big\":123456789012345678901234567890, \"model\" : \"q\\\"x\",\"s\":\"\\ud83d\\ude00\\/\"," MESSAGES
        ",\"max_tokens\":5 ,\"stream\":true,\"stream_options\":{\"include_usage\":true}}\n");
}

static void streams_ask_for_usage(void **state) {
    (void)state;
    const struct chat_rewrite stream = {.stream = true};
#define STREAMED "{\"model\":\"m\"," MESSAGES ",\"stream\":true"
    expect_rewrite(BODY(""), stream, STREAMED ",\"stream_options\":{\"include_usage\":true}}");
    expect_rewrite(BODY(",\"stream\":false"), stream, STREAMED ",\"stream_options\":{\"include_usage\":true}}");
    expect_rewrite(BODY(",\"stream\":null"), stream, STREAMED ",\"stream_options\":{\"include_usage\":true}}");
    expect_rewrite(STREAMED ",\"stream_options\":null}", stream,
                   STREAMED ",\"stream_options\":{\"include_usage\":true}}");
    expect_rewrite(STREAMED ",\"stream_options\":{}}", stream,
                   STREAMED ",\"stream_options\":{\"include_usage\":true}}");
    expect_rewrite(STREAMED ",\"stream_options\":{ }}", stream,
                   STREAMED ",\"stream_options\":{\"include_usage\":true }}");
    expect_rewrite(STREAMED ",\"stream_options\":{\"include_usage\":false,\"o\":1}}", stream,
                   STREAMED ",\"stream_options\":{\"include_usage\":true,\"o\":1}}");
    expect_rewrite(STREAMED ",\"stream_options\":{\"o\":1}}", stream,
                   STREAMED ",\"stream_options\":{\"include_usage\":true,\"o\":1}}");
    expect_rewrite(STREAMED ",\"stream_options\":{\"include_usage\":true}}", stream,
                   STREAMED ",\"stream_options\":{\"include_usage\":true}}");
    expect_rewrite(STREAMED "}", (struct chat_rewrite){.stream = false},
                   "{\"model\":\"m\"," MESSAGES ",\"stream\":false}");
    expect_rewrite("{\"stream_options\":{\"o\":1},\"stream\":false,\"model\":\"m\"," MESSAGES "}",
                   (struct chat_rewrite){.model = "up", .stream = true},
                   "{\"stream_options\":{\"include_usage\":true,\"o\":1},\"stream\":true,\"model\":\"up\"," MESSAGES
                   "}");
}

static void caps_are_lowered_never_raised(void **state) {
    (void)state;
    const struct chat_rewrite cap = {.max_tokens = 10};
    const struct chat_rewrite long_cap = {.max_tokens = 10, .wants_max_completion_tokens = true};
    expect_rewrite(BODY(",\"max_tokens\":5"), cap, BODY(",\"max_tokens\":5"));
    expect_rewrite(BODY(",\"max_tokens\":50"), cap, BODY(",\"max_tokens\":10"));
    expect_rewrite(BODY(",\"max_completion_tokens\":50"), cap, BODY(",\"max_completion_tokens\":10"));
    expect_rewrite(BODY(",\"max_completion_tokens\":50,\"max_tokens\":40"), long_cap,
                   BODY(",\"max_completion_tokens\":10,\"max_tokens\":10"));
    expect_rewrite(BODY(",\"max_completion_tokens\":50,\"max_tokens\":4"), cap,
                   BODY(",\"max_completion_tokens\":10,\"max_tokens\":4"));
    expect_rewrite(BODY(""), cap, BODY(",\"max_tokens\":10"));
    expect_rewrite(BODY(""), long_cap, BODY(",\"max_completion_tokens\":10"));
    expect_rewrite(BODY(",\"max_tokens\":null"), cap, BODY(",\"max_tokens\":10"));
    expect_rewrite(BODY(",\"max_tokens\":null"), long_cap, BODY(",\"max_tokens\":null,\"max_completion_tokens\":10"));
}

static void full_buffers_are_told(void **state) {
    (void)state;
    struct chat_request request = read_good(BODY(""));
    struct buffer out;
    buffer_init(&out, 20);
    assert_false(chat_request_rewrite(&request, &(struct chat_rewrite){.stream = true}, &out));
    buffer_fini(&out);
}

/* Tools, images and long texts count; data URLs do not count as text. */
static void prompts_are_estimated(void **state) {
    (void)state;
    int64_t plain = read_good(BODY("")).prompt_tokens;
    assert_true(
        read_good(BODY(",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":"
                       "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}}}}}]"))
            .prompt_tokens > plain + 20);
    struct buffer body;
    buffer_init(&body, 1 << 20);
    buffer_append_text(
        &body, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":"
               "{\"url\":\"data:image/png;base64,");
    for (int i = 0; i < 100000; i++) {
        buffer_append_byte(&body, 'A');
    }
    buffer_append_text(&body, "\"}}]}]}");
    assert_in_range(read_good(buffer_text(&body)).prompt_tokens, 700, 900);
    buffer_fini(&body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_bodies_are_read),           cmocka_unit_test(documented_fields_pass),
        cmocka_unit_test(bad_bodies_are_refused),         cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(rewriting_changes_nothing_else), cmocka_unit_test(streams_ask_for_usage),
        cmocka_unit_test(caps_are_lowered_never_raised),  cmocka_unit_test(full_buffers_are_told),
        cmocka_unit_test(prompts_are_estimated),
    };
    return cmocka_run_group_tests(tests, make_doc, free_doc);
}
