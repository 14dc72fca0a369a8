/* shm/shm_pair.h - what one key takes of one model, for models that have limits of their own.
 * Used by: workers find a pair's row; the ledger frees those that nobody uses, in a pause. Outside a pause rows are
 * only added, each at the first free place of its neighbourhood, so that two workers always agree on a pair's row. */
#ifndef TOLLGATE_SHM_SHM_PAIR_H
#define TOLLGATE_SHM_SHM_PAIR_H

#include "shm/shm_map.h"

/* The row of this key and model, made the first time. SHM_NO_ROW when its neighbourhood is full: then the ledger is
 * asked to free some. */
uint32_t shm_pair_find(const struct shm_map *map, uint32_t key_index, const char *model);

struct shm_pair_sh *shm_pair(const struct shm_map *map, uint32_t row);

/* Ledger, in a pause: no row is held from now on; the live slots are counted next. */
void shm_pair_reset_gauges(const struct shm_map *map);

/* Ledger, in a pause, after the gauges were counted: frees the rows that hold nothing and whose buckets are full. */
void shm_pair_free_idle(const struct shm_map *map, int64_t now_mono_ns);

#endif
