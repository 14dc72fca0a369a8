/* worker/field_read.h - what reading a body is made of, whichever kind of request it is.
 * Used by: chat_request.c and plain_request.c. Pure. Each takes the json_doc of the body and the index of a value (-1:
 * absent) and fills its part of the request. Errors: a verdict with the client's error. */
#ifndef TOLLGATE_WORKER_FIELD_READ_H
#define TOLLGATE_WORKER_FIELD_READ_H

#include "worker/chat_request.h"

/* Parses the body, which must be a JSON object, and begins the request. False with *verdict set. */
MUST_CHECK bool field_read_open(struct json_doc *doc, struct span body, struct chat_request *out,
                                struct chat_verdict *verdict);

/* Takes the model's name, a string; one that is too long for any model gives model_not_found. */
MUST_CHECK bool field_read_model(const struct json_doc *doc, int value, struct chat_request *out,
                                 struct chat_verdict *verdict);

/* Takes "stream", which was checked before. */
void field_read_stream(const struct json_doc *doc, int value, struct chat_request *out);

/* Takes stream_options, checking it. False with *verdict set. */
MUST_CHECK bool field_read_stream_options(const struct json_doc *doc, int value, struct chat_request *out,
                                          struct chat_verdict *verdict);

/* Takes the end user: the first of these values that is a string, else metadata.user_id; cut at a character border. */
void field_read_end_user(const struct json_doc *doc, int user, int safety_identifier, int metadata,
                         struct chat_request *out);

/* Where a value stands. */
struct chat_member field_read_member(const struct json_doc *doc, int value);

/* The value of a count that was checked before; 0 when absent or null. */
int64_t field_read_count(const struct json_doc *doc, int value);

#endif
