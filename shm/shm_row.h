/* shm/shm_row.h - rows that one process rewrites while others read them: whole, and never waiting for the writer.
 * Used by: shm_keys.c; worker/limits.c asks for versions. Writer: the ledger, one row at a time; readers: all.
 * Protocol: a row begins with its version, odd while it is being written. Before, the writer puts the row as it was
 * into the header's `undo`; a reader that meets an odd version takes the row from there. A row is written the first
 * time under version 0, which nobody reads. Blocking: never.
 * Crash: of a writer killed half-way readers go on seeing the row as it was; the next write puts that back first. */
#ifndef TOLLGATE_SHM_SHM_ROW_H
#define TOLLGATE_SHM_SHM_ROW_H

#include "base/check.h"
#include "shm/shm_map.h"

/* Copies a row of `bytes` (a multiple of 8, at most SHM_ROW_BYTES_MOST). False when it has never been written. */
MUST_CHECK bool shm_row_read(const struct shm_map *map, const void *row, void *out, size_t bytes);

/* Ledger: writes all of a row but its version. A row that says so already is left alone. */
void shm_row_write(const struct shm_map *map, void *row, const void *from, size_t bytes);

/* Ledger: puts back the row in which a writer was killed, if one was. Whoever looks for a row to write calls it first.
 */
void shm_row_mend(const struct shm_map *map);

/* The version of a row; 0: never written. */
static inline uint32_t shm_row_version(const void *row) {
    return atomic_load_explicit((const _Atomic uint32_t *)row, memory_order_acquire);
}

#endif
