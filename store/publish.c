#include "store/publish.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "shm/shm_bucket.h"
#include "shm/shm_keys.h"
#include "store/budget_watch.h"
#include "store/price_book.h"
#include "store/publish_ids.h"
#include "store/spend.h"

static const int64_t prices_interval_ns = 60 * NS_PER_S;

struct publisher {
    const struct shm_map *map;
    const struct conf *conf;
    struct ledger *ledger;
    uint32_t allow_rows_used;
    uint32_t *tier_rows; /* one per conf->tiers: its allow-list's row, or SHM_NO_ROW */
    struct spend_windows windows;
    int64_t windows_from_wall_ns; /* since when `windows` holds */
    int64_t next_prices_wall_ns;
    bool fresh; /* no worker has seen this segment */
};

struct publisher *publisher_new(const struct shm_map *map, const struct conf *conf, struct ledger *ledger) {
    struct publisher *publisher = calloc(1, sizeof *publisher);
    CHECK(publisher != NULL);
    *publisher = (struct publisher){.map = map, .conf = conf, .ledger = ledger};
    publisher->tier_rows = calloc((size_t)conf->tier_count + 1, sizeof *publisher->tier_rows);
    CHECK(publisher->tier_rows != NULL);
    publisher->fresh = atomic_load(&map->header->ledger_ready) == 0;
    for (int tier = 0; tier < conf->tier_count; tier++) {
        publisher->tier_rows[tier] = SHM_NO_ROW;
    }
    return publisher;
}

void publisher_free(struct publisher *publisher) {
    if (publisher != NULL) {
        free(publisher->tier_rows);
        free(publisher);
    }
}

/* --- limits --- */

static int64_t own_or_tier(int64_t own, int64_t of_tier) { return own != 0 ? own : of_tier; }

bool publisher_resolve_limits(const struct conf *conf, const struct tenant *tenant, struct account_limits *out) {
    *out = tenant->limits;
    if (tenant->tier[0] == '\0') {
        return true;
    }
    int index = conf_tier_index(conf, span_text(tenant->tier));
    if (index < 0) {
        return false;
    }
    const struct conf_tier *tier = &conf->tiers[index];
    out->requests_per_minute = own_or_tier(out->requests_per_minute, tier->limits.requests_per_minute);
    out->tokens_per_minute = own_or_tier(out->tokens_per_minute, tier->limits.tokens_per_minute);
    out->concurrent = own_or_tier(out->concurrent, tier->limits.concurrent);
    if (tier->budget.set) {
        int window = tier->budget.period == CONF_PERIOD_DAY     ? SHM_WINDOW_DAY
                     : tier->budget.period == CONF_PERIOD_MONTH ? SHM_WINDOW_MONTH
                                                                : SHM_WINDOW_TOTAL;
        if (out->budget_nusd[window] < 0) {
            out->budget_nusd[window] = tier->budget.amount_nusd;
        }
    }
    return true;
}

static struct shm_limits_sh shared_limits(const struct account_limits *limits) {
    struct shm_limits_sh shared = {.requests_per_minute = limits->requests_per_minute,
                                   .tokens_per_minute = limits->tokens_per_minute,
                                   .concurrent = limits->concurrent};
    for (int window = 0; window < SHM_WINDOWS; window++) {
        shared.budget_nusd[window] = limits->budget_nusd[window];
    }
    return shared;
}

/* --- allow-lists --- */

bool publisher_build_allow(const struct conf *conf, const struct shm_allow_sh *named, struct shm_allow_sh *out) {
    bool fits = true;
    memset(out, 0, sizeof *out);
    out->in_use = 1;
    for (uint32_t item = 0; item < named->model_count; item++) {
        const char *model = shm_allow_item(named, item);
        int index = conf_model_index(conf, span_text(model));
        int target = index < 0 ? -1 : conf_model_resolve(conf, index);
        fits = fits && model != NULL && shm_allow_add(out, model, false);
        if (target >= 0 && target != index) {
            fits = fits && shm_allow_add(out, conf->models[target].name, false);
        }
    }
    for (uint32_t item = 0; item < named->network_count; item++) {
        const char *network = shm_allow_item(named, named->model_count + item);
        fits = fits && network != NULL && shm_allow_add(out, network, true);
    }
    return fits;
}

