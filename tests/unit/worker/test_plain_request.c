#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "worker/plain_request.h"

#define COMPLETION(more) "{\"model\":\"m\",\"prompt\":\"Once upon a time\"" more "}"
#define RESPONSE(more) "{\"model\":\"m\",\"input\":\"Once upon a time\"" more "}"
#define EMBEDDING(more) "{\"model\":\"m\",\"input\":\"Once upon a time\"" more "}"

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

/* Texts are estimated, which is not this test's affair: a few short words may be off by this much. */
enum { ESTIMATE_SLACK_TOKENS = 2 };

static void expect_about(const char *body, int64_t tokens, int64_t least, int64_t most) {
    if (tokens < least - ESTIMATE_SLACK_TOKENS || tokens > most + ESTIMATE_SLACK_TOKENS) {
        fail_msg("%s: %lld tokens", body, (long long)tokens);
    }
}

static struct chat_request read_good(enum client_form form, const char *body) {
    struct chat_request request;
    struct chat_verdict verdict;
    if (!plain_request_read(&doc, span_text(body), form, &request, &verdict)) {
        fail_msg("%s refused: %s (%s)", body, verdict.message, verdict.param);
    }
    assert_int_equal(verdict.status, 0);
    assert_int_equal(request.form, form);
    return request;
}

static void expect_refusal(enum client_form form, struct span body, int status, const char *code, const char *param) {
    struct chat_request request;
    struct chat_verdict verdict;
    /* Memory of its own shows reads past the end. */
    char *copy = malloc(body.len + 1);
    assert_non_null(copy);
    memcpy(copy, body.base, body.len);
    if (plain_request_read(&doc, span_of(copy, body.len), form, &request, &verdict)) {
        fail_msg("%.*s was taken", SPAN_ARGUMENTS(body));
    }
    free(copy);
    if (verdict.status != status || strcmp(verdict.code, code) != 0 || strcmp(verdict.param, param) != 0) {
        fail_msg("%.*s: %d %s '%s' %s", SPAN_ARGUMENTS(body), verdict.status, verdict.code, verdict.param,
                 verdict.message);
    }
    assert_true(strlen(verdict.message) > 10);
    assert_null(strstr(verdict.message, "Once"));
}

struct refusal {
    const char *body;
    const char *code;
    const char *param;
};

static void expect_refusals(enum client_form form, const struct refusal *cases, size_t count) {
    for (size_t i = 0; i < count; i++) {
        expect_refusal(form, span_text(cases[i].body), 400, cases[i].code, cases[i].param);
    }
}

static void completions_are_read(void **state) {
    (void)state;
    struct chat_request request = read_good(CLIENT_COMPLETIONS, COMPLETION(""));
    assert_string_equal(request.model, "m");
    assert_false(request.stream || request.include_usage || request.has_tools || request.is_bound);
    assert_int_equal(request.choices, 1);
    assert_int_equal(request.max_tokens, 0);
    expect_about("a completion", request.prompt_tokens, 4, 4);
    request = read_good(CLIENT_COMPLETIONS, COMPLETION(",\"max_tokens\":9,\"n\":2,\"best_of\":5,\"stream\":true,"
                                                       "\"stream_options\":{\"include_usage\":true},\"user\":\"u\","
                                                       "\"echo\":true,\"suffix\":\"s\",\"logprobs\":5,\"seed\":-1,"
                                                       "\"stop\":[\"a\"],\"logit_bias\":{\"50256\":-100},\"x\":[1]"));
    assert_true(request.stream && request.include_usage);
    assert_int_equal(request.choices, 5);
    assert_int_equal(request.max_tokens, 9);
    assert_string_equal(request.end_user, "u");
    request = read_good(CLIENT_COMPLETIONS, COMPLETION(",\"max_tokens\":null,\"n\":null,\"best_of\":null,\"stop\":null,"
                                                       "\"stream_options\":null,\"suffix\":null,\"logprobs\":null"));
    assert_int_equal(request.max_tokens, 0);
    assert_int_equal(request.choices, 1);
    /* Nothing is generated; one token is held, and no cap may be put in its place. */
    request = read_good(CLIENT_COMPLETIONS, COMPLETION(",\"max_tokens\":0,\"echo\":true"));
    assert_int_equal(request.max_tokens, 1);
    assert_int_equal(request.max_tokens_value, 0);
}

