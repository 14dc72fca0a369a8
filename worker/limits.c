#include "worker/limits.h"

#include "base/clock.h"
#include "shm/shm_bucket.h"
#include "worker/worker_state.h"

/* One level that may refuse: a key or a tenant. */
struct level {
    const char *whose;
    const struct shm_limits_sh *limits;
    struct shm_account_sh *account;
};

static struct level key_level(const struct request *request) {
    return (struct level){"key", &request->key.limits, shm_key_account(request->worker->map, request->key_index)};
}

static struct level tenant_level(const struct request *request) {
    return (struct level){"tenant", &request->tenant.limits,
                          shm_tenant_account(request->worker->map, request->key.tenant_index)};
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

static struct verdict refuse(const struct level *level, const char *what, int64_t limit, const char *unit,
                             int64_t wait_ns) {
    int64_t wait_ms = wait_ns > 0 ? (wait_ns + NS_PER_MS - 1) / NS_PER_MS : 1000;
    struct verdict verdict =
        verdict_with(ERROR_rate_limit_exceeded, NULL,
                     "The %s limit of this %s is reached: %lld%s. It has room again in %lld.%03llds.", what,
                     level->whose, (long long)limit, unit, (long long)(wait_ms / 1000), (long long)(wait_ms % 1000));
    verdict.retry_after_ms = wait_ms;
    return verdict;
}

/* Takes one level's request and tokens; on refusal nothing of this level is held. */
static struct verdict take_rates(struct worker *worker, const struct level *level, int64_t tokens, bool *took_request,
                                 int64_t *took_tokens) {
    int64_t now_mono_ns = clock_mono_ns();
    const struct shm_limits_sh *limits = level->limits;
    if (!shm_bucket_take(&level->account->request_bucket_ns, limits->requests_per_minute, 1, now_mono_ns)) {
        worker_count(worker, SHM_COUNTER_limited_requests, 1);
        return refuse(
            level, "requests", limits->requests_per_minute, " a minute",
            shm_bucket_wait_ns(&level->account->request_bucket_ns, limits->requests_per_minute, 1, now_mono_ns));
    }
    if (!shm_bucket_take(&level->account->token_bucket_ns, limits->tokens_per_minute, tokens, now_mono_ns)) {
        shm_bucket_return(&level->account->request_bucket_ns, limits->requests_per_minute, 1, now_mono_ns);
        worker_count(worker, SHM_COUNTER_limited_tokens, 1);
        return refuse(
            level, "tokens", limits->tokens_per_minute, " a minute",
            shm_bucket_wait_ns(&level->account->token_bucket_ns, limits->tokens_per_minute, tokens, now_mono_ns));
    }
    *took_request = limits->requests_per_minute > 0;
    *took_tokens = limits->tokens_per_minute > 0 ? tokens : 0;
    return verdict_of(ERROR_NONE);
}

static struct verdict take_level(struct worker *worker, const struct level *level, int64_t tokens, bool *in_flight,
                                 bool *took_request, int64_t *took_tokens) {
    if (!take_gauge(&level->account->in_flight, level->limits->concurrent)) {
        worker_count(worker, SHM_COUNTER_limited_concurrent, 1);
        return refuse(level, "concurrent", level->limits->concurrent, " at once", 0);
    }
    *in_flight = true;
    return take_rates(worker, level, tokens, took_request, took_tokens);
}

struct verdict limits_take(struct request *request, int64_t tokens) {
    struct request_permits *permits = &request->permits;
    struct level key = key_level(request);
    struct level tenant = tenant_level(request);
    struct verdict verdict =
        take_level(request->worker, &key, tokens, &permits->key_in_flight, &permits->key_request, &permits->key_tokens);
    if (verdict.kind == ERROR_NONE) {
        verdict = take_level(request->worker, &tenant, tokens, &permits->tenant_in_flight, &permits->tenant_request,
                             &permits->tenant_tokens);
    }
    if (verdict.kind != ERROR_NONE) {
        limits_return(request);
    }
    return verdict;
}

static struct verdict peek_level(const struct level *level) {
    const struct shm_limits_sh *limits = level->limits;
    const _Atomic uint64_t *requests = &level->account->request_bucket_ns;
    const _Atomic uint64_t *tokens = &level->account->token_bucket_ns;
    int64_t now_mono_ns = clock_mono_ns();
    int64_t rpm = limits->requests_per_minute;
    int64_t tpm = limits->tokens_per_minute;
    if (rpm > 0 && shm_bucket_left(requests, rpm, now_mono_ns) == 0) {
        return refuse(level, "requests", rpm, " a minute", shm_bucket_wait_ns(requests, rpm, 1, now_mono_ns));
    }
    if (tpm > 0 && shm_bucket_left(tokens, tpm, now_mono_ns) == 0) {
        return refuse(level, "tokens", tpm, " a minute", shm_bucket_wait_ns(tokens, tpm, 1, now_mono_ns));
    }
    return verdict_of(ERROR_NONE);
}

struct verdict limits_peek(const struct request *request) {
    const struct level key = key_level(request);
    const struct level tenant = tenant_level(request);
    struct verdict verdict = peek_level(&key);
    return verdict.kind != ERROR_NONE ? verdict : peek_level(&tenant);
}

bool limits_take_upstream(struct request *request, int64_t tokens, int64_t *wait_ns) {
    const struct conf_limits *limits = &request->attempt.upstream->limits;
    struct shm_upstream_sh *row = shm_upstream(request->worker->map, request->attempt.upstream_row);
    struct request_permits *permits = &request->permits;
    int64_t now_mono_ns = clock_mono_ns();
    *wait_ns = NS_PER_S;
    if (!take_gauge(&row->in_flight, limits->concurrent)) {
        return false;
    }
    if (!shm_bucket_take(&row->request_bucket_ns, limits->requests_per_minute, 1, now_mono_ns)) {
        *wait_ns = shm_bucket_wait_ns(&row->request_bucket_ns, limits->requests_per_minute, 1, now_mono_ns);
        return_gauge(&row->in_flight);
        return false;
    }
    if (!shm_bucket_take(&row->token_bucket_ns, limits->tokens_per_minute, tokens, now_mono_ns)) {
        *wait_ns = shm_bucket_wait_ns(&row->token_bucket_ns, limits->tokens_per_minute, tokens, now_mono_ns);
        shm_bucket_return(&row->request_bucket_ns, limits->requests_per_minute, 1, now_mono_ns);
        return_gauge(&row->in_flight);
        return false;
    }
    permits->upstream_in_flight = true;
    permits->upstream_request = limits->requests_per_minute > 0;
    permits->upstream_tokens = limits->tokens_per_minute > 0 ? tokens : 0;
    return true;
}

void limits_return_upstream(struct request *request, bool used) {
    struct request_permits *permits = &request->permits;
    if (!permits->upstream_in_flight) {
        return;
    }
    const struct conf_limits *limits = &request->attempt.upstream->limits;
    struct shm_upstream_sh *row = shm_upstream(request->worker->map, request->attempt.upstream_row);
    int64_t now_mono_ns = clock_mono_ns();
    return_gauge(&row->in_flight);
    if (!used) {
        shm_bucket_return(&row->token_bucket_ns, limits->tokens_per_minute, permits->upstream_tokens, now_mono_ns);
        shm_bucket_return(&row->request_bucket_ns, limits->requests_per_minute,
                          request->attempt.head.status == 0 ? 1 : 0, now_mono_ns);
    }
    permits->upstream_in_flight = permits->upstream_request = false;
    permits->upstream_tokens = 0;
}

static void correct_tokens(_Atomic uint64_t *bucket, int64_t per_minute, int64_t *taken, int64_t used) {
    int64_t now_mono_ns = clock_mono_ns();
    if (used > *taken) {
        shm_bucket_charge(bucket, per_minute, used - *taken, now_mono_ns);
    } else {
        shm_bucket_return(bucket, per_minute, *taken - used, now_mono_ns);
    }
    *taken = used;
}

static void return_in_flight(struct request *request) {
    struct request_permits *permits = &request->permits;
    if (permits->key_in_flight) {
        return_gauge(&key_level(request).account->in_flight);
    }
    if (permits->tenant_in_flight) {
        return_gauge(&tenant_level(request).account->in_flight);
    }
    permits->key_in_flight = permits->tenant_in_flight = false;
}

void limits_settle(struct request *request, int64_t used_tokens) {
    struct level key = key_level(request);
    struct level tenant = tenant_level(request);
    return_in_flight(request);
    if (key.limits->tokens_per_minute > 0) {
        correct_tokens(&key.account->token_bucket_ns, key.limits->tokens_per_minute, &request->permits.key_tokens,
                       used_tokens);
    }
    if (tenant.limits->tokens_per_minute > 0) {
        correct_tokens(&tenant.account->token_bucket_ns, tenant.limits->tokens_per_minute,
                       &request->permits.tenant_tokens, used_tokens);
    }
    if (request->permits.upstream_tokens > 0) {
        struct shm_upstream_sh *row = shm_upstream(request->worker->map, request->attempt.upstream_row);
        correct_tokens(&row->token_bucket_ns, request->attempt.upstream->limits.tokens_per_minute,
                       &request->permits.upstream_tokens, used_tokens);
    }
    limits_return_upstream(request, true);
}

void limits_return(struct request *request) {
    struct request_permits *permits = &request->permits;
    struct level key = key_level(request);
    struct level tenant = tenant_level(request);
    int64_t now_mono_ns = clock_mono_ns();
    return_in_flight(request);
    if (permits->key_request) {
        shm_bucket_return(&key.account->request_bucket_ns, key.limits->requests_per_minute, 1, now_mono_ns);
    }
    if (permits->tenant_request) {
        shm_bucket_return(&tenant.account->request_bucket_ns, tenant.limits->requests_per_minute, 1, now_mono_ns);
    }
    shm_bucket_return(&key.account->token_bucket_ns, key.limits->tokens_per_minute, permits->key_tokens, now_mono_ns);
    shm_bucket_return(&tenant.account->token_bucket_ns, tenant.limits->tokens_per_minute, permits->tenant_tokens,
                      now_mono_ns);
    permits->key_request = permits->tenant_request = false;
    permits->key_tokens = permits->tenant_tokens = 0;
    limits_return_upstream(request, false);
}

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
    struct level key = key_level(request);
    struct level tenant = tenant_level(request);
    return tighter(view_of(&key.account->request_bucket_ns, key.limits->requests_per_minute),
                   view_of(&tenant.account->request_bucket_ns, tenant.limits->requests_per_minute));
}

struct limits_view limits_view_tokens(const struct request *request) {
    struct level key = key_level(request);
    struct level tenant = tenant_level(request);
    return tighter(view_of(&key.account->token_bucket_ns, key.limits->tokens_per_minute),
                   view_of(&tenant.account->token_bucket_ns, tenant.limits->tokens_per_minute));
}
