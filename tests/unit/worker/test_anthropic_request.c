#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "worker/anthropic_request.h"

#include "answer_testing.h"

enum { OUT_BYTES = 1 << 20, DEFAULT_MAX_TOKENS = 500 };

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

static void expect_written(const char *body, struct chat_rewrite rewrite, const char *expected) {
    struct buffer out;
    struct chat_verdict wrong;
    buffer_init(&out, OUT_BYTES);
    assert_true(json_parse(&doc, span_text(body)));
    if (!anthropic_request_write(&doc, &rewrite, DEFAULT_MAX_TOKENS, &out, &wrong)) {
        fail_msg("%s: %s: %s", wrong.param, wrong.message, body);
    }
    assert_int_equal(wrong.status, 0);
    expect_same_json(buffer_text(&out), expected);
    int64_t max_tokens = anthropic_request_max_tokens(&doc, &rewrite, DEFAULT_MAX_TOKENS);
    assert_true(json_parse(&doc, buffer_span(&out)));
    int64_t written = 0;
    assert_true(json_int(&doc, json_member(&doc, 0, "max_tokens"), &written));
    assert_int_equal(written, max_tokens);
    buffer_fini(&out);
}

static void expect_refused(const char *body, const char *param) {
    struct buffer out;
    struct chat_verdict wrong;
    struct chat_rewrite rewrite = {.max_tokens = 0};
    buffer_init(&out, OUT_BYTES);
    if (!json_parse(&doc, span_text(body))) {
        fail_msg("the test's own JSON: %s", body);
    }
    if (anthropic_request_write(&doc, &rewrite, DEFAULT_MAX_TOKENS, &out, &wrong)) {
        fail_msg("accepted: %s", body);
    }
    assert_int_equal(wrong.status, 400);
    if (strcmp(wrong.param, param) != 0) {
        fail_msg("%s: %s, not %s", body, wrong.param, param);
    }
    assert_null(strstr(wrong.message, "secret"));
    buffer_fini(&out);
}

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"
#define CHAT(model, members) "{\"model\":\"" model "\"," HI members "}"
#define HI_THERE "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}]}]"
#define MESSAGES(model, tokens, members) "{\"model\":\"" model "\",\"max_tokens\":" tokens "," HI_THERE members "}"
#define SAYING(messages) "{\"model\":\"m\",\"messages\":[" messages "]}"
#define SAID(messages) "{\"model\":\"m\",\"max_tokens\":500,\"messages\":[" messages "]}"

static const struct chat_rewrite as_it_is = {.max_tokens = 0};

static void model_stream_and_cap_are_the_rewrites(void **state) {
    (void)state;
    expect_written(CHAT("m", ""), as_it_is, MESSAGES("m", "500", ""));
    expect_written(CHAT("m", ",\"stream\":true"), as_it_is, MESSAGES("m", "500", ""));
    expect_written(CHAT("m", ""), (struct chat_rewrite){.model = "a\"b", .stream = true, .max_tokens = 40},
                   MESSAGES("a\\\"b", "40", ",\"stream\":true"));
    expect_written(CHAT("m", ",\"max_tokens\":7,\"max_completion_tokens\":6"), (struct chat_rewrite){.max_tokens = 40},
                   MESSAGES("m", "6", ""));
    expect_written(CHAT("m", ",\"max_completion_tokens\":60"), (struct chat_rewrite){.max_tokens = 40},
                   MESSAGES("m", "40", ""));
    struct buffer out;
    struct chat_verdict wrong;
    buffer_init(&out, 30);
    assert_true(json_parse(&doc, SPAN_LITERAL(CHAT("m", ""))));
    assert_false(anthropic_request_write(&doc, &as_it_is, 1, &out, &wrong));
    assert_int_equal(wrong.status, 0);
    buffer_fini(&out);
}

