#include "base/calendar.h"
#include "shm/shm_keys.h"
#include "store/operation.h"

void operation_write_time(struct json_writer *json, const char *name, int64_t wall_ns) {
    char text[RFC3339_BYTES];
    if (wall_ns == INT64_MAX) {
        json_write_null(json, name);
        return;
    }
    calendar_rfc3339(wall_ns, text);
    json_write_text(json, name, text);
}

static void write_limit(struct json_writer *json, const char *name, int64_t limit) {
    if (limit == 0) {
        json_write_null(json, name);
    } else {
        json_write_int(json, name, limit);
    }
}

static void write_limits(struct json_writer *json, const struct account_limits *limits) {
    static const char *const names[SHM_WINDOWS] = {"day", "month", "total"};
    write_limit(json, "rpm", limits->requests_per_minute);
    write_limit(json, "tpm", limits->tokens_per_minute);
    write_limit(json, "concurrent", limits->concurrent);
    json_begin_object(json, "budgets");
    for (int window = 0; window < SHM_WINDOWS; window++) {
        if (limits->budget_nusd[window] < 0) {
            json_write_null(json, names[window]);
        } else {
            json_write_nusd(json, names[window], limits->budget_nusd[window]);
        }
    }
    json_end_object(json);
}

static void write_spend(struct operation *op, struct json_writer *json, enum fold_account kind, uint32_t account) {
    int64_t spent_nusd[SHM_WINDOWS];
    spend_load(op->txn, kind, account, &op->windows, spent_nusd);
    json_begin_object(json, "spend_usd");
    json_write_nusd(json, "day", spent_nusd[SHM_WINDOW_DAY]);
    json_write_nusd(json, "month", spent_nusd[SHM_WINDOW_MONTH]);
    json_write_nusd(json, "total", spent_nusd[SHM_WINDOW_TOTAL]);
    json_end_object(json);
}

int64_t operation_credit_left(struct operation *op, const struct tenant *tenant) {
    struct pack_key key = fold_spend_key(SHM_WINDOW_TOTAL, 0, FOLD_TENANT, tenant->id);
    int64_t granted_nusd = money_add(tenant->credit_nusd, tenant->credit_base_nusd);
    return money_add(granted_nusd, -spend_row(op->txn, key.bytes));
}

void operation_write_tenant(struct operation *op, struct json_writer *json, const struct tenant *tenant) {
    struct account_limits limits;
    (void)publisher_resolve_limits(op->on->conf, tenant, &limits);
    json_begin_object(json, NULL);
    json_write_text(json, "name", tenant->name);
    json_write_text(json, "tier", tenant->tier[0] != '\0' ? tenant->tier : NULL);
    write_limits(json, &limits);
    json_write_price(json, "markup", tenant->markup);
    if (tenant->prepaid) {
        json_write_nusd(json, "credit_usd", operation_credit_left(op, tenant));
    } else {
        json_write_null(json, "credit_usd");
    }
    json_write_text(json, "state", tenant->disabled ? "disabled" : "active");
    operation_write_time(json, "created", tenant->created_wall_ns);
    write_spend(op, json, FOLD_TENANT, tenant->id);
    json_end_object(json);
}

static const char *state_of(const struct operation *op, const struct api_key *key) {
    switch (key->state) {
    case SHM_KEY_DISABLED:
        return "disabled";
    case SHM_KEY_REVOKED:
        return "revoked";
    default:
        return key->expires_wall_ns <= op->now_wall_ns ? "expired" : "active";
    }
}

/* An empty list is shown as null: no restriction. */
static void write_items(struct json_writer *json, const char *name, const struct shm_allow_sh *allow, uint32_t first,
                        uint32_t count) {
    if (count == 0) {
        json_write_null(json, name);
        return;
    }
    json_begin_array(json, name);
    for (uint32_t at = first; at < first + count; at++) {
        json_write_text(json, NULL, shm_allow_item(allow, at));
    }
    json_end_array(json);
}

void operation_write_key_members(struct operation *op, struct json_writer *json, const struct api_key *key) {
    json_write_text(json, "id", key->id);
    json_write_text(json, "name", key->name[0] != '\0' ? key->name : NULL);
    json_write_text(json, "tenant", ledger_tenant_name(op->on->ledger, op->txn, key->tenant_id));
    json_write_text(json, "state", state_of(op, key));
    operation_write_time(json, "created", key->created_wall_ns);
    operation_write_time(json, "expires", key->expires_wall_ns);
    write_limits(json, &key->limits);
    write_items(json, "models", &key->allow, 0, key->allow.model_count);
    write_items(json, "allow_ip", &key->allow, key->allow.model_count, key->allow.network_count);
    json_write_bool(json, "require_signature", key->requires_signature);
    json_write_raw(json, "tags", span_text(key->tags));
    write_spend(op, json, FOLD_KEY, key->number);
}
