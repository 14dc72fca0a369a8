#include <inttypes.h>
#include <stdio.h>

#include "base/key_format.h"
#include "store/operation.h"

enum { KEY_ID_DIGITS = 16, SECRETS_OF_A_KEY_MOST = 64, KEY_ARGUMENT_BYTES = 256 };

static bool check_key_name(struct operation *op, const char *name) {
    struct span text = span_text(name);
    if (span_starts_with(text, "key_") || span_starts_with(text, "sk-")) {
        return operation_fail(op, "invalid", "name",
                              "a key's name can't begin with key_ or sk-, which are ids and keys");
    }
    return true;
}

/* name: null removes it. Names are unique within a tenant. */
static bool read_name(struct operation *op, struct api_key *key) {
    struct api_key other;
    if (!operation_has(op, "name")) {
        return true;
    }
    if (!operation_sets(op, "name")) {
        key->name[0] = '\0';
        return true;
    }
    if (!operation_name(op, "name", key->name) || !check_key_name(op, key->name)) {
        return false;
    }
    if (api_key_find_name(op->txn, span_text(key->name), key->tenant_id, &other) != 0 && other.number != key->number) {
        return operation_fail(op, "conflict", "name", "the tenant has a key named %s already", key->name);
    }
    return true;
}

static bool read_settings(struct operation *op, struct api_key *key) {
    if (!operation_limits(op, &key->limits) || !operation_allow(op, &key->allow) ||
        !operation_expires(op, &key->expires_wall_ns) ||
        !operation_bool(op, "require_signature", &key->requires_signature) || !operation_tags(op, key->tags)) {
        return false;
    }
    if (key->allow.model_count + key->allow.network_count != 0 &&
        !publisher_has_room_for_allow(op->on->publisher, key->number)) {
        return operation_fail(op, "unavailable", NULL,
                              "no room for more keys with models or allow_ip: raise capacity.keys and restart");
    }
    return true;
}

/* Makes a secret, stores its hash, and answers with it. */
static bool issue_secret(struct operation *op, struct json_writer *json, uint32_t key_number) {
    char text[API_KEY_TEXT_BYTES];
    struct account_secret secret = {.key_number = key_number, .valid_until_wall_ns = INT64_MAX};
    key_format_make(text);
    hash_sha256(span_text(text), secret.hash);
    json_write_text(json, "secret", text);
    explicit_bzero(text, sizeof text);
    return account_secret_store(op->txn, &secret);
}

static bool store_key(struct operation *op, const struct api_key *key) {
    op->change = CHANGED_KEY;
    op->changed = key->number;
    return api_key_store(op->txn, key);
}

/* Stores the key and answers with it, and with a new secret when it is to have one. */
static bool finish(struct operation *op, const struct api_key *key, bool with_secret) {
    struct json_writer json = json_writer_on(op->result);
    if (!store_key(op, key)) {
        return false;
    }
    json_begin_object(&json, NULL);
    operation_write_key_members(op, &json, key);
    bool done = !with_secret || issue_secret(op, &json, key->number);
    json_end_object(&json);
    return done;
}

static bool check_capacity(struct operation *op, uint32_t number) {
    if ((int64_t)number < publisher_keys_most(op->on->publisher, op->on->conf)) {
        return true;
    }
    return operation_fail(op, "unavailable", NULL,
                          "there are %" PRIu32
                          " keys (revoked ones count), which is all that capacity.keys allows: raise it and restart",
                          number);
}

bool operation_key_create(struct operation *op) {
    struct tenant tenant;
    struct api_key key = {
        .state = SHM_KEY_LIVE, .created_wall_ns = op->now_wall_ns, .expires_wall_ns = INT64_MAX, .tags = "{}"};
    account_limits_init(&key.limits);
    if (!operation_find_tenant(op, "tenant", &tenant)) {
        return false;
    }
    key.tenant_id = tenant.id;
    key.number = api_key_count(op->txn);
    (void)snprintf(key.id, sizeof key.id, "key_");
    random_base62(key.id + 4, KEY_ID_DIGITS);
    return check_capacity(op, key.number) && read_name(op, &key) && read_settings(op, &key) && finish(op, &key, true);
}

static bool fail_unknown_key(struct operation *op, const char *text) {
    if (span_starts_with(span_text(text), "sk-")) {
        return operation_fail(op, "not_found", "key", "that key is not in this ledger");
    }
    return operation_fail(op, "not_found", "key", "there is no key %s: \"tollgate key list\" shows them", text);
}

static bool find_by_name(struct operation *op, const char *name, struct api_key *key) {
    struct tenant tenant = {.id = UINT32_MAX};
    if (operation_sets(op, "tenant") && !operation_find_tenant(op, "tenant", &tenant)) {
        return false;
    }
    switch (api_key_find_name(op->txn, span_text(name), tenant.id, key)) {
    case 0:
        return fail_unknown_key(op, name);
    case 1:
        return true;
    default:
        return operation_fail(op, "conflict", "key",
                              "several tenants have a key named %s: name the tenant too, or use the id", name);
    }
}

/* "key" is an id, a name, or the key itself. */
static bool find_key(struct operation *op, struct api_key *key) {
    char text[KEY_ARGUMENT_BYTES];
    unsigned char hash[SHA256_BYTES];
    if (!operation_text(op, "key", text, sizeof text)) {
        return false;
    }
    struct span given = span_text(text);
    bool found = false;
    if (span_starts_with(given, "sk-")) {
        hash_sha256(given, hash);
        found = api_key_find_secret(op->txn, hash, key) || fail_unknown_key(op, "sk-");
        explicit_bzero(text, sizeof text);
    } else if (span_starts_with(given, "key_")) {
        found = api_key_find_id(op->txn, given, key) || fail_unknown_key(op, text);
    } else {
        found = find_by_name(op, text, key);
    }
    return found;
}

