#include "store/spend.h"

#include "base/calendar.h"
#include "base/clock.h"

#define META_ZONE SPAN_LITERAL("zone")
#define META_WHOLE_FROM SPAN_LITERAL("spend_whole_from")
/* Rows older than this are of no use to anyone: windows of the past stand in the roll-ups. */
static const int64_t days_kept_ns = 8 * 86400 * NS_PER_S;
static const int64_t months_kept_ns = 70 * 86400 * NS_PER_S;

void spend_windows_at(int64_t wall_ns, struct spend_windows *out) {
    out->start_wall_ns[SHM_WINDOW_DAY] = calendar_floor(wall_ns, CALENDAR_DAY);
    out->start_wall_ns[SHM_WINDOW_MONTH] = calendar_floor(wall_ns, CALENDAR_MONTH);
    out->start_wall_ns[SHM_WINDOW_TOTAL] = 0;
    out->next_turn_wall_ns = calendar_next(wall_ns, CALENDAR_DAY);
}

int64_t spend_row(struct kv_txn *txn, const unsigned char *key) {
    struct span value = SPAN_EMPTY;
    if (!kv_get(txn, KV_SPEND, span_of((const char *)key, FOLD_SPEND_KEY_BYTES), &value) || value.len != 8) {
        return 0;
    }
    return unpack_bei64(value.base);
}

bool spend_row_store(struct kv_txn *txn, const unsigned char *key, int64_t nusd) {
    struct pack_key value;
    value.len = 0;
    pack_key_i64(&value, nusd);
    return kv_put(txn, KV_SPEND, span_of((const char *)key, FOLD_SPEND_KEY_BYTES), pack_key_span(&value));
}

void spend_load(struct kv_txn *txn, enum fold_account kind, uint32_t account, const struct spend_windows *windows,
                int64_t out_nusd[static SHM_WINDOWS]) {
    for (int window = 0; window < SHM_WINDOWS; window++) {
        struct pack_key key = fold_spend_key(window, windows->start_wall_ns[window], kind, account);
        out_nusd[window] = spend_row(txn, key.bytes);
    }
}

void spend_each(struct kv_txn *txn, const struct spend_windows *windows, spend_visit_fn visit, void *context) {
    struct kv_cursor *cursor = kv_cursor_open(txn, KV_SPEND);
    for (int window = 0; window < SHM_WINDOWS; window++) {
        struct pack_key prefix = {.len = 0};
        struct kv_pair pair;
        pack_key_u8(&prefix, (uint8_t)window);
        pack_key_i64(&prefix, windows->start_wall_ns[window]);
        bool more = kv_cursor_seek(cursor, pack_key_span(&prefix), &pair);
        while (more && pair.key.len == FOLD_SPEND_KEY_BYTES && memcmp(pair.key.base, prefix.bytes, prefix.len) == 0) {
            if (pair.value.len == 8) {
                visit(context, window, (enum fold_account)pair.key.base[9], unpack_be32(pair.key.base + 10),
                      unpack_bei64(pair.value.base));
            }
            more = kv_cursor_next(cursor, &pair);
        }
    }
    kv_cursor_close(cursor);
}

void spend_whole_from(struct kv_txn *txn, int64_t out_wall_ns[static SHM_WINDOWS]) {
    struct span value = SPAN_EMPTY;
    bool known = kv_get(txn, KV_META, META_WHOLE_FROM, &value) && value.len == 16;
    out_wall_ns[SHM_WINDOW_DAY] = known ? unpack_bei64(value.base) : INT64_MIN;
    out_wall_ns[SHM_WINDOW_MONTH] = known ? unpack_bei64(value.base + 8) : INT64_MIN;
    out_wall_ns[SHM_WINDOW_TOTAL] = INT64_MIN;
}

static bool store_whole_from(struct kv_txn *txn, int64_t days_wall_ns, int64_t months_wall_ns) {
    struct pack_key value = {.len = 0};
    pack_key_i64(&value, days_wall_ns);
    pack_key_i64(&value, months_wall_ns);
    return kv_put(txn, KV_META, META_WHOLE_FROM, pack_key_span(&value));
}

/* Deletes up to `most` rows of a window that started before an instant. Returns how many. */
static int delete_rows(struct kv_txn *txn, enum shm_window window, int64_t before_wall_ns, int most) {
    struct pack_key key = {.len = 0};
    struct kv_pair pair;
    int deleted = 0;
    pack_key_u8(&key, (uint8_t)window);
    struct kv_cursor *cursor = kv_cursor_open(txn, KV_SPEND);
    bool more = kv_cursor_seek(cursor, pack_key_span(&key), &pair);
    while (more && deleted < most && (uint8_t)pair.key.base[0] == (uint8_t)window &&
           unpack_bei64(pair.key.base + 1) < before_wall_ns && kv_cursor_delete(cursor)) {
        deleted++;
        more = kv_cursor_seek(cursor, pack_key_span(&key), &pair);
    }
    kv_cursor_close(cursor);
    return deleted;
}

