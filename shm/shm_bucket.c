#include "shm/shm_bucket.h"

#define MINUTE_NS INT64_C(60000000000)

/* What one permit takes to refill, rounded up, so that a window never admits one more; the depth is then exactly
 * per_minute of these, so that a full bucket never admits one less. */
static int64_t interval_ns(int64_t per_minute) { return (MINUTE_NS - 1) / per_minute + 1; }

static int64_t depth_ns(int64_t per_minute) {
    int64_t depth = 0;
    return __builtin_mul_overflow(interval_ns(per_minute), per_minute, &depth) ? INT64_MAX / 4 : depth;
}

static int64_t refill_ns(int64_t per_minute, int64_t permits) {
    int64_t ns = 0;
    const int64_t most = INT64_MAX / 2;
    return __builtin_mul_overflow(interval_ns(per_minute), permits, &ns) || ns > most ? most : ns;
}

static int64_t full_at(uint64_t word, int64_t now_mono_ns) {
    return (int64_t)word > now_mono_ns ? (int64_t)word : now_mono_ns;
}

static uint64_t later(int64_t at_ns, int64_t by_ns) {
    int64_t sum = 0;
    return __builtin_add_overflow(at_ns, by_ns, &sum) ? (uint64_t)INT64_MAX : (uint64_t)sum;
}

bool shm_bucket_take(_Atomic uint64_t *bucket, int64_t per_minute, int64_t permits, int64_t now_mono_ns) {
    if (per_minute <= 0 || permits <= 0) {
        return true;
    }
    int64_t need_ns = refill_ns(per_minute, permits);
    uint64_t word = atomic_load_explicit(bucket, memory_order_relaxed);
    for (;;) {
        int64_t at = full_at(word, now_mono_ns);
        int64_t room_ns = depth_ns(per_minute) - need_ns;
        bool fits = at - now_mono_ns <= (room_ns > 0 ? room_ns : 0);
        if (!fits) {
            return false;
        }
        if (atomic_compare_exchange_weak_explicit(bucket, &word, later(at, need_ns), memory_order_acq_rel,
                                                  memory_order_relaxed)) {
            return true;
        }
    }
}

void shm_bucket_charge(_Atomic uint64_t *bucket, int64_t per_minute, int64_t permits, int64_t now_mono_ns) {
    if (per_minute <= 0 || permits <= 0) {
        return;
    }
    int64_t need_ns = refill_ns(per_minute, permits);
    uint64_t word = atomic_load_explicit(bucket, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(bucket, &word, later(full_at(word, now_mono_ns), need_ns),
                                                  memory_order_acq_rel, memory_order_relaxed)) {
    }
}

void shm_bucket_return(_Atomic uint64_t *bucket, int64_t per_minute, int64_t permits, int64_t now_mono_ns) {
    if (per_minute <= 0 || permits <= 0) {
        return;
    }
    int64_t give_ns = refill_ns(per_minute, permits);
    uint64_t word = atomic_load_explicit(bucket, memory_order_relaxed);
    uint64_t next = 0;
    do {
        int64_t at = full_at(word, now_mono_ns);
        next = (uint64_t)(at - give_ns > now_mono_ns ? at - give_ns : now_mono_ns);
    } while (!atomic_compare_exchange_weak_explicit(bucket, &word, next, memory_order_acq_rel, memory_order_relaxed));
}

void shm_bucket_change_rate(_Atomic uint64_t *bucket, int64_t before_per_minute, int64_t after_per_minute,
                            int64_t now_mono_ns) {
    if (before_per_minute <= 0 || after_per_minute <= 0 || before_per_minute == after_per_minute) {
        return;
    }
    uint64_t word = atomic_load_explicit(bucket, memory_order_relaxed);
    uint64_t next = 0;
    do {
        int64_t used_ns = full_at(word, now_mono_ns) - now_mono_ns;
        int64_t before_ns = interval_ns(before_per_minute);
        int64_t part_ns = used_ns % before_ns != 0 ? interval_ns(after_per_minute) : 0;
        next = later(now_mono_ns, refill_ns(after_per_minute, used_ns / before_ns) + part_ns);
    } while (!atomic_compare_exchange_weak_explicit(bucket, &word, next, memory_order_acq_rel, memory_order_relaxed));
}

int64_t shm_bucket_left(const _Atomic uint64_t *bucket, int64_t per_minute, int64_t now_mono_ns) {
    int64_t left_ns = per_minute > 0 ? depth_ns(per_minute) - shm_bucket_full_in_ns(bucket, now_mono_ns) : 0;
    return left_ns > 0 ? left_ns / interval_ns(per_minute) : 0;
}

int64_t shm_bucket_full_in_ns(const _Atomic uint64_t *bucket, int64_t now_mono_ns) {
    return full_at(atomic_load_explicit(bucket, memory_order_relaxed), now_mono_ns) - now_mono_ns;
}

int64_t shm_bucket_wait_ns(const _Atomic uint64_t *bucket, int64_t per_minute, int64_t permits, int64_t now_mono_ns) {
    if (per_minute <= 0 || permits <= 0) {
        return 0;
    }
    int64_t room_ns = depth_ns(per_minute) - refill_ns(per_minute, permits);
    int64_t wait_ns = shm_bucket_full_in_ns(bucket, now_mono_ns) - (room_ns > 0 ? room_ns : 0);
    return wait_ns > 0 ? wait_ns : 0;
}
