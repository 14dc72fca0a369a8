#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/anthropic_request.h"
#include "worker/messages_request.h"
#include "worker/messages_to_chat.h"

#include "answer_testing.h"

enum { OUT_BYTES = 1 << 20 };

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

static struct messages_request read(const char *body) {
    struct messages_request request;
    struct chat_verdict verdict;
    if (!messages_request_read(&doc, span_text(body), false, &request, &verdict)) {
        fail_msg("refused (%s): %s: %s", verdict.param, verdict.message, body);
    }
    return request;
}

static void expect_refused(const char *body, int status, const char *code, const char *param) {
    struct messages_request request;
    struct chat_verdict verdict;
    if (messages_request_read(&doc, span_text(body), false, &request, &verdict)) {
        fail_msg("accepted: %s", body);
    }
    assert_int_equal(verdict.status, status);
    assert_string_equal(verdict.code, code);
    assert_string_equal(verdict.param, param);
    assert_null(strstr(verdict.message, "secret"));
    assert_null(strstr(verdict.param, "secret"));
}

#define HEAD "\"model\":\"claude\",\"max_tokens\":100"
#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"
#define WITH(members) "{" HEAD "," HI "," members "}"
#define SAYING(role, content) "{" HEAD ",\"messages\":[{\"role\":\"" role "\",\"content\":" content "}]}"

