#include "shm/shm_ids.h"

#include "base/hash.h"

enum { NEIGHBOURHOOD = 16 };

static uint64_t fingerprint_of(uint32_t tenant_id, const char *id) {
    uint64_t fingerprint = hash_fast(span_text(id), tenant_id);
    return fingerprint != 0 ? fingerprint : 1; /* 0 marks an empty cell */
}

static _Atomic uint64_t *cell_of(const struct shm_map *map, uint64_t fingerprint, uint64_t step) {
    _Atomic uint64_t *cells = (_Atomic uint64_t *)(void *)((char *)map->header + map->header->ids_offset);
    return &cells[(fingerprint + step) & (SHM_IDS - 1)];
}

static bool is_held(const struct shm_map *map, uint64_t fingerprint, const _Atomic uint64_t *besides) {
    for (uint64_t step = 0; step < NEIGHBOURHOOD; step++) {
        const _Atomic uint64_t *cell = cell_of(map, fingerprint, step);
        if (cell != besides && atomic_load(cell) == fingerprint) {
            return true;
        }
    }
    return false;
}

/* Of two that claim one id at once in different cells, because a neighbour left in between, at least one sees the
 * other; who does gives up, even when both do. */
static bool keep(const struct shm_map *map, uint64_t fingerprint, _Atomic uint64_t *cell) {
    if (!is_held(map, fingerprint, cell)) {
        return true;
    }
    uint64_t seen = fingerprint;
    (void)atomic_compare_exchange_strong(cell, &seen, 0);
    return false;
}

bool shm_id_claim(const struct shm_map *map, uint32_t tenant_id, const char *id) {
    uint64_t fingerprint = fingerprint_of(tenant_id, id);
    if (is_held(map, fingerprint, NULL)) {
        return false;
    }
    for (uint64_t step = 0; step < NEIGHBOURHOOD; step++) {
        _Atomic uint64_t *cell = cell_of(map, fingerprint, step);
        uint64_t seen = 0;
        if (atomic_compare_exchange_strong(cell, &seen, fingerprint)) {
            return keep(map, fingerprint, cell);
        }
        if (seen == fingerprint) {
            return false;
        }
    }
    atomic_store(cell_of(map, fingerprint, (fingerprint >> 32) % NEIGHBOURHOOD), fingerprint);
    return true;
}

void shm_id_forget(const struct shm_map *map, uint32_t tenant_id, const char *id) {
    uint64_t fingerprint = fingerprint_of(tenant_id, id);
    for (uint64_t step = 0; step < NEIGHBOURHOOD; step++) {
        uint64_t seen = fingerprint;
        if (atomic_compare_exchange_strong(cell_of(map, fingerprint, step), &seen, 0)) {
            return;
        }
    }
}
