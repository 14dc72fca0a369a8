#include "worker/endpoints.h"

#include "base/clock.h"
#include "base/json_write.h"
#include "shm/shm_bucket.h"
#include "worker/auth.h"
#include "worker/body.h"
#include "worker/endpoint_key.h"
#include "worker/reply.h"
#include "worker/resume.h"
#include "worker/worker_state.h"
#include "worker/ws_handshake.h"

enum { ANSWER_BYTES_MOST = 4 << 20, MODEL_PATH_BYTES = 256 };

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

/* --- models --- */

static void write_pricing(struct json_writer *writer, const struct price *price) {
    json_begin_object(writer, "pricing");
    json_write_price(writer, "input", price->input_nusd);
    json_write_price(writer, "cached_input", price->cached_input_nusd);
    json_write_price(writer, "cache_write", price->cache_write_nusd);
    json_write_price(writer, "output", price->output_nusd);
    json_end_object(writer);
}

static void write_optional_int(struct json_writer *writer, const char *name, int64_t value) {
    if (value > 0) {
        json_write_int(writer, name, value);
    } else {
        json_write_null(writer, name);
    }
}

static void write_model(struct request *request, struct json_writer *writer, int index) {
    const struct conf *conf = request->worker->conf;
    int target = conf_model_resolve(conf, index);
    const struct conf_model *model = &conf->models[target];
    struct price price = model->price;
    bool priced =
        shm_price_at(request->worker->map, span_text(model->name), request->start_wall_ns, &price) || model->has_price;
    json_begin_object(writer, NULL);
    json_write_text(writer, "id", conf->models[index].name);
    json_write_text(writer, "object", "model");
    json_write_int(writer, "created", request->worker->seat->started_wall_ns / NS_PER_S);
    json_write_text(writer, "owned_by",
                    model->route_count > 0 ? conf->upstreams[model->routes[0].upstream].name : "tollgate");
    if (priced) {
        write_pricing(writer, &price);
    } else {
        json_write_null(writer, "pricing");
    }
    write_optional_int(writer, "context", model->context_tokens);
    write_optional_int(writer, "max_output", model->max_output_tokens);
    json_end_object(writer);
}

/* A rule model is listed when the key may use one of the models it leads to. */
static bool may_use(const struct request *request, int index) {
    const struct conf *conf = request->worker->conf;
    int target = conf_model_resolve(conf, index);
    const struct conf_model *model = &conf->models[target];
    for (int i = 0; i < model->rule_count; i++) {
        if (auth_allows_model(request, conf_model_resolve(conf, model->rules[i].model))) {
            return true;
        }
    }
    return model->rule_count == 0 && auth_allows_model(request, target);
}

static struct verdict answer_models(struct request *request) {
    struct buffer body;
    buffer_init(&body, ANSWER_BYTES_MOST);
    struct json_writer writer = json_writer_on(&body);
    json_begin_object(&writer, NULL);
    json_write_text(&writer, "object", "list");
    json_begin_array(&writer, "data");
    for (int i = 0; i < request->worker->conf->model_count; i++) {
        if (may_use(request, i)) {
            write_model(request, &writer, i);
        }
    }
    json_end_array(&writer);
    json_end_object(&writer);
    reply_json(request, 200, buffer_span(&body));
    buffer_fini(&body);
    return verdict_of(ERROR_NONE);
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Undoes %XX; false when the result does not fit or holds a NUL. */
static bool decode_path(struct span text, char *out, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < text.len && n + 1 < size; i++) {
        char c = text.base[i];
        if (c == '%' && i + 2 < text.len && hex_digit(text.base[i + 1]) >= 0 && hex_digit(text.base[i + 2]) >= 0) {
            c = (char)(hex_digit(text.base[i + 1]) * 16 + hex_digit(text.base[i + 2]));
            i += 2;
        }
        if (c == '\0') {
            return false;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return n + 1 < size;
}

static struct verdict answer_model(struct request *request) {
    char name[MODEL_PATH_BYTES];
    struct span rest = span_skip(request->input.path, strlen(request->endpoint->path));
    int index = decode_path(rest, name, sizeof(name)) ? conf_model_index(request->worker->conf, span_text(name)) : -1;
    if (index < 0 || !may_use(request, index)) {
        return verdict_with(ERROR_model_not_found, "model",
                            "This key has no such model. GET /v1/models lists its models.");
    }
    struct buffer body;
    buffer_init(&body, ANSWER_BYTES_MOST);
    struct json_writer writer = json_writer_on(&body);
    write_model(request, &writer, index);
    reply_json(request, 200, buffer_span(&body));
    buffer_fini(&body);
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
    if (index < 0 || !may_use(request, index)) {
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
    {.method = "GET", .path = "/v1/models", .needs_key = true, .answer = answer_models},
    {.method = "GET", .path = "/v1/models/", .is_prefix = true, .needs_key = true, .answer = answer_model},
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
