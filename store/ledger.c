#include "store/ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/accounts.h"
#include "store/fold.h"
#include "store/ledger_private.h"
#include "store/pack.h"
#include "store/state_lock.h"

enum { PATH_BYTES = 4096 };

#define META_VERSION SPAN_LITERAL("version")
#define META_HEAD SPAN_LITERAL("head")
#define META_ANCHOR SPAN_LITERAL("anchor")

static bool store_version(struct kv_txn *txn) {
    struct pack_key value = {.len = 0};
    pack_key_u32(&value, LEDGER_STORE_VERSION);
    return kv_put(txn, KV_META, META_VERSION, pack_key_span(&value));
}

/* Sees to it that the store is one this program knows; an empty one is given the version. */
static bool settle_version(struct ledger *ledger, struct buffer *error) {
    struct span value = SPAN_EMPTY;
    bool write = ledger->mode == LEDGER_WRITE;
    struct kv_txn *txn = kv_begin(ledger->kv, write, error);
    if (txn == NULL) {
        ledger->open_status = KV_BROKEN;
        return false;
    }
    if (kv_get(txn, KV_META, META_VERSION, &value)) {
        uint32_t version = value.len == sizeof version ? unpack_be32(value.base) : 0;
        kv_abort(txn);
        if (version != LEDGER_STORE_VERSION) {
            ledger->open_status = KV_FOREIGN;
            buffer_format(error,
                          "the ledger in %s is of version %" PRIu32
                          " and this program writes version %d: use the program that "
                          "wrote it, or move the directory away to start empty",
                          ledger->state_dir, version, LEDGER_STORE_VERSION);
        }
        return version == LEDGER_STORE_VERSION;
    }
    if (write && kv_status_of(txn) == KV_OK && store_version(txn)) {
        ledger->open_status = kv_commit(txn, error);
        return ledger->open_status == KV_OK;
    }
    ledger->open_status = kv_status_of(txn) == KV_OK ? KV_BROKEN : kv_status_of(txn);
    buffer_format(error, "the ledger in %s cannot be read: %s%s", ledger->state_dir,
                  kv_status_of(txn) == KV_OK ? "it was never finished" : kv_failure_text(txn), kv_failure_advice(txn));
    kv_abort(txn);
    return false;
}

static bool name_files(const struct ledger *ledger, char out[static PATH_BYTES]) {
    int len = snprintf(out, PATH_BYTES, "%s/ledger", ledger->state_dir);
    return len > 0 && len < PATH_BYTES;
}

static bool open_files(struct ledger *ledger, struct buffer *error) {
    char path[PATH_BYTES];
    if (!name_files(ledger, path)) {
        buffer_append_text(error, "the path of the state directory is too long");
        return false;
    }
    ledger->kv = kv_open(path, ledger->mode == LEDGER_WRITE, ledger->map_bytes, &ledger->open_status, error);
    if (ledger->kv != NULL && settle_version(ledger, error)) {
        return true;
    }
    kv_close(ledger->kv);
    ledger->kv = NULL;
    return false;
}

/* What root has made belongs to the user the server runs as. */
static void hand_over(const struct ledger *ledger) {
    if (ledger->mode == LEDGER_WRITE) {
        state_hand_over(ledger->state_dir, "ledger");
        state_hand_over(ledger->state_dir, "ledger/data.mdb");
        state_hand_over(ledger->state_dir, "ledger/lock.mdb");
    }
}

struct ledger *ledger_open_sized(const char *state_dir, enum ledger_mode mode, size_t map_bytes, enum kv_status *status,
                                 struct buffer *error) {
    struct ledger *ledger = calloc(1, sizeof *ledger);
    CHECK(ledger != NULL);
    *ledger = (struct ledger){.mode = mode, .map_bytes = map_bytes};
    ledger->state_dir = strdup(state_dir);
    CHECK(ledger->state_dir != NULL);
    names_init(&ledger->names);
    bool opened = open_files(ledger, error);
    *status = ledger->open_status;
    hand_over(ledger);
    if (!opened) {
        ledger_close(ledger);
        return NULL;
    }
    return ledger;
}

struct ledger *ledger_open(const char *state_dir, enum ledger_mode mode, struct buffer *error) {
    enum kv_status status = KV_OK;
    return ledger_open_sized(state_dir, mode, LEDGER_MAP_BYTES, &status, error);
}

bool ledger_reopen(struct ledger *ledger, struct buffer *error) {
    ledger_unpin(ledger);
    kv_close(ledger->kv);
    ledger->kv = NULL;
    return open_files(ledger, error);
}

