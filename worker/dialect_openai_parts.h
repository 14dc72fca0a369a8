/* worker/dialect_openai_parts.h - the parts of a chat or completions answer in OpenAI's dialect.
 * Used by: dialect_openai.c, for upstreams whose client speaks another dialect. Pure, linear in the text. */
#ifndef TOLLGATE_WORKER_DIALECT_OPENAI_PARTS_H
#define TOLLGATE_WORKER_DIALECT_OPENAI_PARTS_H

#include "worker/answer.h"

/* Tells the sink, whose `told` must be there, what one element of choices says. `place` is its index when it states
 * none; in a stream its delta counts, else its message. Whatever order the members stand in, reasoning is told first,
 * then its signatures, text, refusal, tool calls, logprobs, and the finish once. */
void openai_tell_choice(const struct answer_sink *sink, struct span choice, int64_t place, bool is_stream);

#endif
