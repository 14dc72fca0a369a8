/* base/clock.h - the only callers of clock_gettime.
 * Used by: every process. Deadlines, limits and durations use monotonic time (_mono_ns); records and reports use wall
 * time (_wall_ns, since 1970-01-01 UTC). The two are never mixed. */
#ifndef TOLLGATE_BASE_CLOCK_H
#define TOLLGATE_BASE_CLOCK_H

#include <stdint.h>

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

/* Nanoseconds of CLOCK_MONOTONIC: the same clock in every process of this machine since its boot. */
int64_t clock_mono_ns(void);

/* Nanoseconds of CLOCK_REALTIME. May step. */
int64_t clock_wall_ns(void);

#endif
