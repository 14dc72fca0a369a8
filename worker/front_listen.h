/* worker/front_listen.h - the worker's listening sockets, TLS and libh2o's set-up.
 * Used by: worker_process.c. Sockets were opened by the master; TLS contexts are made here, with ticket keys that all
 * workers share, so that sessions resume on any of them. */
#ifndef TOLLGATE_WORKER_FRONT_LISTEN_H
#define TOLLGATE_WORKER_FRONT_LISTEN_H

#include <stdint.h>

#include "base/buffer.h"

struct worker;
struct front_side;

/* Sets libh2o up and starts to accept. NULL with *error set: a certificate or key cannot be used. */
MUST_CHECK struct front_side *front_listen(struct worker *worker, struct buffer *error);

/* Stops accepting, asks HTTP/2 clients to go and lets every other connection end with its request. */
void front_drain(struct front_side *front);

/* Connections open now. */
int64_t front_connections(const struct front_side *front);

/* Ends connections that have had nothing running for so long, or have said nothing yet for so long; called now and then
 * while draining. */
void front_close_idle(struct front_side *front, int64_t least_idle_ns, int64_t least_silent_ns);

#endif
