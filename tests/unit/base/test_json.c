#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/json_read.h"

#define ANY(literal) SPAN_LITERAL(literal)

static bool accepts(struct span text) {
    struct json_doc doc;
    json_doc_init(&doc);
    /* An exact copy on the heap, so that a sanitizer sees every read past the end. */
    char *copy = malloc(text.len != 0 ? text.len : 1);
    memcpy(copy, text.base, text.len);
    bool valid = json_parse(&doc, span_of(copy, text.len));
    assert_true(valid ? doc.error == NULL && doc.count > 0 : doc.error != NULL && doc.count == 0);
    assert_true(doc.error_at <= text.len);
    json_doc_fini(&doc);
    free(copy);
    return valid;
}

static const struct span accepted[] = {
    ANY("{}"),
    ANY("[]"),
    ANY(" \t\r\n{ \"a\" : [ 1 , 2 ] } \n"),
    ANY("1"),
    ANY(" 1 "),
    ANY("-0"),
    ANY("0"),
    ANY("-12.5e+10"),
    ANY("1E400"),
    ANY("0.0"),
    ANY("10"),
    ANY("99999999999999999999999999999999999999999999999999"),
    ANY("true"),
    ANY("false"),
    ANY("null"),
    ANY(" null\n"),
    ANY("\"\""),
    ANY("\"text\""),
    ANY("\"[{\""),
    ANY("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\""),
    ANY("\"\\ud800\""), /* lone surrogates are JSON's grammar */
    ANY("\"\\udc00x\""),
    ANY("\"\\u0000\""),
    ANY("\"\x7f\""),
    ANY("\"\xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf \xf0\x90\x80\x80 \xf4\x8f\xbf\xbf\""),
    ANY("{\"\":{\"\":[]}}"),
    ANY("{\"a\":1,\"a\":2}"),
    ANY("[[],{},[[]],\"\",0,null]"),
    ANY("{\"a\":[{\"b\":null},true],\"c\":\"d\"}"),
};

static const struct span refused[] = {
    ANY(""),
    ANY(" "),
    ANY("{"),
    ANY("["),
    ANY("}"),
    ANY("]"),
    ANY("{]"),
    ANY("[}"),
    ANY("[[]"),
    ANY("[]]"),
    ANY("{\"a\"}"),
    ANY("{\"a\":}"),
    ANY("{\"a\" 1}"),
    ANY("{\"a\"::1}"),
    ANY("{\"a\" : : 1}"),
    ANY("{\"a\":1 \"b\":2}"),
    ANY("{\"a\":1,}"),
    ANY("{,\"a\":1}"),
    ANY("{\"a\":1,,\"b\":2}"),
    ANY("{a:1}"),
    ANY("{'a':1}"),
    ANY("{1:1}"),
    ANY("{null:1}"),
    ANY("{[]:1}"),
    ANY("{\"a\":1:2}"),
    ANY("{\"a\",\"b\"}"),
    ANY("{\"a\":tru}"),
    ANY("{\"a\":\"b\" \"c\"}"),
    ANY("[1 2]"),
    ANY("[1,]"),
    ANY("[,1]"),
    ANY("[1,,2]"),
    ANY("[,]"),
    ANY("[\"a\":1]"),
    ANY("[1:2]"),
    ANY("[1}"),
    ANY("[--1]"),
    ANY("[+1]"),
    ANY("[tru]"),
    ANY("[truee]"),
    ANY("[True]"),
    ANY("[nul]"),
    ANY("nullx"),
    ANY("n"),
    ANY("tru"),
    ANY("NaN"),
    ANY("Infinity"),
    ANY("-Infinity"),
    ANY("01"),
    ANY("-01"),
    ANY("00"),
    ANY("1."),
    ANY("1.e3"),
    ANY(".5"),
    ANY("-.5"),
    ANY("-"),
    ANY("[-]"),
    ANY("1e"),
    ANY("1e+"),
    ANY("1E-"),
    ANY("1e5.5"),
    ANY("0x10"),
    ANY("1_000"),
    ANY("1 2"),
    ANY("{} {}"),
    ANY("{}x"),
    ANY("[],"),
    ANY("/* c */ 1"),
    ANY("// c\n1"),
    ANY("1\0"),
    ANY("{}\0"),
    ANY("\0{}"),
    ANY("[1,\0 2]"),
    ANY("\"a"),
    ANY("\""),
    ANY("\"\\\""),
    ANY("\"\\"),
    ANY("\"\\x41\""),
    ANY("\"\\'\""),
    ANY("\"\\0\""),
    ANY("\"\\\0\""),
    ANY("\"\\U0041\""),
    ANY("\"\\u\""),
    ANY("\"\\u12\""),
    ANY("\"\\u123"),
    ANY("\"\\u123g\""),
    ANY("\"\\u 123\""),
    ANY("\"a\nb\""),
    ANY("\"a\tb\""),
    ANY("\"a\0b\""),
    ANY("\"\x1f\""),
    ANY("'a'"),
    ANY("\xef\xbb\xbf{}"), /* byte order mark */
    ANY("[1,\v2]"),
    ANY("[1,\f2]"),
    ANY("[\xc2\xa0]"),
    ANY("\xff"),
    ANY("\"\x80\""),
    ANY("\"\xbf\""),
    ANY("\"\xc0\xaf\""), /* overlong */
    ANY("\"\xc1\xbf\""),
    ANY("\"\xe0\x80\xaf\""),
    ANY("\"\xe0\x9f\xbf\""),
    ANY("\"\xf0\x80\x80\xaf\""),
    ANY("\"\xf0\x8f\xbf\xbf\""),
    ANY("\"\xed\xa0\x80\""), /* surrogates */
    ANY("\"\xed\xbf\xbf\""),
    ANY("\"\xf4\x90\x80\x80\""), /* past the end */
    ANY("\"\xf5\x80\x80\x80\""),
    ANY("\"\xfe\""),
    ANY("\"\xc3\""), /* cut */
    ANY("\"\xe2\x82\""),
    ANY("\"\xf0\x9f\x98\""),
    ANY("\"\xe2\x82"),
    ANY("\"\xc3(\""),
    ANY("{\"\xff\":1}"),
};

