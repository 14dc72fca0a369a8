/* worker/gemini_calls.h - which function a tool's result answers: ids of calls and the names they were made with.
 * Used by: gemini_contents.c only, once a request. Pure. Ids may repeat from turn to turn, so a result means the
 * nearest call before it. Sorted once, n log n whatever the ids are. */
#ifndef TOLLGATE_WORKER_GEMINI_CALLS_H
#define TOLLGATE_WORKER_GEMINI_CALLS_H

#include "base/json_read.h"

struct gemini_call;

struct gemini_calls {
    struct buffer ids; /* unescaped, one behind the other */
    struct gemini_call *calls;
    size_t count;
};

/* Finds the calls of all assistant messages. False without memory; gemini_calls_fini is due in any case. */
MUST_CHECK bool gemini_calls_init(struct gemini_calls *calls, const struct json_doc *doc, int messages);
void gemini_calls_fini(struct gemini_calls *calls);

/* The name (a string value) of the last call with the id `id` before message number `before`; -1: there is none. */
int gemini_calls_find(const struct gemini_calls *calls, struct span id, int64_t before);

#endif
