#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/shm_learned.h"

static const int64_t second_ns = INT64_C(1000000000);

static void nothing_known_is_no_limit(void **state) {
    (void)state;
    struct shm_learned_sh learned = {0};
    shm_learned_charge(&learned, 1000, 5);
    assert_int_equal(shm_learned_wait_ns(&learned, 1000, 5), 0);
}

static void what_is_left_may_be_sent(void **state) {
    (void)state;
    struct shm_learned_sh learned = {0};
    int64_t now = 100 * second_ns;
    shm_learned_hear(&learned, 60, 2, 58 * second_ns, now); /* one comes back each second */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(shm_learned_wait_ns(&learned, 1, now), 0);
        shm_learned_charge(&learned, 1, now);
    }
    assert_int_equal(shm_learned_wait_ns(&learned, 1, now), second_ns);
    assert_int_equal(shm_learned_wait_ns(&learned, 1, now + second_ns), 0);
    shm_learned_charge(&learned, -1, now);
    assert_int_equal(shm_learned_wait_ns(&learned, 1, now), 0);
}

static void hearing_of_more_does_not_forget_what_was_sent(void **state) {
    (void)state;
    struct shm_learned_sh learned = {0};
    int64_t now = 100 * second_ns;
    shm_learned_hear(&learned, 10, 1, 9 * second_ns, now);
    shm_learned_charge(&learned, 1, now);
    shm_learned_hear(&learned, 10, 1, 9 * second_ns, now);
    assert_int_equal(shm_learned_wait_ns(&learned, 1, now), second_ns);
}

static void nonsense_changes_nothing(void **state) {
    (void)state;
    struct shm_learned_sh learned = {0};
    const int64_t bad[][3] = {{0, 0, 1},   {-1, 0, 1}, {10, -1, 1}, {10, 10, 1},
                              {10, 11, 1}, {10, 1, 0}, {10, 1, -1}, {10, 1, INT64_MAX}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        shm_learned_hear(&learned, bad[i][0], bad[i][1], bad[i][2], 5);
        assert_int_equal(atomic_load(&learned.interval_ns), 0);
    }
    shm_learned_hear(&learned, INT64_MAX, 0, second_ns, 5);
    assert_true(shm_learned_wait_ns(&learned, INT64_MAX, 5) >= 0);
}

/* An upstream that counts in fixed minutes: its reset is the minute's end, however little was used. */
static void a_fixed_window_may_be_used_up(void **state) {
    (void)state;
    struct shm_learned_sh learned = {0};
    int64_t now = 100 * second_ns;
    for (int window = 0; window < 3; window++, now += 60 * second_ns) {
        for (int sent = 1; sent <= 100; sent++) {
            assert_int_equal(shm_learned_wait_ns(&learned, 1, now), 0);
            shm_learned_charge(&learned, 1, now);
            shm_learned_hear(&learned, 100, 100 - sent, 60 * second_ns, now);
        }
        assert_true(shm_learned_wait_ns(&learned, 1, now) > 0);
    }
}

/* What was sent although nothing seemed left is not held against an upstream for longer than its own reset. */
static void no_level_is_beyond_empty(void **state) {
    (void)state;
    struct shm_learned_sh learned = {0};
    int64_t now = 100 * second_ns;
    shm_learned_hear(&learned, 10, 1, 9 * second_ns, now);
    for (int i = 0; i < 1000; i++) {
        shm_learned_charge(&learned, 1, now);
    }
    assert_int_equal(shm_learned_wait_ns(&learned, 1, now), second_ns);
    shm_learned_hear(&learned, 2, 1, 31 * 24 * 3600 * second_ns, now); /* an hour a permit, at most */
    shm_learned_charge(&learned, INT64_MAX, now);
    shm_learned_charge(&learned, INT64_MAX, now);
    assert_true(shm_learned_wait_ns(&learned, 1, now) <= 3600 * second_ns);
    shm_learned_charge(&learned, -INT64_MAX, now);
    assert_int_equal(shm_learned_wait_ns(&learned, 1, now), 0);
}

static void a_429_blocks_for_its_time(void **state) {
    (void)state;
    struct shm_upstream_sh upstream = {.name = ""};
    shm_learned_block(&upstream, 5 * second_ns, 100);
    shm_learned_block(&upstream, second_ns, 100);
    assert_int_equal(atomic_load(&upstream.blocked_until_mono_ns), 5 * second_ns + 100);
    shm_learned_block(&upstream, INT64_MAX, 100); /* no longer than an hour */
    assert_int_equal(atomic_load(&upstream.blocked_until_mono_ns), 3600 * second_ns + 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_known_is_no_limit),
        cmocka_unit_test(what_is_left_may_be_sent),
        cmocka_unit_test(hearing_of_more_does_not_forget_what_was_sent),
        cmocka_unit_test(nonsense_changes_nothing),
        cmocka_unit_test(a_fixed_window_may_be_used_up),
        cmocka_unit_test(no_level_is_beyond_empty),
        cmocka_unit_test(a_429_blocks_for_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