static void requests_for_nothing_are_accepted(void **state) {
    (void)state;
    expect_written(
        CHAT("m", ",\"n\":1,\"logprobs\":false,\"top_logprobs\":0,\"presence_penalty\":0,\"frequency_penalty\":0.0,"
                  "\"logit_bias\":{},\"store\":false,\"modalities\":[\"text\"],\"verbosity\":\"medium\","
                  "\"parallel_tool_calls\":true,\"tools\":[],\"tool_choice\":\"none\",\"stop\":[],\"seed\":null,"
                  "\"response_format\":{\"type\":\"text\"},\"service_tier\":\"auto\",\"metadata\":{\"a\":\"b\"},"
                  "\"prompt_cache_key\":\"k\",\"stream_options\":{\"include_usage\":true},\"of_tomorrow\":null,"
                  "\"top_p\":1"),
        as_it_is, MESSAGES("m", "500", ""));
}

static void what_has_no_twin_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *body;
        const char *param;
    } cases[] = {
        {CHAT("m", ",\"n\":2"), "n"},
        {CHAT("m", ",\"logprobs\":true"), "logprobs"},
        {CHAT("m", ",\"top_logprobs\":1"), "top_logprobs"},
        {CHAT("m", ",\"logit_bias\":{\"5\":1}"), "logit_bias"},
        {CHAT("m", ",\"seed\":0"), "seed"},
        {CHAT("m", ",\"presence_penalty\":0.1"), "presence_penalty"},
        {CHAT("m", ",\"frequency_penalty\":-1"), "frequency_penalty"},
        {CHAT("m", ",\"store\":true"), "store"},
        {CHAT("m", ",\"audio\":{\"voice\":\"secret\"}"), "audio"},
        {CHAT("m", ",\"modalities\":[\"text\",\"audio\"]"), "modalities"},
        {CHAT("m", ",\"prediction\":{}"), "prediction"},
        {CHAT("m", ",\"web_search_options\":{}"), "web_search_options"},
        {CHAT("m", ",\"verbosity\":\"low\""), "verbosity"},
        {CHAT("m", ",\"service_tier\":\"flex\""), "service_tier"},
        {CHAT("m", ",\"response_format\":{\"type\":\"json_object\"}"), "response_format"},
        {CHAT("m", ",\"response_format\":{\"type\":\"json_schema\"}"), "response_format"},
        {CHAT("m", ",\"reasoning_effort\":\"secret\""), "reasoning_effort"},
        {CHAT("m", ",\"stop\":\"\\n\\t \""), "stop"},
        {CHAT("m", ",\"stop\":[\"a\",\"\"]"), "stop"},
        {CHAT("m", ",\"min_p\":0.1"), "min_p"},
        {CHAT("m", ",\"a secret name\":1"), ""},
        {CHAT("m", ",\"tools\":[{\"type\":\"custom\",\"custom\":{\"name\":\"c\"}}]"), "tools"},
        {CHAT("m", ",\"tools\":[{\"type\":\"function\"}]"), "tools"},
        {CHAT("m", ",\"functions\":[{}]"), "functions"},
        {CHAT("m", ",\"tool_choice\":\"required\""), "tool_choice"},
        {CHAT("m", ",\"tool_choice\":\"secret\""), "tool_choice"},
        {CHAT("m", ",\"tool_choice\":{\"type\":\"allowed_tools\"}"), "tool_choice"},
        {CHAT("m", ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"tool_choice\":\"required\","
                   "\"reasoning_effort\":\"low\""),
         "tool_choice"},
        {CHAT("claude-opus-4-7", ",\"temperature\":0.5"), "temperature"},
        {CHAT("claude-sonnet-5", ",\"top_p\":0.5"), "top_p"},
        {SAYING("{\"role\":\"system\",\"content\":\"s\"}"), "messages"},
        {SAYING("{\"role\":\"user\",\"content\":\"\"}"), "messages"},
        {SAYING("{\"role\":\"assistant\",\"content\":\"a\"}"), "messages[0].role"},
        {SAYING("{\"role\":\"secret\",\"content\":\"a\"}"), "messages[0].role"},
        {SAYING("{\"role\":\"user\",\"content\":\"a\",\"name\":\"secret\"}"), "messages[0].name"},
        {SAYING("{\"role\":\"user\",\"content\":{}}"), "messages[0].content"},
        {SAYING("{\"role\":\"system\",\"content\":[{\"type\":\"image_url\"}]}"), "messages[0].content"},
        {SAYING("{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\"}]}"), "messages[0].content"},
        {SAYING("{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"ftp://secret\"}}]}"),
         "messages[0].content"},
        {SAYING("{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":\"data:image/png,raw\"}]}"),
         "messages[0].content"},
        {SAYING("{\"role\":\"user\",\"content\":[{\"type\":\"file\",\"file\":{\"file_id\":\"secret\"}}]}"),
         "messages[0].content"},
        {SAYING("{\"role\":\"user\",\"content\":[{\"type\":\"file\",\"file\":{\"file_data\":"
                "\"data:text/csv;base64,QQ==\"}}]}"),
         "messages[0].content"},
        {SAYING("{\"role\":\"tool\",\"content\":\"a\"}"), "messages[0].tool_call_id"},
        {SAYING("{\"role\":\"tool\",\"tool_call_id\":\"\",\"content\":\"a\"}"), "messages[0].tool_call_id"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_refused(cases[i].body, cases[i].param);
    }
}

#define CALL(id, arguments)                                                                                            \
    "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":" arguments "}}"
