/* worker/answer.h - what an upstream's answer says, in no provider's dialect.
 * Used by: the worker. The readers of a dialect (dialect_openai, dialect_anthropic, dialect_gemini) fill an event for
 * each piece of an answer and keep the sum in a listener, which is what accounting reads. Where client and upstream
 * speak different dialects a reader also emits parts, which a writer (chat_writer, messages_writer) turns into the
 * client's dialect. Pure. Ownership: spans point into the data handed to the reader, or into its scratch, and are valid
 * until the reader's call returns; those of a part until on_part does. */
#ifndef TOLLGATE_WORKER_ANSWER_H
#define TOLLGATE_WORKER_ANSWER_H

#include "worker/estimate.h"
#include "worker/usage.h"

enum answer_text {
    ANSWER_TEXT_CONTENT,
    ANSWER_TEXT_REASONING,
    ANSWER_TEXT_REFUSAL,
    ANSWER_TEXT_TOOL,
    ANSWER_TEXT_KINDS
};
enum { ANSWER_FINISH_BYTES = 32 };

/* Why an answer ended: wire.md section 4. */
enum answer_finish {
    ANSWER_FINISH_NONE,
    ANSWER_FINISH_STOP,
    ANSWER_FINISH_STOP_SEQUENCE,
    ANSWER_FINISH_LENGTH,
    ANSWER_FINISH_TOOL_CALLS,
    ANSWER_FINISH_CONTENT_FILTER,
};

enum answer_part_kind {
    ANSWER_PART_TEXT,
    ANSWER_PART_REASONING,
    ANSWER_PART_REFUSAL,
    ANSWER_PART_SIGNATURE, /* vouches for the reasoning, or the tool call, before it */
    ANSWER_PART_REDACTED,  /* reasoning that only its provider can read */
    ANSWER_PART_TOOL,      /* a tool call begins */
    ANSWER_PART_ARGUMENTS, /* a piece of its arguments, which are JSON text */
    ANSWER_PART_LOGPROBS,  /* text is JSON: OpenAI's logprobs object of the choice */
    ANSWER_PART_FINISH,
};

/* One thing an answer says. Texts are the inside of a JSON string, escapes left, so that a writer can put them between
 * quotes as they are. */
struct answer_part {
    enum answer_part_kind kind;
    int64_t choice;
    int64_t tool;     /* TOOL, ARGUMENTS, SIGNATURE of a call: its running number within the choice, from 0; else -1 */
    struct span text; /* all but TOOL and FINISH; FINISH: the stop sequence that was met, if the provider said */
    struct span id;   /* TOOL; may be empty */
    struct span name; /* TOOL */
    enum answer_finish finish; /* FINISH */
};

struct answer_told;

/* Who takes the parts. After an event that turns out invalid the parts it gave must be thrown away. */
struct answer_sink {
    void (*on_part)(void *context, const struct answer_part *part);
    void *context;
    struct answer_told *told; /* what dialect_openai and dialect_gemini have told so far: answer_told.h; others: NULL */
};

/* What one event, or one whole answer, says. */
struct answer_event {
    bool is_done;     /* the dialect's end marker */
    bool is_error;    /* an error in place of, or beside, an answer */
    bool is_invalid;  /* not of this dialect: nothing else in here holds, except is_error for `event: error` */
    bool has_choices; /* it is part of an answer, though perhaps an empty one; not a ping or comment */
    bool has_usage;
    bool is_usage_only; /* nothing but usage: hidden from clients that did not ask */
    bool has_finish;
    bool is_first_text;                      /* the first text of this stream or answer lies in here */
    char finish_reason[ANSWER_FINISH_BYTES]; /* the raw value, of choice 0 if several; Responses: the status */
    int choice_count;
    int tool_calls;                        /* that begin in this event */
    int64_t text_bytes[ANSWER_TEXT_KINDS]; /* output in this event, unescaped */
    struct usage_report usage;
    struct span usage_raw; /* the usage object's bytes, for openai_add_cost; empty without usage */
    struct span error_raw; /* the top-level error's value; empty when the whole object is the error */
};

/* A stream, or one answer, as heard so far. */
struct answer_listener {
    struct estimate output; /* of all text kinds: what was relayed, for want of usage */
    int64_t text_bytes[ANSWER_TEXT_KINDS];
    int64_t tool_calls;
    int64_t text_events;       /* events that carried text: at least so many tokens were generated */
    struct usage_report usage; /* merged; the last complete report wins */
    bool has_usage;
    bool has_finish;
    bool is_done;
    bool is_error;
    char finish_reason[ANSWER_FINISH_BYTES];
    int64_t last_choice; /* where the last text belonged */
    uint8_t last_text;
    int64_t tools;      /* dialects whose calls have no number of their own: tool calls begun so far */
    int64_t open_block; /* Anthropic: number of the block that is open, -1: none */
    uint8_t open_kind;  /* and what it is; the dialect's own numbering */
};

/* What the body of an upstream's refusal says beyond its status. */
struct answer_refusal {
    bool is_context_length;
    bool is_credentials;
    bool is_overloaded;
    int64_t retry_after_ms;
};

/* A listener that has heard nothing. Owns nothing, needs no end. */
void answer_listener_init(struct answer_listener *listener);

/* Says whose answer a fresh listener will hear, by the upstream's name for the model: that decides how output is
 * estimated. */
void answer_listener_expect(struct answer_listener *listener, struct span model);

/* Counts text, the inside of a JSON string, as output of this event. */
void answer_take_text(struct answer_listener *listener, struct answer_event *event, int64_t choice,
                      enum answer_text kind, struct span inside);

/* Adds what one event said to what was heard before. */
void answer_remember(struct answer_listener *listener, struct answer_event *event);

/* Output tokens to bill when no final usage came: what the text seems to be, and no less than a partial report said. */
int64_t answer_output_estimate(const struct answer_listener *listener);

#endif
