/* store/spend.h - what tenants and keys have spent, as committed: one row per account and day, month, and in all.
 * Used by: store/ only, inside a transaction. Rows are kept by commits (commit.c) in the zone in force; a change of the
 * zone rebuilds the rows of days and months from the records. */
#ifndef TOLLGATE_STORE_SPEND_H
#define TOLLGATE_STORE_SPEND_H

#include "store/fold.h"
#include "store/ledger_private.h"

/* The windows that hold an instant, in the zone in force; TOTAL starts at 0. */
struct spend_windows {
    int64_t start_wall_ns[SHM_WINDOWS];
    int64_t next_turn_wall_ns; /* when the first of them ends */
};
void spend_windows_at(int64_t wall_ns, struct spend_windows *out);

/* An account's spend in these windows. */
void spend_load(struct kv_txn *txn, enum fold_account kind, uint32_t account, const struct spend_windows *windows,
                int64_t out_nusd[static SHM_WINDOWS]);

/* Walks all that was spent in these windows, by whomever; several times quicker than asking for each account. */
typedef void (*spend_visit_fn)(void *context, int window, enum fold_account kind, uint32_t account, int64_t nusd);
void spend_each(struct kv_txn *txn, const struct spend_windows *windows, spend_visit_fn visit, void *context);

/* One row; 0 when there is none. */
int64_t spend_row(struct kv_txn *txn, const unsigned char *key);
bool spend_row_store(struct kv_txn *txn, const unsigned char *key, int64_t nusd);

/* Since when the rows of days and of months are whole: earlier ones were pruned or belonged to another zone. */
void spend_whole_from(struct kv_txn *txn, int64_t out_wall_ns[static SHM_WINDOWS]);

/* Puts in force the zone that the stored rows are of. Returns false when this system lacks it. */
MUST_CHECK bool spend_use_stored_zone(struct kv_txn *txn);

/* Puts `zone` (an IANA name) in force for the spend of this ledger, rebuilding days and months when it was another.
 * NULL: whichever zone the stored rows are of. */
MUST_CHECK bool spend_use_zone(struct ledger *ledger, const char *zone, struct buffer *error);

/* Deletes at most `most` rows of days and months that ended long ago. Returns how many, or -1 with *error set. */
int spend_prune(struct ledger *ledger, int64_t now_wall_ns, int most, struct buffer *error);

#endif
