#include "store/commit.h"

#include <stdlib.h>

#include "shm/shm_slot.h"
#include "store/pack.h"
#include "store/spend.h"

enum { FRESH_ID_DIGITS = 24, BATCHES_MOST = 32 };

/* One batch in the making. */
struct batch {
    struct ledger *ledger;
    struct kv_txn *txn;
    struct ledger_head head;
    struct fold *fold;
    struct buffer *bytes; /* chain and record, kept from one record to the next */
};

static void take_fresh_id(struct shm_usage_record_sh *usage) {
    memcpy(usage->id, "req_", 4);
    random_base62(usage->id + 4, FRESH_ID_DIGITS);
    usage->flags &= ~(uint32_t)SHM_RECORD_CLIENT_ID;
}

/* Indexes the record under its id. One without an id, or with one its tenant has used before, gets a fresh one. */
static bool settle_id(struct batch *batch, struct shm_usage_record_sh *usage) {
    struct pack_key key;
    struct pack_key sequence;
    bool exists = false;
    sequence.len = 0;
    pack_key_u64(&sequence, batch->head.sequence + 1);
    if (usage->id[0] == '\0') {
        take_fresh_id(usage);
    }
    do {
        if (exists) {
            take_fresh_id(usage);
        }
        key.len = 0;
        pack_key_text(&key, span_text(usage->id));
        pack_key_u32(&key, usage->tenant_id);
        (void)kv_put_new(batch->txn, KV_RECORDS_BY_ID, pack_key_span(&key), pack_key_span(&sequence), &exists);
    } while (exists);
    return kv_status_of(batch->txn) == KV_OK;
}

/* Finds the numbers of the record's texts, and the texts of its tags. */
static bool settle_texts(struct batch *batch, struct record *record, struct span texts[static RECORD_TEXTS]) {
    struct names *names = &batch->ledger->names;
    texts[RECORD_MODEL_ASKED] = span_text(record->usage.model_asked);
    texts[RECORD_MODEL_SERVED] = span_text(record->usage.model_served);
    texts[RECORD_UPSTREAM] = span_text(record->usage.upstream);
    for (int text = RECORD_MODEL_ASKED; text <= RECORD_UPSTREAM; text++) {
        if (!names_number(names, batch->txn, texts[text], &record->texts[text])) {
            return false;
        }
    }
    if (!ledger_key_tags(batch->ledger, batch->txn, record->usage.key_number, &record->texts[RECORD_TAGS])) {
        return false;
    }
    texts[RECORD_TAGS] = span_text(names_text(names, batch->txn, record->texts[RECORD_TAGS]));
    return true;
}

static bool put_record(struct batch *batch, const struct record *record, const struct span *texts) {
    struct pack_key by_sequence;
    unsigned char chain[SHA256_BYTES];
    buffer_clear(batch->bytes);
    buffer_append(batch->bytes, batch->head.chain, SHA256_BYTES);
    record_pack(record, batch->bytes);
    CHECK(!batch->bytes->failed);
    record_chain(batch->head.chain, span_skip(buffer_span(batch->bytes), SHA256_BYTES), texts, chain);
    memcpy(batch->bytes->base, chain, SHA256_BYTES);
    memcpy(batch->head.chain, chain, SHA256_BYTES);
    batch->head.sequence++;
    by_sequence.len = 0;
    pack_key_u64(&by_sequence, batch->head.sequence);
    return kv_put_last(batch->txn, KV_RECORDS, pack_key_span(&by_sequence), buffer_span(batch->bytes));
}

static bool index_by_end(struct batch *batch, int64_t end_wall_ns) {
    struct pack_key key;
    key.len = 0;
    pack_key_i64(&key, end_wall_ns);
    pack_key_u64(&key, batch->head.sequence);
    return kv_put(batch->txn, KV_RECORDS_BY_END, pack_key_span(&key), SPAN_EMPTY);
}

static bool add_record(struct batch *batch, const struct shm_usage_record_sh *usage) {
    struct record record = {.usage = *usage};
    struct span texts[RECORD_TEXTS];
    record_clamp(&record.usage);
    if (!settle_id(batch, &record.usage) || !settle_texts(batch, &record, texts) ||
        !put_record(batch, &record, texts) || !index_by_end(batch, record.usage.end_wall_ns)) {
        return false;
    }
    fold_add(batch->fold, &record);
    return true;
}