static void free_labels(struct ledger_labels *labels) {
    for (uint32_t number = 0; number < labels->count; number++) {
        free(labels->texts[number]);
    }
    free(labels->texts);
}

void ledger_close(struct ledger *ledger) {
    if (ledger == NULL) {
        return;
    }
    ledger_unpin(ledger);
    kv_close(ledger->kv);
    names_fini(&ledger->names);
    free_labels(&ledger->tenants);
    free_labels(&ledger->keys);
    free(ledger->key_tags);
    free(ledger->state_dir);
    free(ledger);
}

static bool is_stale(const struct ledger *ledger) {
    char path[PATH_BYTES];
    return ledger->mode == LEDGER_READ && name_files(ledger, path) && !kv_is_current(ledger->kv, path);
}

struct kv_txn *ledger_begin_read(struct ledger *ledger, struct buffer *error) {
    if (ledger->pinned != NULL) {
        return ledger->pinned;
    }
    if (ledger->kv != NULL && ledger->reading == 0 && is_stale(ledger) && !ledger_reopen(ledger, error)) {
        return NULL;
    }
    if (ledger->kv == NULL) {
        buffer_append_text(error, "the ledger is not open");
        return NULL;
    }
    struct kv_txn *txn = kv_begin(ledger->kv, false, error);
    ledger->reading += txn != NULL;
    return txn;
}

void ledger_end_read(struct ledger *ledger, struct kv_txn *txn) {
    if (txn != NULL && txn != ledger->pinned) {
        kv_abort(txn);
        ledger->reading--;
    }
}

struct kv_txn *ledger_begin_write(struct ledger *ledger, struct buffer *error) {
    if (ledger->kv == NULL && !ledger_reopen(ledger, error)) {
        return NULL;
    }
    ledger->names_committed = ledger->names.count;
    return kv_begin(ledger->kv, true, error);
}

static void forget_uncommitted(struct ledger *ledger) {
    names_forget(&ledger->names, ledger->names_committed);
    if (ledger->key_tags_count != 0) {
        memset(ledger->key_tags, 0, ledger->key_tags_count * sizeof *ledger->key_tags);
    }
}

enum kv_status ledger_end_write(struct ledger *ledger, struct kv_txn *txn, struct buffer *error) {
    enum kv_status status = kv_commit(txn, error);
    if (status == KV_OK) {
        return status;
    }
    forget_uncommitted(ledger);
    if (status == KV_MAP_FULL && !kv_grow(ledger->kv, error)) {
        status = KV_NO_SPACE;
    }
    if (status == KV_BROKEN || status == KV_FOREIGN) {
        ledger_unpin(ledger);
        kv_close(ledger->kv);
        ledger->kv = NULL;
    }
    return status;
}

void ledger_abort_write(struct ledger *ledger, struct kv_txn *txn) {
    kv_abort(txn);
    forget_uncommitted(ledger);
}

bool ledger_pin(struct ledger *ledger, struct buffer *error) {
    if (ledger->pinned == NULL) {
        ledger->pinned = ledger_begin_read(ledger, error);
    }
    return ledger->pinned != NULL;
}

void ledger_unpin(struct ledger *ledger) {
    struct kv_txn *pinned = ledger->pinned;
    ledger->pinned = NULL;
    ledger_end_read(ledger, pinned);
}

/* The cached label, or where to put it; NULL for a number no table can have. */
static char **label_at(struct ledger_labels *labels, uint32_t number) {
    if (number >= labels->count) {
        uint32_t count = number < 512 ? 1024 : number * 2;
        char **texts = reallocarray(labels->texts, count, sizeof *texts);
        CHECK(texts != NULL);
        memset(texts + labels->count, 0, (count - labels->count) * sizeof *texts);
        labels->texts = texts;
        labels->count = count;
    }
    return &labels->texts[number];
}

static const char *keep_label(char **label, const char *text) {
    *label = strdup(text);
    CHECK(*label != NULL);
    return *label;
}

const char *ledger_tenant_name(struct ledger *ledger, struct kv_txn *txn, uint32_t tenant_id) {
    struct tenant tenant;
    if (tenant_id < ledger->tenants.count && ledger->tenants.texts[tenant_id] != NULL) {
        return ledger->tenants.texts[tenant_id];
    }
    return tenant_load(txn, tenant_id, &tenant) ? keep_label(label_at(&ledger->tenants, tenant_id), tenant.name)
                                                : "unknown";
}

