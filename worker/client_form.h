/* worker/client_form.h - the dialects that clients speak, and what the relay itself says in them: errors, signs of
 * life, the clean end of a stream whose money is used up. Used by: the request machine, the relay and reply.c. Pure but
 * for the request it reads. */
#ifndef TOLLGATE_WORKER_CLIENT_FORM_H
#define TOLLGATE_WORKER_CLIENT_FORM_H

#include "base/buffer.h"
#include "base/span.h"

struct request;

enum client_form { CLIENT_CHAT, CLIENT_MESSAGES, CLIENT_RESPONSES, CLIENT_COMPLETIONS, CLIENT_EMBEDDINGS };

/* The form of the request's endpoint; by its path where it has none. GET /v1/models has Anthropic's form for clients
 * that send anthropic-version. */
enum client_form client_form_of(const struct request *request);

/* What a silent stream is kept alive with. */
struct span client_form_heartbeat(enum client_form form);

/* Appends the request's verdict as a body, or as a stream's last event. */
void client_form_write_error(const struct request *request, int status, struct buffer *out);
void client_form_write_error_event(const struct request *request, struct buffer *out);

/* Appends the clean end of a stream that was passed on as it came, as if the output cap had been reached. */
void client_form_write_end(const struct request *request, struct buffer *out);

#endif
