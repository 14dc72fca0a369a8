/* store/ledger_process.h - the ledger process: drains the workers' rings into LMDB, sweeps dead seats, publishes keys,
 * prices and limits, and answers the control socket.
 * Used by: the master, right after fork, in the child; recovery also by commands that run without a server.
 * Signals: SIGTERM and SIGQUIT: commit what the rings hold, then exit 0. */
#ifndef TOLLGATE_STORE_LEDGER_PROCESS_H
#define TOLLGATE_STORE_LEDGER_PROCESS_H

#include "shm/heritage.h"

/* Serves until told to end. When the master is gone it goes on until every seat is FREE or DEAD and swept and all rings
 * are empty, and leaves last. Returns the exit code: CHILD_EXIT_CONFIGURATION when the store is of another version or
 * corrupt. Before its byte to ready_fd it has published all tables and set header.ledger_ready to heritage->generation.
 */
int ledger_main(struct heritage *heritage);

/* Brings what a dead server left in STATE_DIR/segment into the store: sweeps all seats, commits all rings, removes the
 * file. Nothing to do is success. Only under the state lock. On failure returns false with *error set. conf gives
 * prices and the time zone. */
MUST_CHECK bool ledger_recover(const struct conf *conf, struct buffer *error);

#endif