static void test_accepts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++) {
        if (!accepts(accepted[i])) {
            fail_msg("refused: %.*s", SPAN_ARGUMENTS(accepted[i]));
        }
    }
}

static void test_refuses(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (accepts(refused[i])) {
            fail_msg("accepted case %zu: %.*s", i, SPAN_ARGUMENTS(refused[i]));
        }
    }
}

/* Every proper start of an object or array is no JSON. */
static void test_refuses_every_cut(void **state) {
    (void)state;
    struct span whole = ANY("{\"a\":[1.5e-3,true,null,{\"\\u00e9\\n\":\"\xf0\x9f\x98\x80\"},[]],\"b\":-7,\"c\":\"x\"}");
    assert_true(accepts(whole));
    for (size_t len = 0; len < whole.len; len++) {
        assert_false(accepts(span_of(whole.base, len)));
    }
}

/* No single changed byte may crash or confuse the reader, whether it stays JSON or not. */
static void test_survives_every_changed_byte(void **state) {
    (void)state;
    static const char whole[] = "{\"a\":[1.5e-3,true,{\"\\ud83d\\ude00\":\"\xc3\xa9\"}],\"b\":-7}";
    for (size_t at = 0; at < sizeof(whole) - 1; at++) {
        for (int byte = 0; byte < 256; byte++) {
            char text[sizeof(whole)];
            memcpy(text, whole, sizeof(whole));
            text[at] = (char)byte;
            (void)accepts(span_of(text, sizeof(whole) - 1));
        }
    }
}

static void test_depth(void **state) {
    (void)state;
    char text[2 * 129];
    for (size_t depth = 128; depth <= 129; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(accepts(span_of(text, 2 * depth)), depth == 128);
    }
    struct buffer objects;
    buffer_init(&objects, 4096);
    for (int depth = 128; depth <= 129; depth++) {
        buffer_clear(&objects);
        for (int i = 1; i < depth; i++) {
            buffer_append_text(&objects, "{\"a\":");
        }
        buffer_append_text(&objects, "{}");
        for (int i = 1; i < depth; i++) {
            buffer_append_byte(&objects, '}');
        }
        assert_int_equal(accepts(buffer_span(&objects)), depth == 128);
    }
    buffer_fini(&objects);
}

