/* worker/chat_check.h - the documented fields of a chat-completions body: their types and ranges.
 * Used by: chat_request.c; the translators use chat_refuse. Pure. Fields nobody documented pass unlooked-at: upstreams
 * have many of their own. Errors: a verdict that names the field and what it must be; never the value. */
#ifndef TOLLGATE_WORKER_CHAT_CHECK_H
#define TOLLGATE_WORKER_CHAT_CHECK_H

#include "worker/chat_request.h"

/* The fields that chat_request_read needs to find again; the others are only checked. */
enum chat_field {
    CHAT_MODEL,
    CHAT_MESSAGES,
    CHAT_STREAM,
    CHAT_STREAM_OPTIONS,
    CHAT_MAX_TOKENS,
    CHAT_MAX_COMPLETION_TOKENS,
    CHAT_N,
    CHAT_TOOLS,
    CHAT_FUNCTIONS,
    CHAT_USER,
    CHAT_METADATA,
    CHAT_FIELDS
};

/* Checks the members of the object `root`; values[f] becomes the value of each field of enum chat_field, -1 when
 * absent. Fields that decide routing or money may stand only once. False with *verdict set. */
MUST_CHECK bool chat_check_fields(const struct json_doc *doc, int root, int values[static CHAT_FIELDS],
                                  struct chat_verdict *verdict);

/* Checks the messages array, which must be there. Sets *count. */
MUST_CHECK bool chat_check_messages(const struct json_doc *doc, int messages, int64_t *count,
                                    struct chat_verdict *verdict);

/* Checks stream_options, when it is an object, and finds its include_usage (-1: absent). */
MUST_CHECK bool chat_check_stream_options(const struct json_doc *doc, int options, int *include_usage,
                                          struct chat_verdict *verdict);

/* Fills the verdict: 400, code, param and a message made as by printf. Returns false, for callers to pass on. */
MUST_CHECK bool chat_refuse(struct chat_verdict *verdict, const char *code, const char *param, const char *format, ...)
    PRINTF_LIKE(4, 5);

#endif
