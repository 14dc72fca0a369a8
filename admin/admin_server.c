#include <h2o.h>

#include "admin/admin_server.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "admin/admin_api.h"
#include "admin/admin_gate.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    ACCEPTS_A_TURN = 16,
    CONNECTIONS_MOST = 128,
    BODY_SLACK_BYTES = 64 << 10,
    SEND_BYTES = 256 << 10, /* of an answer at once; each must leave within STALL_MS */
    STALL_MS = 30000,
    REQUEST_MS = 30000, /* from the end of the last answer to the end of the next request's body */
};

struct admin_server {
    struct jobs *jobs;
    struct admin_tools tools; /* the loop's */
    h2o_globalconf_t global;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    h2o_socket_t *listeners[HERITAGE_LISTENERS_MOST];
    int listener_count;
    int connections;
    struct exchange *exchanges; /* all there are, linked both ways */
    int exchange_count;
    bool draining;
};

/* Our side of one h2o_req_t. Lives in its pool as a shared object, so that the dispose hook runs exactly once however
 * the request ends. */
struct exchange {
    h2o_generator_t generator; /* first */
    struct admin_server *server;
    h2o_req_t *req;
    struct exchange *next;
    struct exchange *previous;
    struct admin_call *call;
    size_t sent;     /* bytes of the answer handed to libh2o */
    bool is_running; /* the call is with a lane; else this exchange owns it */
    int64_t deadline_mono_ns;
};

struct server_handler {
    h2o_handler_t base; /* first */
    struct admin_server *server;
};

/* --- answers --- */

static struct span answer_of(const struct admin_call *call) {
    return call->fixed.base != NULL ? call->fixed : buffer_span(&call->answer);
}

