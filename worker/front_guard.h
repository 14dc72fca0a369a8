/* worker/front_guard.h - stands between client sockets and libh2o 2.2.5; ends connections that would harm the worker.
 * It refuses ambiguous HTTP/1 requests with a JSON error (guard_http1.h), prices and bounds HTTP/2 frames
 * (guard_http2.h), hands libh2o no input while a write is in flight (which is what its HTTP/2 asserts trip over),
 * keeps every deadline of `request_limits`, and counts connections per address.
 * Used by: the worker's listeners (front_listen.c), in the loop's thread, after fork. Blocking: never.
 *
 * 1. Start. Before h2o_context_init: guard_configure(), and guard_watch_path() on EVERY h2o_pathconf_t. Without the
 *    latter the guard does not learn that a response which was sent later has ended, and misses the next request.
 *    Leave http2.max_concurrent_requests_per_connection at 100: lower values abort the worker.
 *    Then guard_context_new(), once a worker. SIGPIPE must be ignored.
 * 2. Accept. sock = h2o_evloop_socket_accept(listener); guard = guard_accept(context, &accept_ctx, sock); no more.
 *    NEVER call h2o_accept, h2o_http1_accept or h2o_http2_accept. The guard does the TLS handshake when
 *    accept_ctx.ssl_ctx is set and chooses by ALPN (h2, else HTTP/1). On a plain port the first bytes choose: the
 *    HTTP/2 preface, else HTTP/1, from which `Upgrade: h2c` is followed too. accept_ctx must outlive the connection.
 *    NULL means that the address has too many connections; the socket is closed already.
 *    sock->on_close belongs to the guard; guard_on_close() is for your own hook.
 * 3. Request. In on_req: guard_of(req->conn->callbacks->get_socket(req->conn)). While guard_is_expiring(), set
 *    req->http1_is_persistent = 0 before the response starts.
 * 4. Stalls. A response whose h2o_send got no proceed for write_timeout (an HTTP/2 window of zero) is known to the
 *    front alone: time it there and call guard_end(). The guard times sockets that take no bytes.
 * 5. Drain. guard_context_drain() right before h2o_context_request_shutdown(); guard_close_idle() whenever idle
 *    HTTP/1 connections shall go.
 * 6. WebSocket. Once libh2o has given the socket away (101 sent), only stalled writes are timed.
 *
 * The guard uses one timer and one deferred task of the loop: for deadlines, and to hook in again after a response.
 * Ownership: a guard lives until its socket is closed; do not keep the pointer past on_close. */
#ifndef TOLLGATE_WORKER_FRONT_GUARD_H
#define TOLLGATE_WORKER_FRONT_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include <h2o.h>

#include "base/span.h"
#include "worker/guard_http1.h"
#include "worker/guard_http2.h"

struct guard;
struct guard_context;
struct loop;

/* 0 in a time, rate or number means "none". */
struct guard_limits {
    int64_t header_timeout_ms; /* TLS handshake, first request, each request head, each HTTP/2 header block */
    int64_t body_timeout_ms;   /* between two reads of a body */
    int64_t body_rate_bytes;   /* bytes a second a body must come with, on average, after the first body_timeout */
    int64_t idle_timeout_ms;   /* between two requests of an HTTP/1 connection */
    int64_t write_timeout_ms;  /* a write of which no byte is acknowledged */
    int64_t connection_lifetime_ms;
    int64_t connections_per_address; /* in this worker; may_connect can know of others */
    uint32_t http1_head_bytes;
    uint32_t http1_fields;
    struct guard_http2_limits http2;
    int64_t body_bytes;          /* HTTP/1: the largest body; more is answered with 413 */
    int64_t unproven_body_bytes; /* a body may grow this far before may_gather is asked */
};

