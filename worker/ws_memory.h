/* worker/ws_memory.h - what a WebSocket connection remembers: its context and its turns (interface.md section 5).
 * Used by: ws_session.c, one a connection. Pure.
 * Messages are kept as JSON texts joined with commas, the way they stand inside a "messages" array. Whoever adds them
 * has checked them. Ownership: the memory owns its copies. Without memory (malloc) a turn is forgotten. */
#ifndef TOLLGATE_WORKER_WS_MEMORY_H
#define TOLLGATE_WORKER_WS_MEMORY_H

#include "base/buffer.h"

enum { WS_MEMORY_BYTES = 1 << 20 }; /* of turns; the oldest are dropped first */

struct ws_turn;

struct ws_memory {
    bool is_conversation; /* a context was given: from then on context and turns go upstream */
    struct buffer context;
    struct ws_turn *first; /* the oldest */
    struct ws_turn *last;
    size_t bytes;
};

/* An empty memory whose context may have context_bytes_most. */
void ws_memory_init(struct ws_memory *memory, size_t context_bytes_most);
void ws_memory_fini(struct ws_memory *memory);

/* Replaces the context by these messages and makes the connection a conversation. False: it is too long. */
MUST_CHECK bool ws_memory_set_context(struct ws_memory *memory, struct span messages);

/* Adds a turn: what was asked (may be empty) and the assistant's message. One that is too long is not kept. */
void ws_memory_add_turn(struct ws_memory *memory, struct span asked, struct span answered);

/* Appends the context's messages and those of the turns, each followed by a comma; nothing without a conversation. */
void ws_memory_write(const struct ws_memory *memory, struct buffer *out);

#endif
