#include "worker/admit.h"

#include "base/clock.h"
#include "shm/shm_ids.h"
#include "worker/auth.h"
#include "worker/body.h"
#include "worker/budget.h"
#include "worker/endpoints.h"
#include "worker/limits.h"
#include "worker/queue.h"
#include "worker/reply.h"
#include "worker/resume.h"
#include "worker/route.h"
#include "worker/worker_state.h"

/* Our count of the prompt is an estimate: only what is this many times the context is refused here, the rest is the
 * upstream's to judge. */
enum { SURELY_TOO_LONG = 10 };

static struct verdict find_model(struct request *request) {
    const struct conf *conf = request->worker->conf;
    int asked = conf_model_index(conf, span_text(request->chat.model));
    if (asked < 0) {
        return verdict_with(ERROR_model_not_found, "model",
                            "There is no such model here. GET /v1/models lists those there are.");
    }
    (void)span_copy(span_text(conf->models[asked].name), request->model_name, sizeof(request->model_name));
    request->model_asked = route_resolve_rules(request, conf_model_resolve(conf, asked));
    if (request->model_asked < 0) {
        return verdict_with(ERROR_model_not_found, "model", "No rule of this model fits the request.");
    }
    if (!auth_allows_model(request, request->model_asked)) {
        struct verdict verdict = verdict_of(ERROR_model_not_allowed);
        (void)span_copy(SPAN_LITERAL("model"), verdict.param, sizeof(verdict.param));
        return verdict;
    }
    const struct conf_model *model = &conf->models[request->model_asked];
    if (model->context_tokens > 0 && request->chat.prompt_tokens / SURELY_TOO_LONG > model->context_tokens) {
        return verdict_with(ERROR_context_length_exceeded, "messages",
                            "The prompt has about %lld tokens; this model's context is %lld. Shorten it.",
                            (long long)request->chat.prompt_tokens, (long long)model->context_tokens);
    }
    return route_fits_any(request) ? verdict_of(ERROR_NONE) : body_misfit(request);
}

/* The price that holds now: the price book's, else the file's. */
static bool price_of_model(const struct request *request, int model, struct price *out) {
    const struct conf_model *configured = &request->worker->conf->models[model];
    *out = configured->price;
    return shm_price_at(request->worker->map, span_text(configured->name), request->start_wall_ns, out) ||
           configured->has_price;
}

bool admit_may_price(const struct request *request, int model) {
    struct price price;
    return !budget_applies(request) || price_of_model(request, model, &price);
}

static void fill_record(struct request *request) {
    struct shm_slot_sh *slot = request->shared;
    struct shm_usage_record_sh *record = &slot->record;
    slot->key_index = request->key_index;
    slot->tenant_index = request->key.tenant_index;
    slot->pair_row = request->pair_row;
    record->start_wall_ns = request->start_wall_ns;
    record->wait_ns = queue_waited_ns(request);
    record->tenant_id = request->key.tenant_index;
    record->key_number = request->key_index;
    record->markup = request->tenant.markup;
    record->tokens.input_tokens = request->chat.prompt_tokens;
    record->flags = SHM_RECORD_ESTIMATED | (request->stream ? (uint32_t)SHM_RECORD_STREAM : 0) |
                    (request->id_from_client ? (uint32_t)SHM_RECORD_CLIENT_ID : 0);
    record->endpoint = (uint8_t)endpoint_number(request->endpoint);
    (void)span_copy(span_text(request->id), record->id, sizeof(record->id));
    (void)span_copy(span_text(request->model_name), record->model_asked, sizeof(record->model_asked));
    (void)span_copy(span_text(request->chat.end_user), record->end_user, sizeof(record->end_user));
    (void)span_copy(span_text(request->client), record->client, sizeof(record->client));
}

