#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json_read.h"
#include "base/json_write.h"

static void test_shapes(void **state) {
    (void)state;
    struct buffer out;
    buffer_init(&out, 4096);
    struct json_writer writer = json_writer_on(&out);
    json_begin_object(&writer, NULL);
    json_write_text(&writer, "text", "a");
    json_write_text(&writer, "absent", NULL);
    json_begin_array(&writer, "list");
    json_write_int(&writer, NULL, INT64_MIN);
    json_begin_object(&writer, NULL);
    json_end_object(&writer);
    json_begin_array(&writer, NULL);
    json_end_array(&writer);
    json_write_bool(&writer, NULL, true);
    json_end_array(&writer);
    json_write_bool(&writer, "no", false);
    json_write_null(&writer, "null");
    json_write_nusd(&writer, "cost", 12500);
    json_write_nusd(&writer, "debt", -1);
    json_write_price(&writer, "price", INT64_C(2000000000));
    json_write_raw(&writer, "raw", SPAN_LITERAL("[1, 2]"));
    json_write_span(&writer, "quo\"te", SPAN_LITERAL("x"));
    json_end_object(&writer);
    assert_string_equal(buffer_text(&out),
                        "{\"text\":\"a\",\"absent\":null,\"list\":[-9223372036854775808,{},[],true],\"no\":false,"
                        "\"null\":null,\"cost\":0.000012500,\"debt\":-0.000000001,\"price\":2.00,\"raw\":[1, 2],"
                        "\"quo\\\"te\":\"x\"}");
    buffer_fini(&out);
}

static void check_quote(struct span text, const char *quoted) {
    struct buffer out;
    buffer_init(&out, 4096);
    json_quote(&out, text);
    assert_string_equal(buffer_text(&out), quoted);
    buffer_fini(&out);
}

static void test_quote(void **state) {
    (void)state;
    check_quote(SPAN_EMPTY, "\"\"");
    check_quote(SPAN_LITERAL("a\"b\\c/"), "\"a\\\"b\\\\c/\"");
    check_quote(SPAN_LITERAL("\b\t\n\v\f\r"), "\"\\b\\t\\n\\u000b\\f\\r\"");
    check_quote(SPAN_LITERAL("\0\x1f\x7f"), "\"\\u0000\\u001f\\u007f\"");
    check_quote(SPAN_LITERAL("\xc2\x85\xe2\x80\xa8\xe2\x80\xa9"), "\"\\u0085\\u2028\\u2029\"");
    check_quote(SPAN_LITERAL("\xc3\xa9\xf0\x9f\x98\x80"), "\"\xc3\xa9\xf0\x9f\x98\x80\"");
    check_quote(SPAN_LITERAL("a\xff"
                             "b"),
                "\"a\xef\xbf\xbd"
                "b\"");
    check_quote(SPAN_LITERAL("\xe2\x82"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");
    check_quote(SPAN_LITERAL("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

/* Any two bytes, quoted and read back, are themselves or hold a replacement character; the result is always JSON. */
static void test_quote_gives_json(void **state) {
    (void)state;
    struct json_doc doc;
    struct buffer quoted;
    struct buffer back;
    json_doc_init(&doc);
    buffer_init(&quoted, 100);
    buffer_init(&back, 100);
    for (int pair = 0; pair < 65536; pair++) {
        const char text[2] = {(char)(pair >> 8), (char)pair};
        buffer_clear(&quoted);
        buffer_clear(&back);
        json_quote(&quoted, span_of(text, 2));
        assert_true(json_parse(&doc, buffer_span(&quoted)));
        assert_true(json_string(&doc, 0, &back));
        if (!span_equals(buffer_span(&back), span_of(text, 2))) {
            assert_non_null(memmem(back.base, back.len, "\xef\xbf\xbd", 3));
        }
    }
    json_doc_fini(&doc);
    buffer_fini(&quoted);
    buffer_fini(&back);
}

static void test_full_buffer_is_noticed(void **state) {
    (void)state;
    for (size_t cap = 0; cap < 20; cap++) {
        struct buffer out;
        buffer_init(&out, cap);
        struct json_writer writer = json_writer_on(&out);
        json_begin_object(&writer, NULL);
        json_write_text(&writer, "name", "\x01\x02\xff value");
        json_end_object(&writer);
        assert_true(out.failed);
        assert_true(out.len <= cap);
        buffer_fini(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_quote),
        cmocka_unit_test(test_quote_gives_json),
        cmocka_unit_test(test_full_buffer_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
