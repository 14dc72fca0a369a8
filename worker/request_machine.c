#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/admit.h"
#include "worker/auth.h"
#include "worker/endpoints.h"
#include "worker/journal_front.h"
#include "worker/journal_reader.h"
#include "worker/queue.h"
#include "worker/relay.h"
#include "worker/reply.h"
#include "worker/request.h"
#include "worker/route.h"
#include "worker/settle.h"
#include "worker/worker_state.h"

/* How long a request waits for a pause of the ledger, which takes milliseconds while everybody is well. */
#define PARKED_NS (2 * NS_PER_S)

#define REQUEST_MAGIC UINT32_C(0x52455155)

enum step_result { STEP_MORE, STEP_WAIT, STEP_DEAD };

static const char *const state_names[REQUEST_STATES] = {
#define STEP(name, edges) [REQUEST_##name] = #name,
#include "worker/request_steps.def"
#undef STEP
};

static const uint32_t state_edges[REQUEST_STATES] = {
#define EDGE(name) | UINT32_C(1) << REQUEST_##name
#define STEP(name, edges) [REQUEST_##name] = 0 edges,
#include "worker/request_steps.def"
#undef STEP
#undef EDGE
};

#define REQUEST_OF(pointer, member) ((struct request *)(void *)((char *)(pointer)-offsetof(struct request, member)))

const char *request_state_name(enum request_state state) { return state_names[state]; }

void request_goto(struct request *request, enum request_state state) {
    CHECK(request->magic == REQUEST_MAGIC);
    CHECK((state_edges[request->state] & UINT32_C(1) << state) != 0);
    LOG(LOG_DEBUG, "request_state", log_text("id", request->id), log_text("from", state_names[request->state]),
        log_text("to", state_names[state]));
    request->state = state;
    request->state_mono_ns[state] = clock_mono_ns();
    loop_timer_clear(request->worker->loop, &request->deadline);
}

void request_post(struct request *request, enum request_state state) {
    CHECK(request->magic == REQUEST_MAGIC);
    if (request->posted == REQUEST_STATES) {
        request->posted = state;
        loop_defer(request->worker->loop, &request->task);
    }
}

bool request_is_posted(const struct request *request) { return request->posted != REQUEST_STATES; }

void request_unpark(struct request *request) {
    if (request->parked) {
        request->parked = false;
        request_post(request, request->state);
    }
    relay_resume(request);
}

void request_fail(struct request *request, struct verdict verdict) {
    if (!request_is_posted(request) && request->state != REQUEST_settle) {
        request->verdict = verdict;
        request_post(request, REQUEST_fail);
    }
}

/* --- the steps: one function a state. STEP_WAIT ones have set a deadline or have something running --- */

static enum step_result step_body(struct request *request) {
    /* libh2o hands a request over when its body is whole. */
    request_goto(request, REQUEST_auth);
    return STEP_MORE;
}

static enum step_result step_auth(struct request *request) {
    struct verdict verdict = endpoint_find(request);
    request->form = client_form_of(request);
    if (verdict.kind == ERROR_NONE && endpoint_needs_key(request->endpoint)) {
        verdict = auth_check(request);
    }
    if (verdict.kind != ERROR_NONE) {
        request->verdict = verdict;
        request_goto(request, REQUEST_fail);
        return STEP_MORE;
    }
    request_goto(request, endpoint_is_local(request->endpoint) ? REQUEST_local : REQUEST_admit);
    return STEP_MORE;
}

static enum step_result step_local(struct request *request) {
    struct verdict verdict = endpoint_answer(request);
    request->verdict = verdict;
    request_goto(request, verdict.kind != ERROR_NONE ? REQUEST_fail
                          : request->reader != NULL  ? REQUEST_follow
                                                     : REQUEST_settle);
    return STEP_MORE;
}

/* While the ledger recomputes balances nothing may change them: the step is taken again afterwards. */
static bool must_park(struct request *request) {
    request->parked = request->worker->paused;
    if (request->parked && request->state != REQUEST_settle) {
        loop_timer_set(request->worker->loop, &request->deadline, clock_mono_ns() + PARKED_NS);
    }
    return request->parked;
}

static enum step_result step_admit(struct request *request) {
    if (must_park(request)) {
        return STEP_WAIT;
    }
    struct verdict verdict = admit_request(request);
    if (verdict.kind != ERROR_NONE) {
        bool waits = verdict.kind == ERROR_rate_limit_exceeded && queue_may_wait(request, &verdict);
        request->verdict = verdict;
        request_goto(request, waits ? REQUEST_queue : REQUEST_fail);
        return STEP_MORE;
    }
    queue_leave(request);
    request->verdict = verdict; /* what it waited for is over */
    if (request->reader != NULL) {
        request_goto(request, REQUEST_follow);
        return STEP_MORE;
    }
    relay_begin(request);
    journal_front_admitted(request);
    request_goto(request, REQUEST_send);
    return STEP_MORE;
}

