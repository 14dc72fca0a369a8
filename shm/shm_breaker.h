/* shm/shm_breaker.h - one circuit breaker an upstream, shared by all workers.
 * Used by: workers. One word counts the failures of the current window (its start in the high bits), another holds
 * until when the upstream is left alone. After that one probe is let through; its success closes the breaker, its
 * failure opens it again. Crash: a probe whose worker died is followed by the next after another cooldown. */
#ifndef TOLLGATE_SHM_SHM_BREAKER_H
#define TOLLGATE_SHM_SHM_BREAKER_H

#include <stdbool.h>

#include "shm/shm_layout.h"

/* May a request go to this upstream now? Claims the probe when one is due. */
bool shm_breaker_allows(struct shm_upstream_sh *upstream, int64_t cooldown_ns, int64_t now_mono_ns);

void shm_breaker_succeeded(struct shm_upstream_sh *upstream);

/* Counts a failure; opens the breaker at `failures` within window_ns, or at once when the probe failed. Returns true
 * when this call opened it. */
bool shm_breaker_failed(struct shm_upstream_sh *upstream, int failures, int64_t window_ns, int64_t cooldown_ns,
                        int64_t now_mono_ns);

/* "up", "down" or "probing". */
const char *shm_breaker_state(const struct shm_upstream_sh *upstream, int64_t now_mono_ns);

#endif
