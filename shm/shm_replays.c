#include "shm/shm_replays.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NEIGHBOURHOOD = 32, UNTIL_BITS = 32, PATH_BYTES = 4096 };

/* A row as it is kept between two segments. */
struct kept_row {
    uint32_t row;
    uint32_t reserved_;
    uint64_t word;
};

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

/* The first row that may be written, or one in which another worker put the word meanwhile; *taken tells which. */
static _Atomic uint64_t *take_row(const struct shm_map *map, uint32_t start, uint64_t word, int64_t now_wall_s,
                                  bool *taken) {
    for (uint32_t step = 0; step < NEIGHBOURHOOD; step++) {
        _Atomic uint64_t *row = row_of(map, start, step);
        uint64_t seen = atomic_load(row);
        bool is_free = (int64_t)(seen >> UNTIL_BITS) < now_wall_s;
        *taken = is_free && atomic_compare_exchange_strong(row, &seen, word);
        if (*taken || seen == word) {
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
    bool taken = false;
    const _Atomic uint64_t *row = take_row(map, start, word, now_wall_s, &taken);
    if (row == NULL) {
        return SHM_REPLAY_FULL;
    }
    /* A row may become free between the looks of two workers, so that each takes another one: then one at least sees
     * the other's. */
    return !taken || is_known(map, start, word, row) ? SHM_REPLAY_AGAIN : SHM_REPLAY_FIRST;
}

static bool file_path(const char *state_dir, const char *suffix, char out[static PATH_BYTES]) {
    int len = snprintf(out, PATH_BYTES, "%s/signatures%s", state_dir, suffix);
    return len > 0 && len < PATH_BYTES;
}

static bool write_rows(const struct shm_map *map, FILE *file, int64_t now_wall_s) {
    bool good = true;
    for (uint32_t row = 0; row < SHM_REPLAY_ROWS && good; row++) {
        const struct kept_row kept = {.row = row, .word = atomic_load(row_of(map, row, 0))};
        if ((int64_t)(kept.word >> UNTIL_BITS) >= now_wall_s) {
            good = fwrite(&kept, sizeof(kept), 1, file) == 1;
        }
    }
    return good;
}

bool shm_replays_save(const struct shm_map *map, const char *state_dir, int64_t now_wall_s) {
    char path[PATH_BYTES];
    char making[PATH_BYTES];
    if (!file_path(state_dir, "", path) || !file_path(state_dir, ".new", making)) {
        return false;
    }
    (void)unlink(making);
    FILE *file = fopen(making, "wxe");
    if (file == NULL) {
        return false;
    }
    bool good = write_rows(map, file, now_wall_s);
    good = fclose(file) == 0 && good;
    if (!good || rename(making, path) != 0) {
        (void)unlink(making);
        return false;
    }
    return true;
}

void shm_replays_load(const struct shm_map *map, const char *state_dir, int64_t now_wall_s) {
    char path[PATH_BYTES];
    struct kept_row kept;
    FILE *file = file_path(state_dir, "", path) ? fopen(path, "re") : NULL;
    if (file == NULL) {
        return;
    }
    while (fread(&kept, sizeof(kept), 1, file) == 1) {
        if (kept.row < SHM_REPLAY_ROWS && (int64_t)(kept.word >> UNTIL_BITS) >= now_wall_s) {
            atomic_store(row_of(map, kept.row, 0), kept.word);
        }
    }
    (void)fclose(file);
    (void)unlink(path);
}
