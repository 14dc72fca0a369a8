/* worker/chat_writer_gather.h - what a chat_writer holds of each choice until it is written.
 * Used by: chat_writer.c only. Pure. All that is gathered counts against the writer's cap; past it, or without memory,
 * writer->failed is set. */
#ifndef TOLLGATE_WORKER_CHAT_WRITER_GATHER_H
#define TOLLGATE_WORKER_CHAT_WRITER_GATHER_H

#include "worker/chat_writer.h"

/* A tool call of a whole answer, as the insides of JSON. */
struct chat_writer_call {
    struct buffer head; /* from its id to the quote that opens its arguments */
    struct buffer arguments;
    struct buffer signature;
};

struct chat_writer_choice {
    enum answer_finish finish; /* NONE: not told, in a stream not written yet */
    bool is_used;              /* there was a part of it; others only stand before one that is */
    bool has_begun;            /* its first chunk is written */
    bool has_calls;
    bool has_lost_reasoning;          /* the cap of a stream left no room for what a signature will vouch for */
    int64_t details;                  /* reasoning details written */
    struct buffer unsigned_reasoning; /* since the last signature */
    /* whole answers */
    struct buffer content;
    struct buffer reasoning;
    struct buffer refusal;
    struct buffer detail_text;
    struct buffer logprobs; /* elements of its content */
    struct chat_writer_call *calls;
    int64_t call_count;
    int64_t call_room;
};

void chat_writer_init_choice(struct chat_writer_choice *choice, size_t cap_bytes);
void chat_writer_free_choice(struct chat_writer_choice *choice);

/* Counts bytes that were added to `text`. */
void chat_writer_count(struct chat_writer *writer, const struct buffer *text, size_t bytes);

/* Adds to a gathered text. */
void chat_writer_gather(struct chat_writer *writer, struct buffer *text, struct span more);

/* Keeps reasoning for the signature that may follow, where somebody signs; past the cap of a stream it is dropped. */
void chat_writer_keep_reasoning(struct chat_writer *writer, struct chat_writer_choice *choice, struct span text);
void chat_writer_drop_reasoning(struct chat_writer *writer, struct chat_writer_choice *choice);

/* The call of that number, made with those before it when it is new; NULL when there can be none. */
struct chat_writer_call *chat_writer_find_call(struct chat_writer *writer, struct chat_writer_choice *choice,
                                               int64_t number);

/* Gathers a text, reasoning, a refusal, arguments, logprobs or a finish. */
void chat_writer_gather_plain(struct chat_writer *writer, struct chat_writer_choice *choice,
                              const struct answer_part *part);

/* Appends JSON with its line ends, which may stand between its values only, made blanks. */
void chat_writer_append_json(struct buffer *out, struct span json);

#endif