static void facts_are_read(void **state) {
    (void)state;
    struct messages_request request =
        read(WITH("\"stream\":true,\"metadata\":{\"user_id\":\"u1\"},\"tools\":[{\"name\":\"f\",\"input_schema\":"
                  "{\"type\":\"object\"}}],\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":50}"));
    assert_string_equal(request.model, "claude");
    assert_string_equal(request.end_user, "u1");
    assert_string_equal(request.unmapped_param, "");
    assert_true(request.stream && request.has_tools);
    assert_int_equal(request.max_tokens, 100);
    assert_int_equal(request.message_count, 1);
    assert_int_equal(request.thinking_budget_tokens, 50);
    assert_in_range(request.prompt_tokens, 5, 60);
    request = read("{" HEAD "," HI "}");
    assert_false(request.stream || request.has_tools);
    assert_string_equal(request.end_user, "");
    /* Pictures are not counted by their bytes. */
    struct buffer body;
    buffer_init(&body, OUT_BYTES);
    buffer_append_text(&body, "{" HEAD ",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"source\":"
                              "{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"");
    for (int i = 0; i < 100000; i++) {
        buffer_append_text(&body, "AbC9");
    }
    buffer_append_text(&body, "\"}}]}]}");
    request = read(buffer_text(&body));
    assert_in_range(request.prompt_tokens, 100, 5000);
    buffer_fini(&body);
}

static void what_is_missing_or_wrong_is_refused(void **state) {
    (void)state;
    expect_refused("", 400, "invalid_json", "");
    expect_refused("{\"secret", 400, "invalid_json", "");
    expect_refused("[]", 400, "invalid_json", "");
    expect_refused("{" HI ",\"max_tokens\":1}", 400, "missing_field", "model");
    expect_refused("{\"model\":\"m\"," HI "}", 400, "missing_field", "max_tokens");
    expect_refused("{\"model\":\"m\",\"max_tokens\":null," HI "}", 400, "missing_field", "max_tokens");
    expect_refused("{" HEAD "}", 400, "missing_field", "messages");
    expect_refused("{" HEAD ",\"messages\":[]}", 400, "invalid_value", "messages");
    static const struct {
        const char *body;
        const char *param;
    } cases[] = {
        {"{\"model\":\"\",\"max_tokens\":1," HI "}", "model"},
        {"{\"model\":7,\"max_tokens\":1," HI "}", "model"},
        {"{\"model\":\"m\",\"max_tokens\":0," HI "}", "max_tokens"},
        {"{\"model\":\"m\",\"max_tokens\":1.5," HI "}", "max_tokens"},
        {"{\"model\":\"m\",\"max_tokens\":\"secret\"," HI "}", "max_tokens"},
        {WITH("\"max_tokens\":5"), "max_tokens"},
        {WITH("\"model\":\"secret\""), "model"},
        {WITH("\"stream\":\"secret\""), "stream"},
        {WITH("\"stream\":true,\"str\\u0065am\":false"), "stream"},
        {WITH("\"tools\":[],\"tools\":[]"), "tools"},
        {WITH("\"system\":7"), "system"},
        {WITH("\"system\":[7]"), "system.0.type"},
        {WITH("\"system\":[{\"type\":\"text\"}]"), "system.0.text"},
        {WITH("\"temperature\":1.01"), "temperature"},
        {WITH("\"top_p\":-1"), "top_p"},
        {WITH("\"top_k\":-1"), "top_k"},
        {WITH("\"stop_sequences\":\"secret\""), "stop_sequences"},
        {WITH("\"stop_sequences\":[\"a\",1]"), "stop_sequences"},
        {WITH("\"thinking\":{}"), "thinking"},
        {WITH("\"tool_choice\":\"auto\""), "tool_choice"},
        {WITH("\"metadata\":\"secret\""), "metadata"},
        {WITH("\"tools\":{}"), "tools"},
        {WITH("\"tools\":[1]"), "tools.0"},
        {WITH("\"tools\":[{\"input_schema\":{}}]"), "tools.0.name"},
        {WITH("\"tools\":[{\"name\":\"f\"}]"), "tools.0.input_schema"},
        {WITH("\"tools\":[{\"name\":\"f\",\"input_schema\":{},\"description\":1}]"), "tools.0.description"},
        {"{" HEAD ",\"messages\":[1]}", "messages.0"},
        {"{" HEAD ",\"messages\":[{\"role\":\"user\",\"role\":\"user\",\"content\":\"a\"}]}", "messages.0"},
        {"{" HEAD ",\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"content\":\"b\"}]}", "messages.0"},
        {SAYING("secret", "\"a\""), "messages.0.role"},
        {SAYING("user", "null"), "messages.0.content"},
        {SAYING("user", "{\"secret\":1}"), "messages.0.content"},
        {SAYING("user", "[\"secret\"]"), "messages.0.content.0.type"},
        {SAYING("user", "[{\"type\":\"text\",\"text\":1}]"), "messages.0.content.0.text"},
        {SAYING("user", "[{\"type\":\"image\"}]"), "messages.0.content.0.source"},
        {SAYING("user", "[{\"type\":\"image\",\"source\":{\"type\":\"base64\"}}]"), "messages.0.content.0.source"},
        {SAYING("user", "[{\"type\":\"image\",\"source\":{\"type\":\"url\"}}]"), "messages.0.content.0.source.url"},
        {SAYING("user", "[{\"type\":\"tool_result\"}]"), "messages.0.content.0.tool_use_id"},
        {SAYING("user", "[{\"type\":\"tool_result\",\"tool_use_id\":\"a\",\"content\":7}]"),
         "messages.0.content.0.content"},
        {SAYING("user", "[{\"type\":\"tool_result\",\"tool_use_id\":\"a\",\"content\":[{\"type\":\"text\"}]}]"),
         "messages.0.content.0.content.0.text"},
        {SAYING("assistant", "[{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":\"secret\"}]"),
         "messages.0.content.0.input"},
        {SAYING("assistant", "[{\"type\":\"thinking\",\"thinking\":\"secret\"}]"), "messages.0.content.0.signature"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_refused(cases[i].body, 400, "invalid_value", cases[i].param);
    }
}

static void long_model_names_are_not_found(void **state) {
    (void)state;
    struct buffer body;
    buffer_init(&body, OUT_BYTES);
    buffer_append_text(&body, "{\"max_tokens\":1," HI ",\"model\":\"");
    for (int i = 0; i < CHAT_MODEL_BYTES; i++) {
        buffer_append_byte(&body, 'm');
    }
    buffer_append_text(&body, "\"}");
    expect_refused(buffer_text(&body), 404, "model_not_found", "model");
    buffer_fini(&body);
}

static void counting_needs_no_cap(void **state) {
    (void)state;
    struct messages_request request;
    struct chat_verdict verdict;
    assert_true(messages_request_read(&doc, SPAN_LITERAL("{\"model\":\"m\"," HI "}"), true, &request, &verdict));
    assert_int_equal(request.max_tokens, 0);
    assert_true(request.prompt_tokens > 0);
}

static void what_others_cannot_say_is_named(void **state) {
    (void)state;
    static const struct {
        const char *body;
        const char *param;
    } cases[] = {
        {WITH("\"top_k\":5,\"cache_control\":{\"type\":\"ephemeral\"}"), ""},
        {WITH("\"mcp_servers\":[],\"container\":null,\"context_management\":{}"), ""},
        {WITH("\"mcp_servers\":[{\"secret\":1}]"), "mcp_servers"},
        {WITH("\"container\":\"c\""), "container"},
        {WITH("\"context_management\":{\"edits\":[1]}"), "context_management"},
        {WITH("\"Secret words\":1"), "(unknown field)"},
        {WITH("\"tools\":[{\"type\":\"web_search_20250305\",\"name\":\"web_search\"}]"), "tools.0.type"},
        {WITH("\"tools\":[{\"type\":\"custom\",\"name\":\"f\",\"input_schema\":{},\"defer_loading\":true}]"),
         "tools.0.defer_loading"},
        {WITH("\"tools\":[{\"type\":\"custom\",\"name\":\"f\",\"input_schema\":{},\"cache_control\":{\"type\":"
              "\"ephemeral\"},\"eager_input_streaming\":true}]"),
         ""},
        {WITH("\"stop_sequences\":[\"a\",\"b\",\"c\",\"d\",\"e\"]"), "stop_sequences"},
        {WITH("\"service_tier\":\"priority\""), "service_tier"},
        {WITH("\"metadata\":{\"user_id\":7}"), "metadata.user_id"},
        {WITH("\"metadata\":{\"team\":\"x\"}"), "metadata.team"},
        {WITH("\"tool_choice\":{\"type\":\"server\"}"), "tool_choice.type"},
        {WITH("\"tool_choice\":{\"type\":\"tool\"}"), "tool_choice.name"},
        {WITH("\"thinking\":{\"type\":\"later\"}"), "thinking.type"},
        {WITH("\"output_config\":{\"effort\":\"huge\"}"), "output_config.effort"},
        {WITH("\"output_config\":{\"effort\":\"low\"},\"thinking\":{\"type\":\"disabled\"}"), "output_config.effort"},
        {WITH("\"output_config\":{\"task_budget\":{\"total\":1}}"), "output_config.task_budget"},
        {WITH("\"output_config\":{\"format\":{\"type\":\"xml\"}}"), "output_config.format.type"},
        {WITH("\"output_format\":{\"type\":\"json_schema\"}"), "output_format.schema"},
        {SAYING("user", "[{\"type\":\"search_result\"}]"), "messages.0.content.0.type"},
        {SAYING("user", "[{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}]"), "messages.0.content.0.type"},
        {SAYING("user", "[{\"type\":\"text\",\"text\":\"a\",\"citations\":[]}]"), ""},
        {SAYING("assistant", "[{\"type\":\"text\",\"text\":\"a\",\"citations\":[{}]}]"),
         "messages.0.content.0.citations"},
        {SAYING("assistant", "[{\"type\":\"server_tool_use\",\"id\":\"a\"}]"), "messages.0.content.0.type"},
        {SAYING("user", "[{\"type\":\"image\",\"source\":{\"type\":\"file\",\"file_id\":\"f\"}}]"),
         "messages.0.content.0.source.type"},
        {SAYING("user", "[{\"type\":\"document\",\"source\":{\"type\":\"url\",\"url\":\"u\"}}]"),
         "messages.0.content.0.source.type"},
        {SAYING("user", "[{\"type\":\"document\",\"citations\":{\"enabled\":true},\"source\":{\"type\":\"text\","
                        "\"data\":\"d\"}}]"),
         "messages.0.content.0.citations"},
        {SAYING("user",
                "[{\"type\":\"tool_result\",\"tool_use_id\":\"a\",\"content\":[{\"type\":\"tool_reference\"}]}]"),
         "messages.0.content.0.content.0.type"},
        {"{" HEAD ",\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"name\":\"b\"}]}", "messages.0.name"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct messages_request request = read(cases[i].body);
        if (strcmp(request.unmapped_param, cases[i].param) != 0) {
            fail_msg("%s: %s, not %s", cases[i].body, request.unmapped_param, cases[i].param);
        }
    }
}

static void expect_rewrite(const char *body, struct chat_rewrite rewrite, const char *expected) {
    struct messages_request request = read(body);
    struct buffer out;
    buffer_init(&out, OUT_BYTES);
    assert_true(messages_request_rewrite(&request, &rewrite, &out));
    assert_string_equal(buffer_text(&out), expected);
    buffer_fini(&out);
}

static void a_rewrite_changes_nothing_else(void **state) {
    (void)state;
    const char *body = " { \"max_tokens\" : 9 ,\"x\":1e400," HI ", \"model\":\"a\" } ";
    expect_rewrite(body, (struct chat_rewrite){.stream = false}, body);
    expect_rewrite(body, (struct chat_rewrite){.model = "a", .max_tokens = 9}, body);
    expect_rewrite(body, (struct chat_rewrite){.model = "b\"", .max_tokens = 5, .stream = true},
                   " { \"max_tokens\" : 5 ,\"x\":1e400," HI ", \"model\":\"b\\\"\" ,\"stream\":true} ");
    expect_rewrite("{\"stream\":null," HEAD "," HI "}", (struct chat_rewrite){.stream = true},
                   "{\"stream\":true," HEAD "," HI "}");
    expect_rewrite("{\"stream\":true," HEAD "," HI "}", (struct chat_rewrite){.stream = false},
                   "{\"stream\":false," HEAD "," HI "}");
}

static void thinking_stays_below_a_lowered_cap(void **state) {
    (void)state;
#define THINKING(tokens, thinking) "{\"model\":\"a\",\"max_tokens\":" tokens ",\"thinking\":" thinking "," HI "}"
    expect_rewrite(THINKING("9000", "{\"type\":\"enabled\",\"budget_tokens\":4000}"),
                   (struct chat_rewrite){.max_tokens = 5000},
                   THINKING("5000", "{\"type\":\"enabled\",\"budget_tokens\":4000}"));
    expect_rewrite(THINKING("9000", "{\"type\":\"enabled\",\"budget_tokens\":4000}"),
                   (struct chat_rewrite){.max_tokens = 4000},
                   THINKING("4000", "{\"type\":\"enabled\",\"budget_tokens\":3999}"));
    expect_rewrite(THINKING("9000", "{\"type\":\"enabled\",\"budget_tokens\":4000}"),
                   (struct chat_rewrite){.max_tokens = 1024}, THINKING("1024", "{\"type\":\"disabled\"}"));
}

/* The chat body of a Messages body; fails unless it can be read as one. */
static void to_chat(const char *body, struct buffer *out) {
    struct messages_request request = read(body);
    struct chat_request chat;
    struct chat_verdict verdict;
    assert_string_equal(request.unmapped_param, "");
    buffer_init(out, OUT_BYTES);
    assert_true(messages_to_chat_write(&doc, false, false, out));
    if (!chat_request_read(&doc, buffer_span(out), &chat, &verdict)) {
        fail_msg("%s: %s", verdict.message, buffer_text(out));
    }
    assert_string_equal(chat.model, request.model);
    assert_string_equal(chat.end_user, request.end_user);
    assert_int_equal(chat.stream, request.stream);
    assert_int_equal(chat.include_usage, request.stream);
    assert_int_equal(chat.max_tokens, request.max_tokens);
    assert_int_equal(chat.has_tools, request.has_tools);
}

static void expect_chat(const char *body, const char *expected) {
    struct buffer out;
    to_chat(body, &out);
    expect_same_json(buffer_text(&out), expected);
    buffer_fini(&out);
}

static void settings_become_chats(void **state) {
    (void)state;
    expect_chat(
        WITH("\"stream\":true,\"temperature\":0.5,\"top_p\":0.9,\"top_k\":3,\"stop_sequences\":[\"x\"],"
             "\"service_tier\":\"standard_only\",\"metadata\":{\"user_id\":\"u\"},\"system\":\"Be \\u00e9.\","
             "\"tools\":[{\"name\":\"f\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\"},\"strict\":true,"
             "\"cache_control\":{\"type\":\"ephemeral\"}}],\"tool_choice\":{\"type\":\"any\","
             "\"disable_parallel_tool_use\":true},\"output_config\":{\"effort\":\"max\",\"format\":{\"type\":"
             "\"json_schema\",\"schema\":{\"type\":\"object\"}}}"),
        "{" HEAD ",\"messages\":[{\"role\":\"system\",\"content\":\"Be \\u00e9.\"},{\"role\":\"user\",\"content\":"
        "\"Hi\"}],\"stream\":true,\"stream_options\":{\"include_usage\":true},\"temperature\":0.5,\"top_p\":0.9,"
        "\"stop\":[\"x\"],\"service_tier\":\"default\",\"user\":\"u\",\"tools\":[{\"type\":\"function\",\"function\":"
        "{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":\"object\"},\"strict\":true}}],"
        "\"tool_choice\":\"required\",\"parallel_tool_calls\":false,\"reasoning_effort\":\"xhigh\","
        "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"schema\":{\"type\":"
        "\"object\"},\"strict\":true}}}");
    struct buffer out;
    (void)read("{" HEAD "," HI "}");
    buffer_init(&out, OUT_BYTES);
    assert_true(messages_to_chat_write(&doc, true, false, &out));
    assert_non_null(strstr(buffer_text(&out), "\"max_completion_tokens\":100"));
    buffer_fini(&out);
    buffer_init(&out, 20);
    assert_false(messages_to_chat_write(&doc, true, false, &out));
    buffer_fini(&out);
}

static void efforts_and_choices_become_chats(void **state) {
    (void)state;
    static const struct {
        const char *body;
        const char *member;
    } cases[] = {
        {WITH("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}"), "\"reasoning_effort\":\"low\""},
        {WITH("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":10000}"), "\"reasoning_effort\":\"medium\""},
        {WITH("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":31999}"), "\"reasoning_effort\":\"high\""},
        {WITH("\"thinking\":{\"type\":\"adaptive\"}"), "\"reasoning_effort\":\"high\""},
        {WITH("\"thinking\":{\"type\":\"adaptive\",\"display\":\"omitted\"},\"output_config\":{\"effort\":\"low\"}"),
         "\"reasoning_effort\":\"low\""},
        {WITH("\"tool_choice\":{\"type\":\"auto\"}"), "\"tool_choice\":\"auto\""},
        {WITH("\"tool_choice\":{\"type\":\"none\"}"), "\"tool_choice\":\"none\""},
        {WITH("\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\"}"),
         "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer out;
        to_chat(cases[i].body, &out);
        if (strstr(buffer_text(&out), cases[i].member) == NULL) {
            fail_msg("%s has no %s", buffer_text(&out), cases[i].member);
        }
        buffer_fini(&out);
    }
    expect_chat(WITH("\"thinking\":{\"type\":\"disabled\"}"), "{" HEAD "," HI "}");
}

static void messages_become_chats(void **state) {
    (void)state;
    expect_chat(
        "{" HEAD ",\"system\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\",\"cache_control\":"
        "{\"type\":\"ephemeral\"}}],\"messages\":["
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"look\"},{\"type\":\"image\",\"source\":{"
        "\"type\":"
        "\"base64\",\"media_type\":\"image\\/"
        "png\",\"data\":\"QUI=\"}},{\"type\":\"image\",\"source\":{\"type\":\"url\","
        "\"url\":\"https://x/y\"}},{\"type\":\"document\",\"title\":\"T\",\"context\":\"C\",\"source\":{\"type\":"
        "\"base64\",\"media_type\":\"application/pdf\",\"data\":\"UERG\"}},{\"type\":\"document\",\"source\":{\"type\":"
        "\"text\",\"media_type\":\"text/plain\",\"data\":\"plain\"}}]},"
        "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"sig\"},"
        "{\"type\":\"redacted_thinking\",\"data\":\"enc\"},{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\","
        "\"input\":{\"q\" : \"a\\\"\\n\"},\"caller\":{\"type\":\"direct\"}},{\"type\":\"tool_use\",\"id\":\"t2\","
        "\"name\":\"g\",\"input\":{}}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"and\"},{\"type\":\"tool_result\",\"tool_use_"
        "id\":"
        "\"t1\",\"content\":[{\"type\":\"text\",\"text\":\"r1\"}]},{\"type\":\"tool_result\",\"tool_use_id\":\"t2\","
        "\"is_error\":true,\"content\":\"broke\"}]},"
        "{\"role\":\"system\",\"content\":\"mind\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"t3\"}]},"
        "{\"role\":\"assistant\",\"content\":\"pre\"}]}",
        "{" HEAD
        ",\"messages\":[{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\","
        "\"text\":\"b\"}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"look\"},{\"type\":\"image_url\",\"image_url\":"
        "{\"url\":\"data:image/png;base64,QUI=\"}},{\"type\":\"image_url\",\"image_url\":{\"url\":\"https://x/y\"}},"
        "{\"type\":\"text\",\"text\":\"C\"},{\"type\":\"file\",\"file\":{\"filename\":\"T\",\"file_data\":"
        "\"data:application/pdf;base64,UERG\"}},{\"type\":\"text\",\"text\":\"plain\"}]},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"t1\",\"type\":\"function\",\"function\":"
        "{\"name\":\"f\",\"arguments\":\"{\\\"q\\\" : \\\"a\\\\\\\"\\\\n\\\"}\"}},{\"id\":\"t2\",\"type\":\"function\","
        "\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}],\"reasoning_details\":[{\"type\":\"reasoning.text\","
        "\"text\":\"hm\",\"signature\":\"sig\"},{\"type\":\"reasoning.encrypted\",\"data\":\"enc\"}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"t1\",\"content\":\"r1\"},"
        "{\"role\":\"tool\",\"tool_call_id\":\"t2\",\"content\":\"Error: broke\"},"
        "{\"role\":\"user\",\"content\":\"and\"},"
        "{\"role\":\"system\",\"content\":\"mind\"},"
        "{\"role\":\"tool\",\"tool_call_id\":\"t3\",\"content\":\"\"},"
        "{\"role\":\"assistant\",\"content\":\"pre\"}]}");
}

/* What is said to chat and back is the same request, for what both can say. */
static void expect_round_trip(const char *body) {
    struct buffer chat;
    struct buffer back;
    struct chat_verdict wrong;
    to_chat(body, &chat);
    buffer_init(&back, OUT_BYTES);
    struct chat_rewrite rewrite = {.stream = strstr(body, "\"stream\":true") != NULL};
    if (!anthropic_request_write(&doc, &rewrite, 1, &back, &wrong)) {
        fail_msg("%s: %s: %s", wrong.param, wrong.message, buffer_text(&chat));
    }
    expect_same_json(buffer_text(&back), body);
    buffer_fini(&chat);
    buffer_fini(&back);
}

static void round_trips_keep_everything(void **state) {
    (void)state;
#define TEXT_OF(text) "[{\"type\":\"text\",\"text\":\"" text "\"}]"
#define USER_SAYS(text) "{\"role\":\"user\",\"content\":" TEXT_OF(text) "}"
    expect_round_trip("{" HEAD ",\"messages\":[" USER_SAYS("Hi \\u00e9\\ud83d\\ude00 \\\"") "]}");
    expect_round_trip(
        "{\"model\":\"claude-opus-4-6\",\"max_tokens\":5000,\"stream\":true,\"stop_sequences\":[\"a\",\"b\"],"
        "\"system\":[{\"type\":\"text\",\"text\":\"s1\"},{\"type\":\"text\",\"text\":\"s2\"}],"
        "\"tools\":[{\"name\":\"f\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\",\"properties\":{\"q\":"
        "{\"type\":\"string\"}}},\"strict\":true},{\"name\":\"g\",\"input_schema\":{\"type\":\"object\"}}],"
        "\"tool_choice\":{\"type\":\"auto\",\"disable_parallel_tool_use\":true},\"thinking\":{\"type\":\"adaptive\"},"
        "\"output_config\":{\"effort\":\"max\",\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\"}}},"
        "\"metadata\":{\"user_id\":\"u\"},\"service_tier\":\"standard_only\",\"messages\":["
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"look\"},{\"type\":\"image\",\"source\":{"
        "\"type\":"
        "\"base64\",\"media_type\":\"image/png\",\"data\":\"QUI=\"}},{\"type\":\"image\",\"source\":{\"type\":\"url\","
        "\"url\":\"https://x/y\"}},{\"type\":\"document\",\"title\":\"T\",\"source\":{\"type\":\"base64\","
        "\"media_type\":\"application/pdf\",\"data\":\"UERG\"}}]},"
        "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"sig\"},"
        "{\"type\":\"redacted_thinking\",\"data\":\"enc\"},{\"type\":\"text\",\"text\":\"calling\"},{\"type\":"
        "\"tool_use\",\"id\":\"toolu_1\",\"name\":\"f\",\"input\":{\"q\":\"a\\\"\\n\\u00e9\",\"n\":"
        "12345678901234567890,"
        "\"deep\":[{\"x\":[null,true]}]}},{\"type\":\"tool_use\",\"id\":\"toolu_2\",\"name\":\"g\",\"input\":{}}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"toolu_1\",\"content\":\"r\"},"
        "{\"type\":\"tool_result\",\"tool_use_id\":\"toolu_2\",\"content\":[{\"type\":\"text\",\"text\":\"see\"},"
        "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"QUI=\"}}]},"
        "{\"type\":\"tool_result\",\"tool_use_id\":\"toolu_3\"},{\"type\":\"text\",\"text\":\"go on\"}]}]}");
    expect_round_trip("{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":9000,\"thinking\":{\"type\":\"enabled\","
                      "\"budget_tokens\":8192},\"messages\":[" USER_SAYS("Hi") "]}");
    expect_round_trip("{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":9,\"temperature\":0.5,\"top_p\":0.9,\"tools\":[{"
                      "\"name\":\"f\",\"input_schema\":{\"type\":\"object\"}}],\"tool_choice\":{\"type\":\"tool\","
                      "\"name\":\"f\"},\"system\":\"s\",\"messages\":[" USER_SAYS(
                          "Hi") ",{\"role\":\"assistant\",\"content\":" TEXT_OF("pre") "}]}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_are_read),
        cmocka_unit_test(what_is_missing_or_wrong_is_refused),
        cmocka_unit_test(long_model_names_are_not_found),
        cmocka_unit_test(counting_needs_no_cap),
        cmocka_unit_test(what_others_cannot_say_is_named),
        cmocka_unit_test(a_rewrite_changes_nothing_else),
        cmocka_unit_test(thinking_stays_below_a_lowered_cap),
        cmocka_unit_test(settings_become_chats),
        cmocka_unit_test(efforts_and_choices_become_chats),
        cmocka_unit_test(messages_become_chats),
        cmocka_unit_test(round_trips_keep_everything),
    };
    return cmocka_run_group_tests(tests, make_doc, free_doc);
}