/* Every prompt has choices of its own; tokens count as what they are. */
static void prompts_are_counted(void **state) {
    (void)state;
    static const struct {
        const char *prompt;
        int64_t choices;
        int64_t tokens;
    } cases[] = {
        {"\"\"", 3, 0},
        {"\"Once upon a time\"", 3, 4},
        {"[\"Once upon a time\"]", 3, 4},
        {"[\"Once upon a time\",\"Once upon a time\"]", 6, 8},
        {"[1,2,3,4,5]", 3, 5},
        {"[0,2147483647]", 3, 2},
        {"[[1,2],[3],[4,5,6]]", 9, 6},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char body[256];
        (void)snprintf(body, sizeof(body), "{\"n\":3,\"model\":\"m\",\"prompt\":%s}", cases[i].prompt);
        struct chat_request request = read_good(CLIENT_COMPLETIONS, body);
        assert_int_equal(request.choices, cases[i].choices);
        expect_about(body, request.prompt_tokens, cases[i].tokens, cases[i].tokens);
        (void)snprintf(body, sizeof(body), "{\"model\":\"m\",\"input\":%s}", cases[i].prompt);
        request = read_good(CLIENT_EMBEDDINGS, body);
        assert_int_equal(request.choices, 1);
        expect_about(body, request.prompt_tokens, cases[i].tokens, cases[i].tokens);
    }
    assert_int_equal(read_good(CLIENT_EMBEDDINGS, "{\"model\":\"m\",\"input\":[[7,8],[9]]}").prompt_tokens, 3);
}

