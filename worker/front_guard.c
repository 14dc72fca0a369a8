#include "worker/front_guard.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <h2o/http1.h>
#include <h2o/http2.h>

#include "base/clock.h"
#include "base/json_write.h"
#include "worker/front_guard_private.h"

enum { PREFACE_BYTES = 24, LINGER_S = 2, ANSWER_BYTES_MOST = 4096, REQUEST_ID_BYTES_MOST = 72, TICK_MS = 250 };

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
static const char ended_error[] = "ended by the guard";

static void on_guard_read(h2o_socket_t *sock, const char *err);
static void on_guard_write(h2o_socket_t *sock, const char *err);
static void on_guard_close(void *data);

/* ---- lifetime ---- */

void guard_enter(struct guard *guard) { guard->depth++; }

static void free_guard(struct guard *guard) {
    buffer_fini(&guard->answer);
    free(guard->http2);
    free(guard);
}

bool guard_leave(struct guard *guard) {
    guard->depth--;
    if (!guard->closed) {
        return true;
    }
    if (guard->depth == 0) {
        free_guard(guard);
    }
    return false;
}

static void unlink_dirty(struct guard *guard) {
    if (!guard->dirty) {
        return;
    }
    struct guard **link = &guard->context->first_dirty;
    while (*link != guard) {
        link = &(*link)->next_dirty;
    }
    *link = guard->next_dirty;
    guard->dirty = false;
}

static bool take_address(struct guard_context *context, struct guard_address address) {
    const struct guard_hooks *hooks = &context->hooks;
    if (!guard_address_take(context->addresses, address, context->limits.connections_per_address)) {
        return false;
    }
    if (hooks->may_connect != NULL && !hooks->may_connect(hooks->data, address.bytes)) {
        guard_address_return(context->addresses, address);
        return false;
    }
    return true;
}

static void return_address(struct guard_context *context, struct guard_address address) {
    guard_address_return(context->addresses, address);
    if (context->hooks.disconnected != NULL) {
        context->hooks.disconnected(context->hooks.data, address.bytes);
    }
}

static void unlink_guard(struct guard *guard) {
    struct guard_context *context = guard->context;
    unlink_dirty(guard);
    if (context->cursor == guard) {
        context->cursor = guard->next;
    }
    *(guard->previous != NULL ? &guard->previous->next : &context->first) = guard->next;
    if (guard->next != NULL) {
        guard->next->previous = guard->previous;
    }
    context->connections--;
    return_address(context, guard->address);
}

/* h2o_socket_t.on_close.cb */
static void on_guard_close(void *data) {
    struct guard *guard = data;
    unlink_guard(guard);
    guard->closed = true;
    if (guard->on_close != NULL) {
        guard->on_close(guard->on_close_data);
    }
    if (guard->depth == 0) {
        free_guard(guard);
    }
}

static void count_cut(struct guard_context *context, enum guard_cut cut) {
    context->cuts[cut]++;
    if (context->hooks.on_cut != NULL) {
        context->hooks.on_cut(context->hooks.data, cut);
    }
}

/* Looks at the guard again outside libh2o's callbacks. */
static void mark_dirty(struct guard *guard) {
    struct guard_context *context = guard->context;
    if (!guard->dirty) {
        guard->dirty = true;
        guard->next_dirty = context->first_dirty;
        context->first_dirty = guard;
        loop_defer(context->loop, &context->settle_task);
    }
}

/* Calls the read callback that the guard stands before. Returns false when the guard is gone. */
static bool forward_read(struct guard *guard, const char *err) {
    guard_enter(guard);
    guard->next_read(guard->sock, err);
    return guard_leave(guard);
}

/* libh2o waits for input: its read callback is in place, or the guard took it out to park. */
static bool is_reading(const struct guard *guard) { return guard->parked || guard->sock->_cb.read == on_guard_read; }

/* libh2o hears of a shut socket through a callback it waits in. An HTTP/2 connection may wait in none: its streams are
 * blocked by the peer's windows, and nothing is being written. Then only we can tell it. */
static void tell_ended(struct guard *guard) {
    bool in_none = guard->mode == GUARD_HTTP2 && guard->sock->_cb.write == NULL;
    if ((is_reading(guard) || in_none) && guard->depth == 0 && guard->next_read != NULL) {
        guard->parked = false;
        (void)forward_read(guard, ended_error);
    }
}

