#include <h2o.h>

#include "worker/front_websocket.h"

#include <h2o/http1.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

#include "base/clock.h"
#include "worker/front_guard.h"
#include "worker/worker_state.h"
#include "worker/ws_session.h"

enum {
    OUT_BYTES_MOST = 72 << 20,
    PIECE_BYTES = 64 << 10,
    READ_BELOW_BYTES = 1 << 20, /* input is left alone while more than this waits to leave */
    RECEIVE_BYTES = 256 << 10,  /* of the kernel; libh2o reads all that is there before we see any of it */
    FRAME_COST_BYTES = 64,      /* a queued frame counts for this much, however short it is */
    KEPT_BYTES = 16 << 10,
    HANDSHAKE_KEY_BYTES = 24,
    ACCEPT_BYTES = 29,
    MISSED_PONGS_MOST = 2,
    CLOSE_GOING_AWAY = 1001,
    CLOSE_UNSUPPORTED = 1003,
    CLOSE_TOO_BIG = 1009,
    CLOSE_NO_PONG = 1011,
};

/* How long a peer may take to answer a close, or to read ours. */
#define CLOSING_NS (2 * NS_PER_S)

struct websocket {
    struct ws_session session; /* first */
    struct worker *worker;
    struct websocket *next; /* the worker's list */
    struct websocket *previous;
    h2o_socket_t *sock; /* NULL until the 101 has left */
    wslay_event_context_ptr frames;
    struct buffer message; /* of the client, as its frames arrive */
    struct buffer filling; /* what leaves with the next write */
    struct buffer flying;  /* what is being written, a piece at a time */
    size_t flown;
    struct loop_task pump;
    struct loop_timer beat;   /* looks for silence */
    struct loop_timer ending; /* the peer takes too long to close */
    int close_code;           /* to be sent behind what is queued; 0: none */
    int missed_pongs;
    bool heard;      /* anything since the last beat */
    bool spoke;      /* a message of ours since the last beat */
    bool in_control; /* the frame being read is a control frame */
    bool writing;
    bool reading;
    bool shut; /* nothing more will be sent; input is thrown away until the peer closes */
};

#define WEBSOCKET_OF(pointer, member)                                                                                  \
    ((struct websocket *)(void *)((char *)(pointer)-offsetof(struct websocket, member)))

static struct websocket *websocket_of(const struct ws_session *session) { return (struct websocket *)(void *)session; }

static void pump_later(struct websocket *websocket) { loop_defer(websocket->worker->loop, &websocket->pump); }

static size_t unsent_bytes(const struct websocket *websocket) {
    return websocket->filling.len + websocket->flying.len - websocket->flown +
           wslay_event_get_queued_msg_length(websocket->frames) +
           wslay_event_get_queued_msg_count(websocket->frames) * FRAME_COST_BYTES;
}

static bool is_closing(const struct websocket *websocket) {
    return websocket->close_code != 0 || !wslay_event_get_read_enabled(websocket->frames) ||
           wslay_event_get_close_received(websocket->frames) || wslay_event_get_close_sent(websocket->frames);
}

/* --- life --- */

static void link_websocket(struct websocket *websocket) {
    struct worker *worker = websocket->worker;
    websocket->next = worker->websockets;
    if (websocket->next != NULL) {
        websocket->next->previous = websocket;
    }
    worker->websockets = websocket;
}

static void free_websocket(struct websocket *websocket) {
    struct worker *worker = websocket->worker;
    *(websocket->previous != NULL ? &websocket->previous->next : &worker->websockets) = websocket->next;
    if (websocket->next != NULL) {
        websocket->next->previous = websocket->previous;
    }
    loop_task_cancel(worker->loop, &websocket->pump);
    loop_timer_clear(worker->loop, &websocket->beat);
    loop_timer_clear(worker->loop, &websocket->ending);
    ws_session_fini(&websocket->session);
    wslay_event_context_free(websocket->frames);
    buffer_fini(&websocket->message);
    buffer_fini(&websocket->filling);
    buffer_fini(&websocket->flying);
    free(websocket);
}

