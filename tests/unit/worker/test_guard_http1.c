#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/guard_http1.h"

#define HEAD "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST /p HTTP/1.1\r\nHost: a\r\n"

static const struct guard_http1_limits limits = {.head_bytes = 1024, .fields = 10};

struct outcome {
    int status; /* 0: nothing refused */
    uint64_t requests;
    uint64_t body_bytes;
    enum guard_http1_place place;
    size_t safe_bytes; /* end of the last complete request, counted from the start of the text */
};

/* Feeds text in pieces that end at the given places. */
static struct outcome feed(const char *text, size_t len, const size_t *ends, size_t end_count) {
    struct guard_http1 scan;
    struct outcome outcome = {0};
    guard_http1_init(&scan, &limits);
    size_t at = 0;
    for (size_t i = 0; i <= end_count && outcome.status == 0; i++) {
        size_t end = i < end_count ? ends[i] : len;
        /* An exact copy, so that a sanitizer sees any step outside. */
        char *piece = malloc(end - at + 1);
        memcpy(piece, text + at, end - at);
        size_t safe_bytes;
        const struct guard_refusal *refusal = guard_http1_feed(&scan, piece, end - at, &safe_bytes);
        free(piece);
        outcome.safe_bytes = safe_bytes != 0 ? at + safe_bytes : outcome.safe_bytes;
        outcome.status = refusal != NULL ? refusal->status : 0;
        at = end;
    }
    outcome.requests = scan.requests;
    outcome.body_bytes = scan.body_bytes;
    outcome.place = guard_http1_place(&scan);
    return outcome;
}

static void assert_same(const char *text, struct outcome a, struct outcome b) {
    if (a.status != b.status || a.requests != b.requests || a.place != b.place || a.safe_bytes != b.safe_bytes ||
        a.body_bytes != b.body_bytes) {
        fail_msg("splitting changes the outcome (%d %d, %d %d, %d %d, %zu %zu) of: %s", a.status, b.status,
                 (int)a.requests, (int)b.requests, (int)a.place, (int)b.place, a.safe_bytes, b.safe_bytes, text);
    }
}

/* The outcome of a text, the same wherever it is split: once, twice, at every byte. */
static struct outcome feed_all_ways(const char *text, size_t len) {
    struct outcome whole = feed(text, len, NULL, 0);
    size_t each[2048];
    assert_true(len < sizeof(each) / sizeof(each[0]));
    for (size_t i = 0; i < len; i++) {
        each[i] = i;
    }
    assert_same(text, whole, feed(text, len, each, len));
    for (size_t first = 0; first <= len; first++) {
        assert_same(text, whole, feed(text, len, &first, 1));
        for (size_t second = first; second <= len && len < 200; second++) {
            size_t ends[] = {first, second};
            assert_same(text, whole, feed(text, len, ends, 2));
        }
    }
    return whole;
}