static bool store_rollups(struct batch *batch) {
    struct buffer value;
    bool stored = true;
    buffer_init(&value, RECORD_BYTES_MOST);
    for (uint32_t index = 0; index < batch->fold->rollups.count && stored; index++) {
        struct fold_rollup *row = fold_rollup_at(batch->fold, index);
        struct span key = span_of((const char *)row->key, FOLD_ROLLUP_KEY_BYTES);
        struct span before = SPAN_EMPTY;
        struct fold_sums sums;
        if (kv_get(batch->txn, KV_ROLLUPS, key, &before) && fold_sums_unpack(before, &sums)) {
            fold_sums_add(&row->sums, &sums);
        }
        buffer_clear(&value);
        fold_sums_pack(&row->sums, &value);
        stored = kv_put(batch->txn, KV_ROLLUPS, key, buffer_span(&value));
    }
    buffer_fini(&value);
    return stored;
}

static bool store_spend(struct batch *batch) {
    bool stored = true;
    for (uint32_t index = 0; index < batch->fold->spends.count && stored; index++) {
        struct fold_spend *row = fold_spend_at(batch->fold, index);
        row->nusd = money_add(row->nusd, spend_row(batch->txn, row->key));
        stored = spend_row_store(batch->txn, row->key, row->nusd);
    }
    return stored;
}

static bool begin_batch(struct batch *batch, struct buffer *error) {
    fold_clear(batch->fold);
    batch->txn = ledger_begin_write(batch->ledger, error);
    if (batch->txn == NULL) {
        return false;
    }
    ledger_head_load(batch->txn, &batch->head);
    return true;
}

static enum kv_status end_batch(struct batch *batch, struct buffer *error) {
    (void)(store_rollups(batch) && store_spend(batch) && ledger_head_store(batch->txn, &batch->head));
    return ledger_end_write(batch->ledger, batch->txn, error);
}

/* --- rings --- */

static struct pack_key position_key(uint64_t incarnation, uint32_t seat) {
    struct pack_key key;
    key.len = 0;
    pack_key_u64(&key, incarnation);
    pack_key_u32(&key, seat);
    return key;
}

static uint64_t stored_position(struct kv_txn *txn, const struct shm_map *map, uint32_t seat) {
    struct pack_key key = position_key(map->header->incarnation, seat);
    struct span value = SPAN_EMPTY;
    return kv_get(txn, KV_POSITIONS, pack_key_span(&key), &value) && value.len == 8 ? unpack_be64(value.base) : 0;
}

static bool store_position(struct kv_txn *txn, const struct shm_map *map, uint32_t seat, uint64_t position) {
    struct pack_key key = position_key(map->header->incarnation, seat);
    struct pack_key value = {.len = 0};
    pack_key_u64(&value, position);
    return kv_put(txn, KV_POSITIONS, pack_key_span(&key), pack_key_span(&value));
}

/* Adds what one ring holds, up to `most` records. *position is where it ended. False when the transaction failed. */
static bool add_ring(struct batch *batch, const struct shm_map *map, uint32_t seat, int64_t most, uint64_t *position,
                     int64_t *added) {
    uint64_t tail = 0;
    uint64_t head = 0;
    shm_ring_bounds(map, seat, &tail, &head);
    uint64_t stored = stored_position(batch->txn, map, seat);
    uint64_t at = stored > tail && stored <= head ? stored : tail;
    uint64_t end = head - at > (uint64_t)most ? at + (uint64_t)most : head;
    *position = at;
    for (; at < end; at++) {
        if (!add_record(batch, shm_ring_entry(map, seat, at))) {
            CHECK(kv_status_of(batch->txn) != KV_OK); /* else records would be stored without the position */
            return false;
        }
    }
    *added += (int64_t)(end - *position);
    *position = end;
    return end == stored || end == 0 || store_position(batch->txn, map, seat, end);
}

/* Fills the batch from all rings. positions has one entry a seat. */
static int64_t add_rings(struct batch *batch, const struct shm_map *map, uint64_t *positions) {
    int64_t added = 0;
    for (uint32_t seat = 0; seat < map->header->seat_count; seat++) {
        if (!add_ring(batch, map, seat, COMMIT_RECORDS_MOST - added, &positions[seat], &added)) {
            break;
        }
    }
    return added;
}

