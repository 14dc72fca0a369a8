/* worker/gemini_usage.h - the token counts in Gemini's usageMetadata, normalised as worker/usage.h has it.
 * Used by: dialect_gemini.c. Pure. The prompt includes what was cached; the candidates leave out the thoughts; tokens
 * of tools' results (toolUsePromptTokenCount) are input on top of the prompt. Impossible values are clamped. */
#ifndef TOLLGATE_WORKER_GEMINI_USAGE_H
#define TOLLGATE_WORKER_GEMINI_USAGE_H

#include "worker/usage.h"

/* Reads the usageMetadata `value` of doc. False when it is no object or states neither input nor output: some Vertex
 * chunks hold only a trafficType. */
MUST_CHECK bool gemini_usage_read(const struct json_doc *doc, int value, struct usage_report *out);

#endif