static void test_error_says_where(void **state) {
    (void)state;
    struct json_doc doc;
    json_doc_init(&doc);
    assert_false(json_parse(&doc, ANY("{\"secret\":tru}")));
    assert_int_equal(doc.error_at, 10);
    assert_null(strstr(doc.error, "secret"));
    assert_false(json_parse(&doc, ANY("[1,2")));
    assert_int_equal(doc.error_at, 4);
    assert_int_equal(json_type_of(&doc, 0), JSON_ABSENT);
    assert_false(json_parse(&doc, SPAN_EMPTY));
    assert_true(json_parse(&doc, ANY("[1]")));
    assert_null(doc.error);
    json_doc_fini(&doc);
}

static void parse(struct json_doc *doc, const char *text) {
    json_doc_init(doc);
    assert_true(json_parse(doc, span_text(text)));
}

static void test_types_and_raw(void **state) {
    (void)state;
    static const enum json_type types[] = {JSON_NULL,   JSON_FALSE,  JSON_TRUE,  JSON_NUMBER,
                                           JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT};
    static const char *const raws[] = {"null", "false", "true", "-1", "2e5", "\"s\\n\"", "[ ]", "{\"a\": 1}"};
    struct json_doc doc;
    parse(&doc, " [null, false, true,-1,2e5 , \"s\\n\",[ ],{\"a\": 1} ] ");
    int at = json_first(&doc, 0);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(json_type_of(&doc, at), types[i]);
        assert_true(span_is(json_raw(&doc, at), raws[i]));
        at = json_next(&doc, at);
    }
    assert_int_equal(at, -1);
    assert_int_equal(json_size(&doc, 0), 8);
    json_doc_fini(&doc);
}

static void test_roots(void **state) {
    (void)state;
    struct json_doc doc;
    int64_t number = 0;
    parse(&doc, " 42\n");
    assert_int_equal(json_type_of(&doc, 0), JSON_NUMBER);
    assert_true(span_is(json_raw(&doc, 0), "42"));
    assert_true(json_int(&doc, 0, &number));
    assert_int_equal(number, 42);
    assert_int_equal(json_first(&doc, 0), -1);
    assert_int_equal(json_next(&doc, 0), -1);
    json_doc_fini(&doc);
    parse(&doc, " \"x\" ");
    assert_true(json_string_is(&doc, 0, "x"));
    assert_int_equal(json_value_of(&doc, 0), -1);
    json_doc_fini(&doc);
}

static void test_absent_is_accepted_by_all(void **state) {
    (void)state;
    static const int absents[] = {-1, 1, 1000};
    struct json_doc doc;
    parse(&doc, "{}");
    for (size_t i = 0; i < 3; i++) {
        char text[4];
        int64_t number = 7;
        double real = 7;
        struct buffer out;
        struct arena arena;
        arena_init(&arena, 100);
        buffer_init(&out, 100);
        int value = absents[i];
        assert_int_equal(json_type_of(&doc, value), JSON_ABSENT);
        assert_int_equal(json_raw(&doc, value).len, 0);
        assert_int_equal(json_member(&doc, value, "a"), -1);
        assert_int_equal(json_first(&doc, value), -1);
        assert_int_equal(json_next(&doc, value), -1);
        assert_int_equal(json_value_of(&doc, value), -1);
        assert_int_equal(json_size(&doc, value), 0);
        assert_int_equal(json_duplicate(&doc, value), -1);
        assert_false(json_string(&doc, value, &out));
        assert_false(json_string_copy(&doc, value, text, sizeof(text)));
        assert_null(json_string_arena(&doc, value, &arena));
        assert_false(json_string_is(&doc, value, ""));
        assert_false(json_int(&doc, value, &number) || json_count(&doc, value, &number) ||
                     json_double(&doc, value, &real) || json_money(&doc, value, &number));
        assert_int_equal(number, 7);
        arena_fini(&arena);
        buffer_fini(&out);
    }
    json_doc_fini(&doc);
    assert_int_equal(json_type_of(&doc, 0), JSON_ABSENT);
}

