#include "store/accounts.h"

#include "shm/shm_keys.h"
#include "store/pack.h"

enum { ACCOUNT_VERSION = 1 };

void account_limits_init(struct account_limits *limits) {
    *limits = (struct account_limits){.budget_nusd = {-1, -1, -1}};
}

static void pack_limits(struct buffer *out, const struct account_limits *limits) {
    pack_i64(out, limits->requests_per_minute);
    pack_i64(out, limits->tokens_per_minute);
    pack_i64(out, limits->concurrent);
    for (int window = 0; window < SHM_WINDOWS; window++) {
        pack_i64(out, limits->budget_nusd[window]);
    }
}

static void unpack_limits(struct unpack *in, struct account_limits *limits) {
    limits->requests_per_minute = unpack_i64(in);
    limits->tokens_per_minute = unpack_i64(in);
    limits->concurrent = unpack_i64(in);
    for (int window = 0; window < SHM_WINDOWS; window++) {
        limits->budget_nusd[window] = unpack_i64(in);
    }
}

static struct span number_key(struct pack_key *key, uint32_t number) {
    key->len = 0;
    pack_key_u32(key, number);
    return pack_key_span(key);
}

static bool get_by_number(struct kv_txn *txn, enum kv_table table, uint32_t number, struct span *value) {
    struct pack_key key;
    return kv_get(txn, table, number_key(&key, number), value);
}

/* Stores a packed row and gives the buffer back. */
static bool put_row(struct kv_txn *txn, enum kv_table table, uint32_t number, struct buffer *row) {
    struct pack_key key;
    CHECK(!row->failed);
    bool stored = kv_put(txn, table, number_key(&key, number), buffer_span(row));
    buffer_fini(row);
    return stored;
}

static bool put_index(struct kv_txn *txn, enum kv_table table, struct span key, uint32_t number) {
    struct pack_key value;
    return kv_put(txn, table, key, number_key(&value, number));
}

/* --- tenants --- */

bool tenant_load(struct kv_txn *txn, uint32_t id, struct tenant *out) {
    struct span value = SPAN_EMPTY;
    if (!get_by_number(txn, KV_TENANTS, id, &value)) {
        return false;
    }
    struct unpack in = unpack_of(value);
    *out = (struct tenant){.id = id};
    in.failed = unpack_u64(&in) != ACCOUNT_VERSION;
    unpack_text(&in, out->name, sizeof out->name);
    unpack_text(&in, out->tier, sizeof out->tier);
    out->disabled = unpack_up_to(&in, 1) == 1;
    out->created_wall_ns = unpack_i64(&in);
    unpack_limits(&in, &out->limits);
    out->markup = unpack_i64(&in);
    out->prepaid = unpack_up_to(&in, 1) == 1;
    out->credit_nusd = unpack_i64(&in);
    out->credit_base_nusd = unpack_i64(&in);
    return !in.failed;
}

bool tenant_store(struct kv_txn *txn, const struct tenant *tenant) {
    struct buffer row;
    buffer_init(&row, KV_KEY_MOST * 2);
    pack_u64(&row, ACCOUNT_VERSION);
    pack_text(&row, span_text(tenant->name));
    pack_text(&row, span_text(tenant->tier));
    pack_u64(&row, tenant->disabled ? 1 : 0);
    pack_i64(&row, tenant->created_wall_ns);
    pack_limits(&row, &tenant->limits);
    pack_i64(&row, tenant->markup);
    pack_u64(&row, tenant->prepaid ? 1 : 0);
    pack_i64(&row, tenant->credit_nusd);
    pack_i64(&row, tenant->credit_base_nusd);
    return put_row(txn, KV_TENANTS, tenant->id, &row) &&
           put_index(txn, KV_TENANT_NAMES, span_text(tenant->name), tenant->id);
}

bool tenant_find(struct kv_txn *txn, struct span name, struct tenant *out) {
    struct span value = SPAN_EMPTY;
    return name.len != 0 && name.len < SHM_NAME_BYTES && kv_get(txn, KV_TENANT_NAMES, name, &value) &&
           value.len == sizeof(uint32_t) && tenant_load(txn, unpack_be32(value.base), out);
}

uint32_t tenant_count(struct kv_txn *txn) { return (uint32_t)kv_count(txn, KV_TENANTS); }