enum guard_cut {
    GUARD_CUT_ADDRESS,  /* refused at accept */
    GUARD_CUT_REQUEST,  /* answered with 400, 408, 431 or may_gather's refusal, then closed */
    GUARD_CUT_FLOOD,    /* HTTP/2: the bucket ran empty, or libh2o's queue of replies ran full */
    GUARD_CUT_PROTOCOL, /* HTTP/2: a frame, header block or body that breaks a bound */
    GUARD_CUT_TIMEOUT,  /* a deadline passed */
    GUARD_CUT_STALL,    /* a write made no progress */
    GUARD_CUT_LIFETIME, /* reached its age with nothing going on */
    GUARD_CUT_ASKED,    /* guard_end, guard_close_idle */
    GUARD_CUT_COUNT
};

/* What the guard asks its owner. Every function may be NULL. */
struct guard_hooks {
    void *data;
    /* A body passed unproven_body_bytes: may this request (its headers are complete, its body is not) have it gathered?
     * NULL: yes. Otherwise HTTP/1 gets the refusal as its answer; an HTTP/2 body is cut short there, so that the
     * handler sees the request with what has come, or the stream is reset when a Content-Length says otherwise. */
    const struct guard_refusal *(*may_gather)(void *data, h2o_req_t *req);
    /* May the address (in IPv6 form) have one connection more? Asked of each that this worker's own limit lets in;
     * every true is followed by one disconnected. */
    bool (*may_connect)(void *data, const uint8_t address[static 16]);
    void (*disconnected)(void *data, const uint8_t address[static 16]);
    /* Writes the x-request-id of an answer that the guard gives itself, zero-terminated. */
    void (*make_request_id)(void *data, char *out, size_t size);
    void (*on_cut)(void *data, enum guard_cut cut);
};

/* The defaults of the interface's request_limits and of reliability.md 1.3. */
struct guard_limits guard_limits_default(void);

/* A context for one worker's connections. limits and hooks are copied; loop and h2o must outlive it. */
struct guard_context *guard_context_new(struct loop *loop, h2o_context_t *h2o, const struct guard_limits *limits,
                                        const struct guard_hooks *hooks);

/* Frees a context that has no connection left. */
void guard_context_free(struct guard_context *context);

/* Sets the fields of libh2o's configuration that the guard relies on: its timeouts, h2c, and that request bodies stay
 * in memory. max_request_entity_size and server_name stay the caller's. Call before h2o_context_init. */
void guard_configure(h2o_globalconf_t *conf, const struct guard_limits *limits);

/* Lets the guard learn of every request that ends on this path. Call once for each path, before h2o_context_init. */
void guard_watch_path(h2o_pathconf_t *path);

/* Takes an accepted socket into libh2o; see the flow above. NULL: refused and closed. */
struct guard *guard_accept(struct guard_context *context, h2o_accept_ctx_t *accept_ctx, h2o_socket_t *sock);

/* The guard of a socket that guard_accept took; NULL for any other. */
struct guard *guard_of(h2o_socket_t *sock);

/* Calls on_close(data) once, when the connection is gone. */
void guard_on_close(struct guard *guard, void (*on_close)(void *data), void *data);

/* Ends the connection: safe to call from anywhere, libh2o tears it down in a later turn. */
void guard_end(struct guard *guard);

/* True once connection_lifetime has passed or the worker drains: the connection should not be kept after its response.
 */
bool guard_is_expiring(const struct guard *guard);

/* The worker drains: CONTINUATION frames end their connection from now on. */
void guard_context_drain(struct guard_context *context);

/* Ends HTTP/1 connections that have waited for a next request for so long, and those that have been silent from their
 * beginning for so long. */
void guard_close_idle(struct guard_context *context, int64_t least_idle_ns, int64_t least_silent_ns);

/* Keeps the deadlines. The context's own timer calls it four times a second. */
void guard_tick(struct guard_context *context, int64_t now_mono_ns);

/* Open connections, and how many were cut for a reason. */
int64_t guard_context_connections(const struct guard_context *context);
int64_t guard_context_cuts(const struct guard_context *context, enum guard_cut cut);

#endif
