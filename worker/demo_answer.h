/* worker/demo_answer.h - what the embedded demo upstream says: a believable chat completion in OpenAI's dialect.
 * Used by: the worker's demo upstream, which does the pacing. Pure: the same request and time give the same bytes.
 * Ownership: a demo_answer owns its texts until demo_answer_fini; it does not need the request body after init. */
#ifndef TOLLGATE_WORKER_DEMO_ANSWER_H
#define TOLLGATE_WORKER_DEMO_ANSWER_H

#include <stdint.h>

#include "worker/chat_request.h"

enum { DEMO_ID_BYTES = 40, DEMO_TEXT_MOST = 16 * 1024 };

enum demo_step { DEMO_ROLE, DEMO_TEXT, DEMO_FINISH, DEMO_USAGE, DEMO_DONE, DEMO_OVER };

struct demo_answer {
    char id[DEMO_ID_BYTES];
    char model[CHAT_MODEL_BYTES];
    int64_t created_s;
    struct buffer text; /* what every choice says */
    bool include_usage;
    int64_t choices;
    int64_t choice_tokens; /* words of a choice, after max_tokens */
    bool is_capped;        /* max_tokens ends it early */
    int64_t prompt_tokens;
    int64_t sent_tokens;
    enum demo_step step;
    int64_t choice; /* whose turn it is */
    int64_t word;   /* which word comes next */
    size_t word_at; /* where in text it stands, with the blanks before it */
};

/* Makes the answer to a chat-completions body. False when the body is none, with *error a literal saying so; then there
 * is nothing to end. */
MUST_CHECK bool demo_answer_init(struct demo_answer *answer, struct json_doc *scratch, struct span body,
                                 int64_t created_s, const char **error);
void demo_answer_fini(struct demo_answer *answer);

/* Appends the next server-sent event (role, one word an event, finish, usage when asked for, [DONE]) to out. Returns
 * false when there is none left or out failed. `is_token` says whether the event carried a word, for pacing. */
MUST_CHECK bool demo_answer_next(struct demo_answer *answer, struct buffer *out, bool *is_token);

/* Appends the whole answer as one JSON object. Use instead of demo_answer_next. */
void demo_answer_whole(struct demo_answer *answer, struct buffer *out);

/* How many tokens the whole answer has, over all choices; one word is one token. */
int64_t demo_answer_tokens(const struct demo_answer *answer);

#endif
