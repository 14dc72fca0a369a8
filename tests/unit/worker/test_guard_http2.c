#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "worker/guard_http2.h"

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING = 6, WINDOW_UPDATE = 8, CONTINUATION, UNKNOWN = 0x55 };
enum { END_STREAM = 1, END_HEADERS = 4, PADDED = 8, HAS_PRIORITY = 0x20 };
enum { SECOND_NS = 1000000000 };

static const struct guard_http2_limits limits = {.units_per_second = 500,
                                                 .burst_units = 1000,
                                                 .fields = 16,
                                                 .block_bytes = 512,
                                                 .bodies_bytes = 100000,
                                                 .unproven_body_bytes = 40000};

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* Bytes of a connection under construction. */
struct wire {
    uint8_t bytes[200000];
    size_t len;
};

static struct wire wire;

static void begin(void) {
    memcpy(wire.bytes, preface, sizeof(preface) - 1);
    wire.len = sizeof(preface) - 1;
}

static void add(uint8_t type, uint8_t flags, uint32_t stream, const void *payload, size_t len) {
    assert_true(wire.len + 9 + len <= sizeof(wire.bytes));
    const uint8_t header[] = {
        (uint8_t)(len >> 16),    (uint8_t)(len >> 8),     (uint8_t)len,           type,           flags,
        (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    memcpy(wire.bytes + wire.len, header, sizeof(header));
    if (payload != NULL) {
        memcpy(wire.bytes + wire.len + 9, payload, len);
    } else {
        memset(wire.bytes + wire.len + 9, 0, len);
    }
    wire.len += 9 + len;
}

#define ADD_TEXT(type, flags, stream, text) add(type, flags, stream, text, sizeof(text) - 1)

struct outcome {
    enum guard_http2_result result;
    int64_t level;
    uint32_t streams;
    uint32_t uploads;
    uint64_t bodies;
    size_t asked;
};

static enum guard_http2_result feed_piece(struct guard_http2 *scan, const uint8_t *bytes, size_t len, size_t *asked) {
    while (len != 0) {
        size_t count;
        enum guard_http2_result result = guard_http2_feed(scan, bytes, len, 0, &count);
        if (result == GUARD_HTTP2_UPLOAD_UNPROVEN) {
            (*asked)++;
            guard_http2_prove(scan);
        } else if (result != GUARD_HTTP2_OK) {
            return result;
        }
        bytes += count;
        len -= count;
    }
    return GUARD_HTTP2_OK;
}

/* Feeds the wire in pieces of `step` bytes after a first one of `first`. */
static struct outcome feed(size_t first, size_t step) {
    static struct guard_http2 scan;
    struct outcome outcome = {0};
    guard_http2_init(&scan, &limits, 0);
    for (size_t at = 0, end = first; at < wire.len && outcome.result == GUARD_HTTP2_OK; at = end, end += step) {
        end = end < wire.len ? end : wire.len;
        uint8_t *piece = malloc(end - at + 1);
        memcpy(piece, wire.bytes + at, end - at);
        outcome.result = feed_piece(&scan, piece, end - at, &outcome.asked);
        free(piece);
    }
    outcome.level = scan.level_hundredths;
    outcome.streams = scan.stream_count;
    outcome.uploads = scan.uploads;
    outcome.bodies = scan.bodies_bytes;
    return outcome;
}

static void assert_same(const struct outcome *a, const struct outcome *b) {
    assert_int_equal(a->result, b->result);
    assert_int_equal(a->asked, b->asked);
    assert_int_equal(a->level, b->level);
    assert_int_equal(a->streams, b->streams);
    assert_int_equal(a->uploads, b->uploads);
    assert_int_equal(a->bodies, b->bodies);
}

static struct outcome feed_all_ways(void) {
    struct outcome whole = feed(wire.len, wire.len);
    for (size_t first = 0; first <= wire.len; first += wire.len < 3000 ? 1 : 997) {
        struct outcome split = feed(first, wire.len);
        assert_same(&split, &whole);
    }
    struct outcome bytes = feed(1, 1);
    assert_same(&bytes, &whole);
    return whole;
}

static void expect(enum guard_http2_result result) { assert_int_equal(feed_all_ways().result, result); }

static void test_preface(void **state) {
    (void)state;
    begin();
    expect(GUARD_HTTP2_OK);
    for (size_t i = 0; i < sizeof(preface) - 1; i++) {
        begin();
        wire.bytes[i] ^= 1;
        expect(GUARD_HTTP2_BAD_PREFACE);
    }
}

static void test_prices(void **state) {
    (void)state;
    const struct {
        uint8_t type;
        uint8_t flags;
        size_t len;
        int64_t price;
    } cases[] = {{RST_STREAM, 0, 4, 200}, {WINDOW_UPDATE, 0, 4, 2},
                 {PING, 0, 8, 100},       {SETTINGS, 0, 0, 100},
                 {PRIORITY, 0, 5, 100},   {UNKNOWN, 0, 100, 20},
                 {DATA, 0, 0, 100},       {DATA, 0, 5, 100},
                 {DATA, 0, 16384, 5},     {HEADERS, END_HEADERS | END_STREAM, 0, 100}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin();
        add(cases[i].type, cases[i].flags, 1, NULL, cases[i].len);
        struct outcome outcome = feed_all_ways();
        assert_int_equal(outcome.result, GUARD_HTTP2_OK);
        assert_int_equal(outcome.level, 100000 - cases[i].price);
    }
}

static void test_body_data_is_free(void **state) {
    (void)state;
    begin();
    ADD_TEXT(HEADERS, END_HEADERS, 1, "\x82");
    add(DATA, 0, 1, NULL, 16384);
    add(DATA, 0, 1, NULL, 1);
    add(DATA, END_STREAM, 1, NULL, 1000);
    struct outcome outcome = feed_all_ways();
    assert_int_equal(outcome.level, 100000 - 100 - 2);
    assert_int_equal(outcome.bodies, 17385);
    assert_int_equal(outcome.uploads, 0);
    assert_int_equal(outcome.streams, 1);
}

static void test_bucket(void **state) {
    (void)state;
    static struct guard_http2 scan;
    size_t count;
    begin();
    for (int i = 0; i < 500; i++) {
        ADD_TEXT(RST_STREAM, 0, 1, "\0\0\0\0");
    }
    guard_http2_init(&scan, &limits, 0);
    assert_int_equal(guard_http2_feed(&scan, wire.bytes, wire.len, 0, &count), GUARD_HTTP2_OK);
    assert_int_equal(scan.level_hundredths, 0);
    const uint8_t *reset = wire.bytes + wire.len - 13;
    /* Half a second brings 250 units, 125 resets. */
    for (int i = 0; i < 125; i++) {
        assert_int_equal(guard_http2_feed(&scan, reset, 13, SECOND_NS / 2, &count), GUARD_HTTP2_OK);
    }
    assert_int_equal(guard_http2_feed(&scan, reset, 13, SECOND_NS / 2, &count), GUARD_HTTP2_FLOOD);
    /* It never holds more than the burst, and time that stands or goes back gives nothing. */
    guard_http2_init(&scan, &limits, SECOND_NS);
    assert_int_equal(guard_http2_feed(&scan, wire.bytes, wire.len, SECOND_NS * INT64_C(1000000), &count),
                     GUARD_HTTP2_OK);
    assert_int_equal(guard_http2_feed(&scan, reset, 13, SECOND_NS, &count), GUARD_HTTP2_FLOOD);
}

static void test_refunds(void **state) {
    (void)state;
    static struct guard_http2 scan;
    size_t count;
    begin();
    ADD_TEXT(HEADERS, END_HEADERS | END_STREAM, 1, "\x82");
    ADD_TEXT(HEADERS, END_HEADERS | END_STREAM, 3, "\x82");
    ADD_TEXT(HEADERS, END_HEADERS | END_STREAM, 5, "\x82");
    ADD_TEXT(RST_STREAM, 0, 5, "\0\0\0\0");
    guard_http2_init(&scan, &limits, 0);
    assert_int_equal(guard_http2_feed(&scan, wire.bytes, wire.len, 0, &count), GUARD_HTTP2_OK);
    assert_int_equal(scan.level_hundredths, 100000 - 500);
    guard_http2_stream_ended(&scan, 1, true);
    assert_int_equal(scan.level_hundredths, 100000 - 400);
    guard_http2_stream_ended(&scan, 3, false);
    guard_http2_stream_ended(&scan, 5, true); /* reset: no unit back */
    guard_http2_stream_ended(&scan, 1, true); /* once only */
    assert_int_equal(scan.level_hundredths, 100000 - 400);
    assert_int_equal(scan.stream_count, 0);
    assert_int_equal(scan.resets, 1);
}

static void test_header_blocks(void **state) {
    (void)state;
    const struct {
        const char *block;
        size_t len;
        enum guard_http2_result result;
    } cases[] = {
#define CASE(text, result) {text, sizeof(text) - 1, result}
        CASE("\x82\x86\x84", GUARD_HTTP2_OK),
        CASE("\x20\x3f\xe1\x1f\x82", GUARD_HTTP2_OK),
        CASE("\x40\x01x\x01y\xbe", GUARD_HTTP2_OK),
        CASE("\x00\x81x\x00\x10\x00\x00", GUARD_HTTP2_OK),
        CASE("\x41\x03"
             "abc\x0f\x0d\x03"
             "123\x7f\x01\x00",
             GUARD_HTTP2_OK),
        CASE("\xff\x00\xff\x80\x01", GUARD_HTTP2_OK),
        CASE("\x40", GUARD_HTTP2_BAD_FRAME),
        CASE("\x40\x01", GUARD_HTTP2_BAD_FRAME),
        CASE("\x40\x01x", GUARD_HTTP2_BAD_FRAME),
        CASE("\x40\x01x\x05y", GUARD_HTTP2_BAD_FRAME),
        CASE("\xff", GUARD_HTTP2_BAD_FRAME),
        CASE("\xff\x80", GUARD_HTTP2_BAD_FRAME),
        CASE("\xff\x80\x80\x80\x80\x00", GUARD_HTTP2_BAD_FRAME),
        CASE("\xff\xff\xff\xff\x7f", GUARD_HTTP2_BAD_FRAME),
        CASE("\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82", GUARD_HTTP2_OK),
        CASE("\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82\x82", GUARD_HTTP2_FIELDS),
#undef CASE
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin();
        add(HEADERS, END_HEADERS | END_STREAM, 1, cases[i].block, cases[i].len);
        expect(cases[i].result);
        /* The same in a frame a byte, with empty ones between. */
        begin();
        add(HEADERS, END_STREAM, 1, NULL, 0);
        for (size_t at = 0; at < cases[i].len; at++) {
            add(CONTINUATION, 0, 1, cases[i].block + at, 1);
            add(CONTINUATION, 0, 1, NULL, 0);
        }
        add(CONTINUATION, END_HEADERS, 1, NULL, 0);
        expect(cases[i].result);
    }
}

static void test_padding_and_priority(void **state) {
    (void)state;
    begin();
    ADD_TEXT(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, "\x03\x82\xff\xff\xff");
    ADD_TEXT(HEADERS, END_HEADERS | END_STREAM | HAS_PRIORITY, 3, "\0\0\0\0\x10\x82");
    ADD_TEXT(HEADERS, END_HEADERS | END_STREAM | HAS_PRIORITY | PADDED, 5, "\x02\0\0\0\0\x10\x82\xff\xff");
    ADD_TEXT(HEADERS, END_HEADERS | END_STREAM | PADDED, 7, "\0\x82");
    assert_int_equal(feed_all_ways().streams, 4);
    begin();
    ADD_TEXT(HEADERS, END_HEADERS | PADDED, 1, "\x04\x82\xff\xff\xff");
    add(HEADERS, END_HEADERS | PADDED, 3, NULL, 1);
    expect(GUARD_HTTP2_OK);
    begin();
    ADD_TEXT(HEADERS, END_HEADERS | PADDED, 1, "\x05\x82\xff\xff\xff");
    expect(GUARD_HTTP2_BAD_FRAME);
    begin();
    add(HEADERS, END_HEADERS | PADDED, 1, NULL, 0);
    expect(GUARD_HTTP2_BAD_FRAME);
    begin();
    add(HEADERS, END_HEADERS | HAS_PRIORITY | PADDED, 1, NULL, 5);
    expect(GUARD_HTTP2_BAD_FRAME);
}

static void test_frames_out_of_place(void **state) {
    (void)state;
    begin();
    add(CONTINUATION, END_HEADERS, 1, NULL, 0);
    expect(GUARD_HTTP2_BAD_FRAME);
    begin();
    add(HEADERS, 0, 1, NULL, 0);
    add(PING, 0, 0, NULL, 8);
    expect(GUARD_HTTP2_BAD_FRAME);
    begin();
    add(HEADERS, 0, 1, NULL, 0);
    add(HEADERS, END_HEADERS, 3, NULL, 0);
    expect(GUARD_HTTP2_BAD_FRAME);
    begin();
    add(HEADERS, 0, 1, NULL, 0);
    add(CONTINUATION, END_HEADERS, 3, NULL, 0);
    expect(GUARD_HTTP2_BAD_FRAME);
    begin();
    add(DATA, 0, 1, NULL, 16385);
    expect(GUARD_HTTP2_BAD_FRAME);
    begin();
    add(HEADERS, 0, 1, NULL, 0);
    for (int i = 0; i < 9; i++) {
        ADD_TEXT(CONTINUATION, 0, 1,
                 "\x3f\x80\x80\x00\x3f\x80\x80\x00\x3f\x80\x80\x00\x3f\x80\x80\x00\x3f\x80\x80\x00\x3f\x80\x80\x00"
                 "\x3f\x80\x80\x00\x3f\x80\x80\x00\x3f\x80\x80\x00\x3f\x80\x80\x00\x3f\x80\x80\x00\x3f\x80\x80\x00"
                 "\x3f\x80\x80\x00\x3f\x80\x80\x00\x3f\x80\x80\x00\x3f\x80\x80\x00");
    }
    expect(GUARD_HTTP2_FIELDS); /* the block is past 512 bytes, though it has no field */
}

static void test_uploads(void **state) {
    (void)state;
    begin();
    ADD_TEXT(HEADERS, END_HEADERS, 1, "\x83");
    ADD_TEXT(HEADERS, END_HEADERS, 3, "\x83");
    for (int i = 0; i < 3; i++) {
        add(DATA, 0, 1, NULL, 16384);
    }
    struct outcome outcome = feed_all_ways();
    assert_int_equal(outcome.asked, 1);
    assert_int_equal(outcome.uploads, 2);
    ADD_TEXT(HEADERS, END_HEADERS | END_STREAM, 1, "\x82"); /* a trailer */
    ADD_TEXT(RST_STREAM, 0, 3, "\0\0\0\0");
    outcome = feed_all_ways();
    assert_int_equal(outcome.uploads, 0);
    assert_int_equal(outcome.bodies, 3 * 16384);
    assert_int_equal(outcome.streams, 1);
    ADD_TEXT(HEADERS, END_HEADERS, 5, "\x83");
    for (int i = 0; i < 4; i++) {
        add(DATA, 0, 5, NULL, 16384);
    }
    assert_int_equal(feed_all_ways().result, GUARD_HTTP2_BODIES); /* 7 x 16 KiB past 100,000 */
}

static void test_cut_upload(void **state) {
    (void)state;
    static struct guard_http2 scan;
    begin();
    ADD_TEXT(HEADERS, END_HEADERS, 1, "\x83");
    for (int i = 0; i < 3; i++) {
        add(DATA, 0, 1, NULL, 16384);
    }
    size_t count;
    guard_http2_init(&scan, &limits, 7);
    assert_int_equal(guard_http2_oldest_upload_ns(&scan), INT64_MAX);
    assert_int_equal(guard_http2_feed(&scan, wire.bytes, wire.len, 9, &count), GUARD_HTTP2_UPLOAD_UNPROVEN);
    assert_int_equal(count, wire.len - 16384); /* right behind the frame's header */
    assert_int_equal(guard_http2_oldest_upload_ns(&scan), 9);
    guard_http2_cut(&scan);
    assert_int_equal(scan.uploads, 0);
    const uint8_t *rest = wire.bytes + count;
    assert_int_equal(guard_http2_feed(&scan, rest, 16384, 9, &count), GUARD_HTTP2_OK);
    int64_t level = scan.level_hundredths;
    begin();
    add(DATA, 0, 1, NULL, 16384); /* what was on its way costs little */
    const uint8_t *frame = wire.bytes + sizeof(preface) - 1;
    assert_int_equal(guard_http2_feed(&scan, frame, 9 + 16384, 9, &count), GUARD_HTTP2_OK);
    assert_int_equal(scan.level_hundredths, level - 5);
}

static void test_many_streams(void **state) {
    (void)state;
    begin();
    for (uint32_t i = 0; i < 500; i++) {
        ADD_TEXT(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, "\x82");
    }
    struct outcome outcome = feed_all_ways();
    assert_int_equal(outcome.result, GUARD_HTTP2_OK);
    assert_int_equal(outcome.streams, GUARD_HTTP2_STREAMS_MOST);
    begin();
    for (uint32_t i = 0; i <= GUARD_HTTP2_STREAMS_MOST; i++) {
        ADD_TEXT(HEADERS, END_HEADERS, 2 * i + 1, "\x83");
    }
    expect(GUARD_HTTP2_FLOOD);
}

static void test_drain(void **state) {
    (void)state;
    static struct guard_http2 scan;
    size_t count;
    begin();
    add(HEADERS, 0, 1, NULL, 0);
    ADD_TEXT(CONTINUATION, 0, 1, "\x82");
    for (size_t len = 0; len <= wire.len; len++) {
        guard_http2_init(&scan, &limits, 0);
        assert_int_equal(guard_http2_feed(&scan, wire.bytes, len, 0, &count), GUARD_HTTP2_OK);
        guard_http2_forwarded(&scan);
        bool inside = len == wire.len - 1;
        assert_int_equal(guard_http2_drain(&scan), !inside);
        if (!inside && len < wire.len) {
            assert_int_equal(guard_http2_feed(&scan, wire.bytes + len, wire.len - len, 0, &count),
                             GUARD_HTTP2_DRAIN_CONTINUED);
        }
    }
    guard_http2_init(&scan, &limits, 0);
    assert_int_equal(guard_http2_feed(&scan, wire.bytes, wire.len, 0, &count), GUARD_HTTP2_OK);
    assert_false(guard_http2_drain(&scan)); /* read by us, not by libh2o yet */
}

static void test_upgraded(void **state) {
    (void)state;
    static struct guard_http2 scan;
    size_t count;
    guard_http2_init(&scan, &limits, 0);
    guard_http2_upgraded(&scan);
    assert_false(guard_http2_began(&scan));
    begin();
    ADD_TEXT(HEADERS, END_HEADERS | END_STREAM, 3, "\x82");
    assert_int_equal(guard_http2_feed(&scan, wire.bytes, wire.len, 0, &count), GUARD_HTTP2_OK);
    assert_true(guard_http2_began(&scan));
    assert_int_equal(scan.stream_count, 2);
    guard_http2_stream_ended(&scan, 1, true);
    assert_int_equal(scan.stream_count, 1);
}

/* Whatever comes, the scanner stays inside its input and does not depend on where it is cut. */
static void test_noise(void **state) {
    (void)state;
    srandom(20261121);
    for (int round = 0; round < 3000; round++) {
        begin();
        for (int i = 0; i < 8; i++) {
            uint8_t payload[64];
            size_t len = (size_t)random() % sizeof(payload);
            for (size_t at = 0; at < len; at++) {
                payload[at] = (uint8_t)random();
            }
            add((uint8_t)((size_t)random() % 11), (uint8_t)random(), (uint32_t)random() % 7, payload, len);
        }
        struct outcome whole = feed(wire.len, wire.len);
        struct outcome split = feed((size_t)random() % wire.len, 1 + (size_t)random() % 40);
        assert_same(&split, &whole);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_preface),
        cmocka_unit_test(test_prices),
        cmocka_unit_test(test_body_data_is_free),
        cmocka_unit_test(test_bucket),
        cmocka_unit_test(test_refunds),
        cmocka_unit_test(test_header_blocks),
        cmocka_unit_test(test_padding_and_priority),
        cmocka_unit_test(test_frames_out_of_place),
        cmocka_unit_test(test_uploads),
        cmocka_unit_test(test_cut_upload),
        cmocka_unit_test(test_many_streams),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_upgraded),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