static void fold_records_since(struct kv_txn *txn, int64_t from_wall_ns, struct fold *fold) {
    struct pack_key key = {.len = 0};
    struct kv_pair pair;
    struct record record;
    const unsigned char *chain = NULL;
    struct span bytes = SPAN_EMPTY;
    pack_key_i64(&key, from_wall_ns);
    struct kv_cursor *cursor = kv_cursor_open(txn, KV_RECORDS_BY_END);
    bool more = kv_cursor_seek(cursor, pack_key_span(&key), &pair);
    for (; more; more = kv_cursor_next(cursor, &pair)) {
        if (ledger_record_bytes(txn, unpack_be64(pair.key.base + 8), &chain, &bytes) && record_unpack(bytes, &record)) {
            fold_add(fold, &record);
        }
    }
    kv_cursor_close(cursor);
}

/* Folds this month's records again; earlier days and months are not asked for any more. */
static void rebuild(struct kv_txn *txn, int64_t now_wall_ns) {
    struct fold fold;
    fold_init(&fold);
    (void)delete_rows(txn, SHM_WINDOW_DAY, INT64_MAX, INT32_MAX);
    (void)delete_rows(txn, SHM_WINDOW_MONTH, INT64_MAX, INT32_MAX);
    int64_t from_wall_ns = calendar_floor(now_wall_ns, CALENDAR_MONTH);
    fold_records_since(txn, from_wall_ns, &fold);
    for (uint32_t index = 0; index < fold.spends.count; index++) {
        const struct fold_spend *row = fold_spend_at(&fold, index);
        if (row->key[0] != SHM_WINDOW_TOTAL) {
            (void)spend_row_store(txn, row->key, row->nusd);
        }
    }
    (void)store_whole_from(txn, from_wall_ns, from_wall_ns);
    fold_fini(&fold);
}

bool spend_use_stored_zone(struct kv_txn *txn) {
    char zone[256];
    struct span stored = SPAN_EMPTY;
    return !kv_get(txn, KV_META, META_ZONE, &stored) ||
           (span_copy(stored, zone, sizeof zone) && calendar_use_zone(zone));
}

static bool use_stored_zone(struct ledger *ledger, struct buffer *error) {
    struct kv_txn *txn = ledger_begin_write(ledger, error);
    bool known = txn != NULL && spend_use_stored_zone(txn);
    if (txn != NULL && !known) {
        buffer_append_text(error, "the time zone of the store does not exist on this system");
    }
    if (txn != NULL) {
        ledger_abort_write(ledger, txn);
    }
    return known;
}

bool spend_use_zone(struct ledger *ledger, const char *zone, struct buffer *error) {
    struct span stored = SPAN_EMPTY;
    if (zone == NULL) {
        return use_stored_zone(ledger, error);
    }
    if (!calendar_use_zone(zone)) {
        buffer_format(error, "the time zone %s does not exist on this system", zone);
        return false;
    }
    struct kv_txn *txn = ledger_begin_write(ledger, error);
    if (txn == NULL) {
        return false;
    }
    bool first = !kv_get(txn, KV_META, META_ZONE, &stored);
    if (!first && span_is(stored, zone)) {
        ledger_abort_write(ledger, txn);
        return true;
    }
    if (!first || kv_count(txn, KV_RECORDS) != 0) {
        rebuild(txn, clock_wall_ns());
    }
    (void)kv_put(txn, KV_META, META_ZONE, span_text(zone));
    return ledger_end_write(ledger, txn, error) == KV_OK;
}

static int64_t latest(int64_t a, int64_t b) { return a > b ? a : b; }

int spend_prune(struct ledger *ledger, int64_t now_wall_ns, int most, struct buffer *error) {
    struct kv_txn *txn = ledger_begin_write(ledger, error);
    if (txn == NULL) {
        return -1;
    }
    int deleted = delete_rows(txn, SHM_WINDOW_DAY, now_wall_ns - days_kept_ns, most);
    deleted += delete_rows(txn, SHM_WINDOW_MONTH, now_wall_ns - months_kept_ns, most - deleted);
    if (deleted == 0) {
        ledger_abort_write(ledger, txn);
        return 0;
    }
    int64_t whole_from_wall_ns[SHM_WINDOWS];
    spend_whole_from(txn, whole_from_wall_ns);
    (void)store_whole_from(txn, latest(whole_from_wall_ns[SHM_WINDOW_DAY], now_wall_ns - days_kept_ns),
                           latest(whole_from_wall_ns[SHM_WINDOW_MONTH], now_wall_ns - months_kept_ns));
    return ledger_end_write(ledger, txn, error) == KV_OK ? deleted : -1;
}
