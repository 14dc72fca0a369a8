/* worker/plain_request.h - reads and checks the bodies of POST /v1/completions, /v1/responses and /v1/embeddings, and
 * makes the upstream's body from them. They go to OpenAI-dialect upstreams only, plainly: no other dialect says them.
 * Used by: the worker. Pure.
 * Ownership: as chat_request.h has it: the request points into the body, which must outlive it.
 * Errors: a verdict with the client's error; its texts never quote the body. */
#ifndef TOLLGATE_WORKER_PLAIN_REQUEST_H
#define TOLLGATE_WORKER_PLAIN_REQUEST_H

#include "worker/chat_request.h"

/* Reads and checks a body of this form (not CLIENT_CHAT). Of the request, beside what its header says:
 * - choices: completions: prompts x the larger of n and best_of; else 1.
 * - max_tokens: embeddings generate nothing and have 1, the least that can be held; so have completions with 0.
 * - include_usage: false for Responses, whose last event has the usage anyway.
 * False with *verdict set; then *out must not be used. */
MUST_CHECK bool plain_request_read(struct json_doc *doc, struct span body, enum client_form form,
                                   struct chat_request *out, struct chat_verdict *verdict);

/* Appends the upstream's body to out: the client's bytes with only model, stream, usage (completions) and the cap
 * spliced in; of embeddings only the model. rewrite->wants_max_completion_tokens means nothing here. Returns false when
 * the buffer failed. */
MUST_CHECK bool plain_request_rewrite(const struct chat_request *request, const struct chat_rewrite *rewrite,
                                      struct buffer *out);

#endif
