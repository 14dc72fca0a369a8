/* Published tables: what the ledger writes is what workers read, also while it is being rewritten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/shm_breaker.h"
#include "shm/shm_keys.h"

#include "segment_testing.h"

static void secrets_are_found_until_their_time_is_over(void **state) {
    (void)state;
    unsigned char hash[SHA256_BYTES] = {1, 2, 3};
    assert_int_equal(shm_key_find(&map, hash, 5), -1);
    assert_true(shm_secret_publish(&map, hash, 9, 100));
    assert_int_equal(shm_key_find(&map, hash, 99), 9);
    assert_int_equal(shm_key_find(&map, hash, 100), -1);
    assert_true(shm_secret_publish(&map, hash, 9, INT64_MAX));
    assert_int_equal(shm_key_find(&map, hash, 100), 9);
}

static void colliding_secrets_fill_the_table_and_no_more(void **state) {
    (void)state;
    unsigned char hash[SHA256_BYTES] = {0};
    uint32_t capacity = map.header->secret_capacity;
    for (uint32_t i = 0; i < capacity; i++) {
        memcpy(hash + 16, &i, sizeof(i)); /* all start at the same row */
        assert_true(shm_secret_publish(&map, hash, i, INT64_MAX));
    }
    for (uint32_t i = 0; i < capacity; i++) {
        memcpy(hash + 16, &i, sizeof(i));
        assert_int_equal(shm_key_find(&map, hash, 1), (int)i);
    }
    memcpy(hash + 16, &capacity, sizeof(capacity));
    assert_false(shm_secret_publish(&map, hash, 1, INT64_MAX));
    assert_int_equal(shm_key_find(&map, hash, 1), -1);
}

static void unused_rows_read_as_absent(void **state) {
    (void)state;
    struct shm_key_sh key;
    struct shm_tenant_sh tenant;
    assert_false(shm_key_read(&map, 3, &key));
    assert_false(shm_tenant_read(&map, 3, &tenant));
}

static void prices_follow_their_dates(void **state) {
    (void)state;
    struct price price;
    struct shm_price_sh row = {.count = 2, .model = "m"};
    row.prices[0] = (struct shm_dated_price_sh){100, {1, 1, 1, 1}};
    row.prices[1] = (struct shm_dated_price_sh){200, {2, 2, 2, 2}};
    assert_true(shm_price_publish(&map, &row));
    assert_false(shm_price_at(&map, SPAN_LITERAL("m"), 99, &price));
    assert_true(shm_price_at(&map, SPAN_LITERAL("m"), 100, &price));
    assert_int_equal(price.input_nusd, 1);
    assert_true(shm_price_at(&map, SPAN_LITERAL("m"), 200, &price));
    assert_int_equal(price.input_nusd, 2);
    assert_false(shm_price_at(&map, SPAN_LITERAL("other"), 200, &price));
}

static void allow_lists_hold_models_then_networks(void **state) {
    (void)state;
    static struct shm_allow_sh allow;
    memset(&allow, 0, sizeof(allow));
    assert_true(shm_allow_has_model(&allow, "anything"));
    assert_true(shm_allow_add(&allow, "a", false));
    assert_true(shm_allow_add(&allow, "b", false));
    assert_true(shm_allow_add(&allow, "10.0.0.0/8", true));
    assert_true(shm_allow_has_model(&allow, "b"));
    assert_false(shm_allow_has_model(&allow, "10.0.0.0/8"));
    assert_string_equal(shm_allow_item(&allow, 2), "10.0.0.0/8");
    assert_null(shm_allow_item(&allow, 3));
    int added = 0;
    while (shm_allow_add(&allow, "192.168.100.0/24", true)) {
        added++;
    }
    assert_true(added > 50);
    assert_string_equal(shm_allow_item(&allow, 2 + (uint32_t)added), "192.168.100.0/24");
}

