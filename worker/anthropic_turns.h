/* worker/anthropic_turns.h - a chat's messages as Anthropic's: one system prompt, and turns that alternate.
 * Used by: anthropic_request.c only. Pure.
 * Errors: a verdict with the client's error, which names the message and field and never quotes them. */
#ifndef TOLLGATE_WORKER_ANTHROPIC_TURNS_H
#define TOLLGATE_WORKER_ANTHROPIC_TURNS_H

#include "base/json_write.h"
#include "worker/chat_check.h"

/* Writes the member "system" when there are messages of role system or developer, wherever they stand. False with the
 * verdict set. */
MUST_CHECK bool anthropic_turns_write_system(const struct json_doc *doc, int messages, struct json_writer *json,
                                             struct chat_verdict *wrong);

/* Writes the member "messages": neighbours of one role become one turn, tool results come first in theirs, thinking
 * first in the assistant's, texts of nothing but white space are left out. False with the verdict set. */
MUST_CHECK bool anthropic_turns_write_messages(const struct json_doc *doc, int messages, struct json_writer *json,
                                               struct chat_verdict *wrong);

/* Do the last tool calls wait for their results without the signed thinking they came from? Older models refuse to
 * think on in such a turn. */
bool anthropic_turns_lack_thinking(const struct json_doc *doc, int messages);

#endif
