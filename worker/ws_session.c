#include "worker/ws_session.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "worker/journal.h"
#include "worker/query.h"
#include "worker/reply.h"
#include "worker/settle.h"
#include "worker/sse.h"
#include "worker/worker_state.h"
#include "worker/ws_answer.h"
#include "worker/ws_handshake.h"

enum {
    EVENT_BYTES_MOST = 17 << 20, /* as large as a translation may make one */
    TEXT_BYTES_MOST = 18 << 20,
    TEXT_BYTES_KEPT = 64 << 10,
    CREDENTIAL_BYTES_MOST = 64 << 10,
    AFTER_BYTES = 12,
    BODY_BYTES_SPARE = 8 << 20, /* what memory and rewriting may add before admission says that a body is too long */
};

struct ws_completion {
    struct front front;
    struct ws_session *session;
    struct ws_completion *next;
    char id[WS_ID_BYTES]; /* as JSON; "" until it has one */
    bool is_id_given;
    bool is_resumable; /* asked for */
    bool is_resume;    /* of an earlier one's stream */
    bool is_numbered;  /* its events carry ids */
    bool has_begun;
    bool is_over; /* to be reaped */
    struct buffer body;
    struct span asked;           /* its own messages, in body */
    struct ws_position position; /* RESUME: what its client has */
    char after[AFTER_BYTES];     /* the events of it */
    struct sse_splitter splitter;
    struct ws_answer answer;
};

const char *const ws_credential_names[WS_CREDENTIALS] = {"authorization", "x-api-key", "api-key",
                                                         "sec-websocket-protocol"};

static struct ws_completion *completion_of(const struct front *front) {
    return (struct ws_completion *)(void *)((char *)front - offsetof(struct ws_completion, front));
}

/* --- sending --- */

/* ws_out.send */
static void send_text(void *context, struct span message) {
    struct ws_session *session = context;
    session->wire->send(session, message);
}

static struct ws_out out_of(struct ws_session *session) {
    return (struct ws_out){.send = send_text, .context = session, .text = &session->text};
}

static void send_verdict(struct ws_session *session, const char *id, const struct verdict *verdict) {
    buffer_clear(&session->text);
    ws_message_write_verdict(&session->text, id, verdict);
    send_text(session, buffer_span(&session->text));
}

/* --- the end of a completion --- */

static bool is_json(struct span text) {
    struct json_doc doc;
    json_doc_init(&doc);
    bool good = json_parse(&doc, text);
    json_doc_fini(&doc);
    return good;
}

/* An answer that is no good JSON would spoil every later body. */
static void remember(struct ws_completion *completion) {
    struct ws_session *session = completion->session;
    struct buffer turn;
    if (session->form == WS_FORM_CHUNKS || completion->is_resume) {
        return;
    }
    buffer_init(&turn, WS_MEMORY_BYTES);
    if (ws_answer_write_turn(&completion->answer, &turn) && is_json(buffer_span(&turn))) {
        ws_memory_add_turn(&session->memory, completion->asked, buffer_span(&turn));
    }
    buffer_fini(&turn);
}

/* Nothing more comes of it; it is freed at the end of the turn, when nobody who called us is on the stack. */
static void retire(struct ws_completion *completion) {
    struct front *front = &completion->front;
    if (front->request != NULL) {
        front->request->front = NULL;
        front->request = NULL;
    }
    completion->is_over = true;
    loop_defer(completion->session->worker->loop, &completion->session->reap);
}

static void free_completion(struct ws_completion *completion) {
    struct ws_session *session = completion->session;
    if (completion->has_begun) {
        atomic_fetch_sub_explicit(&session->worker->seat->streams, 1, memory_order_relaxed);
    }
    session->body_bytes -= completion->body.len;
    session->count--;
    buffer_fini(&completion->body);
    sse_fini(&completion->splitter);
    ws_answer_fini(&completion->answer);
    free(completion);
}

/* --- the front that a completion's request sees --- */

static struct span unquoted(const char *id) {
    struct span text = span_text(id);
    return text.len >= 2 && text.base[0] == '"' ? span_of(text.base + 1, text.len - 2) : text;
}

