/* shm/shm_failures.h - how many wrong keys each client address has sent: a bucket an address, shared by all workers.
 * Used by: workers. A table of SHM_FAILURE_ROWS rows, found by a hash that clients can't predict. An address is an IPv4
 * address or the first 64 bits of an IPv6 one, which is what a single customer is given.
 * A row belongs to its address until its bucket is full again; then any other may take it over with one
 * compare-and-swap. Where all rows near an address are in use it shares one: it is refused earlier, never later.
 * Blocking: never. Crash: nothing to put right; time fills every bucket. */
#ifndef TOLLGATE_SHM_SHM_FAILURES_H
#define TOLLGATE_SHM_SHM_FAILURES_H

#include "shm/shm_map.h"

/* The bucket (shm_bucket.h) of an address given in IPv6 form, IPv4 as ::ffff:a.b.c.d. Claims a row when it has none. */
_Atomic uint64_t *shm_failure_bucket(const struct shm_map *map, const unsigned char address[static 16],
                                     int64_t now_mono_ns);

#endif
