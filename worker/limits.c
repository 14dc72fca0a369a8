#include "worker/limits.h"

#include "base/clock.h"
#include "shm/shm_bucket.h"
#include "shm/shm_learned.h"
#include "shm/shm_pair.h"
#include "shm/shm_row.h"
#include "worker/worker_state.h"

/* One level that may refuse. */
struct level {
    const char *whose;
    int64_t requests_per_minute; /* 0: none, as for the next two */
    int64_t tokens_per_minute;
    int64_t concurrent;
    _Atomic uint64_t *request_bucket;
    _Atomic uint64_t *token_bucket;
    _Atomic int64_t *in_flight; /* NULL: the level limits nothing */
};

static struct level level_of_account(const char *whose, const struct shm_limits_sh *limits,
                                     struct shm_account_sh *account) {
    return (struct level){.whose = whose,
                          .requests_per_minute = limits->requests_per_minute,
                          .tokens_per_minute = limits->tokens_per_minute,
                          .concurrent = limits->concurrent,
                          .request_bucket = &account->request_bucket_ns,
                          .token_bucket = &account->token_bucket_ns,
                          .in_flight = &account->in_flight};
}

static struct level level_of_conf(const char *whose, const struct conf_limits *limits) {
    return (struct level){.whose = whose,
                          .requests_per_minute = limits->requests_per_minute,
                          .tokens_per_minute = limits->tokens_per_minute,
                          .concurrent = limits->concurrent};
}

static struct level level_of_model(const struct request *request) {
    struct level level =
        level_of_conf("key on this model", &request->worker->conf->models[request->model_asked].limits);
    if (request->pair_row != SHM_NO_ROW) {
        struct shm_pair_sh *pair = shm_pair(request->worker->map, request->pair_row);
        level.request_bucket = &pair->request_bucket_ns;
        level.token_bucket = &pair->token_bucket_ns;
        level.in_flight = &pair->in_flight;
    }
    return level;
}

static struct level level_of_upstream(const struct request *request) {
    struct level level = level_of_conf("upstream", &request->attempt.upstream->limits);
    struct shm_upstream_sh *row = shm_upstream(request->worker->map, request->attempt.upstream_row);
    level.request_bucket = &row->request_bucket_ns;
    level.token_bucket = &row->token_bucket_ns;
    level.in_flight = &row->in_flight;
    return level;
}

static struct level level_at(const struct request *request, enum limit_level at) {
    const struct shm_map *map = request->worker->map;
    switch (at) {
    case LIMIT_KEY:
        return level_of_account("key", &request->key.limits, shm_key_account(map, request->key_index));
    case LIMIT_TENANT:
        return level_of_account("tenant", &request->tenant.limits, shm_tenant_account(map, request->key.tenant_index));
    case LIMIT_MODEL:
        return level_of_model(request);
    default:
        return level_of_upstream(request);
    }
}

/* Adds one to a gauge that may not pass `most` (0: no limit). */
static bool take_gauge(_Atomic int64_t *gauge, int64_t most) {
    int64_t value = atomic_load_explicit(gauge, memory_order_relaxed);
    do {
        if (most > 0 && value >= most) {
            return false;
        }
    } while (
        !atomic_compare_exchange_weak_explicit(gauge, &value, value + 1, memory_order_acq_rel, memory_order_relaxed));
    return true;
}

static void return_gauge(_Atomic int64_t *gauge) { (void)atomic_fetch_sub_explicit(gauge, 1, memory_order_acq_rel); }

int64_t limits_first_tokens(const struct request *request) {
    int64_t slice = request->worker->conf->streams.reserve_slice_tokens;
    int64_t cap = request->chat.max_tokens;
    int64_t output = (cap > 0 && cap < slice ? cap : slice) * request->chat.choices;
    return money_add(request->chat.prompt_tokens, request->form == CLIENT_EMBEDDINGS ? 0 : output);
}

