#include "store/price_book.h"

#include "store/pack.h"

static struct pack_key model_key(const char *model) {
    struct pack_key key = {.len = 0};
    pack_key_text(&key, span_text(model));
    return key;
}

bool price_book_store(struct kv_txn *txn, const struct price_book_row *row) {
    struct pack_key key = model_key(row->model);
    struct pack_key value = {.len = 0};
    pack_key_i64(&key, row->from_wall_ns);
    pack_key_i64(&value, row->price.input_nusd);
    pack_key_i64(&value, row->price.cached_input_nusd);
    pack_key_i64(&value, row->price.cache_write_nusd);
    pack_key_i64(&value, row->price.output_nusd);
    return kv_put(txn, KV_PRICES, pack_key_span(&key), pack_key_span(&value));
}

static bool read_row(const struct kv_pair *pair, struct price_book_row *row) {
    if (pair->key.len < 10 || pair->key.len > SHM_MODEL_NAME_BYTES + 8 || pair->value.len != 32) {
        return false;
    }
    const char *at = pair->value.base;
    *row = (struct price_book_row){
        .from_wall_ns = unpack_bei64(pair->key.base + pair->key.len - 8),
        .price = {unpack_bei64(at), unpack_bei64(at + 8), unpack_bei64(at + 16), unpack_bei64(at + 24)},
    };
    return span_copy(span_of(pair->key.base, pair->key.len - 9), row->model, sizeof row->model);
}

/* Walks from the cursor's first row of `from` (NULL: of all). */
static void each_from(struct kv_txn *txn, const char *from, bool (*visit)(void *, const struct price_book_row *),
                      void *context) {
    struct pack_key key = from == NULL ? (struct pack_key){.len = 0} : model_key(from);
    struct kv_pair pair;
    struct price_book_row row;
    struct kv_cursor *cursor = kv_cursor_open(txn, KV_PRICES);
    bool more = from == NULL ? kv_cursor_first(cursor, &pair) : kv_cursor_seek(cursor, pack_key_span(&key), &pair);
    while (more && read_row(&pair, &row) && visit(context, &row)) {
        more = kv_cursor_next(cursor, &pair);
    }
    kv_cursor_close(cursor);
}

void price_book_each(struct kv_txn *txn, bool (*visit)(void *context, const struct price_book_row *row),
                     void *context) {
    each_from(txn, NULL, visit, context);
}

struct model_count {
    char last[SHM_MODEL_NAME_BYTES];
    uint32_t count;
};

static bool count_model(void *context, const struct price_book_row *row) {
    struct model_count *seen = context;
    if (strcmp(seen->last, row->model) != 0) {
        (void)span_copy(span_text(row->model), seen->last, sizeof seen->last);
        seen->count++;
    }
    return true;
}

uint32_t price_book_models(struct kv_txn *txn) {
    struct model_count seen = {.count = 0};
    price_book_each(txn, count_model, &seen);
    return seen.count;
}

bool price_book_has(struct kv_txn *txn, const char *model) {
    struct shm_price_sh row;
    return price_book_current(txn, model, INT64_MAX, &row);
}

struct current {
    struct shm_price_sh *out;
    int64_t now_wall_ns;
};

/* Later prices that have begun take the place of earlier ones. */
static bool gather(void *context, const struct price_book_row *row) {
    struct current *current = context;
    struct shm_price_sh *out = current->out;
    if (strcmp(out->model, row->model) != 0) {
        return false;
    }
    if (out->count != 0 && row->from_wall_ns <= current->now_wall_ns) {
        out->count = 0;
    }
    if (out->count < SHM_PRICES_PER_MODEL) {
        out->prices[out->count++] = (struct shm_dated_price_sh){.from_wall_ns = row->from_wall_ns, .price = row->price};
    }
    return true;
}

bool price_book_current(struct kv_txn *txn, const char *model, int64_t now_wall_ns, struct shm_price_sh *out) {
    struct current current = {.out = out, .now_wall_ns = now_wall_ns};
    memset(out, 0, sizeof *out);
    if (!span_copy(span_text(model), out->model, sizeof out->model)) {
        return false;
    }
    each_from(txn, model, gather, &current);
    return out->count != 0;
}