#define ASKED "{\"role\":\"user\",\"content\":\"Hi\"},"
#define ASKED_IT "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}]},"
#define CALLING(calls) "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[" calls "]}"

static void arguments_must_be_objects(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\"secret\"", "\"[]\"", "\"{\"", "\"7\"", "\"{}{}\"", "7", "{}", "\"{\\\"a\\\":\\\"\\\\\"", "\"null\""};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char body[512];
        (void)snprintf(body, sizeof(body), SAYING(ASKED CALLING(CALL("c1", "\"{}\"") "," CALL("c2", "%s"))), bad[i]);
        expect_refused(body, "messages[1].tool_calls[1].function.arguments");
    }
    expect_refused(SAYING(ASKED CALLING(CALL("", "\"{}\""))), "messages[1].tool_calls[0].id");
    struct buffer deep;
    buffer_init(&deep, OUT_BYTES);
    buffer_append_text(&deep, "{\"model\":\"m\",\"messages\":[" ASKED
                              "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c\",\"function\":{\"name\":\"f\","
                              "\"arguments\":\"{\\\"a\\\":");
    for (int i = 0; i < 110; i++) {
        buffer_append_byte(&deep, '[');
    }
    for (int i = 0; i < 110; i++) {
        buffer_append_byte(&deep, ']');
    }
    buffer_append_text(&deep, "}\"}}]}]}");
    expect_refused(buffer_text(&deep), "messages[1].tool_calls[0].function.arguments");
    buffer_fini(&deep);
    expect_written(SAYING(ASKED CALLING(CALL("c:1", "\" {\\\"a\\\": [1e400, \\\"\\\\u0041\\\"]} \"") "," CALL(
                       "c2", "\"\"")) ",{\"role\":\"tool\",\"tool_call_id\":\"c:1\",\"content\":\"r\"}"),
                   as_it_is,
                   SAID(ASKED_IT "{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"c_1\",\"name\":"
                                 "\"f\",\"input\":{\"a\":[1e400,\"A\"]}},{\"type\":\"tool_use\",\"id\":\"c2\",\"name\":"
                                 "\"f\",\"input\":{}}]},{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\","
                                 "\"tool_use_id\":\"c_1\",\"content\":\"r\"}]}"));
}

