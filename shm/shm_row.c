#include "shm/shm_row.h"

#include <string.h>

enum { READ_TRIES = 1000 };

static_assert(sizeof(struct shm_secret_sh) % 8 == 0 && sizeof(struct shm_allow_sh) % 8 == 0, "rows are whole words");
static_assert(sizeof(struct shm_key_sh) % 8 == 0 && sizeof(struct shm_tenant_sh) % 8 == 0, "rows are whole words");
static_assert(sizeof(struct shm_price_sh) % 8 == 0, "rows are whole words");

static uint64_t offset_of(const struct shm_map *map, const void *row) {
    return (uint64_t)((const char *)row - (const char *)map->header);
}

/* Words are read with acquire and written with release instead of behind fences: whoever sees a writer's word then
 * also sees the odd version that came before it. */
static void copy_out(const _Atomic uint64_t *words, void *out, size_t bytes) {
    for (size_t at = 0; at < bytes / sizeof(uint64_t); at++) {
        uint64_t word = atomic_load_explicit(&words[at], memory_order_acquire);
        memcpy((char *)out + at * sizeof(word), &word, sizeof(word));
    }
}

static void copy_in(_Atomic uint64_t *words, const void *from, size_t first, size_t bytes) {
    for (size_t at = first; at < bytes / sizeof(uint64_t); at++) {
        uint64_t word = 0;
        memcpy(&word, (const char *)from + at * sizeof(word), sizeof(word));
        atomic_store_explicit(&words[at], word, memory_order_release);
    }
}

/* A row whose version is odd, as it was before. False: its write has ended meanwhile. */
static bool read_undo(const struct shm_map *map, const void *row, void *out, size_t bytes) {
    const struct shm_undo_sh *undo = &map->header->undo;
    uint32_t turn = atomic_load_explicit(&undo->turn, memory_order_acquire);
    if (turn % 2 != 0 || atomic_load_explicit(&undo->row_offset, memory_order_acquire) != offset_of(map, row)) {
        return false;
    }
    copy_out(undo->words, out, bytes);
    return atomic_load_explicit(&undo->turn, memory_order_relaxed) == turn;
}

bool shm_row_read(const struct shm_map *map, const void *row, void *out, size_t bytes) {
    const _Atomic uint32_t *version = row;
    for (int i = 0; i < READ_TRIES; i++) {
        uint32_t before = atomic_load_explicit(version, memory_order_acquire);
        if (before == 0) {
            return false;
        }
        if (before % 2 != 0) {
            if (read_undo(map, row, out, bytes)) {
                return true;
            }
            continue;
        }
        copy_out(row, out, bytes);
        if (atomic_load_explicit(version, memory_order_relaxed) == before) {
            return true;
        }
    }
    return false;
}

/* Writes all but the version, which shares the first word with 4 bytes of what it guards. */
static void write_guarded(void *row, const void *from, size_t bytes) {
    uint32_t half = 0;
    memcpy(&half, (const char *)from + sizeof(half), sizeof(half));
    atomic_store_explicit((_Atomic uint32_t *)row + 1, half, memory_order_release);
    copy_in(row, from, 1, bytes);
}

void shm_row_mend(const struct shm_map *map) {
    struct shm_undo_sh *undo = &map->header->undo;
    uint64_t offset = atomic_load_explicit(&undo->row_offset, memory_order_relaxed);
    if (offset == 0 || atomic_load_explicit(&undo->turn, memory_order_relaxed) % 2 != 0) {
        return; /* killed before it touched the row, if at all */
    }
    _Atomic uint32_t *version = (_Atomic uint32_t *)(void *)((char *)map->header + offset);
    uint32_t odd = atomic_load_explicit(version, memory_order_relaxed);
    if (odd % 2 == 0) {
        return;
    }
    uint64_t before[SHM_ROW_BYTES_MOST / sizeof(uint64_t)];
    copy_out(undo->words, before, undo->bytes);
    write_guarded((void *)version, before, undo->bytes);
    atomic_store_explicit(version, odd + 1, memory_order_release);
}

static void keep_undo(const struct shm_map *map, const void *row, size_t bytes) {
    struct shm_undo_sh *undo = &map->header->undo;
    uint32_t turn = atomic_load_explicit(&undo->turn, memory_order_relaxed) | 1;
    atomic_store_explicit(&undo->turn, turn, memory_order_relaxed);
    undo->bytes = (uint32_t)bytes;
    atomic_store_explicit(&undo->row_offset, offset_of(map, row), memory_order_release);
    copy_in(undo->words, row, 0, bytes);
    atomic_store_explicit(&undo->turn, turn + 1, memory_order_release);
}

void shm_row_write(const struct shm_map *map, void *row, const void *from, size_t bytes) {
    const size_t skip = sizeof(uint32_t);
    _Atomic uint32_t *version = row;
    CHECK(bytes <= SHM_ROW_BYTES_MOST && bytes % sizeof(uint64_t) == 0);
    shm_row_mend(map);
    uint32_t before = atomic_load_explicit(version, memory_order_relaxed);
    if (before != 0 && memcmp((char *)row + skip, (const char *)from + skip, bytes - skip) == 0) {
        return;
    }
    if (before != 0) { /* nobody reads a row of version 0 */
        keep_undo(map, row, bytes);
        atomic_store_explicit(version, before | 1, memory_order_release);
    }
    write_guarded(row, from, bytes);
    uint32_t even = (before | 1) + 1;
    atomic_store_explicit(version, even != 0 ? even : 2, memory_order_release);
}