static void bad_completions_are_refused(void **state) {
    (void)state;
    static const struct refusal cases[] = {
        {"", "invalid_json", ""},
        {"[]", "invalid_json", ""},
        {COMPLETION("") "x", "invalid_json", ""},
        {COMPLETION(",\"a\":\"\xFF\""), "invalid_json", ""},
        {"{}", "missing_field", "model"},
        {"{\"prompt\":\"Once\"}", "missing_field", "model"},
        {"{\"model\":\"m\"}", "missing_field", "prompt"},
        {"{\"model\":\"m\",\"input\":\"Once\"}", "missing_field", "prompt"},
        {"{\"model\":7,\"prompt\":\"Once\"}", "invalid_value", "model"},
        {"{\"model\":\"\",\"prompt\":\"Once\"}", "invalid_value", "model"},
        {"{\"model\":\"m\",\"prompt\":null}", "invalid_value", "prompt"},
        {"{\"model\":\"m\",\"prompt\":7}", "invalid_value", "prompt"},
        {"{\"model\":\"m\",\"prompt\":{}}", "invalid_value", "prompt"},
        {"{\"model\":\"m\",\"prompt\":[]}", "invalid_value", "prompt"},
        {"{\"model\":\"m\",\"prompt\":[[]]}", "invalid_value", "prompt"},
        {"{\"model\":\"m\",\"prompt\":[\"a\",1]}", "invalid_value", "prompt"},
        {"{\"model\":\"m\",\"prompt\":[1,\"a\"]}", "invalid_value", "prompt"},
        {"{\"model\":\"m\",\"prompt\":[1,-1]}", "invalid_value", "prompt"},
        {"{\"model\":\"m\",\"prompt\":[1.5]}", "invalid_value", "prompt"},
        {"{\"model\":\"m\",\"prompt\":[99999999999]}", "invalid_value", "prompt"},
        {"{\"model\":\"m\",\"prompt\":[[1],[\"a\"]]}", "invalid_value", "prompt"},
        {"{\"model\":\"m\",\"prompt\":[[1],2]}", "invalid_value", "prompt"},
        {"{\"model\":\"m\",\"prompt\":[[[1]]]}", "invalid_value", "prompt"},
        {"{\"model\":\"m\",\"prompt\":[{\"text\":\"a\"}]}", "invalid_value", "prompt"},
        {COMPLETION(",\"stream\":1"), "invalid_value", "stream"},
        {COMPLETION(",\"stream_options\":[]"), "invalid_value", "stream_options"},
        {COMPLETION(",\"stream_options\":{\"include_usage\":1}"), "invalid_value", "stream_options.include_usage"},
        {COMPLETION(",\"stream_options\":{\"include_usage\":true,\"include_usage\":false}"), "invalid_value",
         "stream_options.include_usage"},
        {COMPLETION(",\"max_tokens\":-1"), "invalid_value", "max_tokens"},
        {COMPLETION(",\"max_tokens\":1.5"), "invalid_value", "max_tokens"},
        {COMPLETION(",\"max_tokens\":\"9\""), "invalid_value", "max_tokens"},
        {COMPLETION(",\"max_tokens\":2147483648"), "invalid_value", "max_tokens"},
        {COMPLETION(",\"n\":0"), "invalid_value", "n"},
        {COMPLETION(",\"n\":129"), "invalid_value", "n"},
        {COMPLETION(",\"n\":1e1"), "invalid_value", "n"},
        {COMPLETION(",\"best_of\":0"), "invalid_value", "best_of"},
        {COMPLETION(",\"best_of\":1000"), "invalid_value", "best_of"},
        {COMPLETION(",\"best_of\":2,\"n\":3"), "invalid_value", "best_of"},
        {COMPLETION(",\"echo\":1"), "invalid_value", "echo"},
        {COMPLETION(",\"suffix\":1"), "invalid_value", "suffix"},
        {COMPLETION(",\"logprobs\":true"), "invalid_value", "logprobs"},
        {COMPLETION(",\"temperature\":3"), "invalid_value", "temperature"},
        {COMPLETION(",\"stop\":[1]"), "invalid_value", "stop"},
        {COMPLETION(",\"user\":{}"), "invalid_value", "user"},
        {COMPLETION(",\"prompt\":\"b\""), "invalid_value", "prompt"},
        {COMPLETION(",\"pr\\u006fmpt\":\"b\""), "invalid_value", "prompt"},
        {COMPLETION(",\"model\":\"b\""), "invalid_value", "model"},
        {COMPLETION(",\"max_tokens\":1,\"max_tokens\":2"), "invalid_value", "max_tokens"},
        {COMPLETION(",\"n\":1,\"n\":2"), "invalid_value", "n"},
        {COMPLETION(",\"best_of\":1,\"best_of\":2"), "invalid_value", "best_of"},
        {COMPLETION(",\"stream\":true,\"stream\":true"), "invalid_value", "stream"},
    };
    expect_refusals(CLIENT_COMPLETIONS, cases, sizeof(cases) / sizeof(cases[0]));
    expect_refusal(CLIENT_COMPLETIONS, SPAN_LITERAL("{\"model\":\"m\\u0000x\",\"prompt\":\"Once\"}"), 404,
                   "model_not_found", "model");
}

