/* worker/plain_check.h - the documented fields of the bodies of /v1/completions, /v1/responses and /v1/embeddings:
 * their types and ranges. Used by: plain_request.c and plain_estimate.c. Pure. Fields nobody documented pass
 * unlooked-at: upstreams have many of their own. Errors: a verdict that names the field and what it must be; never the
 * value. */
#ifndef TOLLGATE_WORKER_PLAIN_CHECK_H
#define TOLLGATE_WORKER_PLAIN_CHECK_H

#include "worker/chat_request.h"

/* The fields that are needed again; no form of body has all of them. */
enum plain_field {
    PLAIN_MODEL,
    PLAIN_INPUT, /* completions: prompt */
    PLAIN_STREAM,
    PLAIN_STREAM_OPTIONS,
    PLAIN_CAP, /* max_tokens, max_output_tokens */
    PLAIN_USER,
    PLAIN_SAFETY_IDENTIFIER,
    PLAIN_METADATA,
    PLAIN_N,
    PLAIN_BEST_OF,
    PLAIN_INSTRUCTIONS,
    PLAIN_TOOLS,
    PLAIN_TEXT,
    PLAIN_TEMPLATE, /* Responses: prompt, a stored one */
    PLAIN_PREVIOUS,
    PLAIN_CONVERSATION,
    PLAIN_FIELDS
};

enum { PLAIN_INPUTS_MOST = 2048 }; /* prompts, or texts to embed, of one request */

/* Checks the members of the object `root`, a body of this form (not CLIENT_CHAT); values[f] becomes the value of each
 * field, -1 when absent. False with *verdict set. */
MUST_CHECK bool plain_check_fields(const struct json_doc *doc, int root, enum client_form form,
                                   int values[static PLAIN_FIELDS], struct chat_verdict *verdict);

/* How many prompts, or texts to embed, an input that was checked holds: an array of strings or of token arrays holds
 * several. */
int64_t plain_check_count(const struct json_doc *doc, int input);

#endif
