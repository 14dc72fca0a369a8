/* worker/messages_writer.h - writes an answer in Anthropic's form: a stream's events, or a whole message.
 * Used by: the worker, one writer an answer, between a reader of another dialect and a client of /v1/messages. Pure.
 * Blocks may not overlap in this form, so what arrives while a tool call's arguments are unfinished is held, in order,
 * until they are a complete JSON object or the answer ends; at most MESSAGES_HELD_MOST blocks and cap_bytes.
 * An upstream's finish is held too, until its usage is known: messages_writer_end writes both.
 * Not told: choices but the first, log probabilities, signatures of tool calls; this form has no place for them.
 * Ownership: the writer owns its buffers. Errors: a full or failed `out` sets out->failed. */
#ifndef TOLLGATE_WORKER_MESSAGES_WRITER_H
#define TOLLGATE_WORKER_MESSAGES_WRITER_H

#include "worker/answer.h"

enum { MESSAGES_ID_BYTES = 80, MESSAGES_MODEL_BYTES = 256, MESSAGES_HELD_MOST = 128 };

struct messages_held;

struct messages_writer {
    char id[MESSAGES_ID_BYTES];
    char model[MESSAGES_MODEL_BYTES];
    int64_t input_tokens;
    size_t cap_bytes;
    bool is_stream;
    bool has_started;
    bool has_refused;       /* a REFUSAL was among the parts */
    bool has_bad_arguments; /* a tool call had arguments that are no JSON object */
    uint8_t open_kind;      /* of the block being written */
    int64_t open_tool;      /* its call's number; -1: none */
    int64_t blocks;         /* begun so far */
    int64_t tools;          /* of them tool calls */
    struct {                /* how much of a JSON object the open call's arguments are */
        uint32_t depth;
        bool in_string;
        bool is_escaped;
        bool has_begun; /* its first bracket was there */
        bool has_any;   /* a piece of any kind */
        bool is_over;
    } arguments;
    struct messages_held *held; /* NULL until the first block is */
    int held_count;
    size_t held_bytes;
    struct buffer content;   /* whole message: the blocks before the open one */
    struct buffer text;      /* of the open block, still escaped; in a stream a call's arguments only */
    struct buffer signature; /* whole message: of the open thinking block */
    enum answer_finish finish;
    struct buffer stop_sequence; /* escaped */
};

/* An empty writer. id is the message's ("msg_..."), model the name the client asked for, input_tokens the estimate that
 * message_start states. A whole message may have cap_bytes of content. Allocates nothing yet. */
void messages_writer_init(struct messages_writer *writer, const char *id, const char *model, int64_t input_tokens,
                          bool is_stream, size_t cap_bytes);
void messages_writer_free(struct messages_writer *writer);

/* Stream: appends message_start, once; the other calls do it where it was not done. */
void messages_writer_start(struct messages_writer *writer, struct buffer *out);

/* Takes a part; in a stream appends its events to out (which a whole message does not touch). False when the answer
 * cannot be told: a piece of a call that was never begun or is over, or too much to hold. */
MUST_CHECK bool messages_writer_part(struct messages_writer *writer, const struct answer_part *part,
                                     struct buffer *out);

/* Stream: appends what is held, the end of the open block, message_delta with the stop reason and usage, message_stop.
 * `finish` other than ANSWER_FINISH_NONE overrides what the upstream said. False, without the end, when a call's
 * arguments were no JSON object though nothing cut the answer off: its client would fail on them. */
MUST_CHECK bool messages_writer_end(struct messages_writer *writer, enum answer_finish finish,
                                    const struct token_counts *tokens, struct buffer *out);

/* Whole message: appends it. False when a call's arguments are no JSON object (one that was cut off by a limit or
 * filter has an empty one instead), or memory or cap_bytes did not suffice; out must then be thrown away. */
MUST_CHECK bool messages_writer_write_whole(struct messages_writer *writer, const struct token_counts *tokens,
                                            struct buffer *out);

#endif