static void test_good_requests(void **state) {
    (void)state;
    const struct {
        const char *text;
        uint64_t requests;
    } cases[] = {
        {HEAD "\r\n", 1},
        {"\r\n" HEAD "\r\n", 1},
        {HEAD "\r\n" HEAD "\r\n" HEAD "\r\n", 3},
        {HEAD "\r\n\r\n" HEAD "\r\n", 2},
        {"GET / HTTP/1.0\r\n\r\n", 1},
        {"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", 1},
        {"GET /a?b=c%20d&e=/\x80\xff HTTP/1.1\r\nhOsT: a:80 \t \r\n\r\n", 1},
        {"GET / HTTP/1.1\r\nHost: [::1]:8080\r\nX-Empty:\r\nX:\t a b \t\r\nY: \x80\xff\r\n\r\n", 1},
        {POST "Content-Length: 0\r\n\r\n", 1},
        {POST "content-length:   5  \r\n\r\nhello" HEAD "\r\n", 2},
        {POST "Content-Length: 10\r\n\r\nGET / HTTP" HEAD "\r\n", 2},
        {POST "Content-Length: 4\r\n\r\n\r\n\n\n" HEAD "\r\n", 2},
        {POST "Content-Length: 007\r\n\r\n1234567", 1},
        {POST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1},
        {POST "Transfer-Encoding: CHUNKED\t\r\n\r\n5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n" HEAD "\r\n", 2},
        {POST "Transfer-Encoding: chunked\r\n\r\n00f\r\n\r\n0\r\n\r\n0\r\n\r\n0\r\n\r\n0\r\nTrailer: x\r\n\r\n", 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct outcome outcome = feed_all_ways(cases[i].text, strlen(cases[i].text));
        if (outcome.status != 0 || outcome.requests != cases[i].requests || outcome.place != GUARD_HTTP1_BETWEEN ||
            outcome.safe_bytes != strlen(cases[i].text)) {
            fail_msg("status %d, %d requests for: %s", outcome.status, (int)outcome.requests, cases[i].text);
        }
    }
}

static const char *const bad_requests[] = {
    POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    POST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
    POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
    POST "Content-Length: 1, 1\r\n\r\n",
    POST "Content-Length: +1\r\n\r\n",
    POST "Content-Length: -1\r\n\r\n",
    POST "Content-Length: 0x1\r\n\r\n",
    POST "Content-Length: 1 1\r\n\r\n",
    POST "Content-Length:\r\n\r\n",
    POST "Content-Length: 18446744073709551617\r\n\r\n",
    POST "Content-Length: 1                                                                        1\r\n\r\n",
    POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    POST "Transfer-Encoding: identity\r\n\r\n",
    POST "Transfer-Encoding: gzip, chunked\r\n\r\n",
    POST "Transfer-Encoding: chunked, chunked\r\n\r\n",
    POST "Transfer-Encoding: \"chunked\"\r\n\r\n",
    POST "Transfer-Encoding: chunked                                   x\r\n\r\n",
    POST "Transfer-Encoding:\r\n\r\n",
    "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\n",
    "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n" /* two hosts are never right */,
    "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    HEAD " folded\r\n\r\n",
    HEAD "\tfolded\r\n\r\n",
    "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.11\r\nHost: a\r\n\r\n",
    "GET / http/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "GET /\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
    " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGG / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
    HEAD "X : y\r\n\r\n",
    HEAD "X\r\n\r\n",
    HEAD ": y\r\n\r\n",
    HEAD "X(: y\r\n\r\n",
    HEAD "X: y\x01\r\n\r\n",
    HEAD "X: y\rz\r\n\r\n",
    HEAD "X: y\r\r\n\r\n",
    HEAD "\r\r\n",
    POST "Transfer-Encoding: chunked\r\n\r\n\r\n",
    POST "Transfer-Encoding: chunked\r\n\r\n5 \r\n",
    POST "Transfer-Encoding: chunked\r\n\r\n0x5\r\n",
    POST "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n",
    POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n",
    POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n",
    POST "Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\n",
    POST "Transfer-Encoding: chunked\r\n\r\n1000000000000000\r\n",
    POST "Transfer-Encoding: chunked\r\n\r\n0\r\n\n",
    POST "Transfer-Encoding: chunked\r\n\r\n0\r\nT: a\nb\r\n\r\n",
    POST "Transfer-Encoding: chunked\r\n\r\n0\r\n folded\r\n\r\n",
    HEAD "Upgrade: h2c\r\n\r\nG",
};

static void test_bad_requests(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(bad_requests) / sizeof(bad_requests[0]); i++) {
        struct outcome outcome = feed_all_ways(bad_requests[i], strlen(bad_requests[i]));
        if (outcome.status != 400 || outcome.place != GUARD_HTTP1_REFUSED) {
            fail_msg("status %d for: %s", outcome.status, bad_requests[i]);
        }
    }
}

static void test_nul_bytes(void **state) {
    (void)state;
    const char in_value[] = HEAD "X: a\0b\r\n\r\n";
    const char in_target[] = "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n";
    const char in_body[] = POST "Content-Length: 3\r\n\r\n\0\0\0";
    assert_int_equal(feed_all_ways(in_value, sizeof(in_value) - 1).status, 400);
    assert_int_equal(feed_all_ways(in_target, sizeof(in_target) - 1).status, 400);
    assert_int_equal(feed_all_ways(in_body, sizeof(in_body) - 1).requests, 1);
}

static void test_large_heads(void **state) {
    (void)state;
    char text[2048];
    int len = snprintf(text, sizeof(text), HEAD "X: %0*d\r\n\r\n", (int)(1024 - strlen(HEAD "X: \r\n\r\n")), 0);
    assert_int_equal(len, 1024);
    assert_int_equal(feed_all_ways(text, 1024).status, 0);
    len = snprintf(text, sizeof(text), HEAD "X: %0*d\r\n\r\n", (int)(1025 - strlen(HEAD "X: \r\n\r\n")), 0);
    assert_int_equal(feed_all_ways(text, (size_t)len).status, 431);
    len = snprintf(text, sizeof(text), "GET /%01500d", 0);
    assert_int_equal(feed_all_ways(text, (size_t)len).status, 431);
    const char ten[] = HEAD "A:1\r\nA:2\r\nA:3\r\nA:4\r\nA:5\r\nA:6\r\nA:7\r\nA:8\r\nA:9\r\n\r\n";
    const char eleven[] = HEAD "A:1\r\nA:2\r\nA:3\r\nA:4\r\nA:5\r\nA:6\r\nA:7\r\nA:8\r\nA:9\r\nB:0\r\n\r\n";
    assert_int_equal(feed_all_ways(ten, sizeof(ten) - 1).status, 0);
    assert_int_equal(feed_all_ways(eleven, sizeof(eleven) - 1).status, 431);
}

