#include "store/operations.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/operation.h"

enum operation_needs { NEEDS_NOTHING, NEEDS_READ, NEEDS_WRITE };
enum { ARGUMENTS_MOST = 18, WRITE_TRIES = 8 };

struct operation_kind {
    const char *name;
    operation_fn run;
    enum operation_needs needs;
    const char *arguments[ARGUMENTS_MOST];
};

#define LIMIT_ARGUMENTS "rpm", "tpm", "concurrent", "budget", "per"
#define KEY_ARGUMENTS LIMIT_ARGUMENTS, "models", "expires", "allow_ip", "require_signature", "tags"

static const struct operation_kind kinds[] = {
    {"flush", operation_flush, NEEDS_NOTHING, {NULL}},
    {"tenant.create", operation_tenant_create, NEEDS_WRITE, {"name", "tier", LIMIT_ARGUMENTS, "credit", "markup"}},
    {"tenant.update", operation_tenant_update, NEEDS_WRITE, {"name", "tier", LIMIT_ARGUMENTS, "credit", "markup"}},
    {"tenant.list", operation_tenant_list, NEEDS_READ, {"limit", "after"}},
    {"tenant.show", operation_tenant_show, NEEDS_READ, {"name"}},
    {"tenant.disable", operation_tenant_disable, NEEDS_WRITE, {"name"}},
    {"tenant.enable", operation_tenant_enable, NEEDS_WRITE, {"name"}},
    {"key.create", operation_key_create, NEEDS_WRITE, {"tenant", "name", KEY_ARGUMENTS}},
    {"key.update", operation_key_update, NEEDS_WRITE, {"key", "tenant", "name", KEY_ARGUMENTS}},
    {"key.list", operation_key_list, NEEDS_READ, {"tenant", "limit", "after"}},
    {"key.show", operation_key_show, NEEDS_READ, {"key", "tenant"}},
    {"key.rotate", operation_key_rotate, NEEDS_WRITE, {"key", "tenant", "grace"}},
    {"key.disable", operation_key_disable, NEEDS_WRITE, {"key", "tenant"}},
    {"key.enable", operation_key_enable, NEEDS_WRITE, {"key", "tenant"}},
    {"key.revoke", operation_key_revoke, NEEDS_WRITE, {"key", "tenant"}},
    {"credit.add", operation_credit_add, NEEDS_WRITE, {"tenant", "usd", "ref"}},
    {"credit.history", operation_credit_history, NEEDS_READ, {"tenant"}},
    {"price.list", operation_price_list, NEEDS_READ, {NULL}},
    {"price.set",
     operation_price_set,
     NEEDS_WRITE,
     {"model", "input", "output", "cached_input", "cache_write", "from"}},
    {"price.import", operation_price_import, NEEDS_WRITE, {"csv"}},
    {"verify", operation_verify, NEEDS_NOTHING, {NULL}},
    {"backup", operation_backup, NEEDS_NOTHING, {"dir"}},
    {"compact", operation_compact, NEEDS_NOTHING, {NULL}},
};

bool operation_fail(struct operation *op, const char *kind, const char *field, const char *format, ...) {
    va_list arguments;
    char text[2048];
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    op->kind = kind;
    (void)span_copy(span_text(field), op->field, sizeof op->field);
    buffer_clear(&op->message);
    buffer_append_text(&op->message, text);
    return false;
}

void operations_write_failure(struct buffer *answer, const char *kind, const char *field, const char *message) {
    struct json_writer json = json_writer_on(answer);
    json_begin_object(&json, NULL);
    json_write_bool(&json, "ok", false);
    json_begin_object(&json, "error");
    json_write_text(&json, "kind", kind);
    json_write_text(&json, "field", field != NULL && field[0] != '\0' ? field : NULL);
    json_write_text(&json, "message", message);
    json_end_object(&json);
    json_end_object(&json);
}

static const struct operation_kind *find_kind(struct operation *op) {
    int name = operation_argument(op, "op");
    for (size_t at = 0; at < sizeof kinds / sizeof kinds[0]; at++) {
        if (json_string_is(op->request, name, kinds[at].name)) {
            return &kinds[at];
        }
    }
    (void)operation_fail(op, "invalid", "op", "there is no such operation: see client.h");
    return NULL;
}

static bool is_argument(const struct operation_kind *kind, struct span name) {
    bool found = span_is(name, "op");
    for (int at = 0; at < ARGUMENTS_MOST && kind->arguments[at] != NULL && !found; at++) {
        found = span_is(name, kind->arguments[at]);
    }
    return found;
}

static bool check_arguments(struct operation *op, const struct operation_kind *kind) {
    char name[64];
    int twice = json_duplicate(op->request, 0);
    if (twice >= 0) {
        (void)!json_string_copy(op->request, twice, name, sizeof name);
        return operation_fail(op, "invalid", name, "%s is given twice", name);
    }
    for (int at = json_first(op->request, 0); at >= 0; at = json_next(op->request, at)) {
        if (!json_string_copy(op->request, at, name, sizeof name)) {
            return operation_fail(op, "invalid", NULL, "an argument's name is too long");
        }
        if (!is_argument(kind, span_text(name))) {
            return operation_fail(op, "invalid", name, "%s does not take %s", kind->name, name);
        }
    }
    return true;
}

