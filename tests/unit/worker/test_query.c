/* Values out of queries, with and without escapes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/query.h"

static const char *value_of(const char *query, const char *name) {
    static char text[64];
    struct span value;
    struct buffer decoded;
    if (!query_find(span_text(query), name, &value)) {
        return NULL;
    }
    buffer_init(&decoded, sizeof(text));
    query_decode(value, &decoded);
    (void)span_copy(buffer_span(&decoded), text, sizeof(text));
    buffer_fini(&decoded);
    return text;
}

static void test_values(void **state) {
    (void)state;
    assert_string_equal(value_of("a=1&b=2", "a"), "1");
    assert_string_equal(value_of("a=1&b=2", "b"), "2");
    assert_string_equal(value_of("b=&a=1", "b"), "");
    assert_string_equal(value_of("a=1&a=2", "a"), "1");
    assert_string_equal(value_of("aa=1&a=2", "a"), "2");
    assert_string_equal(value_of("a==x", "a"), "=x");
    assert_string_equal(value_of("a", "a"), "");
    assert_null(value_of("", "a"));
    assert_null(value_of("&&", "a"));
    assert_null(value_of("xa=1", "a"));
}

static void test_escapes(void **state) {
    (void)state;
    assert_string_equal(value_of("a=one+two%20three", "a"), "one two three");
    assert_string_equal(value_of("a=%C3%a4%26%3D%2B", "a"), "\xc3\xa4&=+");
    assert_string_equal(value_of("a=100%", "a"), "100%");
    assert_string_equal(value_of("a=%4", "a"), "%4");
    assert_string_equal(value_of("a=%zz%41", "a"), "%zzA");
    struct buffer out;
    buffer_init(&out, 8);
    query_decode(SPAN_LITERAL("x%00y"), &out);
    assert_int_equal(out.len, 3);
    buffer_fini(&out);
}

static void copies_are_bounded(void **state) {
    char text[8];
    struct span value = SPAN_EMPTY;
    (void)state;
    assert_true(query_find(SPAN_LITERAL("a=1&bb=2&b=%41+%zz%4&c&=x&d=&a=9"), "b", &value));
    assert_true(query_copy(value, text, sizeof(text)));
    assert_string_equal(text, "A %zz%4");
    assert_false(query_copy(SPAN_LITERAL("12345678"), text, sizeof(text)));
    assert_string_equal(text, "");
    assert_false(query_copy(SPAN_LITERAL("a%00b"), text, sizeof(text)));
    assert_true(query_copy(SPAN_EMPTY, text, sizeof(text)));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(copies_are_bounded), cmocka_unit_test(test_values),
                                       cmocka_unit_test(test_escapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
