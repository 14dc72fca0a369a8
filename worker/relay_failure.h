/* worker/relay_failure.h - what a failed try means: the client's error, and whether another try makes sense
 * (interface.md section 8, "Upstream errors").
 * Used by: relay.c. The texts of upstreams are read for their codes only and never passed on. */
#ifndef TOLLGATE_WORKER_RELAY_FAILURE_H
#define TOLLGATE_WORKER_RELAY_FAILURE_H

#include "shm/shm_layout.h"
#include "worker/request.h"

/* A status other than 2xx, with the body gathered in request->answer. Tells breaker and counters. */
struct request_failure failure_of_status(struct request *request, struct json_doc *scratch);

/* The exchange itself failed before a whole answer had come. */
struct request_failure failure_of_result(const struct request *request, enum upstream_result result);
enum shm_upstream_error failure_error_of_result(enum upstream_result result);

struct request_failure failure_of_stream_error(void); /* an error event, or an error in a 200 answer */
struct request_failure failure_of_garbage(void);      /* no answer of this dialect */
struct request_failure failure_of_early_end(void);    /* a stream that stops without its end */
struct request_failure failure_of_timeout(void);

#endif