const char *ledger_key_id(struct ledger *ledger, struct kv_txn *txn, uint32_t key_number) {
    struct api_key key;
    if (key_number < ledger->keys.count && ledger->keys.texts[key_number] != NULL) {
        return ledger->keys.texts[key_number];
    }
    return api_key_load(txn, key_number, &key) ? keep_label(label_at(&ledger->keys, key_number), key.id) : "unknown";
}

static uint32_t *key_tags_at(struct ledger *ledger, uint32_t key_number) {
    if (key_number >= ledger->key_tags_count) {
        uint32_t count = key_number < 512 ? 1024 : key_number * 2;
        uint32_t *tags = reallocarray(ledger->key_tags, count, sizeof *tags);
        CHECK(tags != NULL);
        memset(tags + ledger->key_tags_count, 0, (count - ledger->key_tags_count) * sizeof *tags);
        ledger->key_tags = tags;
        ledger->key_tags_count = count;
    }
    return &ledger->key_tags[key_number];
}

bool ledger_key_tags(struct ledger *ledger, struct kv_txn *txn, uint32_t key_number, uint32_t *number) {
    struct api_key key;
    if (key_number < ledger->key_tags_count && ledger->key_tags[key_number] != 0) {
        *number = ledger->key_tags[key_number] - 1;
        return true;
    }
    bool exists = api_key_load(txn, key_number, &key);
    if (!names_number(&ledger->names, txn, exists ? span_text(key.tags) : SPAN_LITERAL("{}"), number)) {
        return false;
    }
    if (exists) {
        *key_tags_at(ledger, key_number) = *number + 1;
    }
    return true;
}

void ledger_forget_key_tags(struct ledger *ledger, uint32_t key_number) {
    if (key_number < ledger->key_tags_count) {
        ledger->key_tags[key_number] = 0;
    }
}

void ledger_head_load(struct kv_txn *txn, struct ledger_head *head) {
    struct span value = SPAN_EMPTY;
    *head = (struct ledger_head){.sequence = 0};
    if (kv_get(txn, KV_META, META_HEAD, &value) && value.len == 8 + SHA256_BYTES) {
        head->sequence = unpack_be64(value.base);
        memcpy(head->chain, value.base + 8, SHA256_BYTES);
    }
}

bool ledger_head_store(struct kv_txn *txn, const struct ledger_head *head) {
    struct pack_key value = {.len = 0};
    pack_key_u64(&value, head->sequence);
    pack_key_bytes(&value, head->chain, SHA256_BYTES);
    return kv_put(txn, KV_META, META_HEAD, pack_key_span(&value));
}

void ledger_anchor_load(struct kv_txn *txn, struct ledger_anchor *anchor) {
    struct span value = SPAN_EMPTY;
    *anchor = (struct ledger_anchor){.sequence = 0, .newest_end_wall_ns = INT64_MIN};
    if (kv_get(txn, KV_META, META_ANCHOR, &value) && value.len == 8 + SHA256_BYTES + 8) {
        anchor->sequence = unpack_be64(value.base);
        memcpy(anchor->chain, value.base + 8, SHA256_BYTES);
        anchor->newest_end_wall_ns = unpack_bei64(value.base + 8 + SHA256_BYTES);
    }
}

bool ledger_anchor_store(struct kv_txn *txn, const struct ledger_anchor *anchor) {
    struct pack_key value = {.len = 0};
    pack_key_u64(&value, anchor->sequence);
    pack_key_bytes(&value, anchor->chain, SHA256_BYTES);
    pack_key_i64(&value, anchor->newest_end_wall_ns);
    return kv_put(txn, KV_META, META_ANCHOR, pack_key_span(&value));
}

bool ledger_record_bytes(struct kv_txn *txn, uint64_t sequence, const unsigned char **chain, struct span *bytes) {
    struct pack_key key;
    struct span value = SPAN_EMPTY;
    key.len = 0;
    pack_key_u64(&key, sequence);
    if (!kv_get(txn, KV_RECORDS, pack_key_span(&key), &value) || value.len < SHA256_BYTES) {
        return false;
    }
    *chain = (const unsigned char *)value.base;
    *bytes = span_skip(value, SHA256_BYTES);
    return true;
}

/* --- walks --- */

typedef bool (*visit_record_fn)(void *context, const struct ledger_record *record);

struct walk {
    struct ledger *ledger;
    struct kv_txn *txn;
    struct kv_cursor *cursor;
    visit_record_fn visit;
    void *context;
    struct buffer *error;
};

static bool begin_walk(struct walk *walk, enum kv_table table) {
    walk->txn = ledger_begin_read(walk->ledger, walk->error);
    if (walk->txn == NULL) {
        return false;
    }
    walk->cursor = kv_cursor_open(walk->txn, table);
    return true;
}