static uint32_t take_allow_row(struct publisher *publisher) {
    if (publisher->allow_rows_used == publisher->map->header->allow_capacity) {
        return SHM_NO_ROW;
    }
    return publisher->allow_rows_used++;
}

static uint32_t key_allow_row(const struct publisher *publisher, uint32_t key_number) {
    struct shm_key_sh row;
    return shm_key_read(publisher->map, key_number, &row) ? row.allow_row : SHM_NO_ROW;
}

bool publisher_has_room_for_allow(const struct publisher *publisher, uint32_t key_number) {
    return publisher == NULL || publisher->allow_rows_used < publisher->map->header->allow_capacity ||
           (key_number < publisher->map->header->key_capacity && key_allow_row(publisher, key_number) != SHM_NO_ROW);
}

int64_t publisher_keys_most(const struct publisher *publisher, const struct conf *conf) {
    int64_t rows = publisher != NULL ? publisher->map->header->key_capacity : INT64_MAX;
    return conf->capacity.keys < rows ? conf->capacity.keys : rows;
}

int64_t publisher_tenants_most(const struct publisher *publisher, const struct conf *conf) {
    int64_t rows = publisher != NULL ? publisher->map->header->tenant_capacity : INT64_MAX;
    return conf->capacity.tenants < rows ? conf->capacity.tenants : rows;
}

/* Rows that an earlier ledger handed out stay where they are: workers may be reading them. */
static void adopt_allow_rows(struct publisher *publisher) {
    struct shm_tenant_sh tenant;
    uint32_t used = 0;
    for (uint32_t number = 0; number < publisher->map->header->key_capacity; number++) {
        uint32_t row = key_allow_row(publisher, number);
        used = row != SHM_NO_ROW && row >= used ? row + 1 : used;
    }
    for (uint32_t id = 0; id < publisher->map->header->tenant_capacity; id++) {
        if (!shm_tenant_read(publisher->map, id, &tenant) || tenant.allow_row == SHM_NO_ROW) {
            continue;
        }
        int tier = conf_tier_index(publisher->conf, span_text(tenant.tier));
        if (tier >= 0) {
            publisher->tier_rows[tier] = tenant.allow_row;
        }
        used = tenant.allow_row >= used ? tenant.allow_row + 1 : used;
    }
    publisher->allow_rows_used = used;
}

static bool build_tier_allow(const struct conf *conf, const struct conf_tier *tier, struct shm_allow_sh *out) {
    struct shm_allow_sh named = {.in_use = 1};
    for (int model = 0; model < tier->model_count; model++) {
        if (!shm_allow_add(&named, tier->models[model], false)) {
            return false;
        }
    }
    return publisher_build_allow(conf, &named, out);
}

static bool publish_tiers(struct publisher *publisher, struct buffer *error) {
    for (int index = 0; index < publisher->conf->tier_count; index++) {
        const struct conf_tier *tier = &publisher->conf->tiers[index];
        struct shm_allow_sh allow;
        uint32_t *row = &publisher->tier_rows[index];
        if (tier->model_count == 0) {
            *row = SHM_NO_ROW;
            continue;
        }
        if (!build_tier_allow(publisher->conf, tier, &allow)) {
            buffer_format(error, "tier %s names more models than fit (%d bytes of names)", tier->name, SHM_ALLOW_BYTES);
            return false;
        }
        *row = *row == SHM_NO_ROW ? take_allow_row(publisher) : *row;
        if (*row == SHM_NO_ROW) {
            buffer_append_text(error, "no room for the models of all tiers: raise capacity.tenants and restart");
            return false;
        }
        shm_allow_publish(publisher->map, *row, &allow);
    }
    return true;
}

/* --- spend --- */

static void write_spend(const struct publisher *publisher, struct shm_account_sh *account, const int64_t *spent_nusd,
                        bool with_balances) {
    for (int window = 0; window < SHM_WINDOWS; window++) {
        atomic_store_explicit(&account->spend_nusd[window], spent_nusd[window], memory_order_relaxed);
        if (with_balances) {
            account->balances[window].spent_nusd = spent_nusd[window];
            atomic_store(&account->window_start_wall_ns[window], publisher->windows.start_wall_ns[window]);
        }
    }
}

