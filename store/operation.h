/* store/operation.h - one operation while it runs: its arguments, its transaction, its answer. For the operations_*.c
 * files; operations.h is the way in.
 * Errors: the argument readers and operation_fail return false with the failure noted, so that handlers chain with &&.
 */
#ifndef TOLLGATE_STORE_OPERATION_H
#define TOLLGATE_STORE_OPERATION_H

#include "base/json_read.h"
#include "base/json_write.h"
#include "store/accounts.h"
#include "store/operations.h"
#include "store/spend.h"

enum operation_change { CHANGED_NOTHING, CHANGED_TENANT, CHANGED_KEY, CHANGED_PRICES };

struct operation {
    struct operations *on;
    const struct json_doc *request;
    struct kv_txn *txn; /* NULL in operations without one */
    struct buffer *result;
    int64_t now_wall_ns;
    struct spend_windows windows; /* of now */
    enum operation_change change; /* what to publish after the commit */
    uint32_t changed;             /* tenant id or key number */
    const char *kind;             /* of the failure */
    char field[64];
    struct buffer message;
};

/* A handler fills op->result with JSON; false when it failed. */
typedef bool (*operation_fn)(struct operation *op);

/* kind: "invalid", "not_found", "conflict", "unavailable"; field NULL when it is about none. Returns false. */
bool operation_fail(struct operation *op, const char *kind, const char *field, const char *format, ...)
    PRINTF_LIKE(4, 5);

/* --- arguments (operation_arguments.c) --- */

/* The value of an argument, or -1. */
int operation_argument(const struct operation *op, const char *field);
bool operation_has(const struct operation *op, const char *field);
/* Given, and not null? */
bool operation_sets(const struct operation *op, const char *field);

/* A name of 1-63 characters of [A-Za-z0-9._:@-]. */
MUST_CHECK bool operation_name(struct operation *op, const char *field, char out[static SHM_NAME_BYTES]);
/* A text of 1 to size - 1 bytes without control characters. */
MUST_CHECK bool operation_text(struct operation *op, const char *field, char *out, size_t size);
MUST_CHECK bool operation_money(struct operation *op, const char *field, int64_t *out);
MUST_CHECK bool operation_bool(struct operation *op, const char *field, bool *out);
/* rpm, tpm, concurrent, budget with per: changes what is given, null removes. */
MUST_CHECK bool operation_limits(struct operation *op, struct account_limits *limits);
MUST_CHECK bool operation_tier(struct operation *op, char out[static SHM_NAME_BYTES]);
/* models and allow_ip: changes what is given, null removes. */
MUST_CHECK bool operation_allow(struct operation *op, struct shm_allow_sh *allow);
MUST_CHECK bool operation_tags(struct operation *op, char out[static ACCOUNT_TAGS_BYTES]);
MUST_CHECK bool operation_expires(struct operation *op, int64_t *out_wall_ns);
/* limit and after of a list; after stays "" when it is not given. */
enum { OPERATION_PAGE_MOST = 1000 };
MUST_CHECK bool operation_page(struct operation *op, int64_t *limit, char *after, size_t size);
/* Appends the models or tiers of the configuration for an error text. */
void operation_known_models(const struct conf *conf, struct buffer *out);

/* The tenant named by an argument. */
MUST_CHECK bool operation_find_tenant(struct operation *op, const char *field, struct tenant *tenant);

/* --- objects (operation_objects.c) --- */

void operation_write_tenant(struct operation *op, struct json_writer *json, const struct tenant *tenant);
/* The members only, so that the caller may add to the object. */
void operation_write_key_members(struct operation *op, struct json_writer *json, const struct api_key *key);
/* What is left of a prepaid tenant's credit. */
int64_t operation_credit_left(struct operation *op, const struct tenant *tenant);
/* An instant, or null for INT64_MAX. */
void operation_write_time(struct json_writer *json, const char *name, int64_t wall_ns);

/* --- handlers --- */

bool operation_tenant_create(struct operation *op);
bool operation_tenant_list(struct operation *op);
bool operation_tenant_show(struct operation *op);
bool operation_tenant_update(struct operation *op);
bool operation_tenant_disable(struct operation *op);
bool operation_tenant_enable(struct operation *op);
bool operation_key_create(struct operation *op);
bool operation_key_list(struct operation *op);
bool operation_key_show(struct operation *op);
bool operation_key_update(struct operation *op);
bool operation_key_rotate(struct operation *op);
bool operation_key_disable(struct operation *op);
bool operation_key_enable(struct operation *op);
bool operation_key_revoke(struct operation *op);
bool operation_credit_add(struct operation *op);
bool operation_credit_history(struct operation *op);
bool operation_price_list(struct operation *op);
bool operation_price_set(struct operation *op);
bool operation_price_import(struct operation *op);
bool operation_flush(struct operation *op);
bool operation_verify(struct operation *op);
bool operation_backup(struct operation *op);
bool operation_compact(struct operation *op);

/* Books `nusd` of credit under `ref`, making the tenant prepaid. The caller stores the tenant. */
MUST_CHECK bool operation_book_credit(struct operation *op, struct tenant *tenant, int64_t nusd, const char *ref);

#endif