static struct span get_header(const struct front *front, const char *name) {
    const struct ws_completion *completion = completion_of(front);
    for (int i = 0; i < WS_CREDENTIALS; i++) {
        if (strcmp(name, ws_credential_names[i]) == 0) {
            return completion->session->credentials.values[i];
        }
    }
    if (strcmp(name, "x-request-id") == 0 && completion->is_id_given) {
        return unquoted(completion->id);
    }
    if (strcmp(name, "x-tollgate-resume") == 0 && completion->is_resumable) {
        return SPAN_LITERAL("1");
    }
    return strcmp(name, "last-event-id") == 0 ? span_text(completion->after) : SPAN_EMPTY;
}

static bool header_differs(const struct front *front, const char *name) {
    (void)front;
    (void)name;
    return false;
}

static int64_t retry_after_of(const struct reply *reply) {
    for (int i = 0; i < reply->header_count; i++) {
        if (strcmp(reply->headers[i].name, "retry-after-ms") == 0) {
            return strtoll(reply->headers[i].value, NULL, 10);
        }
    }
    return 0;
}

/* A refusal or failure before the stream began. */
static void answer(struct front *front, const struct reply *reply, struct span body) {
    struct ws_completion *completion = completion_of(front);
    struct ws_session *session = completion->session;
    buffer_clear(&session->text);
    ws_message_write_error(&session->text, completion->id, reply->status, ws_message_error_of(body),
                           retry_after_of(reply));
    send_text(session, buffer_span(&session->text));
    completion->answer.is_failed = true;
    retire(completion);
}

/* The head of a stream says nothing that has a message. */
static void start(struct front *front, const struct reply *reply) {
    (void)front;
    (void)reply;
}

/* From here on the client can come back to it. */
static void on_resumable(struct front *front) {
    struct ws_completion *completion = completion_of(front);
    struct ws_session *session = completion->session;
    completion->is_numbered = true;
    buffer_clear(&session->text);
    buffer_format(&session->text, "{\"type\":\"completion.started\",\"id\":%s,\"request_id\":\"%s\",\"n\":0}",
                  completion->id, front->request->id);
    send_text(session, buffer_span(&session->text));
}

/* The number in the journal's first line of an event, `id: REQUEST_ID:N`. */
static uint32_t number_of(struct span raw) {
    const char *end = memchr(raw.base, '\n', raw.len);
    const char *colon = end != NULL ? memrchr(raw.base, ':', (size_t)(end - raw.base)) : NULL;
    return colon != NULL ? (uint32_t)strtoul(colon + 1, NULL, 10) : 0;
}

static void write_bytes(struct front *front, struct span bytes) {
    struct ws_completion *completion = completion_of(front);
    struct ws_out out = out_of(completion->session);
    struct sse_event event;
    while (sse_next(&completion->splitter, &bytes, &event) == SSE_EVENT) {
        if (event.has_data) {
            completion->answer.number = completion->is_numbered ? number_of(event.raw) : 0;
            ws_answer_hear(&completion->answer, event.data, &out);
        }
    }
}

static struct ws_ending ending_of(struct request *request, const char *finish_reason) {
    struct ws_ending ending = {.finish_reason = finish_reason, .chunk_head = request->end.head};
    struct shm_journal_id stream = journal_stream_of(request);
    struct shm_journal_answer answer;
    if (stream.row == SHM_JOURNAL_NO_ROW) {
        ending.cost_nusd = settle_owed(request, &ending.tokens);
    } else if (shm_journal_answer_of(&request->worker->journal->shared, stream, &answer)) {
        ending.tokens = answer.tokens;
        ending.cost_nusd = answer.cost_nusd;
        ending.finish_reason = answer.is_cancelled ? "cancelled" : finish_reason;
    }
    return ending;
}

static void end_stream(struct front *front, bool whole) {
    struct ws_completion *completion = completion_of(front);
    struct ws_session *session = completion->session;
    struct ws_out out = out_of(session);
    const struct ws_ending ending = ending_of(front->request, NULL);
    if (whole || ending.finish_reason != NULL) {
        ws_answer_end(&completion->answer, &ending, &out);
        remember(completion);
    } else if (!completion->answer.is_failed) {
        const struct verdict verdict = verdict_of(ERROR_upstream_error);
        send_verdict(session, completion->id, &verdict);
    }
    retire(completion);
}

