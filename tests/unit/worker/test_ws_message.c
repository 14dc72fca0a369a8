#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/ws_message.h"

#include <stdio.h>

#include "worker/ws_handshake.h"

enum { BODY_BYTES = 1 << 16 };

struct made {
    struct json_doc doc;
    struct ws_message message;
    struct verdict verdict;
    struct buffer body;
    struct span asked;
};

static void made_init(struct made *made) {
    memset(made, 0, sizeof(*made));
    json_doc_init(&made->doc);
    buffer_init(&made->body, BODY_BYTES);
}

static void made_fini(struct made *made) {
    json_doc_fini(&made->doc);
    buffer_fini(&made->body);
}

static bool read_text(struct made *made, const char *text, enum ws_form form) {
    return ws_message_read(&made->doc, span_text(text), form, &made->message, &made->verdict);
}

/* --- reading --- */

static void test_types_and_ids(void **state) {
    static const struct {
        const char *text;
        enum ws_type type;
        const char *id;
    } cases[] = {
        {"{\"type\":\"ping\"}", WS_TYPE_PING, ""},
        {"{\"type\":\"chat.completion\",\"id\":null}", WS_TYPE_COMPLETION, ""},
        {" { \"id\" : \"a\" , \"type\" : \"cancel\" } ", WS_TYPE_CANCEL, "\"a\""},
        {"{\"type\":\"cancel\",\"id\":\"\\u0061\"}", WS_TYPE_CANCEL, "\"a\""},
        {"{\"type\":\"can\\u0063el\",\"id\":-7}", WS_TYPE_CANCEL, "-7"},
        {"{\"type\":\"context.update\",\"id\":\"\\\"\\n\"}", WS_TYPE_CONTEXT, "\"\\\"\\n\""},
    };
    struct made made;
    (void)state;
    made_init(&made);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(read_text(&made, cases[i].text, WS_FORM_CONTENT));
        assert_int_equal(made.message.type, cases[i].type);
        assert_string_equal(made.message.id, cases[i].id);
    }
    made_fini(&made);
}

static void test_bad_messages(void **state) {
    static const struct {
        const char *text;
        enum error_kind kind;
        const char *id;
    } cases[] = {
        {"", ERROR_invalid_json, ""},
        {"{", ERROR_invalid_json, ""},
        {"[]", ERROR_invalid_json, ""},
        {"{}", ERROR_missing_field, ""},
        {"{\"id\":\"x\"}", ERROR_missing_field, "\"x\""},
        {"{\"id\":\"x\",\"type\":\"other\"}", ERROR_invalid_value, "\"x\""},
        {"{\"type\":[],\"id\":1}", ERROR_invalid_value, "1"},
        {"{\"type\":\"ping\",\"id\":true}", ERROR_invalid_value, ""},
        {"{\"type\":\"ping\",\"id\":1e3}", ERROR_invalid_value, ""},
        {"{\"type\":\"ping\",\"id\":99999999999999999999}", ERROR_invalid_value, ""},
        {"{\"type\":\"ping\",\"id\":\"a\\u0000b\"}", ERROR_invalid_value, ""},
    };
    struct made made;
    (void)state;
    made_init(&made);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_false(read_text(&made, cases[i].text, WS_FORM_STREAM));
        assert_int_equal(made.verdict.kind, cases[i].kind);
        assert_string_equal(made.message.id, cases[i].id);
    }
    made_fini(&made);
}

static void test_ids_of_every_length(void **state) {
    char text[400];
    struct made made;
    (void)state;
    made_init(&made);
    for (int len = 1; len < 200; len++) {
        (void)snprintf(text, sizeof(text), "{\"type\":\"ping\",\"id\":\"%0*d\"}", len, 0);
        assert_int_equal(read_text(&made, text, WS_FORM_CONTENT), len <= 128);
    }
    made_fini(&made);
}

static void test_chunk_connections_know_only_bodies_and_pings(void **state) {
    struct made made;
    (void)state;
    made_init(&made);
    assert_true(read_text(&made, "{\"type\":\"ping\"}", WS_FORM_CHUNKS));
    assert_int_equal(made.message.type, WS_TYPE_PING);
    assert_true(read_text(&made, "{\"type\":\"cancel\",\"id\":[]}", WS_FORM_CHUNKS));
    assert_int_equal(made.message.type, WS_TYPE_COMPLETION);
    assert_string_equal(made.message.id, "");
    made_fini(&made);
}

/* --- bodies --- */