static void test_members(void **state) {
    (void)state;
    struct json_doc doc;
    parse(&doc,
          "{\"deep\":{\"model\":\"wrong\",\"x\":[{\"y\":1}]},\"mo\\u0064el\":\"right\",\"model\":\"second\",\"e\":"
          "{},\"\":0,\"\\u00e9\\ud83d\\ude00\":1,\"list\":[{\"k\":2}]}");
    assert_true(json_string_is(&doc, json_member(&doc, 0, "model"), "right"));
    assert_int_equal(json_member(&doc, 0, "x"), -1);
    assert_int_equal(json_member(&doc, 0, "y"), -1);
    assert_int_equal(json_member(&doc, 0, "wrong"), -1);
    assert_int_equal(json_member(&doc, 0, "mode"), -1);
    assert_int_equal(json_member(&doc, 0, "modell"), -1);
    assert_int_equal(json_type_of(&doc, json_member(&doc, 0, "")), JSON_NUMBER);
    assert_int_equal(json_type_of(&doc, json_member(&doc, 0, "\xc3\xa9\xf0\x9f\x98\x80")), JSON_NUMBER);
    int list = json_member(&doc, 0, "list");
    assert_int_equal(json_member(&doc, list, "k"), -1);
    assert_int_equal(json_type_of(&doc, json_member(&doc, json_first(&doc, list), "k")), JSON_NUMBER);
    int deep = json_member(&doc, 0, "deep");
    assert_true(json_string_is(&doc, json_member(&doc, deep, "model"), "wrong"));
    assert_int_equal(json_size(&doc, 0), 7);
    assert_int_equal(json_size(&doc, json_member(&doc, 0, "e")), 0);
    json_doc_fini(&doc);
}

static void test_walks_object(void **state) {
    (void)state;
    static const char *const names[] = {"a", "b", "c", "d"};
    static const enum json_type types[] = {JSON_OBJECT, JSON_STRING, JSON_ARRAY, JSON_NULL};
    struct json_doc doc;
    parse(&doc, "{\"a\":{\"x\":{\"y\":[1,2]},\"z\":\"b\"},\"b\":\"c\",\"c\":[[\"d\"],{}],\"d\":null}");
    int at = json_first(&doc, 0);
    for (size_t i = 0; i < 4; i++) {
        assert_true(json_string_is(&doc, at, names[i]));
        int value = json_value_of(&doc, at);
        assert_int_equal(json_type_of(&doc, value), types[i]);
        assert_int_equal(json_next(&doc, value), -1);
        at = json_next(&doc, at);
    }
    assert_int_equal(at, -1);
    assert_int_equal(json_value_of(&doc, 0), -1);
    json_doc_fini(&doc);
}

static void test_strings(void **state) {
    (void)state;
    struct json_doc doc;
    struct buffer out;
    char small[6];
    parse(
        &doc,
        "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20AC\\uD83D\\uDE00\xc3\xa9\",\"hello\",\"hello!\",\"a\\u0000b\","
        "\"\\ud800\",\"\\ud800\\u0041\",\"\\udc00\\ud83d\\ude00\",\"\\ud83d\\ud83d\\ude00\",\"\\ud800\\n\",\"\"]");
    int at = json_first(&doc, 0);
    buffer_init(&out, 1000);
    assert_true(json_string(&doc, at, &out));
    assert_string_equal(buffer_text(&out), "\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xc3\xa9");
    assert_true(json_string_is(&doc, at, buffer_text(&out)));
    at = json_next(&doc, at);
    assert_true(json_string_copy(&doc, at, small, sizeof(small)));
    assert_string_equal(small, "hello");
    at = json_next(&doc, at);
    assert_false(json_string_copy(&doc, at, small, sizeof(small)));
    assert_string_equal(small, "");
    at = json_next(&doc, at);
    assert_false(json_string_copy(&doc, at, small, sizeof(small)));
    assert_false(json_string_is(&doc, at, "a"));
    buffer_clear(&out);
    assert_true(json_string(&doc, at, &out));
    assert_true(span_equals(buffer_span(&out), ANY("a\0b")));
    static const char *const lone[] = {"\xef\xbf\xbd",
                                       "\xef\xbf\xbd\x41",
                                       "\xef\xbf\xbd\xf0\x9f\x98\x80",
                                       "\xef\xbf\xbd\xf0\x9f\x98\x80",
                                       "\xef\xbf\xbd\n",
                                       ""};
    for (size_t i = 0; i < 6; i++) {
        at = json_next(&doc, at);
        assert_true(json_string_is(&doc, at, lone[i]));
    }
    buffer_fini(&out);
    json_doc_fini(&doc);
}