static size_t pending_bytes(const struct front *front) {
    const struct ws_session *session = completion_of(front)->session;
    return session->wire->pending_bytes(session);
}

static const struct front_driver completion_driver = {.header = get_header,
                                                      .header_differs = header_differs,
                                                      .answer = answer,
                                                      .start = start,
                                                      .on_resumable = on_resumable,
                                                      .write = write_bytes,
                                                      .end = end_stream,
                                                      .pending_bytes = pending_bytes};

/* --- the beginning of a completion --- */

static struct request_input input_of(const struct ws_completion *completion) {
    const struct ws_session *session = completion->session;
    struct request_input input = {
        .method = SPAN_LITERAL("POST"),
        .path = session->form == WS_FORM_CHUNKS ? SPAN_LITERAL("/v1/chat/stream") : SPAN_LITERAL("/v1/ws/chat"),
        .query = session->credentials.query,
        .body = buffer_span(&completion->body),
        .client = session->client,
        .is_message = true,
    };
    if (completion->is_resume) {
        input.method = SPAN_LITERAL("GET");
        input.path = input.body;
        input.body = SPAN_EMPTY;
    }
    return input;
}

static void begin(struct ws_completion *completion) {
    struct ws_session *session = completion->session;
    struct worker *worker = session->worker;
    const struct request_input input = input_of(completion);
    struct request *request = request_new(worker, &completion->front, &input);
    if (request == NULL) {
        const struct verdict verdict = verdict_of(ERROR_overloaded);
        send_verdict(session, completion->id, &verdict);
        retire(completion);
        return;
    }
    atomic_fetch_add_explicit(&worker->seat->streams, 1, memory_order_relaxed);
    completion->has_begun = true;
    if (!completion->is_id_given) {
        struct buffer quoted;
        buffer_init(&quoted, sizeof(completion->id) - 1);
        json_quote(&quoted, span_text(request->id));
        (void)span_copy(buffer_span(&quoted), completion->id, sizeof(completion->id));
        buffer_fini(&quoted);
    }
    ws_answer_init(&completion->answer, session->form, completion->id);
    completion->answer.after = completion->position;
}

static struct ws_completion *find_running(struct ws_session *session, const char *id) {
    struct ws_completion *completion = session->first;
    while (completion != NULL && (completion->front.request == NULL || strcmp(completion->id, id) != 0)) {
        completion = completion->next;
    }
    return completion;
}

static struct ws_completion *new_completion(struct ws_session *session, const char *id) {
    struct ws_completion *completion = calloc(1, sizeof(*completion));
    if (completion == NULL) {
        return NULL;
    }
    completion->session = session;
    completion->front.driver = &completion_driver;
    completion->is_id_given = id[0] != '\0';
    (void)span_copy(span_text(id), completion->id, sizeof(completion->id));
    buffer_init(&completion->body, (size_t)session->worker->conf->request_limits.body_bytes + BODY_BYTES_SPARE);
    sse_init(&completion->splitter, EVENT_BYTES_MOST);
    ws_answer_init(&completion->answer, session->form, id);
    *(session->last != NULL ? &session->last->next : &session->first) = completion;
    session->last = completion;
    session->count++;
    return completion;
}

/* May another completion be taken on? */
static struct verdict check_room(struct ws_session *session, const char *id, size_t message_bytes) {
    size_t most_bytes = (size_t)session->worker->conf->request_limits.bodies_per_connection_bytes;
    if (session->wire->is_leaving(session)) {
        return verdict_with(ERROR_overloaded, NULL,
                            "This connection takes no new requests and ends soon. Connect again.");
    }
    if (id[0] != '\0' && find_running(session, id) != NULL) {
        return verdict_with(ERROR_invalid_value, "id", "A completion with this 'id' is still running.");
    }
    if (session->count >= WS_COMPLETIONS_MOST) {
        return verdict_with(ERROR_rate_limit_exceeded, NULL,
                            "%d completions run or wait on this connection, the most there may be. Wait for one.",
                            WS_COMPLETIONS_MOST);
    }
    if (session->count > 0 && session->body_bytes + message_bytes > most_bytes) {
        return verdict_with(ERROR_rate_limit_exceeded, NULL,
                            "The completions on this connection hold %zu bytes, the most there may be. Wait for one.",
                            most_bytes);
    }
    return verdict_of(ERROR_NONE);
}

