/* worker/gemini_settings.h - what a chat request says beside its messages, as Gemini's tools, toolConfig and
 * generationConfig.
 * Used by: gemini_request.c only. Pure. */
#ifndef TOLLGATE_WORKER_GEMINI_SETTINGS_H
#define TOLLGATE_WORKER_GEMINI_SETTINGS_H

#include "base/json_write.h"
#include "worker/chat_request.h"

/* What its name tells of a model: "gemini-2.5-pro" is {2, 5, true}. 0.0: not told. */
struct gemini_generation {
    int major;
    int minor;
    bool is_pro;
};

struct gemini_generation gemini_generation_of(const char *model);

/* Writes the members of the body. max_tokens caps the output, 0 leaves the client's cap. False with *wrong set. */
MUST_CHECK bool gemini_settings_write(const struct json_doc *doc, const struct gemini_generation *generation,
                                      int64_t max_tokens, struct json_writer *writer, struct chat_verdict *wrong);

#endif
