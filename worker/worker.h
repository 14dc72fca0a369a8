/* worker/worker.h - the worker process: accepts clients, relays their requests upstream, counts and settles them.
 * Used by: the master, right after fork, in the child.
 * Signals it takes: SIGTERM drains with conf.drain_timeout as its end, SIGQUIT drains until its last stream has ended.
 */
#ifndef TOLLGATE_WORKER_WORKER_H
#define TOLLGATE_WORKER_WORKER_H

#include "shm/heritage.h"

/* Serves until told to drain or until the master is gone; returns the exit code of the process. Writes one byte to
 * heritage->ready_fd when every listener accepts. */
int worker_main(struct heritage *heritage);

#endif