static struct shm_account_sh *account_of(const struct publisher *publisher, enum fold_account kind, uint32_t account) {
    return kind == FOLD_TENANT ? shm_tenant_account(publisher->map, account) : shm_key_account(publisher->map, account);
}

/* In a fresh segment all begin at 0; add_fresh_spend then goes once through what was spent. */
static void publish_spend_of(struct publisher *publisher, struct kv_txn *txn, enum fold_account kind,
                             uint32_t account) {
    int64_t spent_nusd[SHM_WINDOWS] = {0};
    if (!publisher->fresh) {
        spend_load(txn, kind, account, &publisher->windows, spent_nusd);
    }
    write_spend(publisher, account_of(publisher, kind, account), spent_nusd, publisher->fresh);
}

/* A spend_visit_fn. */
static void add_fresh_spend(void *context, int window, enum fold_account kind, uint32_t account, int64_t nusd) {
    const struct publisher *publisher = context;
    const struct shm_header_sh *header = publisher->map->header;
    if (account < (kind == FOLD_TENANT ? header->tenant_capacity : header->key_capacity)) {
        struct shm_account_sh *shared = account_of(publisher, kind, account);
        atomic_store_explicit(&shared->spend_nusd[window], nusd, memory_order_relaxed);
        shared->balances[window].spent_nusd = nusd;
    }
}

void publisher_spend(void *context, const struct fold *fold) {
    struct publisher *publisher = context;
    if (publisher == NULL) {
        return;
    }
    for (uint32_t index = 0; index < fold->spends.count; index++) {
        const struct fold_spend *row = fold_spend_at(fold, index);
        uint8_t window = row->key[0];
        bool of_tenant = row->key[9] == FOLD_TENANT;
        uint32_t account = unpack_be32(row->key + 10);
        uint32_t capacity = of_tenant ? publisher->map->header->tenant_capacity : publisher->map->header->key_capacity;
        if (window < SHM_WINDOWS && unpack_bei64(row->key + 1) == publisher->windows.start_wall_ns[window] &&
            account < capacity) {
            struct shm_account_sh *shared =
                of_tenant ? shm_tenant_account(publisher->map, account) : shm_key_account(publisher->map, account);
            int64_t before_nusd = atomic_exchange(&shared->spend_nusd[window], row->nusd);
            budget_watch_spend(publisher->map, publisher->conf, of_tenant, account, (enum shm_window)window,
                               before_nusd, row->nusd);
        }
    }
}

/* --- rows --- */

static int64_t chosen(int64_t before, int64_t after, bool raised) { return (after > before) == raised ? after : before; }

/* Lowered rates change their buckets before the row is published, raised ones after: whoever takes in between counts
 * a permit as too little for a moment, never an old one as hundreds of the new. */
static void change_rates(struct shm_account_sh *account, const struct shm_limits_sh *before,
                         const struct shm_limits_sh *after, bool raised) {
    int64_t now_mono_ns = clock_mono_ns();
    shm_bucket_change_rate(&account->request_bucket_ns, before->requests_per_minute,
                           chosen(before->requests_per_minute, after->requests_per_minute, raised), now_mono_ns);
    shm_bucket_change_rate(&account->token_bucket_ns, before->tokens_per_minute,
                           chosen(before->tokens_per_minute, after->tokens_per_minute, raised), now_mono_ns);
}

