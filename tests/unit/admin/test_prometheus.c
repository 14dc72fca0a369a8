#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "admin/admin_prometheus.h"

static void test_labels_are_escaped(void **state) {
    const struct prometheus_label labels[] = {{"a", "x\"y\\z\nw"}, {"b", ""}};
    struct buffer out;
    (void)state;
    buffer_init(&out, 4096);
    prometheus_count(&out, "n_total", labels, 2, UINT64_MAX);
    prometheus_count(&out, "n", NULL, 0, 0);
    prometheus_nusd(&out, "usd", labels + 1, 1, 12);
    assert_string_equal(buffer_text(&out), "n_total{a=\"x\\\"y\\\\z\\nw\",b=\"\"} 18446744073709551615\nn 0\n"
                                           "usd{b=\"\"} 0.000000012\n");
    buffer_fini(&out);
}

static void test_seconds_are_short(void **state) {
    static const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {{0, "0"},           {50000, "0.00005"}, {1000000000, "1"}, {2500000000, "2.5"}, {10000000000, "10"},
                 {1, "0.000000001"}, {INT64_MAX, "+Inf"}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer out;
        buffer_init(&out, 64);
        prometheus_seconds(&out, cases[i].ns);
        assert_string_equal(buffer_text(&out), cases[i].text);
        buffer_fini(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels_are_escaped),
        cmocka_unit_test(test_seconds_are_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
