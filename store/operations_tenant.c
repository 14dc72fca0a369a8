#include <inttypes.h>

#include "store/operation.h"

static bool read_markup(struct operation *op, int64_t *markup) {
    if (!operation_has(op, "markup")) {
        return true;
    }
    if (!operation_sets(op, "markup")) {
        *markup = MARKUP_ONE;
        return true;
    }
    int64_t value = 0;
    if (!operation_money(op, "markup", &value)) {
        return false;
    }
    if (value < 0 || value > MARKUP_MOST) {
        return operation_fail(op, "invalid", "markup", "markup must be from 0 to 1000; 1.2 is 20 %% more");
    }
    *markup = value;
    return true;
}

/* Stores the tenant, answers with it, and has it published. */
static bool finish(struct operation *op, const struct tenant *tenant) {
    struct json_writer json = json_writer_on(op->result);
    if (!tenant_store(op->txn, tenant)) {
        return false;
    }
    operation_write_tenant(op, &json, tenant);
    op->change = CHANGED_TENANT;
    op->changed = tenant->id;
    return true;
}

static bool read_settings(struct operation *op, struct tenant *tenant) {
    return operation_tier(op, tenant->tier) && operation_limits(op, &tenant->limits) &&
           read_markup(op, &tenant->markup);
}

static bool read_credit(struct operation *op, int64_t *nusd) {
    if (!operation_money(op, "credit", nusd)) {
        return false;
    }
    return *nusd >= 0 || operation_fail(op, "invalid", "credit", "credit must be 0 USD or more");
}

bool operation_tenant_create(struct operation *op) {
    struct tenant tenant = {.created_wall_ns = op->now_wall_ns, .markup = MARKUP_ONE};
    struct tenant other;
    int64_t credit_nusd = 0;
    account_limits_init(&tenant.limits);
    if (!operation_name(op, "name", tenant.name) || !read_settings(op, &tenant)) {
        return false;
    }
    if (tenant_find(op->txn, span_text(tenant.name), &other)) {
        return operation_fail(op, "conflict", "name", "there is a tenant %s already", tenant.name);
    }
    tenant.id = tenant_count(op->txn);
    if ((int64_t)tenant.id >= publisher_tenants_most(op->on->publisher, op->on->conf)) {
        return operation_fail(op, "unavailable", NULL,
                              "there are %" PRIu32
                              " tenants, which is all that capacity.tenants allows: raise it and restart",
                              tenant.id);
    }
    if (operation_sets(op, "credit") &&
        (!read_credit(op, &credit_nusd) || !operation_book_credit(op, &tenant, credit_nusd, "tenant create"))) {
        return false;
    }
    return finish(op, &tenant);
}

/* Sets what is left, by a credit of the difference; null makes the tenant pay afterwards again. */
static bool change_credit(struct operation *op, struct tenant *tenant) {
    char ref[32] = "tenant update ";
    int64_t wanted_nusd = 0;
    if (!operation_has(op, "credit")) {
        return true;
    }
    if (!operation_sets(op, "credit")) {
        tenant->prepaid = false;
        return true;
    }
    if (!read_credit(op, &wanted_nusd)) {
        return false;
    }
    int64_t left_nusd = tenant->prepaid ? operation_credit_left(op, tenant) : 0;
    if (tenant->prepaid && left_nusd == wanted_nusd) {
        return true;
    }
    random_base62(ref + strlen(ref), 12);
    return operation_book_credit(op, tenant, money_add(wanted_nusd, -left_nusd), ref);
}

bool operation_tenant_update(struct operation *op) {
    struct tenant tenant;
    return operation_find_tenant(op, "name", &tenant) && read_settings(op, &tenant) && change_credit(op, &tenant) &&
           finish(op, &tenant);
}

bool operation_tenant_show(struct operation *op) {
    struct tenant tenant;
    struct json_writer json = json_writer_on(op->result);
    if (!operation_find_tenant(op, "name", &tenant)) {
        return false;
    }
    operation_write_tenant(op, &json, &tenant);
    return true;
}

static bool set_disabled(struct operation *op, bool disabled) {
    struct tenant tenant;
    if (!operation_find_tenant(op, "name", &tenant)) {
        return false;
    }
    tenant.disabled = disabled;
    return finish(op, &tenant);
}

bool operation_tenant_disable(struct operation *op) { return set_disabled(op, true); }

bool operation_tenant_enable(struct operation *op) { return set_disabled(op, false); }

/* Goes to the first name after `after`. */
static bool first_after(struct kv_cursor *cursor, const char *after, struct kv_pair *pair) {
    if (after[0] == '\0') {
        return kv_cursor_first(cursor, pair);
    }
    bool more = kv_cursor_seek(cursor, span_text(after), pair);
    return more && span_is(pair->key, after) ? kv_cursor_next(cursor, pair) : more;
}

bool operation_tenant_list(struct operation *op) {
    struct json_writer json = json_writer_on(op->result);
    struct tenant tenant;
    struct kv_pair pair;
    char after[SHM_NAME_BYTES];
    int64_t limit = 0;
    int64_t shown = 0;
    if (!operation_page(op, &limit, after, sizeof after)) {
        return false;
    }
    json_begin_object(&json, NULL);
    json_begin_array(&json, "data");
    struct kv_cursor *cursor = kv_cursor_open(op->txn, KV_TENANT_NAMES);
    bool more = first_after(cursor, after, &pair);
    for (; more && shown < limit; more = kv_cursor_next(cursor, &pair)) {
        if (pair.value.len == sizeof(uint32_t) && tenant_load(op->txn, unpack_be32(pair.value.base), &tenant)) {
            operation_write_tenant(op, &json, &tenant);
            shown++;
        }
    }
    kv_cursor_close(cursor);
    json_end_array(&json);
    json_write_bool(&json, "has_more", more);
    json_end_object(&json);
    return true;
}