/* The end, from any of libh2o's callbacks, a timer or a task; never from one of wslay's. */
static void close_socket(struct websocket *websocket) {
    h2o_socket_t *sock = websocket->sock;
    free_websocket(websocket);
    h2o_socket_close(sock);
}

/* loop_timer.on_fire */
static void on_ending(struct loop_timer *timer) { close_socket(WEBSOCKET_OF(timer, ending)); }

/* --- writing --- */

static void on_written(h2o_socket_t *sock, const char *error);

/* While a piece is in flight its buffer is libh2o's, to the last byte. */
static void write_piece(struct websocket *websocket) {
    if (websocket->writing) {
        return;
    }
    if (websocket->flown == websocket->flying.len) {
        struct buffer sent = websocket->flying;
        websocket->flying = websocket->filling;
        websocket->filling = sent;
        websocket->flown = 0;
        if (websocket->filling.size > KEPT_BYTES) {
            buffer_fini(&websocket->filling);
        } else {
            buffer_clear(&websocket->filling);
        }
    }
    size_t left = websocket->flying.len - websocket->flown;
    size_t len = left < PIECE_BYTES ? left : PIECE_BYTES;
    if (len == 0) {
        return;
    }
    h2o_iovec_t piece = h2o_iovec_init(websocket->flying.base + websocket->flown, len);
    websocket->flown += len;
    websocket->writing = true;
    worker_count(websocket->worker, SHM_COUNTER_bytes_relayed, len);
    h2o_socket_write(websocket->sock, &piece, 1, on_written);
}