static void test_trailers_and_extensions_are_bounded(void **state) {
    (void)state;
    char text[2048];
    int len = snprintf(text, sizeof(text), POST "Transfer-Encoding: chunked\r\n\r\n1;%0300d", 0);
    assert_int_equal(feed_all_ways(text, (size_t)len).status, 400);
    len = snprintf(text, sizeof(text), POST "Transfer-Encoding: chunked\r\n\r\n0\r\nT: %01200d", 0);
    assert_int_equal(feed_all_ways(text, (size_t)len).status, 431);
}

static void test_safe_bytes(void **state) {
    (void)state;
    const char good_then_bad[] = HEAD "\r\n" POST "Content-Length: 2\r\n\r\nab"
                                      "GET / HTTP/1.1\r\nX: y\r\n\r\n";
    size_t good = strlen(HEAD "\r\n" POST "Content-Length: 2\r\n\r\nab");
    struct outcome outcome = feed_all_ways(good_then_bad, sizeof(good_then_bad) - 1);
    assert_int_equal(outcome.status, 400);
    assert_int_equal(outcome.requests, 2);
    assert_int_equal(outcome.safe_bytes, good);
}

static void test_places_and_bodies(void **state) {
    (void)state;
    assert_int_equal(feed("", 0, NULL, 0).place, GUARD_HTTP1_BETWEEN);
    assert_int_equal(feed_all_ways("G", 1).place, GUARD_HTTP1_IN_HEAD);
    const char body[] = POST "Content-Length: 9\r\n\r\n12345678";
    struct outcome outcome = feed_all_ways(body, sizeof(body) - 1);
    assert_int_equal(outcome.place, GUARD_HTTP1_IN_BODY);
    assert_int_equal(outcome.body_bytes, 8);
    const char chunked[] = POST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\nd";
    outcome = feed_all_ways(chunked, sizeof(chunked) - 1);
    assert_int_equal(outcome.place, GUARD_HTTP1_IN_BODY);
    assert_int_equal(outcome.body_bytes, 4);
}

static void test_upgrades(void **state) {
    (void)state;
    struct guard_http1 scan;
    size_t safe_bytes;
    guard_http1_init(&scan, &limits);
    const char h2c[] = HEAD "Upgrade: H2C\r\nConnection: Upgrade\r\n\r\n";
    assert_null(guard_http1_feed(&scan, h2c, sizeof(h2c) - 1, &safe_bytes));
    assert_int_equal(guard_http1_place(&scan), GUARD_HTTP1_UPGRADING);
    assert_true(scan.upgrade_h2c);
    guard_http1_upgrade_declined(&scan);
    const char websocket[] = HEAD "Upgrade: websocket\r\n\r\n";
    assert_null(guard_http1_feed(&scan, websocket, sizeof(websocket) - 1, &safe_bytes));
    assert_int_equal(safe_bytes, sizeof(websocket) - 1);
    assert_false(scan.upgrade_h2c);
    guard_http1_upgrade_declined(&scan);
    assert_null(guard_http1_feed(&scan, HEAD "\r\n", strlen(HEAD "\r\n"), &safe_bytes));
    assert_int_equal(scan.requests, 3);
    guard_http1_upgrade_declined(&scan);
    assert_int_equal(guard_http1_place(&scan), GUARD_HTTP1_BETWEEN);
}

/* Whatever comes, the scanner neither steps outside nor accepts after it refused. */
static void test_noise(void **state) {
    (void)state;
    static const char *const words[] = {"GET ",
                                        "/",
                                        " HTTP/1.1",
                                        "\r\n",
                                        "Host: a",
                                        "\r",
                                        "\n",
                                        ":",
                                        "Content-Length: ",
                                        "5",
                                        "Transfer-Encoding: chunked",
                                        "\r\n\r\n",
                                        "0",
                                        ";",
                                        " ",
                                        "\t",
                                        "Upgrade: x",
                                        "\0",
                                        "\xff"};
    srandom(20261121);
    for (int round = 0; round < 20000; round++) {
        char text[400];
        size_t len = 0;
        for (int i = 0; i < 20; i++) {
            const char *word = words[(size_t)random() % (sizeof(words) / sizeof(words[0]))];
            size_t count = strlen(word) != 0 ? strlen(word) : 1;
            memcpy(text + len, word, count);
            len += count;
        }
        struct outcome whole = feed(text, len, NULL, 0);
        size_t split = (size_t)random() % len;
        assert_same("noise", whole, feed(text, len, &split, 1));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_requests),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_nul_bytes),
        cmocka_unit_test(test_large_heads),
        cmocka_unit_test(test_trailers_and_extensions_are_bounded),
        cmocka_unit_test(test_safe_bytes),
        cmocka_unit_test(test_places_and_bodies),
        cmocka_unit_test(test_upgrades),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
