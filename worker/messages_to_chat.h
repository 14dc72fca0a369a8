/* worker/messages_to_chat.h - says an Anthropic Messages request as a chat-completions one, which is the form every
 * other dialect's request is made from.
 * Used by: the worker, for requests to /v1/messages that no Anthropic upstream serves. Pure.
 *
 * | Messages | chat |
 * | --- | --- |
 * | system, and messages of role system | system messages; several blocks stay several parts |
 * | text, image (base64, url), document (PDF, text) | text, image_url (data: or http), file, text |
 * | tool_result | tool messages before the rest of their user message; is_error is kept as "Error: " before the text |
 * | tool_use | tool_calls, its input as text |
 * | thinking, redacted_thinking | reasoning_details of the assistant message, signatures kept |
 * | tools, tool_choice, disable_parallel_tool_use | tools, tool_choice, parallel_tool_calls |
 * | thinking, output_config.effort | reasoning_effort: an effort as it is (max: xhigh), a budget up to 4096 low, up to
 *   16384 medium, else high; adaptive without an effort high, which is its default there |
 * | output_config.format (or output_format) | response_format json_schema, strict |
 * | stop_sequences, temperature, top_p, metadata.user_id, stream | stop, temperature, top_p, user, stream with usage |
 * | service_tier standard_only | service_tier default |
 * | top_k | top_k, where it is asked for: it is no field of OpenAI's; else left out |
 * | thinking without a signature | left out: no provider takes it back |
 * | cache_control, thinking.display, eager_input_streaming, a tool_use's caller | left out: hints |
 *
 * Anything else has been named in messages_request.unmapped_param; the caller refuses such a request. */
#ifndef TOLLGATE_WORKER_MESSAGES_TO_CHAT_H
#define TOLLGATE_WORKER_MESSAGES_TO_CHAT_H

#include "base/json_read.h"

/* Appends the chat body of the Messages body in doc, which messages_request_read has accepted with nothing unmapped.
 * wants_max_completion_tokens: how the cap is named. with_top_k: for whom top_k is a field. Returns false when the
 * buffer failed. */
MUST_CHECK bool messages_to_chat_write(const struct json_doc *doc, bool wants_max_completion_tokens, bool with_top_k,
                                       struct buffer *out);

#endif
