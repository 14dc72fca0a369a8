/* worker/endpoints.h - which path and method is what, and the answers the relay gives by itself.
 * Used by: the request machine. Nothing that reaches an upstream is answered here (invariant I10). */
#ifndef TOLLGATE_WORKER_ENDPOINTS_H
#define TOLLGATE_WORKER_ENDPOINTS_H

#include "worker/request.h"

/* Sets request->endpoint; a verdict of 404 or 405 otherwise. */
struct verdict endpoint_find(struct request *request);

bool endpoint_needs_key(const struct endpoint *endpoint);

/* Answered by the relay itself, without an upstream? */
bool endpoint_is_local(const struct endpoint *endpoint);

/* May its key stand in the query (GETs that a browser opens without headers)? */
bool endpoint_takes_query_key(const struct endpoint *endpoint);

/* As it stands in records: enum shm_endpoint; 0 for local ones. */
int endpoint_number(const struct endpoint *endpoint);

/* The path at the upstream, joined to its base URL. */
const char *endpoint_upstream_path(const struct endpoint *endpoint);

/* Answers a local endpoint, or says why not. */
struct verdict endpoint_answer(struct request *request);

#endif
