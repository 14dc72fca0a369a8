#include "shm/shm_breaker.h"

#include "base/clock.h"

/* The counting word: milliseconds of the window's start << 16 | failures. */
enum { COUNT_BITS = 16, COUNT_MOST = 0xffff };

bool shm_breaker_allows(struct shm_upstream_sh *upstream, int64_t cooldown_ns, int64_t now_mono_ns) {
    int64_t until = atomic_load_explicit(&upstream->breaker_open_until_mono_ns, memory_order_acquire);
    if (until == 0) {
        return true;
    }
    if (now_mono_ns < until) {
        return false;
    }
    return atomic_compare_exchange_strong(&upstream->breaker_open_until_mono_ns, &until, now_mono_ns + cooldown_ns);
}

void shm_breaker_succeeded(struct shm_upstream_sh *upstream) {
    /* Reads first: on a healthy upstream nothing is written and the line stays shared. */
    if (atomic_load_explicit(&upstream->breaker_open_until_mono_ns, memory_order_relaxed) != 0) {
        atomic_store_explicit(&upstream->breaker_open_until_mono_ns, 0, memory_order_release);
    }
    if (atomic_load_explicit(&upstream->breaker, memory_order_relaxed) != 0) {
        atomic_store_explicit(&upstream->breaker, 0, memory_order_relaxed);
    }
}

bool shm_breaker_failed(struct shm_upstream_sh *upstream, int failures, int64_t window_ns, int64_t cooldown_ns,
                        int64_t now_mono_ns) {
    if (atomic_load_explicit(&upstream->breaker_open_until_mono_ns, memory_order_acquire) != 0) {
        atomic_store_explicit(&upstream->breaker_open_until_mono_ns, now_mono_ns + cooldown_ns, memory_order_release);
        return false;
    }
    uint64_t now_ms = (uint64_t)(now_mono_ns / NS_PER_MS);
    uint64_t word = atomic_load_explicit(&upstream->breaker, memory_order_relaxed);
    uint64_t next = 0;
    do {
        bool same_window = word != 0 && now_ms - (word >> COUNT_BITS) < (uint64_t)(window_ns / NS_PER_MS);
        uint64_t count = same_window ? word & COUNT_MOST : 0;
        next = (same_window ? word >> COUNT_BITS : now_ms) << COUNT_BITS | (count < COUNT_MOST ? count + 1 : count);
    } while (!atomic_compare_exchange_weak_explicit(&upstream->breaker, &word, next, memory_order_acq_rel,
                                                    memory_order_relaxed));
    if ((next & COUNT_MOST) < (uint64_t)failures) {
        return false;
    }
    /* Failures that come together may all see the count reached: one of them opens it. */
    int64_t closed = 0;
    return atomic_compare_exchange_strong(&upstream->breaker_open_until_mono_ns, &closed, now_mono_ns + cooldown_ns);
}

const char *shm_breaker_state(const struct shm_upstream_sh *upstream, int64_t now_mono_ns) {
    int64_t until = atomic_load_explicit(&upstream->breaker_open_until_mono_ns, memory_order_acquire);
    return until == 0 ? "up" : now_mono_ns < until ? "down" : "probing";
}
