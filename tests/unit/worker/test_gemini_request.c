#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "worker/gemini_request.h"

enum { CAP_BYTES = 32 << 20 };

static struct json_doc doc;
static struct json_doc other;
static struct buffer out;

static int make(void **state) {
    (void)state;
    json_doc_init(&doc);
    json_doc_init(&other);
    buffer_init(&out, CAP_BYTES);
    return 0;
}

static int unmake(void **state) {
    (void)state;
    json_doc_fini(&doc);
    json_doc_fini(&other);
    buffer_fini(&out);
    return 0;
}

static bool translate(const char *body, const char *model, int64_t max_tokens, struct chat_verdict *wrong) {
    struct chat_request request;
    const struct chat_rewrite rewrite = {.model = model, .max_tokens = max_tokens, .stream = true};
    if (!chat_request_read(&doc, span_text(body), &request, wrong)) {
        fail_msg("%s: %s", body, wrong->message);
    }
    buffer_clear(&out);
    bool is_written = gemini_request_write(&doc, &rewrite, &out, wrong);
    assert_true(!is_written || json_parse(&other, buffer_span(&out)));
    return is_written;
}

static void expect(const char *body, const char *model, const char *expected) {
    struct chat_verdict wrong;
    if (!translate(body, model, 0, &wrong)) {
        fail_msg("%s: %s", body, wrong.message);
    }
    if (strcmp(buffer_text(&out), expected) != 0) {
        fail_msg("%s\n  gives  %s\n  not    %s", body, buffer_text(&out), expected);
    }
}

/* Refused over this field, without a word of the body. */
static void expect_refused(const char *body, const char *param) {
    struct chat_verdict wrong;
    if (translate(body, "gemini-2.5-flash", 0, &wrong)) {
        fail_msg("%s is not refused", body);
    }
    assert_int_equal(wrong.status, 400);
    if (strcmp(wrong.param, param) != 0) {
        fail_msg("%s: %s, not %s", body, wrong.param, param);
    }
    assert_null(strstr(wrong.message, "SECRET"));
}

#define USER "{\"role\":\"user\",\"content\":\"hi\"}"
#define BODY(messages, rest) "{\"model\":\"m\",\"messages\":[" messages "]" rest "}"
#define HI "\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"hi\"}]}]"
#define CONFIG(inside) ",\"generationConfig\":{" inside "}}"
#define CONTENTS(inside) "{\"contents\":[" inside "]" CONFIG("")

/* A body of one user message and these members; and what they become. */
static void expect_settings(const char *members, const char *model, const char *settings) {
    char body[2048];
    char expected[2048];
    (void)snprintf(body, sizeof(body), BODY(USER, "%s%s"), members[0] != '\0' ? "," : "", members);
    (void)snprintf(expected, sizeof(expected), "{" HI "%s}", settings);
    expect(body, model, expected);
}

static void messages_become_contents(void **state) {
    (void)state;
    expect(
        BODY("{\"role\":\"system\",\"content\":\"be \\u00e9\"}," USER ",{\"role\":\"user\",\"content\":[{\"type\":"
             "\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"\"},{\"type\":\"text\",\"text\":\"b\"}]},"
             "{\"role\":\"assistant\",\"content\":\"yes\"},{\"role\":\"developer\",\"content\":[{\"type\":\"text\","
             "\"text\":\"short\"}]},{\"role\":\"assistant\",\"content\":null},"
             "{\"role\":\"assistant\",\"content\":null,\"refusal\":\"no\"},{\"role\":\"user\",\"content\":\"\"}",
             ""),
        "gemini-2.5-flash",
        "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"hi\"},{\"text\":\"a\"},{\"text\":\"b\"}]},"
        "{\"role\":\"model\",\"parts\":[{\"text\":\"yes\"},{\"text\":\"no\"}]},{\"role\":\"user\",\"parts\":[{"
        "\"text\":\"\"}]}],\"systemInstruction\":{\"parts\":[{\"text\":\"be \\u00e9\"},{\"text\":\"short\"}]}" CONFIG(
            ""));
    /* Nothing but system messages; an empty one. */
    expect(BODY("{\"role\":\"system\",\"content\":\"a\"}", ""), NULL,
           CONTENTS("{\"role\":\"user\",\"parts\":[{\"text\":\"a\"}]}"));
    expect(BODY("{\"role\":\"system\",\"content\":\"\"}," USER, ""), NULL, "{" HI CONFIG(""));
}

