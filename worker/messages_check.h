/* worker/messages_check.h - the documented fields of an Anthropic Messages body: their types, and whether they can be
 * said in other dialects.
 * Used by: messages_request.c only. Pure. What is of the right type, or nobody documented, passes here: an Anthropic
 * upstream may know it. What a translation would have to leave out is noted by name instead.
 * Errors: a verdict that names the field and what it must be; never the value. */
#ifndef TOLLGATE_WORKER_MESSAGES_CHECK_H
#define TOLLGATE_WORKER_MESSAGES_CHECK_H

#include "worker/chat_check.h"

/* The fields that are needed again; the others are only looked at. */
enum messages_field {
    MESSAGES_MODEL,
    MESSAGES_MESSAGES,
    MESSAGES_MAX_TOKENS,
    MESSAGES_STREAM,
    MESSAGES_SYSTEM,
    MESSAGES_TOOLS,
    MESSAGES_TOOL_CHOICE,
    MESSAGES_THINKING,
    MESSAGES_OUTPUT_CONFIG,
    MESSAGES_OUTPUT_FORMAT,
    MESSAGES_METADATA,
    MESSAGES_STOP_SEQUENCES,
    MESSAGES_SERVICE_TIER,
    MESSAGES_TEMPERATURE,
    MESSAGES_TOP_P,
    MESSAGES_TOP_K,
    MESSAGES_FIELDS
};

/* A body being checked. */
struct messages_check {
    const struct json_doc *doc;
    struct chat_verdict *verdict;
    bool is_count;                   /* a count_tokens body, which has no max_tokens */
    char unmapped[CHAT_PARAM_BYTES]; /* the first thing that no other dialect can say; "" */
    int64_t message_count;
};

/* Checks the members of the object `root`; values[f] becomes the value of each field, -1 when absent or null. All may
 * stand only once. False with the verdict set. */
MUST_CHECK bool messages_check_fields(struct messages_check *check, int root, int values[static MESSAGES_FIELDS]);

/* Checks messages, system and tools, block by block. */
MUST_CHECK bool messages_check_content(struct messages_check *check, const int values[static MESSAGES_FIELDS]);

#endif