bool operation_key_show(struct operation *op) {
    struct api_key key;
    struct json_writer json = json_writer_on(op->result);
    if (!find_key(op, &key)) {
        return false;
    }
    json_begin_object(&json, NULL);
    operation_write_key_members(op, &json, &key);
    json_end_object(&json);
    return true;
}

bool operation_key_update(struct operation *op) {
    struct api_key key;
    return find_key(op, &key) && read_name(op, &key) && read_settings(op, &key) && finish(op, &key, false);
}

static bool set_state(struct operation *op, enum shm_key_state state) {
    struct api_key key;
    if (!find_key(op, &key)) {
        return false;
    }
    if (key.state == SHM_KEY_REVOKED) {
        return operation_fail(op, "conflict", "key", "key %s is revoked, which is for good: create another", key.id);
    }
    key.state = state;
    return finish(op, &key, false);
}

bool operation_key_disable(struct operation *op) { return set_state(op, SHM_KEY_DISABLED); }

bool operation_key_enable(struct operation *op) { return set_state(op, SHM_KEY_LIVE); }

struct secrets {
    struct account_secret items[SECRETS_OF_A_KEY_MOST];
    int count;
    int64_t now_wall_ns;
};

/* Secrets whose time is over need no change. */
static bool gather_secret(void *context, const struct account_secret *secret) {
    struct secrets *secrets = context;
    if (secret->valid_until_wall_ns > secrets->now_wall_ns && secrets->count < SECRETS_OF_A_KEY_MOST) {
        secrets->items[secrets->count++] = *secret;
    }
    return true;
}

/* Lets the key's secrets end at an instant at the latest; 0: now. */
static bool end_secrets(struct operation *op, uint32_t key_number, int64_t until_wall_ns) {
    struct secrets secrets = {.count = 0, .now_wall_ns = op->now_wall_ns};
    bool stored = true;
    account_secret_each(op->txn, key_number, gather_secret, &secrets);
    for (int at = 0; at < secrets.count && stored; at++) {
        if (secrets.items[at].valid_until_wall_ns > until_wall_ns) {
            secrets.items[at].valid_until_wall_ns = until_wall_ns;
            stored = account_secret_store(op->txn, &secrets.items[at]);
        }
    }
    return stored;
}

bool operation_key_revoke(struct operation *op) {
    struct api_key key;
    if (!find_key(op, &key)) {
        return false;
    }
    key.state = SHM_KEY_REVOKED;
    return end_secrets(op, key.number, 0) && finish(op, &key, false);
}

static bool read_grace(struct operation *op, int64_t *until_wall_ns) {
    char text[32];
    int64_t grace_ms = 0;
    *until_wall_ns = 0;
    if (!operation_sets(op, "grace")) {
        return true;
    }
    if (!operation_text(op, "grace", text, sizeof text)) {
        return false;
    }
    const int64_t most_ms = INT64_C(366) * 86400 * 1000;
    if (!conf_parse_duration(span_text(text), &grace_ms) || grace_ms < 0 || grace_ms > most_ms) {
        return operation_fail(op, "invalid", "grace", "grace must be a time such as 30m, 1h or 7d, at most 366d");
    }
    *until_wall_ns = grace_ms == 0 ? 0 : op->now_wall_ns + grace_ms * 1000000;
    return true;
}

bool operation_key_rotate(struct operation *op) {
    struct api_key key;
    int64_t until_wall_ns = 0;
    if (!find_key(op, &key) || !read_grace(op, &until_wall_ns)) {
        return false;
    }
    if (key.state == SHM_KEY_REVOKED) {
        return operation_fail(op, "conflict", "key", "key %s is revoked, which is for good: create another", key.id);
    }
    return end_secrets(op, key.number, until_wall_ns) && finish(op, &key, true);
}

/* The number after the key called `after`, or the first. */
static bool first_number(struct operation *op, const char *after, uint32_t *number) {
    struct api_key key;
    *number = 0;
    if (after[0] == '\0') {
        return true;
    }
    if (!api_key_find_id(op->txn, span_text(after), &key)) {
        return operation_fail(op, "not_found", "after", "there is no key %s to go on after", after);
    }
    *number = key.number + 1;
    return true;
}

bool operation_key_list(struct operation *op) {
    struct json_writer json = json_writer_on(op->result);
    struct tenant tenant = {.id = UINT32_MAX};
    struct api_key key;
    char after[SHM_KEY_ID_BYTES];
    int64_t limit = 0;
    int64_t shown = 0;
    uint32_t number = 0;
    bool more = false;
    if (!operation_page(op, &limit, after, sizeof after) || !first_number(op, after, &number) ||
        (operation_sets(op, "tenant") && !operation_find_tenant(op, "tenant", &tenant))) {
        return false;
    }
    json_begin_object(&json, NULL);
    json_begin_array(&json, "data");
    for (uint32_t count = api_key_count(op->txn); number < count && !more; number++) {
        if (!api_key_load(op->txn, number, &key) || (tenant.id != UINT32_MAX && key.tenant_id != tenant.id)) {
            continue;
        }
        more = shown == limit;
        if (!more) {
            json_begin_object(&json, NULL);
            operation_write_key_members(op, &json, &key);
            json_end_object(&json);
            shown++;
        }
    }
    json_end_array(&json);
    json_write_bool(&json, "has_more", more);
    json_end_object(&json);
    return true;
}