/* Hands libh2o the next piece. The exchange may be gone when this returns. */
static void send_next(struct exchange *exchange) {
    struct span rest = span_skip(answer_of(exchange->call), exchange->sent);
    if (strcmp(exchange->call->method, "HEAD") == 0) {
        rest = SPAN_EMPTY;
    }
    size_t len = rest.len < SEND_BYTES ? rest.len : SEND_BYTES;
    h2o_iovec_t vector = h2o_iovec_init(rest.base, len);
    exchange->sent += len;
    exchange->deadline_mono_ns = clock_mono_ns() + STALL_MS * NS_PER_MS;
    h2o_send(exchange->req, &vector, len != 0 ? 1 : 0,
             len == rest.len ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

/* h2o_generator_t.proceed: the piece has left. */
static void on_proceed(h2o_generator_t *generator, h2o_req_t *req) {
    (void)req;
    send_next((struct exchange *)(void *)generator);
}

static void add_header(h2o_req_t *req, const char *name, const char *value) {
    h2o_iovec_t copy = h2o_strdup(&req->pool, value, SIZE_MAX);
    h2o_add_header_by_str(&req->pool, &req->res.headers, name, strlen(name), 1, NULL, copy.base, copy.len);
}

static const char *reason_of(int status) {
    return status == 200 ? "OK" : status == 201 ? "Created" : status < 400 ? "No Content" : "Error";
}

#define PAGE_POLICY(connect)                                                                                           \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src " connect              \
    "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

static void add_headers(h2o_req_t *req, const struct admin_call *call) {
    add_header(req, "content-type", call->content_type);
    add_header(req, "cache-control", "no-store");
    add_header(req, "x-content-type-options", "nosniff");
    if (call->extra_header != NULL && call->extra_value != NULL) {
        add_header(req, call->extra_header, call->extra_value);
    }
    if (call->route != NULL && call->route->access == ACCESS_PAGE) {
        add_header(req, "content-security-policy",
                   call->reaches_out ? PAGE_POLICY("http: https: ws: wss:") : PAGE_POLICY("'self'"));
        add_header(req, "referrer-policy", "no-referrer");
        add_header(req, "cross-origin-opener-policy", "same-origin");
        add_header(req, "cross-origin-resource-policy", "same-origin");
    }
}

/* Sends the call's answer. The exchange may be gone when this returns. */
static void send_answer(struct exchange *exchange) {
    struct admin_call *call = exchange->call;
    h2o_req_t *req = exchange->req;
    exchange->is_running = false;
    call->waiting = NULL;
    req->res.status = call->status;
    req->res.reason = reason_of(call->status);
    req->res.content_length = answer_of(call).len;
    add_headers(req, call);
    if (exchange->server->draining) {
        req->http1_is_persistent = 0;
    }
    h2o_start_response(req, &exchange->generator);
    send_next(exchange);
}

/* --- requests --- */

static void link_exchange(struct exchange *exchange) {
    struct admin_server *server = exchange->server;
    exchange->next = server->exchanges;
    if (exchange->next != NULL) {
        exchange->next->previous = exchange;
    }
    server->exchanges = exchange;
    server->exchange_count++;
}

static void unlink_exchange(struct exchange *exchange) {
    struct admin_server *server = exchange->server;
    if (exchange->previous != NULL) {
        exchange->previous->next = exchange->next;
    } else {
        server->exchanges = exchange->next;
    }
    if (exchange->next != NULL) {
        exchange->next->previous = exchange->previous;
    }
    server->exchange_count--;
}

/* Pool dispose hook: the request is over, in whatever way. */
static void on_dispose(void *pointer) {
    struct exchange *exchange = pointer;
    unlink_exchange(exchange);
    if (exchange->is_running) {
        exchange->call->waiting = NULL;
        jobs_abandon(&exchange->call->job);
    } else {
        call_free(exchange->call);
    }
}

static struct span header_of(const h2o_req_t *req, const char *name) {
    ssize_t at = h2o_find_header_by_str(&req->headers, name, strlen(name), -1);
    return at < 0 ? SPAN_EMPTY : span_of(req->headers.entries[at].value.base, req->headers.entries[at].value.len);
}

static void refuse_token(struct admin_call *call, bool is_missing) {
    if (is_missing) {
        call_fail(call, 401, "authentication_error", "missing_api_key", NULL,
                  "Send the admin token of the configuration as \"Authorization: Bearer TOKEN\".");
    } else {
        call_fail(call, 401, "authentication_error", "invalid_api_key", NULL,
                  "This is not the admin token of the configuration.");
    }
    call->extra_header = "www-authenticate";
    call->extra_value = "Bearer";
}

static bool pass_gate(const struct exchange *exchange, enum route_access access) {
    const h2o_req_t *req = exchange->req;
    struct span host = span_of(req->input.authority.base, req->input.authority.len);
    enum gate_verdict verdict = access == ACCESS_ANYONE
                                    ? GATE_OPEN
                                    : gate_judge(exchange->server->tools.conf->admin_token, access == ACCESS_PAGE,
                                                 header_of(req, "authorization"), host, header_of(req, "origin"));
    switch (verdict) {
    case GATE_OPEN:
        return true;
    case GATE_NO_TOKEN:
    case GATE_WRONG_TOKEN:
        refuse_token(exchange->call, verdict == GATE_NO_TOKEN);
        return false;
    case GATE_FOREIGN_HOST:
    case GATE_FOREIGN_ORIGIN:
        break;
    }
    call_fail(
        exchange->call, 403, "permission_error", "origin_not_allowed", NULL,
        "Without an admin token only pages and programs of this machine are served, under the name localhost or a "
        "loopback address. Set admin.token to use another name.");
    return false;
}

static void on_job(struct job *job, void *lane_context) {
    struct admin_call *call = (struct admin_call *)(void *)((char *)job - offsetof(struct admin_call, job));
    call->route->run(call, lane_context);
}

static struct span query_of(const h2o_req_t *req) {
    if (req->query_at == SIZE_MAX || req->query_at >= req->path.len) {
        return SPAN_EMPTY;
    }
    return span_of(req->path.base + req->query_at + 1, req->path.len - req->query_at - 1);
}

/* Either answers at once (true) or leaves the call with a lane (false). */
static bool dispatch(struct exchange *exchange) {
    struct admin_server *server = exchange->server;
    struct admin_call *call = exchange->call;
    const struct route *route = api_find(call);
    if (!pass_gate(exchange, route != NULL ? route->access : ACCESS_TOKEN) || route == NULL ||
        !api_check(call, query_of(exchange->req), header_of(exchange->req, "content-type"))) {
        return true;
    }
    if (route->lane == LANE_NONE) {
        route->run(call, &server->tools);
        return true;
    }
    call->job.run = on_job;
    call->waiting = exchange;
    exchange->deadline_mono_ns = clock_mono_ns() + route->timeout_ms * NS_PER_MS;
    exchange->is_running = jobs_submit(server->jobs, (int)route->lane, &call->job);
    if (!exchange->is_running) {
        call_fail_unavailable(call, "Too many requests wait already. Try again in a moment.");
    }
    return !exchange->is_running;
}

static bool is_too_long(struct admin_call *call, const h2o_req_t *req) {
    if (req->entity.len > CALL_BODY_BYTES_MOST) {
        call_fail(call, 413, "invalid_request_error", "body_too_large", NULL, "The body may have at most %d bytes.",
                  CALL_BODY_BYTES_MOST);
        return true;
    }
    if (req->path.len > CALL_PATH_BYTES_MOST * 8) {
        call_fail(call, 414, "invalid_request_error", "invalid_value", NULL, "The path and query are too long.");
        return true;
    }
    return false;
}

/* h2o_handler_t.on_req: a request with its whole body. */
static int on_request(h2o_handler_t *handler, h2o_req_t *req) {
    struct admin_server *server = ((struct server_handler *)(void *)handler)->server;
    struct exchange *exchange = h2o_mem_alloc_shared(&req->pool, sizeof(*exchange), on_dispose);
    bool fits = req->entity.len <= CALL_BODY_BYTES_MOST;
    *exchange = (struct exchange){.generator = {.proceed = on_proceed}, .server = server, .req = req};
    exchange->deadline_mono_ns = INT64_MAX;
    link_exchange(exchange);
    exchange->call = call_new(span_of(req->method.base, req->method.len),
                              span_of(req->path_normalized.base, req->path_normalized.len),
                              fits ? span_of(req->entity.base, req->entity.len) : SPAN_EMPTY);
    if (exchange->call == NULL) {
        h2o_send_error_503(req, "Service Unavailable", "out of memory", 0);
        return 0;
    }
    if (is_too_long(exchange->call, req) || dispatch(exchange)) {
        send_answer(exchange);
    }
    return 0;
}

/* --- time --- */

static void log_change(const struct admin_call *call) {
    if (strcmp(call->method, "GET") != 0 && strcmp(call->method, "HEAD") != 0) {
        LOG(LOG_INFO, "admin_change", log_text("operation", call->route->operation), log_text("item", call->item),
            log_int("status", call->status));
    }
}

void server_collect(struct admin_server *server) {
    for (struct job *job = jobs_take_done(server->jobs); job != NULL; job = jobs_take_done(server->jobs)) {
        struct admin_call *call = (struct admin_call *)(void *)((char *)job - offsetof(struct admin_call, job));
        if (call->status != 0) {
            log_change(call);
        }
        if (call->waiting != NULL) {
            send_answer(call->waiting);
        } else {
            call_free(call);
        }
    }
}

/* The call stays with its lane, which hands it back some day; the client gets another one's answer. */
static void give_up(struct exchange *exchange) {
    const struct admin_call *late = exchange->call;
    bool begun = atomic_load(&late->job.begun);
    bool writes = late->route->operation != NULL && strcmp(late->method, "GET") != 0;
    struct admin_call *call = call_new(span_text(late->method), span_text(late->path), SPAN_EMPTY);
    CHECK(call != NULL);
    call_fail_unavailable(call, begun && writes
                                    ? "The ledger does not answer. The change may or may not have been made: look "
                                      "before you send it again."
                                    : "The ledger does not answer in time. Try again in a moment.");
    exchange->call->waiting = NULL;
    jobs_abandon(&exchange->call->job);
    exchange->call = call;
    LOG(LOG_WARN, "admin_call_timed_out", log_text("path", call->path));
    send_answer(exchange);
}

static void cut_connection(const struct exchange *exchange) {
    h2o_socket_t *socket = exchange->req->conn->callbacks->get_socket(exchange->req->conn);
    if (socket != NULL) {
        (void)shutdown(h2o_socket_get_fd(socket), SHUT_RDWR);
    }
}

void server_tick(struct admin_server *server) {
    int64_t now_mono_ns = clock_mono_ns();
    struct exchange *next = NULL;
    for (struct exchange *exchange = server->exchanges; exchange != NULL; exchange = next) {
        next = exchange->next;
        if (now_mono_ns < exchange->deadline_mono_ns) {
            continue;
        }
        if (exchange->is_running) {
            give_up(exchange);
        } else {
            exchange->deadline_mono_ns = INT64_MAX;
            cut_connection(exchange);
        }
    }
}

/* --- set-up --- */

static void on_connection_closed(void *data) {
    struct admin_server *server = data;
    server->connections--;
}

/* h2o's read callback of a listener. */
static void on_acceptable(h2o_socket_t *socket, const char *error) {
    struct admin_server *server = socket->data;
    if (error != NULL) {
        return;
    }
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        h2o_socket_t *client = h2o_evloop_socket_accept(socket);
        if (client == NULL) {
            return;
        }
        if (server->connections >= CONNECTIONS_MOST) {
            h2o_socket_close(client);
            continue;
        }
        server->connections++;
        client->on_close.cb = on_connection_closed;
        client->on_close.data = server;
        h2o_accept(&server->accept, client);
    }
}

static void configure_h2o(struct admin_server *server, struct st_h2o_evloop_t *loop) {
    h2o_config_init(&server->global);
    server->global.server_name = h2o_iovec_init(H2O_STRLIT("tollgate"));
    /* Somewhat above our own limit, so that the 413 is ours. */
    server->global.max_request_entity_size = CALL_BODY_BYTES_MOST + BODY_SLACK_BYTES;
    server->global.http1.req_timeout = REQUEST_MS;
    server->global.http1.upgrade_to_http2 = 0;
    h2o_socket_buffer_mmap_settings.threshold = SIZE_MAX; /* bodies never go to a file */
    h2o_hostconf_t *host = h2o_config_register_host(&server->global, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    h2o_handler_t *handler = h2o_create_handler(path, sizeof(struct server_handler));
    handler->on_req = on_request;
    ((struct server_handler *)(void *)handler)->server = server;
    h2o_context_init(&server->context, loop, &server->global);
    server->accept = (h2o_accept_ctx_t){.ctx = &server->context, .hosts = server->global.hosts};
}

struct admin_server *server_new(const struct heritage *heritage, struct st_h2o_evloop_t *loop, struct jobs *jobs) {
    struct admin_server *server = calloc(1, sizeof(*server));
    CHECK(server != NULL);
    server->jobs = jobs;
    server->tools = (struct admin_tools){.conf = heritage->conf, .map = &heritage->map};
    configure_h2o(server, loop);
    for (int i = 0; i < heritage->listener_count; i++) {
        h2o_socket_t *socket = h2o_evloop_socket_create(loop, heritage->listeners[i].fd, H2O_SOCKET_FLAG_DONT_READ);
        socket->data = server;
        h2o_socket_read_start(socket, on_acceptable);
        server->listeners[server->listener_count++] = socket;
    }
    return server;
}

void server_drain(struct admin_server *server) {
    if (server->draining) {
        return;
    }
    server->draining = true;
    for (int i = 0; i < server->listener_count; i++) {
        h2o_socket_read_stop(server->listeners[i]);
        h2o_socket_close(server->listeners[i]);
    }
    server->listener_count = 0;
    h2o_context_request_shutdown(&server->context);
}

int server_requests(const struct admin_server *server) { return server->exchange_count; }