/* Takes one level's concurrency, request and tokens; on refusal nothing of this level is held. */
static enum verdict_shortage take_level(const struct level *level, int64_t tokens, struct request_permit *permit) {
    int64_t now_mono_ns = clock_mono_ns();
    if (level->in_flight == NULL) {
        return SHORT_OF_NOTHING;
    }
    if (!take_gauge(level->in_flight, level->concurrent)) {
        return SHORT_OF_CONCURRENT;
    }
    if (!shm_bucket_take(level->request_bucket, level->requests_per_minute, 1, now_mono_ns)) {
        return_gauge(level->in_flight);
        return SHORT_OF_REQUESTS;
    }
    if (!shm_bucket_take(level->token_bucket, level->tokens_per_minute, tokens, now_mono_ns)) {
        shm_bucket_return(level->request_bucket, level->requests_per_minute, 1, now_mono_ns);
        return_gauge(level->in_flight);
        return SHORT_OF_TOKENS;
    }
    permit->in_flight = true;
    permit->request = level->requests_per_minute > 0;
    permit->tokens = level->tokens_per_minute > 0 ? tokens : 0;
    return SHORT_OF_NOTHING;
}

/* Gives one level's permits back; its tokens and request too when they were not used. */
static void return_level(const struct level *level, struct request_permit *permit, bool used) {
    int64_t now_mono_ns = clock_mono_ns();
    if (!permit->in_flight) {
        return;
    }
    return_gauge(level->in_flight);
    if (!used) {
        shm_bucket_return(level->token_bucket, level->tokens_per_minute, permit->tokens, now_mono_ns);
        shm_bucket_return(level->request_bucket, level->requests_per_minute, permit->request ? 1 : 0, now_mono_ns);
    }
    *permit = (struct request_permit){0};
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* When a level has room for so many requests, and for so many tokens. */
static int64_t level_wait_ns(const struct level *level, int64_t requests, int64_t tokens) {
    int64_t now_mono_ns = clock_mono_ns();
    if (level->in_flight == NULL) {
        return 0;
    }
    return larger(shm_bucket_wait_ns(level->request_bucket, level->requests_per_minute, requests, now_mono_ns),
                  shm_bucket_wait_ns(level->token_bucket, level->tokens_per_minute, tokens, now_mono_ns));
}

/* When all levels will have room: what one of them says alone could be answered by another's refusal. */
static int64_t wait_for_all_ns(const struct request *request, int64_t requests, int64_t tokens) {
    int64_t wait_ns = 0;
    int last = request->pair_row != SHM_NO_ROW ? LIMIT_MODEL : LIMIT_TENANT;
    for (int at = LIMIT_KEY; at <= last; at++) {
        const struct level level = level_at(request, (enum limit_level)at);
        wait_ns = larger(wait_ns, level_wait_ns(&level, requests, tokens));
    }
    return wait_ns;
}

static struct verdict refuse(const struct request *request, const struct level *level, enum verdict_shortage shortage,
                             int64_t tokens) {
    bool is_gauge = shortage == SHORT_OF_CONCURRENT;
    const char *what = is_gauge ? "concurrent" : shortage == SHORT_OF_REQUESTS ? "requests" : "tokens";
    int64_t limit = is_gauge                        ? level->concurrent
                    : shortage == SHORT_OF_REQUESTS ? level->requests_per_minute
                                                    : level->tokens_per_minute;
    int64_t wait_ms = (wait_for_all_ns(request, 1, tokens) + NS_PER_MS - 1) / NS_PER_MS;
    wait_ms = is_gauge && wait_ms < 1000 ? 1000 : wait_ms > 0 ? wait_ms : 1;
    struct verdict verdict = verdict_with(
        ERROR_rate_limit_exceeded, NULL, "The %s limit of this %s is reached: %lld%s. %s in %lld.%03llds.", what,
        level->whose, (long long)limit, is_gauge ? " at once" : " a minute",
        is_gauge ? "Try again" : "It has room again", (long long)(wait_ms / 1000), (long long)(wait_ms % 1000));
    verdict.retry_after_ms = wait_ms;
    verdict.shortage = shortage;
    return verdict;
}

struct verdict limits_refuse_behind(const struct request *request, int64_t tokens, int64_t before) {
    int64_t all_tokens = 0;
    all_tokens = __builtin_mul_overflow(tokens, before + 1, &all_tokens) ? INT64_MAX : all_tokens;
    int64_t wait_ms = (wait_for_all_ns(request, before + 1, all_tokens) + NS_PER_MS - 1) / NS_PER_MS;
    wait_ms = wait_ms > 1000 ? wait_ms : 1000;
    struct verdict verdict = verdict_with(
        ERROR_rate_limit_exceeded, NULL,
        "%lld other requests of this key wait for its rate limit. There is room for one more in about %lld.%03llds.",
        (long long)before, (long long)(wait_ms / 1000), (long long)(wait_ms % 1000));
    verdict.retry_after_ms = wait_ms;
    verdict.shortage = SHORT_OF_REQUESTS;
    return verdict;
}

/* Finds the row of its key and model when the model has limits. False: there is no room for one more. */
static bool find_pair(struct request *request) {
    const struct conf_model *model = &request->worker->conf->models[request->model_asked];
    bool limited =
        model->limits.requests_per_minute > 0 || model->limits.tokens_per_minute > 0 || model->limits.concurrent > 0;
    request->pair_row = limited ? shm_pair_find(request->worker->map, request->key_index, model->name) : SHM_NO_ROW;
    return !limited || request->pair_row != SHM_NO_ROW;
}

struct verdict limits_take(struct request *request, int64_t tokens) {
    if (!find_pair(request)) {
        return verdict_of(ERROR_overloaded);
    }
    for (int at = LIMIT_KEY; at <= LIMIT_MODEL; at++) {
        const struct level level = level_at(request, (enum limit_level)at);
        enum verdict_shortage shortage = take_level(&level, tokens, &request->permits[at]);
        if (shortage != SHORT_OF_NOTHING) {
            struct verdict verdict = refuse(request, &level, shortage, tokens);
            limits_return(request);
            return verdict;
        }
    }
    return verdict_of(ERROR_NONE);
}

struct verdict limits_peek(const struct request *request) {
    for (int at = LIMIT_KEY; at <= LIMIT_TENANT && request->key.max_wait_ms <= 0; at++) {
        const struct level level = level_at(request, (enum limit_level)at);
        int64_t now_mono_ns = clock_mono_ns();
        if (shm_bucket_wait_ns(level.request_bucket, level.requests_per_minute, 1, now_mono_ns) > 0) {
            return refuse(request, &level, SHORT_OF_REQUESTS, 1);
        }
        if (shm_bucket_wait_ns(level.token_bucket, level.tokens_per_minute, 1, now_mono_ns) > 0) {
            return refuse(request, &level, SHORT_OF_TOKENS, 1);
        }
    }
    return verdict_of(ERROR_NONE);
}

/* --- upstreams --- */

int64_t limits_learned_wait_ns(const struct request *request, int64_t tokens) {
    const struct shm_upstream_sh *row = shm_upstream(request->worker->map, request->attempt.upstream_row);
    int64_t now_mono_ns = clock_mono_ns();
    int64_t blocked_ns = atomic_load_explicit(&row->blocked_until_mono_ns, memory_order_relaxed) - now_mono_ns;
    int64_t bucket_ns = larger(shm_learned_wait_ns(&row->learned_requests, 1, now_mono_ns),
                               shm_learned_wait_ns(&row->learned_tokens, tokens, now_mono_ns));
    return larger(larger(blocked_ns, bucket_ns), 0);
}

enum verdict_shortage limits_take_upstream(struct request *request, int64_t tokens, int64_t *wait_ns) {
    struct shm_upstream_sh *row = shm_upstream(request->worker->map, request->attempt.upstream_row);
    const struct level level = level_of_upstream(request);
    enum verdict_shortage shortage = take_level(&level, tokens, &request->permits[LIMIT_UPSTREAM]);
    if (shortage != SHORT_OF_NOTHING) {
        *wait_ns = shortage == SHORT_OF_CONCURRENT ? NS_PER_S : level_wait_ns(&level, 1, tokens);
        return shortage;
    }
    request->charged_tokens = 0;
    request->learned_tokens = tokens;
    shm_learned_charge(&row->learned_requests, 1, clock_mono_ns());
    shm_learned_charge(&row->learned_tokens, tokens, clock_mono_ns());
    return SHORT_OF_NOTHING;
}

void limits_return_upstream(struct request *request, bool used) {
    struct request_permit *permit = &request->permits[LIMIT_UPSTREAM];
    if (!permit->in_flight) {
        return;
    }
    const struct level level = level_of_upstream(request);
    struct shm_upstream_sh *row = shm_upstream(request->worker->map, request->attempt.upstream_row);
    /* An upstream that answered has counted the request, whatever the answer. */
    bool answered = request->attempt.head.status != 0;
    if (!used && !answered) {
        shm_learned_charge(&row->learned_requests, -1, clock_mono_ns());
    }
    if (!used) {
        shm_learned_charge(&row->learned_tokens, -request->learned_tokens, clock_mono_ns());
    }
    permit->request = permit->request && !answered;
    return_level(&level, permit, used);
}

void limits_hear_upstream(const struct request *request) {
    struct shm_upstream_sh *row = shm_upstream(request->worker->map, request->attempt.upstream_row);
    const struct upstream_head *head = &request->attempt.head;
    int64_t now_mono_ns = clock_mono_ns();
    shm_learned_hear(&row->learned_requests, head->requests.limit, head->requests.remaining,
                     head->requests.reset_ms * NS_PER_MS, now_mono_ns);
    shm_learned_hear(&row->learned_tokens, head->tokens.limit, head->tokens.remaining,
                     head->tokens.reset_ms * NS_PER_MS, now_mono_ns);
    if (head->status == 429) {
        int64_t wait_ms = head->retry_after_ms > 0 ? head->retry_after_ms : request->worker->conf->retry.base_ms;
        shm_learned_block(row, wait_ms * NS_PER_MS, now_mono_ns);
    }
}

void limits_block_upstream(const struct request *request, int64_t wait_ms) {
    struct shm_upstream_sh *row = shm_upstream(request->worker->map, request->attempt.upstream_row);
    shm_learned_block(row, wait_ms * NS_PER_MS, clock_mono_ns());
}

/* --- what was really used --- */

static void charge_level(const struct level *level, struct request_permit *permit, int64_t used_tokens) {
    if (permit->in_flight && level->tokens_per_minute > 0 && used_tokens > permit->tokens) {
        shm_bucket_charge(level->token_bucket, level->tokens_per_minute, used_tokens - permit->tokens, clock_mono_ns());
        permit->tokens = used_tokens;
    }
}

/* Rates may have been changed since the request took its permits; what is charged or goes back does so at the rate of
 * now, at which the buckets count (shm_bucket_change_rate). */
static void follow_rates(struct request *request) {
    const struct shm_map *map = request->worker->map;
    struct shm_key_sh key;
    struct shm_tenant_sh tenant;
    if (shm_row_version(shm_key(map, request->key_index)) != request->key.version &&
        shm_key_read(map, request->key_index, &key)) {
        request->key.version = key.version;
        request->key.limits.requests_per_minute = key.limits.requests_per_minute;
        request->key.limits.tokens_per_minute = key.limits.tokens_per_minute;
    }
    if (shm_row_version(shm_tenant(map, request->key.tenant_index)) != request->tenant.version &&
        shm_tenant_read(map, request->key.tenant_index, &tenant)) {
        request->tenant.version = tenant.version;
        request->tenant.limits.requests_per_minute = tenant.limits.requests_per_minute;
        request->tenant.limits.tokens_per_minute = tenant.limits.tokens_per_minute;
    }
}

void limits_charge(struct request *request, int64_t used_tokens) {
    if (used_tokens <= request->charged_tokens) {
        return;
    }
    request->charged_tokens = used_tokens;
    follow_rates(request);
    for (int at = LIMIT_KEY; at < LIMIT_LEVELS; at++) {
        if (request->permits[at].in_flight) {
            const struct level level = level_at(request, (enum limit_level)at);
            charge_level(&level, &request->permits[at], used_tokens);
        }
    }
}

void limits_settle(struct request *request, int64_t used_tokens) {
    follow_rates(request);
    limits_charge(request, used_tokens);
    if (request->permits[LIMIT_UPSTREAM].in_flight) {
        struct shm_upstream_sh *row = shm_upstream(request->worker->map, request->attempt.upstream_row);
        shm_learned_charge(&row->learned_tokens, used_tokens - request->learned_tokens, clock_mono_ns());
    }
    for (int at = LIMIT_KEY; at < LIMIT_LEVELS; at++) {
        struct request_permit *permit = &request->permits[at];
        if (!permit->in_flight) {
            continue;
        }
        const struct level level = level_at(request, (enum limit_level)at);
        if (permit->tokens > used_tokens) {
            shm_bucket_return(level.token_bucket, level.tokens_per_minute, permit->tokens - used_tokens,
                              clock_mono_ns());
        }
        return_level(&level, permit, true);
    }
}

void limits_return(struct request *request) {
    follow_rates(request);
    for (int at = LIMIT_KEY; at <= LIMIT_MODEL; at++) {
        if (request->permits[at].in_flight) {
            const struct level level = level_at(request, (enum limit_level)at);
            return_level(&level, &request->permits[at], false);
        }
    }
    limits_return_upstream(request, false);
}

/* --- what headers say --- */

/* The tighter of key and tenant: the one with less left. */
static struct limits_view tighter(struct limits_view a, struct limits_view b) {
    if (a.limit == 0 || b.limit == 0) {
        return a.limit == 0 ? b : a;
    }
    return b.remaining < a.remaining ? b : a;
}

static struct limits_view view_of(const _Atomic uint64_t *bucket, int64_t per_minute) {
    int64_t now_mono_ns = clock_mono_ns();
    if (per_minute <= 0) {
        return (struct limits_view){0};
    }
    return (struct limits_view){per_minute, shm_bucket_left(bucket, per_minute, now_mono_ns),
                                shm_bucket_full_in_ns(bucket, now_mono_ns)};
}

struct limits_view limits_view_requests(const struct request *request) {
    const struct level key = level_at(request, LIMIT_KEY);
    const struct level tenant = level_at(request, LIMIT_TENANT);
    return tighter(view_of(key.request_bucket, key.requests_per_minute),
                   view_of(tenant.request_bucket, tenant.requests_per_minute));
}

struct limits_view limits_view_tokens(const struct request *request) {
    const struct level key = level_at(request, LIMIT_KEY);
    const struct level tenant = level_at(request, LIMIT_TENANT);
    return tighter(view_of(key.token_bucket, key.tokens_per_minute),
                   view_of(tenant.token_bucket, tenant.tokens_per_minute));
}

static struct limits_view view_of_gauge(const struct level *level) {
    int64_t left = level->concurrent - atomic_load_explicit(level->in_flight, memory_order_relaxed);
    return (struct limits_view){.limit = level->concurrent, .remaining = left > 0 ? left : 0};
}

struct limits_view limits_view_concurrent(const struct request *request) {
    const struct level key = level_at(request, LIMIT_KEY);
    const struct level tenant = level_at(request, LIMIT_TENANT);
    return tighter(view_of_gauge(&key), view_of_gauge(&tenant));
}