static void expect_body(const char *text, enum ws_form form, const char *model, const struct ws_memory *memory,
                        const char *body, const char *asked) {
    struct made made;
    made_init(&made);
    assert_true(read_text(&made, text, form));
    assert_true(ws_message_write_body(&made.doc, form, model, memory, &made.body, &made.asked, &made.verdict));
    assert_string_equal(buffer_text(&made.body), body);
    assert_int_equal(made.asked.len, strlen(asked));
    assert_true(made.asked.len == 0 || memcmp(made.asked.base, asked, made.asked.len) == 0);
    assert_true(json_parse(&made.doc, buffer_span(&made.body)));
    made_fini(&made);
}

#define STREAMS "\"stream\":true,\"stream_options\":{\"include_usage\":true}"

static void test_bodies(void **state) {
    struct ws_memory none;
    (void)state;
    ws_memory_init(&none, BODY_BYTES);
    expect_body("{\"type\":\"chat.completion\",\"id\":\"i\",\"model\":\"m\",\"messages\":[1, 2]}", WS_FORM_CONTENT, "",
                &none, "{\"model\":\"m\",\"messages\":[1, 2]," STREAMS "}", "1, 2");
    expect_body("{\"type\":\"chat.completion\"}", WS_FORM_CONTENT, "", &none, "{" STREAMS "}", "");
    expect_body("{\"type\":\"x\",\"id\":1}", WS_FORM_CHUNKS, "m\"", &none,
                "{\"type\":\"x\",\"id\":1,\"model\":\"m\\\"\"," STREAMS "}", "");
    expect_body("{\"model\":\"a\",\"stream\":false}", WS_FORM_CHUNKS, "b", &none, "{\"model\":\"a\"," STREAMS "}", "");
    expect_body("{\"stream_options\":{},\"stream\":true}", WS_FORM_CHUNKS, "", &none,
                "{\"stream_options\":{\"include_usage\":true},\"stream\":true}", "");
    expect_body("{\"stream_options\":{\"include_usage\":false,\"x\":{}},\"stream\":null}", WS_FORM_CHUNKS, "", &none,
                "{\"stream_options\":{\"x\":{},\"include_usage\":true},\"stream\":true}", "");
    ws_memory_fini(&none);
}

static void test_what_is_wrong_stays_wrong(void **state) {
    struct ws_memory none;
    (void)state;
    ws_memory_init(&none, BODY_BYTES);
    expect_body("{\"stream\":1}", WS_FORM_CHUNKS, "", &none,
                "{\"stream\":1,\"stream_options\":{\"include_usage\":true}}", "");
    expect_body("{\"stream_options\":7}", WS_FORM_CHUNKS, "", &none, "{\"stream_options\":7,\"stream\":true}", "");
    expect_body("{\"stream_options\":{},\"stream_options\":{}}", WS_FORM_CHUNKS, "", &none,
                "{\"stream_options\":{\"include_usage\":true},\"stream_options\":{},\"stream\":true}", "");
    expect_body("{\"model\":\"a\",\"model\":\"b\"}", WS_FORM_CHUNKS, "", &none,
                "{\"model\":\"a\",\"model\":\"b\"," STREAMS "}", "");
    ws_memory_fini(&none);
}

#define ASK(n) "{\"role\":\"user\",\"content\":\"" n "\"}"

static void test_conversations(void **state) {
    struct ws_memory memory;
    (void)state;
    ws_memory_init(&memory, BODY_BYTES);
    assert_true(ws_memory_set_context(&memory, SPAN_EMPTY));
    expect_body("{\"type\":\"chat.completion\",\"messages\":[" ASK("1") "]}", WS_FORM_CONTENT, "", &memory,
                "{" STREAMS ",\"messages\":[" ASK("1") "]}", ASK("1"));
    expect_body("{\"type\":\"chat.completion\"}", WS_FORM_CONTENT, "", &memory, "{" STREAMS ",\"messages\":[]}", "");
    ws_memory_add_turn(&memory, SPAN_LITERAL(ASK("1")), SPAN_LITERAL(ASK("2")));
    assert_true(ws_memory_set_context(&memory, SPAN_LITERAL(ASK("0"))));
    expect_body("{\"messages\":[" ASK("3") " ," ASK("4") "],\"type\":\"chat.completion\"}", WS_FORM_CONTENT, "",
                &memory,
                "{" STREAMS ",\"messages\":[" ASK("0") "," ASK("1") "," ASK("2") "," ASK("3") " ," ASK("4") "]}",
                ASK("3") " ," ASK("4"));
    expect_body("{\"type\":\"chat.completion\",\"messages\":null}", WS_FORM_CONTENT, "", &memory,
                "{" STREAMS ",\"messages\":[" ASK("0") "," ASK("1") "," ASK("2") "]}", "");
    ws_memory_fini(&memory);
}

