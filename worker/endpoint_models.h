/* worker/endpoint_models.h - GET /v1/models and /v1/models/{id}: what a key may use, with prices and context. In
 * OpenAI's form; in Anthropic's, which has pages, for clients that send anthropic-version. Used by: endpoints.c. */
#ifndef TOLLGATE_WORKER_ENDPOINT_MODELS_H
#define TOLLGATE_WORKER_ENDPOINT_MODELS_H

#include "worker/request.h"

struct verdict endpoint_answer_models(struct request *request);
struct verdict endpoint_answer_model(struct request *request);

/* May the key use this model? A rule model when it may use one of those the rules lead to. */
bool endpoint_may_use_model(const struct request *request, int index);

#endif
