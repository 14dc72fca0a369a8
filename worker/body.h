/* worker/body.h - a request's body: read in its client's dialect, written in its upstream's.
 * Used by: admit.c reads, the relay writes. Where client and upstream speak the same dialect the bytes stay as they are
 * but for a few values; else the body is said anew, and what cannot be said is refused by name. */
#ifndef TOLLGATE_WORKER_BODY_H
#define TOLLGATE_WORKER_BODY_H

#include "worker/request.h"

/* Reads and checks the body; fills request->chat (and request->messages) with what admission and routing go by. */
struct verdict body_read(struct request *request);

/* What a reader found wrong, as a verdict. */
struct verdict body_verdict(const struct chat_verdict *wrong);

/* Can this upstream be asked at all? */
bool body_fits(const struct request *request, const struct conf_upstream *upstream);

/* Why no upstream can: the client asked for what none of its model's speaks. */
struct verdict body_misfit(const struct request *request);

/* Must the answer of the present try be translated for the client? */
bool body_is_translated(const struct request *request);

/* Writes the body for the present try into request->upstream_body. */
struct verdict body_write(struct request *request);

#endif
