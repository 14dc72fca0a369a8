/* store/accounts.h - tenants and keys in the books: their rows, indexes and how they are found.
 * Used by: store/ only, inside a transaction. A tenant's id and a key's number are dense from 0, name the row in shared
 * memory, and are never used again; a secret is kept as its SHA-256 only.
 * Errors: false means absent, or that the transaction failed (kv_status_of). */
#ifndef TOLLGATE_STORE_ACCOUNTS_H
#define TOLLGATE_STORE_ACCOUNTS_H

#include "base/hash.h"
#include "shm/shm_layout.h"
#include "store/kv.h"

enum { ACCOUNT_TAGS_BYTES = 4096 };

/* What a tenant or key sets for itself. */
struct account_limits {
    int64_t requests_per_minute; /* 0: nothing set, as for the next two */
    int64_t tokens_per_minute;
    int64_t concurrent;
    int64_t budget_nusd[SHM_WINDOWS]; /* -1: nothing set */
};

struct tenant {
    uint32_t id;
    char name[SHM_NAME_BYTES];
    char tier[SHM_NAME_BYTES]; /* "": none */
    bool disabled;
    int64_t created_wall_ns;
    struct account_limits limits;
    int64_t markup;
    bool prepaid;
    int64_t credit_nusd;      /* the sum of its credits */
    int64_t credit_base_nusd; /* what it had spent when it became prepaid; left = credit + base - spent in all */
};

struct api_key {
    uint32_t number;
    uint32_t tenant_id;
    char id[SHM_KEY_ID_BYTES];
    char name[SHM_NAME_BYTES]; /* "": none */
    enum shm_key_state state;
    int64_t created_wall_ns;
    int64_t expires_wall_ns; /* INT64_MAX: never */
    struct account_limits limits;
    bool requires_signature;
    struct shm_allow_sh allow;     /* models as named, then networks; version and in_use unused */
    char tags[ACCOUNT_TAGS_BYTES]; /* a JSON object, names sorted; "{}" when there are none */
};

struct account_secret {
    unsigned char hash[SHA256_BYTES];
    uint32_t key_number;
    int64_t valid_until_wall_ns; /* INT64_MAX: no end; 0: over */
};

void account_limits_init(struct account_limits *limits);

/* Rows by number. *_store writes the row and its indexes. Tenants' names and keys' ids never
 * change; a key's name may. */
MUST_CHECK bool tenant_load(struct kv_txn *txn, uint32_t id, struct tenant *out);
MUST_CHECK bool tenant_store(struct kv_txn *txn, const struct tenant *tenant);
MUST_CHECK bool tenant_find(struct kv_txn *txn, struct span name, struct tenant *out);
uint32_t tenant_count(struct kv_txn *txn);

MUST_CHECK bool api_key_load(struct kv_txn *txn, uint32_t number, struct api_key *out);
MUST_CHECK bool api_key_store(struct kv_txn *txn, const struct api_key *key);
MUST_CHECK bool api_key_find_id(struct kv_txn *txn, struct span id, struct api_key *out);
/* By name; tenant_id of UINT32_MAX looks in all tenants. Returns how many have it, at most 2; *out is the first. */
int api_key_find_name(struct kv_txn *txn, struct span name, uint32_t tenant_id, struct api_key *out);
MUST_CHECK bool api_key_find_secret(struct kv_txn *txn, const unsigned char hash[static SHA256_BYTES],
                                    struct api_key *out);
uint32_t api_key_count(struct kv_txn *txn);

MUST_CHECK bool account_secret_store(struct kv_txn *txn, const struct account_secret *secret);
/* Walks the secrets of all keys in the order of their hashes, or those of one key. Ends early when visit returns false.
 */
void account_secret_every(struct kv_txn *txn, bool (*visit)(void *context, const struct account_secret *secret),
                          void *context);
void account_secret_each(struct kv_txn *txn, uint32_t key_number,
                         bool (*visit)(void *context, const struct account_secret *secret), void *context);

#endif
