/* worker/dialect.h - what an upstream speaks: how its answers are heard, and where its completions are.
 * Used by: the relay. One row a dialect; the demo upstream speaks OpenAI's. */
#ifndef TOLLGATE_WORKER_DIALECT_H
#define TOLLGATE_WORKER_DIALECT_H

#include "conf/conf.h"
#include "worker/answer.h"

struct dialect {
    const char *reasoning_format; /* OpenRouter's name for who signs reasoning; NULL: nobody does */
    void (*hear_event)(struct answer_listener *listener, struct json_doc *scratch, struct span name, struct span data,
                       struct answer_event *out, const struct answer_sink *sink);
    void (*hear_answer)(struct answer_listener *listener, struct json_doc *scratch, struct span body,
                        struct answer_event *out, const struct answer_sink *sink);
    void (*hear_end)(struct answer_listener *listener, const struct answer_sink *sink); /* NULL: nothing to tell */
    struct answer_refusal (*judge_refusal)(struct json_doc *scratch, struct span body);
};

const struct dialect *dialect_of(const struct conf_upstream *upstream);

/* Does the upstream speak what the relay's chat clients speak? */
bool dialect_is_openai(const struct conf_upstream *upstream);

/* The path of a completion, joined to the upstream's base URL: `path` for OpenAI's dialect, the dialect's own for the
 * others. A base URL without the API's version gets it. False: it does not fit into out. */
MUST_CHECK bool dialect_path(const struct conf_upstream *upstream, const char *path, const char *model, bool stream,
                             struct buffer *out);

/* Do models of this name take max_completion_tokens and refuse max_tokens (wire.md section 1)? */
bool dialect_wants_max_completion_tokens(const char *model);

#endif