static bool fail_on_store(struct operation *op, const struct buffer *error) {
    return operation_fail(op, "unavailable", NULL, "%s", buffer_text(error));
}

static bool run_reading(struct operation *op, const struct operation_kind *kind, struct buffer *error) {
    op->txn = ledger_begin_read(op->on->ledger, error);
    if (op->txn == NULL) {
        return fail_on_store(op, error);
    }
    bool done = kind->run(op);
    if (kv_status_of(op->txn) != KV_OK) {
        done = operation_fail(op, "unavailable", NULL, "cannot read the ledger: %s%s", kv_failure_text(op->txn),
                              kv_failure_advice(op->txn));
    }
    ledger_end_read(op->on->ledger, op->txn);
    return done;
}

/* One try; *status tells whether another may do better. */
static bool run_writing_once(struct operation *op, const struct operation_kind *kind, enum kv_status *status,
                             struct buffer *error) {
    *status = KV_BROKEN;
    op->txn = ledger_begin_write(op->on->ledger, error);
    if (op->txn == NULL) {
        return fail_on_store(op, error);
    }
    bool done = kind->run(op);
    *status = kv_status_of(op->txn);
    if (!done && *status == KV_OK) {
        ledger_abort_write(op->on->ledger, op->txn);
        return false;
    }
    *status = ledger_end_write(op->on->ledger, op->txn, error);
    return *status == KV_OK || fail_on_store(op, error);
}

static bool run_writing(struct operation *op, const struct operation_kind *kind, struct buffer *error) {
    enum kv_status status = KV_MAP_FULL;
    bool done = false;
    for (int tries = 0; status == KV_MAP_FULL && tries < WRITE_TRIES; tries++) {
        buffer_clear(error);
        buffer_clear(op->result);
        op->change = CHANGED_NOTHING;
        done = run_writing_once(op, kind, &status, error);
    }
    return done;
}

/* The change is in the books; workers see it before the answer goes out. */
static bool publish_change(struct operation *op, struct buffer *error) {
    struct publisher *publisher = op->on->publisher;
    bool published = true;
    switch (op->change) {
    case CHANGED_NOTHING:
        break;
    case CHANGED_TENANT:
        published = publisher_tenant(publisher, op->changed, error);
        break;
    case CHANGED_KEY:
        ledger_forget_key_tags(op->on->ledger, op->changed);
        published = publisher_key(publisher, op->changed, error);
        break;
    case CHANGED_PRICES:
        published = publisher_prices(publisher, error);
        break;
    }
    if (!published) {
        LOG(LOG_ERROR, "publish_failed", log_text("why", buffer_text(error)));
        return operation_fail(op, "unavailable", NULL, "stored, but the workers could not be told: %s",
                              buffer_text(error));
    }
    return true;
}

static bool run_kind(struct operation *op, const struct operation_kind *kind) {
    struct buffer error;
    bool done = false;
    buffer_init(&error, 4096);
    switch (kind->needs) {
    case NEEDS_NOTHING:
        done = kind->run(op);
        break;
    case NEEDS_READ:
        done = run_reading(op, kind, &error);
        break;
    case NEEDS_WRITE:
        done = run_writing(op, kind, &error) && publish_change(op, &error);
        break;
    }
    buffer_fini(&error);
    return done;
}

static bool run_request(struct operation *op, const struct json_doc *request) {
    op->request = request;
    if (json_type_of(request, 0) != JSON_OBJECT) {
        return operation_fail(op, "invalid", NULL, "the request is not a JSON object");
    }
    const struct operation_kind *kind = find_kind(op);
    return kind != NULL && check_arguments(op, kind) && run_kind(op, kind);
}

static void write_answer(const struct operation *op, bool done, struct buffer *answer) {
    struct json_writer json = json_writer_on(answer);
    if (!done) {
        operations_write_failure(answer, op->kind, op->field, buffer_text(&op->message));
    } else if (op->result->failed) {
        operations_write_failure(answer, "unavailable", "limit",
                                 "the answer is too long: ask for fewer rows at a time");
    } else {
        json_begin_object(&json, NULL);
        json_write_bool(&json, "ok", true);
        json_write_raw(&json, "result", buffer_span(op->result));
        json_end_object(&json);
    }
}

bool operations_run(struct operations *operations, struct span request, struct buffer *answer) {
    struct json_doc doc;
    struct buffer result;
    struct operation op = {.on = operations, .result = &result, .now_wall_ns = clock_wall_ns(), .kind = "invalid"};
    json_doc_init(&doc);
    buffer_init(&result, OPERATION_ANSWER_BYTES_MOST);
    buffer_init(&op.message, 4096);
    spend_windows_at(op.now_wall_ns, &op.windows);
    bool done = json_parse(&doc, request)
                    ? run_request(&op, &doc)
                    : operation_fail(&op, "invalid", NULL, "the request is not JSON: %s", doc.error);
    write_answer(&op, done, answer);
    done = done && !result.failed;
    json_doc_fini(&doc);
    if (result.base != NULL) {
        explicit_bzero(result.base, result.size); /* a new key's secret stands in it */
    }
    buffer_fini(&result);
    buffer_fini(&op.message);
    return done;
}