static void shut(struct guard *guard, enum guard_cut cut) {
    guard->ended = true;
    count_cut(guard->context, cut);
    (void)shutdown(h2o_socket_get_fd(guard->sock), SHUT_RDWR);
}

void guard_cut(struct guard *guard, enum guard_cut cut) {
    if (!guard->ended) {
        shut(guard, cut);
        tell_ended(guard);
    }
}

void guard_end(struct guard *guard) {
    if (!guard->ended) {
        shut(guard, GUARD_CUT_ASKED);
        mark_dirty(guard);
    }
}

/* ---- hooks ---- */

bool guard_is_writing(const struct guard *guard) { return guard->sock->_cb.write != NULL && !guard->write_is_notify; }

/* libh2o gave the socket to another protocol: HTTP/2 after `Upgrade: h2c`, or something that is not ours to read. */
static void follow_switch(struct guard *guard) {
    struct guard_context *context = guard->context;
    bool to_http2 = guard->mode == GUARD_HTTP1 && guard->http1.upgrade_h2c;
    guard->mode = to_http2 ? GUARD_HTTP2 : GUARD_PASS;
    if (guard->refusal != NULL) {
        guard_end(guard); /* bytes of the new protocol came before its time and were taken for a request */
    }
    if (!to_http2) {
        return;
    }
    guard->http2 = malloc(sizeof(*guard->http2));
    CHECK(guard->http2 != NULL);
    guard_http2_init(guard->http2, &context->limits.http2, clock_mono_ns());
    guard_http2_upgraded(guard->http2);
    guard->http2->draining = context->draining;
    guard->own_read = guard->sock->_cb.read;
}

/* Stands before whatever callbacks libh2o has set since. */
static void hook(struct guard *guard) {
    h2o_socket_t *sock = guard->sock;
    bool followed = guard->mode == GUARD_HTTP1 || guard->mode == GUARD_HTTP2;
    if (followed && sock->_cb.read != NULL && sock->_cb.read != on_guard_read) {
        if (sock->_cb.read != guard->own_read) {
            follow_switch(guard);
        }
        if (guard->mode != GUARD_PASS) {
            guard->next_read = sock->_cb.read;
            sock->_cb.read = on_guard_read;
        }
    }
    if (guard->mode != GUARD_PASS && sock->_cb.write != NULL && sock->_cb.write != on_guard_write) {
        guard->next_write = sock->_cb.write;
        sock->_cb.write = on_guard_write;
    }
}

/* ---- refusing an HTTP/1 request ---- */

static const char *reason_phrase(int status) {
    switch (status) {
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 408:
        return "Request Timeout";
    case 413:
        return "Content Too Large";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    default:
        return "Bad Request";
    }
}

static void render_error(const struct guard_refusal *refusal, struct buffer *out) {
    struct json_writer writer = json_writer_on(out);
    json_begin_object(&writer, NULL);
    json_begin_object(&writer, "error");
    json_write_text(&writer, "message", refusal->message);
    json_write_text(&writer, "type", refusal->type);
    json_write_text(&writer, "code", refusal->code);
    json_write_null(&writer, "param");
    json_end_object(&writer);
    json_end_object(&writer);
}

static void render_answer(struct guard *guard) {
    const struct guard_hooks *hooks = &guard->context->hooks;
    struct buffer body;
    buffer_init(&body, ANSWER_BYTES_MOST);
    render_error(guard->refusal, &body);
    buffer_init(&guard->answer, 2 * ANSWER_BYTES_MOST);
    buffer_format(&guard->answer, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n",
                  guard->refusal->status, reason_phrase(guard->refusal->status), body.len);
    if (hooks->make_request_id != NULL) {
        char id[REQUEST_ID_BYTES_MOST];
        hooks->make_request_id(hooks->data, id, sizeof(id));
        buffer_format(&guard->answer, "x-request-id: %s\r\n", id);
    }
    buffer_append_text(&guard->answer, "Connection: close\r\n\r\n");
    buffer_append_span(&guard->answer, buffer_span(&body));
    buffer_fini(&body);
}

/* h2o_socket_cb: the refusal left. The client may still be sending; closing now would make its kernel throw the answer
 * away, so its bytes are read for a while first. */
static void on_answer_written(h2o_socket_t *sock, const char *err) {
    struct guard *guard = sock->on_close.data;
    guard->linger_until_mono_ns = clock_mono_ns() + LINGER_S * NS_PER_S;
    (void)shutdown(h2o_socket_get_fd(sock), err != NULL ? SHUT_RDWR : SHUT_WR);
}

