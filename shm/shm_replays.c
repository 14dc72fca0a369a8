#include "shm/shm_replays.h"

#include <string.h>

enum { NEIGHBOURHOOD = 32, UNTIL_BITS = 32 };

static _Atomic uint64_t *row_of(const struct shm_map *map, uint32_t start, uint32_t step) {
    _Atomic uint64_t *rows = (void *)((char *)map->header + map->header->replays_offset);
    return &rows[(start + step) & (SHM_REPLAY_ROWS - 1)];
}

/* Does the word stand in a row near start other than `own` (NULL: in any)? */
static bool is_known(const struct shm_map *map, uint32_t start, uint64_t word, const _Atomic uint64_t *own) {
    for (uint32_t step = 0; step < NEIGHBOURHOOD; step++) {
        const _Atomic uint64_t *row = row_of(map, start, step);
        if (row != own && atomic_load(row) == word) {
            return true;
        }
    }
    return false;
}

static _Atomic uint64_t *take_row(const struct shm_map *map, uint32_t start, uint64_t word, int64_t now_wall_s) {
    for (uint32_t step = 0; step < NEIGHBOURHOOD; step++) {
        _Atomic uint64_t *row = row_of(map, start, step);
        uint64_t seen = atomic_load(row);
        if ((int64_t)(seen >> UNTIL_BITS) < now_wall_s && atomic_compare_exchange_strong(row, &seen, word)) {
            return row;
        }
    }
    return NULL;
}

enum shm_replay shm_replay_claim(const struct shm_map *map, const unsigned char mac[static 32], int64_t until_wall_s,
                                 int64_t now_wall_s) {
    uint32_t fingerprint = 0;
    uint32_t start = 0;
    if (until_wall_s < now_wall_s || until_wall_s > UINT32_MAX) {
        return SHM_REPLAY_FULL;
    }
    memcpy(&fingerprint, mac, sizeof(fingerprint));
    memcpy(&start, mac + sizeof(fingerprint), sizeof(start));
    /* The same signature has the same end, so that its word is the same in every worker. */
    uint64_t word = (uint64_t)until_wall_s << UNTIL_BITS | fingerprint;
    if (is_known(map, start, word, NULL)) {
        return SHM_REPLAY_AGAIN;
    }
    const _Atomic uint64_t *row = take_row(map, start, word, now_wall_s);
    if (row == NULL) {
        return SHM_REPLAY_FULL;
    }
    /* Of two workers that claim it in two rows at one moment, one at least sees the other's. */
    return is_known(map, start, word, row) ? SHM_REPLAY_AGAIN : SHM_REPLAY_FIRST;
}
