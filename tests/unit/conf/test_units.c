/* Durations, sizes and addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "conf/conf.h"
#include "conf/conf_units.h"

static void test_durations(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"500ms", 500},      {"5s", 5000}, {"2m", 120000}, {"1h", 3600000},
                {"30d", 2592000000}, {"0s", 0},    {"007s", 7000}};
    static const char *const bad[] = {"",
                                      "5",
                                      "s",
                                      "5 s",
                                      "-5s",
                                      "+5s",
                                      "5.5s",
                                      "5S",
                                      "5w",
                                      "5sec",
                                      "5s ",
                                      " 5s",
                                      "1h30m",
                                      "0x5s",
                                      "9223372036854775807s",
                                      "99999999999999999999ms"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        int64_t ms = -1;
        assert_true(conf_parse_duration(span_text(good[i].text), &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t ms = -1;
        assert_false(conf_parse_duration(span_text(bad[i]), &ms));
    }
}

static void test_sizes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"512", 512}, {"64KiB", 65536}, {"8MiB", 8388608}, {"1GiB", 1073741824}, {"0", 0}};
    static const char *const bad[] = {"", "KiB", "1KB", "1kib", "1 KiB", "-1", "1.5MiB", "8589934592GiB", "1TiB"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        int64_t bytes = -1;
        assert_true(conf_parse_size(span_text(good[i].text), &bytes));
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t bytes = -1;
        assert_false(conf_parse_size(span_text(bad[i]), &bytes));
    }
}

static void test_written_values_read_back(void **state) {
    (void)state;
    for (int64_t value = 1; value < INT64_MAX / 7; value = value * 7 + 11) {
        char text[CONF_UNIT_TEXT_BYTES];
        int64_t back = 0;
        assert_true(conf_parse_duration(span_text(conf_units_format(CONF_UNIT_MS, value, text)), &back));
        assert_int_equal(back, value);
        assert_true(conf_parse_size(span_text(conf_units_format(CONF_UNIT_BYTES, value, text)), &back));
        assert_int_equal(back, value);
    }
    char text[CONF_UNIT_TEXT_BYTES];
    assert_string_equal(conf_units_format(CONF_UNIT_MS, 90000, text), "90s");
    assert_string_equal(conf_units_format(CONF_UNIT_MS, 86400000, text), "1d");
    assert_string_equal(conf_units_format(CONF_UNIT_BYTES, 1 << 20, text), "1MiB");
    assert_string_equal(conf_units_format(CONF_UNIT_NUSD, 500000000, text), "0.50");
}

static void assert_address(const char *text, const char *host, int port) {
    struct conf_address address;
    assert_true(conf_parse_address(span_text(text), &address));
    assert_string_equal(address.text, text);
    assert_string_equal(address.host, host);
    assert_int_equal(address.port, port);
    free(address.text);
    free(address.host);
}

static void test_addresses(void **state) {
    (void)state;
    static const struct span bad[] = {{NULL, 0},
                                      SPAN_LITERAL(""),
                                      SPAN_LITERAL(":"),
                                      SPAN_LITERAL(":80"),
                                      SPAN_LITERAL("a"),
                                      SPAN_LITERAL("a:"),
                                      SPAN_LITERAL("a:00000a"),
                                      SPAN_LITERAL("a:65536"),
                                      SPAN_LITERAL("a:-1"),
                                      SPAN_LITERAL("a:+80"),
                                      SPAN_LITERAL("a: 80"),
                                      SPAN_LITERAL("a:80:81"),
                                      SPAN_LITERAL("[]:80"),
                                      SPAN_LITERAL("[::1]"),
                                      SPAN_LITERAL("[::1]80"),
                                      SPAN_LITERAL("[a]:80"),
                                      SPAN_LITERAL("[::1:80"),
                                      SPAN_LITERAL("::1:80"),
                                      SPAN_LITERAL("a b:80"),
                                      SPAN_LITERAL("[::1\0]:80"),
                                      SPAN_LITERAL("a\0b:80"),
                                      SPAN_LITERAL("a:80\0"),
                                      SPAN_LITERAL("http://a:80")};
    assert_address("127.0.0.1:8080", "127.0.0.1", 8080);
    assert_address("[::1]:1", "::1", 1);
    assert_address("a:0", "a", 0);
    assert_address("relay.example.com:65535", "relay.example.com", 65535);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct conf_address address;
        assert_false(conf_parse_address(bad[i], &address));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_written_values_read_back),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
