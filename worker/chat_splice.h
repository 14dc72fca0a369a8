/* worker/chat_splice.h - the values that the relay sets in a client's body, whichever kind of request it is.
 * Used by: chat_request.c and plain_request.c. Pure. All of them do nothing when the body says the right thing already.
 */
#ifndef TOLLGATE_WORKER_CHAT_SPLICE_H
#define TOLLGATE_WORKER_CHAT_SPLICE_H

#include "worker/chat_request.h"
#include "worker/json_splice.h"

/* Names the model as its upstream does; NULL leaves the client's name. */
void chat_splice_model(struct json_splice *splice, const struct chat_request *request, const char *model);

/* Makes "stream" say so. */
void chat_splice_stream(struct json_splice *splice, const struct chat_request *request, bool stream);

/* Makes stream_options.include_usage true, whatever of it is there already. */
void chat_splice_usage(struct json_splice *splice, const struct chat_request *request);

/* Lowers a cap (value: what the member says, 0 when it is not given) that is above `most`. */
void chat_splice_lower_cap(struct json_splice *splice, const struct chat_member *member, int64_t value, int64_t most);

/* Sets a cap that is not given, or null. */
void chat_splice_set_cap(struct json_splice *splice, const struct chat_member *member, const char *name, int64_t most);

#endif
