/* master/master_child.h - starts, watches and buries child processes.
 * Used by: the master only.
 * Shared memory: a worker's seat is assigned before its fork and marked DEAD after waitpid; nothing else is written
 * there. */
#ifndef TOLLGATE_MASTER_MASTER_CHILD_H
#define TOLLGATE_MASTER_MASTER_CHILD_H

#include "master/master_state.h"

/* Forks a child into every empty post of these that may have one now. Failures are logged and tried again later. */
void master_child_fill_ledger(struct master *master);
void master_child_fill_generation(struct master *master, struct master_generation *generation);

/* Collects the dead: marks seats, writes obituaries, sets when their posts are filled again. */
void master_child_reap(struct master *master);

/* Tells a child to end by `signal_number`; it leaves its post. kill_after_ns 0: it may take as long as it likes. */
void master_child_retire(struct master *master, struct master_child *child, int signal_number, int64_t kill_after_ns);

/* Retires all of that role; generation 0 means any. SIGKILL instead of signal_number for those that are not ready yet.
 */
void master_child_retire_all(struct master *master, enum master_role role, uint32_t generation, int signal_number,
                             int64_t kill_after_ns);

/* Living processes of that role; generation 0 means any. */
int master_child_count(const struct master *master, enum master_role role, uint32_t generation);

/* Does every worker of the generation that is not given up, and its admin process, serve? */
bool master_child_all_ready(const struct master_generation *generation);
bool master_child_ledger_ready(const struct master *master);

/* Was a post of these given up, or has one died more than `deaths_most` times? */
bool master_child_any_given_up(const struct master_generation *generation);
int master_child_most_deaths(const struct master *master, const struct master_generation *generation);

/* Kills those whose time is over, and workers whose loop has been silent too long. */
void master_child_watch(struct master *master);

/* The loop found something on a child's descriptors. */
void master_child_on_ready(struct master *master, struct master_child *child);

/* How long to wait before the next start in a post whose child lived that long. first_ns is the shortest wait. */
int64_t master_child_next_delay(int64_t last_delay_ns, int64_t lived_ns, int64_t first_ns);

/* The earliest instant at which something here has to be done, or INT64_MAX. */
int64_t master_child_next_wake(const struct master *master);

/* "worker 0", "ledger", "admin" */
void master_child_name(const struct master_child *child, char out[static MASTER_LOG_NAME_BYTES]);

#endif
