#include "worker/endpoints.h"

#include "base/clock.h"
#include "base/json_write.h"
#include "shm/shm_bucket.h"
#include "worker/auth.h"
#include "worker/body.h"
#include "worker/endpoint_key.h"
#include "worker/endpoint_models.h"
#include "worker/reply.h"
#include "worker/resume.h"
#include "worker/worker_state.h"
#include "worker/ws_handshake.h"

enum { ANSWER_BYTES_MOST = 256 };

struct endpoint {
    const char *method;
    const char *path;
    bool is_prefix; /* something non-empty follows the path */
    bool needs_key;
    bool takes_query_key;
    bool is_stream;            /* a GET that only makes sense with its body: no HEAD */
    int number;                /* enum shm_endpoint, 0: answered here */
    const char *upstream_path; /* NULL: answered here */
    struct verdict (*answer)(struct request *request);
};

static struct verdict answer_health(struct request *request) {
    reply_json(request, 200, SPAN_LITERAL("{\"status\":\"ok\"}"));
    return verdict_of(ERROR_NONE);
}

static struct verdict answer_ready(struct request *request) {
    if (request->worker->refusing || atomic_load(&request->worker->map->header->draining) != 0) {
        return verdict_with(ERROR_overloaded, NULL, "This server is draining: it takes no new requests.");
    }
    reply_json(request, 200, SPAN_LITERAL("{\"status\":\"ready\"}"));
    return verdict_of(ERROR_NONE);
}

static struct verdict answer_preflight(struct request *request) {
    reply_empty(request, 204);
    return verdict_of(ERROR_NONE);
}

/* --- Anthropic's count of a prompt: our estimate, for no upstream may be asked without a record --- */

static struct verdict answer_count_tokens(struct request *request) {
    struct chat_verdict wrong = {.status = 0};
    struct messages_request *messages = arena_take(&request->arena, sizeof(*messages));
    if (messages == NULL) {
        return verdict_of(ERROR_overloaded);
    }
    if (!messages_request_read(&request->worker->scratch, request->input.body, true, messages, &wrong)) {
        return body_verdict(&wrong);
    }
    int index = conf_model_index(request->worker->conf, span_text(messages->model));
    if (index < 0 || !endpoint_may_use_model(request, index)) {
        return verdict_with(ERROR_model_not_found, "model",
                            "This key has no such model. GET /v1/models lists its models.");
    }
    struct buffer body;
    buffer_init(&body, ANSWER_BYTES_MOST);
    buffer_format(&body, "{\"input_tokens\":%lld}", (long long)messages->prompt_tokens);
    reply_json(request, 200, buffer_span(&body));
    buffer_fini(&body);
    return verdict_of(ERROR_NONE);
}

/* --- the table --- */

static const struct endpoint endpoints[] = {
    {.method = "POST",
     .path = "/v1/chat/completions",
     .needs_key = true,
     .number = SHM_ENDPOINT_CHAT_COMPLETIONS,
     .upstream_path = "/chat/completions"},
    {.method = "GET",
     .path = "/v1/stream",
     .needs_key = true,
     .takes_query_key = true,
     .is_stream = true,
     .number = SHM_ENDPOINT_STREAM,
     .upstream_path = "/chat/completions"},
    {.method = "GET",
     .path = "/v1/streams/",
     .is_prefix = true,
     .needs_key = true,
     .takes_query_key = true,
     .is_stream = true,
     .answer = resume_answer},
    {.method = "POST",
     .path = "/v1/messages",
     .needs_key = true,
     .number = SHM_ENDPOINT_MESSAGES,
     .upstream_path = "/chat/completions"},
    {.method = "POST",
     .path = "/v1/messages/count_tokens",
     .needs_key = true,
     .number = SHM_ENDPOINT_MESSAGES,
     .answer = answer_count_tokens},
    {.method = "POST",
     .path = "/v1/responses",
     .needs_key = true,
     .number = SHM_ENDPOINT_RESPONSES,
     .upstream_path = "/responses"},
    {.method = "POST",
     .path = "/v1/completions",
     .needs_key = true,
     .number = SHM_ENDPOINT_COMPLETIONS,
     .upstream_path = "/completions"},
    {.method = "POST",
     .path = "/v1/embeddings",
     .needs_key = true,
     .number = SHM_ENDPOINT_EMBEDDINGS,
     .upstream_path = "/embeddings"},
    {.method = "GET", .path = "/v1/models", .needs_key = true, .answer = endpoint_answer_models},
    {.method = "GET", .path = "/v1/models/", .is_prefix = true, .needs_key = true, .answer = endpoint_answer_model},
    {.method = "GET", .path = "/v1/key", .needs_key = true, .answer = endpoint_answer_key},
    {.method = "GET", .path = "/v1/ws/chat", .needs_key = true, .takes_query_key = true, .answer = ws_handshake_chat},
    {.method = "GET",
     .path = "/v1/chat/stream",
     .needs_key = true,
     .takes_query_key = true,
     .answer = ws_handshake_stream},
    {.method = "GET", .path = "/healthz", .answer = answer_health},
    {.method = "GET", .path = "/readyz", .answer = answer_ready},
};

