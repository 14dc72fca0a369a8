/* admin/admin_jobs.h - threads for what may wait: the store on disk, and the ledger behind its socket (invariant I6).
 * Used by: the admin process; the loop's thread calls everything here, jobs run on the lanes' threads.
 * A lane is one thread with its own queue: the jobs of a lane never run at the same time, so that what they use (one
 * open store) needs no lock.
 * Ownership: a job belongs to its submitter, who embeds it and gets it back exactly once from jobs_take_done. In
 * between only the thread touches what the job works on, except `abandoned`. */
#ifndef TOLLGATE_ADMIN_ADMIN_JOBS_H
#define TOLLGATE_ADMIN_ADMIN_JOBS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/check.h"

enum { JOB_LANES_MOST = 4, JOBS_WAITING_MOST = 256 };

struct job {
    void (*run)(struct job *job, void *lane_context); /* on the lane's thread */
    struct job *next;
    _Atomic bool abandoned; /* nobody waits for it: not begun, it never will be */
    _Atomic bool begun;
};

struct jobs;

/* Starts one thread a lane; contexts[i] is handed to the jobs of lane i. Signals stay with the calling thread. NULL:
 * the system refuses. */
MUST_CHECK struct jobs *jobs_new(void *const *contexts, int lane_count);

/* Readable (an eventfd) when jobs are done. */
int jobs_descriptor(const struct jobs *jobs);

/* Queues the job. False: too many wait already; the job stays the caller's. */
MUST_CHECK bool jobs_submit(struct jobs *jobs, int lane, struct job *job);

/* A job that is done, or NULL. Call until NULL when the descriptor is readable. */
struct job *jobs_take_done(struct jobs *jobs);

/* Says that nobody waits for the job. It still comes back. */
void jobs_abandon(struct job *job);

/* Ends the threads after the jobs in hand and frees all; queued jobs are not run and not given back. */
void jobs_free(struct jobs *jobs);

#endif
