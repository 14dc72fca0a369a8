/* worker/stream_end.h - the clean end of a stream in OpenAI's form that the relay itself ends, as if the output cap had
 * been reached: of chats, completions and the Responses API.
 * Used by: relay.c. Pure. Ownership: a stream_end is plain memory, part of the request. */
#ifndef TOLLGATE_WORKER_STREAM_END_H
#define TOLLGATE_WORKER_STREAM_END_H

#include "worker/chat_chunk.h"
#include "worker/chat_request.h"

enum { STREAM_END_HEAD_BYTES = 640 };

/* What an end has to agree with in the events before it. */
struct stream_end {
    enum client_form form;
    char head[STREAM_END_HEAD_BYTES]; /* id, created and model, as JSON members; "" before the first event */
    int64_t sequence_number;          /* Responses: the highest so far; -1: none */
    bool has_names;                   /* Responses: events have `event:` lines */
};

/* Of a stream of which nothing has been passed on. */
void stream_end_init(struct stream_end *end, enum client_form form);

/* Takes note of an event that is passed on. Cheap after the first, but must see each one of a Responses stream. */
void stream_end_note(struct stream_end *end, struct span name, struct span data);

/* Appends the end: for chats and completions a chunk with finish_reason "length", the usage chunk (with its cost) when
 * asked for, and [DONE]; for Responses the event response.incomplete, always with the usage. */
void stream_end_write(struct buffer *out, const struct stream_end *end, bool with_usage,
                      const struct token_counts *tokens, int64_t cost_nusd);

#endif
