#include <h2o.h>

#include "worker/front_http.h"

#include <sys/epoll.h>

#include "base/clock.h"
#include "worker/front_guard.h"
#include "worker/front_websocket.h"
#include "worker/guard_address.h"
#include "worker/worker_state.h"

enum { OUT_BYTES_MOST = 72 << 20, PIECE_BYTES = 64 << 10 };

/* An HTTP exchange: our side of one h2o_req_t. Lives in the request's pool as a shared object, so that its dispose hook
 * runs exactly once however the request ends. */
struct exchange {
    h2o_generator_t generator; /* first */
    struct front front;
    struct worker *worker;
    h2o_req_t *req;
    struct buffer filling; /* what leaves with the next send */
    struct buffer flying;  /* what h2o is sending, a piece at a time */
    size_t flown;          /* bytes of it that h2o has been given */
    struct loop_task flush;
    struct loop_watch hang_up; /* HTTP/1.1: h2o does not look at the socket while a request runs */
    struct loop_timer stalled; /* a send makes no progress */
    bool started;
    bool sending; /* a send is in flight */
    bool ending;  /* nothing will be added: the next send is the last */
    bool broken;  /* and it shall look broken */
    bool over;    /* the last send was made: hands off */
};

struct http_handler {
    h2o_handler_t base; /* first */
    struct worker *worker;
};

#define EXCHANGE_OF(pointer, member) ((struct exchange *)(void *)((char *)(pointer)-offsetof(struct exchange, member)))

static void release_memory(struct exchange *exchange) {
    exchange->flown = 0;
    if (exchange->flying.size > 4096) {
        buffer_fini(&exchange->flying);
    } else {
        buffer_clear(&exchange->flying);
    }
}

static int socket_of(const struct exchange *exchange) {
    h2o_socket_t *socket = exchange->req->conn->callbacks->get_socket(exchange->req->conn);
    return socket != NULL ? h2o_socket_get_fd(socket) : -1;
}

static struct guard *guard_of_exchange(const struct exchange *exchange) {
    h2o_socket_t *socket = exchange->req->conn->callbacks->get_socket(exchange->req->conn);
    return socket != NULL ? guard_of(socket) : NULL;
}

/* Ends the connection from outside h2o, which disposes of everything in a later turn. */
static void cut_connection(struct exchange *exchange) {
    struct guard *guard = guard_of_exchange(exchange);
    if (guard != NULL) {
        guard_end(guard);
    }
}

/* --- sending --- */

/* Pieces bound the time one send may take, so that a slow reader that reads is told from one that does not. */
static void send_piece(struct exchange *exchange) {
    size_t left = exchange->flying.len - exchange->flown;
    size_t len = left < PIECE_BYTES ? left : PIECE_BYTES;
    bool is_last = exchange->ending && len == left && exchange->filling.len == 0;
    h2o_send_state_t state = !is_last           ? H2O_SEND_STATE_IN_PROGRESS
                             : exchange->broken ? H2O_SEND_STATE_ERROR
                                                : H2O_SEND_STATE_FINAL;
    h2o_iovec_t vector = h2o_iovec_init(len != 0 ? exchange->flying.base + exchange->flown : NULL, len);
    exchange->flown += len;
    exchange->sending = true;
    exchange->over = is_last;
    worker_count(exchange->worker, SHM_COUNTER_bytes_relayed, len);
    if (is_last) {
        loop_watch_clear(exchange->worker->loop, &exchange->hang_up);
    }
    int64_t write_timeout_ns = exchange->worker->conf->request_limits.write_timeout_ms * NS_PER_MS;
    loop_timer_set(exchange->worker->loop, &exchange->stalled, clock_mono_ns() + write_timeout_ns);
    /* The exchange may be gone when this returns. */
    h2o_send(exchange->req, &vector, len != 0 ? 1 : 0, state);
}

static void send_now(struct exchange *exchange) {
    if (exchange->flown == exchange->flying.len) {
        struct buffer sent = exchange->filling;
        exchange->filling = exchange->flying;
        exchange->flying = sent;
        exchange->flown = 0;
        buffer_clear(&exchange->filling);
    }
    send_piece(exchange);
}

static void on_flush(struct loop_task *task) {
    struct exchange *exchange = EXCHANGE_OF(task, flush);
    bool anything = exchange->filling.len != 0 || exchange->flown < exchange->flying.len || exchange->ending;
    if (exchange->started && !exchange->sending && !exchange->over && anything) {
        send_now(exchange);
    }
}

static void flush_later(struct exchange *exchange) { loop_defer(exchange->worker->loop, &exchange->flush); }

/* h2o_generator_t.proceed: what was in flight has left. */
static void on_proceed(h2o_generator_t *generator, h2o_req_t *req) {
    struct exchange *exchange = (struct exchange *)(void *)generator;
    (void)req;
    exchange->sending = false;
    loop_timer_clear(exchange->worker->loop, &exchange->stalled);
    if (exchange->flown == exchange->flying.len) {
        release_memory(exchange);
    }
    if (exchange->front.request != NULL) {
        request_drained(exchange->front.request);
    }
    if (exchange->filling.len != 0 || exchange->flown < exchange->flying.len || exchange->ending) {
        flush_later(exchange);
    }
}

