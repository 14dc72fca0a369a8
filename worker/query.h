/* worker/query.h - values out of a request's query (application/x-www-form-urlencoded).
 * Used by: the worker. Pure. */
#ifndef TOLLGATE_WORKER_QUERY_H
#define TOLLGATE_WORKER_QUERY_H

#include "base/buffer.h"

/* The first value of this name as it stands there, encoded. False: there is none; *value is empty then. */
bool query_find(struct span query, const char *name, struct span *value);

/* Appends the value with %XX and + undone. What is no %XX stays as it is. */
void query_decode(struct span value, struct buffer *out);

#endif
