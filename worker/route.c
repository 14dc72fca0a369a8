#include "worker/route.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "shm/shm_breaker.h"
#include "worker/admit.h"
#include "worker/auth.h"
#include "worker/body.h"
#include "worker/dialect.h"
#include "worker/limits.h"
#include "worker/worker_state.h"

/* Routes already tried are remembered in one word: bit = running number over the model and its fallbacks. */
enum { TRIED_BITS = 64 };

int route_resolve_rules(const struct request *request, int model) {
    const struct conf *conf = request->worker->conf;
    for (int depth = 0; depth < conf->model_count && conf->models[model].rule_count > 0; depth++) {
        const struct conf_model *rules = &conf->models[model];
        int next = -1;
        for (int i = 0; i < rules->rule_count && next < 0; i++) {
            const struct conf_rule *rule = &rules->rules[i];
            bool fits = (rule->prompt_tokens_below == 0 || request->chat.prompt_tokens < rule->prompt_tokens_below) &&
                        (rule->tools == CONF_ANY || (rule->tools == CONF_YES) == request->chat.has_tools) &&
                        (rule->stream == CONF_ANY || (rule->stream == CONF_YES) == request->stream);
            next = fits ? rule->model : -1;
        }
        if (next < 0) {
            return -1;
        }
        model = conf_model_resolve(conf, next);
    }
    return model;
}

/* The number of a model in the order of trying: 0 the one asked for, then its fallbacks. */
static int model_at(const struct request *request, int place) {
    const struct conf *conf = request->worker->conf;
    const struct conf_model *asked = &conf->models[request->model_asked];
    return place == 0 ? request->model_asked : conf_model_resolve(conf, asked->fallback[place - 1]);
}

static int model_places(const struct request *request) {
    return 1 + request->worker->conf->models[request->model_asked].fallback_count;
}

static int first_bit(const struct request *request, int place) {
    int bit = 0;
    for (int i = 0; i < place; i++) {
        bit += request->worker->conf->models[model_at(request, i)].route_count;
    }
    return bit;
}

static struct shm_upstream_sh *row_of(const struct request *request, int upstream, uint32_t *row) {
    *row = request->worker->heritage->upstream_rows[upstream];
    return shm_upstream(request->worker->map, *row);
}

static bool is_open(const struct request *request, const struct conf_route *route) {
    uint32_t row = 0;
    const struct shm_upstream_sh *upstream = row_of(request, route->upstream, &row);
    int64_t until = atomic_load_explicit(&upstream->breaker_open_until_mono_ns, memory_order_acquire);
    return until != 0 && clock_mono_ns() < until;
}

static bool is_usable(const struct request *request, const struct conf_route *route) {
    return !is_open(request, route) && body_fits(request, &request->worker->conf->upstreams[route->upstream]);
}

bool route_fits_any(const struct request *request) {
    const struct conf *conf = request->worker->conf;
    for (int place = 0; place < model_places(request); place++) {
        const struct conf_model *model = &conf->models[model_at(request, place)];
        for (int i = 0; i < model->route_count; i++) {
            if (body_fits(request, &conf->upstreams[model->routes[i].upstream])) {
                return true;
            }
        }
    }
    return false;
}

/* Picks by weight among the usable routes of the first group that has one. `skip` holds the routes not to take. -1:
 * none. */
static int pick_route(const struct request *request, const struct conf_model *model, int bit, uint64_t skip) {
    int group = -1;
    int64_t weights = 0;
    for (int i = 0; i < model->route_count; i++) {
        const struct conf_route *route = &model->routes[i];
        bool usable = bit + i < TRIED_BITS && (skip >> (bit + i) & 1) == 0 && is_usable(request, route);
        if (usable && (group < 0 || route->priority == group)) {
            group = route->priority;
            weights += route->weight;
        }
    }
    if (weights == 0) {
        return -1;
    }
    uint32_t random = 0;
    random_bytes(&random, sizeof(random));
    int64_t at = (int64_t)(random % (uint64_t)weights);
    for (int i = 0; i < model->route_count; i++) {
        const struct conf_route *route = &model->routes[i];
        bool usable = bit + i < TRIED_BITS && (skip >> (bit + i) & 1) == 0 && is_usable(request, route);
        if (usable && route->priority == group && (at -= route->weight) < 0) {
            return i;
        }
    }
    return -1;
}