static void test_strings_respect_limits(void **state) {
    (void)state;
    struct json_doc doc;
    struct buffer out;
    struct arena arena;
    parse(&doc, "[\"0123456789\",\"a\\u0000\",5,\"\\u0041\\u0042\"]");
    buffer_init(&out, 9);
    assert_false(json_string(&doc, 1, &out));
    buffer_fini(&out);
    arena_init(&arena, 16);
    assert_null(json_string_arena(&doc, 2, &arena));
    arena_fini(&arena);
    assert_string_equal(json_string_arena(&doc, 1, &arena), "0123456789");
    assert_null(json_string_arena(&doc, 1, &arena));
    arena_fini(&arena);
    assert_string_equal(json_string_arena(&doc, 4, &arena), "AB");
    arena_fini(&arena);
    assert_null(json_string_arena(&doc, 3, &arena));
    arena_fini(&arena);
    json_doc_fini(&doc);
}

static void check_number(const char *text, int is_int, int64_t integer, int is_count, int64_t count) {
    struct json_doc doc;
    int64_t got = 0;
    parse(&doc, text);
    if (json_int(&doc, 0, &got) != (is_int != 0) || (is_int && got != integer)) {
        fail_msg("json_int of %s gave %lld", text, (long long)got);
    }
    got = 0;
    if (json_count(&doc, 0, &got) != (is_count != 0) || (is_count && got != count)) {
        fail_msg("json_count of %s gave %lld", text, (long long)got);
    }
    json_doc_fini(&doc);
}

static void test_numbers(void **state) {
    (void)state;
    check_number("0", 1, 0, 1, 0);
    check_number("-0", 1, 0, 1, 0);
    check_number("12", 1, 12, 1, 12);
    check_number("-12", 1, -12, 1, -12);
    check_number("9223372036854775807", 1, INT64_MAX, 1, INT64_MAX);
    check_number("-9223372036854775808", 1, INT64_MIN, 1, INT64_MIN);
    check_number("9223372036854775808", 0, 0, 1, INT64_MAX);
    check_number("-9223372036854775809", 0, 0, 1, INT64_MIN);
    check_number("12.0", 0, 0, 1, 12);
    check_number("12.5", 0, 0, 0, 0);
    check_number("12.50e1", 0, 0, 1, 125);
    check_number("1e3", 0, 0, 1, 1000);
    check_number("1E+3", 0, 0, 1, 1000);
    check_number("-1.2e3", 0, 0, 1, -1200);
    check_number("1200e-2", 0, 0, 1, 12);
    check_number("1201e-2", 0, 0, 0, 0);
    check_number("1e-1", 0, 0, 0, 0);
    check_number("0.0", 0, 0, 1, 0);
    check_number("0e99999999999999999999", 0, 0, 1, 0);
    check_number("0.000e-99999999999999999999", 0, 0, 1, 0);
    check_number("1e99999999999999999999", 0, 0, 1, INT64_MAX);
    check_number("-1e99999999999999999999", 0, 0, 1, INT64_MIN);
    check_number("1e-99999999999999999999", 0, 0, 0, 0);
    check_number("9.223372036854775807e18", 0, 0, 1, INT64_MAX);
    check_number("9223372036854775807.5", 0, 0, 0, 0);
    check_number("99999999999999999999999.5", 0, 0, 0, 0);
    check_number("100.00", 0, 0, 1, 100);
    check_number("\"5\"", 0, 0, 0, 0);
    check_number("true", 0, 0, 0, 0);
}