static void responses_are_read(void **state) {
    (void)state;
    struct chat_request request = read_good(CLIENT_RESPONSES, RESPONSE(""));
    assert_false(request.stream || request.include_usage || request.has_tools || request.is_bound);
    assert_int_equal(request.choices, 1);
    assert_int_equal(request.max_tokens, 0);
    expect_about("a response", request.prompt_tokens, 4 + 4 + 3, 4 + 4 + 3);
    request = read_good(
        CLIENT_RESPONSES,
        RESPONSE(",\"max_output_tokens\":64,\"stream\":true,\"stream_options\":{\"include_obfuscation\":"
                 "false,\"include_usage\":true},\"tools\":[{\"type\":\"function\",\"name\":\"f\"},"
                 "{\"type\":\"web_search\"}],\"safety_identifier\":\"s\",\"store\":false,\"background\":false,"
                 "\"reasoning\":{\"effort\":\"low\"},\"text\":{\"format\":{\"type\":\"text\"}},"
                 "\"include\":[\"reasoning.encrypted_content\"],\"truncation\":\"auto\",\"n\":7"));
    assert_true(request.stream && request.has_tools);
    assert_false(request.include_usage);
    assert_int_equal(request.max_tokens, 64);
    assert_int_equal(request.choices, 1);
    assert_string_equal(request.end_user, "s");
    assert_string_equal(
        read_good(CLIENT_RESPONSES, RESPONSE(",\"safety_identifier\":\"s\",\"user\":\"u\",\"metadata\":{}")).end_user,
        "u");
    assert_string_equal(read_good(CLIENT_RESPONSES, RESPONSE(",\"metadata\":{\"user_id\":\"w\"}")).end_user, "w");
    assert_true(read_good(CLIENT_RESPONSES, RESPONSE(",\"previous_response_id\":\"resp_1\"")).is_bound);
    assert_true(read_good(CLIENT_RESPONSES, RESPONSE(",\"conversation\":{\"id\":\"conv_1\"}")).is_bound);
    assert_false(
        read_good(CLIENT_RESPONSES, RESPONSE(",\"conversation\":null,\"previous_response_id\":null,\"tools\":null,"
                                             "\"background\":null,\"max_output_tokens\":null,\"store\":true"))
            .is_bound);
    /* What the upstream keeps can stand in for input. */
    (void)read_good(CLIENT_RESPONSES, "{\"model\":\"m\",\"previous_response_id\":\"resp_1\"}");
    (void)read_good(CLIENT_RESPONSES, "{\"model\":\"m\",\"conversation\":\"conv_1\",\"input\":[]}");
    (void)read_good(CLIENT_RESPONSES, "{\"model\":\"m\",\"prompt\":{\"id\":\"pmpt_1\"},\"input\":null}");
}

#define ITEMS(items) "{\"model\":\"m\",\"input\":[" items "]}"

static void items_are_of_any_type(void **state) {
    (void)state;
    int64_t plain = read_good(CLIENT_RESPONSES, RESPONSE("")).prompt_tokens;
    static const struct {
        const char *body;
        int64_t least;
        int64_t most;
    } cases[] = {
        {ITEMS("{\"role\":\"user\",\"content\":\"Once upon a time\"}"), 11, 11},
        {ITEMS("{\"type\":\"message\",\"role\":\"user\",\"status\":\"completed\",\"id\":\"msg_1\",\"content\":[{"
               "\"type\":\"input_text\",\"text\":\"Once upon a time\"}]}"),
         11, 11},
        {ITEMS("{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"Once "
               "upon a time\",\"annotations\":[]},{\"type\":\"refusal\",\"refusal\":\"a time\"}]}"),
         13, 13},
        {ITEMS("{\"role\":\"user\",\"content\":[{\"type\":\"input_image\",\"image_url\":\"data:AAAA\"},"
               "{\"type\":\"input_image\",\"detail\":\"low\",\"file_id\":\"file-1\"}]}"),
         7 + 765 + 85, 7 + 765 + 85},
        {ITEMS("{\"role\":\"user\",\"content\":[{\"type\":\"input_file\",\"file_data\":\"AAAA\"},{\"type\":"
               "\"input_audio\",\"input_audio\":{\"data\":\"AAAA\"}}]}"),
         2507, 2507},
        {ITEMS("{\"type\":\"function_call\",\"call_id\":\"call_1\",\"id\":\"fc_1\",\"name\":\"get_time\","
               "\"arguments\":\"{}\"}"),
         8, 13},
        {ITEMS("{\"type\":\"function_call_output\",\"call_id\":\"call_1\",\"output\":\"Once upon a time\"}"), 11, 11},
        {ITEMS("{\"type\":\"function_call_output\",\"call_id\":\"call_1\",\"output\":[{\"type\":\"input_text\","
               "\"text\":\"Once upon a time\"},{\"type\":\"input_image\",\"file_id\":\"f\"}]}"),
         11 + 765, 11 + 765},
        {ITEMS("{\"type\":\"computer_call_output\",\"call_id\":\"c\",\"output\":{\"type\":\"computer_screenshot\","
               "\"image_url\":\"data:AAAA\"}}"),
         7 + 765, 7 + 765},
        {ITEMS("{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"Once upon a "
               "time\"}],\"content\":null,\"encrypted_content\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"),
         18, 18},
        {ITEMS("{\"type\":\"item_reference\",\"id\":\"msg_1\"}"), 7, 7},
        {ITEMS("{\"id\":\"msg_1\"}"), 7, 7},
        {ITEMS("{\"type\":\"something_new\",\"payload\":{\"deep\":[{\"a\":\"Once upon a time\"}]}}"), 11, 25},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_about(cases[i].body, read_good(CLIENT_RESPONSES, cases[i].body).prompt_tokens, cases[i].least,
                     cases[i].most);
    }
    int64_t tokens = read_good(CLIENT_RESPONSES, RESPONSE(",\"instructions\":\"Once upon a time\"")).prompt_tokens;
    expect_about("instructions", tokens, plain + 8, plain + 8);
    assert_true(read_good(CLIENT_RESPONSES, RESPONSE(",\"tools\":[{\"type\":\"function\",\"name\":\"get_weather\","
                                                     "\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{"
                                                     "\"type\":\"string\"}}}}]"))
                    .prompt_tokens > plain + 20);
    assert_true(read_good(CLIENT_RESPONSES, RESPONSE(",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"x\","
                                                     "\"schema\":{\"type\":\"object\",\"properties\":{}}}}"))
                    .prompt_tokens > plain + 5);
    tokens =
        read_good(CLIENT_RESPONSES, RESPONSE(",\"prompt\":{\"id\":\"p\",\"variables\":{\"a\":\"Once upon a time\"}}"))
            .prompt_tokens;
    expect_about("variables", tokens, plain + 4, plain + 4);
}

