/* worker/gemini_request.h - makes the body of Gemini's generateContent from a chat-completions body.
 * Used by: the worker, for upstreams of dialect gemini. Pure, linear in the body (n log n in its tool calls).
 * Translated: messages with texts, images, files, audio, video, tool calls and results, signatures (those of calls from
 * extra_content.google.thought_signature, those of texts from reasoning_details of format google-gemini-v1 or none);
 * tools and functions, tool_choice and function_call, stop, max_tokens and max_completion_tokens, temperature, top_p,
 * top_k, seed, both penalties, n (up to 8), logprobs and top_logprobs, response_format, reasoning_effort and
 * OpenRouter's reasoning{effort, max_tokens, exclude, enabled}. Left out, since they change no answer: user, metadata,
 * store, safety_identifier, prompt_cache_key, prompt_cache_retention, service_tier, prediction, stream, stream_options,
 * names of users, `detail` of images, `strict` of tools, and what nobody documented. Refused, unless they say what
 * holds anyway: logit_bias, modalities other than text, parallel_tool_calls false with tools, verbosity other than
 * medium, web_search_options, tools other than functions, files and audio that only OpenAI holds. Arguments of earlier
 * calls that are no JSON object are wrapped as {"arguments": text}; results of tools as
 * {"result": text}. Gemini 3 refuses a history whose calls lost their signatures (another model made them): the first
 * call of such a message gets the value that Google documents for this. */
#ifndef TOLLGATE_WORKER_GEMINI_REQUEST_H
#define TOLLGATE_WORKER_GEMINI_REQUEST_H

#include "worker/chat_request.h"

/* Appends the upstream's body for `doc`, a body that chat_request_read has found good. Of `rewrite` the model and the
 * cap are used. False: with wrong->status set, the client asked for what Gemini has not (the message never quotes the
 * body); without, the buffer failed. */
MUST_CHECK bool gemini_request_write(const struct json_doc *doc, const struct chat_rewrite *rewrite, struct buffer *out,
                                     struct chat_verdict *wrong);

/* Appends the path behind a base_url that ends in the API's version: "/models/NAME:generateContent", or
 * "/models/NAME:streamGenerateContent?alt=sse". A name that begins with "models/" or "tunedModels/" stays as it is. */
MUST_CHECK bool gemini_request_path(const char *model, bool stream, struct buffer *out);

#endif
