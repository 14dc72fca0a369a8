#include "shm/shm_failures.h"

#include <string.h>

#include "base/hash.h"

enum { NEIGHBOURHOOD = 16, IPV4_MAPPED_BYTES = 12, IPV6_NETWORK_BYTES = 8, ADDRESS_BYTES = 16 };

static uint64_t fingerprint_of(const struct shm_map *map, const unsigned char *address) {
    static const unsigned char mapped[IPV4_MAPPED_BYTES] = {[10] = 0xff, [11] = 0xff};
    bool is_ipv4 = memcmp(address, mapped, sizeof(mapped)) == 0;
    uint64_t fingerprint = hash_fast(span_of((const char *)address, is_ipv4 ? ADDRESS_BYTES : IPV6_NETWORK_BYTES),
                                     map->header->incarnation);
    return fingerprint != 0 ? fingerprint : 1; /* 0 marks a row never used */
}

static struct shm_failure_sh *row_of(const struct shm_map *map, uint64_t fingerprint, uint64_t step) {
    struct shm_failure_sh *rows = (void *)((char *)map->header + map->header->failures_offset);
    return &rows[(fingerprint + step) & (SHM_FAILURE_ROWS - 1)];
}

static struct shm_failure_sh *find_own(const struct shm_map *map, uint64_t fingerprint) {
    for (uint64_t step = 0; step < NEIGHBOURHOOD; step++) {
        struct shm_failure_sh *row = row_of(map, fingerprint, step);
        if (atomic_load_explicit(&row->fingerprint, memory_order_acquire) == fingerprint) {
            return row;
        }
    }
    return NULL;
}

/* Takes over a row whose bucket is full. A full bucket needs no resetting: it says a time that has passed. */
static struct shm_failure_sh *claim(const struct shm_map *map, uint64_t fingerprint, int64_t now_mono_ns) {
    for (uint64_t step = 0; step < NEIGHBOURHOOD; step++) {
        struct shm_failure_sh *row = row_of(map, fingerprint, step);
        uint64_t owner = atomic_load_explicit(&row->fingerprint, memory_order_acquire);
        bool is_full = (int64_t)atomic_load_explicit(&row->bucket_ns, memory_order_acquire) <= now_mono_ns;
        if (is_full && atomic_compare_exchange_strong(&row->fingerprint, &owner, fingerprint)) {
            return row;
        }
        if (!is_full) { /* who took from the bucket claimed the row before: perhaps since we looked at its owner */
            owner = atomic_load_explicit(&row->fingerprint, memory_order_acquire);
        }
        if (owner == fingerprint) { /* another worker was quicker */
            return row;
        }
    }
    return NULL;
}

_Atomic uint64_t *shm_failure_bucket(const struct shm_map *map, const unsigned char address[static 16],
                                     int64_t now_mono_ns) {
    uint64_t fingerprint = fingerprint_of(map, address);
    struct shm_failure_sh *row = find_own(map, fingerprint);
    if (row == NULL) {
        row = claim(map, fingerprint, now_mono_ns);
    }
    return row != NULL ? &row->bucket_ns : &row_of(map, fingerprint, 0)->bucket_ns;
}
