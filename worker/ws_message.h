/* worker/ws_message.h - the JSON messages of a WebSocket: reads the client's, makes chat bodies of them, writes ours.
 * Used by: ws_session.c and ws_answer.c. Pure.
 * Ownership: spans point into the text read or the buffer written. Errors: a verdict, told as an `error` message. */
#ifndef TOLLGATE_WORKER_WS_MESSAGE_H
#define TOLLGATE_WORKER_WS_MESSAGE_H

#include "base/json_read.h"
#include "worker/front.h"
#include "worker/verdict.h"
#include "worker/ws_memory.h"

enum ws_type { WS_TYPE_COMPLETION, WS_TYPE_CONTEXT, WS_TYPE_CANCEL, WS_TYPE_PING, WS_TYPE_RESUME };

enum { WS_ID_TEXT_BYTES = 129, WS_ID_BYTES = 6 * WS_ID_TEXT_BYTES + 2 };

/* How far a client is in a stream: it has so many of its events whole, and so many messages of the next one. As JSON
 * (`n`, `after`) a number, or, within an event, "EVENTS.MESSAGES". */
struct ws_position {
    uint32_t events;
    uint32_t messages;
};

enum ws_wish { WS_WISH_NONE, WS_WISH_NO, WS_WISH_YES };

/* A client's message, tokenised in `doc` while it is dealt with. */
struct ws_message {
    enum ws_type type;
    char id[WS_ID_BYTES];     /* as JSON, a string or a whole number, the same for the same id; "" when not given */
    enum ws_wish resumable;   /* COMPLETION */
    struct ws_position after; /* RESUME */
};

/* Reads a message. False with *verdict set (out->id holds the id when there is a good one). */
MUST_CHECK bool ws_message_read(struct json_doc *doc, struct span text, enum ws_form form, struct ws_message *out,
                                struct verdict *verdict);

/* Appends the body of a chat completion that streams and reports usage: the members of the message in doc without its
 * envelope; `model` (of the query, "" for none) where it names none; in a conversation its messages after those that
 * are remembered. *asked becomes the place of its own messages in out. False with *verdict set. */
MUST_CHECK bool ws_message_write_body(const struct json_doc *doc, enum ws_form form, const char *model,
                                      const struct ws_memory *memory, struct buffer *out, struct span *asked,
                                      struct verdict *verdict);

/* The messages of a context.update, as they stand between its brackets. False with *verdict set. */
MUST_CHECK bool ws_message_context(const struct json_doc *doc, struct span *messages, struct verdict *verdict);

/* Appends {"type":"error","id":ID,"status":STATUS,"error":{...}}; id is JSON ("" writes null), error_json an object
 * (empty: that of a failed upstream). retry_after_ms is told when it is not 0. */
void ws_message_write_error(struct buffer *out, const char *id, int status, struct span error_json,
                            int64_t retry_after_ms);

/* The same for a verdict of our own. */
void ws_message_write_verdict(struct buffer *out, const char *id, const struct verdict *verdict);

/* The value of the member "error" of an error body or event; empty when there is none. */
struct span ws_message_error_of(struct span json);

/* Appends JSON of an upstream with invalid UTF-8 replaced: a text message must have none. */
void ws_message_append_clean(struct buffer *out, struct span json);

#endif
