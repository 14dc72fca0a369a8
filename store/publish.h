/* store/publish.h - from the books to the shared tables: what workers must know of tenants, keys, prices and spend.
 * Used by: the ledger process. All calls accept a NULL publisher and then do nothing: no server runs.
 * Writers: the ledger is the only writer of these tables (shm_keys.h); of accounts it writes spend_nusd and
 * credit_nusd, and in a segment no worker has used yet also the balances. Tiers are resolved here: a tenant's own
 * limits win over its tier's, window by window for budgets. A tenant whose tier is no longer in the configuration is
 * published as disabled, for its limits are not known. Crash: rows are published again whole by the next ledger. */
#ifndef TOLLGATE_STORE_PUBLISH_H
#define TOLLGATE_STORE_PUBLISH_H

#include "conf/conf.h"
#include "shm/shm_map.h"
#include "store/accounts.h"
#include "store/fold.h"
#include "store/ledger_private.h"

struct publisher;

/* conf and map outlive it. */
struct publisher *publisher_new(const struct shm_map *map, const struct conf *conf, struct ledger *ledger);
void publisher_free(struct publisher *publisher);

/* Publishes everything. False with *error set when the store has more than the tables hold. */
MUST_CHECK bool publisher_all(struct publisher *publisher, struct buffer *error);

/* Publishes one row as it is in the books now. */
MUST_CHECK bool publisher_tenant(struct publisher *publisher, uint32_t tenant_id, struct buffer *error);
MUST_CHECK bool publisher_key(struct publisher *publisher, uint32_t key_number, struct buffer *error);
MUST_CHECK bool publisher_prices(struct publisher *publisher, struct buffer *error);

/* After a commit: the new totals (a commit_done_fn; context is the publisher). */
void publisher_spend(void *context, const struct fold *fold);

/* Now and then: a new day or month begins, prices of the future come closer. True when spend is of new windows now. */
bool publisher_tick(struct publisher *publisher, int64_t now_wall_ns);

/* How many keys and tenants may there be: what the configuration says, and no more than the running segment holds (a
 * larger capacity counts from the next start). */
int64_t publisher_keys_most(const struct publisher *publisher, const struct conf *conf);
int64_t publisher_tenants_most(const struct publisher *publisher, const struct conf *conf);

/* Is there room for the allow-lists of this key? */
bool publisher_has_room_for_allow(const struct publisher *publisher, uint32_t key_number);

/* A tenant's limits with those of its tier where it sets none itself. Returns false when its tier is unknown. */
bool publisher_resolve_limits(const struct conf *conf, const struct tenant *tenant, struct account_limits *out);

/* Builds a key's allow-lists as workers match them: models that are aliases stand with what they lead to. False when
 * they don't fit. */
MUST_CHECK bool publisher_build_allow(const struct conf *conf, const struct shm_allow_sh *named,
                                      struct shm_allow_sh *out);

#endif
