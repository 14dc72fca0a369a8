/* worker/chat_chunk.h - the last chunks of a chat stream that the relay itself ends.
 * Used by: relay.c, chat_writer.c, stream_end.c, ws_answer.c. Pure. The form is OpenAI's chat.completion.chunk. */
#ifndef TOLLGATE_WORKER_CHAT_CHUNK_H
#define TOLLGATE_WORKER_CHAT_CHUNK_H

#include "base/buffer.h"
#include "base/money.h"

enum { CHAT_CHUNK_HEAD_BYTES = 256 };

/* Appends "name":value, to the members kept in head[size], unless it has no room left for them, or the value has
 * control characters. */
void chat_chunk_keep_member(char *head, size_t size, struct span name, struct span value);

/* Keeps a chunk's id, created and model, as JSON members, so that a last chunk of ours goes with those before it. */
void chat_chunk_note_head(struct span data, char out[static CHAT_CHUNK_HEAD_BYTES]);

/* Appends a usage object with all that is known of the tokens; a cost below 0 is left out. */
void chat_chunk_write_usage(struct buffer *out, const struct token_counts *tokens, int64_t cost_nusd);

/* Appends a chunk with the finish reason, the usage chunk (with its cost) when asked for, and [DONE]. head is what
 * chat_chunk_note_head kept, or "". */
void chat_chunk_write_end(struct buffer *out, const char *head, const char *finish_reason, bool with_usage,
                          const struct token_counts *tokens, int64_t cost_nusd);

#endif