/* Gives the pending refusal when libh2o waits for input and nothing is being written. */
static void try_refuse(struct guard *guard) {
    h2o_socket_t *sock = guard->sock;
    if (guard->refusal == NULL || guard->mode != GUARD_HTTP1 || guard->ended || sock->_cb.write != NULL ||
        sock->_cb.read != on_guard_read) {
        return;
    }
    count_cut(guard->context, GUARD_CUT_REQUEST);
    guard->mode = GUARD_LINGER;
    guard->linger_until_mono_ns = clock_mono_ns() + LINGER_S * NS_PER_S;
    h2o_buffer_consume(&sock->input, sock->input->size);
    render_answer(guard);
    h2o_iovec_t bytes = {guard->answer.base, guard->answer.len};
    h2o_socket_write(sock, &bytes, 1, on_answer_written);
}

void guard_refuse(struct guard *guard, const struct guard_refusal *refusal) {
    guard->refusal = refusal;
    try_refuse(guard);
}

/* ---- HTTP/1 ---- */

/* A body has become larger than anyone may send who has not shown a key. Only while libh2o waits for input is its
 * current request the one whose body the scanner is in. */
static void ask_http1_body(struct guard *guard) {
    const struct guard_context *context = guard->context;
    const struct guard_http1 *scan = &guard->http1;
    uint64_t most = (uint64_t)context->limits.unproven_body_bytes;
    bool large = scan->body_declared > most || scan->body_bytes > most;
    if (most == 0 || context->hooks.may_gather == NULL || guard_http1_place(scan) != GUARD_HTTP1_IN_BODY || !large ||
        guard->proven_request == scan->requests + 1 || guard->refusal != NULL) {
        return;
    }
    h2o_req_t *req = guard_find_http1_request(guard);
    if (req == NULL) {
        return;
    }
    guard->proven_request = scan->requests + 1;
    guard->refusal = context->hooks.may_gather(context->hooks.data, req);
}

/* A body that is larger than any may be is refused as soon as that is known, before it is gathered. */
static void limit_http1_body(struct guard *guard) {
    static const struct guard_refusal too_large = {413, "invalid_request_error", "body_too_large",
                                                   "The request body is larger than is allowed here."};
    const struct guard_http1 *scan = &guard->http1;
    uint64_t most = (uint64_t)guard->context->limits.body_bytes;
    bool large = scan->body_declared > most || scan->body_bytes > most;
    if (most != 0 && large && guard_http1_place(scan) == GUARD_HTTP1_IN_BODY && guard->refusal == NULL) {
        guard->refusal = &too_large;
    }
}

/* Notes when libh2o begins to wait for input again, and does what had to wait for that. */
static void note_http1(struct guard *guard) {
    bool waiting = guard->sock->_cb.read == on_guard_read && guard->sock->_cb.write == NULL;
    if (waiting && !guard->waiting) {
        guard->waiting_since_mono_ns = clock_mono_ns();
        guard_http1_upgrade_declined(&guard->http1);
    }
    guard->waiting = waiting;
    if (waiting) {
        ask_http1_body(guard);
        limit_http1_body(guard);
        try_refuse(guard);
    }
}

static void note_http1_input(struct guard *guard, enum guard_http1_place before, uint64_t requests_before) {
    int64_t now_mono_ns = clock_mono_ns();
    bool next_request = guard->http1.requests != requests_before;
    guard->read_mono_ns = now_mono_ns;
    enum guard_http1_place place = guard_http1_place(&guard->http1);
    if (place == GUARD_HTTP1_IN_HEAD && (before != GUARD_HTTP1_IN_HEAD || next_request)) {
        guard->head_since_mono_ns = now_mono_ns;
    }
    if (place == GUARD_HTTP1_IN_BODY && (before != GUARD_HTTP1_IN_BODY || next_request)) {
        guard->body_since_mono_ns = now_mono_ns;
    }
}