/* What a WebSocket's completions ask for, whichever it is. */
static const struct endpoint message = {.method = "POST",
                                        .path = "",
                                        .needs_key = true,
                                        .takes_query_key = true,
                                        .number = SHM_ENDPOINT_WEBSOCKET,
                                        .upstream_path = "/chat/completions"};

/* GET /v1/stream with the id of an event it had: never a new completion. */
static const struct endpoint stream_again = {.method = "GET",
                                             .path = "/v1/stream",
                                             .needs_key = true,
                                             .takes_query_key = true,
                                             .is_stream = true,
                                             .answer = resume_answer};

static const struct endpoint preflight = {.method = "OPTIONS", .path = "*", .answer = answer_preflight};

static bool path_matches(const struct endpoint *endpoint, struct span path) {
    if (endpoint->is_prefix) {
        return path.len > strlen(endpoint->path) && span_starts_with(path, endpoint->path);
    }
    return span_is(path, endpoint->path);
}

static bool method_matches(const struct endpoint *endpoint, struct span method) {
    return span_is(method, endpoint->method) ||
           (span_is(method, "HEAD") && strcmp(endpoint->method, "GET") == 0 && !endpoint->is_stream);
}

struct verdict endpoint_find(struct request *request) {
    bool path_found = false;
    request->endpoint = NULL;
    if (request->input.is_message && span_is(request->input.method, "POST")) {
        request->endpoint = &message;
        return verdict_of(ERROR_NONE);
    }
    if (span_is(request->input.method, "OPTIONS")) {
        request->endpoint = &preflight;
        return verdict_of(ERROR_NONE);
    }
    for (size_t i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++) {
        if (!path_matches(&endpoints[i], request->input.path)) {
            continue;
        }
        path_found = true;
        request->allowed_method = endpoints[i].method;
        if (method_matches(&endpoints[i], request->input.method)) {
            bool comes_back = endpoints[i].number == SHM_ENDPOINT_STREAM && resume_is_asked(request);
            request->endpoint = comes_back ? &stream_again : &endpoints[i];
            return verdict_of(ERROR_NONE);
        }
    }
    return verdict_of(path_found ? ERROR_method_not_allowed : ERROR_not_found);
}

bool endpoint_needs_key(const struct endpoint *endpoint) { return endpoint->needs_key; }

bool endpoint_is_local(const struct endpoint *endpoint) { return endpoint->answer != NULL; }

bool endpoint_takes_query_key(const struct endpoint *endpoint) { return endpoint->takes_query_key; }

int endpoint_number(const struct endpoint *endpoint) { return endpoint->number; }

const char *endpoint_upstream_path(const struct endpoint *endpoint) { return endpoint->upstream_path; }

struct verdict endpoint_answer(struct request *request) {
    return request->endpoint->answer(request);
}