static void test_doubles_and_money(void **state) {
    (void)state;
    struct json_doc doc;
    double real = 0;
    int64_t nusd = 0;
    parse(&doc, "[0.7,-1e3,1e999,\"1\",0.000000001,\"2.50\",1e2,0.0000000001,\"x\",null,\"1e2\"]");
    int at = json_first(&doc, 0);
    assert_true(json_double(&doc, at, &real));
    assert_true(real > 0.6999 && real < 0.7001);
    at = json_next(&doc, at);
    assert_true(json_double(&doc, at, &real));
    assert_true(real < -999.9 && real > -1000.1);
    at = json_next(&doc, at);
    assert_false(json_double(&doc, at, &real));
    at = json_next(&doc, at);
    assert_false(json_double(&doc, at, &real));
    at = json_next(&doc, at);
    assert_true(json_money(&doc, at, &nusd));
    assert_int_equal(nusd, 1);
    at = json_next(&doc, at);
    assert_true(json_money(&doc, at, &nusd));
    assert_int_equal(nusd, 2500000000);
    for (at = json_next(&doc, at); at >= 0; at = json_next(&doc, at)) {
        assert_false(json_money(&doc, at, &nusd));
    }
    json_doc_fini(&doc);
    struct buffer digits;
    buffer_init(&digits, 1000);
    for (int i = 0; i < 300; i++) {
        buffer_append_byte(&digits, '1');
    }
    parse(&doc, buffer_text(&digits));
    assert_true(json_double(&doc, 0, &real));
    assert_true(real > 1e299 && real < 2e299);
    json_doc_fini(&doc);
    buffer_fini(&digits);
}

static void test_duplicates(void **state) {
    (void)state;
    struct json_doc doc;
    parse(&doc, "{\"model\":1,\"m\":2,\"mode\":{\"model\":1},\"x\":[],\"\":0}");
    assert_int_equal(json_duplicate(&doc, 0), -1);
    json_doc_fini(&doc);
    parse(&doc, "{\"model\":1,\"b\":{\"b\":1},\"mo\\u0064el\":2,\"b\":3,\"model\":4}");
    int found = json_duplicate(&doc, 0);
    assert_true(span_is(json_raw(&doc, found), "\"mo\\u0064el\""));
    json_doc_fini(&doc);
    parse(&doc, "{\"\\n\":1,\"\\u000a\":2}");
    assert_true(span_is(json_raw(&doc, json_duplicate(&doc, 0)), "\"\\u000a\""));
    json_doc_fini(&doc);
    parse(&doc, "[\"a\",\"a\"]");
    assert_int_equal(json_duplicate(&doc, 0), -1);
    json_doc_fini(&doc);
}

/* {"n0":0,...,"nN":0} with the last name again when asked. */
static void write_members(struct buffer *out, int count, bool repeat) {
    buffer_clear(out);
    buffer_append_byte(out, '{');
    for (int i = 0; i < count; i++) {
        buffer_format(out, "\"n%d\":0,", i);
    }
    buffer_format(out, "\"n%d\":1}", repeat ? count / 2 : count);
}

static void test_many_members(void **state) {
    (void)state;
    struct json_doc doc;
    struct buffer text;
    json_doc_init(&doc);
    buffer_init(&text, (size_t)8 << 20);
    int64_t start_ns = clock_mono_ns();
    write_members(&text, 200000, false);
    assert_true(json_parse(&doc, buffer_span(&text)));
    assert_int_equal(json_duplicate(&doc, 0), -1);
    write_members(&text, 200000, true);
    assert_true(json_parse(&doc, buffer_span(&text)));
    assert_true(span_is(json_raw(&doc, json_duplicate(&doc, 0)), "\"n100000\""));
    assert_true(clock_mono_ns() - start_ns < 5 * NS_PER_S);
    buffer_fini(&text);
    json_doc_fini(&doc);
}

static void test_walk_is_linear(void **state) {
    (void)state;
    struct json_doc doc;
    struct buffer text;
    json_doc_init(&doc);
    buffer_init(&text, (size_t)8 << 20);
    buffer_append_byte(&text, '[');
    for (int i = 0; i < 100000; i++) {
        buffer_append_text(&text, i == 0 ? "{\"a\":[1],\"b\":2}" : ",{\"a\":[1],\"b\":2}");
    }
    buffer_append_byte(&text, ']');
    assert_true(json_parse(&doc, buffer_span(&text)));
    int64_t start_ns = clock_mono_ns();
    int count = 0;
    for (int at = json_first(&doc, 0); at >= 0; at = json_next(&doc, at)) {
        count += json_type_of(&doc, json_member(&doc, at, "b")) == JSON_NUMBER ? 1 : 0;
    }
    assert_int_equal(count, 100000);
    assert_true(clock_mono_ns() - start_ns < 2 * NS_PER_S);
    buffer_fini(&text);
    json_doc_fini(&doc);
}