/* Ends the walk; `sound` is false when a row could not be read. */
static bool end_walk(struct walk *walk, bool sound) {
    bool failed = kv_status_of(walk->txn) != KV_OK;
    if (failed) {
        buffer_format(walk->error, "cannot read the ledger: %s%s", kv_failure_text(walk->txn),
                      kv_failure_advice(walk->txn));
    }
    kv_cursor_close(walk->cursor);
    ledger_end_read(walk->ledger, walk->txn);
    return sound && !failed;
}

static void copy_text(struct walk *walk, uint32_t number, char *out, size_t size) {
    (void)span_copy(span_text(names_text(&walk->ledger->names, walk->txn, number)), out, size);
}

enum step { STEP_ON, STEP_ENOUGH, STEP_DAMAGED };

static enum step show_record(struct walk *walk, uint64_t sequence) {
    const unsigned char *chain = NULL;
    struct span bytes = SPAN_EMPTY;
    struct record record;
    if (!ledger_record_bytes(walk->txn, sequence, &chain, &bytes) || !record_unpack(bytes, &record)) {
        buffer_format(walk->error, "record %" PRIu64 " cannot be read: \"tollgate verify\" tells what is damaged",
                      sequence);
        return STEP_DAMAGED;
    }
    struct ledger_record shown = {.sequence = sequence, .usage = record.usage};
    struct shm_usage_record_sh *usage = &shown.usage;
    copy_text(walk, record.texts[RECORD_MODEL_ASKED], usage->model_asked, sizeof usage->model_asked);
    copy_text(walk, record.texts[RECORD_MODEL_SERVED], usage->model_served, sizeof usage->model_served);
    copy_text(walk, record.texts[RECORD_UPSTREAM], usage->upstream, sizeof usage->upstream);
    shown.tenant = ledger_tenant_name(walk->ledger, walk->txn, usage->tenant_id);
    shown.key_id = ledger_key_id(walk->ledger, walk->txn, usage->key_number);
    shown.tags = names_text(&walk->ledger->names, walk->txn, record.texts[RECORD_TAGS]);
    memcpy(shown.chain, chain, SHA256_BYTES);
    return walk->visit(walk->context, &shown) ? STEP_ON : STEP_ENOUGH;
}

static bool seek_end(struct walk *walk, int64_t from_wall_ns, int64_t to_wall_ns, bool backwards,
                     struct kv_pair *pair) {
    struct pack_key key = {.len = 0};
    pack_key_i64(&key, backwards ? to_wall_ns : from_wall_ns);
    pack_key_u64(&key, 0);
    bool found = kv_cursor_seek(walk->cursor, pack_key_span(&key), pair);
    if (!backwards) {
        return found;
    }
    return found ? kv_cursor_previous(walk->cursor, pair) : kv_cursor_last(walk->cursor, pair);
}

bool ledger_each_record(struct ledger *ledger, int64_t from_wall_ns, int64_t to_wall_ns, bool backwards,
                        bool (*visit)(void *context, const struct ledger_record *record), void *context,
                        struct buffer *error) {
    struct walk walk = {.ledger = ledger, .visit = visit, .context = context, .error = error};
    struct kv_pair pair;
    enum step step = STEP_ON;
    if (!begin_walk(&walk, KV_RECORDS_BY_END)) {
        return false;
    }
    bool more = seek_end(&walk, from_wall_ns, to_wall_ns, backwards, &pair);
    while (more && step == STEP_ON) {
        int64_t end_wall_ns = unpack_bei64(pair.key.base);
        if (end_wall_ns < from_wall_ns || end_wall_ns >= to_wall_ns) {
            break;
        }
        step = show_record(&walk, unpack_be64(pair.key.base + 8));
        more = backwards ? kv_cursor_previous(walk.cursor, &pair) : kv_cursor_next(walk.cursor, &pair);
    }
    return end_walk(&walk, step != STEP_DAMAGED);
}

bool ledger_each_record_from(struct ledger *ledger, uint64_t sequence,
                             bool (*visit)(void *context, const struct ledger_record *record), void *context,
                             struct buffer *error) {
    struct walk walk = {.ledger = ledger, .visit = visit, .context = context, .error = error};
    struct pack_key key = {.len = 0};
    struct kv_pair pair;
    enum step step = STEP_ON;
    if (!begin_walk(&walk, KV_RECORDS)) {
        return false;
    }
    pack_key_u64(&key, sequence);
    bool more = kv_cursor_seek(walk.cursor, pack_key_span(&key), &pair);
    while (more && step == STEP_ON) {
        step = show_record(&walk, unpack_be64(pair.key.base));
        more = kv_cursor_next(walk.cursor, &pair);
    }
    return end_walk(&walk, step != STEP_DAMAGED);
}

