/* worker/gemini_media.h - one element of a chat message's content as a part of a Gemini content.
 * Used by: gemini_contents.c only. Pure. */
#ifndef TOLLGATE_WORKER_GEMINI_MEDIA_H
#define TOLLGATE_WORKER_GEMINI_MEDIA_H

#include "base/json_write.h"
#include "worker/chat_request.h"

/* The text of a part of type text or refusal: its string value; -1 for other types. */
int gemini_media_text(const struct json_doc *doc, int part);

/* Writes an image_url, file, input_audio or video_url part: data: URIs as inlineData, addresses as fileData. `scratch`
 * is any buffer that may hold the part. param names the part in a refusal. False with *wrong set. */
MUST_CHECK bool gemini_media_write(const struct json_doc *doc, int part, const char *param, struct buffer *scratch,
                                   struct json_writer *writer, struct chat_verdict *wrong);

#endif
