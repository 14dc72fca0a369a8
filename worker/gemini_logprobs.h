/* worker/gemini_logprobs.h - Gemini's logprobsResult in the form of OpenAI's chat completions.
 * Used by: dialect_gemini.c. Pure. Gemini names no bytes, so they are null. */
#ifndef TOLLGATE_WORKER_GEMINI_LOGPROBS_H
#define TOLLGATE_WORKER_GEMINI_LOGPROBS_H

#include "base/json_read.h"

/* Appends {"content":[{token, logprob, bytes, top_logprobs}],"refusal":null}. False when result names no chosen tokens
 * or the buffer failed. */
MUST_CHECK bool gemini_logprobs_write(const struct json_doc *doc, int result, struct buffer *out);

#endif
