#include "worker/relay.h"

#include "base/clock.h"
#include "base/log.h"
#include "worker/admit.h"
#include "worker/body.h"
#include "worker/budget.h"
#include "worker/dialect.h"
#include "worker/dialect_openai.h"
#include "worker/endpoints.h"
#include "worker/limits.h"
#include "worker/relay_failure.h"
#include "worker/reply.h"
#include "worker/route.h"
#include "worker/settle.h"
#include "worker/worker_state.h"

enum {
    EVENT_BYTES_MOST = 8 << 20,
    ANSWER_BYTES_MOST = 64 << 20,
    ERROR_BODY_BYTES_MOST = 64 << 10,
    PENDING_BYTES_HIGH = 64 << 10, /* hold the upstream back above */
    PENDING_BYTES_LOW = 16 << 10,  /* and let it go on below */
    ORPHAN_BYTES_MOST = 8 << 20,
    PATH_BYTES_MOST = 1024,
};

/* How long an orphan may take to end by itself. */
#define ORPHAN_NS (120 * NS_PER_S)

void relay_begin(struct request *request) {
    answer_listener_init(&request->listener);
    sse_init(&request->splitter, EVENT_BYTES_MOST);
    stream_end_init(&request->end, request->form);
    buffer_init(&request->answer, ANSWER_BYTES_MOST);
    if (request->stream) {
        loop_timer_set(request->worker->loop, &request->heartbeat,
                       clock_mono_ns() + request->worker->conf->streams.heartbeat_ms * NS_PER_MS);
    }
}

/* --- towards the client --- */

static void write_client(struct request *request, struct span bytes) {
    if (request->front == NULL) {
        return;
    }
    reply_start_stream(request);
    request->front->driver->write(request->front, bytes);
    request->last_write_mono_ns = clock_mono_ns();
}

void relay_heartbeat(struct request *request) {
    int64_t interval_ns = request->worker->conf->streams.heartbeat_ms * NS_PER_MS;
    int64_t now_mono_ns = clock_mono_ns();
    if (request->front == NULL) {
        return;
    }
    if (now_mono_ns - request->last_write_mono_ns >= interval_ns && !request_is_posted(request)) {
        write_client(request, client_form_heartbeat(request->form));
        worker_count(request->worker, SHM_COUNTER_heartbeats, 1);
    }
    int64_t next_mono_ns = request->last_write_mono_ns + interval_ns;
    loop_timer_set(request->worker->loop, &request->heartbeat,
                   next_mono_ns > now_mono_ns ? next_mono_ns : now_mono_ns + interval_ns);
}

/* --- the answer of an upstream --- */

static void fail_or_retry(struct request *request, struct request_failure failure) {
    request->failure = failure;
    request->failure.final |= request->chat.is_bound;
    if (request->front == NULL) {
        request_post(request, REQUEST_settle);
    } else if (request->served) {
        request_fail(request, verdict_of(failure.kind));
    } else {
        request_post(request, REQUEST_send);
    }
}

static void on_head(void *context, const struct upstream_head *head) {
    struct request *request = context;
    request->attempt.head = *head;
    request->upstream_wait_ns += clock_mono_ns() - request->sent_upstream_mono_ns;
    limits_hear_upstream(request);
    if (request_is_posted(request)) {
        return;
    }
    bool is_array = head->content == UPSTREAM_JSON && request->attempt.upstream->dialect == CONF_DIALECT_GEMINI;
    if (head->status / 100 == 2 && !head->encoded && request->stream &&
        (head->content == UPSTREAM_EVENT_STREAM || is_array)) {
        request->reads_elements = is_array;
        request_goto(request, REQUEST_stream);
    }
    relay_extend_deadline(request);
}

/* The first of the answer's content is on its way. */
static void note_first_byte(struct request *request) {
    request->first_byte_wall_ns = clock_wall_ns();
    shm_histogram_add(&request->worker->seat->time_to_first_token,
                      clock_mono_ns() - request->state_mono_ns[REQUEST_body]);
}