/* The last `count` bytes of the input are new. */
static void take_http1(struct guard *guard, size_t count) {
    h2o_buffer_t *input = guard->sock->input;
    enum guard_http1_place before = guard_http1_place(&guard->http1);
    uint64_t requests_before = guard->http1.requests;
    size_t safe_bytes;
    const struct guard_refusal *refusal =
        guard_http1_feed(&guard->http1, input->bytes + input->size - count, count, &safe_bytes);
    note_http1_input(guard, before, requests_before);
    if (refusal != NULL) {
        input->size -= count - safe_bytes;
        guard->refusal = refusal;
        if (safe_bytes == 0) {
            try_refuse(guard);
            return;
        }
    }
    if (!forward_read(guard, NULL)) {
        return;
    }
    hook(guard);
    if (guard->mode == GUARD_HTTP1) {
        note_http1(guard);
    }
}

/* ---- HTTP/2 ---- */

static enum guard_cut cut_of(enum guard_http2_result result) {
    return result == GUARD_HTTP2_FLOOD ? GUARD_CUT_FLOOD : GUARD_CUT_PROTOCOL;
}

/* A DATA frame takes a body past what may be gathered unproven. When the request was not passed on yet the question is
 * put again with the next input. flags are the frame's. */
static void ask_http2_body(struct guard *guard, char *flags, bool *asked) {
    const struct guard_hooks *hooks = &guard->context->hooks;
    if (*asked || hooks->may_gather == NULL) {
        return;
    }
    *asked = true;
    h2o_req_t *req = guard_find_http2_request(guard, guard->http2->stream_id);
    if (req == NULL) {
        return;
    }
    if (hooks->may_gather(hooks->data, req) == NULL) {
        guard_http2_prove(guard->http2);
        return;
    }
    *flags = (char)(*flags | 1);
    guard_http2_cut(guard->http2);
}

/* Reads the last `count` bytes of the input before libh2o does. */
static enum guard_http2_result scan_http2(struct guard *guard, size_t count) {
    char *bytes = guard->sock->input->bytes + guard->sock->input->size - count;
    int64_t now_mono_ns = clock_mono_ns();
    bool asked = false;
    while (count != 0) {
        size_t read_bytes;
        enum guard_http2_result result =
            guard_http2_feed(guard->http2, (const uint8_t *)bytes, count, now_mono_ns, &read_bytes);
        bytes += read_bytes;
        count -= read_bytes;
        if (result == GUARD_HTTP2_UPLOAD_UNPROVEN) {
            /* libh2o takes whole frames, so all nine bytes of this one's header are still in the input. */
            ask_http2_body(guard, bytes - GUARD_HTTP2_HEADER_BYTES + 4, &asked);
        } else if (result != GUARD_HTTP2_OK) {
            return result;
        }
    }
    return GUARD_HTTP2_OK;
}

static void park(struct guard *guard) {
    guard->parked = true;
    h2o_socket_read_stop(guard->sock);
}

static void deliver_http2(struct guard *guard) {
    if (guard->http2->draining && guard->http2->continued) {
        guard_cut(guard, GUARD_CUT_PROTOCOL);
        return;
    }
    if (!forward_read(guard, NULL)) {
        return;
    }
    guard_http2_forwarded(guard->http2);
    hook(guard);
    /* It stops reading with 512 KiB of replies queued, and when it is closing anyway. */
    if (guard->mode == GUARD_HTTP2 && guard->sock->_cb.read == NULL) {
        guard_cut(guard, GUARD_CUT_FLOOD);
    }
}

static void take_http2(struct guard *guard, size_t count) {
    guard->read_mono_ns = clock_mono_ns();
    enum guard_http2_result result = scan_http2(guard, count);
    if (result != GUARD_HTTP2_OK) {
        guard_cut(guard, cut_of(result));
        return;
    }
    hook(guard);
    if (guard_is_writing(guard)) {
        park(guard);
        return;
    }
    deliver_http2(guard);
}

/* The write that input had to wait for is done, or another one has followed it. */
static void unpark(struct guard *guard) {
    if (guard_is_writing(guard)) {
        h2o_socket_read_stop(guard->sock);
        return;
    }
    guard->parked = false;
    if (guard->sock->_cb.read == NULL) {
        /* It was the guard that stopped the reading; libh2o starts it again only when a write of its own completes, and
         * it may be waiting for just the input that is held here. */
        h2o_socket_read_start(guard->sock, guard->own_read);
        hook(guard);
    }
    deliver_http2(guard);
}

/* ---- the callbacks libh2o's socket calls ---- */

