#include "worker/upstream_headers.h"

#include <strings.h>

#include "base/calendar.h"
#include "base/clock.h"
#include "base/money.h"

enum { BILLIONTHS_PER_MS = NUSD_PER_USD / 1000 };

/* Nobody waits longer; what is longer is as long as this, so that it can be counted in nanoseconds. */
#define DELAY_MS_MOST (INT64_C(31) * 86400000)

/* The value when the line is this header, else empty. */
static struct span value_of(struct span line, const char *name) {
    size_t len = strlen(name);
    if (line.len <= len || line.base[len] != ':' || strncasecmp(line.base, name, len) != 0) {
        return SPAN_EMPTY;
    }
    return span_trim(span_skip(line, len + 1));
}

/* A decimal number in thousandths; -1 for anything else. */
static int64_t parse_thousandths(struct span text) {
    int64_t billionths = 0;
    return money_parse(text, &billionths) && billionths >= 0 ? billionths / BILLIONTHS_PER_MS : -1;
}

/* One number with its unit from the front of *text, in milliseconds; -1: there is none. */
static int64_t take_unit_ms(struct span *text) {
    size_t digits = 0;
    while (digits < text->len &&
           (text->base[digits] == '.' || (text->base[digits] >= '0' && text->base[digits] <= '9'))) {
        digits++;
    }
    int64_t thousandths = parse_thousandths(span_of(text->base, digits));
    struct span unit = span_skip(*text, digits);
    size_t unit_len = span_starts_with(unit, "ms") ? 2 : 1;
    int64_t ms = span_starts_with(unit, "ms")  ? 1
                 : span_starts_with(unit, "s") ? 1000
                 : span_starts_with(unit, "m") ? 60000
                 : span_starts_with(unit, "h") ? 3600000
                 : span_starts_with(unit, "d") ? 86400000
                                               : -1;
    int64_t product = 0;
    if (thousandths < 0 || ms < 0 || __builtin_mul_overflow(thousandths, ms, &product)) {
        return -1;
    }
    *text = span_skip(unit, unit_len);
    return product / 1000 + (product % 1000 != 0 ? 1 : 0);
}

static int64_t clamp_delay(int64_t ms) { return ms < DELAY_MS_MOST ? ms : DELAY_MS_MOST; }

int64_t upstream_headers_delay_ms(struct span text, int64_t now_wall_ns) {
    int64_t total_ms = 0;
    int64_t instant_ns = 0;
    int64_t plain_ms = parse_thousandths(text);
    if (plain_ms >= 0) {
        return clamp_delay(plain_ms);
    }
    if (text.len > 10 && text.base[4] == '-' && calendar_parse(text, now_wall_ns, &instant_ns)) {
        return instant_ns > now_wall_ns ? clamp_delay((instant_ns - now_wall_ns) / NS_PER_MS) : 0;
    }
    for (int units = 0; text.len != 0; units++) {
        int64_t ms = units < 5 ? take_unit_ms(&text) : -1;
        if (ms < 0 || __builtin_add_overflow(total_ms, ms, &total_ms)) {
            return -1;
        }
    }
    return clamp_delay(total_ms);
}

static int64_t parse_count(struct span text) {
    int64_t thousandths = parse_thousandths(text);
    return thousandths > 0 ? thousandths / 1000 : 0;
}

/* One encoding, of those that cost little to undo; several might be a bomb. */
static bool is_undone(struct span encoding) {
    return span_is_nocase(encoding, "identity") || span_is_nocase(encoding, "gzip") ||
           span_is_nocase(encoding, "x-gzip") || span_is_nocase(encoding, "deflate");
}

static void read_content(struct upstream_head *head, struct span value) {
    bool stream = value.len >= 17 && strncasecmp(value.base, "text/event-stream", 17) == 0;
    bool json = value.len >= 16 && strncasecmp(value.base, "application/json", 16) == 0;
    head->content = stream ? UPSTREAM_EVENT_STREAM : json ? UPSTREAM_JSON : UPSTREAM_OTHER_CONTENT;
}

static bool read_allowance(struct span line, const char *limit, const char *remaining, const char *reset,
                           struct upstream_allowance *out) {
    struct span value = value_of(line, limit);
    if (value.len != 0) {
        out->limit = parse_count(value);
        return true;
    }
    value = value_of(line, remaining);
    if (value.len != 0) {
        out->remaining = parse_count(value);
        return true;
    }
    value = value_of(line, reset);
    if (value.len != 0) {
        int64_t delay_ms = upstream_headers_delay_ms(value, clock_wall_ns());
        out->reset_ms = delay_ms > 0 ? delay_ms : 0;
    }
    return value.len != 0;
}

static void read_rate_limit(struct upstream_head *head, struct span line) {
    bool known = read_allowance(line, "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
                                "x-ratelimit-reset-requests", &head->requests) ||
                 read_allowance(line, "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens",
                                "x-ratelimit-reset-tokens", &head->tokens) ||
                 read_allowance(line, "anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining",
                                "anthropic-ratelimit-requests-reset", &head->requests) ||
                 read_allowance(line, "anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining",
                                "anthropic-ratelimit-tokens-reset", &head->tokens);
    (void)known;
}

void upstream_headers_read(struct upstream_head *head, struct span line) {
    struct span value = value_of(line, "content-type");
    if (value.len != 0) {
        read_content(head, value);
        return;
    }
    value = value_of(line, "content-encoding");
    if (value.len != 0) {
        head->encoded |= !is_undone(value) || head->zipped;
        head->zipped |= !span_is_nocase(value, "identity");
        return;
    }
    value = value_of(line, "retry-after-ms");
    if (value.len != 0) {
        int64_t delay_thousandths = parse_thousandths(value);
        head->retry_after_ms = delay_thousandths > 0 ? clamp_delay(delay_thousandths / 1000) : head->retry_after_ms;
        return;
    }
    value = value_of(line, "retry-after");
    if (value.len != 0) {
        head->retry_after_ms = head->retry_after_ms < 0 ? clamp_delay(parse_thousandths(value)) : head->retry_after_ms;
        return;
    }
    read_rate_limit(head, line);
}
