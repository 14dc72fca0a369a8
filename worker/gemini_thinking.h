/* worker/gemini_thinking.h - how much a Gemini model shall think, from reasoning_effort or OpenRouter's `reasoning`.
 * Used by: gemini_settings.c only. Pure. Generation 3 takes a level, 2.5 a budget of tokens (and so does 3, which makes
 * it the choice for names that tell no generation); before 2.5 nothing thinks. What cannot be turned off is turned low.
 */
#ifndef TOLLGATE_WORKER_GEMINI_THINKING_H
#define TOLLGATE_WORKER_GEMINI_THINKING_H

#include "worker/gemini_settings.h"

/* Writes "thinkingConfig" where the request says anything about thinking. False with *wrong set. */
MUST_CHECK bool gemini_thinking_write(const struct json_doc *doc, const struct gemini_generation *generation,
                                      struct json_writer *writer, struct chat_verdict *wrong);

#endif