static struct request_failure upstream_is_full(enum verdict_shortage shortage, int64_t wait_ns, bool is_guess) {
    return (struct request_failure){.kind = ERROR_rate_limit_exceeded,
                                    .retry_after_ms = (wait_ns + NS_PER_MS - 1) / NS_PER_MS,
                                    .same_route = true,
                                    .is_guess = is_guess,
                                    .shortage = shortage};
}

/* Is this route's upstream ready: limits, breaker? Sets the attempt. The breaker is asked last, since the one probe
 * that it lets through must be sent. */
static bool claim(struct request *request, int place, int route_index) {
    struct worker *worker = request->worker;
    struct request_try *attempt = &request->attempt;
    *attempt = (struct request_try){.model = model_at(request, place)};
    attempt->route = &worker->conf->models[attempt->model].routes[route_index];
    attempt->upstream = &worker->conf->upstreams[attempt->route->upstream];
    attempt->dialect = dialect_of(attempt->upstream);
    struct shm_upstream_sh *row = row_of(request, attempt->route->upstream, &attempt->upstream_row);
    int64_t tokens = limits_first_tokens(request);
    int64_t wait_ns = request->ignores_learned ? 0 : limits_learned_wait_ns(request, tokens);
    if (wait_ns > 0) {
        request->failure = upstream_is_full(SHORT_OF_REQUESTS, wait_ns, true);
        return false;
    }
    enum verdict_shortage shortage = limits_take_upstream(request, tokens, &wait_ns);
    if (shortage != SHORT_OF_NOTHING) {
        request->failure = upstream_is_full(shortage, wait_ns, false);
        return false;
    }
    if (!shm_breaker_allows(row, worker->conf->breaker.cooldown_ms * NS_PER_MS, clock_mono_ns())) {
        limits_return_upstream(request, false);
        return false;
    }
    return true;
}

/* A fallback must be allowed to the key and priced for it as the model asked for was. */
static bool may_serve(const struct request *request, int place) {
    int model = model_at(request, place);
    return place == 0 || (auth_allows_model(request, model) && admit_may_price(request, model));
}

/* Tries the places in order from first_place on, skipping the routes in `skip`. */
static bool choose_from(struct request *request, int first_place, uint64_t skip) {
    int places = model_places(request);
    for (int place = first_place; place < places; place++) {
        const struct conf_model *model = &request->worker->conf->models[model_at(request, place)];
        int bit = first_bit(request, place);
        if (!may_serve(request, place)) {
            continue;
        }
        for (int route = pick_route(request, model, bit, skip); route >= 0;
             route = pick_route(request, model, bit, skip)) {
            CHECK(bit + route >= 0 && bit + route < TRIED_BITS);
            skip |= UINT64_C(1) << (bit + route);
            if (claim(request, place, route)) {
                request->tried_routes |= UINT64_C(1) << (bit + route);
                request->fallbacks_used += place > 0 ? 1 : 0;
                return true;
            }
        }
    }
    return false;
}

/* With one try left a fallback goes before another route of the same model, so that a fallback is reached however many
 * routes there are. */
static bool choose_among(struct request *request, uint64_t skip) {
    bool last_try = request->attempts > 0 && request->attempts + 1 == request->worker->conf->retry.attempts;
    bool fallback_first = last_try && request->fallbacks_used == 0 && model_places(request) > 1;
    return (fallback_first && choose_from(request, 1, skip)) || choose_from(request, 0, skip);
}

/* One wait before a route is tried again; while an upstream's rate limit has no room as many as fit into
 * conf.retry.max. */
static bool may_back_off(struct request *request) {
    int64_t now_mono_ns = clock_mono_ns();
    if (!request->failure.same_route || request->failure.retry_after_ms > request->worker->conf->retry.max_ms) {
        return false;
    }
    if (!request->backed_off) {
        request->backed_off = true;
        request->backed_off_mono_ns = now_mono_ns;
        return true;
    }
    int64_t waited_ms = (now_mono_ns - request->backed_off_mono_ns) / NS_PER_MS;
    return request->failure.kind == ERROR_rate_limit_exceeded &&
           waited_ms + request->failure.retry_after_ms <= request->worker->conf->retry.max_ms;
}

