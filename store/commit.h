/* store/commit.h - records into the books: the one transaction that stores a batch of records with their indexes,
 * roll-ups, spend, chain and ring positions.
 * Used by: the ledger process, recovery, tests.
 * Crash: a batch is stored whole or not at all; ring tails move only after it is. A batch committed before a crash is
 * recognised by the stored ring positions and not stored twice.
 * Errors: on failure nothing is stored, rings keep their records, and the same call may be made again. */
#ifndef TOLLGATE_STORE_COMMIT_H
#define TOLLGATE_STORE_COMMIT_H

#include "shm/shm_map.h"
#include "store/fold.h"
#include "store/ledger_private.h"

enum {
    /* Keeps a transaction well under LMDB's limit of dirty pages. */
    COMMIT_RECORDS_MOST = 16384
};

/* Told of each batch once it is stored: sums of the batch, and in fold.spends the new totals of what it touched. */
typedef void (*commit_done_fn)(void *context, const struct fold *fold);

/* Commits what the rings of all seats hold, in batches, and releases it. done may be NULL. Returns how many records
 * were committed, or -1 with *error set. */
int64_t commit_rings(struct ledger *ledger, const struct shm_map *map, commit_done_fn done, void *context,
                     struct buffer *error);

/* Stores records that come from nowhere else (tests, imports). */
MUST_CHECK bool commit_records(struct ledger *ledger, const struct shm_usage_record_sh *records, size_t count,
                               struct buffer *error);

/* Records that wait in the rings of all seats. */
uint64_t commit_pending(const struct shm_map *map);

/* Forgets the ring positions of segments other than this one. */
MUST_CHECK bool commit_forget_others(struct ledger *ledger, uint64_t incarnation, struct buffer *error);

#endif
