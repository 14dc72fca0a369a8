/* shm/shm_learned.h - what an upstream's own rate-limit headers and 429s tell of its limits: a bucket whose size, pace
 * and level are the upstream's word (wire.md section 6).
 * Used by: workers, all together. A guess that spares tenants an upstream's 429; the limits that are promises are
 * shm_bucket's. Crash: what a dead worker took comes back with time. */
#ifndef TOLLGATE_SHM_SHM_LEARNED_H
#define TOLLGATE_SHM_SHM_LEARNED_H

#include <stdbool.h>

#include "shm/shm_layout.h"

/* The upstream says: of `limit` permits `remaining` are left, and all are back in reset_ns. What we have sent since
 * counts as well. Values that make no sense change nothing. */
void shm_learned_hear(struct shm_learned_sh *learned, int64_t limit, int64_t remaining, int64_t reset_ns,
                      int64_t now_mono_ns);

/* How long to wait until the upstream has that many permits, as far as is known; 0: it has. */
int64_t shm_learned_wait_ns(const struct shm_learned_sh *learned, int64_t permits, int64_t now_mono_ns);

/* Counts permits as sent; or, with a negative number, as not sent after all. */
void shm_learned_charge(struct shm_learned_sh *learned, int64_t permits, int64_t now_mono_ns);

/* The upstream said 429: leave it alone for a while. */
void shm_learned_block(struct shm_upstream_sh *upstream, int64_t wait_ns, int64_t now_mono_ns);

#endif
