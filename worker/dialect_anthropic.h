/* worker/dialect_anthropic.h - listens to what an Anthropic upstream answers, and tells it in no dialect.
 * Used by: the worker: once per stream event, or once per whole answer. Pure.
 * Without a sink it only listens, for answers that are passed on as they came: one walk over the JSON's shape, nothing
 * allocated; only a usage object is tokenised. With a sink the event is checked strictly, since its texts are put into
 * JSON of ours, and each part is emitted once the event is known to be valid.
 * Server tools (searches and the like) are counted where they are output, not emitted: no other dialect has them.
 * Usage: the input count of a report includes cache reads and writes. What message_start says about output is a lower
 * bound, so that the report is not final (has_output false) until message_delta came.
 * Ownership: spans point into the data handed in; those of parts are valid during on_part only. `scratch` is any
 * json_doc, one a worker is enough. */
#ifndef TOLLGATE_WORKER_DIALECT_ANTHROPIC_H
#define TOLLGATE_WORKER_DIALECT_ANTHROPIC_H

#include "worker/answer.h"

/* Takes in one stream event: its name (may be empty) and data. Fills *out, adds to the listener, and gives the parts to
 * sink unless that is NULL. */
void anthropic_hear_event(struct answer_listener *listener, struct json_doc *scratch, struct span name,
                          struct span data, struct answer_event *out, const struct answer_sink *sink);

/* Takes in a whole message that is not a stream, or an error body. As above. */
void anthropic_hear_answer(struct answer_listener *listener, struct json_doc *scratch, struct span body,
                           struct answer_event *out, const struct answer_sink *sink);

/* What the body of an answer with an error status says. All false for a body that is none of Anthropic's. */
struct answer_refusal anthropic_judge_refusal(struct json_doc *scratch, struct span body);

#endif