/* An event as its upstream sent it, or with the cost added to its usage. */
static void pass_raw(struct request *request, const struct sse_event *event, const struct answer_event *heard) {
    bool has_usage_chunks = request->form == CLIENT_CHAT || request->form == CLIENT_COMPLETIONS;
    if (has_usage_chunks && heard->is_usage_only && !request->chat.include_usage) {
        return;
    }
    if (has_usage_chunks && heard->has_usage && request->chat.include_usage && event->data_in_raw) {
        struct buffer *text = &request->worker->scratch_text;
        buffer_clear(text);
        if (openai_add_cost(event->raw, heard->usage_raw, settle_price_nusd(request), text)) {
            write_client(request, buffer_span(text));
            return;
        }
    }
    write_client(request, event->raw);
}

/* The one place where an event leaves: counted first, then written. */
static void pass_on(struct request *request, const struct sse_event *event, const struct answer_event *heard) {
    if (heard->has_choices && request->listener.text_events > 0 && request->first_byte_wall_ns == 0) {
        note_first_byte(request);
    }
    struct span told = request->translation != NULL ? translation_take(request->translation) : event->raw;
    /* An event that says nothing in the client's dialect leaves other routes open. */
    request->served |= heard->has_choices && told.len != 0;
    if (request->translation == NULL) {
        stream_end_note(&request->end, event->name, event->data);
        pass_raw(request, event, heard);
    } else if (told.len != 0) {
        write_client(request, told);
    }
    worker_count(request->worker, SHM_COUNTER_events_relayed, 1);
}

/* What a translated answer ends with, and what its upstream does not say in words. False: it cannot be told, and must
 * not look complete. */
static bool end_translation(struct request *request, enum answer_finish finish) {
    struct translation *translation = request->translation;
    const struct answer_sink *sink = translation_sink(translation);
    if (finish == ANSWER_FINISH_NONE && request->attempt.dialect->hear_end != NULL) {
        request->attempt.dialect->hear_end(&request->listener, sink);
    }
    if (!translation_end(translation, finish, request->chat.include_usage, &request->shared->record.tokens,
                         settle_price_nusd(request))) {
        route_failed(request, SHM_UPSTREAM_INVALID, false);
        fail_or_retry(request, failure_of_garbage());
        return false;
    }
    write_client(request, translation_take(translation));
    return true;
}

/* What may still come of the exchange after its end is the connection's own affair. */
static void complete_stream(struct request *request) {
    if (request->translation != NULL) {
        settle_count(request);
        if (!end_translation(request, ANSWER_FINISH_NONE)) {
            return;
        }
    }
    route_succeeded(request);
    request->served = true;
    if (request->front != NULL) {
        reply_start_stream(request);
        request->front->driver->end(request->front, true);
    }
    if (request->attempt.call != NULL) {
        upstream_let_go(request->attempt.call);
        request->attempt.call = NULL;
    }
    request_post(request, REQUEST_settle);
}

/* The money is used up: a clean end, as if the output cap had been reached. */
static void end_for_budget(struct request *request) {
    struct buffer *text = &request->worker->scratch_text;
    request->budget_ended = true;
    request->served = true;
    settle_count(request);
    if (request->translation != NULL) {
        if (!end_translation(request, ANSWER_FINISH_LENGTH)) {
            return;
        }
    } else {
        buffer_clear(text);
        client_form_write_end(request, text);
        write_client(request, buffer_span(text));
    }
    if (request->front != NULL) {
        request->front->driver->end(request->front, true);
    }
    request_post(request, REQUEST_settle);
}

/* Blocks without data: comments go on where their form has them, and a bare JSON error is one. */
static void on_no_data(struct request *request, const struct sse_event *event) {
    struct span raw = event->raw;
    if (event->is_comment_only && request->translation == NULL) {
        write_client(request, raw);
    } else if (raw.len != 0 && (raw.base[0] == '{' || raw.base[0] == '[')) {
        fail_or_retry(request, failure_of_stream_error());
    }
}

/* Hears the event; its parts are told once nothing forbids that they leave, which a budget may. */
static void hear(struct request *request, const struct sse_event *event, struct answer_event *heard, bool tells) {
    const struct answer_sink *sink = tells ? translation_sink(request->translation) : NULL;
    request->attempt.dialect->hear_event(&request->listener, &request->worker->scratch, event->name, event->data, heard,
                                         sink);
}

static bool is_refused(struct request *request, const struct answer_event *heard) {
    if (heard->is_error) {
        route_failed(request, SHM_UPSTREAM_STATUS, false);
        fail_or_retry(request, failure_of_stream_error());
    } else if (heard->is_invalid || (request->translation != NULL && translation_failed(request->translation))) {
        route_failed(request, SHM_UPSTREAM_INVALID, false);
        fail_or_retry(request, failure_of_garbage());
    } else {
        return false;
    }
    return true;
}