/* A reader never sees half of a row, and a writer killed while writing blocks nobody for good. */
static void rows_are_read_whole_while_a_writer_is_killed(void **state) {
    (void)state;
    for (int round = 0; round < 50; round++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (int64_t i = 1;; i++) {
                struct shm_key_sh row = {.state = SHM_KEY_LIVE, .max_wait_ms = i};
                row.limits = (struct shm_limits_sh){i, i, i, {i, i, i}};
                shm_key_publish(&map, 1, &row);
            }
        }
        struct shm_key_sh seen;
        int64_t until = clock_mono_ns() + 2 * NS_PER_MS;
        while (clock_mono_ns() < until) {
            if (shm_key_read(&map, 1, &seen)) {
                assert_int_equal(seen.max_wait_ms, seen.limits.requests_per_minute);
                assert_int_equal(seen.max_wait_ms, seen.limits.budget_nusd[2]);
            }
        }
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        struct shm_key_sh mended = {.state = SHM_KEY_LIVE, .max_wait_ms = 5};
        mended.limits = (struct shm_limits_sh){5, 5, 5, {5, 5, 5}};
        shm_key_publish(&map, 1, &mended);
        assert_true(shm_key_read(&map, 1, &seen));
        assert_int_equal(seen.max_wait_ms, 5);
    }
}

static void breaker_opens_probes_and_closes(void **state) {
    (void)state;
    struct shm_upstream_sh *row = shm_upstream(&map, shm_upstream_claim(&map, "up"));
    const int64_t window = 10 * NS_PER_S;
    const int64_t cooldown = 15 * NS_PER_S;
    int64_t now = 1000 * NS_PER_S;
    for (int i = 0; i < 4; i++) {
        assert_false(shm_breaker_failed(row, 5, window, cooldown, now));
    }
    assert_true(shm_breaker_allows(row, cooldown, now));
    assert_true(shm_breaker_failed(row, 5, window, cooldown, now));
    assert_string_equal(shm_breaker_state(row, now), "down");
    assert_false(shm_breaker_allows(row, cooldown, now + cooldown - 1));
    now += cooldown;
    assert_string_equal(shm_breaker_state(row, now), "probing");
    assert_true(shm_breaker_allows(row, cooldown, now));
    assert_false(shm_breaker_allows(row, cooldown, now));
    shm_breaker_succeeded(row);
    assert_true(shm_breaker_allows(row, cooldown, now));
    assert_string_equal(shm_breaker_state(row, now), "up");
    for (int i = 0; i < 20; i++) {
        assert_false(
            shm_breaker_failed(row, 5, window, cooldown, now + i * 3 * NS_PER_S)); /* never five in one window */
    }
}

static void attach_refuses_other_layouts(void **state) {
    (void)state;
    struct buffer error;
    struct shm_map other;
    buffer_init(&error, 1024);
    assert_int_equal(shm_map_attach(&other, state_dir, true, &error), SHM_ATTACHED);
    other.header->boot_id[0] ^= 1;
    shm_map_close(&other);
    assert_int_equal(shm_map_attach(&other, state_dir, true, &error), SHM_ATTACH_OTHER_BOOT);
    map.header->layout_version ^= 1; /* whatever the form of what another boot left */
    assert_int_equal(shm_map_attach(&other, state_dir, true, &error), SHM_ATTACH_OTHER_BOOT);
    map.header->layout_version ^= 1;
    map.header->boot_id[0] ^= 1;
    map.header->fingerprint ^= 1;
    assert_int_equal(shm_map_attach(&other, state_dir, true, &error), SHM_ATTACH_OTHER_LAYOUT);
    map.header->fingerprint ^= 1;
    map.header->bytes += 4096;
    assert_int_equal(shm_map_attach(&other, state_dir, true, &error), SHM_ATTACH_OTHER_LAYOUT);
    assert_int_equal(shm_map_attach(&other, "/nonexistent", true, &error), SHM_ATTACH_NONE);
    buffer_fini(&error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(secrets_are_found_until_their_time_is_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(colliding_secrets_fill_the_table_and_no_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unused_rows_read_as_absent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(prices_follow_their_dates, set_up, tear_down),
        cmocka_unit_test_setup_teardown(allow_lists_hold_models_then_networks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rows_are_read_whole_while_a_writer_is_killed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(breaker_opens_probes_and_closes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attach_refuses_other_layouts, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
