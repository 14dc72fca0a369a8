#include "shm/shm_pair.h"

#include "base/hash.h"

enum { NEIGHBOURHOOD = 64 };

struct shm_pair_sh *shm_pair(const struct shm_map *map, uint32_t row) {
    CHECK(row < SHM_PAIRS);
    return (struct shm_pair_sh *)(void *)((char *)map->header + map->header->pairs_offset) + row;
}

static uint32_t row_of(uint64_t identity, uint32_t step) { return (uint32_t)(identity + step) & (SHM_PAIRS - 1); }

uint32_t shm_pair_find(const struct shm_map *map, uint32_t key_index, const char *model) {
    uint64_t identity = hash_fast(span_text(model), key_index);
    identity = identity != 0 ? identity : 1;
    for (uint32_t step = 0; step < NEIGHBOURHOOD; step++) {
        if (atomic_load(&shm_pair(map, row_of(identity, step))->identity) == identity) {
            return row_of(identity, step);
        }
    }
    for (uint32_t step = 0; step < NEIGHBOURHOOD; step++) {
        uint64_t found = 0;
        struct shm_pair_sh *pair = shm_pair(map, row_of(identity, step));
        if (atomic_compare_exchange_strong(&pair->identity, &found, identity) || found == identity) {
            return row_of(identity, step);
        }
    }
    atomic_store(&map->header->pairs_full, 1);
    return SHM_NO_ROW;
}

void shm_pair_reset_gauges(const struct shm_map *map) {
    for (uint32_t row = 0; row < SHM_PAIRS; row++) {
        atomic_store(&shm_pair(map, row)->in_flight, 0);
    }
}

void shm_pair_free_idle(const struct shm_map *map, int64_t now_mono_ns) {
    uint64_t now = (uint64_t)now_mono_ns;
    for (uint32_t row = 0; row < SHM_PAIRS; row++) {
        struct shm_pair_sh *pair = shm_pair(map, row);
        if (atomic_load(&pair->in_flight) == 0 && atomic_load(&pair->request_bucket_ns) <= now &&
            atomic_load(&pair->token_bucket_ns) <= now) {
            atomic_store(&pair->request_bucket_ns, 0);
            atomic_store(&pair->token_bucket_ns, 0);
            atomic_store(&pair->identity, 0);
        }
    }
    atomic_store(&map->header->pairs_full, 0);
}