/* h2o_socket_cb */
static void on_guard_read(h2o_socket_t *sock, const char *err) {
    struct guard *guard = sock->on_close.data;
    if (err != NULL || guard->ended) {
        (void)forward_read(guard, err != NULL ? err : ended_error);
    } else if (guard->mode == GUARD_LINGER) {
        h2o_buffer_consume(&sock->input, sock->input->size);
    } else if (guard->mode == GUARD_HTTP1) {
        take_http1(guard, sock->bytes_read);
    } else if (guard->mode == GUARD_HTTP2) {
        take_http2(guard, sock->bytes_read);
    } else {
        (void)forward_read(guard, NULL);
    }
}

/* h2o_socket_cb */
static void on_guard_write(h2o_socket_t *sock, const char *err) {
    struct guard *guard = sock->on_close.data;
    size_t written_before = sock->bytes_written;
    h2o_socket_cb next_write = guard->next_write;
    guard->next_write = NULL;
    guard_enter(guard);
    next_write(sock, err);
    if (!guard_leave(guard)) {
        return;
    }
    guard->write_is_notify = sock->_cb.write != NULL && sock->bytes_written == written_before;
    hook(guard);
    if (guard->mode == GUARD_HTTP1) {
        note_http1(guard);
    } else if (guard->mode == GUARD_HTTP2 && guard->parked) {
        unpark(guard);
    }
}

/* ---- responses that were sent between two reads ---- */

/* loop_task.run: libh2o may have set its own callbacks again since these requests ended. No socket is read before. */
static void on_settle(struct loop_task *task) {
    struct guard_context *context = H2O_STRUCT_FROM_MEMBER(struct guard_context, settle_task, task);
    while (context->first_dirty != NULL) {
        struct guard *guard = context->first_dirty;
        unlink_dirty(guard);
        if (guard->ended) {
            tell_ended(guard);
            continue;
        }
        if (guard->sock->_cb.write != NULL && guard->sock->_cb.write != on_guard_write) {
            guard->write_is_notify = false;
        }
        hook(guard);
        if (guard->mode == GUARD_HTTP1) {
            note_http1(guard);
        }
    }
}

/* h2o_logger_t.log_access, which libh2o calls when it is done with a request, whatever became of it */
static void on_request_end(h2o_logger_t *logger, h2o_req_t *req) {
    (void)logger;
    h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);
    struct guard *guard = sock != NULL ? guard_of(sock) : NULL;
    if (guard == NULL) {
        return;
    }
    if (guard->mode == GUARD_HTTP2) {
        guard_http2_stream_ended(guard->http2, guard_stream_id(req), guard_was_answered(req));
    }
    mark_dirty(guard);
}

void guard_watch_path(h2o_pathconf_t *path) {
    h2o_logger_t *logger = h2o_create_logger(path, sizeof(*logger));
    logger->log_access = on_request_end;
}

/* ---- accepting ---- */

static void begin_http1(struct guard *guard) {
    const struct guard_limits *limits = &guard->context->limits;
    struct guard_http1_limits http1 = {.head_bytes = limits->http1_head_bytes, .fields = limits->http1_fields};
    guard_http1_init(&guard->http1, &http1);
    guard->mode = GUARD_HTTP1;
    guard->waiting = true;
    guard->waiting_since_mono_ns = guard->accepted_mono_ns;
    h2o_http1_accept(guard->accept_ctx, guard->sock, guard->connected_at);
}

static void begin_http2(struct guard *guard) {
    guard->http2 = malloc(sizeof(*guard->http2));
    CHECK(guard->http2 != NULL);
    guard_http2_init(guard->http2, &guard->context->limits.http2, clock_mono_ns());
    guard->http2->draining = guard->context->draining;
    guard->mode = GUARD_HTTP2;
    h2o_http2_accept(guard->accept_ctx, guard->sock, guard->connected_at);
}

/* Gives the socket to libh2o with its first bytes held back, so that the guard reads them first. */
static void begin_protocol(struct guard *guard, bool http2) {
    h2o_socket_t *sock = guard->sock;
    h2o_buffer_t *held = sock->input;
    h2o_buffer_init(&sock->input, &h2o_socket_buffer_prototype);
    if (http2) {
        begin_http2(guard);
    } else {
        begin_http1(guard);
    }
    h2o_buffer_dispose(&sock->input);
    sock->input = held;
    guard->own_read = sock->_cb.read;
    hook(guard);
    if (held->size == 0) {
        return;
    }
    if (http2) {
        take_http2(guard, held->size);
    } else {
        take_http1(guard, held->size);
    }
}