static void test_own_messages_of_a_conversation_are_checked(void **state) {
    struct ws_memory memory;
    struct made made;
    (void)state;
    ws_memory_init(&memory, BODY_BYTES);
    assert_true(ws_memory_set_context(&memory, SPAN_LITERAL(ASK("0"))));
    made_init(&made);
    assert_true(read_text(&made, "{\"type\":\"chat.completion\",\"messages\":[" ASK("1") ",{}]}", WS_FORM_CONTENT));
    assert_false(
        ws_message_write_body(&made.doc, WS_FORM_CONTENT, "", &memory, &made.body, &made.asked, &made.verdict));
    assert_int_equal(made.verdict.kind, ERROR_missing_field);
    assert_string_equal(made.verdict.param, "messages[1].role");
    made_fini(&made);
    ws_memory_fini(&memory);
}

static void test_a_body_that_does_not_fit(void **state) {
    struct ws_memory none;
    (void)state;
    ws_memory_init(&none, BODY_BYTES);
    for (size_t cap = 0; cap < 100; cap++) {
        struct made made;
        made_init(&made);
        buffer_init(&made.body, cap);
        assert_true(
            read_text(&made, "{\"model\":\"m\",\"stream_options\":{\"x\":1},\"messages\":[1]}", WS_FORM_CHUNKS));
        bool fits =
            ws_message_write_body(&made.doc, WS_FORM_CHUNKS, "m", &none, &made.body, &made.asked, &made.verdict);
        assert_true(fits || made.verdict.kind == ERROR_body_too_large);
        assert_true(made.body.len <= cap);
        made_fini(&made);
    }
    ws_memory_fini(&none);
}

/* --- writing --- */

static void test_errors(void **state) {
    const struct verdict verdict = verdict_with(ERROR_invalid_value, "id", "No.");
    struct buffer out;
    (void)state;
    buffer_init(&out, 1 << 12);
    ws_message_write_verdict(&out, "\"a\"", &verdict);
    assert_string_equal(buffer_text(&out),
                        "{\"type\":\"error\",\"id\":\"a\",\"status\":400,\"error\":{\"message\":\"No.\","
                        "\"type\":\"invalid_request_error\",\"code\":\"invalid_value\",\"param\":\"id\"}}");
    buffer_clear(&out);
    ws_message_write_error(&out, "", 429, ws_message_error_of(SPAN_LITERAL(" {\"x\":1,\"error\": {\"code\":1}}")),
                           1500);
    assert_string_equal(
        buffer_text(&out),
        "{\"type\":\"error\",\"id\":null,\"status\":429,\"retry_after_ms\":1500,\"error\":{\"code\":1}}");
    buffer_clear(&out);
    ws_message_write_error(&out, "1", 200, ws_message_error_of(SPAN_LITERAL("{\"error\":\"text\"}")), 0);
    assert_non_null(strstr(buffer_text(&out), "\"upstream_error\""));
    buffer_fini(&out);
}

static void test_clean(void **state) {
    static const struct {
        const char *text;
        const char *clean;
    } cases[] = {
        {"", ""},
        {"plain", "plain"},
        {"Gr\xC3\xBC\xC3\x9F", "Gr\xC3\xBC\xC3\x9F"},
        {"\xFF", "\xEF\xBF\xBD"},
        {"a\xC3", "a\xEF\xBF\xBD"},
        {"\xC3(\xE2\x82\xAC\x80", "\xEF\xBF\xBD(\xE2\x82\xAC\xEF\xBF\xBD"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
    };
    struct buffer out;
    (void)state;
    buffer_init(&out, 1 << 12);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        buffer_clear(&out);
        ws_message_append_clean(&out, span_text(cases[i].text));
        assert_string_equal(buffer_text(&out), cases[i].clean);
    }
    buffer_fini(&out);
}

/* --- the handshake's texts --- */

