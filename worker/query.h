/* worker/query.h - reads the query of a request's target.
 * Used by: ws_handshake.c and ws_session.c. Pure. Spans point into the query. */
#ifndef TOLLGATE_WORKER_QUERY_H
#define TOLLGATE_WORKER_QUERY_H

#include "base/check.h"
#include "base/span.h"

/* The value of the first parameter of this name, as it stands there; with a NULL base when there is none. */
struct span query_find(struct span query, const char *name);

/* Undoes %XX and +. False, with "" in out, when the value does not fit or holds a NUL. */
MUST_CHECK bool query_decode(struct span value, char *out, size_t size);

#endif