static void turns_alternate(void **state) {
    (void)state;
    expect_written(
        "{\"model\":\"m\",\"messages\":["
        "{\"role\":\"system\",\"content\":\"s1\"},"
        "{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":\"s2\"}"
        ","
        "{\"type\":\"text\",\"text\":\"\"}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"b\"},{\"type\":\"text\",\"text\":\" \\n\"},"
        "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image\\/jpeg;base64,QUI=\",\"detail\":\"high\"}},"
        "{\"type\":\"file\",\"file\":{\"filename\":\"x.pdf\",\"file_data\":\"data:application/pdf;base64,UERG\"}}]},"
        "{\"role\":\"assistant\",\"content\":\"c\",\"refusal\":null},{\"role\":\"assistant\",\"content\":["
        "{\"type\":\"refusal\",\"refusal\":\"no\"}],\"tool_calls\":[" CALL("t1", "\"{}\"") "," CALL(
            "t2",
            "\"{}\"") "]},"
                      "{\"role\":\"tool\",\"tool_call_id\":\"t1\",\"content\":\"r1\"},"
                      "{\"role\":\"user\",\"content\":\"between\"},"
                      "{\"role\":\"tool\",\"tool_call_id\":\"t2\",\"content\":[{\"type\":\"text\",\"text\":\"r2\"}]},"
                      "{\"role\":\"assistant\",\"content\":\"\"},{\"role\":\"user\",\"content\":\"end\"}]}",
        as_it_is,
        "{\"model\":\"m\",\"max_tokens\":500,\"system\":[{\"type\":\"text\",\"text\":\"s1\"},{\"type\":\"text\","
        "\"text\":"
        "\"s2\"}],\"messages\":["
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"},"
        "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/jpeg\",\"data\":\"QUI=\"}},"
        "{\"type\":\"document\",\"title\":\"x.pdf\",\"source\":{\"type\":\"base64\",\"media_type\":\"application/pdf\","
        "\"data\":\"UERG\"}}]},"
        "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"c\"},{\"type\":\"text\",\"text\":\"no\"},"
        "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\",\"input\":{}},{\"type\":\"tool_use\",\"id\":\"t2\","
        "\"name\":\"f\",\"input\":{}}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"t1\",\"content\":\"r1\"},"
        "{\"type\":\"tool_result\",\"tool_use_id\":\"t2\",\"content\":[{\"type\":\"text\",\"text\":\"r2\"}]},"
        "{\"type\":\"text\",\"text\":\"between\"},{\"type\":\"text\",\"text\":\"end\"}]}]}");
    expect_written(SAYING("{\"role\":\"system\",\"content\":\"only\"}," ASKED "{\"role\":\"system\",\"content\":\"\"}"),
                   as_it_is, "{\"model\":\"m\",\"max_tokens\":500,\"system\":\"only\"," HI_THERE "}");
}

static void older_functions_are_tools(void **state) {
    (void)state;
    expect_written(
        "{\"model\":\"m\",\"functions\":[{\"name\":\"f\",\"description\":\"\",\"parameters\":{\"properties\":{}}}],"
        "\"function_call\":{\"name\":\"f\"},\"messages\":[" ASKED
        "{\"role\":\"assistant\",\"content\":null,\"function_call\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}},"
        "{\"role\":\"function\",\"name\":\"f\",\"content\":\"r\"}]}",
        as_it_is,
        "{\"model\":\"m\",\"max_tokens\":500,\"tools\":[{\"name\":\"f\",\"input_schema\":{\"type\":\"object\","
        "\"properties\":{}}}],\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\"},\"messages\":[" ASKED_IT
        "{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"call_f1\",\"name\":\"f\",\"input\":{"
        "\"a\":"
        "1}}]},{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"call_f1\",\"content\":\"r\"}"
        "]}"
        "]}");
}

static void tools_and_choices_are_said(void **state) {
    (void)state;
#define TOOLS ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true}}]"
#define TOOLS_HERE ",\"tools\":[{\"name\":\"f\",\"input_schema\":{\"type\":\"object\",\"properties\":{}}}]"
    static const struct {
        const char *chat;
        const char *messages;
    } cases[] = {
        {CHAT("m", TOOLS), MESSAGES("m", "500", TOOLS_HERE)},
        {CHAT("m", TOOLS ",\"tool_choice\":\"auto\""),
         MESSAGES("m", "500", TOOLS_HERE ",\"tool_choice\":{\"type\":\"auto\"}")},
        {CHAT("m", TOOLS ",\"tool_choice\":\"required\""),
         MESSAGES("m", "500", TOOLS_HERE ",\"tool_choice\":{\"type\":\"any\"}")},
        {CHAT("m", TOOLS ",\"tool_choice\":\"none\",\"parallel_tool_calls\":false"),
         MESSAGES("m", "500", TOOLS_HERE ",\"tool_choice\":{\"type\":\"none\"}")},
        {CHAT("m", TOOLS ",\"parallel_tool_calls\":false"),
         MESSAGES("m", "500", TOOLS_HERE ",\"tool_choice\":{\"type\":\"auto\",\"disable_parallel_tool_use\":true}")},
        {CHAT("m", TOOLS ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}"),
         MESSAGES("m", "500", TOOLS_HERE ",\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\"}")},
        {CHAT("claude-sonnet-4-5", TOOLS),
         MESSAGES(
             "claude-sonnet-4-5", "500",
             ",\"tools\":[{\"name\":\"f\",\"strict\":true,\"input_schema\":{\"type\":\"object\",\"properties\":{}}}]")},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_written(cases[i].chat, as_it_is, cases[i].messages);
    }
}