#define PARTS(parts) BODY("{\"role\":\"user\",\"content\":[" parts "]}", "")
#define IMAGE(url) PARTS("{\"type\":\"image_url\",\"image_url\":{\"url\":\"" url "\",\"detail\":\"low\"}}")
#define ONE(part) CONTENTS("{\"role\":\"user\",\"parts\":[" part "]}")

static void media_become_inline_data_or_addresses(void **state) {
    (void)state;
    expect(IMAGE("data:image\\/png;base64,AA\\/\\/=="), NULL,
           ONE("{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"AA//==\"}}"));
    expect(IMAGE("data:image/jpeg;name=x;base64,AAAA"), NULL,
           ONE("{\"inlineData\":{\"mimeType\":\"image/jpeg\",\"data\":\"AAAA\"}}"));
    expect(IMAGE("https://x.example/a.PNG?b=1"), NULL,
           ONE("{\"fileData\":{\"mimeType\":\"image/png\",\"fileUri\":\"https://x.example/a.PNG?b=1\"}}"));
    expect(IMAGE("gs://bucket/a"), NULL, ONE("{\"fileData\":{\"fileUri\":\"gs://bucket/a\"}}"));
    expect(PARTS("{\"type\":\"image_url\",\"image_url\":\"data:image/gif;base64,AA\"}"), NULL,
           ONE("{\"inlineData\":{\"mimeType\":\"image/gif\",\"data\":\"AA\"}}"));
    expect(PARTS("{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"UklG\",\"format\":\"wav\"}}"), NULL,
           ONE("{\"inlineData\":{\"mimeType\":\"audio/wav\",\"data\":\"UklG\"}}"));
    expect(PARTS("{\"type\":\"file\",\"file\":{\"filename\":\"a.pdf\",\"file_data\":\"data:application/"
                 "pdf;base64,JVBE\"}}"),
           NULL, ONE("{\"inlineData\":{\"mimeType\":\"application/pdf\",\"data\":\"JVBE\"}}"));
    expect(PARTS("{\"type\":\"video_url\",\"video_url\":{\"url\":\"http://x.example/a.mp4\"}}"), NULL,
           ONE("{\"fileData\":{\"mimeType\":\"video/mp4\",\"fileUri\":\"http://x.example/a.mp4\"}}"));
}

#define AT "messages[0].content[0]"

static void media_that_cannot_be_sent_are_refused(void **state) {
    (void)state;
    expect_refused(IMAGE("data:image/png,SECRET"), AT ".image_url");
    expect_refused(IMAGE("data:;base64,AAAA"), AT ".image_url");
    expect_refused(IMAGE("data:image/png;base64,"), AT ".image_url");
    expect_refused(IMAGE("data:image/png;base64,SECRET SECRET"), AT ".image_url");
    expect_refused(IMAGE("data:"), AT ".image_url");
    expect_refused(IMAGE("data:image;base64,AAAA"), AT ".image_url");
    expect_refused(IMAGE("file:///SECRET"), AT ".image_url");
    expect_refused(IMAGE(""), AT ".image_url");
    expect_refused(PARTS("{\"type\":\"file\",\"file\":{\"file_id\":\"file-SECRET\"}}"), AT ".file");
    expect_refused(PARTS("{\"type\":\"file\"}"), AT ".file");
    expect_refused(PARTS("{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"UklG\"}}"), AT ".input_audio");
    expect_refused(PARTS("{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"UklG\",\"format\":\"a\\\"b\"}}"),
                   AT ".input_audio");
    expect_refused(PARTS("{\"type\":\"SECRET\"}"), AT ".type");
    expect_refused(
        BODY("{\"role\":\"system\",\"content\":[{\"type\":\"image_url\",\"image_url\":\"https://x/\"}]}," USER, ""),
        AT ".type");
}

#define CALLS(calls) "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[" calls "]}"
#define CALL(id, name, arguments)                                                                                      \
    "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"arguments\":\"" arguments "\"}}"
#define RESULT(id, content) "{\"role\":\"tool\",\"tool_call_id\":\"" id "\",\"content\":" content "}"

static void calls_and_results_are_paired(void **state) {
    (void)state;
    /* Ids may come again in a later turn, with another name. */
    expect(
        BODY(USER
             "," CALLS(CALL("a", "f", "{\\\"x\\\":1}") "," CALL("b", "g", "")) "," RESULT("b", "\"B\\n\"") "," RESULT(
                 "a", "[{\"type\":\"text\",\"text\":\"A\"},{\"type\":\"image_url\",\"image_url\":\"data:image/"
                      "png;base64,AA\"},"
                      "{\"type\":\"text\",\"text\":\"2\"}]") "," CALLS(CALL("\\u0061", "h",
                                                                            " {} ")) "," RESULT("a", "\"C\"") "," USER,
             ""),
        "gemini-2.5-pro",
        "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"hi\"}]},{\"role\":\"model\",\"parts\":["
        "{\"functionCall\":{\"id\":\"a\",\"name\":\"f\",\"args\":{\"x\":1}}},"
        "{\"functionCall\":{\"id\":\"b\",\"name\":\"g\",\"args\":{}}}]},{\"role\":\"user\",\"parts\":["
        "{\"functionResponse\":{\"id\":\"b\",\"name\":\"g\",\"response\":{\"result\":\"B\\n\"}}},"
        "{\"functionResponse\":{\"id\":\"a\",\"name\":\"f\",\"response\":{\"result\":\"A2\"}}},"
        "{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"AA\"}}]},{\"role\":\"model\",\"parts\":["
        "{\"functionCall\":{\"id\":\"\\u0061\",\"name\":\"h\",\"args\":{}}}]},{\"role\":\"user\",\"parts\":["
        "{\"functionResponse\":{\"id\":\"a\",\"name\":\"h\",\"response\":{\"result\":\"C\"}}}]},"
        "{\"role\":\"user\",\"parts\":[{\"text\":\"hi\"}]}]" CONFIG(""));
    /* Arguments that are no object; results without a call but with a name; the older form. */
    expect(
        BODY(CALLS(CALL("a", "f", "{\\\"x\\\":") "," CALL(
                 "b", "f", "[1]")) ",{\"role\":\"tool\",\"tool_call_id\":\"z\","
                                   "\"name\":\"n\",\"content\":\"r\"},{\"role\":\"assistant\",\"function_call\":{"
                                   "\"name\":\"o\",\"arguments\":"
                                   "\"{}\"}},{\"role\":\"function\",\"name\":\"o\",\"content\":null}",
             ""),
        "gemini-2.5-pro",
        CONTENTS(
            "{\"role\":\"model\",\"parts\":["
            "{\"functionCall\":{\"id\":\"a\",\"name\":\"f\",\"args\":{\"arguments\":\"{\\\"x\\\":\"}}},"
            "{\"functionCall\":{\"id\":\"b\",\"name\":\"f\",\"args\":{\"arguments\":\"[1]\"}}}]},"
            "{\"role\":\"user\",\"parts\":[{\"functionResponse\":{\"id\":\"z\",\"name\":\"n\",\"response\":{"
            "\"result\":\"r\"}}}]},{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"name\":\"o\",\"args\":{}}}]},"
            "{\"role\":\"user\",\"parts\":[{\"functionResponse\":{\"name\":\"o\",\"response\":{\"result\":\"\"}}}]}"));
    expect_refused(BODY(USER "," RESULT("SECRET", "\"x\""), ""), "messages[1].tool_call_id");
    expect_refused(BODY(RESULT("a", "\"x\"") "," CALLS(CALL("a", "f", "{}")), ""), "messages[0].tool_call_id");
    expect_refused(
        BODY(CALLS("{\"id\":\"a\",\"type\":\"custom\",\"custom\":{\"name\":\"SECRET\",\"input\":\"\"}}"), ""),
        "messages[0].tool_calls[0].function");
    expect_refused(BODY("{\"role\":\"function\",\"content\":\"x\"}", ""), "messages[0].name");
}

#define SIGNED_CALL                                                                                                    \
    "{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"},\"extra_content\":{"       \
    "\"google\":{\"thought_signature\":\"S=\"}}}"

static void signatures_go_back(void **state) {
    (void)state;
    expect(BODY(CALLS(SIGNED_CALL "," CALL("b", "g", "{}")), ""), "gemini-3-pro-preview",
           CONTENTS("{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"id\":\"a\",\"name\":\"f\",\"args\":{}},"
                    "\"thoughtSignature\":\"S=\"},{\"functionCall\":{\"id\":\"b\",\"name\":\"g\",\"args\":{}}}]}"));
    expect(BODY(CALLS(CALL("b", "g", "{}") "," CALL("c", "g", "{}")), ""), "gemini-3.1-flash",
           CONTENTS("{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"id\":\"b\",\"name\":\"g\",\"args\":{}},"
                    "\"thoughtSignature\":\"skip_thought_signature_validator\"},"
                    "{\"functionCall\":{\"id\":\"c\",\"name\":\"g\",\"args\":{}}}]}"));
    expect(
        BODY("{\"role\":\"assistant\",\"content\":\"t\",\"reasoning_content\":\"r\",\"reasoning_details\":["
             "{\"type\":\"reasoning.text\",\"text\":\"r\",\"signature\":\"A\",\"format\":\"anthropic-claude-v1\"},"
             "{\"type\":\"reasoning.text\",\"text\":\"r\",\"signature\":\"G\",\"format\":\"google-gemini-v1\"},"
             "{\"type\":\"reasoning.text\",\"signature\":\"N\"},{\"type\":\"reasoning.encrypted\",\"data\":\"D\"},7]}",
             ""),
        "gemini-2.5-pro",
        CONTENTS("{\"role\":\"model\",\"parts\":[{\"text\":\"t\"},{\"text\":\"\",\"thoughtSignature\":\"G\"},"
                 "{\"text\":\"\",\"thoughtSignature\":\"N\"}]}"));
}

#define TOOL(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"
#define DECLARED(name) ",\"tools\":[{\"functionDeclarations\":[{\"name\":\"" name "\"}]}]"
#define MODE(mode, more) ",\"toolConfig\":{\"functionCallingConfig\":{\"mode\":\"" mode "\"" more "}}"
#define PLAIN CONFIG_OF("")
#define CONFIG_OF(inside) ",\"generationConfig\":{" inside "}"

static void tools_and_choices_are_translated(void **state) {
    (void)state;
    expect_settings(
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\",\"strict\":true,"
        "\"parameters\":{\"$schema\":\"x\",\"type\":\"object\",\"additionalProperties\":false}}}," TOOL("g") "]",
        NULL,
        ",\"tools\":[{\"functionDeclarations\":[{\"name\":\"f\",\"description\":\"d\","
        "\"parametersJsonSchema\":{\"$schema\":\"x\",\"type\":\"object\",\"additionalProperties\":false}},"
        "{\"name\":\"g\"}]}]" PLAIN);
    expect_settings("\"tools\":[" TOOL("f") "],\"tool_choice\":\"auto\",\"parallel_tool_calls\":true", NULL,
                    DECLARED("f") MODE("AUTO", "") PLAIN);
    expect_settings("\"tools\":[" TOOL("f") "],\"tool_choice\":\"none\"", NULL, DECLARED("f") MODE("NONE", "") PLAIN);
    expect_settings("\"tools\":[" TOOL("f") "],\"tool_choice\":\"required\"", NULL,
                    DECLARED("f") MODE("ANY", "") PLAIN);
    expect_settings("\"tools\":[" TOOL("f") "],\"tool_choice\":" TOOL("f"), NULL,
                    DECLARED("f") MODE("ANY", ",\"allowedFunctionNames\":[\"f\"]") PLAIN);
    expect_settings("\"tools\":[" TOOL("f") "],\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":"
                                            "\"required\",\"tools\":[" TOOL("f") "," TOOL("g") "]}}",
                    NULL, DECLARED("f") MODE("ANY", ",\"allowedFunctionNames\":[\"f\",\"g\"]") PLAIN);
    expect_settings("\"tools\":[" TOOL("f") "],\"tool_choice\":\"required\",\"parallel_tool_calls\":false", NULL,
                    DECLARED("f") MODE("ANY", "") PLAIN);
    expect_settings("\"functions\":[{\"name\":\"f\"}],\"function_call\":{\"name\":\"f\"}", NULL,
                    DECLARED("f") MODE("ANY", ",\"allowedFunctionNames\":[\"f\"]") PLAIN);
    expect_settings("\"tools\":[],\"tool_choice\":\"none\",\"parallel_tool_calls\":false", NULL, PLAIN);
    expect_refused(BODY(USER, ",\"tool_choice\":\"required\""), "tool_choice");
    expect_refused(BODY(USER, ",\"tools\":[" TOOL("f") "],\"tool_choice\":\"SECRET\""), "tool_choice");
    expect_refused(BODY(USER, ",\"tools\":[" TOOL("f") "],\"tool_choice\":{}"), "tool_choice");
    expect_refused(BODY(USER, ",\"tools\":[" TOOL("f") "],\"tool_choice\":{\"allowed_tools\":{\"mode\":\"auto\"}}"),
                   "tool_choice");
    expect_refused(BODY(USER, ",\"tools\":[" TOOL("f") "],\"parallel_tool_calls\":false"), "parallel_tool_calls");
    expect_refused(BODY(USER, ",\"tools\":[" TOOL("f") "," TOOL(
                                  "g") "],\"tool_choice\":\"required\",\"parallel_tool_calls\":false"),
                   "parallel_tool_calls");
    expect_refused(BODY(USER, ",\"tools\":[{\"type\":\"custom\",\"custom\":{\"name\":\"SECRET\"}}]"), "tools[0].type");
    expect_refused(BODY(USER, ",\"functions\":[{\"name\":7}]"), "functions[0].name");
}

static void settings_are_translated(void **state) {
    (void)state;
    expect_settings("", NULL, PLAIN);
    expect_settings("\"temperature\":0.70,\"top_p\":1,\"top_k\":40,\"stop\":\"a\\n\",\"seed\":7,\"n\":2,"
                    "\"presence_penalty\":0.5,\"frequency_penalty\":-1,\"max_tokens\":9",
                    NULL,
                    CONFIG_OF("\"maxOutputTokens\":9,\"temperature\":0.70,\"topP\":1,\"topK\":40,"
                              "\"presencePenalty\":0.5,\"frequencyPenalty\":-1,\"seed\":7,\"stopSequences\":[\"a\\n\"],"
                              "\"candidateCount\":2"));
    expect_settings("\"stop\":[\"a\",\"b\"],\"max_tokens\":9,\"max_completion_tokens\":8,\"presence_penalty\":0,"
                    "\"seed\":4294967297,\"n\":1,\"logprobs\":true,\"top_logprobs\":3",
                    NULL,
                    CONFIG_OF("\"maxOutputTokens\":8,\"seed\":0,\"stopSequences\":[\"a\",\"b\"],"
                              "\"responseLogprobs\":true,\"logprobs\":3"));
    expect_settings("\"response_format\":{\"type\":\"json_object\"},\"stop\":[],\"logprobs\":false,\"top_logprobs\":3",
                    NULL, CONFIG_OF("\"responseMimeType\":\"application/json\""));
    expect_settings(
        "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\",\"strict\":true,"
        "\"schema\":{\"type\":\"object\"}}}",
        NULL, CONFIG_OF("\"responseMimeType\":\"application/json\",\"responseJsonSchema\":{\"type\":\"object\"}"));
    /* What changes no answer is left out. */
    expect_settings("\"response_format\":{\"type\":\"text\"},\"user\":\"u\",\"metadata\":{\"a\":\"b\"},\"store\":false,"
                    "\"service_tier\":\"auto\",\"safety_identifier\":\"s\",\"prompt_cache_key\":\"k\",\"stream\":true,"
                    "\"stream_options\":{\"include_usage\":true},\"logit_bias\":{},\"modalities\":[\"text\"],"
                    "\"verbosity\":\"medium\",\"prediction\":null,\"temperature\":null,\"stop\":null,"
                    "\"tools\":null,\"tool_choice\":null,\"n\":null,\"unheard_of\":null",
                    NULL, PLAIN);
}

static void what_cannot_be_done_is_refused(void **state) {
    (void)state;
    expect_refused(BODY(USER, ",\"n\":9"), "n");
    expect_refused(BODY(USER, ",\"logit_bias\":{\"5\":1}"), "logit_bias");
    expect_refused(BODY(USER, ",\"modalities\":[\"text\",\"audio\"]"), "modalities");
    expect_refused(BODY(USER, ",\"verbosity\":\"low\""), "verbosity");
    expect_refused(BODY(USER, ",\"web_search_options\":{}"), "web_search_options");
    expect_refused(BODY(USER, ",\"store\":true"), "store");
    expect_refused(BODY(USER, ",\"service_tier\":\"flex\""), "service_tier");
    expect_refused(BODY(USER, ",\"prediction\":{\"type\":\"content\"}"), "prediction");
    expect_refused(BODY(USER, ",\"unheard_of\":1"), "unheard_of");
    expect_refused(BODY(USER, ",\"UNHEARD-OF\":1"), "");
    expect_refused(BODY(USER, ",\"response_format\":{\"type\":\"SECRET\"}"), "response_format.type");
    expect_refused(BODY(USER, ",\"reasoning_effort\":\"SECRET\""), "reasoning_effort");
    expect_refused(BODY(USER, ",\"reasoning\":{\"effort\":7}"), "reasoning.effort");
    expect_refused(BODY(USER, ",\"reasoning\":{\"max_tokens\":-1}"), "reasoning.max_tokens");
    expect_refused(BODY(USER, ",\"reasoning\":{\"max_tokens\":1.5}"), "reasoning.max_tokens");
}

static void expect_thinking(const char *members, const char *model, const char *config) {
    char settings[256];
    (void)snprintf(settings, sizeof(settings), config[0] != '\0' ? CONFIG_OF("\"thinkingConfig\":{%s}") : PLAIN,
                   config);
    expect_settings(members, model, settings);
}

#define BUDGET(tokens, shown) "\"thinkingBudget\":" #tokens ",\"includeThoughts\":" #shown
#define LEVEL(level, shown) "\"thinkingLevel\":\"" level "\",\"includeThoughts\":" #shown

static void thinking_is_each_generations_own(void **state) {
    (void)state;
    expect_thinking("\"reasoning_effort\":\"none\"", "gemini-2.5-flash", BUDGET(0, false));
    expect_thinking("\"reasoning_effort\":\"none\"", "gemini-2.5-pro", BUDGET(128, false));
    expect_thinking("\"reasoning_effort\":\"minimal\"", "gemini-2.5-flash", BUDGET(1024, true));
    expect_thinking("\"reasoning_effort\":\"low\"", "gemini-2.5-flash", BUDGET(1024, true));
    expect_thinking("\"reasoning_effort\":\"medium\"", "models/gemini-2.5-pro-001", BUDGET(8192, true));
    expect_thinking("\"reasoning_effort\":\"high\"", "gemini-2.5-flash", BUDGET(24576, true));
    expect_thinking("\"reasoning_effort\":\"xhigh\"", "gemini-flash-latest", BUDGET(24576, true));
    expect_thinking("\"reasoning_effort\":\"minimal\"", "gemini-3-flash-preview", LEVEL("minimal", true));
    expect_thinking("\"reasoning_effort\":\"none\"", "gemini-3.6-flash", LEVEL("minimal", false));
    expect_thinking("\"reasoning_effort\":\"none\"", "gemini-3.1-pro-preview", LEVEL("low", false));
    expect_thinking("\"reasoning_effort\":\"medium\"", "gemini-3.1-pro-preview", LEVEL("medium", true));
    expect_thinking("\"reasoning_effort\":\"medium\"", "gemini-3-pro-preview", LEVEL("high", true));
    expect_thinking("\"reasoning_effort\":\"xhigh\"", "gemini-3-flash", LEVEL("high", true));
    expect_thinking("\"reasoning_effort\":\"high\"", "gemini-2.0-flash", "");
    expect_thinking("\"reasoning_effort\":\"high\"", "gemini-1.5-pro", "");
    expect_thinking("\"reasoning_effort\":null", "gemini-3-flash", "");
    expect_thinking("\"reasoning\":{}", "gemini-2.5-flash", "");
    expect_thinking("\"reasoning\":{\"max_tokens\":2000}", "gemini-2.5-flash", BUDGET(2000, true));
    expect_thinking("\"reasoning\":{\"max_tokens\":99999,\"exclude\":true}", "gemini-2.5-pro", BUDGET(32768, false));
    expect_thinking("\"reasoning\":{\"max_tokens\":2000}", "gemini-3.1-flash", LEVEL("medium", true));
    expect_thinking("\"reasoning\":{\"enabled\":false}", "gemini-2.5-flash", BUDGET(0, false));
    expect_thinking("\"reasoning\":{\"enabled\":true}", "gemini-2.5-flash", BUDGET(8192, true));
    expect_thinking("\"reasoning\":{\"effort\":\"low\"}", "gemini-3.1-flash", LEVEL("low", true));
}

static void caps_are_the_smallest(void **state) {
    (void)state;
    struct chat_verdict wrong;
    assert_true(translate(BODY(USER, ",\"max_tokens\":9"), NULL, 5, &wrong));
    assert_non_null(strstr(buffer_text(&out), "\"maxOutputTokens\":5"));
    assert_true(translate(BODY(USER, ",\"max_tokens\":4"), NULL, 5, &wrong));
    assert_non_null(strstr(buffer_text(&out), "\"maxOutputTokens\":4"));
    assert_true(translate(BODY(USER, ""), NULL, 5, &wrong));
    assert_non_null(strstr(buffer_text(&out), "\"maxOutputTokens\":5"));
}

static void full_buffers_are_told(void **state) {
    (void)state;
    struct chat_request request;
    struct chat_verdict wrong;
    struct buffer small;
    const struct chat_rewrite rewrite = {.stream = true};
    assert_true(chat_request_read(&doc, SPAN_LITERAL(BODY(USER, "")), &request, &wrong));
    for (size_t cap = 0; cap < sizeof("{" HI CONFIG("")) - 1; cap++) {
        buffer_init(&small, cap);
        assert_false(gemini_request_write(&doc, &rewrite, &small, &wrong));
        assert_int_equal(wrong.status, 0);
        buffer_fini(&small);
    }
}

/* Forty thousand calls of one id and as many results: quick, or the test takes for ever. */
static void many_calls_are_paired_quickly(void **state) {
    (void)state;
    enum { MANY = 40000 };
    struct buffer body;
    struct chat_verdict wrong;
    buffer_init(&body, CAP_BYTES);
    buffer_append_text(&body, "{\"model\":\"m\",\"messages\":[");
    for (int i = 0; i < MANY; i++) {
        buffer_format(&body, "%s" CALLS(CALL("x", "f%d", "{}")), i != 0 ? "," : "", i);
    }
    for (int i = 0; i < MANY; i++) {
        buffer_append_text(&body, "," RESULT("x", "\"r\""));
    }
    buffer_append_text(&body, "]}");
    assert_true(translate(buffer_text(&body), NULL, 0, &wrong));
    assert_non_null(strstr(buffer_text(&out), "{\"functionResponse\":{\"id\":\"x\",\"name\":\"f39999\""));
    buffer_fini(&body);
}

static void expect_path(const char *model, bool stream, const char *expected) {
    buffer_clear(&out);
    assert_true(gemini_request_path(model, stream, &out));
    assert_string_equal(buffer_text(&out), expected);
}

static void paths_are_made_of_names(void **state) {
    (void)state;
    expect_path("gemini-2.5-pro", false, "/models/gemini-2.5-pro:generateContent");
    expect_path("gemini-2.5-pro", true, "/models/gemini-2.5-pro:streamGenerateContent?alt=sse");
    expect_path("models/g", false, "/models/g:generateContent");
    expect_path("tunedModels/a/b", false, "/tunedModels/a%2Fb:generateContent");
    expect_path("../x?y#z%\r\n", false, "/models/..%2Fx%3Fy%23z%25%0D%0A:generateContent");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_become_contents),
        cmocka_unit_test(media_become_inline_data_or_addresses),
        cmocka_unit_test(media_that_cannot_be_sent_are_refused),
        cmocka_unit_test(calls_and_results_are_paired),
        cmocka_unit_test(signatures_go_back),
        cmocka_unit_test(tools_and_choices_are_translated),
        cmocka_unit_test(settings_are_translated),
        cmocka_unit_test(what_cannot_be_done_is_refused),
        cmocka_unit_test(thinking_is_each_generations_own),
        cmocka_unit_test(caps_are_the_smallest),
        cmocka_unit_test(full_buffers_are_told),
        cmocka_unit_test(many_calls_are_paired_quickly),
        cmocka_unit_test(paths_are_made_of_names),
    };
    return cmocka_run_group_tests(tests, make, unmake);
}
