#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/money.h"

static void check_parse(const char *text, int64_t expected) {
    int64_t got = 0;
    if (!money_parse(span_text(text), &got) || got != expected) {
        fail_msg("%s gave %lld", text, (long long)got);
    }
}

static void test_parse(void **state) {
    (void)state;
    check_parse("0", 0);
    check_parse("-0", 0);
    check_parse("2", 2 * NUSD_PER_USD);
    check_parse("0.50", 500000000);
    check_parse("007", 7 * NUSD_PER_USD);
    check_parse("-3.000000001", -3000000001);
    check_parse("0.000000001", 1);
    check_parse("9223372036.854775807", INT64_MAX);
    check_parse("-9223372036.854775808", INT64_MIN);
}

static void test_parse_refuses(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "-",
                                      ".",
                                      ".5",
                                      "5.",
                                      "-.5",
                                      "+1",
                                      "1e3",
                                      "1 ",
                                      " 1",
                                      "1.2.3",
                                      "1,5",
                                      "--1",
                                      "0x1",
                                      "1_000",
                                      "0.0000000001",
                                      "1.-",
                                      "1.1-",
                                      "NaN",
                                      "-5.",
                                      "$1",
                                      "1.0000000000",
                                      "9223372036.854775808",
                                      "-9223372036.854775809",
                                      "99999999999999999999",
                                      "9223372037",
                                      "1\xd9\xa0"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t got = 7;
        if (money_parse(span_text(bad[i]), &got)) {
            fail_msg("accepted %s as %lld", bad[i], (long long)got);
        }
        assert_int_equal(got, 7);
    }
    int64_t got = 7;
    assert_false(money_parse(SPAN_LITERAL("1\0"), &got));
}

static void check_format(int64_t nusd, const char *whole, const char *brief) {
    char out[NUSD_TEXT_BYTES];
    assert_string_equal(money_format(nusd, out), whole);
    assert_string_equal(money_format_short(nusd, out), brief);
}

static void test_format(void **state) {
    (void)state;
    check_format(0, "0.000000000", "0.00");
    check_format(1, "0.000000001", "0.000000001");
    check_format(-1, "-0.000000001", "-0.000000001");
    check_format(500000, "0.000500000", "0.0005");
    check_format(2 * NUSD_PER_USD, "2.000000000", "2.00");
    check_format(2500000000, "2.500000000", "2.50");
    check_format(-120 * NUSD_PER_USD, "-120.000000000", "-120.00");
    check_format(INT64_MAX, "9223372036.854775807", "9223372036.854775807");
    check_format(INT64_MIN, "-9223372036.854775808", "-9223372036.854775808");
}

static void test_format_and_parse_agree(void **state) {
    (void)state;
    for (int i = 0; i < 100000; i++) {
        int64_t nusd = 0;
        int64_t back = 0;
        char out[NUSD_TEXT_BYTES];
        random_bytes(&nusd, sizeof(nusd));
        nusd >>= i % 60;
        assert_true(money_parse(span_text(money_format(nusd, out)), &back));
        assert_int_equal(back, nusd);
        assert_true(money_parse(span_text(money_format_short(nusd, out)), &back));
        assert_int_equal(back, nusd);
    }
}

static int64_t of_tokens(int64_t input_nusd, int64_t output_nusd, int64_t input, int64_t output, int64_t markup) {
    const struct price price = {input_nusd, input_nusd / 4, input_nusd * 5 / 4, output_nusd};
    const struct token_counts tokens = {.input_tokens = input, .output_tokens = output};
    return money_of_tokens(&price, &tokens, markup);
}

static void test_price_of_tokens(void **state) {
    (void)state;
    /* 1,000 x 2 USD + 500 x 8 USD a million: 0.006 USD. */
    assert_int_equal(of_tokens(2 * NUSD_PER_USD, 8 * NUSD_PER_USD, 1000, 500, MARKUP_ONE), 6000000);
    assert_int_equal(of_tokens(2 * NUSD_PER_USD, 8 * NUSD_PER_USD, 1000, 500, MARKUP_ONE * 12 / 10), 7200000);
    assert_int_equal(of_tokens(2 * NUSD_PER_USD, 8 * NUSD_PER_USD, 1000, 500, 0), 0);
    assert_int_equal(of_tokens(2 * NUSD_PER_USD, 8 * NUSD_PER_USD, 0, 0, MARKUP_ONE), 0);
}

static void test_each_kind_has_its_price(void **state) {
    (void)state;
    const struct price price = {
        .input_nusd = 4000000, .cached_input_nusd = 1000000, .cache_write_nusd = 5000000, .output_nusd = 7000000};
    const struct token_counts tokens = {.input_tokens = 111,
                                        .cached_input_tokens = 10,
                                        .cache_write_tokens = 100,
                                        .output_tokens = 1000,
                                        .reasoning_tokens = 900};
    assert_int_equal(money_of_tokens(&price, &tokens, MARKUP_ONE), 1 * 4 + 10 * 1 + 100 * 5 + 1000 * 7);
}

static void test_rounds_once_half_up(void **state) {
    (void)state;
    assert_int_equal(of_tokens(499999, 0, 1, 0, MARKUP_ONE), 0);
    assert_int_equal(of_tokens(500000, 0, 1, 0, MARKUP_ONE), 1);
    assert_int_equal(of_tokens(1499999, 0, 1, 0, MARKUP_ONE), 1);
    assert_int_equal(of_tokens(1500000, 0, 1, 0, MARKUP_ONE), 2);
    /* 0.4 + 0.4 nano-USD is 0.8: one rounding gives 1, two would give 0. */
    assert_int_equal(of_tokens(400000, 400000, 1, 1, MARKUP_ONE), 1);
    /* 0.4 x 1.25 is exactly one half. */
    assert_int_equal(of_tokens(400000, 0, 1, 0, MARKUP_ONE * 5 / 4), 1);
    assert_int_equal(of_tokens(400000, 0, 1, 0, MARKUP_ONE * 5 / 4 - 1), 0);
}

static void test_extremes_saturate(void **state) {
    (void)state;
    assert_true(of_tokens(PRICE_MOST_NUSD, PRICE_MOST_NUSD, TOKENS_MOST, TOKENS_MOST, MARKUP_MOST) == INT64_MAX);
    assert_true(of_tokens(PRICE_MOST_NUSD, PRICE_MOST_NUSD, TOKENS_MOST, TOKENS_MOST, MARKUP_ONE) == INT64_MAX);
    assert_int_equal(of_tokens(PRICE_MOST_NUSD, 0, 1000000, 0, MARKUP_ONE), PRICE_MOST_NUSD);
    /* Just at the end of the range, with nothing lost to rounding. */
    assert_int_equal(of_tokens(TOKENS_PER_PRICE, 0, TOKENS_MOST, 0, MARKUP_MOST), INT64_C(1000000000000000));
}

static void test_add_saturates(void **state) {
    (void)state;
    assert_int_equal(money_add(1, 2), 3);
    assert_int_equal(money_add(-5, 2), -3);
    assert_true(money_add(INT64_MAX, 1) == INT64_MAX);
    assert_true(money_add(INT64_MIN, -1) == INT64_MIN);
    assert_true(money_add(INT64_MAX, INT64_MIN) == -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_format_and_parse_agree),
        cmocka_unit_test(test_price_of_tokens),
        cmocka_unit_test(test_each_kind_has_its_price),
        cmocka_unit_test(test_rounds_once_half_up),
        cmocka_unit_test(test_extremes_saturate),
        cmocka_unit_test(test_add_saturates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