static void bad_responses_are_refused(void **state) {
    (void)state;
    static const struct refusal cases[] = {
        {"null", "invalid_json", ""},
        {"{\"input\":\"Once\"}", "missing_field", "model"},
        {"{\"model\":\"m\"}", "missing_field", "input"},
        {"{\"model\":\"m\",\"messages\":[]}", "missing_field", "input"},
        {"{\"model\":\"m\",\"previous_response_id\":null}", "missing_field", "input"},
        {"{\"model\":null,\"input\":\"Once\"}", "invalid_value", "model"},
        {"{\"model\":\"m\",\"input\":null}", "invalid_value", "input"},
        {"{\"model\":\"m\",\"input\":7}", "invalid_value", "input"},
        {"{\"model\":\"m\",\"input\":{}}", "invalid_value", "input"},
        {ITEMS(""), "invalid_value", "input"},
        {ITEMS("7"), "invalid_value", "input[0]"},
        {ITEMS("\"Once\""), "invalid_value", "input[0]"},
        {ITEMS("{}"), "missing_field", "input[0].role"},
        {ITEMS("{\"type\":7}"), "invalid_value", "input[0].type"},
        {ITEMS("{\"role\":7,\"content\":\"\"}"), "invalid_value", "input[0].role"},
        {ITEMS("{\"role\":\"\",\"content\":\"\"}"), "invalid_value", "input[0].role"},
        {ITEMS("{\"role\":\"user\"}"), "missing_field", "input[0].content"},
        {ITEMS("{\"role\":\"user\",\"content\":7}"), "invalid_value", "input[0].content"},
        {ITEMS("{\"role\":\"user\",\"content\":[\"Once\"]}"), "invalid_value", "input[0].content"},
        {ITEMS("{\"role\":\"user\",\"content\":\"\"},{\"type\":\"message\",\"role\":\"user\",\"content\":[{}]}"),
         "invalid_value", "input[1].content"},
        {ITEMS("{\"role\":\"user\",\"content\":\"a\",\"content\":\"b\"}"), "invalid_value", "input[0]"},
        {ITEMS("{\"role\":\"user\",\"content\":\"a\",\"r\\u006fle\":\"b\"}"), "invalid_value", "input[0]"},
        {RESPONSE(",\"background\":true"), "invalid_value", "background"},
        {RESPONSE(",\"background\":\"yes\""), "invalid_value", "background"},
        {RESPONSE(",\"background\":false,\"background\":true"), "invalid_value", "background"},
        {RESPONSE(",\"stream\":\"true\""), "invalid_value", "stream"},
        {RESPONSE(",\"stream_options\":true"), "invalid_value", "stream_options"},
        {RESPONSE(",\"max_output_tokens\":0"), "invalid_value", "max_output_tokens"},
        {RESPONSE(",\"max_output_tokens\":-5"), "invalid_value", "max_output_tokens"},
        {RESPONSE(",\"max_output_tokens\":99999999999"), "invalid_value", "max_output_tokens"},
        {RESPONSE(",\"max_output_tokens\":1,\"max_output_tokens\":1"), "invalid_value", "max_output_tokens"},
        {RESPONSE(",\"tools\":{}"), "invalid_value", "tools"},
        {RESPONSE(",\"tools\":[7]"), "invalid_value", "tools[0].type"},
        {RESPONSE(",\"tools\":[{\"type\":\"web_search\"},{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"),
         "invalid_value", "tools[1].name"},
        {RESPONSE(",\"tool_choice\":7"), "invalid_value", "tool_choice"},
        {RESPONSE(",\"instructions\":[]"), "invalid_value", "instructions"},
        {RESPONSE(",\"previous_response_id\":7"), "invalid_value", "previous_response_id"},
        {RESPONSE(",\"conversation\":[]"), "invalid_value", "conversation"},
        {RESPONSE(",\"reasoning\":\"low\""), "invalid_value", "reasoning"},
        {RESPONSE(",\"store\":\"no\""), "invalid_value", "store"},
        {RESPONSE(",\"text\":\"x\""), "invalid_value", "text"},
        {RESPONSE(",\"metadata\":7"), "invalid_value", "metadata"},
        {RESPONSE(",\"temperature\":-1"), "invalid_value", "temperature"},
        {RESPONSE(",\"input\":\"b\""), "invalid_value", "input"},
        {RESPONSE(",\"service_tier\":\"a\",\"service_tier\":\"b\""), "invalid_value", "service_tier"},
    };
    expect_refusals(CLIENT_RESPONSES, cases, sizeof(cases) / sizeof(cases[0]));
}

