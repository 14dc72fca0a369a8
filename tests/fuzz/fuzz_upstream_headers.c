/* An upstream's response headers, one a line, and its durations: whatever they say, what is learned can be reckoned
 * with (31 days in nanoseconds and a clock's time fit together), and lines that are unknown change nothing. */
#include "base/check.h"
#include "base/clock.h"
#include "fuzz.h"
#include "worker/upstream_headers.h"

#define DELAY_MS_MOST (INT64_C(31) * 24 * 3600 * 1000)

static void expect_sound(const struct upstream_allowance *allowance) {
    CHECK(allowance->limit >= 0 && allowance->remaining >= -1);
    CHECK(allowance->reset_ms >= 0 && allowance->reset_ms <= DELAY_MS_MOST);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct span lines = fuzz_span(data, size);
    struct upstream_head head = UPSTREAM_HEAD_EMPTY;
    while (lines.len != 0) {
        const char *end = memchr(lines.base, '\n', lines.len);
        struct span line = span_of(lines.base, end != NULL ? (size_t)(end - lines.base) : lines.len);
        const struct upstream_head before = head;
        upstream_headers_read(&head, line);
        CHECK(memchr(line.len != 0 ? line.base : "", ':', line.len) != NULL ||
              memcmp(&before, &head, sizeof(head)) == 0);
        int64_t delay_ms = upstream_headers_delay_ms(line, clock_wall_ns());
        CHECK(delay_ms >= -1 && delay_ms <= DELAY_MS_MOST);
        lines = span_skip(lines, line.len + 1);
    }
    CHECK(head.status == 0 && head.retry_after_ms >= -1 && head.retry_after_ms <= DELAY_MS_MOST);
    expect_sound(&head.requests);
    expect_sound(&head.tokens);
    return 0;
}