static enum step_result step_follow(struct request *request) {
    journal_reader_go_on(request);
    return STEP_WAIT;
}

static enum step_result step_queue(struct request *request) {
    loop_timer_set(request->worker->loop, &request->deadline, queue_next_look_mono_ns(request));
    return STEP_WAIT;
}

static enum step_result step_send(struct request *request) {
    relay_stop(request);
    if (must_park(request)) {
        return STEP_WAIT;
    }
    relay_end_try(request);
    enum route_choice choice = route_choose(request);
    if (choice == ROUTE_NONE) {
        request->verdict = request->failure.kind == ERROR_NONE && request->unmapped.kind != ERROR_NONE
                               ? request->unmapped
                               : route_verdict(request);
        request_goto(request, REQUEST_fail);
        return STEP_MORE;
    }
    if (choice == ROUTE_LATER) {
        request_goto(request, REQUEST_backoff);
        return STEP_MORE;
    }
    struct verdict verdict = relay_send(request);
    if (verdict.kind == ERROR_invalid_value) {
        request->unmapped = verdict; /* another route may speak a dialect that has it */
        return STEP_MORE;
    }
    if (verdict.kind != ERROR_NONE) {
        request->verdict = verdict;
        request_goto(request, REQUEST_fail);
        return STEP_MORE;
    }
    request_goto(request, REQUEST_head);
    return STEP_MORE;
}

static enum step_result step_backoff(struct request *request) {
    loop_timer_set(request->worker->loop, &request->deadline, clock_mono_ns() + route_backoff_ns(request));
    return STEP_WAIT;
}

static enum step_result step_head(struct request *request) {
    int64_t wait_ms = request->attempt.upstream->first_byte_timeout_ms;
    loop_timer_set(request->worker->loop, &request->deadline, clock_mono_ns() + wait_ms * NS_PER_MS);
    return STEP_WAIT;
}

static enum step_result step_stream(struct request *request) {
    relay_extend_deadline(request);
    return STEP_WAIT;
}

static enum step_result step_orphan(struct request *request) {
    relay_orphan_begin(request);
    return STEP_WAIT;
}

static enum step_result step_fail(struct request *request) {
    relay_stop(request);
    queue_leave(request);
    if (request->front != NULL) {
        reply_error(request);
    }
    request_goto(request, REQUEST_settle);
    return STEP_MORE;
}

static enum step_result step_settle(struct request *request) {
    relay_stop(request);
    queue_leave(request);
    if (request->slot >= 0 && must_park(request)) {
        return STEP_WAIT;
    }
    settle_request(request);
    request_goto(request, REQUEST_dead);
    return STEP_MORE;
}

static void unlink_request(struct request *request) {
    struct worker *worker = request->worker;
    *(request->previous != NULL ? &request->previous->next : &worker->requests) = request->next;
    if (request->next != NULL) {
        request->next->previous = request->previous;
    }
    worker->request_count--;
}

static enum step_result step_dead(struct request *request) {
    struct loop *loop = request->worker->loop;
    CHECK(request->slot < 0 && request->attempt.call == NULL);
    if (request->front != NULL) {
        request->front->request = NULL;
    }
    loop_timer_clear(loop, &request->deadline);
    loop_timer_clear(loop, &request->heartbeat);
    loop_task_cancel(loop, &request->task);
    journal_front_leave(request);
    journal_front_close(request);
    journal_reader_close(request);
    unlink_request(request);
    relay_free(request);
    buffer_fini(&request->upstream_body);
    buffer_fini(&request->own_body);
    arena_fini(&request->arena);
    request->magic = 0;
    free(request);
    return STEP_DEAD;
}

static enum step_result (*const steps[REQUEST_STATES])(struct request *request) = {
    [REQUEST_body] = step_body,       [REQUEST_auth] = step_auth,     [REQUEST_local] = step_local,
    [REQUEST_admit] = step_admit,     [REQUEST_queue] = step_queue,   [REQUEST_send] = step_send,
    [REQUEST_backoff] = step_backoff, [REQUEST_head] = step_head,     [REQUEST_stream] = step_stream,
    [REQUEST_orphan] = step_orphan,   [REQUEST_follow] = step_follow, [REQUEST_fail] = step_fail,
    [REQUEST_settle] = step_settle,   [REQUEST_dead] = step_dead,
};

static void drive(struct request *request) {
    while (steps[request->state](request) == STEP_MORE) {
    }
}

/* --- events --- */

static void on_turn_end(struct loop_task *task) {
    struct request *request = REQUEST_OF(task, task);
    enum request_state next = request->posted;
    request->posted = REQUEST_STATES;
    if (next != request->state) {
        request_goto(request, next);
    }
    drive(request);
}

