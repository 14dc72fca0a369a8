#include "store/retention.h"

#include "store/fold.h"
#include "store/pack.h"
#include "store/spend.h"

struct removal {
    struct kv_txn *txn;
    struct ledger_anchor anchor;
    struct fold archived;
};

static void delete_indexes(struct removal *removal, uint64_t sequence, const struct shm_usage_record_sh *usage) {
    struct pack_key by_end = {.len = 0};
    struct pack_key by_id = {.len = 0};
    pack_key_i64(&by_end, usage->end_wall_ns);
    pack_key_u64(&by_end, sequence);
    pack_key_text(&by_id, span_text(usage->id));
    pack_key_u32(&by_id, usage->tenant_id);
    (void)kv_delete(removal->txn, KV_RECORDS_BY_END, pack_key_span(&by_end));
    (void)kv_delete(removal->txn, KV_RECORDS_BY_ID, pack_key_span(&by_id));
}

/* Deletes the record under the cursor when it is old enough. */
static bool delete_record(struct removal *removal, struct kv_cursor *cursor, const struct kv_pair *pair,
                          int64_t before_wall_ns) {
    struct record record;
    uint64_t sequence = unpack_be64(pair->key.base);
    if (pair->value.len < SHA256_BYTES || !record_unpack(span_skip(pair->value, SHA256_BYTES), &record) ||
        record.usage.end_wall_ns >= before_wall_ns) {
        return false; /* a damaged one stays for verify to name */
    }
    removal->anchor.sequence = sequence;
    memcpy(removal->anchor.chain, pair->value.base, SHA256_BYTES);
    if (record.usage.end_wall_ns > removal->anchor.newest_end_wall_ns) {
        removal->anchor.newest_end_wall_ns = record.usage.end_wall_ns;
    }
    fold_add_spend(&removal->archived, FOLD_TENANT, record.usage.tenant_id, FOLD_WINDOW_ARCHIVED, 0,
                   record.usage.price_nusd);
    fold_add_spend(&removal->archived, FOLD_KEY, record.usage.key_number, FOLD_WINDOW_ARCHIVED, 0,
                   record.usage.price_nusd);
    bool deleted = kv_cursor_delete(cursor);
    delete_indexes(removal, sequence, &record.usage);
    return deleted;
}

static int delete_oldest(struct removal *removal, int64_t before_wall_ns, int most) {
    struct kv_pair pair;
    int deleted = 0;
    struct kv_cursor *cursor = kv_cursor_open(removal->txn, KV_RECORDS);
    bool more = kv_cursor_first(cursor, &pair);
    while (more && deleted < most && delete_record(removal, cursor, &pair, before_wall_ns)) {
        deleted++;
        more = kv_cursor_next(cursor, &pair);
    }
    kv_cursor_close(cursor);
    return deleted;
}

static bool store_archived(struct removal *removal) {
    bool stored = ledger_anchor_store(removal->txn, &removal->anchor);
    for (uint32_t index = 0; index < removal->archived.spends.count && stored; index++) {
        const struct fold_spend *row = fold_spend_at(&removal->archived, index);
        stored = spend_row_store(removal->txn, row->key, money_add(row->nusd, spend_row(removal->txn, row->key)));
    }
    return stored;
}

int retention_delete(struct ledger *ledger, int64_t before_wall_ns, int most, struct buffer *error) {
    struct removal removal = {.txn = ledger_begin_write(ledger, error)};
    if (removal.txn == NULL) {
        return -1;
    }
    fold_init(&removal.archived);
    ledger_anchor_load(removal.txn, &removal.anchor);
    int deleted = delete_oldest(&removal, before_wall_ns, most);
    if (deleted == 0 && kv_status_of(removal.txn) == KV_OK) {
        ledger_abort_write(ledger, removal.txn);
    } else {
        (void)store_archived(&removal);
        deleted = ledger_end_write(ledger, removal.txn, error) == KV_OK ? deleted : -1;
    }
    fold_fini(&removal.archived);
    return deleted;
}