static void embeddings_are_read(void **state) {
    (void)state;
    struct chat_request request =
        read_good(CLIENT_EMBEDDINGS,
                  EMBEDDING(",\"encoding_format\":\"base64\",\"dimensions\":256,\"user\":\"u\",\"stream\":false"));
    assert_false(request.stream || request.include_usage);
    assert_int_equal(request.choices, 1);
    assert_int_equal(request.max_tokens, 1);
    assert_string_equal(request.end_user, "u");
    static const struct refusal cases[] = {
        {"{\"input\":\"Once\"}", "missing_field", "model"},
        {"{\"model\":\"m\"}", "missing_field", "input"},
        {"{\"model\":\"m\",\"input\":null}", "invalid_value", "input"},
        {"{\"model\":\"m\",\"input\":[]}", "invalid_value", "input"},
        {"{\"model\":\"m\",\"input\":[null]}", "invalid_value", "input"},
        {"{\"model\":\"m\",\"input\":[\"a\",[1]]}", "invalid_value", "input"},
        {EMBEDDING(",\"stream\":true"), "invalid_value", "stream"},
        {EMBEDDING(",\"stream\":1"), "invalid_value", "stream"},
        {EMBEDDING(",\"encoding_format\":7"), "invalid_value", "encoding_format"},
        {EMBEDDING(",\"dimensions\":0"), "invalid_value", "dimensions"},
        {EMBEDDING(",\"dimensions\":\"9\""), "invalid_value", "dimensions"},
        {EMBEDDING(",\"user\":7"), "invalid_value", "user"},
        {EMBEDDING(",\"input\":\"b\""), "invalid_value", "input"},
        {EMBEDDING(",\"stream\":false,\"stream\":false"), "invalid_value", "stream"},
    };
    expect_refusals(CLIENT_EMBEDDINGS, cases, sizeof(cases) / sizeof(cases[0]));
}