/* wslay_event_send_callback: a piece of a frame. */
static ssize_t on_frame_bytes(wslay_event_context_ptr frames, const uint8_t *bytes, size_t len, int flags,
                              void *context) {
    struct websocket *websocket = context;
    (void)flags;
    buffer_append(&websocket->filling, bytes, len);
    if (websocket->filling.failed) {
        wslay_event_set_error(frames, WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
    }
    return (ssize_t)len;
}

/* Turns queued messages into bytes. False: no memory for them. */
static bool write_frames(struct websocket *websocket) {
    if (wslay_event_want_write(websocket->frames) && wslay_event_send(websocket->frames) != 0) {
        return false;
    }
    if (websocket->close_code == 0 || wslay_event_get_close_sent(websocket->frames)) {
        return true;
    }
    (void)wslay_event_queue_close(websocket->frames, (uint16_t)websocket->close_code, NULL, 0);
    return !wslay_event_want_write(websocket->frames) || wslay_event_send(websocket->frames) == 0;
}

static void queue(struct websocket *websocket, uint8_t opcode, struct span text) {
    const struct wslay_event_msg message = {
        .opcode = opcode, .msg = (const uint8_t *)text.base, .msg_length = text.len};
    if (websocket->close_code == 0) {
        (void)wslay_event_queue_msg(websocket->frames, &message); /* refused once the connection is closing */
        pump_later(websocket);
    }
}

/* Closes with this code once what is queued has left. */
static void close_with(struct websocket *websocket, int code) {
    if (!is_closing(websocket)) {
        websocket->close_code = code;
        pump_later(websocket);
    }
}

/* --- reading --- */

/* wslay_event_recv_callback */
static ssize_t on_want_bytes(wslay_event_context_ptr frames, uint8_t *to, size_t len, int flags, void *context) {
    struct websocket *websocket = context;
    h2o_buffer_t *input = websocket->sock->input;
    (void)flags;
    if (input->size == 0 || unsent_bytes(websocket) > READ_BELOW_BYTES) {
        wslay_event_set_error(frames, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    size_t taken = input->size < len ? input->size : len;
    memcpy(to, input->bytes, taken);
    h2o_buffer_consume(&websocket->sock->input, taken);
    return (ssize_t)taken;
}

static void refuse_frame(struct websocket *websocket, int code) {
    (void)wslay_event_queue_close(websocket->frames, (uint16_t)code, NULL, 0);
    wslay_event_shutdown_read(websocket->frames);
    buffer_fini(&websocket->message);
}

/* wslay_event_on_frame_recv_start_callback */
static void on_frame_start(wslay_event_context_ptr frames, const struct wslay_event_on_frame_recv_start_arg *frame,
                           void *context) {
    struct websocket *websocket = context;
    (void)frames;
    websocket->in_control = wslay_is_ctrl_frame(frame->opcode);
    if (frame->opcode == WSLAY_BINARY_FRAME) {
        refuse_frame(websocket, CLOSE_UNSUPPORTED);
    } else if (!websocket->in_control && frame->payload_length > websocket->message.cap - websocket->message.len) {
        refuse_frame(websocket, CLOSE_TOO_BIG);
    }
}

/* wslay_event_on_frame_recv_chunk_callback */
static void on_frame_chunk(wslay_event_context_ptr frames, const struct wslay_event_on_frame_recv_chunk_arg *chunk,
                           void *context) {
    struct websocket *websocket = context;
    if (!websocket->in_control && wslay_event_get_read_enabled(frames)) {
        buffer_append(&websocket->message, chunk->data, chunk->data_length);
    }
}

/* wslay_event_on_msg_recv_callback: a whole message, of which wslay keeps nothing but control frames. */
static void on_message(wslay_event_context_ptr frames, const struct wslay_event_on_msg_recv_arg *message,
                       void *context) {
    struct websocket *websocket = context;
    if (message->opcode != WSLAY_TEXT_FRAME || !wslay_event_get_read_enabled(frames)) {
        return;
    }
    if (websocket->message.failed) {
        refuse_frame(websocket, CLOSE_TOO_BIG); /* no memory */
        return;
    }
    if (!is_closing(websocket)) {
        ws_session_take(&websocket->session, buffer_span(&websocket->message));
    }
    if (websocket->message.size > KEPT_BYTES) {
        buffer_fini(&websocket->message);
    } else {
        buffer_clear(&websocket->message);
    }
}

/* Takes frames out of the input. False: wslay can't go on. */
static bool read_frames(struct websocket *websocket) {
    while (websocket->sock->input->size != 0) {
        size_t before = websocket->sock->input->size;
        if (!wslay_event_want_read(websocket->frames) || websocket->shut) {
            h2o_buffer_consume(&websocket->sock->input, before);
            return true;
        }
        if (wslay_event_recv(websocket->frames) != 0) {
            wslay_event_shutdown_read(websocket->frames);
            return write_frames(websocket);
        }
        if (!write_frames(websocket)) {
            return false;
        }
        if (websocket->sock->input->size == before) {
            return true;
        }
    }
    return true;
}

static void on_readable(h2o_socket_t *sock, const char *error);

static void choose_reading(struct websocket *websocket) {
    bool wanted = websocket->sock->input->size == 0 || websocket->shut;
    if (wanted == websocket->reading) {
        return;
    }
    websocket->reading = wanted;
    if (wanted) {
        h2o_socket_read_start(websocket->sock, on_readable);
    } else {
        h2o_socket_read_stop(websocket->sock);
    }
}

/* --- the end --- */

static void set_ending(struct websocket *websocket) {
    if (websocket->ending.heap_place == 0) {
        loop_timer_set(websocket->worker->loop, &websocket->ending, clock_mono_ns() + CLOSING_NS);
    }
}

/* Goes on with the closing handshake, if there is one. False: the socket is closed and the websocket freed. */
static bool follow_closing(struct websocket *websocket) {
    wslay_event_context_ptr frames = websocket->frames;
    if (!is_closing(websocket)) {
        return true;
    }
    if (wslay_event_get_close_received(frames)) {
        ws_session_cancel(&websocket->session);
    }
    if (websocket->writing || unsent_bytes(websocket) != 0) {
        return true; /* the guard times that */
    }
    set_ending(websocket);
    if (wslay_event_get_close_sent(frames) && wslay_event_get_close_received(frames)) {
        close_socket(websocket);
        return false;
    }
    if (!wslay_event_want_read(frames) && !websocket->shut) {
        /* Its bytes are read until it has seen why: closing with some unread would reset the connection. */
        websocket->shut = true;
        ws_session_cancel(&websocket->session);
        (void)shutdown(h2o_socket_get_fd(websocket->sock), SHUT_WR);
    }
    return true;
}

/* Moves whatever can be moved. May free the websocket. */
static void run_pump(struct websocket *websocket) {
    if (!write_frames(websocket) || !read_frames(websocket)) {
        close_socket(websocket);
        return;
    }
    write_piece(websocket);
    if (follow_closing(websocket)) {
        choose_reading(websocket);
    }
}

/* loop_task.run */
static void on_pump(struct loop_task *task) {
    struct websocket *websocket = WEBSOCKET_OF(task, pump);
    if (websocket->sock != NULL) {
        run_pump(websocket);
    }
}

/* h2o_socket_cb */
static void on_readable(h2o_socket_t *sock, const char *error) {
    struct websocket *websocket = sock->data;
    if (error != NULL) {
        close_socket(websocket);
        return;
    }
    websocket->heard = true;
    run_pump(websocket);
}

/* h2o_socket_cb */
static void on_written(h2o_socket_t *sock, const char *error) {
    struct websocket *websocket = sock->data;
    websocket->writing = false;
    if (error != NULL) {
        close_socket(websocket);
        return;
    }
    ws_session_drained(&websocket->session);
    run_pump(websocket);
}

/* --- silence and drain --- */

static bool is_leaving(const struct ws_session *session) {
    const struct websocket *websocket = websocket_of(session);
    const struct guard *guard = websocket->sock != NULL ? guard_of(websocket->sock) : NULL;
    return is_closing(websocket) || websocket->worker->draining || (guard != NULL && guard_is_expiring(guard));
}

static void leave_when_idle(struct ws_session *session) {
    if (ws_session_is_idle(session) && is_leaving(session)) {
        close_with(websocket_of(session), CLOSE_GOING_AWAY);
    }
}

static void ping_when_silent(struct websocket *websocket) {
    bool is_silent = !websocket->heard && !websocket->spoke && unsent_bytes(websocket) == 0;
    websocket->missed_pongs = websocket->heard ? 0 : websocket->missed_pongs;
    websocket->heard = websocket->spoke = false;
    if (!is_silent || is_closing(websocket)) {
        return;
    }
    if (websocket->missed_pongs >= MISSED_PONGS_MOST) {
        close_with(websocket, CLOSE_NO_PONG);
        return;
    }
    websocket->missed_pongs++;
    queue(websocket, WSLAY_PING, SPAN_EMPTY);
}

/* loop_timer.on_fire */
static void on_beat(struct loop_timer *timer) {
    struct websocket *websocket = WEBSOCKET_OF(timer, beat);
    int64_t interval_ns = websocket->worker->conf->streams.heartbeat_ms * NS_PER_MS;
    loop_timer_set(websocket->worker->loop, timer, clock_mono_ns() + interval_ns);
    if (websocket->sock != NULL) {
        ping_when_silent(websocket);
        leave_when_idle(&websocket->session);
    }
}

void front_websocket_drain(struct worker *worker) {
    for (struct websocket *websocket = worker->websockets; websocket != NULL; websocket = websocket->next) {
        leave_when_idle(&websocket->session);
    }
}

/* --- what the session asks --- */

static void send_text(struct ws_session *session, struct span text) {
    struct websocket *websocket = websocket_of(session);
    websocket->spoke = true;
    queue(websocket, WSLAY_TEXT_FRAME, text);
}

static size_t pending_bytes(const struct ws_session *session) { return unsent_bytes(websocket_of(session)); }

static const struct ws_wire wire = {
    .send = send_text, .pending_bytes = pending_bytes, .is_leaving = is_leaving, .on_idle = leave_when_idle};

/* --- the upgrade --- */

static bool init_frames(struct websocket *websocket) {
    const struct wslay_event_callbacks callbacks = {.recv_callback = on_want_bytes,
                                                    .send_callback = on_frame_bytes,
                                                    .on_frame_recv_start_callback = on_frame_start,
                                                    .on_frame_recv_chunk_callback = on_frame_chunk,
                                                    .on_msg_recv_callback = on_message};
    if (wslay_event_context_server_init(&websocket->frames, &callbacks, websocket) != 0) {
        return false;
    }
    wslay_event_config_set_no_buffering(websocket->frames, 1);
    return true;
}

struct websocket *front_websocket_new(struct request *request, enum ws_form form) {
    struct websocket *websocket = calloc(1, sizeof(*websocket));
    if (websocket == NULL || !init_frames(websocket)) {
        free(websocket);
        return NULL;
    }
    websocket->worker = request->worker;
    websocket->pump.run = on_pump;
    websocket->beat.on_fire = on_beat;
    websocket->ending.on_fire = on_ending;
    buffer_init(&websocket->message, (size_t)request->worker->conf->request_limits.body_bytes);
    buffer_init(&websocket->filling, OUT_BYTES_MOST);
    buffer_init(&websocket->flying, OUT_BYTES_MOST);
    bool good = ws_session_init(&websocket->session, &wire, request, form);
    link_websocket(websocket);
    if (!good) {
        free_websocket(websocket);
        return NULL;
    }
    return websocket;
}

static void limit_receiving(h2o_socket_t *sock) {
    const int bytes = RECEIVE_BYTES;
    (void)setsockopt(h2o_socket_get_fd(sock), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

/* h2o_http1_upgrade_cb */
static void on_upgraded(void *context, h2o_socket_t *sock, size_t request_bytes) {
    struct websocket *websocket = context;
    if (sock == NULL) {
        free_websocket(websocket);
        return;
    }
    websocket->sock = sock;
    sock->data = websocket;
    h2o_buffer_consume(&sock->input, request_bytes);
    limit_receiving(sock);
    int64_t interval_ns = websocket->worker->conf->streams.heartbeat_ms * NS_PER_MS;
    loop_timer_set(websocket->worker->loop, &websocket->beat, clock_mono_ns() + interval_ns);
    choose_reading(websocket);
    leave_when_idle(&websocket->session);
    pump_later(websocket);
}

/* The proof that the handshake was understood: RFC 6455, 4.2.2. */
static void write_accept(struct span key, unsigned char out[static ACCEPT_BYTES]) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char joined[HANDSHAKE_KEY_BYTES + sizeof(guid) - 1];
    unsigned char digest[SHA_DIGEST_LENGTH];
    CHECK(key.len == HANDSHAKE_KEY_BYTES);
    memcpy(joined, key.base, HANDSHAKE_KEY_BYTES);
    memcpy(joined + HANDSHAKE_KEY_BYTES, guid, sizeof(guid) - 1);
    (void)SHA1(joined, sizeof(joined), digest);
    (void)EVP_EncodeBlock(out, digest, sizeof(digest));
}

void front_websocket_upgrade(struct websocket *websocket, h2o_req_t *req) {
    unsigned char accept[ACCEPT_BYTES];
    ssize_t at = h2o_find_header_by_str(&req->headers, H2O_STRLIT("sec-websocket-key"), -1);
    CHECK(at >= 0);
    write_accept(span_of(req->headers.entries[at].value.base, req->headers.entries[at].value.len), accept);
    h2o_iovec_t value = h2o_strdup(&req->pool, (const char *)accept, ACCEPT_BYTES - 1);
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_UPGRADE, NULL, H2O_STRLIT("websocket"));
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("sec-websocket-accept"), 0, NULL, value.base,
                          value.len);
    h2o_http1_upgrade(req, NULL, 0, on_upgraded, websocket);
}
