/* Signatures against vectors made with Python's hmac and hashlib. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/signature.h"

#define KEY SPAN_LITERAL("sk-tg-00000000000000000000000000000000abcdef")
#define NOW_S INT64_C(1700000000)
#define V2_POST "v2=007e31988fdeee40631f70a2ebe163c23fd19a2c55e212e047b27586ca05caff"
#define V2_GET "v2=4ba2995ac8a6f39cc44911fdaebdd8ca94e344f2cd8f16d3823e97b2163c419b"
#define OLD "723a55326f5c2c3cd2fa7cf8d47a71a4fbef16357ac7a4e54a0178a20687d916"

static const struct signature_claim post = {.timestamp = SPAN_LITERAL("1700000000"),
                                            .signature = SPAN_LITERAL(V2_POST),
                                            .method = SPAN_LITERAL("POST"),
                                            .target = SPAN_LITERAL("/v1/chat/completions?stream=true"),
                                            .body = SPAN_LITERAL("{\"model\":\"m\"}")};
static struct signature_proof proof;

static enum signature_result check(struct signature_claim claim) {
    memset(&proof, 0, sizeof(proof));
    return signature_check(&claim, KEY, NOW_S, &proof);
}

static struct signature_claim with_signature(const char *signature) {
    struct signature_claim claim = post;
    claim.signature = span_text(signature);
    return claim;
}

static void good_ones_pass(void **state) {
    (void)state;
    assert_int_equal(check(post), SIGNATURE_V2);
    assert_int_equal(proof.timestamp_s, NOW_S);
    assert_int_equal(proof.mac[0], 0x00);
    assert_int_equal(proof.mac[31], 0xff);
    const struct signature_claim get = {.timestamp = SPAN_LITERAL("1700000000"),
                                        .signature = SPAN_LITERAL(V2_GET),
                                        .method = SPAN_LITERAL("GET"),
                                        .target = SPAN_LITERAL("/v1/models")};
    assert_int_equal(check(get), SIGNATURE_V2);
    assert_int_equal(check(with_signature(OLD)), SIGNATURE_OLD);
    assert_int_equal(check(with_signature("v2=007E31988FDEEE40631F70A2EBE163C23FD19A2C55E212E047B27586CA05CAFF")),
                     SIGNATURE_V2);
}

static void each_part_is_covered(void **state) {
    (void)state;
    struct signature_claim claim = post;
    claim.method = SPAN_LITERAL("PUT");
    assert_int_equal(check(claim), SIGNATURE_MISMATCH);
    claim = post;
    claim.target = SPAN_LITERAL("/v1/chat/completions?stream=false");
    assert_int_equal(check(claim), SIGNATURE_MISMATCH);
    claim.target = SPAN_LITERAL("/v1/chat/completions");
    assert_int_equal(check(claim), SIGNATURE_MISMATCH);
    claim = post;
    claim.body = SPAN_LITERAL("{\"model\":\"n\"}");
    assert_int_equal(check(claim), SIGNATURE_MISMATCH);
    claim.body = SPAN_EMPTY;
    assert_int_equal(check(claim), SIGNATURE_MISMATCH);
    claim = post;
    claim.timestamp = SPAN_LITERAL("1700000001");
    assert_int_equal(check(claim), SIGNATURE_MISMATCH);
    claim.timestamp = SPAN_LITERAL("01700000000");
    assert_int_equal(check(claim), SIGNATURE_MISMATCH);
    claim.signature = SPAN_LITERAL(OLD);
    assert_int_equal(check(claim), SIGNATURE_MISMATCH);
    assert_int_equal(signature_check(&post, SPAN_LITERAL("sk-tg-other"), NOW_S, &proof), SIGNATURE_MISMATCH);
    assert_int_equal(signature_check(&post, SPAN_EMPTY, NOW_S, &proof), SIGNATURE_MISMATCH);
}

static void every_changed_digit_is_noticed(void **state) {
    (void)state;
    for (size_t i = 3; i < sizeof(V2_POST) - 1; i++) {
        char changed[] = V2_POST;
        changed[i] = changed[i] == '0' ? '1' : '0';
        assert_int_equal(check(with_signature(changed)), SIGNATURE_MISMATCH);
    }
    assert_int_equal(check(with_signature(&V2_POST[3])), SIGNATURE_MISMATCH);
    assert_int_equal(check(with_signature("v2=" OLD)), SIGNATURE_MISMATCH);
}

static void the_window_is_300_seconds(void **state) {
    (void)state;
    static const struct {
        int64_t now_s;
        enum signature_result result;
    } moments[] = {{NOW_S + 300, SIGNATURE_V2},    {NOW_S - 300, SIGNATURE_V2}, {NOW_S + 301, SIGNATURE_STALE},
                   {NOW_S - 301, SIGNATURE_STALE}, {0, SIGNATURE_STALE},        {NOW_S * 1000, SIGNATURE_STALE}};
    for (size_t i = 0; i < sizeof(moments) / sizeof(moments[0]); i++) {
        assert_int_equal(signature_check(&post, KEY, moments[i].now_s, &proof), moments[i].result);
    }
    struct signature_claim old = with_signature(OLD);
    assert_int_equal(signature_check(&old, KEY, NOW_S + 300, &proof), SIGNATURE_OLD);
    assert_int_equal(signature_check(&old, KEY, NOW_S + 301, &proof), SIGNATURE_STALE);
}

static void half_a_signature_is_wrong(void **state) {
    (void)state;
    struct signature_claim claim = {.method = SPAN_LITERAL("GET"), .target = SPAN_LITERAL("/")};
    assert_int_equal(check(claim), SIGNATURE_ABSENT);
    claim.timestamp = post.timestamp;
    assert_int_equal(check(claim), SIGNATURE_INCOMPLETE);
    claim.signature = span_of("", 0);
    assert_int_equal(check(claim), SIGNATURE_INCOMPLETE);
    claim = post;
    claim.timestamp = SPAN_EMPTY;
    assert_int_equal(check(claim), SIGNATURE_INCOMPLETE);
    claim.timestamp = span_of("", 0);
    assert_int_equal(check(claim), SIGNATURE_INCOMPLETE);
}

static void what_is_no_signature_is_refused(void **state) {
    (void)state;
    static const char *const signatures[] = {"v2=",
                                             "v2",
                                             "x",
                                             "v1=" OLD,
                                             "V2=" OLD,
                                             OLD "0",
                                             "v2=v2=" OLD,
                                             "v2= " OLD,
                                             "v2=007e31988fdeee40631f70a2ebe163c23fd19a2c55e212e047b27586ca05caf",
                                             "v2=007e31988fdeee40631f70a2ebe163c23fd19a2c55e212e047b27586ca05cafg"};
    static const char *const timestamps[] = {
        "now",        "-1700000000", "+1700000000",          "1700000000.0",
        "0x6553f100", "1700000000 ", "17000000001700000000", "9999999999999999999999"};
    for (size_t i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++) {
        assert_int_equal(check(with_signature(signatures[i])), SIGNATURE_MALFORMED);
    }
    for (size_t i = 0; i < sizeof(timestamps) / sizeof(timestamps[0]); i++) {
        struct signature_claim claim = post;
        claim.timestamp = span_text(timestamps[i]);
        assert_int_equal(check(claim), SIGNATURE_MALFORMED);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones_pass),
        cmocka_unit_test(each_part_is_covered),
        cmocka_unit_test(every_changed_digit_is_noticed),
        cmocka_unit_test(the_window_is_300_seconds),
        cmocka_unit_test(half_a_signature_is_wrong),
        cmocka_unit_test(what_is_no_signature_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