static void publish_tenant_row(struct publisher *publisher, struct kv_txn *txn, const struct tenant *tenant) {
    struct account_limits limits;
    bool known = publisher_resolve_limits(publisher->conf, tenant, &limits);
    int tier = tenant->tier[0] == '\0' ? -1 : conf_tier_index(publisher->conf, span_text(tenant->tier));
    struct shm_tenant_sh row = {
        .state = tenant->disabled || !known ? SHM_KEY_DISABLED : SHM_KEY_LIVE,
        .allow_row = tier < 0 ? SHM_NO_ROW : publisher->tier_rows[tier],
        .has_credit = tenant->prepaid ? 1 : 0,
        .limits = shared_limits(&limits),
        .max_wait_ms = tier < 0 ? 0 : publisher->conf->tiers[tier].max_wait_ms,
        .markup = tenant->markup,
    };
    if (!known) {
        LOG(LOG_ERROR, "tenant_tier_unknown", log_text("tenant", tenant->name), log_text("tier", tenant->tier),
            log_text("effect",
                     "its requests are refused until the tier is back or \"tollgate tenant update\" names another"));
    }
    (void)span_copy(span_text(tenant->name), row.name, sizeof row.name);
    (void)span_copy(span_text(tenant->tier), row.tier, sizeof row.tier);
    struct shm_account_sh *account = shm_tenant_account(publisher->map, tenant->id);
    atomic_store(&account->credit_nusd, money_add(tenant->credit_nusd, tenant->credit_base_nusd));
    publish_spend_of(publisher, txn, FOLD_TENANT, tenant->id);
    struct shm_tenant_sh before;
    bool was_there = shm_tenant_read(publisher->map, tenant->id, &before);
    before = was_there ? before : row;
    change_rates(account, &before.limits, &row.limits, false);
    shm_tenant_publish(publisher->map, tenant->id, &row);
    change_rates(account, &before.limits, &row.limits, true);
}

static bool publish_key_allow(struct publisher *publisher, const struct api_key *key, uint32_t *row,
                              struct buffer *error) {
    struct shm_allow_sh allow;
    *row = key_allow_row(publisher, key->number);
    if (key->allow.model_count + key->allow.network_count == 0) {
        /* A row once taken is kept, empty: it allows everything. */
        memset(&allow, 0, sizeof allow);
        allow.in_use = 1;
    } else if (!publisher_build_allow(publisher->conf, &key->allow, &allow)) {
        buffer_format(error, "the models and networks of key %s do not fit: give it fewer", key->id);
        return false;
    } else if (*row == SHM_NO_ROW) {
        *row = take_allow_row(publisher);
        if (*row == SHM_NO_ROW) {
            buffer_append_text(error, "no room for more keys with models or networks: raise capacity.keys and restart");
            return false;
        }
    }
    if (*row != SHM_NO_ROW) {
        shm_allow_publish(publisher->map, *row, &allow);
    }
    return true;
}

/* A key carries its tenant's waiting time; the tenant's row is published before. */
static int64_t max_wait_of(const struct publisher *publisher, const struct api_key *key) {
    struct shm_tenant_sh tenant;
    bool known = key->tenant_id < publisher->map->header->tenant_capacity &&
                 shm_tenant_read(publisher->map, key->tenant_id, &tenant);
    return known ? tenant.max_wait_ms : 0;
}

static bool publish_key_row(struct publisher *publisher, struct kv_txn *txn, const struct api_key *key,
                            struct buffer *error) {
    struct shm_key_sh row = {
        .state = (uint32_t)key->state,
        .tenant_index = key->tenant_id,
        .flags = key->requires_signature ? SHM_KEY_REQUIRES_SIGNATURE : 0,
        .expires_wall_ns = key->expires_wall_ns,
        .limits = shared_limits(&key->limits),
        .max_wait_ms = max_wait_of(publisher, key),
    };
    (void)span_copy(span_text(key->id), row.id, sizeof row.id);
    (void)span_copy(span_text(key->name), row.name, sizeof row.name);
    if (!publish_key_allow(publisher, key, &row.allow_row, error)) {
        return false;
    }
    publish_spend_of(publisher, txn, FOLD_KEY, key->number);
    struct shm_key_sh before;
    bool was_there = shm_key_read(publisher->map, key->number, &before);
    struct shm_account_sh *account = shm_key_account(publisher->map, key->number);
    before = was_there ? before : row;
    change_rates(account, &before.limits, &row.limits, false);
    shm_key_publish(publisher->map, key->number, &row);
    change_rates(account, &before.limits, &row.limits, true);
    return true;
}

/* --- secrets --- */

struct publish_secrets {
    struct publisher *publisher;
    bool even_if_over;
    bool failed;
};

/* A secret whose time is over needs no row in a segment that never had it. */
static bool publish_secret(void *context, const struct account_secret *secret) {
    struct publish_secrets *publish = context;
    bool over = secret->valid_until_wall_ns <= clock_wall_ns();
    if ((!over || publish->even_if_over) &&
        !shm_secret_publish(publish->publisher->map, secret->hash, secret->key_number, secret->valid_until_wall_ns)) {
        publish->failed = true;
    }
    return !publish->failed;
}