/* --- keys --- */

static void pack_allow(struct buffer *out, const struct shm_allow_sh *allow) {
    uint32_t count = allow->model_count + allow->network_count;
    pack_u64(out, allow->model_count);
    pack_u64(out, allow->network_count);
    const char *last = count == 0 ? NULL : shm_allow_item(allow, count - 1);
    size_t len = last == NULL ? 0 : (size_t)(last - allow->text) + strlen(last) + 1;
    pack_text(out, span_of(allow->text, len));
}

static void unpack_allow(struct unpack *in, struct shm_allow_sh *allow) {
    allow->model_count = (uint32_t)unpack_up_to(in, SHM_ALLOW_BYTES);
    allow->network_count = (uint32_t)unpack_up_to(in, SHM_ALLOW_BYTES);
    struct span text = unpack_span(in);
    if (text.len > sizeof allow->text) {
        in->failed = true;
    } else if (text.len != 0) {
        memcpy(allow->text, text.base, text.len);
    }
}

bool api_key_load(struct kv_txn *txn, uint32_t number, struct api_key *out) {
    struct span value = SPAN_EMPTY;
    if (!get_by_number(txn, KV_KEYS, number, &value)) {
        return false;
    }
    struct unpack in = unpack_of(value);
    memset(out, 0, sizeof *out);
    out->number = number;
    in.failed = unpack_u64(&in) != ACCOUNT_VERSION;
    out->tenant_id = unpack_u32(&in);
    unpack_text(&in, out->id, sizeof out->id);
    unpack_text(&in, out->name, sizeof out->name);
    out->state = (enum shm_key_state)unpack_up_to(&in, SHM_KEY_REVOKED);
    out->created_wall_ns = unpack_i64(&in);
    out->expires_wall_ns = unpack_i64(&in);
    unpack_limits(&in, &out->limits);
    out->requires_signature = unpack_up_to(&in, 1) == 1;
    unpack_allow(&in, &out->allow);
    unpack_text(&in, out->tags, sizeof out->tags);
    return !in.failed;
}

static struct pack_key name_key(struct span name, uint32_t number) {
    struct pack_key key = {.len = 0};
    pack_key_text(&key, name);
    pack_key_u32(&key, number);
    return key;
}

/* A key that had another name is no longer found by it. */
static void drop_old_name(struct kv_txn *txn, const struct api_key *key) {
    struct api_key before;
    if (api_key_load(txn, key->number, &before) && before.name[0] != '\0' && strcmp(before.name, key->name) != 0) {
        struct pack_key by_name = name_key(span_text(before.name), key->number);
        (void)kv_delete(txn, KV_KEY_NAMES, pack_key_span(&by_name));
    }
}

bool api_key_store(struct kv_txn *txn, const struct api_key *key) {
    struct buffer row;
    drop_old_name(txn, key);
    buffer_init(&row, sizeof *key * 2);
    pack_u64(&row, ACCOUNT_VERSION);
    pack_u64(&row, key->tenant_id);
    pack_text(&row, span_text(key->id));
    pack_text(&row, span_text(key->name));
    pack_u64(&row, key->state);
    pack_i64(&row, key->created_wall_ns);
    pack_i64(&row, key->expires_wall_ns);
    pack_limits(&row, &key->limits);
    pack_u64(&row, key->requires_signature ? 1 : 0);
    pack_allow(&row, &key->allow);
    pack_text(&row, span_text(key->tags));
    struct pack_key by_name = name_key(span_text(key->name), key->number);
    return put_row(txn, KV_KEYS, key->number, &row) && put_index(txn, KV_KEY_IDS, span_text(key->id), key->number) &&
           (key->name[0] == '\0' || put_index(txn, KV_KEY_NAMES, pack_key_span(&by_name), key->tenant_id));
}

bool api_key_find_id(struct kv_txn *txn, struct span id, struct api_key *out) {
    struct span value = SPAN_EMPTY;
    return id.len != 0 && id.len < SHM_KEY_ID_BYTES && kv_get(txn, KV_KEY_IDS, id, &value) &&
           value.len == sizeof(uint32_t) && api_key_load(txn, unpack_be32(value.base), out);
}

