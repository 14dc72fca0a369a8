/* store/fold.h - sums over records: the roll-ups of hours and days, and what tenants and keys have spent. Commits add a
 * batch's fold to the stored rows; verify folds everything again and compares.
 * Used by: store/ only. Days and months of spend are those of the zone in force (calendar_use_zone); roll-ups are UTC.
 * Ownership: a fold owns its tables until fold_fini. Units: nano-USD, tokens; sums saturate. */
#ifndef TOLLGATE_STORE_FOLD_H
#define TOLLGATE_STORE_FOLD_H

#include "base/buffer.h"
#include "shm/shm_layout.h"
#include "store/pack.h"
#include "store/record.h"

/* Row keys as stored. Roll-up: level, start, tenant, key, model served, upstream, tags. Spend: window, start, kind,
 * account. */
enum { FOLD_ROLLUP_KEY_BYTES = 1 + 8 + 5 * 4, FOLD_SPEND_KEY_BYTES = 1 + 8 + 1 + 4 };
enum fold_level { FOLD_HOUR = 'h', FOLD_DAY = 'd' };
enum fold_account { FOLD_TENANT = 't', FOLD_KEY = 'k' };
/* Windows of spend rows: those of enum shm_window, and the part of TOTAL whose records were deleted. */
enum { FOLD_WINDOW_ARCHIVED = SHM_WINDOWS };

struct fold_sums {
    int64_t requests;
    int64_t failed;
    struct token_counts tokens;
    int64_t price_nusd;
    int64_t cost_nusd;
    int64_t list_nusd;
};

struct fold_rollup {
    struct fold_sums sums;
    unsigned char key[FOLD_ROLLUP_KEY_BYTES];
};

struct fold_spend {
    int64_t nusd;
    unsigned char key[FOLD_SPEND_KEY_BYTES];
};

struct fold_table {
    unsigned char *entries;
    size_t entry_bytes;
    size_t key_offset;
    size_t key_bytes;
    uint32_t count;
    uint32_t capacity;
    uint32_t *slots; /* open addressing: entry + 1, 0 for none */
    uint32_t slot_count;
};

/* The day or month last asked for, so that the calendar is asked once a window. */
struct fold_span {
    int64_t start_wall_ns;
    int64_t end_wall_ns;
};

struct fold {
    struct fold_table rollups;
    struct fold_table spends;
    struct fold_span day;
    struct fold_span month;
};

void fold_init(struct fold *fold);
void fold_fini(struct fold *fold);
/* Empties it, keeping the memory. */
void fold_clear(struct fold *fold);

/* Adds a record to its two roll-ups and its six sums of spend. */
void fold_add(struct fold *fold, const struct record *record);
/* Adds only the spend, to one window. */
void fold_add_spend(struct fold *fold, enum fold_account kind, uint32_t account, int window, int64_t start_wall_ns,
                    int64_t nusd);

static inline struct fold_rollup *fold_rollup_at(const struct fold *fold, uint32_t index) {
    return (struct fold_rollup *)(void *)(fold->rollups.entries + (size_t)index * fold->rollups.entry_bytes);
}
static inline struct fold_spend *fold_spend_at(const struct fold *fold, uint32_t index) {
    return (struct fold_spend *)(void *)(fold->spends.entries + (size_t)index * fold->spends.entry_bytes);
}

/* The entry with this key, or NULL. */
struct fold_rollup *fold_find_rollup(const struct fold *fold, const unsigned char *key);
struct fold_spend *fold_find_spend(const struct fold *fold, const unsigned char *key);

/* Is it counted as failed: a status of 400 or more, or an error event? */
bool fold_is_failed(const struct shm_usage_record_sh *usage);

void fold_sums_add(struct fold_sums *sums, const struct fold_sums *more);
bool fold_sums_equal(const struct fold_sums *a, const struct fold_sums *b);
void fold_sums_pack(const struct fold_sums *sums, struct buffer *out);
MUST_CHECK bool fold_sums_unpack(struct span bytes, struct fold_sums *sums);

/* The key of a spend row. */
struct pack_key fold_spend_key(int window, int64_t start_wall_ns, enum fold_account kind, uint32_t account);

/* The first instant of the UTC hour or day that holds wall_ns. */
int64_t fold_floor(int64_t wall_ns, enum fold_level level);

#endif
