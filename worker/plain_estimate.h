/* worker/plain_estimate.h - how many tokens the prompt of a completions, Responses or embeddings body has.
 * Used by: plain_request.c. Pure, allocates nothing. */
#ifndef TOLLGATE_WORKER_PLAIN_ESTIMATE_H
#define TOLLGATE_WORKER_PLAIN_ESTIMATE_H

#include "worker/plain_check.h"

/* Estimates what the upstream will count as input; values are as plain_check_fields found them, the
 * model is the one asked for. Texts are estimated,
 * tokens counted, images and files taken at flat rates; what a stored response or conversation adds is not known here.
 * Saturates at INT32_MAX. */
int64_t plain_estimate(const struct json_doc *doc, enum client_form form, const int values[static PLAIN_FIELDS],
                       struct span model);

#endif