static void test_subprotocols(void **state) {
    static const struct {
        const char *offered;
        const char *key;
        const char *chosen;
    } cases[] = {
        {"", "", ""},
        {"tollgate", "", "tollgate"},
        {"chat", "", ""},
        {"tollgate, tollgate.KEY", "KEY", "tollgate"},
        {"tollgate.KEY ,\ttollgate", "KEY", "tollgate"},
        {"realtime,openai-insecure-api-key.KEY", "KEY", "realtime"},
        {"openai-insecure-api-key.KEY", "KEY", ""},
        {"tollgate.", "", ""},
        {",,tollgate.KEY,,x", "KEY", "x"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(span_is(ws_handshake_key(span_text(cases[i].offered)), cases[i].key));
        assert_true(span_is(ws_handshake_protocol(span_text(cases[i].offered)), cases[i].chosen));
    }
}

static void test_coming_back(void **state) {
    static const struct {
        const char *after;
        bool is_good;
        struct ws_position position;
    } cases[] = {
        {"null", true, {0, 0}},
        {"0", true, {0, 0}},
        {"7", true, {7, 0}},
        {"\"7\"", true, {7, 0}},
        {"\"7.2\"", true, {7, 2}},
        {"4294967295", true, {UINT32_MAX, 0}},
        {"4294967296", false, {0, 0}},
        {"-1", false, {0, 0}},
        {"7.2", false, {0, 0}},
        {"1e1", false, {0, 0}},
        {"\"\"", false, {0, 0}},
        {"\"7.\"", false, {0, 0}},
        {"\".7\"", false, {0, 0}},
        {"\"7.2.1\"", false, {0, 0}},
        {"\"1.4294967296\"", false, {0, 0}},
        {"true", false, {0, 0}},
        {"[7]", false, {0, 0}},
        {"\"7\\u0000\"", false, {0, 0}},
        {"\" 7\"", false, {0, 0}},
        {"\"7.99999999999999999999\"", false, {0, 0}},
    };
    struct made made;
    char text[128];
    (void)state;
    made_init(&made);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)snprintf(text, sizeof(text), "{\"type\":\"resume\",\"id\":\"req_1\",\"after\":%s}", cases[i].after);
        assert_int_equal(read_text(&made, text, WS_FORM_CONTENT), cases[i].is_good);
        assert_string_equal(made.message.id, "\"req_1\"");
        if (cases[i].is_good) {
            assert_int_equal(made.message.type, WS_TYPE_RESUME);
            assert_memory_equal(&made.message.after, &cases[i].position, sizeof(cases[i].position));
        } else {
            assert_string_equal(made.verdict.param, "after");
        }
    }
    assert_false(read_text(&made, "{\"type\":\"resume\"}", WS_FORM_STREAM));
    assert_int_equal(made.verdict.kind, ERROR_missing_field);
    made_fini(&made);
}

static void test_a_wish_to_come_back(void **state) {
    struct made made;
    struct ws_memory memory;
    (void)state;
    made_init(&made);
    ws_memory_init(&memory, 0);
    assert_true(read_text(&made, "{\"type\":\"chat.completion\"}", WS_FORM_CONTENT));
    assert_int_equal(made.message.resumable, WS_WISH_NONE);
    assert_true(read_text(&made, "{\"type\":\"chat.completion\",\"resume\":false}", WS_FORM_CONTENT));
    assert_int_equal(made.message.resumable, WS_WISH_NO);
    assert_false(read_text(&made, "{\"type\":\"chat.completion\",\"resume\":1}", WS_FORM_CONTENT));
    assert_string_equal(made.verdict.param, "resume");
    assert_true(read_text(&made, "{\"type\":\"chat.completion\",\"resume\":true,\"messages\":[]}", WS_FORM_CONTENT));
    assert_int_equal(made.message.resumable, WS_WISH_YES);
    assert_true(ws_message_write_body(&made.doc, WS_FORM_CONTENT, "", &memory, &made.body, &made.asked, &made.verdict));
    assert_null(strstr(buffer_text(&made.body), "resume"));
    ws_memory_fini(&memory);
    made_fini(&made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types_and_ids),
        cmocka_unit_test(test_bad_messages),
        cmocka_unit_test(test_ids_of_every_length),
        cmocka_unit_test(test_chunk_connections_know_only_bodies_and_pings),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_what_is_wrong_stays_wrong),
        cmocka_unit_test(test_conversations),
        cmocka_unit_test(test_own_messages_of_a_conversation_are_checked),
        cmocka_unit_test(test_a_body_that_does_not_fit),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_subprotocols),
        cmocka_unit_test(test_coming_back),
        cmocka_unit_test(test_a_wish_to_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
