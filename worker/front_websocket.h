/* worker/front_websocket.h - WebSocket connections: their frames, deadlines and end (RFC 6455). What is said over them
 * is ws_session.h's.
 * Used by: front_http.c upgrades a request; front_listen.c tells of a drain.
 * libh2o gives the socket away with the 101 (h2o_http1_upgrade), wslay reads and writes frames, and this file moves the
 * bytes: one write in flight, messages of a turn together. libh2o's own glue would copy each frame into a write of its
 * own, let pings queue replies without bound, and close before a client has read why.
 * Memory: no input is read while more than a cap waits to leave. The guard keeps timing writes; silence is timed here.
 * Ownership: a websocket lives until its socket is closed. */
#ifndef TOLLGATE_WORKER_FRONT_WEBSOCKET_H
#define TOLLGATE_WORKER_FRONT_WEBSOCKET_H

#include "worker/front.h"

struct request;
struct st_h2o_req_t;
struct websocket;
struct worker;

/* Takes what a connection needs of the request that becomes it. NULL: no memory. */
struct websocket *front_websocket_new(struct request *request, enum ws_form form);

/* Sends the 101, whose other headers are set; libh2o is done with the request when it has left. */
void front_websocket_upgrade(struct websocket *websocket, struct st_h2o_req_t *req);

/* The worker drains: connections end with 1001 as soon as nothing runs on them. */
void front_websocket_drain(struct worker *worker);

#endif
