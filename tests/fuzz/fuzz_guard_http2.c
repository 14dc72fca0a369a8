/* The HTTP/2 guard over frames (the preface is added): the same outcome wherever they are cut, sums that add up.
 * Uploads are proven or cut by their stream's number. */
#include "base/check.h"
#include "fuzz.h"
#include "worker/guard_http2.h"

enum { PREFACE_BYTES = 24, STEP_NS = 1000000 };

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static const struct guard_http2_limits tight = {.units_per_second = 500,
                                                .burst_units = 20,
                                                .fields = 8,
                                                .block_bytes = 128,
                                                .bodies_bytes = 30000,
                                                .unproven_body_bytes = 300};
static const struct guard_http2_limits wide = {.units_per_second = 500,
                                               .burst_units = 1 << 20,
                                               .fields = 100,
                                               .block_bytes = 65536,
                                               .bodies_bytes = 1 << 26,
                                               .unproven_body_bytes = 1000};

struct outcome {
    int64_t level_hundredths;
    uint64_t bodies_bytes;
    uint64_t resets;
    size_t asked;
    enum guard_http2_result result;
    uint32_t streams;
    uint32_t uploads;
};

static void expect_sound(const struct guard_http2 *scan) {
    uint64_t bodies_bytes = 0;
    uint32_t uploads = 0;
    CHECK(scan->stream_count <= GUARD_HTTP2_STREAMS_MOST);
    for (uint32_t at = 0; at < scan->stream_count; at++) {
        bodies_bytes += scan->streams[at].body_bytes;
        uploads += scan->streams[at].uploading ? 1 : 0;
    }
    CHECK(bodies_bytes == scan->bodies_bytes && uploads == scan->uploads);
    CHECK(scan->level_hundredths <= scan->limits.burst_units * 100);
    CHECK((guard_http2_oldest_upload_ns(scan) == INT64_MAX) == (uploads == 0));
}

static enum guard_http2_result feed_piece(struct guard_http2 *scan, const uint8_t *bytes, size_t len, int64_t now_ns,
                                          size_t *asked) {
    while (len != 0) {
        size_t read_bytes = SIZE_MAX;
        enum guard_http2_result result = guard_http2_feed(scan, bytes, len, now_ns, &read_bytes);
        CHECK(read_bytes <= len);
        expect_sound(scan);
        if (result == GUARD_HTTP2_UPLOAD_UNPROVEN) {
            (*asked)++;
            (scan->stream_id % 8 == 7 ? guard_http2_cut : guard_http2_prove)(scan);
            expect_sound(scan);
        } else if (result != GUARD_HTTP2_OK) {
            return result;
        } else {
            CHECK(read_bytes == len);
        }
        bytes += read_bytes;
        len -= read_bytes;
    }
    return GUARD_HTTP2_OK;
}

static struct outcome feed(const struct guard_http2_limits *limits, const uint8_t *bytes, size_t len, size_t step) {
    static struct guard_http2 scan;
    struct outcome outcome = {.asked = 0};
    guard_http2_init(&scan, limits, 0);
    CHECK(feed_piece(&scan, (const uint8_t *)preface, PREFACE_BYTES, 0, &outcome.asked) == GUARD_HTTP2_OK);
    for (size_t at = 0; at < len && outcome.result == GUARD_HTTP2_OK; at += step) {
        outcome.result = feed_piece(&scan, bytes + at, step < len - at ? step : len - at, 0, &outcome.asked);
    }
    outcome.level_hundredths = scan.level_hundredths;
    outcome.bodies_bytes = scan.bodies_bytes;
    outcome.resets = scan.resets;
    outcome.streams = scan.stream_count;
    outcome.uploads = scan.uploads;
    return outcome;
}

/* As the front does it: time passes, frames are forwarded, streams end, the connection drains. */
static void live(const uint8_t *bytes, size_t len) {
    static struct guard_http2 scan;
    size_t asked = 0;
    guard_http2_init(&scan, &tight, 0);
    guard_http2_upgraded(&scan);
    (void)feed_piece(&scan, (const uint8_t *)preface, PREFACE_BYTES, 0, &asked);
    for (size_t at = 0; at < len; at += 16) {
        if (feed_piece(&scan, bytes + at, len - at < 16 ? len - at : 16, (int64_t)at * STEP_NS, &asked) !=
            GUARD_HTTP2_OK) {
            return;
        }
        if (bytes[at] % 2 == 0) {
            guard_http2_forwarded(&scan);
        }
        guard_http2_stream_ended(&scan, bytes[at], bytes[at] % 3 == 0);
        expect_sound(&scan);
        if (at > len / 2) {
            (void)guard_http2_drain(&scan);
        }
    }
}

/* Of a header block that is both too large and malformed the larger piece shows the size first. */
static enum guard_http2_result kind_of(enum guard_http2_result result) {
    return result == GUARD_HTTP2_FIELDS ? GUARD_HTTP2_BAD_FRAME : result;
}

static void expect_same(struct outcome a, struct outcome b) {
    CHECK(kind_of(a.result) == kind_of(b.result) && a.asked == b.asked && a.level_hundredths == b.level_hundredths);
    CHECK(a.streams == b.streams && a.uploads == b.uploads && a.bodies_bytes == b.bodies_bytes && a.resets == b.resets);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct guard_http2_limits *const both[] = {&tight, &wide};
    for (int i = 0; i < 2; i++) {
        struct outcome whole = feed(both[i], data, size, size + 1);
        expect_same(feed(both[i], data, size, 1), whole);
        expect_same(feed(both[i], data, size, 2 + size % 11), whole);
    }
    live(data, size);
    return 0;
}