/* A megabyte made of one piece over and over, between a start and an end: accepted or not, it must take no long time.
 */
static void time_hostile(const char *start, const char *piece, const char *end) {
    struct json_doc doc;
    struct buffer text;
    buffer_init(&text, (size_t)2 << 20);
    buffer_append_text(&text, start);
    while (text.len < (size_t)1 << 20) {
        buffer_append_text(&text, piece);
    }
    buffer_append_text(&text, end);
    json_doc_init(&doc);
    int64_t start_ns = clock_mono_ns();
    bool valid = json_parse(&doc, buffer_span(&text));
    if (valid) {
        (void)json_duplicate(&doc, 0);
    }
    int64_t took_ns = clock_mono_ns() - start_ns;
    if (took_ns > 3 * NS_PER_S) {
        fail_msg("%s takes %lld ms", piece, (long long)(took_ns / NS_PER_MS));
    }
    json_doc_fini(&doc);
    buffer_fini(&text);
}

static void test_hostile_texts_are_linear(void **state) {
    (void)state;
    time_hostile("", "[", "");
    time_hostile("", "{\"a\":", "");
    time_hostile("[0", ",0", "]");
    time_hostile("[0", ",{}", "]");
    time_hostile("[0", ",[]", "]");
    time_hostile("[0", ",{\"a\":0}", "]");
    time_hostile("{\"x\":0", ",\"a\":0", "}");
    time_hostile("\"", "\\u0041", "\"");
    time_hostile("\"", "\xf0\x9f\x98\x80", "\"");
    time_hostile("\"", "\\", "");
    time_hostile("", " ", "1");
    time_hostile("", "9", "");
    time_hostile("1e", "9", "");
    char deep[4 * 120 + 2];
    size_t len = 0;
    deep[len++] = ',';
    for (int i = 0; i < 120; i++) {
        deep[len++] = '[';
    }
    for (int i = 0; i < 120; i++) {
        deep[len++] = ']';
    }
    deep[len] = '\0';
    time_hostile("[0", deep, "]");
}

static void test_refuses_too_many_values(void **state) {
    (void)state;
    struct buffer text;
    buffer_init(&text, (size_t)4 << 20);
    buffer_append_byte(&text, '[');
    for (int i = 0; i < JSON_TOKENS_MOST - 2; i++) {
        buffer_append_text(&text, "0,");
    }
    size_t before = text.len;
    buffer_append_text(&text, "0]");
    assert_true(accepts(buffer_span(&text)));
    buffer_truncate(&text, before);
    buffer_append_text(&text, "0,0]");
    assert_false(accepts(buffer_span(&text)));
    buffer_fini(&text);
}

static void test_document_is_reused(void **state) {
    (void)state;
    struct json_doc doc;
    struct buffer text;
    json_doc_init(&doc);
    buffer_init(&text, (size_t)1 << 20);
    for (int count = 1; count < 3000; count = count * 3 + 1) {
        write_members(&text, count, false);
        assert_true(json_parse(&doc, buffer_span(&text)));
        assert_int_equal(json_size(&doc, 0), count + 1);
        assert_true(json_parse(&doc, ANY("[{\"a\":1},2]")));
        assert_int_equal(json_next(&doc, json_next(&doc, json_first(&doc, 0))), -1);
    }
    buffer_fini(&text);
    json_doc_fini(&doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_refuses_every_cut),
        cmocka_unit_test(test_survives_every_changed_byte),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_error_says_where),
        cmocka_unit_test(test_types_and_raw),
        cmocka_unit_test(test_roots),
        cmocka_unit_test(test_absent_is_accepted_by_all),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_walks_object),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_strings_respect_limits),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_doubles_and_money),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_many_members),
        cmocka_unit_test(test_walk_is_linear),
        cmocka_unit_test(test_hostile_texts_are_linear),
        cmocka_unit_test(test_refuses_too_many_values),
        cmocka_unit_test(test_document_is_reused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
