/* worker/messages_error.h - errors and pings in Anthropic's form, for clients of /v1/messages.
 * Used by: the worker. Pure. Errors: a full buffer sets out->failed. */
#ifndef TOLLGATE_WORKER_MESSAGES_ERROR_H
#define TOLLGATE_WORKER_MESSAGES_ERROR_H

#include "base/buffer.h"

/* What a silent stream sends. */
#define MESSAGES_PING "event: ping\ndata: {\"type\": \"ping\"}\n\n"

/* Anthropic's name for an HTTP status: invalid_request_error, overloaded_error ... A literal. */
const char *messages_error_type(int status);

/* Appends {"type":"error","error":{"type","message"},"request_id"}. */
void messages_error_write(int status, const char *message, const char *request_id, struct buffer *out);

/* Appends the same as a stream's last event, `event: error`. */
void messages_error_write_event(int status, const char *message, const char *request_id, struct buffer *out);

#endif