static void on_stalled(struct loop_timer *timer) {
    struct exchange *exchange = EXCHANGE_OF(timer, stalled);
    worker_count(exchange->worker, SHM_COUNTER_connections_refused, 1);
    cut_connection(exchange);
}

/* --- the front's driver --- */

static struct exchange *exchange_of(const struct front *front) { return EXCHANGE_OF(front, front); }

static struct span get_header(const struct front *front, const char *name) {
    const h2o_req_t *req = exchange_of(front)->req;
    ssize_t at = h2o_find_header_by_str(&req->headers, name, strlen(name), -1);
    if (at < 0) {
        return SPAN_EMPTY;
    }
    h2o_iovec_t value = req->headers.entries[at].value;
    return span_of(value.base, value.len);
}

static bool header_differs(const struct front *front, const char *name) {
    const h2o_req_t *req = exchange_of(front)->req;
    struct span first = get_header(front, name);
    for (ssize_t at = -1; (at = h2o_find_header_by_str(&req->headers, name, strlen(name), at)) >= 0;) {
        h2o_iovec_t value = req->headers.entries[at].value;
        if (!span_equals(span_of(value.base, value.len), first)) {
            return true;
        }
    }
    return false;
}

static const char *reason_of(int status) {
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {101, "Switching Protocols"},
        {200, "OK"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {499, "Client Closed Request"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Other";
}

static void set_head(struct exchange *exchange, const struct reply *reply) {
    h2o_req_t *req = exchange->req;
    req->res.status = reply->status;
    req->res.reason = reason_of(reply->status);
    for (int i = 0; i < reply->header_count; i++) {
        const struct reply_header *header = &reply->headers[i];
        h2o_iovec_t value = h2o_strdup(&req->pool, header->value, SIZE_MAX);
        h2o_add_header_by_str(&req->pool, &req->res.headers, header->name, strlen(header->name), 1, NULL, value.base,
                              value.len);
    }
}

static void start(struct front *front, const struct reply *reply) {
    struct exchange *exchange = exchange_of(front);
    set_head(exchange, reply);
    exchange->started = true;
    const struct guard *guard = guard_of_exchange(exchange);
    if (exchange->worker->draining || (guard != NULL && guard_is_expiring(guard))) {
        exchange->req->http1_is_persistent = 0;
    }
    h2o_start_response(exchange->req, &exchange->generator);
}

static void write_bytes(struct front *front, struct span bytes) {
    struct exchange *exchange = exchange_of(front);
    buffer_append_span(&exchange->filling, bytes);
    if (exchange->filling.failed) {
        exchange->ending = exchange->broken = true;
    }
    flush_later(exchange);
}

static void end_stream(struct front *front, bool whole) {
    struct exchange *exchange = exchange_of(front);
    exchange->ending = true;
    exchange->broken = exchange->broken || !whole;
    front->request->front = NULL;
    front->request = NULL;
    flush_later(exchange);
}

static void answer(struct front *front, const struct reply *reply, struct span body) {
    struct exchange *exchange = exchange_of(front);
    exchange->req->res.content_length = body.len;
    start(front, reply);
    if (!h2o_memis(exchange->req->method.base, exchange->req->method.len, H2O_STRLIT("HEAD"))) {
        buffer_append_span(&exchange->filling, body);
    }
    end_stream(front, !exchange->filling.failed);
}

static size_t pending_bytes(const struct front *front) {
    const struct exchange *exchange = exchange_of(front);
    return exchange->filling.len + exchange->flying.len;
}

/* libh2o takes `upgrade` for itself, and only where Connection names it. */
static bool asks_websocket(const struct front *front) {
    const h2o_req_t *req = exchange_of(front)->req;
    return req->version == 0x101 && h2o_memis(req->method.base, req->method.len, H2O_STRLIT("GET")) &&
           req->upgrade.base != NULL && h2o_lcstris(req->upgrade.base, req->upgrade.len, H2O_STRLIT("websocket"));
}

static bool upgrade(struct front *front, const struct reply *reply, enum ws_form form) {
    struct exchange *exchange = exchange_of(front);
    struct websocket *websocket = front_websocket_new(front->request, form);
    if (websocket == NULL) {
        return false;
    }
    loop_watch_clear(exchange->worker->loop, &exchange->hang_up);
    set_head(exchange, reply);
    exchange->started = exchange->ending = exchange->over = true;
    front->request->front = NULL;
    front->request = NULL;
    front_websocket_upgrade(websocket, exchange->req);
    return true;
}

static const struct front_driver http_driver = {.header = get_header,
                                                .header_differs = header_differs,
                                                .answer = answer,
                                                .start = start,
                                                .write = write_bytes,
                                                .end = end_stream,
                                                .pending_bytes = pending_bytes,
                                                .asks_websocket = asks_websocket,
                                                .upgrade = upgrade};

/* --- arrivals and departures --- */

/* Pool dispose hook: the request is over, in whatever way. */
static void on_dispose(void *pointer) {
    struct exchange *exchange = pointer;
    struct loop *loop = exchange->worker->loop;
    if (exchange->front.request != NULL) {
        request_client_gone(exchange->front.request);
    }
    loop_watch_clear(loop, &exchange->hang_up);
    loop_timer_clear(loop, &exchange->stalled);
    loop_task_cancel(loop, &exchange->flush);
    buffer_fini(&exchange->filling);
    buffer_fini(&exchange->flying);
    atomic_fetch_sub_explicit(&exchange->worker->seat->streams, 1, memory_order_relaxed);
}

/* The client's side of an HTTP/1.1 connection has closed. h2o notices only when a write fails: make one. */
static void on_hang_up(struct loop_watch *watch, uint32_t events) {
    struct exchange *exchange = EXCHANGE_OF(watch, hang_up);
    (void)events;
    loop_watch_clear(exchange->worker->loop, watch);
    if (exchange->front.request != NULL) {
        request_client_gone(exchange->front.request);
    }
    cut_connection(exchange);
    if (exchange->sending || exchange->over) {
        exchange->ending = exchange->broken = true;
        return;
    }
    if (!exchange->started) {
        exchange->req->res.status = 499;
        exchange->req->res.reason = reason_of(499);
        exchange->started = true;
        h2o_start_response(exchange->req, &exchange->generator);
    }
    exchange->ending = exchange->broken = true;
    buffer_clear(&exchange->filling);
    flush_later(exchange);
}

static bool peer_address(h2o_conn_t *conn, struct client_address *out) {
    static const struct guard_address no_address;
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t len = conn->callbacks->get_peername(conn, (void *)&peer);
    struct guard_address address = guard_address_of((void *)&peer, len);
    memcpy(out->bytes, address.bytes, sizeof(out->bytes));
    return memcmp(&address, &no_address, sizeof(address)) != 0;
}

void front_http_client(const struct worker *worker, h2o_req_t *req, char out[static CLIENT_ADDRESS_TEXT_BYTES]) {
    struct client_address peer;
    out[0] = '\0';
    if (!peer_address(req->conn, &peer)) {
        return;
    }
    struct client_walk walk = client_walk_begin(worker->trusted_proxies, worker->trusted_proxy_count, &peer);
    for (size_t i = req->headers.size; i-- > 0 && !walk.is_over;) {
        const h2o_header_t *header = &req->headers.entries[i];
        if (header->name == &H2O_TOKEN_X_FORWARDED_FOR->buf) {
            client_walk_field(&walk, span_of(header->value.base, header->value.len));
        }
    }
    client_address_format(&walk.client, out);
}

static struct request_input input_of(h2o_req_t *req, const char *client) {
    struct request_input input = {
        .method = span_of(req->method.base, req->method.len),
        .path = span_of(req->path_normalized.base, req->path_normalized.len),
        .query = SPAN_EMPTY,
        .target = span_of(req->input.path.base, req->input.path.len),
        .body = span_of(req->entity.base, req->entity.len),
        .client = client,
        .is_http10 = req->version < 0x101,
    };
    if (req->query_at != SIZE_MAX && req->query_at < req->path.len) {
        input.query = span_of(req->path.base + req->query_at + 1, req->path.len - req->query_at - 1);
    }
    return input;
}

static void init_exchange(struct exchange *exchange, struct worker *worker, h2o_req_t *req) {
    memset(exchange, 0, sizeof(*exchange));
    exchange->generator.proceed = on_proceed;
    exchange->front.driver = &http_driver;
    exchange->worker = worker;
    exchange->req = req;
    exchange->flush.run = on_flush;
    exchange->hang_up = (struct loop_watch){.on_event = on_hang_up, .fd = -1};
    exchange->stalled.on_fire = on_stalled;
    buffer_init(&exchange->filling, OUT_BYTES_MOST);
    buffer_init(&exchange->flying, OUT_BYTES_MOST);
}

/* h2o_handler_t.on_req: a request with its whole body. */
static int on_request(h2o_handler_t *handler, h2o_req_t *req) {
    struct worker *worker = ((struct http_handler *)(void *)handler)->worker;
    struct exchange *exchange = h2o_mem_alloc_shared(&req->pool, sizeof(*exchange), on_dispose);
    char client[CLIENT_ADDRESS_TEXT_BYTES];
    init_exchange(exchange, worker, req);
    atomic_fetch_add_explicit(&worker->seat->streams, 1, memory_order_relaxed);
    front_http_client(worker, req, client);
    const struct request_input input = input_of(req, client);
    if (request_new(worker, &exchange->front, &input) == NULL) {
        h2o_send_error_503(req, "Service Unavailable", "out of memory", 0);
        return 0;
    }
    if (req->version < 0x200 && socket_of(exchange) >= 0) {
        (void)loop_watch_set(worker->loop, &exchange->hang_up, socket_of(exchange), EPOLLRDHUP);
    }
    return 0;
}

void front_http_register(struct st_h2o_pathconf_t *path, struct worker *worker) {
    h2o_handler_t *handler = h2o_create_handler(path, sizeof(struct http_handler));
    handler->on_req = on_request;
    ((struct http_handler *)(void *)handler)->worker = worker;
}
