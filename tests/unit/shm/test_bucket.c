/* Token buckets: one minute's allowance, refilled continuously, shared exactly by several processes (invariant I5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/shm_bucket.h"

#define START_NS (1000 * NS_PER_S)

static int64_t take_all(_Atomic uint64_t *bucket, int64_t per_minute, int64_t now_ns) {
    int64_t taken = 0;
    while (taken < 10 * per_minute && shm_bucket_take(bucket, per_minute, 1, now_ns)) {
        taken++;
    }
    return taken;
}

static void burst_admits_exactly_the_capacity(void **state) {
    (void)state;
    static const int64_t rates[] = {1, 2, 3, 7, 59, 60, 61, 100, 997, 6000, 100000};
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        _Atomic uint64_t bucket = 0;
        assert_int_equal(take_all(&bucket, rates[i], START_NS), rates[i]);
        assert_int_equal(shm_bucket_left(&bucket, rates[i], START_NS), 0);
    }
}

static void refill_is_continuous(void **state) {
    (void)state;
    _Atomic uint64_t bucket = 0;
    assert_int_equal(take_all(&bucket, 60, START_NS), 60);
    assert_false(shm_bucket_take(&bucket, 60, 1, START_NS + NS_PER_S - 1));
    assert_true(shm_bucket_take(&bucket, 60, 1, START_NS + NS_PER_S));
    assert_int_equal(take_all(&bucket, 60, START_NS + 31 * NS_PER_S), 30);
}

static void wait_is_when_the_same_take_succeeds(void **state) {
    (void)state;
    _Atomic uint64_t bucket = 0;
    assert_true(shm_bucket_take(&bucket, 1000, 900, START_NS));
    assert_false(shm_bucket_take(&bucket, 1000, 300, START_NS));
    int64_t wait_ns = shm_bucket_wait_ns(&bucket, 1000, 300, START_NS);
    assert_false(shm_bucket_take(&bucket, 1000, 300, START_NS + wait_ns - 1));
    assert_true(shm_bucket_take(&bucket, 1000, 300, START_NS + wait_ns));
}

static void refused_take_changes_nothing(void **state) {
    (void)state;
    _Atomic uint64_t bucket = 0;
    assert_true(shm_bucket_take(&bucket, 100, 60, START_NS));
    uint64_t before = bucket;
    assert_false(shm_bucket_take(&bucket, 100, 41, START_NS));
    assert_int_equal(bucket, before);
    assert_int_equal(shm_bucket_left(&bucket, 100, START_NS), 40);
}

static void charge_goes_below_zero_and_is_waited_out(void **state) {
    (void)state;
    _Atomic uint64_t bucket = 0;
    shm_bucket_charge(&bucket, 60, 90, START_NS);
    assert_int_equal(shm_bucket_left(&bucket, 60, START_NS), 0);
    assert_false(shm_bucket_take(&bucket, 60, 1, START_NS + 30 * NS_PER_S));
    assert_true(shm_bucket_take(&bucket, 60, 1, START_NS + 31 * NS_PER_S));
}

static void return_never_overfills(void **state) {
    (void)state;
    _Atomic uint64_t bucket = 0;
    shm_bucket_return(&bucket, 60, 500, START_NS);
    assert_int_equal(take_all(&bucket, 60, START_NS), 60);
}

static void request_above_capacity_needs_a_full_bucket(void **state) {
    (void)state;
    _Atomic uint64_t bucket = 0;
    assert_true(shm_bucket_take(&bucket, 60, 120, START_NS));
    assert_false(shm_bucket_take(&bucket, 60, 120, START_NS + 119 * NS_PER_S));
    assert_true(shm_bucket_take(&bucket, 60, 120, START_NS + 120 * NS_PER_S));
}

static void absurd_numbers_do_not_overflow(void **state) {
    (void)state;
    _Atomic uint64_t bucket = 0;
    assert_true(shm_bucket_take(&bucket, 1, INT64_MAX, START_NS));
    shm_bucket_charge(&bucket, 1, INT64_MAX, START_NS);
    assert_false(shm_bucket_take(&bucket, 1, 1, START_NS + 3600 * NS_PER_S));
    assert_true(shm_bucket_take(&bucket, 0, 1, START_NS));
}

/* I5: eight processes on one bucket admit its capacity plus the refill, not one more. */
static void a_new_rate_counts_what_was_used(void **state) {
    (void)state;
    static const int64_t rates[] = {1, 2, 7, 60, 997, 100000};
    enum { RATES = sizeof(rates) / sizeof(rates[0]) };
    for (int before = 0; before < RATES; before++) {
        for (int after = 0; after < RATES; after++) {
            _Atomic uint64_t bucket = 0;
            assert_true(shm_bucket_take(&bucket, rates[before], rates[before], START_NS));
            shm_bucket_change_rate(&bucket, rates[before], rates[after], START_NS);
            int64_t left = rates[after] > rates[before] ? rates[after] - rates[before] : 0;
            assert_int_equal(shm_bucket_left(&bucket, rates[after], START_NS), left);
            shm_bucket_return(&bucket, rates[after], rates[before], START_NS);
            assert_int_equal(shm_bucket_full_in_ns(&bucket, START_NS), 0);
        }
        _Atomic uint64_t unchanged = (uint64_t)START_NS + 5;
        shm_bucket_change_rate(&unchanged, rates[before], 0, START_NS);
        shm_bucket_change_rate(&unchanged, 0, rates[before], START_NS);
        shm_bucket_change_rate(&unchanged, rates[before], rates[before], START_NS);
        assert_true(unchanged == (uint64_t)START_NS + 5);
    }
    _Atomic uint64_t absurd = INT64_MAX;
    shm_bucket_change_rate(&absurd, INT64_MAX, 1, START_NS);
    assert_true(absurd <= INT64_MAX);
}

static void I5_processes_share_a_bucket_exactly(void **state) {
    (void)state;
    enum { PROCESSES = 8, RATE = 6000 };
    struct shared {
        _Atomic uint64_t bucket;
        _Atomic int64_t admitted;
    } *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int64_t start_ns = clock_mono_ns();
    for (int i = 0; i < PROCESSES; i++) {
        if (fork() == 0) {
            int64_t now_ns = 0;
            while ((now_ns = clock_mono_ns()) < start_ns + NS_PER_S / 2) {
                if (shm_bucket_take(&shared->bucket, RATE, 1, now_ns)) {
                    atomic_fetch_add(&shared->admitted, 1);
                }
            }
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        assert_true(wait(NULL) > 0);
    }
    int64_t refill = (clock_mono_ns() - start_ns) * RATE / (60 * NS_PER_S);
    assert_true(shared->admitted >= RATE);
    assert_true(shared->admitted <= RATE + refill);
    munmap(shared, sizeof(*shared));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(burst_admits_exactly_the_capacity),
        cmocka_unit_test(refill_is_continuous),
        cmocka_unit_test(wait_is_when_the_same_take_succeeds),
        cmocka_unit_test(refused_take_changes_nothing),
        cmocka_unit_test(charge_goes_below_zero_and_is_waited_out),
        cmocka_unit_test(return_never_overfills),
        cmocka_unit_test(request_above_capacity_needs_a_full_bucket),
        cmocka_unit_test(absurd_numbers_do_not_overflow),
        cmocka_unit_test(a_new_rate_counts_what_was_used),
        cmocka_unit_test(I5_processes_share_a_bucket_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
