/* shm/shm_status.h - the status object of a running server, from the segment alone (interface.md section 8).
 * Used by: the command line (`status`) and the admin process (/admin/v1/status). Blocking: never (/proc is memory). */
#ifndef TOLLGATE_SHM_SHM_STATUS_H
#define TOLLGATE_SHM_SHM_STATUS_H

#include "base/buffer.h"
#include "shm/shm_map.h"

/* Does a worker work in this seat (draining counts)? */
bool shm_status_is_at_work(const struct shm_seat_sh *seat);

/* Records settled and not yet committed, over all rings. */
uint64_t shm_status_ledger_lag(const struct shm_map *map);

/* Appends {version, master:{pid}, ledger:{pid,lag_records}, admin:{pid}, workers:[...], upstreams:[...]}. */
void shm_status_write(struct buffer *out, const struct shm_map *map);

#endif