/* What was learned of an upstream's limits steers and delays; it is a guess and refuses nobody. */
static bool choose_unlearned(struct request *request) {
    if (!request->failure.is_guess || request->ignores_learned) {
        return false;
    }
    request->ignores_learned = true;
    return choose_among(request, 0);
}

enum route_choice route_choose(struct request *request) {
    if (request->attempts >= request->worker->conf->retry.attempts || request->failure.final) {
        return ROUTE_NONE;
    }
    if (choose_among(request, request->tried_routes)) {
        return ROUTE_CHOSEN;
    }
    if (request->backed_off && request->failure.same_route && choose_among(request, 0)) {
        request->backed_off = false;
        return ROUTE_CHOSEN;
    }
    if (may_back_off(request)) {
        return ROUTE_LATER;
    }
    return choose_unlearned(request) ? ROUTE_CHOSEN : ROUTE_NONE;
}

struct verdict route_verdict(const struct request *request) {
    const struct request_failure *failure = &request->failure;
    if (failure->kind == ERROR_NONE) {
        return verdict_of(ERROR_no_upstream_available);
    }
    struct verdict verdict = verdict_of(failure->kind);
    if (failure->kind == ERROR_rate_limit_exceeded) {
        const char *what = failure->shortage == SHORT_OF_CONCURRENT ? "concurrent"
                           : failure->shortage == SHORT_OF_TOKENS   ? "tokens"
                                                                    : "requests";
        int64_t wait_ms = failure->retry_after_ms > 0 ? failure->retry_after_ms : 1000;
        verdict = verdict_with(failure->kind, NULL,
                               "The %s limit of the upstream of this model is reached. Try again in %lld.%03llds.",
                               what, (long long)(wait_ms / 1000), (long long)(wait_ms % 1000));
        verdict.retry_after_ms = wait_ms;
    } else if (failure->kind == ERROR_overloaded) {
        verdict = verdict_with(failure->kind, NULL, "The provider is overloaded. Try again in a moment.");
        verdict.retry_after_ms = failure->retry_after_ms;
    }
    return verdict;
}

/* Doubles from conf.retry.base to conf.retry.max, with up to a quarter taken off so that clients do not move in step.
 */
int64_t route_backoff_ns(const struct request *request) {
    const struct conf *conf = request->worker->conf;
    int64_t delay_ms = conf->retry.base_ms;
    for (int i = 1; i < request->attempts && delay_ms < conf->retry.max_ms; i++) {
        delay_ms *= 2;
    }
    delay_ms = delay_ms < conf->retry.max_ms ? delay_ms : conf->retry.max_ms;
    uint32_t random = 0;
    random_bytes(&random, sizeof(random));
    int64_t delay_ns = delay_ms * NS_PER_MS - (int64_t)(random % 256) * delay_ms * NS_PER_MS / 1024;
    int64_t asked_ns = request->failure.retry_after_ms * NS_PER_MS;
    return delay_ns > asked_ns ? delay_ns : asked_ns;
}

void route_succeeded(struct request *request) {
    struct shm_upstream_sh *row = shm_upstream(request->worker->map, request->attempt.upstream_row);
    shm_breaker_succeeded(row);
}

void route_failed(struct request *request, enum shm_upstream_error error, bool counts_for_breaker) {
    const struct conf *conf = request->worker->conf;
    struct shm_upstream_sh *row = shm_upstream(request->worker->map, request->attempt.upstream_row);
    (void)atomic_fetch_add_explicit(&row->errors[error], 1, memory_order_relaxed);
    if (counts_for_breaker && shm_breaker_failed(row, conf->breaker.failures, conf->breaker.window_ms * NS_PER_MS,
                                                 conf->breaker.cooldown_ms * NS_PER_MS, clock_mono_ns())) {
        LOG(LOG_WARN, "breaker_opened", log_text("upstream", request->attempt.upstream->name));
    }
}