static struct verdict take_completion(struct ws_session *session, const struct ws_message *message,
                                      size_t message_bytes) {
    const char *id = message->id;
    struct verdict verdict = check_room(session, id, message_bytes);
    if (verdict.kind != ERROR_NONE) {
        return verdict;
    }
    bool must_wait = session->form == WS_FORM_CHUNKS && session->count > 0;
    struct ws_completion *completion = new_completion(session, id);
    if (completion == NULL) {
        return verdict_of(ERROR_overloaded);
    }
    bool good = ws_message_write_body(&session->worker->scratch, session->form, session->model, &session->memory,
                                      &completion->body, &completion->asked, &verdict);
    session->body_bytes += completion->body.len;
    completion->is_resumable =
        message->resumable == WS_WISH_NONE ? session->is_resumable : message->resumable == WS_WISH_YES;
    if (!good) {
        retire(completion);
        return verdict;
    }
    if (!must_wait) {
        begin(completion);
    }
    return verdict;
}

/* Coming back to a stream: the request that GET /v1/streams/{id} would be, whose path is kept where a body is. */
static struct verdict take_resume(struct ws_session *session, const struct ws_message *message, size_t message_bytes) {
    struct verdict verdict = check_room(session, message->id, message_bytes);
    struct ws_completion *completion = verdict.kind == ERROR_NONE ? new_completion(session, message->id) : NULL;
    if (completion == NULL) {
        return verdict.kind == ERROR_NONE ? verdict_of(ERROR_overloaded) : verdict;
    }
    completion->is_resume = completion->is_numbered = true;
    completion->position = message->after;
    (void)snprintf(completion->after, sizeof(completion->after), "%u", message->after.events);
    buffer_append_text(&completion->body, "/v1/streams/");
    buffer_append_span(&completion->body, unquoted(message->id));
    session->body_bytes += completion->body.len;
    begin(completion);
    return verdict;
}

/* --- cancelling --- */

static struct verdict cancel(struct ws_session *session, const char *id) {
    if (id[0] == '\0') {
        return verdict_with(ERROR_missing_field, "id", "A cancel needs the 'id' of the completion.");
    }
    struct ws_completion *completion = find_running(session, id);
    if (completion == NULL) {
        return verdict_with(ERROR_invalid_value, "id", "No completion with this 'id' is running.");
    }
    struct request *request = completion->front.request;
    struct ws_out out = out_of(session);
    if (journal_stream_of(request).row != SHM_JOURNAL_NO_ROW) {
        journal_cancel_stream_of(request); /* its end tells us, like all its clients */
        return verdict_of(ERROR_NONE);
    }
    request_cancel(request);
    struct ws_ending ending = ending_of(request, "cancelled");
    ws_answer_end(&completion->answer, &ending, &out);
    remember(completion);
    retire(completion);
    return verdict_of(ERROR_NONE);
}

/* --- messages --- */

static struct verdict update_context(struct ws_session *session) {
    struct verdict verdict;
    struct span messages;
    if (!ws_message_context(&session->worker->scratch, &messages, &verdict)) {
        return verdict;
    }
    return verdict_of(ws_memory_set_context(&session->memory, messages) ? ERROR_NONE : ERROR_body_too_large);
}

static struct verdict act(struct ws_session *session, const struct ws_message *message, size_t message_bytes) {
    switch (message->type) {
    case WS_TYPE_COMPLETION:
        return take_completion(session, message, message_bytes);
    case WS_TYPE_CONTEXT:
        return update_context(session);
    case WS_TYPE_RESUME:
        return take_resume(session, message, message_bytes);
    case WS_TYPE_CANCEL:
        return cancel(session, message->id);
    case WS_TYPE_PING:
        if (session->form != WS_FORM_CHUNKS) { /* there every message of ours is a chunk */
            send_text(session, SPAN_LITERAL("{\"type\":\"pong\"}"));
        }
        break;
    }
    return verdict_of(ERROR_NONE);
}

