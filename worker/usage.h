/* worker/usage.h - the token counts in a provider's usage object, normalised.
 * Used by: the worker. Pure. Knows every form an OpenAI-dialect upstream sends: chat, completions, embeddings,
 * Responses. Units: tokens. Normalised: input includes cache reads and writes, output includes reasoning where the
 * provider says so or its total shows that it was left out of its completion count. Never trusts: what is negative,
 * above TOKENS_MOST, no whole number, or a part larger than its whole is clamped. */
#ifndef TOLLGATE_WORKER_USAGE_H
#define TOLLGATE_WORKER_USAGE_H

#include "base/json_read.h"
#include "base/money.h"

struct usage_report {
    struct token_counts tokens;
    bool has_input;   /* the object stated an input count */
    bool has_output;  /* and an output count (embeddings have none) */
    bool clamped;     /* an impossible value was replaced: flag it on the record, log it once */
    bool contradicts; /* reasoning exceeds output though the total leaves no room for both; kept as reported */
    int64_t unexplained_tokens; /* total beyond input + output: thoughts that only the total counts (Gemini's layer) */
};

/* Reads the usage object `value` of doc. False when it is no object or states neither input nor output. */
MUST_CHECK bool usage_read(const struct json_doc *doc, int value, struct usage_report *out);

/* As usage_read, for Anthropic's form: input_tokens leaves out cache reads and writes, writes may be split by lifetime,
 * thinking is part of the output. */
MUST_CHECK bool usage_read_anthropic(const struct json_doc *doc, int value, struct usage_report *out);

/* Takes in a further report of the same request. Providers repeat themselves (Groq three times) and count up
 * (Perplexity on every chunk), so a report of both input and output replaces the earlier; one that lacks either only
 * raises counts. */
void usage_merge(struct usage_report *total, const struct usage_report *next);

#endif