static bool publish_secrets_of(struct publisher *publisher, struct kv_txn *txn, uint32_t key_number,
                               struct buffer *error) {
    struct publish_secrets publish = {.publisher = publisher, .even_if_over = !publisher->fresh};
    if (key_number == UINT32_MAX) {
        account_secret_every(txn, publish_secret, &publish);
    } else {
        account_secret_each(txn, key_number, publish_secret, &publish);
    }
    if (publish.failed) {
        buffer_append_text(error, "the table of keys is full: raise capacity.keys and restart");
    }
    return !publish.failed;
}

/* --- entries --- */

static void turn_windows(struct publisher *publisher, int64_t now_wall_ns) {
    spend_windows_at(now_wall_ns, &publisher->windows);
    publisher->windows_from_wall_ns = now_wall_ns;
}

static bool end(struct publisher *publisher, struct kv_txn *txn, bool published, struct buffer *error) {
    bool failed = kv_status_of(txn) != KV_OK;
    if (failed) {
        buffer_format(error, "cannot read the ledger: %s%s", kv_failure_text(txn), kv_failure_advice(txn));
    }
    ledger_end_read(publisher->ledger, txn);
    return published && !failed;
}

static bool too_many(const char *what, uint32_t count, uint32_t capacity, struct buffer *error) {
    buffer_format(
        error, "the ledger has %" PRIu32 " %s and the shared table room for %" PRIu32 ": raise capacity.%s and restart",
        count, what, capacity, what);
    return false;
}

static bool publish_all_rows(struct publisher *publisher, struct kv_txn *txn, struct buffer *error) {
    struct tenant tenant;
    struct api_key key;
    uint32_t tenants = tenant_count(txn);
    uint32_t keys = api_key_count(txn);
    if (tenants > publisher->map->header->tenant_capacity) {
        return too_many("tenants", tenants, publisher->map->header->tenant_capacity, error);
    }
    if (keys > publisher->map->header->key_capacity) {
        return too_many("keys", keys, publisher->map->header->key_capacity, error);
    }
    for (uint32_t id = 0; id < tenants; id++) {
        if (tenant_load(txn, id, &tenant)) {
            publish_tenant_row(publisher, txn, &tenant);
        }
    }
    for (uint32_t number = 0; number < keys; number++) {
        if (api_key_load(txn, number, &key) && !publish_key_row(publisher, txn, &key, error)) {
            return false;
        }
    }
    if (publisher->fresh) {
        spend_each(txn, &publisher->windows, add_fresh_spend, publisher);
    }
    return publish_secrets_of(publisher, txn, UINT32_MAX, error);
}

struct publish_prices {
    struct publisher *publisher;
    struct kv_txn *txn;
    char last[SHM_MODEL_NAME_BYTES];
    bool failed;
};

static bool publish_price(void *context, const struct price_book_row *row) {
    struct publish_prices *publish = context;
    struct shm_price_sh shared;
    if (strcmp(publish->last, row->model) == 0) {
        return true;
    }
    (void)span_copy(span_text(row->model), publish->last, sizeof publish->last);
    publish->failed = price_book_current(publish->txn, row->model, clock_wall_ns(), &shared) &&
                      !shm_price_publish(publish->publisher->map, &shared);
    return !publish->failed;
}

static bool publish_all_prices(struct publisher *publisher, struct kv_txn *txn, struct buffer *error) {
    struct publish_prices publish = {.publisher = publisher, .txn = txn};
    price_book_each(txn, publish_price, &publish);
    if (publish.failed) {
        buffer_append_text(error, "the price book has more models than the shared table");
    }
    return !publish.failed;
}

bool publisher_all(struct publisher *publisher, struct buffer *error) {
    if (publisher == NULL) {
        return true;
    }
    if (publisher->fresh && !publish_ids(publisher->map, publisher->ledger, error)) {
        return false;
    }
    struct kv_txn *txn = ledger_begin_read(publisher->ledger, error);
    if (txn == NULL) {
        return false;
    }
    turn_windows(publisher, clock_wall_ns());
    if (!publisher->fresh) {
        adopt_allow_rows(publisher);
    }
    bool published = publish_tiers(publisher, error) && publish_all_prices(publisher, txn, error) &&
                     publish_all_rows(publisher, txn, error);
    publisher->fresh = false;
    return end(publisher, txn, published, error);
}

