/* store/sweep.h - ends the requests of workers that died: each of their live slots becomes a record.
 * Used by: the ledger process; recovery.
 * Writers: the ledger owns a seat from DEAD on; it makes it FREE again.
 * Crash: may be repeated from any point (shm_slot.h). */
#ifndef TOLLGATE_STORE_SWEEP_H
#define TOLLGATE_STORE_SWEEP_H

#include <sys/types.h>

#include "shm/shm_map.h"

/* Is there a seat to sweep? */
bool sweep_has_dead(const struct shm_map *map);

/* Sweeps every seat that is DEAD and frees it. Returns how many records were published. */
uint32_t sweep_dead_seats(const struct shm_map *map);

/* Nobody reaps any more: marks DEAD each seat whose process is gone. Returns how many seats are not FREE. */
uint32_t sweep_mark_gone(const struct shm_map *map);

/* Marks every seat that is not FREE as DEAD. Only when no process of that segment lives. */
void sweep_mark_all(const struct shm_map *map);

/* Is there no such process any more (a zombie counts as gone)? */
bool sweep_is_gone(pid_t pid);

/* Does that number mean a live process of this program, and not the caller? Numbers are used again. */
bool sweep_is_ours(pid_t pid);

#endif