int api_key_find_name(struct kv_txn *txn, struct span name, uint32_t tenant_id, struct api_key *out) {
    int found = 0;
    struct kv_pair pair;
    if (name.len == 0 || name.len >= SHM_NAME_BYTES) {
        return 0;
    }
    struct pack_key key = name_key(name, 0);
    struct kv_cursor *cursor = kv_cursor_open(txn, KV_KEY_NAMES);
    bool more = kv_cursor_seek(cursor, pack_key_span(&key), &pair);
    while (more && found < 2 && pair.key.len == key.len && memcmp(pair.key.base, key.bytes, name.len + 1) == 0) {
        bool fits = tenant_id == UINT32_MAX || unpack_be32(pair.value.base) == tenant_id;
        if (fits && found == 0) {
            found += api_key_load(txn, unpack_be32(pair.key.base + name.len + 1), out) ? 1 : 0;
        } else {
            found += fits ? 1 : 0;
        }
        more = kv_cursor_next(cursor, &pair);
    }
    kv_cursor_close(cursor);
    return found;
}

bool api_key_find_secret(struct kv_txn *txn, const unsigned char hash[static SHA256_BYTES], struct api_key *out) {
    struct span value = SPAN_EMPTY;
    return kv_get(txn, KV_SECRETS, span_of((const char *)hash, SHA256_BYTES), &value) && value.len == 12 &&
           api_key_load(txn, unpack_be32(value.base), out);
}

uint32_t api_key_count(struct kv_txn *txn) { return (uint32_t)kv_count(txn, KV_KEYS); }

/* --- secrets --- */

bool account_secret_store(struct kv_txn *txn, const struct account_secret *secret) {
    struct pack_key value = {.len = 0};
    struct pack_key by_key = {.len = 0};
    pack_key_u32(&value, secret->key_number);
    pack_key_i64(&value, secret->valid_until_wall_ns);
    pack_key_u32(&by_key, secret->key_number);
    pack_key_bytes(&by_key, secret->hash, SHA256_BYTES);
    return kv_put(txn, KV_SECRETS, span_of((const char *)secret->hash, SHA256_BYTES), pack_key_span(&value)) &&
           kv_put(txn, KV_KEY_SECRETS, pack_key_span(&by_key), SPAN_EMPTY);
}

static bool unpack_secret(const char *hash, struct span value, struct account_secret *out) {
    if (value.len != 12) {
        return false;
    }
    memcpy(out->hash, hash, SHA256_BYTES);
    out->key_number = unpack_be32(value.base);
    out->valid_until_wall_ns = unpack_bei64(value.base + 4);
    return true;
}

static bool load_secret(struct kv_txn *txn, const char *hash, struct account_secret *out) {
    struct span value = SPAN_EMPTY;
    return kv_get(txn, KV_SECRETS, span_of(hash, SHA256_BYTES), &value) && unpack_secret(hash, value, out);
}

void account_secret_every(struct kv_txn *txn, bool (*visit)(void *context, const struct account_secret *secret),
                          void *context) {
    struct kv_pair pair;
    struct account_secret secret;
    struct kv_cursor *cursor = kv_cursor_open(txn, KV_SECRETS);
    for (bool more = kv_cursor_first(cursor, &pair); more; more = kv_cursor_next(cursor, &pair)) {
        if (pair.key.len == SHA256_BYTES && unpack_secret(pair.key.base, pair.value, &secret) &&
            !visit(context, &secret)) {
            break;
        }
    }
    kv_cursor_close(cursor);
}

void account_secret_each(struct kv_txn *txn, uint32_t key_number,
                         bool (*visit)(void *context, const struct account_secret *secret), void *context) {
    struct pack_key key;
    struct kv_pair pair;
    struct account_secret secret;
    struct kv_cursor *cursor = kv_cursor_open(txn, KV_KEY_SECRETS);
    bool more = kv_cursor_seek(cursor, number_key(&key, key_number), &pair);
    while (more && pair.key.len == 4 + SHA256_BYTES && unpack_be32(pair.key.base) == key_number) {
        if (load_secret(txn, pair.key.base + 4, &secret) && !visit(context, &secret)) {
            break;
        }
        more = kv_cursor_next(cursor, &pair);
    }
    kv_cursor_close(cursor);
}