static void settings_are_said(void **state) {
    (void)state;
    expect_written(CHAT("m", ",\"temperature\":1.7,\"top_p\":0.5,\"stop\":\"x\",\"user\":\"u\",\"service_tier\":"
                             "\"default\""),
                   as_it_is,
                   MESSAGES("m", "500",
                            ",\"temperature\":1,\"top_p\":0.5,\"stop_sequences\":[\"x\"],\"metadata\":"
                            "{\"user_id\":\"u\"},\"service_tier\":\"standard_only\""));
    expect_written(CHAT("m", ",\"safety_identifier\":\"s\",\"metadata\":{\"user_id\":\"u\"}"), as_it_is,
                   MESSAGES("m", "500", ",\"metadata\":{\"user_id\":\"s\"}"));
    expect_written(CHAT("m", ",\"metadata\":{\"user_id\":\"u\"}"), as_it_is,
                   MESSAGES("m", "500", ",\"metadata\":{\"user_id\":\"u\"}"));
    expect_written(CHAT("claude-opus-4-7", ",\"temperature\":1.0,\"top_p\":1"), as_it_is,
                   MESSAGES("claude-opus-4-7", "500", ""));
}

/* Budgets for older models, efforts for newer ones. */
static void models_think_as_their_generation_does(void **state) {
    (void)state;
    static const struct {
        const char *model;
        bool is_adaptive;
    } models[] = {
        {"claude-3-7-sonnet-20250219", false},
        {"claude-sonnet-4-20250514", false},
        {"claude-sonnet-4@20250514", false},
        {"claude-opus-4-5-20251101", false},
        {"anthropic.claude-haiku-4-5-20251001-v1:0", false},
        {"glm-4.6", false},
        {"claude", false},
        {"claude-opus-4-6", true},
        {"claude-opus-4.7", true},
        {"us.anthropic.claude-sonnet-5-v1:0", true},
        {"claude-fable-5", true},
        {"claude-sonnet-5-20260901", true},
    };
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        char expected[1024];
        (void)snprintf(expected, sizeof(expected),
                       models[i].is_adaptive ? MESSAGES("%s", "500",
                                                        ",\"thinking\":{\"type\":\"adaptive\"},"
                                                        "\"output_config\":{\"effort\":\"max\"}")
                                             : MESSAGES("%s", "33268",
                                                        ",\"thinking\":{\"type\":\"enabled\","
                                                        "\"budget_tokens\":32768}"),
                       models[i].model);
        expect_written(CHAT("m", ",\"reasoning_effort\":\"xhigh\""), (struct chat_rewrite){.model = models[i].model},
                       expected);
    }
    expect_written(CHAT("m", ",\"reasoning_effort\":\"none\""), as_it_is,
                   MESSAGES("m", "500", ",\"thinking\":{\"type\":\"disabled\"}"));
}

