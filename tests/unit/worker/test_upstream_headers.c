#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "worker/upstream_headers.h"

static struct upstream_head head_of(const char *const *lines) {
    struct upstream_head head = UPSTREAM_HEAD_EMPTY;
    for (; *lines != NULL; lines++) {
        upstream_headers_read(&head, span_text(*lines));
    }
    return head;
}

static void delays_come_in_many_forms(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {{"0s", 0},
                {"12ms", 12},
                {"8.64s", 8640},
                {"1m13.588s", 73588},
                {"20m52.666s", 1252666},
                {"6m0s", 360000},
                {"1h2m", 3720000},
                {"2d", 172800000},
                {"30", 30000},
                {"0.5", 500},
                {"", 0},
                {"soon", -1},
                {"1x", -1},
                {"-1", -1},
                {"1s2", -1},
                {"1s1s1s1s1s1s", -1},
                {"99999999999999999999s", -1},
                {"31d", 2678400000},
                {"31d1ms", 2678400000},
                {"9223372036", 2678400000},
                {"9223372036d", -1},
                {"ms", -1}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t ms = upstream_headers_delay_ms(span_text(rows[i].text), 0);
        if (ms != rows[i].ms) {
            print_error("\"%s\": %lld\n", rows[i].text, (long long)ms);
        }
        assert_int_equal(ms, rows[i].ms);
    }
    int64_t now = INT64_C(1795255200) * NS_PER_S; /* 2026-11-21T10:00:00Z */
    assert_int_equal(upstream_headers_delay_ms(SPAN_LITERAL("2026-11-21T10:00:30Z"), now), 30000);
    assert_int_equal(upstream_headers_delay_ms(SPAN_LITERAL("2026-11-21T09:00:30Z"), now), 0);
}

static void openai_s_limits_are_read(void **state) {
    (void)state;
    const char *const lines[] = {"X-RateLimit-Limit-Requests: 100",
                                 "x-ratelimit-remaining-requests: 99",
                                 "x-ratelimit-reset-requests: 600ms",
                                 "x-ratelimit-limit-tokens: 40000",
                                 "x-ratelimit-remaining-tokens: 0",
                                 "x-ratelimit-reset-tokens: 1m0s",
                                 "content-type: text/event-stream; charset=utf-8",
                                 "retry-after: 1.5",
                                 NULL};
    struct upstream_head head = head_of(lines);
    assert_int_equal(head.requests.limit, 100);
    assert_int_equal(head.requests.remaining, 99);
    assert_int_equal(head.requests.reset_ms, 600);
    assert_int_equal(head.tokens.limit, 40000);
    assert_int_equal(head.tokens.remaining, 0);
    assert_int_equal(head.tokens.reset_ms, 60000);
    assert_int_equal(head.retry_after_ms, 1500);
    assert_int_equal(head.content, UPSTREAM_EVENT_STREAM);
}

static void milliseconds_win_over_seconds(void **state) {
    (void)state;
    const char *const lines[] = {"retry-after-ms: 250", "retry-after: 1", NULL};
    assert_int_equal(head_of(lines).retry_after_ms, 250);
    const char *const azure[] = {"retry-after-ms: 0", "retry-after: 1", NULL};
    assert_int_equal(head_of(azure).retry_after_ms, 1000);
}

static void garbage_changes_nothing(void **state) {
    (void)state;
    const char *const lines[] = {"retry-after: Wed, 21 Oct 2026 07:28:00 GMT",
                                 "x-ratelimit-limit-requests: many",
                                 "x-ratelimit-reset-requests: later",
                                 "no colon",
                                 "",
                                 "x-ratelimit-limit-requests:",
                                 NULL};
    struct upstream_head head = head_of(lines);
    assert_int_equal(head.retry_after_ms, -1);
    assert_int_equal(head.requests.limit, 0);
    assert_int_equal(head.requests.remaining, -1);
    assert_int_equal(head.requests.reset_ms, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delays_come_in_many_forms),
        cmocka_unit_test(openai_s_limits_are_read),
        cmocka_unit_test(milliseconds_win_over_seconds),
        cmocka_unit_test(garbage_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