static void append_many(struct buffer *body, const char *text, int times) {
    for (int i = 0; i < times; i++) {
        buffer_append_text(body, text);
    }
}

static void sizes_are_bounded(void **state) {
    (void)state;
    struct buffer body;
    buffer_init(&body, 8 << 20);
    for (int count = 2048; count <= 2049; count++) {
        buffer_clear(&body);
        buffer_append_text(&body, "{\"model\":\"m\",\"n\":128,\"prompt\":[\"a\"");
        append_many(&body, ",\"a\"", count - 1);
        buffer_append_text(&body, "]}");
        if (count == 2048) {
            struct chat_request request = read_good(CLIENT_COMPLETIONS, buffer_text(&body));
            assert_int_equal(request.choices, 128 * 2048);
            assert_in_range(request.prompt_tokens, 1024, 4096);
        } else {
            expect_refusal(CLIENT_COMPLETIONS, buffer_span(&body), 400, "invalid_value", "prompt");
        }
    }
    /* Tokens are no prompts of their own. */
    buffer_clear(&body);
    buffer_append_text(&body, "{\"model\":\"m\",\"input\":[1");
    append_many(&body, ",1", 100000);
    buffer_append_text(&body, "]}");
    assert_int_equal(read_good(CLIENT_EMBEDDINGS, buffer_text(&body)).prompt_tokens, 100001);
    for (int depth = 120; depth <= 140; depth += 20) {
        buffer_clear(&body);
        buffer_append_text(&body, "{\"model\":\"m\",\"input\":[{\"type\":\"x\",\"content\":");
        append_many(&body, "[", depth);
        append_many(&body, "]", depth);
        buffer_append_text(&body, "}]}");
        if (depth < JSON_DEPTH_MOST) {
            (void)read_good(CLIENT_RESPONSES, buffer_text(&body));
        } else {
            expect_refusal(CLIENT_RESPONSES, buffer_span(&body), 400, "invalid_json", "");
        }
    }
    buffer_clear(&body);
    buffer_append_text(&body, "{\"input\":\"Once\",\"model\":\"");
    append_many(&body, "m", CHAT_MODEL_BYTES);
    buffer_append_text(&body, "\"}");
    expect_refusal(CLIENT_EMBEDDINGS, buffer_span(&body), 404, "model_not_found", "model");
    buffer_fini(&body);
}

static void expect_rewrite(enum client_form form, const char *body, struct chat_rewrite rewrite, const char *expected) {
    struct chat_request request = read_good(form, body);
    struct buffer out;
    buffer_init(&out, 1 << 16);
    assert_true(plain_request_rewrite(&request, &rewrite, &out));
    if (strcmp(buffer_text(&out), expected) != 0) {
        fail_msg("%s became %s, not %s", body, buffer_text(&out), expected);
    }
    assert_true(json_parse(&doc, buffer_span(&out)));
    assert_int_equal(json_duplicate(&doc, 0), -1);
    buffer_fini(&out);
}

static void rewriting_changes_nothing_else(void **state) {
    (void)state;
    static const char *const odd = " {\"big\":123456789012345678901234567890, \"model\" : \"m\",\"input\":\"\\ud83d"
                                   "\\ude00\\/\" ,\"prompt\":{}}\n";
    static const enum client_form forms[] = {CLIENT_RESPONSES, CLIENT_EMBEDDINGS};
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        expect_rewrite(forms[i], odd, (struct chat_rewrite){.model = NULL}, odd);
        expect_rewrite(forms[i], odd, (struct chat_rewrite){.model = "q\"x"},
                       " {\"big\":123456789012345678901234567890, \"model\" : \"q\\\"x\",\"input\":\"\\ud83d"
                       "\\ude00\\/\" ,\"prompt\":{}}\n");
    }
}

