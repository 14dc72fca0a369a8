#include "shm/shm_learned.h"

#define HOUR_NS INT64_C(3600000000000)
#define DAY_NS (24 * HOUR_NS)

/* Further than any moment that is worth knowing, and far enough from the largest number to be added to. */
#define FAR_NS (INT64_MAX / 4)

static int64_t clamp(int64_t ns) { return ns < FAR_NS ? ns : FAR_NS; }

static int64_t times(int64_t interval_ns, int64_t permits) {
    int64_t ns = 0;
    return __builtin_mul_overflow(interval_ns, permits, &ns) ? FAR_NS : clamp(ns);
}

static int64_t later(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t sooner(int64_t a, int64_t b) { return a < b ? a : b; }

/* A level beyond empty would be our own miscount: it would keep an upstream idle that says it has room. */
static int64_t empty_ns(const struct shm_learned_sh *learned, int64_t interval_ns) {
    return times(interval_ns, atomic_load_explicit(&learned->capacity, memory_order_relaxed));
}

/* Moves the level to what was heard, unless it stands higher already; where a permit takes another time than before,
 * what stands counts as the same number of permits. */
static void raise_to(struct shm_learned_sh *learned, int64_t heard_at, int64_t before_ns, int64_t interval_ns,
                     int64_t now_mono_ns) {
    uint64_t seen = atomic_load_explicit(&learned->bucket_ns, memory_order_relaxed);
    int64_t next = 0;
    do {
        int64_t used_ns = later((int64_t)seen - now_mono_ns, 0);
        if (before_ns != 0 && before_ns != interval_ns) {
            used_ns = times(interval_ns, used_ns / before_ns + (used_ns % before_ns != 0 ? 1 : 0));
        }
        next = later(heard_at, clamp(now_mono_ns + sooner(used_ns, empty_ns(learned, interval_ns))));
    } while ((uint64_t)next != seen &&
             !atomic_compare_exchange_weak_explicit(&learned->bucket_ns, &seen, (uint64_t)next, memory_order_acq_rel,
                                                    memory_order_relaxed));
}

void shm_learned_hear(struct shm_learned_sh *learned, int64_t limit, int64_t remaining, int64_t reset_ns,
                      int64_t now_mono_ns) {
    if (limit <= 0 || remaining < 0 || remaining >= limit || reset_ns <= 0 || reset_ns > 31 * DAY_NS) {
        return;
    }
    int64_t interval_ns = reset_ns / (limit - remaining);
    interval_ns = interval_ns < 1 ? 1 : interval_ns > HOUR_NS ? HOUR_NS : interval_ns;
    int64_t before_ns = atomic_load_explicit(&learned->interval_ns, memory_order_relaxed);
    atomic_store_explicit(&learned->capacity, limit, memory_order_relaxed);
    atomic_store_explicit(&learned->interval_ns, interval_ns, memory_order_release);
    raise_to(learned, clamp(now_mono_ns + times(interval_ns, limit - remaining)), before_ns, interval_ns, now_mono_ns);
}

int64_t shm_learned_wait_ns(const struct shm_learned_sh *learned, int64_t permits, int64_t now_mono_ns) {
    int64_t interval_ns = atomic_load_explicit(&learned->interval_ns, memory_order_acquire);
    if (interval_ns == 0 || permits <= 0) {
        return 0;
    }
    int64_t full_at = (int64_t)atomic_load_explicit(&learned->bucket_ns, memory_order_relaxed);
    int64_t room_ns = times(interval_ns, atomic_load_explicit(&learned->capacity, memory_order_relaxed)) -
                      times(interval_ns, permits);
    int64_t wait_ns = full_at - now_mono_ns - (room_ns > 0 ? room_ns : 0);
    return wait_ns > 0 ? wait_ns : 0;
}

void shm_learned_charge(struct shm_learned_sh *learned, int64_t permits, int64_t now_mono_ns) {
    int64_t interval_ns = atomic_load_explicit(&learned->interval_ns, memory_order_acquire);
    if (interval_ns == 0 || permits == 0) {
        return;
    }
    uint64_t seen = atomic_load_explicit(&learned->bucket_ns, memory_order_relaxed);
    uint64_t next = 0;
    do {
        int64_t at = later((int64_t)seen, now_mono_ns);
        int64_t moved = permits > 0 ? at + times(interval_ns, permits) : at - times(interval_ns, -permits);
        int64_t most = clamp(now_mono_ns + empty_ns(learned, interval_ns));
        next = (uint64_t)later(sooner(moved, most), now_mono_ns);
    } while (!atomic_compare_exchange_weak_explicit(&learned->bucket_ns, &seen, next, memory_order_acq_rel,
                                                    memory_order_relaxed));
}

void shm_learned_block(struct shm_upstream_sh *upstream, int64_t wait_ns, int64_t now_mono_ns) {
    int64_t until = now_mono_ns + (wait_ns < HOUR_NS ? wait_ns : HOUR_NS);
    int64_t seen = atomic_load_explicit(&upstream->blocked_until_mono_ns, memory_order_relaxed);
    while (seen < until && !atomic_compare_exchange_weak(&upstream->blocked_until_mono_ns, &seen, until)) {
    }
}
