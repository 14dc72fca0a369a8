/* worker/endpoint_key.h - GET /v1/key: a key's own limits, what is left of each and when it is whole again, its spend
 * and its credit. Used by: endpoints.c. */
#ifndef TOLLGATE_WORKER_ENDPOINT_KEY_H
#define TOLLGATE_WORKER_ENDPOINT_KEY_H

#include "worker/request.h"

struct verdict endpoint_answer_key(struct request *request);

#endif
