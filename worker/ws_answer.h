/* worker/ws_answer.h - one completion's answer on a WebSocket: chat-completions chunks in, messages out.
 * Used by: ws_session.c, one a completion. Pure.
 * Texts are taken over as they stand between their quotes. What was said is gathered for the connection's memory, up to
 * what that holds. Ownership: the answer owns its buffers. */
#ifndef TOLLGATE_WORKER_WS_ANSWER_H
#define TOLLGATE_WORKER_WS_ANSWER_H

#include "base/money.h"
#include "worker/ws_message.h"

enum { WS_FINISH_BYTES = 32, WS_TOOLS_MOST = 128 };

struct ws_tool;

/* Where messages go; text is room to write one in. */
struct ws_out {
    void (*send)(void *context, struct span message);
    void *context;
    struct buffer *text;
};

struct ws_answer {
    enum ws_form form;
    char id[WS_ID_BYTES];
    char finish_reason[WS_FINISH_BYTES]; /* as it stands between its quotes; "" while there is none */
    struct buffer usage;                 /* the latest usage object, as JSON */
    bool ends_with_usage;                /* CHUNKS: the latest chunk had it */
    uint32_t number;                     /* of the event heard next, which its messages name; 0: events have none */
    struct ws_position after;            /* what the client has already and is not told again */
    uint32_t told;                       /* messages of this event */
    bool is_held;                        /* the latest of them: it says whether more follow */
    bool is_failed;                      /* the client was told of an error: nothing else ends it */
    bool is_forgotten;                   /* longer than the connection's memory */
    struct buffer said;
    struct ws_tool *tools;
    int tool_count;
};

/* An answer that has said nothing; id is JSON. */
void ws_answer_init(struct ws_answer *answer, enum ws_form form, const char *id);
void ws_answer_fini(struct ws_answer *answer);

/* Takes the data of one event of the stream: a chunk, an error, or [DONE]. */
void ws_answer_hear(struct ws_answer *answer, struct span data, struct ws_out *out);

/* What ends an answer that was not failed. */
struct ws_ending {
    const char *finish_reason;  /* instead of the answer's own; NULL: its own */
    const char *chunk_head;     /* CHUNKS: id, created and model (chat_chunk.h) of a last chunk of ours */
    struct token_counts tokens; /* in place of a usage that never came, or was cut off by a cancel */
    int64_t cost_nusd;
};
void ws_answer_end(struct ws_answer *answer, const struct ws_ending *ending, struct ws_out *out);

/* Appends the assistant's message for the connection's memory. False: there is nothing to remember. */
MUST_CHECK bool ws_answer_write_turn(const struct ws_answer *answer, struct buffer *out);

#endif