bool ledger_each_record_with_id(struct ledger *ledger, const char *id,
                                bool (*visit)(void *context, const struct ledger_record *record), void *context,
                                struct buffer *error) {
    struct walk walk = {.ledger = ledger, .visit = visit, .context = context, .error = error};
    struct pack_key key = {.len = 0};
    struct kv_pair pair;
    enum step step = STEP_ON;
    if (strlen(id) >= SHM_REQUEST_ID_BYTES) {
        return true; /* no record has such an id */
    }
    if (!begin_walk(&walk, KV_RECORDS_BY_ID)) {
        return false;
    }
    pack_key_text(&key, span_text(id));
    bool more = kv_cursor_seek(walk.cursor, pack_key_span(&key), &pair);
    while (more && step == STEP_ON && pair.key.len == key.len + 4 && memcmp(pair.key.base, key.bytes, key.len) == 0) {
        step = show_record(&walk, unpack_be64(pair.value.base));
        more = kv_cursor_next(walk.cursor, &pair);
    }
    return end_walk(&walk, step != STEP_DAMAGED);
}

static bool show_rollup(struct walk *walk, const struct kv_pair *pair, struct ledger_rollup *shown) {
    struct fold_sums sums;
    if (pair->key.len != FOLD_ROLLUP_KEY_BYTES || !fold_sums_unpack(pair->value, &sums)) {
        buffer_append_text(walk->error, "a roll-up cannot be read: \"tollgate verify\" tells what is damaged");
        return false;
    }
    const char *at = pair->key.base + 9;
    *shown = (struct ledger_rollup){
        .hour_wall_ns = unpack_bei64(pair->key.base + 1),
        .tenant = ledger_tenant_name(walk->ledger, walk->txn, unpack_be32(at)),
        .key_id = ledger_key_id(walk->ledger, walk->txn, unpack_be32(at + 4)),
        .model = names_text(&walk->ledger->names, walk->txn, unpack_be32(at + 8)),
        .upstream = names_text(&walk->ledger->names, walk->txn, unpack_be32(at + 12)),
        .tags = names_text(&walk->ledger->names, walk->txn, unpack_be32(at + 16)),
        .requests = sums.requests,
        .failed = sums.failed,
        .tokens = sums.tokens,
        .price_nusd = sums.price_nusd,
        .cost_nusd = sums.cost_nusd,
        .list_nusd = sums.list_nusd,
    };
    return true;
}

static bool each_rollup(struct walk *walk, enum fold_level level, int64_t from_wall_ns, int64_t to_wall_ns,
                        bool (*visit)(void *context, const struct ledger_rollup *rollup)) {
    struct pack_key key = {.len = 0};
    struct kv_pair pair;
    struct ledger_rollup shown;
    bool sound = true;
    if (!begin_walk(walk, KV_ROLLUPS)) {
        return false;
    }
    pack_key_u8(&key, (uint8_t)level);
    pack_key_i64(&key, from_wall_ns);
    bool more = kv_cursor_seek(walk->cursor, pack_key_span(&key), &pair);
    while (more && pair.key.len > 9 && pair.key.base[0] == (char)level &&
           unpack_bei64(pair.key.base + 1) < to_wall_ns) {
        sound = show_rollup(walk, &pair, &shown);
        more = sound && visit(walk->context, &shown) && kv_cursor_next(walk->cursor, &pair);
    }
    return end_walk(walk, sound);
}

bool ledger_each_rollup(struct ledger *ledger, int64_t from_wall_ns, int64_t to_wall_ns,
                        bool (*visit)(void *context, const struct ledger_rollup *rollup), void *context,
                        struct buffer *error) {
    struct walk walk = {.ledger = ledger, .context = context, .error = error};
    return each_rollup(&walk, FOLD_HOUR, from_wall_ns, to_wall_ns, visit);
}

bool ledger_each_day_rollup(struct ledger *ledger, int64_t from_wall_ns, int64_t to_wall_ns,
                            bool (*visit)(void *context, const struct ledger_rollup *rollup), void *context,
                            struct buffer *error) {
    struct walk walk = {.ledger = ledger, .context = context, .error = error};
    return each_rollup(&walk, FOLD_DAY, from_wall_ns, to_wall_ns, visit);
}