static void on_event(struct request *request, const struct sse_event *event) {
    struct answer_event heard;
    if (!event->has_data) {
        on_no_data(request, event);
        return;
    }
    const struct answer_listener before = request->listener;
    bool is_translated = request->translation != NULL;
    bool hears_twice = is_translated && budget_applies(request);
    hear(request, event, &heard, is_translated && !hears_twice);
    if (is_refused(request, &heard)) {
        return;
    }
    settle_count(request);
    limits_charge(request, request->shared->record.tokens.input_tokens + request->shared->record.tokens.output_tokens);
    if (!budget_top_up(request)) {
        request->listener = before;
        end_for_budget(request);
        return;
    }
    if (hears_twice) {
        request->listener = before;
        hear(request, event, &heard, true);
        if (is_refused(request, &heard)) {
            return;
        }
    }
    pass_on(request, event, &heard);
    if (heard.is_done) {
        complete_stream(request);
    }
}

/* The next event of a stream, whichever way it is cut. False: there is none yet, or the request has failed. */
static bool next_event(struct request *request, struct span *bytes, struct sse_event *event) {
    if (request->reads_elements) {
        struct span element = SPAN_EMPTY;
        enum json_elements_result result = json_elements_next(&request->elements, bytes, &element);
        if (result == JSON_ELEMENTS_INVALID || result == JSON_ELEMENTS_TOO_LONG) {
            fail_or_retry(request, failure_of_garbage());
        }
        *event = (struct sse_event){.raw = element, .data = element, .has_data = true};
        return result == JSON_ELEMENTS_ONE;
    }
    enum sse_result result = sse_next(&request->splitter, bytes, event);
    if (result == SSE_TOO_LONG) {
        fail_or_retry(request, failure_of_garbage());
    }
    return result == SSE_EVENT;
}

static void read_stream(struct request *request, struct span bytes) {
    struct sse_event event;
    while (!request_is_posted(request) && next_event(request, &bytes, &event)) {
        on_event(request, &event);
    }
}

static void gather_answer(struct request *request, struct span bytes) {
    bool good = request->attempt.head.status / 100 == 2;
    if (!good && request->answer.len + bytes.len > ERROR_BODY_BYTES_MOST) {
        return;
    }
    buffer_append_span(&request->answer, bytes);
    if (request->answer.failed) {
        fail_or_retry(request, failure_of_garbage());
    }
}

static bool on_bytes(void *context, struct span bytes) {
    struct request *request = context;
    if (request_is_posted(request)) {
        return true;
    }
    if (request->worker->paused ||
        (request->front != NULL && request->front->driver->pending_bytes(request->front) > PENDING_BYTES_HIGH)) {
        request->paused = true;
        loop_timer_clear(request->worker->loop, &request->deadline);
        return false;
    }
    relay_extend_deadline(request);
    switch (request->state) {
    case REQUEST_head:
        gather_answer(request, bytes);
        break;
    case REQUEST_orphan:
        request->orphan_bytes += (int64_t)bytes.len;
        if (request->orphan_bytes > ORPHAN_BYTES_MOST) {
            request_post(request, REQUEST_settle);
        } else if (request->stream) {
            read_stream(request, bytes);
        } else {
            gather_answer(request, bytes);
        }
        break;
    default:
        read_stream(request, bytes);
        break;
    }
    return true;
}

/* --- the end --- */

/* I8: a stream looks complete only if its upstream completed it: by the marker, or by a finish reason and a clean end.
 */
static void end_stream(struct request *request, enum upstream_result result) {
    struct sse_event event;
    if (!request->reads_elements && sse_finish(&request->splitter, &event)) {
        on_event(request, &event);
    }
    if (request_is_posted(request)) {
        return;
    }
    bool is_cut = request->reads_elements && !json_elements_is_over(&request->elements);
    if (result == UPSTREAM_ENDED && !is_cut && request->listener.has_finish) {
        complete_stream(request);
        return;
    }
    route_failed(request, SHM_UPSTREAM_RESET, true);
    fail_or_retry(request, failure_of_early_end());
}

