/* worker/anthropic_request.h - makes the body for an Anthropic upstream from a chat-completions one.
 * Used by: the worker. Pure. Nothing that would change the answer is left out silently: what has no twin is refused by
 * name. Messages are anthropic_turns'; the other fields:
 *
 * | chat | Messages |
 * | --- | --- |
 * | model, stream | the rewrite's |
 * | max_tokens, max_completion_tokens | max_tokens: the smaller, else default_max_tokens; never above the rewrite's |
 * | tools (functions), tool_choice, parallel_tool_calls:false; functions, function_call | tools, tool_choice |
 * | stop | stop_sequences (of white space alone: refused) |
 * | temperature | the same, at most 1; top_p the same unless 1. Models from 4.7 on: 1 or refused. Beside thinking
 *   temperature, and a top_p below 0.95, are left out: it allows no other |
 * | reasoning_effort, models from 4.6 on | thinking adaptive, output_config.effort (minimal: low, xhigh: max) |
 * | reasoning_effort, other models | thinking with a budget of 1024 (minimal, low), 8192, 24576 or 32768; max_tokens is
 *   raised above it as far as the rewrite allows, then the budget lowered; without room for 1024, or with tool results
 *   whose calls lost their thinking, it does not think |
 * | reasoning_effort none | thinking disabled |
 * | response_format json_schema | output_config.format; json_object is refused |
 * | user, else safety_identifier, else metadata.user_id | metadata.user_id |
 * | service_tier auto, default | nothing, standard_only; others are refused |
 * | n:1, logprobs:false, top_logprobs:0, penalties of 0, logit_bias {}, store:false, modalities ["text"], verbosity
 *   "medium", parallel_tool_calls:true, response_format text, and null anywhere | nothing: they ask for nothing |
 * | metadata, prompt_cache_key, prompt_cache_retention, stream_options | left out: they change no answer |
 * | any other value of these, seed, audio, prediction, web_search_options, fields not named here | refused |
 *
 * Errors: a verdict with the client's error, whose texts never quote the body. */
#ifndef TOLLGATE_WORKER_ANTHROPIC_REQUEST_H
#define TOLLGATE_WORKER_ANTHROPIC_REQUEST_H

#include "worker/chat_request.h"

/* Appends the upstream's body for the chat body in doc, which chat_request_read has accepted. rewrite->model NULL: the
 * body's. False: the request cannot be said (wrong->status is not 0), or the buffer failed. */
MUST_CHECK bool anthropic_request_write(const struct json_doc *doc, const struct chat_rewrite *rewrite,
                                        int64_t default_max_tokens, struct buffer *out, struct chat_verdict *wrong);

/* The max_tokens that anthropic_request_write would write: the most that can be billed as output. */
int64_t anthropic_request_max_tokens(const struct json_doc *doc, const struct chat_rewrite *rewrite,
                                     int64_t default_max_tokens);

#endif
