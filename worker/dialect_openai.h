/* worker/dialect_openai.h - listens to what an OpenAI-dialect upstream answers, without changing it.
 * Used by: the worker: once per stream event, or once per whole answer. Pure.
 * A scanner walks the JSON's shape in one pass, skipping strings with memchr; only a usage object is tokenised. It
 * tells a top-level "error" or "usage" from the same word in a text. It checks structure, not every rule of JSON.
 * Ownership: spans point into the data handed in. `scratch` is any json_doc, one a worker is enough. */
#ifndef TOLLGATE_WORKER_DIALECT_OPENAI_H
#define TOLLGATE_WORKER_DIALECT_OPENAI_H

#include "worker/estimate.h"
#include "worker/usage.h"

enum openai_text {
    OPENAI_TEXT_CONTENT,
    OPENAI_TEXT_REASONING,
    OPENAI_TEXT_REFUSAL,
    OPENAI_TEXT_TOOL,
    OPENAI_TEXT_KINDS
};
enum { OPENAI_FINISH_BYTES = 32 };

/* What one event, or one whole answer, says. */
struct openai_event {
    bool is_done;     /* the [DONE] marker */
    bool is_error;    /* an error in place of, or beside, an answer */
    bool is_invalid;  /* no JSON object: nothing else in here holds, except is_error for `event: error` */
    bool has_choices; /* it has a choices array, empty or not */
    bool has_usage;
    bool is_usage_only; /* choices is empty and usage is there: hidden from clients that did not ask */
    bool has_finish;
    bool is_first_text;                      /* the first text of this stream or answer lies in here */
    char finish_reason[OPENAI_FINISH_BYTES]; /* the raw value, of choice 0 if several; Responses: the status */
    int choice_count;
    int tool_calls;                        /* that begin in this event */
    int64_t text_bytes[OPENAI_TEXT_KINDS]; /* output in this event, unescaped */
    struct usage_report usage;
    struct span usage_raw; /* the usage object's bytes, for openai_add_cost; empty without usage */
    struct span error_raw; /* the top-level error's value; empty when the whole object is the error */
};

/* A stream, or one answer, as heard so far. */
struct openai_listener {
    struct estimate output; /* of all text kinds: what was relayed, for want of usage */
    int64_t text_bytes[OPENAI_TEXT_KINDS];
    int64_t tool_calls;
    int64_t text_events;       /* events that carried text: at least so many tokens were generated */
    struct usage_report usage; /* merged; the last complete report wins */
    bool has_usage;
    bool has_finish;
    bool is_done;
    bool is_error;
    char finish_reason[OPENAI_FINISH_BYTES];
    int64_t last_choice; /* where the last text belonged */
    uint8_t last_text;
};

/* A listener that has heard nothing. Owns nothing, needs no end. */
void openai_listener_init(struct openai_listener *listener);

/* Says whose answer a fresh listener will hear, by the upstream's name for the model: that decides how output is
 * estimated. */
void openai_listener_expect(struct openai_listener *listener, struct span model);

/* Takes in one stream event: its name (may be empty) and data. Fills *out and adds to the listener. */
void openai_hear_event(struct openai_listener *listener, struct json_doc *scratch, struct span name, struct span data,
                       struct openai_event *out);

/* Takes in a whole answer that is not a stream: chat, completions, embeddings, Responses, or an error body. */
void openai_hear_answer(struct openai_listener *listener, struct json_doc *scratch, struct span body,
                        struct openai_event *out);

/* Output tokens to bill when no final usage came: what the text seems to be, and no less than a partial report said. */
int64_t openai_output_estimate(const struct openai_listener *listener);

/* Appends `around` to out with "cost" added as the last member of the usage object usage_raw, which lies in it; a cost
 * of the upstream's own is replaced where it stands. All other bytes stay. `around` may be the data, or the raw event
 * when sse_event.data_in_raw. Returns false when the buffer failed. */
MUST_CHECK bool openai_add_cost(struct span around, struct span usage_raw, int64_t cost_nusd, struct buffer *out);

#endif