void admit_price_route(struct request *request) {
    struct shm_usage_record_sh *record = &request->shared->record;
    const struct conf_model *model = &request->worker->conf->models[request->attempt.model];
    const struct conf_route *route = request->attempt.route;
    struct price none = {0, 0, 0, 0};
    record->flags &= ~(uint32_t)SHM_RECORD_MODEL_PRICED;
    if (price_of_model(request, request->attempt.model, &record->price)) {
        record->flags |= SHM_RECORD_MODEL_PRICED;
    } else {
        record->price = none;
    }
    record->cost = route->has_cost ? route->cost : none;
    record->list_price = model->has_list_price ? model->list_price : record->price;
    (void)span_copy(span_text(model->name), record->model_served, sizeof(record->model_served));
    (void)span_copy(span_text(request->attempt.upstream->name), record->upstream, sizeof(record->upstream));
    request->shared->upstream_row = request->attempt.upstream_row;
}

/* One that waits for its rate has been taken on: the end of the server does not cut its wait short. */
static bool server_takes_work(const struct request *request) {
    const struct shm_header_sh *header = request->worker->map->header;
    bool is_ending = request->worker->refusing || atomic_load_explicit(&header->draining, memory_order_relaxed) != 0;
    return (!is_ending || request->queue.place >= 0) &&
           atomic_load_explicit(&header->ledger_refuses, memory_order_relaxed) == 0;
}

void admit_claim_id(struct request *request) {
    if (!request->id_from_client || request->id_claimed) {
        return;
    }
    request->id_claimed = shm_id_claim(request->worker->map, request->key.tenant_index, request->id);
    if (!request->id_claimed) {
        request->id_from_client = false;
        reply_make_id(request->id);
    }
}

static struct verdict take_slot(struct request *request) {
    struct worker *worker = request->worker;
    request->slot = shm_slot_take(worker->slots);
    if (request->slot < 0) {
        limits_return(request);
        return verdict_of(ERROR_overloaded);
    }
    admit_claim_id(request);
    request->shared = shm_slot(worker->map, worker->heritage->seat, (uint32_t)request->slot);
    fill_record(request);
    shm_slot_go_live(worker->slots, request->slot);
    worker_count(worker, SHM_COUNTER_admitted, 1);
    return verdict_of(ERROR_NONE);
}

static struct verdict check(struct request *request) {
    struct verdict verdict = body_read(request);
    if (verdict.kind == ERROR_NONE) {
        verdict = find_model(request);
    }
    if (verdict.kind == ERROR_NONE && !admit_may_price(request, request->model_asked)) {
        verdict = verdict_of(ERROR_model_not_priced);
    }
    return verdict.kind == ERROR_NONE ? resume_begin(request) : verdict;
}

/* It has waited: its key and tenant may have been changed, or revoked, meanwhile. */
static struct verdict check_again(struct request *request) {
    struct verdict verdict = auth_check_again(request);
    if (verdict.kind == ERROR_NONE && !auth_allows_model(request, request->model_asked)) {
        verdict = verdict_of(ERROR_model_not_allowed);
    }
    if (verdict.kind == ERROR_NONE && !admit_may_price(request, request->model_asked)) {
        verdict = verdict_of(ERROR_model_not_priced);
    }
    return verdict;
}

/* Takes the limits, unless others of its key stand before it. */
static struct verdict take_turn(struct request *request) {
    int64_t tokens = limits_first_tokens(request);
    int64_t before = queue_count_before(request);
    return before != 0 ? limits_refuse_behind(request, tokens, before) : limits_take(request, tokens);
}

struct verdict admit_request(struct request *request) {
    struct verdict verdict = {.kind = ERROR_NONE};
    if (!server_takes_work(request)) {
        return verdict_with(ERROR_overloaded, NULL, "This server takes no new requests at the moment. Try again.");
    }
    if (request->is_checked) {
        verdict = check_again(request);
    } else {
        verdict = check(request);
        request->is_checked = verdict.kind == ERROR_NONE;
    }
    if (verdict.kind == ERROR_NONE && request->reader != NULL) {
        return verdict; /* another request's answer is this one's too: nothing is taken */
    }
    if (verdict.kind == ERROR_NONE) {
        verdict = take_turn(request);
    }
    return verdict.kind == ERROR_NONE ? take_slot(request) : verdict;
}
