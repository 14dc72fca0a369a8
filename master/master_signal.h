/* master/master_signal.h - turns signals into flags that the master's loop reads in its own order.
 * Used by: the master only; children call master_signal_reset_in_child first.
 * The signals stay blocked and are read from a descriptor, so none is lost and no handler runs. */
#ifndef TOLLGATE_MASTER_MASTER_SIGNAL_H
#define TOLLGATE_MASTER_MASTER_SIGNAL_H

#include <signal.h>
#include <stdbool.h>

#include "base/check.h"

/* What has arrived and was not yet acted on; the loop clears what it has taken. */
struct master_signals {
    int fd; /* readable when a signal waits */
    sigset_t old_mask;
    int terminate_count; /* SIGTERM and SIGINT; never cleared */
    bool child_ended;
    bool reload;
    bool reopen;
    bool upgrade;
};

/* Blocks the signals and opens the descriptor. False with errno set. */
MUST_CHECK bool master_signal_open(struct master_signals *signals);

/* Reads all that waits into the flags. Never blocks. */
void master_signal_read(struct master_signals *signals);

void master_signal_close(struct master_signals *signals);

/* In a child right after fork: default actions and the original mask, except that what a terminal or an operator sends
 * to the whole group and means for the master is ignored: SIGINT, SIGHUP, SIGUSR1, SIGUSR2. SIGPIPE stays ignored. */
void master_signal_reset_in_child(const struct master_signals *signals);

#endif
