/* worker/dialect_openai.h - listens to what an OpenAI-dialect upstream answers, without changing it.
 * Used by: the worker: once per stream event, or once per whole answer. Pure.
 * A scanner walks the JSON's shape in one pass, skipping strings with memchr; only a usage object is tokenised. It
 * tells a top-level "error" or "usage" from the same word in a text. It checks structure, not every rule of JSON.
 * Ownership: spans point into the data handed in. `scratch` is any json_doc, one a worker is enough. */
#ifndef TOLLGATE_WORKER_DIALECT_OPENAI_H
#define TOLLGATE_WORKER_DIALECT_OPENAI_H

#include "worker/answer.h"

/* Takes in one stream event: its name (may be empty) and data. Fills *out and adds to the listener. With a sink its
 * parts are told too, and what is no strict JSON is invalid; NULL only listens, which is the quick way. The Responses
 * API and embeddings have no parts. */
void openai_hear_event(struct answer_listener *listener, struct json_doc *scratch, struct span name, struct span data,
                       struct answer_event *out, const struct answer_sink *sink);

/* Takes in a whole answer that is not a stream: chat, completions, embeddings, Responses, or an error body. */
void openai_hear_answer(struct answer_listener *listener, struct json_doc *scratch, struct span body,
                        struct answer_event *out, const struct answer_sink *sink);

/* Appends `around` to out with "cost" added as the last member of the usage object usage_raw, which lies in it; a cost
 * of the upstream's own is replaced where it stands. All other bytes stay. `around` may be the data, or the raw event
 * when sse_event.data_in_raw. Returns false when the buffer failed. */
MUST_CHECK bool openai_add_cost(struct span around, struct span usage_raw, int64_t cost_nusd, struct buffer *out);

#endif