static void answer_client(struct request *request, struct span body) {
    route_succeeded(request);
    request->served = true;
    request->first_byte_wall_ns = clock_wall_ns();
    settle_count(request);
    if (request->front != NULL) {
        reply_json(request, request->attempt.head.status, body);
    }
    request_post(request, REQUEST_settle);
}

/* The answer as its client is to read it. False: it cannot be told. */
static bool tell_answer(struct request *request, struct span *body) {
    *body = buffer_span(&request->answer);
    if (request->translation == NULL) {
        return true;
    }
    struct buffer *text = &request->worker->scratch_text;
    buffer_clear(text);
    settle_count(request);
    bool told = translation_write_whole(request->translation, &request->shared->record.tokens, text);
    *body = buffer_span(text);
    return told;
}

/* A whole answer has come, of any status and kind. */
static void end_answer(struct request *request) {
    const struct upstream_head *head = &request->attempt.head;
    struct answer_event heard;
    if (head->status / 100 != 2) {
        struct request_failure failure = failure_of_status(request, &request->worker->scratch);
        fail_or_retry(request, failure);
        return;
    }
    if (head->encoded) {
        route_failed(request, SHM_UPSTREAM_INVALID, false);
        fail_or_retry(request, failure_of_garbage());
        return;
    }
    struct span body = SPAN_EMPTY;
    request->attempt.dialect->hear_answer(&request->listener, &request->worker->scratch, buffer_span(&request->answer),
                                          &heard,
                                          request->translation != NULL ? translation_sink(request->translation) : NULL);
    bool is_wrong = heard.is_invalid || heard.is_error || request->stream;
    if (is_wrong || !tell_answer(request, &body)) {
        route_failed(request, heard.is_error ? SHM_UPSTREAM_STATUS : SHM_UPSTREAM_INVALID, false);
        fail_or_retry(request, heard.is_error ? failure_of_stream_error() : failure_of_garbage());
        return;
    }
    answer_client(request, body);
}

static void on_end(void *context, enum upstream_result result) {
    struct request *request = context;
    request->attempt.call = NULL;
    if (request_is_posted(request)) {
        return;
    }
    if (request->state == REQUEST_stream || (request->state == REQUEST_orphan && request->stream)) {
        end_stream(request, result);
    } else if (result == UPSTREAM_ENDED) {
        end_answer(request);
    } else {
        route_failed(request, failure_error_of_result(result), true);
        fail_or_retry(request, failure_of_result(request, result));
    }
}

static const struct upstream_receiver receiver = {.on_head = on_head, .on_bytes = on_bytes, .on_end = on_end};

/* --- starting, holding, stopping --- */

static void forget_earlier_try(struct request *request) {
    answer_listener_init(&request->listener);
    answer_listener_expect(&request->listener, span_text(request->attempt.route->model));
    sse_fini(&request->splitter);
    sse_init(&request->splitter, EVENT_BYTES_MOST);
    json_elements_fini(&request->elements);
    json_elements_init(&request->elements, EVENT_BYTES_MOST);
    request->reads_elements = false;
    translation_free(request->translation);
    request->translation = NULL;
    buffer_clear(&request->answer);
    request->paused = false;
}

/* False: no memory. */
static bool begin_translation(struct request *request) {
    if (!body_is_translated(request)) {
        return true;
    }
    const struct translation_spec spec = {
        .form = request->form == CLIENT_MESSAGES ? TRANSLATION_MESSAGES : TRANSLATION_CHAT,
        .request_id = request->id,
        .model = request->model_name,
        .reasoning_format = request->attempt.dialect->reasoning_format,
        .input_tokens = request->chat.prompt_tokens,
        .is_stream = request->stream,
        .cap_bytes = EVENT_BYTES_MOST * 2,
    };
    request->translation = translation_new(&spec);
    return request->translation != NULL;
}

static struct span client_header(const struct request *request, const char *name) {
    return request->front != NULL ? request->front->driver->header(request->front, name) : SPAN_EMPTY;
}

