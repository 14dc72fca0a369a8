/* admin/admin_segment.h - sums over the shared segment that the status and the metrics both show.
 * Used by: the admin process, on any of its threads: everything is read atomically, nothing is written. */
#ifndef TOLLGATE_ADMIN_ADMIN_SEGMENT_H
#define TOLLGATE_ADMIN_ADMIN_SEGMENT_H

#include "base/buffer.h"
#include "shm/shm_map.h"

/* Does a worker sit there and serve? */
bool segment_seat_works(const struct shm_seat_sh *seat);

/* Records that wait in the rings for the ledger. */
uint64_t segment_ledger_lag(const struct shm_map *map);

/* Appends what the segment counts as Prometheus text. */
void segment_write_metrics(const struct shm_map *map, struct buffer *out);

#endif
