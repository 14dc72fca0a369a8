#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "admin/admin_gate.h"

static enum gate_verdict judge(const char *token, const char *authorization, const char *host, const char *origin) {
    return gate_judge(token, false, span_text(authorization), span_text(host), span_text(origin));
}

static void test_the_token_opens(void **state) {
    (void)state;
    assert_int_equal(judge("secret", "Bearer secret", "any.example", "http://other"), GATE_OPEN);
    assert_int_equal(judge("secret", "bearer  secret ", "any.example", ""), GATE_OPEN);
    assert_int_equal(gate_judge("secret", true, SPAN_EMPTY, SPAN_EMPTY, SPAN_EMPTY), GATE_OPEN);
}

static void test_anything_else_does_not(void **state) {
    static const char *const wrong[] = {"Bearer secre", "Bearer secrets", "Bearer Secret", "Bearer ",
                                        "Bearer secret x"};
    static const char *const none[] = {"", "Bearer", "Basic secret", "secret", "Bearersecret"};
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(judge("secret", wrong[i], "127.0.0.1", ""), GATE_WRONG_TOKEN);
    }
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        assert_int_equal(judge("secret", none[i], "127.0.0.1", ""), GATE_NO_TOKEN);
    }
}

static void test_without_a_token_only_this_machine(void **state) {
    static const char *const hosts[] = {"localhost", "LOCALHOST:9090", "127.0.0.1", "127.0.0.1:9090",
                                        "127.9.8.7", "[::1]",          "[::1]:9090"};
    static const char *const foreign[] = {
        "",           "evil.example", "localhost.evil.example", "10.0.0.1", "127.0.0.1.nip.io", "127.0.0.1.",
        "[::2]:9090", "128.0.0.1",    "evil.example:127.0.0.1", "[::1",     "default"};
    (void)state;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        assert_int_equal(judge(NULL, "", hosts[i], ""), GATE_OPEN);
    }
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        assert_int_equal(judge(NULL, "", foreign[i], ""), GATE_FOREIGN_HOST);
        assert_int_equal(gate_judge(NULL, true, SPAN_EMPTY, span_text(foreign[i]), SPAN_EMPTY), GATE_FOREIGN_HOST);
    }
}

static void test_without_a_token_only_its_own_pages(void **state) {
    static const char *const foreign[] = {"http://evil.example",
                                          "http://127.0.0.1:9091",
                                          "https://127.0.0.1:9090",
                                          "null",
                                          "http://127.0.0.1:9090.evil.example",
                                          "http://localhost:9090"};
    (void)state;
    assert_int_equal(judge(NULL, "", "127.0.0.1:9090", "http://127.0.0.1:9090"), GATE_OPEN);
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        assert_int_equal(judge(NULL, "", "127.0.0.1:9090", foreign[i]), GATE_FOREIGN_ORIGIN);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_token_opens),
        cmocka_unit_test(test_anything_else_does_not),
        cmocka_unit_test(test_without_a_token_only_this_machine),
        cmocka_unit_test(test_without_a_token_only_its_own_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
