/* store/retention.h - deletes records that are older than the configuration keeps them.
 * Used by: the ledger process, a small batch at a time.
 * Roll-ups stay. The chain goes on from an anchor, the link of the last deleted record; what the deleted records cost
 * is kept in a sum per account, so that verify still proves the totals. */
#ifndef TOLLGATE_STORE_RETENTION_H
#define TOLLGATE_STORE_RETENTION_H

#include "store/ledger_private.h"

enum { RETENTION_BATCH = 4096 };

/* Deletes up to `most` of the oldest records that ended before an instant, in the order of their commits; stops at the
 * first that is younger. Returns how many, or -1 with *error set. */
int retention_delete(struct ledger *ledger, int64_t before_wall_ns, int most, struct buffer *error);

#endif
