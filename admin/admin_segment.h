/* admin/admin_segment.h - what the shared segment counts, as metrics.
 * Used by: the admin process, on any of its threads: everything is read atomically, nothing is written. */
#ifndef TOLLGATE_ADMIN_ADMIN_SEGMENT_H
#define TOLLGATE_ADMIN_ADMIN_SEGMENT_H

#include "base/buffer.h"
#include "shm/shm_map.h"

/* Appends what the segment counts as Prometheus text. */
void segment_write_metrics(const struct shm_map *map, struct buffer *out);

#endif