/* h2o_socket_cb: the first bytes on a plain port */
static void on_first_bytes(h2o_socket_t *sock, const char *err) {
    struct guard *guard = sock->on_close.data;
    if (err != NULL || guard->ended) {
        h2o_socket_close(sock);
        return;
    }
    size_t count = sock->input->size < PREFACE_BYTES ? sock->input->size : PREFACE_BYTES;
    bool may_be_http2 = memcmp(sock->input->bytes, preface, count) == 0;
    if (!may_be_http2 || count == PREFACE_BYTES) {
        begin_protocol(guard, may_be_http2);
    }
}

/* h2o_socket_cb */
static void on_handshake(h2o_socket_t *sock, const char *err) {
    struct guard *guard = sock->on_close.data;
    if (err != NULL || guard->ended) {
        h2o_socket_close(sock);
        return;
    }
    h2o_iovec_t chosen = h2o_socket_ssl_get_selected_protocol(sock);
    begin_protocol(guard, span_is(span_of(chosen.base, chosen.len), "h2"));
}

static struct guard *new_guard(struct guard_context *context, h2o_socket_t *sock, struct guard_address address) {
    struct guard *guard = calloc(1, sizeof(*guard));
    CHECK(guard != NULL);
    guard->context = context;
    guard->sock = sock;
    guard->address = address;
    guard->accepted_mono_ns = clock_mono_ns();
    guard->next = context->first;
    if (guard->next != NULL) {
        guard->next->previous = guard;
    }
    context->first = guard;
    context->connections++;
    sock->on_close.cb = on_guard_close;
    sock->on_close.data = guard;
    return guard;
}

struct guard *guard_accept(struct guard_context *context, h2o_accept_ctx_t *accept_ctx, h2o_socket_t *sock) {
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t len = h2o_socket_getpeername(sock, (struct sockaddr *)&peer);
    struct guard_address address = guard_address_of((struct sockaddr *)&peer, len);
    if (!take_address(context, address)) {
        count_cut(context, GUARD_CUT_ADDRESS);
        h2o_socket_close(sock);
        return NULL;
    }
    struct guard *guard = new_guard(context, sock, address);
    guard->accept_ctx = accept_ctx;
    guard->connected_at = *h2o_get_timestamp(context->h2o, NULL, NULL);
    if (accept_ctx->ssl_ctx != NULL) {
        guard->mode = GUARD_HANDSHAKE;
        h2o_socket_ssl_handshake(sock, accept_ctx->ssl_ctx, NULL, on_handshake);
    } else {
        guard->mode = GUARD_SNIFF;
        h2o_socket_read_start(sock, on_first_bytes);
    }
    return guard;
}

struct guard *guard_of(h2o_socket_t *sock) {
    return sock->on_close.cb == on_guard_close ? sock->on_close.data : NULL;
}

void guard_on_close(struct guard *guard, void (*on_close)(void *data), void *data) {
    guard->on_close = on_close;
    guard->on_close_data = data;
}

/* ---- the context ---- */

/* loop_timer.on_fire */
static void on_tick(struct loop_timer *timer) {
    struct guard_context *context = H2O_STRUCT_FROM_MEMBER(struct guard_context, tick_timer, timer);
    int64_t now_mono_ns = clock_mono_ns();
    guard_tick(context, now_mono_ns);
    loop_timer_set(context->loop, timer, now_mono_ns + TICK_MS * NS_PER_MS);
}

struct guard_context *guard_context_new(struct loop *loop, h2o_context_t *h2o, const struct guard_limits *limits,
                                        const struct guard_hooks *hooks) {
    struct guard_context *context = calloc(1, sizeof(*context));
    CHECK(context != NULL);
    context->loop = loop;
    context->h2o = h2o;
    context->limits = *limits;
    context->limits.http2.unproven_body_bytes = (uint64_t)limits->unproven_body_bytes;
    context->hooks = *hooks;
    context->addresses = guard_address_new();
    context->settle_task.run = on_settle;
    context->tick_timer.on_fire = on_tick;
    loop_timer_set(loop, &context->tick_timer, clock_mono_ns() + TICK_MS * NS_PER_MS);
    return context;
}

void guard_context_free(struct guard_context *context) {
    CHECK(context->first == NULL);
    loop_timer_clear(context->loop, &context->tick_timer);
    loop_task_cancel(context->loop, &context->settle_task);
    guard_address_free(context->addresses);
    free(context);
}