static void release_rings(const struct shm_map *map, const uint64_t *positions) {
    for (uint32_t seat = 0; seat < map->header->seat_count; seat++) {
        uint64_t tail = 0;
        uint64_t head = 0;
        shm_ring_bounds(map, seat, &tail, &head);
        if (positions[seat] > tail) {
            shm_ring_release(map, seat, positions[seat]);
        }
    }
}

/* One batch of the rings; *committed is 0 when they were empty. */
static enum kv_status commit_once(struct batch *batch, const struct shm_map *map, uint64_t *positions,
                                  int64_t *committed, struct buffer *error) {
    if (!begin_batch(batch, error)) {
        return KV_BROKEN;
    }
    *committed = add_rings(batch, map, positions);
    return end_batch(batch, error);
}

static void batch_init(struct batch *batch, struct ledger *ledger, struct fold *fold, struct buffer *bytes) {
    *batch = (struct batch){.ledger = ledger, .fold = fold, .bytes = bytes};
    fold_init(fold);
    buffer_init(bytes, SHA256_BYTES + RECORD_BYTES_MOST);
}

int64_t commit_rings(struct ledger *ledger, const struct shm_map *map, commit_done_fn done, void *context,
                     struct buffer *error) {
    struct batch batch;
    struct fold fold;
    struct buffer bytes;
    enum kv_status status = KV_OK;
    int64_t total = 0;
    uint64_t *positions = calloc(map->header->seat_count, sizeof *positions);
    CHECK(positions != NULL);
    batch_init(&batch, ledger, &fold, &bytes);
    for (int batches = 0; commit_pending(map) != 0 && batches < BATCHES_MOST; batches++) {
        int64_t committed = 0;
        status = commit_once(&batch, map, positions, &committed, error);
        if (status == KV_MAP_FULL) { /* it has been grown */
            buffer_clear(error);
            continue;
        }
        if (status != KV_OK) {
            break;
        }
        release_rings(map, positions);
        atomic_fetch_add(&map->header->records_committed, (uint64_t)committed);
        total += committed;
        if (done != NULL) {
            done(context, &fold);
        }
    }
    fold_fini(&fold);
    buffer_fini(&bytes);
    free(positions);
    return status == KV_OK ? total : -1;
}

bool commit_records(struct ledger *ledger, const struct shm_usage_record_sh *records, size_t count,
                    struct buffer *error) {
    struct batch batch;
    struct fold fold;
    struct buffer bytes;
    enum kv_status status = KV_MAP_FULL;
    batch_init(&batch, ledger, &fold, &bytes);
    for (int tries = 0; status == KV_MAP_FULL && tries < BATCHES_MOST; tries++) {
        buffer_clear(error);
        if (!begin_batch(&batch, error)) {
            status = KV_BROKEN;
            break;
        }
        for (size_t at = 0; at < count && add_record(&batch, &records[at]); at++) {
        }
        status = end_batch(&batch, error);
    }
    fold_fini(&fold);
    buffer_fini(&bytes);
    return status == KV_OK;
}

uint64_t commit_pending(const struct shm_map *map) {
    uint64_t pending = 0;
    for (uint32_t seat = 0; seat < map->header->seat_count; seat++) {
        uint64_t tail = 0;
        uint64_t head = 0;
        shm_ring_bounds(map, seat, &tail, &head);
        pending += head - tail;
    }
    return pending;
}

bool commit_forget_others(struct ledger *ledger, uint64_t incarnation, struct buffer *error) {
    struct kv_pair pair;
    struct kv_txn *txn = ledger_begin_write(ledger, error);
    if (txn == NULL) {
        return false;
    }
    struct kv_cursor *cursor = kv_cursor_open(txn, KV_POSITIONS);
    bool more = kv_cursor_first(cursor, &pair);
    while (more) {
        if (unpack_be64(pair.key.base) != incarnation && !kv_cursor_delete(cursor)) {
            break;
        }
        more = kv_cursor_next(cursor, &pair);
    }
    kv_cursor_close(cursor);
    return ledger_end_write(ledger, txn, error) == KV_OK;
}
