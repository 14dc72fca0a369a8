/* master/master_spawn.h - the fork itself, and what a child does before its main function.
 * Used by: the master only. Everything a child receives is in its struct heritage; other descriptors are closed, except
 * the state lock: no second server may start while any process of this one still works on the state directory. */
#ifndef TOLLGATE_MASTER_MASTER_SPAWN_H
#define TOLLGATE_MASTER_MASTER_SPAWN_H

#include "master/master_state.h"

/* Forks child, whose role, worker_index and seat are set, to run `generation`. In the parent fills in its pid and
 * descriptors and returns true; false with errno set when there is no process. In the child it never returns. */
MUST_CHECK bool master_spawn(struct master *master, const struct master_generation *generation,
                             struct master_child *child);

/* Runs ledger_recover in a process of its own, so that LMDB is never opened here, and waits for it. False when it
 * failed or was interrupted by SIGTERM or SIGINT; it has printed why. */
MUST_CHECK bool master_spawn_recovery(struct master *master, const struct conf *conf);

#endif