static void streams_ask_for_usage_where_there_is_an_option(void **state) {
    (void)state;
    const struct chat_rewrite stream = {.stream = true};
    expect_rewrite(CLIENT_COMPLETIONS, COMPLETION(""), stream,
                   COMPLETION(",\"stream\":true,\"stream_options\":{\"include_usage\":true}"));
    expect_rewrite(CLIENT_COMPLETIONS, COMPLETION(",\"stream_options\":{\"x\":1},\"stream\":true"), stream,
                   COMPLETION(",\"stream_options\":{\"include_usage\":true,\"x\":1},\"stream\":true"));
    expect_rewrite(CLIENT_COMPLETIONS, COMPLETION(",\"stream_options\":{\"include_usage\":false},\"stream\":null"),
                   stream, COMPLETION(",\"stream_options\":{\"include_usage\":true},\"stream\":true"));
    expect_rewrite(CLIENT_COMPLETIONS, COMPLETION(",\"stream\":true"), (struct chat_rewrite){.stream = false},
                   COMPLETION(",\"stream\":false"));
    expect_rewrite(CLIENT_RESPONSES, RESPONSE(""), stream, RESPONSE(",\"stream\":true"));
    expect_rewrite(CLIENT_RESPONSES, RESPONSE(",\"stream\":false,\"stream_options\":{}"), stream,
                   RESPONSE(",\"stream\":true,\"stream_options\":{}"));
    expect_rewrite(CLIENT_EMBEDDINGS, EMBEDDING(""), stream, EMBEDDING(""));
}

static void caps_are_lowered_never_raised(void **state) {
    (void)state;
    const struct chat_rewrite cap = {.max_tokens = 10, .wants_max_completion_tokens = true};
    expect_rewrite(CLIENT_COMPLETIONS, COMPLETION(""), cap, COMPLETION(",\"max_tokens\":10"));
    expect_rewrite(CLIENT_COMPLETIONS, COMPLETION(",\"max_tokens\":null"), cap, COMPLETION(",\"max_tokens\":10"));
    expect_rewrite(CLIENT_COMPLETIONS, COMPLETION(",\"max_tokens\":11"), cap, COMPLETION(",\"max_tokens\":10"));
    expect_rewrite(CLIENT_COMPLETIONS, COMPLETION(",\"max_tokens\":9"), cap, COMPLETION(",\"max_tokens\":9"));
    expect_rewrite(CLIENT_COMPLETIONS, COMPLETION(",\"max_tokens\":0"), cap, COMPLETION(",\"max_tokens\":0"));
    expect_rewrite(CLIENT_RESPONSES, RESPONSE(""), cap, RESPONSE(",\"max_output_tokens\":10"));
    expect_rewrite(CLIENT_RESPONSES, RESPONSE(",\"max_output_tokens\":null"), cap,
                   RESPONSE(",\"max_output_tokens\":10"));
    expect_rewrite(CLIENT_RESPONSES, RESPONSE(",\"max_output_tokens\":64"), cap, RESPONSE(",\"max_output_tokens\":10"));
    expect_rewrite(CLIENT_RESPONSES, RESPONSE(",\"max_output_tokens\":5"), cap, RESPONSE(",\"max_output_tokens\":5"));
    expect_rewrite(CLIENT_EMBEDDINGS, EMBEDDING(""), cap, EMBEDDING(""));
}

static void full_buffers_are_told(void **state) {
    (void)state;
    struct chat_request request = read_good(CLIENT_RESPONSES, RESPONSE(""));
    struct buffer out;
    buffer_init(&out, 20);
    assert_false(plain_request_rewrite(&request, &(struct chat_rewrite){.stream = true}, &out));
    buffer_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completions_are_read),
        cmocka_unit_test(prompts_are_counted),
        cmocka_unit_test(bad_completions_are_refused),
        cmocka_unit_test(responses_are_read),
        cmocka_unit_test(items_are_of_any_type),
        cmocka_unit_test(bad_responses_are_refused),
        cmocka_unit_test(embeddings_are_read),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(rewriting_changes_nothing_else),
        cmocka_unit_test(streams_ask_for_usage_where_there_is_an_option),
        cmocka_unit_test(caps_are_lowered_never_raised),
        cmocka_unit_test(full_buffers_are_told),
    };
    return cmocka_run_group_tests(tests, make_doc, free_doc);
}
