/* worker/dialect_gemini.h - reads what a Gemini upstream answers (generateContent of the Gemini API and of Vertex).
 * Used by: the worker: once per stream event or array element, or once per whole answer. Pure.
 * The dialect has no end marker: is_done is never set, and the finish reason may stand on every chunk. So in a stream
 * the FINISH parts come from gemini_hear_end, once the upstream's connection has ended. finish_reason is the dialect's
 * name, also where Vertex sends its number. Ids of calls may be empty: the writer makes them. inlineData,
 * executableCode and the like are not told. Ownership: spans of an event point into the data handed in; those of a part
 * are valid until on_part returns. `scratch` is any json_doc, one a worker is enough. */
#ifndef TOLLGATE_WORKER_DIALECT_GEMINI_H
#define TOLLGATE_WORKER_DIALECT_GEMINI_H

#include "worker/answer.h"

/* Takes in one stream event: its name (empty, or it is none of Gemini's) and data. Fills *out and adds to the listener;
 * with a sink, whose `told` must be there, its parts are told too; NULL only listens. */
void gemini_hear_event(struct answer_listener *listener, struct json_doc *scratch, struct span name, struct span data,
                       struct answer_event *out, const struct answer_sink *sink);

/* Takes in a whole answer that is not a stream, or an error body (an object, or an array that holds one). Its FINISH
 * parts are told as well. */
void gemini_hear_answer(struct answer_listener *listener, struct json_doc *scratch, struct span body,
                        struct answer_event *out, const struct answer_sink *sink);

/* The stream has ended: tells each choice's finish, as far as one was heard and not told yet. */
void gemini_hear_end(struct answer_listener *listener, const struct answer_sink *sink);

/* Fills *out with what the body of an error says; all false and 0 when it is none of Gemini's. Credentials are also
 * what only the account's owner can mend: a location or project that may not use the API. */
void gemini_judge_refusal(struct json_doc *scratch, struct span body, struct answer_refusal *out);

#endif