/* Hands the call to the upstream side. False: memory or descriptors are exhausted. */
static bool start_call(struct request *request) {
    struct worker *worker = request->worker;
    const struct conf_upstream *upstream = request->attempt.upstream;
    const char *route_model = request->attempt.route->model;
    const char *model = route_model != NULL ? route_model : worker->conf->models[request->attempt.model].name;
    struct buffer path;
    buffer_init(&path, PATH_BYTES_MOST);
    bool good = dialect_path(upstream, endpoint_upstream_path(request->endpoint), model, request->stream, &path);
    const struct upstream_spec spec = {.upstream = upstream,
                                       .path = buffer_span(&path),
                                       .body = buffer_span(&request->upstream_body),
                                       .stream = request->stream,
                                       .request_id = request->id,
                                       .anthropic_version = client_header(request, "anthropic-version"),
                                       .anthropic_beta = client_header(request, "anthropic-beta"),
                                       .openai_beta = client_header(request, "openai-beta")};
    request->attempt.call = good ? upstream_start(worker->upstreams, &spec, &receiver, request) : NULL;
    buffer_fini(&path);
    return request->attempt.call != NULL;
}

/* The prompt was counted as the model that was asked for counts; what the route leads to may count otherwise. */
static void recount_prompt(struct request *request) {
    const struct tokenizer *tokenizer = tokenizer_of(span_text(request->attempt.route->model));
    request->chat.prompt_tokens =
        estimate_convert(request->chat.prompt_tokens, request->chat.prompt_tokenizer, tokenizer);
    request->chat.prompt_tokenizer = tokenizer;
}

struct verdict relay_send(struct request *request) {
    struct worker *worker = request->worker;
    forget_earlier_try(request);
    recount_prompt(request);
    admit_price_route(request);
    struct verdict verdict = budget_cover(request);
    if (verdict.kind == ERROR_NONE) {
        verdict = body_write(request);
    }
    if (verdict.kind != ERROR_NONE) {
        return verdict;
    }
    request->shared->record.tokens.input_tokens = request->chat.prompt_tokens;
    request->attempts++;
    request->shared->record.attempts = (uint8_t)(request->attempts < UINT8_MAX ? request->attempts : UINT8_MAX);
    request->sent_upstream_mono_ns = clock_mono_ns();
    worker_count(worker, request->attempts > 1 ? SHM_COUNTER_upstream_retries : SHM_COUNTER_upstream_requests, 1);
    (void)atomic_fetch_add_explicit(&shm_upstream(worker->map, request->attempt.upstream_row)->requests, 1,
                                    memory_order_relaxed);
    return verdict_of(begin_translation(request) && start_call(request) ? ERROR_NONE : ERROR_overloaded);
}

void relay_extend_deadline(struct request *request) {
    if (request->state != REQUEST_orphan) {
        loop_timer_set(request->worker->loop, &request->deadline,
                       clock_mono_ns() + request->attempt.upstream->idle_timeout_ms * NS_PER_MS);
    }
}

void relay_on_timeout(struct request *request) {
    route_failed(request, SHM_UPSTREAM_TIMEOUT, true);
    fail_or_retry(request, failure_of_timeout());
}

void relay_resume(struct request *request) {
    bool has_room = request->front == NULL || request->front->driver->pending_bytes(request->front) < PENDING_BYTES_LOW;
    if (request->paused && request->attempt.call != NULL && has_room) {
        request->paused = false;
        relay_extend_deadline(request);
        upstream_resume(request->attempt.call);
    }
}

bool relay_may_orphan(const struct request *request) {
    return request->worker->conf->streams.on_disconnect == CONF_DISCONNECT_DRAIN && request->attempt.call != NULL &&
           (request->state == REQUEST_stream || request->state == REQUEST_head) &&
           request->attempt.head.status / 100 == 2;
}

void relay_orphan_begin(struct request *request) {
    loop_timer_set(request->worker->loop, &request->deadline, clock_mono_ns() + ORPHAN_NS);
    if (request->attempt.call == NULL) {
        request_post(request, REQUEST_settle);
    } else if (request->paused) {
        request->paused = false;
        upstream_resume(request->attempt.call);
    }
}

void relay_stop(struct request *request) {
    if (request->attempt.call != NULL) {
        upstream_cancel(request->attempt.call);
        request->attempt.call = NULL;
    }
}

void relay_end_try(struct request *request) {
    relay_stop(request);
    if (request->attempt.upstream != NULL) {
        limits_return_upstream(request, false);
        request->shared->upstream_row = SHM_NO_ROW;
        request->shared->record.tokens = (struct token_counts){0};
    }
}

void relay_free(struct request *request) {
    sse_fini(&request->splitter);
    json_elements_fini(&request->elements);
    translation_free(request->translation);
    buffer_fini(&request->answer);
}
