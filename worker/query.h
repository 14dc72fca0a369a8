/* worker/query.h - reads the query of a request's target (application/x-www-form-urlencoded).
 * Used by: the worker. Pure. Spans point into the query. */
#ifndef TOLLGATE_WORKER_QUERY_H
#define TOLLGATE_WORKER_QUERY_H

#include "base/buffer.h"

/* Is there a parameter of this name? *value is the first one's, as it stands there; empty when it has none. */
bool query_find(struct span query, const char *name, struct span *value);

/* Appends the value with %XX and + undone. */
void query_decode(struct span value, struct buffer *out);

/* The same into out[size], zero-terminated. False, with "" in out, when it does not fit or holds a NUL. */
MUST_CHECK bool query_copy(struct span value, char *out, size_t size);

#endif
