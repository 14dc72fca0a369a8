/* store/backup.h - a compact copy of the books for elsewhere, or in their own place.
 * Used by: the command line (backup); whoever writes the books, which is the ledger process or, without a server, the
 * command line (compact).
 * Blocking: disk, for as long as the books are big; a running server goes on. Crash: a copy that was not finished has
 * no DIR/ledger; books being compacted change places with the copy in one step. */
#ifndef TOLLGATE_STORE_BACKUP_H
#define TOLLGATE_STORE_BACKUP_H

#include "store/ledger_private.h"

/* Makes DIR, which must be new or empty, a state directory with a copy of these books. */
MUST_CHECK bool backup_to(struct ledger *ledger, const char *dir, struct buffer *error);

/* Replaces the books by a compact copy. Only for the one writer, with no transaction of this process open. Readers in
 * other processes keep the old books until their next transaction. */
MUST_CHECK bool backup_compact(struct ledger *ledger, int64_t *before_bytes, int64_t *after_bytes,
                               struct buffer *error);

#endif
