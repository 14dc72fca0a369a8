/* The HTTP/1 guard: the same outcome wherever the bytes are cut, and never more than it was given. */
#include "base/check.h"
#include "fuzz.h"
#include "worker/guard_http1.h"

static const struct guard_http1_limits limits = {.head_bytes = 512, .fields = 8};

struct outcome {
    uint64_t requests;
    uint64_t body_bytes;
    size_t safe_bytes; /* end of the last complete request */
    const struct guard_refusal *refusal;
    enum guard_http1_place place;
};

/* Feeds all of it; an upgrade is declined as soon as it is asked for when `declines`. */
static struct outcome feed(const char *bytes, size_t len, size_t step, bool declines) {
    struct guard_http1 scan;
    struct outcome outcome = {.requests = 0};
    guard_http1_init(&scan, &limits);
    for (size_t at = 0; at < len && outcome.refusal == NULL; at += step) {
        size_t piece = step < len - at ? step : len - at;
        size_t safe_bytes = 0;
        outcome.refusal = guard_http1_feed(&scan, bytes + at, piece, &safe_bytes);
        CHECK(safe_bytes <= piece);
        outcome.safe_bytes = safe_bytes != 0 ? at + safe_bytes : outcome.safe_bytes;
        if (declines && guard_http1_place(&scan) == GUARD_HTTP1_UPGRADING) {
            guard_http1_upgrade_declined(&scan);
        }
    }
    outcome.requests = scan.requests;
    outcome.body_bytes = scan.body_bytes;
    outcome.place = guard_http1_place(&scan);
    CHECK((outcome.refusal != NULL) == (outcome.place == GUARD_HTTP1_REFUSED));
    return outcome;
}

static void expect_same(struct outcome a, struct outcome b) {
    CHECK(a.refusal == b.refusal && a.place == b.place);
    CHECK(a.requests == b.requests && a.safe_bytes == b.safe_bytes && a.body_bytes == b.body_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *bytes = (const char *)data;
    struct outcome whole = feed(bytes, size, size + 1, false);
    expect_same(feed(bytes, size, 1, false), whole);
    expect_same(feed(bytes, size, 2 + size % 11, false), whole);
    (void)feed(bytes, size, 1, true);
    return 0;
}
