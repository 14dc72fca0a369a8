/* store/ledger.h - the books on disk: tenants, keys, prices, records, roll-ups, ring positions. No LMDB types here;
 * kv_lmdb.c is the only file that includes lmdb.h.
 * Used by: the ledger process (the one writer), admin and command line (readers; the command line writes under the
 * state lock when no server runs). Open after fork, once a process. Blocking: disk. Errors: texts for the operator in
 * the struct buffer handed in, naming what to do. */
#ifndef TOLLGATE_STORE_LEDGER_H
#define TOLLGATE_STORE_LEDGER_H

#include "base/buffer.h"
#include "shm/shm_layout.h"

struct ledger;

enum ledger_mode { LEDGER_READ, LEDGER_WRITE };

/* Opens STATE_DIR's store, making it in LEDGER_WRITE mode. NULL with *error set: missing, another version, corrupt, no
 * permission, disk full. */
MUST_CHECK struct ledger *ledger_open(const char *state_dir, enum ledger_mode mode, struct buffer *error);
void ledger_close(struct ledger *ledger);

/* A committed request as reports see it. Texts point into the transaction and are valid during the callback only. */
struct ledger_record {
    uint64_t sequence; /* 1, 2, 3 ... in commit order */
    struct shm_usage_record_sh usage;
    const char *tenant; /* names of the numbers in usage */
    const char *key_id;
    const char *tags;        /* the key's tags when it was committed, as a JSON object text */
    unsigned char chain[32]; /* SHA-256 over the previous record's chain, this record's bytes and its texts */
};

/* Sums of one hour (UTC), tenant, key, model served, upstream and tag set. */
struct ledger_rollup {
    int64_t hour_wall_ns; /* its first instant */
    const char *tenant;
    const char *key_id;
    const char *model;
    const char *upstream;
    const char *tags; /* JSON object text */
    int64_t requests;
    int64_t failed;
    struct token_counts tokens;
    int64_t price_nusd;
    int64_t cost_nusd;
    int64_t list_nusd;
};

/* Walks committed records whose end lies in [from, to) in order of their end (newest first when `backwards`). The walk
 * ends early when visit returns false. One consistent snapshot. Returns false with *error set. */
MUST_CHECK bool ledger_each_record(struct ledger *ledger, int64_t from_wall_ns, int64_t to_wall_ns, bool backwards,
                                   bool (*visit)(void *context, const struct ledger_record *record), void *context,
                                   struct buffer *error);

/* Walks records by commit sequence, from `sequence` on (for --follow). */
MUST_CHECK bool ledger_each_record_from(struct ledger *ledger, uint64_t sequence,
                                        bool (*visit)(void *context, const struct ledger_record *record), void *context,
                                        struct buffer *error);

/* Visits each record with this id (ids are unique per tenant). */
MUST_CHECK bool ledger_each_record_with_id(struct ledger *ledger, const char *id,
                                           bool (*visit)(void *context, const struct ledger_record *record),
                                           void *context, struct buffer *error);

/* Walks roll-ups of hours in [from, to); both must be whole UTC hours. */
MUST_CHECK bool ledger_each_rollup(struct ledger *ledger, int64_t from_wall_ns, int64_t to_wall_ns,
                                   bool (*visit)(void *context, const struct ledger_rollup *rollup), void *context,
                                   struct buffer *error);

/* As ledger_each_rollup for UTC days: each roll-up is one day's sum and hour_wall_ns the day's first instant. 24 times
 * fewer rows, for reports that need no hours. */
MUST_CHECK bool ledger_each_day_rollup(struct ledger *ledger, int64_t from_wall_ns, int64_t to_wall_ns,
                                       bool (*visit)(void *context, const struct ledger_rollup *rollup), void *context,
                                       struct buffer *error);

/* Takes a snapshot that the following walks of this ledger share, so that a report over several of them is consistent;
 * ledger_unpin lets it go. */
MUST_CHECK bool ledger_pin(struct ledger *ledger, struct buffer *error);
void ledger_unpin(struct ledger *ledger);

#endif