static void on_deadline(struct loop_timer *timer) {
    struct request *request = REQUEST_OF(timer, deadline);
    switch (request->state) {
    case REQUEST_admit:
    case REQUEST_send:
        request_fail(request, verdict_of(ERROR_overloaded));
        break;
    case REQUEST_queue:
        request_post(request, REQUEST_admit);
        break;
    case REQUEST_backoff:
        request_post(request, REQUEST_send);
        break;
    case REQUEST_head:
    case REQUEST_stream:
        relay_on_timeout(request);
        break;
    case REQUEST_orphan:
        request_post(request, REQUEST_settle);
        break;
    default:
        break;
    }
}

static void on_heartbeat(struct loop_timer *timer) { relay_heartbeat(REQUEST_OF(timer, heartbeat)); }

/* A request of the worker's, not linked to any front. */
static struct request *make_request(struct worker *worker, const char *client) {
    struct request *request = calloc(1, sizeof(*request));
    if (request == NULL) {
        return NULL;
    }
    request->magic = REQUEST_MAGIC;
    request->posted = REQUEST_STATES;
    request->worker = worker;
    request->slot = -1;
    request->pair_row = SHM_NO_ROW;
    request->queue.place = -1;
    request->start_wall_ns = clock_wall_ns();
    request->state_mono_ns[REQUEST_body] = clock_mono_ns();
    request->task.run = on_turn_end;
    request->deadline.on_fire = on_deadline;
    request->heartbeat.on_fire = on_heartbeat;
    (void)span_copy(span_text(client), request->client, sizeof(request->client));
    arena_init(&request->arena, REQUEST_ARENA_BYTES);
    buffer_init(&request->upstream_body, (size_t)worker->conf->request_limits.body_bytes + 4096);
    buffer_init(&request->own_body, (size_t)worker->conf->request_limits.body_bytes + 4096);
    request->next = worker->requests;
    if (request->next != NULL) {
        request->next->previous = request;
    }
    worker->requests = request;
    worker->request_count++;
    return request;
}

struct request *request_new(struct worker *worker, struct front *front, const struct request_input *input) {
    struct request *request = make_request(worker, input->client);
    if (request == NULL) {
        return NULL;
    }
    request->state = REQUEST_body;
    request->posted = REQUEST_body;
    request->front = front;
    request->input = *input;
    request->input.client = request->client;
    (void)span_copy(input->path, request->log_path, sizeof(request->log_path));
    worker_count(worker, SHM_COUNTER_requests, 1);
    front->request = request;
    reply_choose_id(request);
    loop_defer(worker->loop, &request->task);
    return request;
}

struct request *request_split(struct request *request) {
    struct request *carrier = make_request(request->worker, request->client);
    if (carrier == NULL) {
        return NULL;
    }
    carrier->state = REQUEST_follow;
    carrier->is_carrier = true;
    carrier->endpoint = request->endpoint;
    carrier->form = request->form;
    carrier->input = request->input;
    carrier->input.client = carrier->client;
    carrier->has_key = request->has_key;
    carrier->key_index = request->key_index;
    carrier->key = request->key;
    carrier->tenant = request->tenant;
    memcpy(carrier->id, request->id, sizeof(carrier->id));
    memcpy(carrier->log_path, request->log_path, sizeof(carrier->log_path));
    carrier->front = request->front;
    carrier->front->request = carrier;
    request->front = NULL;
    request->input.method = request->input.path = request->input.query = request->input.target = SPAN_EMPTY;
    return carrier;
}

void request_client_gone(struct request *request) {
    CHECK(request->magic == REQUEST_MAGIC);
    request->front->request = NULL;
    request->front = NULL;
    request->client_left = true;
    request->input.method = request->input.path = request->input.query = request->input.target = request->input.body =
        SPAN_EMPTY;
    worker_count(request->worker, SHM_COUNTER_client_gone, 1);
    if (request->posted == REQUEST_body) {
        request->posted = REQUEST_settle;
        return;
    }
    request->left_upstream_working = request->attempt.call != NULL && (!request_is_posted(request) || request->served);
    if (request->posted == REQUEST_send || request->posted == REQUEST_admit) {
        /* It was about to go on; there is nobody to go on for any more. */
        request->posted = REQUEST_settle;
        return;
    }
    request_post(request, relay_may_orphan(request) ? REQUEST_orphan : REQUEST_settle);
}

void request_cancel(struct request *request) {
    request_client_gone(request);
    if (request->posted == REQUEST_orphan) {
        request->posted = REQUEST_settle;
    }
}

void request_drained(struct request *request) {
    if (request->fed_by != NULL) {
        journal_front_drained(request->fed_by);
    } else if (request->reader != NULL) {
        journal_reader_go_on(request);
    } else {
        relay_resume(request);
    }
}
