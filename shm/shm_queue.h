/* shm/shm_queue.h - who waits for a rate limit to have room: first come, first served for each key, over all workers.
 * Used by: workers; the ledger clears what a dead worker left. A tenant's keys share one of SHM_QUEUES queues, so that
 * room in a tenant's limit is told to all its keys. A place is a row with a ticket; tickets only rise.
 * Crash: a row names its seat; until it is cleared, those behind it look again every second (worker/queue.c). */
#ifndef TOLLGATE_SHM_SHM_QUEUE_H
#define TOLLGATE_SHM_SHM_QUEUE_H

#include "shm/shm_map.h"

/* Takes the last place of the key's queue. Returns the place, or -1 when the queue is full. */
MUST_CHECK int shm_queue_join(const struct shm_map *map, uint32_t tenant_index, uint32_t key_index, uint32_t seat);

void shm_queue_leave(const struct shm_map *map, int place);

/* Does nobody of the same key stand before this place? */
bool shm_queue_is_first(const struct shm_map *map, int place);

/* How many of the same key stand before this place, or wait at all (place -1)? */
uint32_t shm_queue_count_before(const struct shm_map *map, uint32_t tenant_index, uint32_t key_index, int place);

/* Does anybody wait for this key? */
bool shm_queue_is_waited_for(const struct shm_map *map, uint32_t tenant_index, uint32_t key_index);

/* Calls wake once for each seat that has a place in the tenant's queue. */
void shm_queue_each(const struct shm_map *map, uint32_t tenant_index, void (*wake)(void *context, uint32_t seat),
                    void *context);

/* How many wait, over all queues. */
uint64_t shm_queue_waiting(const struct shm_map *map);

/* Ledger: takes the places of a dead worker's seat away. */
void shm_queue_clear_seat(const struct shm_map *map, uint32_t seat);

#endif
