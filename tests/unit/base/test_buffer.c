#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buffer.h"

static void test_empty(void **state) {
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 10);
    assert_string_equal(buffer_text(&buffer), "");
    assert_int_equal(buffer_span(&buffer).len, 0);
    buffer_clear(&buffer);
    buffer_consume(&buffer, 0);
    buffer_truncate(&buffer, 0);
    buffer_append(&buffer, NULL, 0);
    assert_false(buffer.failed);
    assert_string_equal(buffer_text(&buffer), "");
    buffer_fini(&buffer);
}

static void test_appends(void **state) {
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 1000000);
    buffer_append_text(&buffer, "one ");
    buffer_append_span(&buffer, SPAN_LITERAL("two "));
    buffer_append_byte(&buffer, '3');
    buffer_format(&buffer, " %s=%d", "four", 4);
    buffer_append(&buffer, "\0five", 5);
    assert_true(span_equals(buffer_span(&buffer), SPAN_LITERAL("one two 3 four=4\0five")));
    assert_int_equal(buffer.base[buffer.len], '\0');
    buffer_truncate(&buffer, 3);
    assert_string_equal(buffer_text(&buffer), "one");
    buffer_consume(&buffer, 1);
    assert_string_equal(buffer_text(&buffer), "ne");
    buffer_consume(&buffer, 2);
    assert_string_equal(buffer_text(&buffer), "");
    buffer_fini(&buffer);
}

static void test_grows_to_the_cap_and_no_further(void **state) {
    (void)state;
    for (size_t cap = 0; cap < 600; cap++) {
        struct buffer buffer;
        buffer_init(&buffer, cap);
        for (size_t i = 0; i < cap; i++) {
            buffer_append_byte(&buffer, (char)('a' + i % 26));
        }
        assert_false(buffer.failed);
        assert_int_equal(buffer.len, cap);
        buffer_append_byte(&buffer, 'x');
        assert_true(buffer.failed);
        assert_int_equal(buffer.len, cap);
        for (size_t i = 0; i < cap; i++) {
            assert_int_equal(buffer.base[i], 'a' + i % 26);
        }
        buffer_fini(&buffer);
        assert_false(buffer.failed);
    }
}

static void test_failure_stays_until_cleared(void **state) {
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 4);
    buffer_append_text(&buffer, "ab");
    buffer_append_text(&buffer, "cde");
    assert_true(buffer.failed);
    assert_string_equal(buffer_text(&buffer), "ab");
    buffer_append_text(&buffer, "c");
    buffer_format(&buffer, "%d", 1);
    assert_null(buffer_reserve(&buffer, 0));
    assert_string_equal(buffer_text(&buffer), "ab");
    buffer_clear(&buffer);
    buffer_append_text(&buffer, "wxyz");
    assert_false(buffer.failed);
    assert_string_equal(buffer_text(&buffer), "wxyz");
    buffer_fini(&buffer);
}

static void test_sizes_do_not_overflow(void **state) {
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, SIZE_MAX - 1);
    buffer_append_text(&buffer, "a");
    assert_null(buffer_reserve(&buffer, SIZE_MAX));
    buffer_clear(&buffer);
    buffer_append_text(&buffer, "a");
    assert_null(buffer_reserve(&buffer, SIZE_MAX - 1));
    assert_true(buffer.failed);
    buffer_fini(&buffer);
}

static void test_reserve_and_added(void **state) {
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 5000);
    char *to = buffer_reserve(&buffer, 4096);
    assert_non_null(to);
    memset(to, 'x', 4096);
    buffer_added(&buffer, 10);
    assert_string_equal(buffer_text(&buffer), "xxxxxxxxxx");
    buffer_fini(&buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_appends),
        cmocka_unit_test(test_grows_to_the_cap_and_no_further),
        cmocka_unit_test(test_failure_stays_until_cleared),
        cmocka_unit_test(test_sizes_do_not_overflow),
        cmocka_unit_test(test_reserve_and_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
