/* worker/gemini_contents.h - a chat request's messages as Gemini's contents and systemInstruction.
 * Used by: gemini_request.c only. Pure. */
#ifndef TOLLGATE_WORKER_GEMINI_CONTENTS_H
#define TOLLGATE_WORKER_GEMINI_CONTENTS_H

#include "base/json_write.h"
#include "worker/chat_request.h"

/* Writes the members "contents" and, where there are system or developer messages, "systemInstruction"; a request of
 * nothing else makes them its contents. Neighbours of one role become one content, results of tools one of their own.
 * needs_signatures: the model refuses calls without. False with *wrong set, or without memory. */
MUST_CHECK bool gemini_contents_write(const struct json_doc *doc, bool needs_signatures, struct json_writer *writer,
                                      struct chat_verdict *wrong);

#endif