/* Keys carry their tenant's waiting time: publishes those whose tenant was just changed. */
static bool publish_keys_of(struct publisher *publisher, struct kv_txn *txn, uint32_t tenant_id, struct buffer *error) {
    struct api_key key;
    for (uint32_t number = 0; number < api_key_count(txn); number++) {
        if (api_key_load(txn, number, &key) && key.tenant_id == tenant_id &&
            !publish_key_row(publisher, txn, &key, error)) {
            return false;
        }
    }
    return true;
}

bool publisher_tenant(struct publisher *publisher, uint32_t tenant_id, struct buffer *error) {
    struct tenant tenant;
    struct shm_tenant_sh before;
    struct shm_tenant_sh after;
    if (publisher == NULL) {
        return true;
    }
    struct kv_txn *txn = ledger_begin_read(publisher->ledger, error);
    if (txn == NULL) {
        return false;
    }
    bool published = tenant_load(txn, tenant_id, &tenant);
    if (published) {
        bool was_there = shm_tenant_read(publisher->map, tenant_id, &before);
        publish_tenant_row(publisher, txn, &tenant);
        if (was_there && shm_tenant_read(publisher->map, tenant_id, &after) &&
            before.max_wait_ms != after.max_wait_ms) {
            published = publish_keys_of(publisher, txn, tenant_id, error);
        }
    }
    return end(publisher, txn, published, error);
}

bool publisher_key(struct publisher *publisher, uint32_t key_number, struct buffer *error) {
    struct api_key key;
    if (publisher == NULL) {
        return true;
    }
    struct kv_txn *txn = ledger_begin_read(publisher->ledger, error);
    if (txn == NULL) {
        return false;
    }
    bool published = api_key_load(txn, key_number, &key) && publish_key_row(publisher, txn, &key, error) &&
                     publish_secrets_of(publisher, txn, key_number, error);
    return end(publisher, txn, published, error);
}

bool publisher_prices(struct publisher *publisher, struct buffer *error) {
    if (publisher == NULL) {
        return true;
    }
    struct kv_txn *txn = ledger_begin_read(publisher->ledger, error);
    return txn != NULL && end(publisher, txn, publish_all_prices(publisher, txn, error), error);
}

static void publish_all_spend(struct publisher *publisher, struct kv_txn *txn) {
    uint32_t tenants = tenant_count(txn);
    uint32_t keys = api_key_count(txn);
    for (uint32_t id = 0; id < tenants && id < publisher->map->header->tenant_capacity; id++) {
        publish_spend_of(publisher, txn, FOLD_TENANT, id);
    }
    for (uint32_t number = 0; number < keys && number < publisher->map->header->key_capacity; number++) {
        publish_spend_of(publisher, txn, FOLD_KEY, number);
    }
}

bool publisher_tick(struct publisher *publisher, int64_t now_wall_ns) {
    struct buffer error;
    bool turned = now_wall_ns >= publisher->windows.next_turn_wall_ns || now_wall_ns < publisher->windows_from_wall_ns;
    bool prices_due = now_wall_ns >= publisher->next_prices_wall_ns ||
                      now_wall_ns < publisher->next_prices_wall_ns - prices_interval_ns;
    if (!turned && !prices_due) {
        return false;
    }
    buffer_init(&error, 1024);
    struct kv_txn *txn = ledger_begin_read(publisher->ledger, &error);
    if (txn != NULL) {
        publisher->next_prices_wall_ns = now_wall_ns + prices_interval_ns;
        if (turned) {
            turn_windows(publisher, now_wall_ns);
            publish_all_spend(publisher, txn);
        }
        if (!end(publisher, txn, publish_all_prices(publisher, txn, &error), &error)) {
            LOG(LOG_ERROR, "prices_publish_failed", log_text("why", buffer_text(&error)));
        }
    }
    buffer_fini(&error);
    return turned && txn != NULL;
}
