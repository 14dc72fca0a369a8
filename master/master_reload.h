/* master/master_reload.h - SIGHUP: from one configuration to the next without losing a connection, stream or record.
 * Used by: the master only.
 * Order: read and check the file; open new addresses; the old ledger leaves and one with the new configuration
 * publishes its tables; new workers and a new admin process come up; then the old ones are told to leave once their
 * last stream has ended. A fault in any step leaves or puts back the old configuration; header.reload_report tells what
 * it was. */
#ifndef TOLLGATE_MASTER_MASTER_RELOAD_H
#define TOLLGATE_MASTER_MASTER_RELOAD_H

#include "master/master_state.h"

/* Begins; when the file is unusable the reload is over already. Blocking: reads files. */
void master_reload_begin(struct master *master);

/* Goes on as far as it can now. */
void master_reload_advance(struct master *master);

/* The server ends: forgets the next generation, whose processes are retired by the caller. */
void master_reload_abandon(struct master *master);

#endif
