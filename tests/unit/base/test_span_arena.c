#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/span.h"
#include "base/utf8.h"

static void test_span_compares(void **state) {
    (void)state;
    assert_true(span_is(SPAN_LITERAL("ab"), "ab"));
    assert_false(span_is(SPAN_LITERAL("ab"), "abc"));
    assert_false(span_is(SPAN_LITERAL("a\0"), "a"));
    assert_true(span_is(SPAN_EMPTY, ""));
    assert_true(span_is_nocase(SPAN_LITERAL("Bearer"), "bEARER"));
    assert_false(span_is_nocase(SPAN_LITERAL("Bearer"), "bearers"));
    assert_true(span_is_nocase(SPAN_EMPTY, ""));
    assert_true(span_starts_with(SPAN_LITERAL("abc"), "ab"));
    assert_true(span_starts_with(SPAN_EMPTY, ""));
    assert_false(span_starts_with(SPAN_LITERAL("a"), "ab"));
    assert_int_equal(span_text(NULL).len, 0);
}

static void test_span_parts(void **state) {
    (void)state;
    assert_true(span_is(span_skip(SPAN_LITERAL("abc"), 1), "bc"));
    assert_true(span_is(span_skip(SPAN_LITERAL("abc"), 9), ""));
    assert_int_equal(span_skip(SPAN_EMPTY, 9).len, 0);
    assert_true(span_is(span_trim(SPAN_LITERAL(" \ta b\t ")), "a b"));
    assert_true(span_is(span_trim(SPAN_LITERAL("  \t")), ""));
    assert_int_equal(span_trim(SPAN_EMPTY).len, 0);
}

static void test_span_copy(void **state) {
    (void)state;
    char out[4];
    assert_true(span_copy(SPAN_LITERAL("abc"), out, sizeof(out)));
    assert_string_equal(out, "abc");
    assert_false(span_copy(SPAN_LITERAL("abcd"), out, sizeof(out)));
    assert_string_equal(out, "abc");
    assert_true(span_copy(SPAN_EMPTY, out, 1));
    assert_string_equal(out, "");
    out[0] = 'x';
    assert_false(span_copy(SPAN_LITERAL("abc"), out, 0));
    assert_int_equal(out[0], 'x');
}

static void test_arena_gives_aligned_zeroed_memory(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, (size_t)1 << 20);
    for (size_t size = 0; size < 300; size++) {
        unsigned char *out = arena_take(&arena, size);
        assert_non_null(out);
        assert_int_equal((uintptr_t)out % 16, 0);
        for (size_t i = 0; i < size; i++) {
            assert_int_equal(out[i], 0);
        }
        memset(out, 0xff, size);
    }
    assert_non_null(arena_take(&arena, 100000));
    assert_string_equal(arena_copy_text(&arena, SPAN_LITERAL("text")), "text");
    assert_string_equal(arena_copy_text(&arena, SPAN_EMPTY), "");
    assert_string_equal(arena_format(&arena, "%d-%s", 7, "x"), "7-x");
    arena_fini(&arena);
    assert_non_null(arena_take(&arena, 1));
    arena_fini(&arena);
}

static void test_arena_respects_its_cap(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, 64);
    assert_null(arena_take(&arena, 65));
    assert_non_null(arena_take(&arena, 48));
    assert_null(arena_take(&arena, 17));
    assert_non_null(arena_take(&arena, 16));
    assert_null(arena_take(&arena, 1));
    assert_null(arena_copy_text(&arena, SPAN_LITERAL("x")));
    assert_null(arena_format(&arena, "x"));
    arena_fini(&arena);
    arena_init(&arena, SIZE_MAX);
    assert_null(arena_take(&arena, SIZE_MAX));
    assert_null(arena_take(&arena, SIZE_MAX - 31));
    assert_null(arena_take(&arena, SIZE_MAX - 63));
    assert_null(arena_take_array(&arena, SIZE_MAX / 2, 3));
    assert_non_null(arena_take_array(&arena, 3, 5));
    arena_fini(&arena);
}

static void test_utf8_round_trip(void **state) {
    (void)state;
    for (uint32_t character = 0; character <= 0x10FFFF; character++) {
        if (character >= 0xD800 && character <= 0xDFFF) {
            continue;
        }
        char bytes[UTF8_MOST_BYTES];
        size_t len = utf8_encode(character, bytes);
        if (utf8_length(span_of(bytes, len)) != len || utf8_decode(span_of(bytes, len)) != character ||
            (len > 1 && utf8_length(span_of(bytes, len - 1)) != 0)) {
            fail_msg("U+%04X", (unsigned)character);
        }
    }
}

static void test_utf8_cut(void **state) {
    (void)state;
    static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
    static const size_t kept[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};
    for (size_t most = 0; most < 12; most++) {
        assert_int_equal(utf8_cut(span_text(text), most).len, kept[most]);
    }
    assert_int_equal(utf8_cut(SPAN_EMPTY, 0).len, 0);
    assert_int_equal(utf8_cut(SPAN_LITERAL("\x80\x80\x80\x80\x80\x80"), 5).len, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_span_compares),
        cmocka_unit_test(test_span_parts),
        cmocka_unit_test(test_span_copy),
        cmocka_unit_test(test_arena_gives_aligned_zeroed_memory),
        cmocka_unit_test(test_arena_respects_its_cap),
        cmocka_unit_test(test_utf8_round_trip),
        cmocka_unit_test(test_utf8_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
