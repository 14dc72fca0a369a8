/* admin/admin.h - the admin process: admin API, metrics and console on the admin address.
 * Used by: the master, right after fork, in the child. Reads the segment and the store; asks the ledger to change
 * things. Signals: SIGTERM and SIGQUIT end it after the requests in hand. */
#ifndef TOLLGATE_ADMIN_ADMIN_H
#define TOLLGATE_ADMIN_ADMIN_H

#include "shm/heritage.h"

/* Serves until told to end or until the master is gone; returns the exit code. One byte to ready_fd when it accepts. */
int admin_main(struct heritage *heritage);

#endif
