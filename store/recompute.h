/* store/recompute.h - makes balances and gauges exact again after a process died or a day turned (design.md section 3):
 * admissions and settlements pause, streams do not.
 * Used by: the ledger process. It raises the epoch to odd; each worker acknowledges between two turns and from then on
 * parks what would change balances; when all have, everything settled is committed, and
 * spent = what the ledger has committed, held and in_flight = the sum over live slots. Then the epoch is even again.
 * Crash: a ledger that dies in between leaves the epoch odd; the next one finishes the recompute before anything else.
 * A worker that dies in between is swept and counts as gone. Blocking: never; recompute_step is called once a turn. */
#ifndef TOLLGATE_STORE_RECOMPUTE_H
#define TOLLGATE_STORE_RECOMPUTE_H

#include "shm/shm_map.h"

struct recompute {
    const struct shm_map *map;
    bool wanted;
    bool pausing;
    int64_t since_mono_ns;
    int64_t not_before_mono_ns; /* after a commit that failed */
};

/* Starts with one wanted: nobody knows what happened before this ledger. */
void recompute_init(struct recompute *recompute, const struct shm_map *map);

/* Asks for one; several wishes become one. */
void recompute_want(struct recompute *recompute);

/* Goes as far as it can without waiting. commit_all commits every settled record and returns whether that worked. */
void recompute_step(struct recompute *recompute, bool (*commit_all)(void *context), void *context);

#endif
