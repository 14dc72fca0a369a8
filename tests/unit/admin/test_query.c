#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "admin/admin_query.h"

static struct arena arena;
static struct query query;

static bool parse(const char *text) { return query_parse(span_text(text), &arena, &query); }

static void test_fields_are_decoded(void **state) {
    (void)state;
    assert_true(parse("a=1&b=x%20y+z&c&=v&&d=%3D%26%C3%a9"));
    assert_int_equal(query.count, 5);
    assert_string_equal(query_get(&query, "a"), "1");
    assert_string_equal(query_get(&query, "b"), "x y z");
    assert_string_equal(query_get(&query, "c"), "");
    assert_string_equal(query_get(&query, "d"), "=&\xc3\xa9");
    assert_null(query_get(&query, "e"));
    assert_true(parse(""));
    assert_int_equal(query.count, 0);
}

static void test_broken_escapes_are_refused(void **state) {
    static const char *const bad[] = {"a=%", "a=%2", "a=%zz", "%=1", "a=%00", "a%00b=1", "a=1&b=%g0"};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(parse(bad[i]));
    }
}

static void test_too_many_fields_are_refused(void **state) {
    char text[QUERY_FIELDS_MOST * 2 + 3];
    (void)state;
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        text[i] = i % 2 == 0 ? 'a' : '&';
    }
    text[sizeof(text) - 1] = '\0';
    assert_false(parse(text));
    text[QUERY_FIELDS_MOST * 2] = '\0';
    assert_true(parse(text));
    assert_int_equal(query.count, QUERY_FIELDS_MOST);
}

static void test_unexpected_fields_are_named(void **state) {
    (void)state;
    assert_true(parse("limit=1&after=x"));
    assert_null(query_unexpected(&query, "limit after"));
    assert_string_equal(query_unexpected(&query, "limit afte"), "after");
    assert_string_equal(query_unexpected(&query, ""), "limit");
    assert_true(parse("limit=1&limit=1"));
    assert_string_equal(query_unexpected(&query, "limit after"), "limit");
}

static void test_numbers_are_digits_alone(void **state) {
    static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "0x1", "1.0", "1e3", "9999999999999999999"};
    int64_t value = -1;
    (void)state;
    assert_true(query_int("0", &value) && value == 0);
    assert_true(query_int("999999999999999999", &value) && value == INT64_C(999999999999999999));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(query_int(bad[i], &value));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_are_decoded),          cmocka_unit_test(test_broken_escapes_are_refused),
        cmocka_unit_test(test_too_many_fields_are_refused), cmocka_unit_test(test_unexpected_fields_are_named),
        cmocka_unit_test(test_numbers_are_digits_alone),
    };
    arena_init(&arena, 1 << 20);
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    arena_fini(&arena);
    return failures;
}
