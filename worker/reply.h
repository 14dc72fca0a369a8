/* worker/reply.h - the headers and error bodies of answers.
 * Used by: the request machine and endpoints. */
#ifndef TOLLGATE_WORKER_REPLY_H
#define TOLLGATE_WORKER_REPLY_H

#include "worker/request.h"

/* The client's x-request-id when it is 1-64 of [A-Za-z0-9_-], else a new req_... */
void reply_choose_id(struct request *request);

/* A new id into out. */
void reply_make_id(char out[static SHM_REQUEST_ID_BYTES]);

/* A head with what every answer carries: id, rate limits, served model and upstream, CORS. Values live in the arena. */
void reply_begin(struct request *request, struct reply *reply, int status);
void reply_add(struct reply *reply, const char *name, const char *value);

/* Whole answers; both cut the link to the front. */
void reply_json(struct request *request, int status, struct span body);
void reply_empty(struct request *request, int status);

/* The head of an event stream, once. */
void reply_start_stream(struct request *request);

/* The same where another request's try says who serves (texts may be NULL). */
void reply_start_stream_of(struct request *request, const char *model, const char *upstream);

/* The request's verdict: as a whole answer, or as the stream's error event. */
void reply_error(struct request *request);

/* OpenAI's form of a duration: "20ms", "1s", "8.64s", "6m0s". In the request's arena. */
char *reply_duration_text(struct request *request, int64_t ns);

#endif
