/* Records as bytes: what goes in comes out, damage is noticed, impossible counts are clamped, the chain binds all of
 * it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "store_testing.h"

#include "store/pack.h"
#include "store/record.h"

static struct record make_record(void) {
    struct record record = {.usage = make_usage("req_one", 3, 9, INT64_C(1780000000) * NS_PER_S),
                            .texts = {1, 2, 300, 70000}};
    memset(record.usage.model_asked, 0, sizeof record.usage.model_asked);
    memset(record.usage.model_served, 0, sizeof record.usage.model_served);
    memset(record.usage.upstream, 0, sizeof record.usage.upstream);
    return record;
}

static void test_round_trip(void **state) {
    (void)state;
    struct record before = make_record();
    struct record after;
    struct buffer bytes;
    buffer_init(&bytes, RECORD_BYTES_MOST);
    record_pack(&before, &bytes);
    assert_true(record_unpack(buffer_span(&bytes), &after));
    assert_memory_equal(&before, &after, sizeof before);
    assert_true(bytes.len < 160);
    buffer_fini(&bytes);
}

static void test_extremes(void **state) {
    (void)state;
    struct record before = {.usage = {.start_wall_ns = INT64_MAX,
                                      .end_wall_ns = INT64_MIN,
                                      .first_byte_wall_ns = -5,
                                      .wait_ns = INT64_MIN,
                                      .tenant_id = UINT32_MAX,
                                      .key_number = UINT32_MAX,
                                      .price_nusd = INT64_MAX,
                                      .flags = UINT32_MAX,
                                      .status = UINT16_MAX,
                                      .endpoint = UINT8_MAX,
                                      .attempts = UINT8_MAX},
                            .texts = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX}};
    memset(before.usage.end_user, 'x', sizeof before.usage.end_user - 1);
    memset(before.usage.id, 'y', sizeof before.usage.id - 1);
    struct record after;
    struct buffer bytes;
    buffer_init(&bytes, RECORD_BYTES_MOST);
    record_pack(&before, &bytes);
    assert_false(bytes.failed);
    assert_true(record_unpack(buffer_span(&bytes), &after));
    assert_memory_equal(&before, &after, sizeof before);
    buffer_fini(&bytes);
}

static void test_damage(void **state) {
    (void)state;
    struct record record = make_record();
    struct record out;
    struct buffer bytes;
    buffer_init(&bytes, RECORD_BYTES_MOST);
    record_pack(&record, &bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        assert_false(record_unpack(span_of(bytes.base, len), &out));
    }
    bytes.base[0] = 99; /* a version to come */
    assert_false(record_unpack(buffer_span(&bytes), &out));
    bytes.base[0] = 1;
    buffer_append_byte(&bytes, 'x');
    assert_false(record_unpack(buffer_span(&bytes), &out));
    buffer_fini(&bytes);
    char noise[300];
    for (unsigned seed = 1; seed < 20000; seed++) {
        unsigned at = seed;
        size_t len = (size_t)rand_r(&at) % sizeof noise;
        for (size_t i = 0; i < len; i++) {
            noise[i] = (char)rand_r(&at);
        }
        noise[0] = 1;
        (void)!record_unpack(span_of(noise, len), &out); /* only that it stays in bounds */
    }
}

static void test_clamp(void **state) {
    (void)state;
    struct record record = make_record();
    struct shm_usage_record_sh *usage = &record.usage;
    record_clamp(usage);
    assert_int_equal(usage->flags & SHM_RECORD_CLAMPED, 0);
    usage->tokens = (struct token_counts){.input_tokens = -1,
                                          .cached_input_tokens = 7,
                                          .cache_write_tokens = INT64_MAX,
                                          .output_tokens = INT64_MAX,
                                          .reasoning_tokens = -3};
    usage->price_nusd = -1;
    memset(usage->id, 'z', sizeof usage->id);
    record_clamp(usage);
    assert_true((usage->flags & SHM_RECORD_CLAMPED) != 0);
    assert_int_equal(usage->tokens.input_tokens, 0);
    assert_int_equal(usage->tokens.cached_input_tokens, 0);
    assert_int_equal(usage->tokens.cache_write_tokens, 0);
    assert_int_equal(usage->tokens.output_tokens, TOKENS_MOST);
    assert_int_equal(usage->price_nusd, 0);
    assert_int_equal(strlen(usage->id), sizeof usage->id - 1);
    (void)money_of_tokens(&usage->price, &usage->tokens, usage->markup); /* aborts on what is out of bounds */
}

static void test_chain(void **state) {
    (void)state;
    const unsigned char zero[SHA256_BYTES] = {0};
    unsigned char one[SHA256_BYTES];
    unsigned char two[SHA256_BYTES];
    struct span texts[RECORD_TEXTS] = {SPAN_LITERAL("a"), SPAN_LITERAL("b"), SPAN_LITERAL("c"), SPAN_LITERAL("{}")};
    record_chain(zero, SPAN_LITERAL("bytes"), texts, one);
    record_chain(zero, SPAN_LITERAL("bytez"), texts, two);
    assert_memory_not_equal(one, two, SHA256_BYTES);
    record_chain(one, SPAN_LITERAL("bytes"), texts, two);
    assert_memory_not_equal(one, two, SHA256_BYTES);
    texts[RECORD_UPSTREAM] = SPAN_LITERAL("d");
    record_chain(zero, SPAN_LITERAL("bytes"), texts, two);
    assert_memory_not_equal(one, two, SHA256_BYTES);
    texts[RECORD_MODEL_ASKED] = SPAN_LITERAL("ab"); /* borders between texts count */
    texts[RECORD_MODEL_SERVED] = SPAN_EMPTY;
    record_chain(zero, SPAN_LITERAL("bytes"), texts, one);
    assert_memory_not_equal(one, two, SHA256_BYTES);
}

static void test_keys_sort_as_numbers(void **state) {
    (void)state;
    const int64_t values[] = {INT64_MIN, -1000, -1, 0, 1, 255, 256, INT64_MAX};
    for (size_t at = 1; at < sizeof values / sizeof values[0]; at++) {
        struct pack_key low = {.len = 0};
        struct pack_key high = {.len = 0};
        pack_key_i64(&low, values[at - 1]);
        pack_key_i64(&high, values[at]);
        assert_true(memcmp(low.bytes, high.bytes, 8) < 0);
        assert_int_equal(unpack_bei64(high.bytes), values[at]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_extremes), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_clamp),      cmocka_unit_test(test_chain),    cmocka_unit_test(test_keys_sort_as_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
