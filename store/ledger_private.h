/* store/ledger_private.h - what struct ledger holds, for the files of store/ that write the books.
 * Used by: store/ only. Keys of KV_META: "version", "head" (last sequence and chain), "anchor" (last deleted record),
 * "zone" (whose days and months the spend rows have).
 * Errors: as kv.h: a transaction remembers its failure. */
#ifndef TOLLGATE_STORE_LEDGER_PRIVATE_H
#define TOLLGATE_STORE_LEDGER_PRIVATE_H

#include "base/hash.h"
#include "store/kv.h"
#include "store/ledger.h"
#include "store/names.h"
#include "store/record.h"

enum { LEDGER_STORE_VERSION = 1 };
#define LEDGER_MAP_BYTES ((size_t)64 << 30)

/* Names of tenants or ids of keys by number, read when first asked for. They never change. */
struct ledger_labels {
    char **texts;
    uint32_t count;
};

struct ledger_head {
    uint64_t sequence; /* of the last record; 0 before the first */
    unsigned char chain[SHA256_BYTES];
};

/* The last record that retention deleted. */
struct ledger_anchor {
    uint64_t sequence; /* 0: none was */
    unsigned char chain[SHA256_BYTES];
    int64_t newest_end_wall_ns; /* the latest end among the deleted */
};

struct ledger {
    char *state_dir;
    enum ledger_mode mode;
    size_t map_bytes;
    struct kv *kv; /* NULL after a failure, until the next write opens it again */
    enum kv_status open_status;
    struct kv_txn *pinned;
    int reading; /* transactions that ledger_begin_read has open */
    struct names names;
    uint32_t names_committed; /* how many there were when the write in progress began */
    struct ledger_labels tenants;
    struct ledger_labels keys;
    uint32_t *key_tags; /* writer: name number + 1 of each key's tags; 0 when not read yet */
    uint32_t key_tags_count;
};

/* As ledger_open with a map of this size to start with; *status says of what kind a failure is. */
MUST_CHECK struct ledger *ledger_open_sized(const char *state_dir, enum ledger_mode mode, size_t map_bytes,
                                            enum kv_status *status, struct buffer *error);

/* Closes the files and opens them again, after a failure that leaves the environment unusable. */
MUST_CHECK bool ledger_reopen(struct ledger *ledger, struct buffer *error);

/* The transaction of a walk: the pinned one, or a new one. ledger_end_read ends it unless it is pinned. A reader whose
 * books were compacted meanwhile turns to the new file here. */
MUST_CHECK struct kv_txn *ledger_begin_read(struct ledger *ledger, struct buffer *error);
void ledger_end_read(struct ledger *ledger, struct kv_txn *txn);

/* Begins a write, opening the files again when the last failure closed them. */
MUST_CHECK struct kv_txn *ledger_begin_write(struct ledger *ledger, struct buffer *error);

/* Commits. On failure what was learned in memory during the transaction is forgotten, a map that was full has been
 * grown, and files that failed have been closed: the same work may be tried again. */
MUST_CHECK enum kv_status ledger_end_write(struct ledger *ledger, struct kv_txn *txn, struct buffer *error);
/* Ends it without storing anything. */
void ledger_abort_write(struct ledger *ledger, struct kv_txn *txn);

/* What to show for a number; "unknown" when there is no such row. */
const char *ledger_tenant_name(struct ledger *ledger, struct kv_txn *txn, uint32_t tenant_id);
const char *ledger_key_id(struct ledger *ledger, struct kv_txn *txn, uint32_t key_number);

/* The name number of a key's tag set. False when txn failed. */
MUST_CHECK bool ledger_key_tags(struct ledger *ledger, struct kv_txn *txn, uint32_t key_number, uint32_t *number);
/* After a committed change of a key's tags, or a failed transaction: read it again. */
void ledger_forget_key_tags(struct ledger *ledger, uint32_t key_number);

void ledger_head_load(struct kv_txn *txn, struct ledger_head *head);
bool ledger_head_store(struct kv_txn *txn, const struct ledger_head *head);
void ledger_anchor_load(struct kv_txn *txn, struct ledger_anchor *anchor);
bool ledger_anchor_store(struct kv_txn *txn, const struct ledger_anchor *anchor);

/* A stored record by its sequence: chain, and bytes as record_unpack takes them. */
bool ledger_record_bytes(struct kv_txn *txn, uint64_t sequence, const unsigned char **chain, struct span *bytes);

#endif