static void budgets_fit_under_the_cap(void **state) {
    (void)state;
#define THINKS(tokens, budget)                                                                                         \
    MESSAGES("m", tokens, ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":" budget "}")
    const char *medium =
        CHAT("m", ",\"reasoning_effort\":\"medium\",\"max_tokens\":100,\"temperature\":0.3,\"top_p\":0.9");
    expect_written(medium, as_it_is, THINKS("8292", "8192"));
    expect_written(medium, (struct chat_rewrite){.max_tokens = 9000}, THINKS("8292", "8192"));
    expect_written(medium, (struct chat_rewrite){.max_tokens = 8192}, THINKS("8192", "8191"));
    expect_written(medium, (struct chat_rewrite){.max_tokens = 1025}, THINKS("1025", "1024"));
    expect_written(medium, (struct chat_rewrite){.max_tokens = 1024},
                   MESSAGES("m", "100", ",\"temperature\":0.3,\"top_p\":0.9"));
    expect_written(CHAT("m", ",\"reasoning_effort\":\"low\",\"max_tokens\":5000,\"top_p\":0.99"), as_it_is,
                   MESSAGES("m", "5000", ",\"top_p\":0.99,\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}"));
}

/* Thinking that was not signed here is left out, and a turn that lost its thinking does not think on. */
static void thinking_comes_first_or_not_at_all(void **state) {
    (void)state;
#define TURN(details)                                                                                                  \
    "{\"model\":\"m\",\"reasoning_effort\":\"low\",\"messages\":[" ASKED                                               \
    "{\"role\":\"assistant\",\"content\":\"c\",\"reasoning_content\":\"x\",\"reasoning_details\":" details             \
    ",\"tool_calls\":[" CALL("t", "\"{}\"") "]},{\"role\":\"tool\",\"tool_call_id\":\"t\",\"content\":\"r\"}]}"
#define TURN_HERE(blocks)                                                                                              \
    ASKED_IT "{\"role\":\"assistant\",\"content\":[" blocks                                                            \
             "{\"type\":\"text\",\"text\":\"c\"},{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}]}"   \
             ",{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"t\",\"content\":\"r\"}]}"
    expect_written(
        TURN("[{\"type\":\"reasoning.text\",\"text\":\"a\",\"signature\":\"s\",\"format\":"
             "\"anthropic-claude-v1\",\"index\":0},{\"type\":\"reasoning.text\",\"signature\":\"s2\"},"
             "{\"type\":\"reasoning.encrypted\",\"data\":\"d\"}]"),
        as_it_is,
        "{\"model\":\"m\",\"max_tokens\":1524,\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024},"
        "\"messages\":[" TURN_HERE(
            "{\"type\":\"thinking\",\"thinking\":\"a\",\"signature\":\"s\"},{\"type\":\"thinking\","
            "\"thinking\":\"\",\"signature\":\"s2\"},{\"type\":\"redacted_thinking\",\"data\":\"d\"},") "]}");
    static const char *const others[] = {
        TURN("null"), TURN("[{\"type\":\"reasoning.text\",\"text\":\"a\"}]"),
        TURN("[{\"type\":\"reasoning.encrypted\",\"data\":\"d\",\"format\":\"openai-responses-v1\"}]"),
        TURN("[{\"type\":\"reasoning.summary\",\"summary\":\"a\"},7]")};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        expect_written(others[i], as_it_is, SAID(TURN_HERE("")));
    }
}

static void formats_are_said(void **state) {
    (void)state;
    expect_written(CHAT("m",
                        ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"strict\":"
                        "true,\"schema\":{\"type\":\"object\",\"x\":[1]}}}"),
                   as_it_is,
                   MESSAGES("m", "500",
                            ",\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":"
                            "\"object\",\"x\":[1]}}}"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_stream_and_cap_are_the_rewrites),
        cmocka_unit_test(requests_for_nothing_are_accepted),
        cmocka_unit_test(what_has_no_twin_is_refused),
        cmocka_unit_test(arguments_must_be_objects),
        cmocka_unit_test(turns_alternate),
        cmocka_unit_test(older_functions_are_tools),
        cmocka_unit_test(tools_and_choices_are_said),
        cmocka_unit_test(settings_are_said),
        cmocka_unit_test(models_think_as_their_generation_does),
        cmocka_unit_test(budgets_fit_under_the_cap),
        cmocka_unit_test(thinking_comes_first_or_not_at_all),
        cmocka_unit_test(formats_are_said),
    };
    return cmocka_run_group_tests(tests, make_doc, free_doc);
}
