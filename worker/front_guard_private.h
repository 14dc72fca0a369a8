/* worker/front_guard_private.h - what front_guard.c (hooks) and front_guard_time.c (deadlines) share; for no one else.
 * A guard is freed by its socket's on_close. Whoever calls into libh2o therefore holds it (guard_enter, guard_leave).
 */
#ifndef TOLLGATE_WORKER_FRONT_GUARD_PRIVATE_H
#define TOLLGATE_WORKER_FRONT_GUARD_PRIVATE_H

#include "base/buffer.h"
#include "worker/front_guard.h"
#include "worker/guard_address.h"
#include "worker/loop.h"

enum guard_mode {
    GUARD_HANDSHAKE, /* TLS */
    GUARD_SNIFF,     /* plain, first bytes awaited */
    GUARD_HTTP1,
    GUARD_HTTP2,
    GUARD_PASS,  /* another protocol took the socket over */
    GUARD_LINGER /* refused: the answer is on its way, input is thrown away */
};

struct guard {
    struct guard_context *context;
    h2o_accept_ctx_t *accept_ctx;
    h2o_socket_t *sock;
    struct guard *previous;
    struct guard *next;
    struct guard *next_dirty;
    enum guard_mode mode;
    int depth; /* calls into libh2o that are on the stack */
    bool dirty;
    bool ended;             /* shut down; libh2o is to close it */
    bool closed;            /* the socket is gone; freed when depth is 0 */
    bool parked;            /* HTTP/2: not reading until the write in flight is done */
    bool write_is_notify;   /* libh2o only waits for the socket to take bytes; nothing is in flight */
    bool waiting;           /* HTTP/1: libh2o reads */
    bool write_was_pending; /* at the last tick */
    struct guard_address address;
    struct timeval connected_at;
    h2o_socket_cb own_read;  /* the read callback of the protocol that the guard follows */
    h2o_socket_cb next_read; /* libh2o's callbacks that the guard stands before */
    h2o_socket_cb next_write;
    void (*on_close)(void *data);
    void *on_close_data;
    const struct guard_refusal *refusal; /* to be answered as soon as libh2o waits for input */
    struct buffer answer;
    uint64_t proven_request; /* HTTP/1: number of the request whose body may be gathered, from 1 */
    int64_t accepted_mono_ns;
    int64_t waiting_since_mono_ns; /* HTTP/1: since libh2o reads again */
    int64_t head_since_mono_ns;
    int64_t body_since_mono_ns;
    int64_t read_mono_ns; /* last input */
    int64_t linger_until_mono_ns;
    int64_t write_progress_mono_ns;
    uint64_t write_acked_bytes;
    struct guard_http1 http1;
    struct guard_http2 *http2;
};

struct guard_context {
    struct loop *loop;
    h2o_context_t *h2o;
    struct guard_limits limits;
    struct guard_hooks hooks;
    struct guard_address_table *addresses;
    struct guard *first;
    struct guard *cursor; /* next guard of a walk over all of them */
    struct guard *first_dirty;
    struct loop_task settle_task;
    struct loop_timer tick_timer;
    bool draining;
    size_t http1_request_offset; /* of h2o_req_t in libh2o's HTTP/1 connection; 0: not known yet */
    int64_t connections;
    int64_t cuts[GUARD_CUT_COUNT];
};

/* Holds the guard over a call into libh2o. guard_leave returns false when it is gone (freed or about to be). */
void guard_enter(struct guard *guard);
bool guard_leave(struct guard *guard);

/* Shuts the connection down and lets libh2o close it. The guard may be freed in here. */
void guard_cut(struct guard *guard, enum guard_cut cut);

/* Answers with the refusal and closes, now or as soon as libh2o waits for input. May free the guard. */
void guard_refuse(struct guard *guard, const struct guard_refusal *refusal);

/* True while bytes are on their way to the socket. */
bool guard_is_writing(const struct guard *guard);

/* The request that libh2o reads or serves on this HTTP/1 connection; NULL when it can't be found. */
h2o_req_t *guard_find_http1_request(struct guard *guard);

/* The request of a stream (0: of any) that libh2o has open on this HTTP/2 connection, or NULL. Walks over all HTTP/2
 * requests of the worker. */
h2o_req_t *guard_find_http2_request(struct guard *guard, uint32_t stream_id);

/* The stream of an HTTP/2 request; 0 for HTTP/1. */
uint32_t guard_stream_id(h2o_req_t *req);

/* True when the whole response was handed to the connection. */
bool guard_was_answered(const h2o_req_t *req);

#define GUARD_EACH(guard_, context_)                                                                                   \
    for (struct guard *guard_ = (context_)->first; guard_ != NULL && ((context_)->cursor = guard_->next, true);        \
         guard_ = (context_)->cursor)

#endif