void ws_session_take(struct ws_session *session, struct span text) {
    struct ws_message message;
    struct verdict verdict;
    if (ws_message_read(&session->worker->scratch, text, session->form, &message, &verdict)) {
        verdict = act(session, &message, text.len);
    }
    if (verdict.kind != ERROR_NONE) {
        send_verdict(session, message.id, &verdict);
    }
    if (session->text.size > TEXT_BYTES_KEPT) {
        buffer_fini(&session->text);
    }
}

/* --- the session --- */

/* loop_task.run: frees what is over and lets the next one begin. */
static void on_reap(struct loop_task *task) {
    struct ws_session *session = (struct ws_session *)(void *)((char *)task - offsetof(struct ws_session, reap));
    struct ws_completion **at = &session->first;
    session->last = NULL;
    while (*at != NULL) {
        struct ws_completion *completion = *at;
        if (completion->is_over) {
            *at = completion->next;
            free_completion(completion);
        } else {
            session->last = completion;
            at = &completion->next;
        }
    }
    if (session->first != NULL && !session->first->has_begun) {
        begin(session->first);
    }
    if (session->count == 0) {
        session->wire->on_idle(session);
    }
}

static bool keep_credentials(struct ws_credentials *kept, const struct request *request) {
    const struct front *front = request->front;
    struct span found[WS_CREDENTIALS + 1];
    size_t bytes = 0;
    for (int i = 0; i <= WS_CREDENTIALS; i++) {
        found[i] = i < WS_CREDENTIALS ? front->driver->header(front, ws_credential_names[i]) : request->input.query;
        bytes += found[i].len;
    }
    buffer_init(&kept->text, CREDENTIAL_BYTES_MOST);
    if (buffer_reserve(&kept->text, bytes) == NULL) {
        return false;
    }
    for (int i = 0; i <= WS_CREDENTIALS; i++) {
        struct span copy = span_of(kept->text.base + kept->text.len, found[i].len);
        buffer_append_span(&kept->text, found[i]);
        *(i < WS_CREDENTIALS ? &kept->values[i] : &kept->query) = copy;
    }
    return true;
}

bool ws_session_init(struct ws_session *session, const struct ws_wire *wire, struct request *request,
                     enum ws_form form) {
    struct worker *worker = request->worker;
    *session = (struct ws_session){.worker = worker, .wire = wire, .form = form, .reap.run = on_reap};
    (void)span_copy(span_text(request->client), session->client, sizeof(session->client));
    struct span model = SPAN_EMPTY;
    if (form == WS_FORM_CHUNKS && query_find(request->input.query, "model", &model)) {
        (void)!query_copy(model, session->model, sizeof(session->model));
    }
    session->is_resumable = form != WS_FORM_CHUNKS && ws_handshake_asks_resume(request);
    buffer_init(&session->text, TEXT_BYTES_MOST);
    ws_memory_init(&session->memory, (size_t)worker->conf->request_limits.body_bytes);
    return keep_credentials(&session->credentials, request);
}

void ws_session_fini(struct ws_session *session) {
    loop_task_cancel(session->worker->loop, &session->reap);
    while (session->first != NULL) {
        struct ws_completion *completion = session->first;
        session->first = completion->next;
        if (completion->front.request != NULL) {
            request_client_gone(completion->front.request);
        }
        free_completion(completion);
    }
    if (session->credentials.text.base != NULL) {
        explicit_bzero(session->credentials.text.base, session->credentials.text.size);
    }
    buffer_fini(&session->credentials.text);
    ws_memory_fini(&session->memory);
    buffer_fini(&session->text);
}

void ws_session_cancel(struct ws_session *session) {
    for (struct ws_completion *completion = session->first; completion != NULL; completion = completion->next) {
        if (completion->front.request != NULL) {
            request_cancel(completion->front.request);
        }
        if (!completion->is_over) {
            retire(completion);
        }
    }
}

void ws_session_drained(struct ws_session *session) {
    for (struct ws_completion *completion = session->first; completion != NULL; completion = completion->next) {
        if (completion->front.request != NULL) {
            request_drained(completion->front.request);
        }
    }
}

bool ws_session_is_idle(const struct ws_session *session) { return session->count == 0; }
