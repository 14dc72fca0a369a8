/* worker/estimate.h - how many tokens a text is, without its tokenizer.
 * Used by: the worker: prompts at admission, relayed output where the upstream reports no usage. Pure, allocates
 * nothing, linear in the text. Incremental: a text may be added in pieces cut anywhere, inside a character too. Units:
 * tokens of a current large vocabulary (o200k); counted inside in thousandths. */
#ifndef TOLLGATE_WORKER_ESTIMATE_H
#define TOLLGATE_WORKER_ESTIMATE_H

#include <stdint.h>

#include "base/json_read.h"

struct estimate {
    int64_t token_thousandths;  /* of the runs that have ended */
    uint32_t run_length;        /* characters of the run that is open */
    uint32_t character;         /* code point being gathered from UTF-8 */
    uint8_t continuation_bytes; /* still missing from it */
    uint8_t run_class;
    uint8_t previous_class; /* of the run before the open one */
    uint8_t last_letter;    /* kind of the open word's last letter */
    uint8_t has_accent;     /* the open word has a letter beyond ASCII */
    uint8_t foreign_words;  /* how many of the coming words count as another language's than English */
    uint8_t escape_bytes;   /* of a JSON escape cut between two pieces */
    char escape[6];
    uint16_t high_surrogate;
};

/* A zeroed struct estimate is an empty one too. */
void estimate_init(struct estimate *estimate);

/* Adds UTF-8 text. Bytes that are no UTF-8 count as characters of their own. */
void estimate_add(struct estimate *estimate, struct span text);

/* Adds the inside of a JSON string, unescaping as it goes. */
void estimate_add_json(struct estimate *estimate, struct span escaped);

/* Ends the open word: what is added next belongs to another text. */
void estimate_break(struct estimate *estimate);

/* Tokens of all that was added so far, the open run included. Adding may go on. */
int64_t estimate_tokens(const struct estimate *estimate);

/* A text's tokens in one call. */
int64_t estimate_text(struct span text);

/* A chat request's prompt as the upstream will count it: messages with their framing, tool definitions, images and
 * files at flat rates. `root` is the request object. Saturates at INT32_MAX. */
int64_t estimate_chat_prompt(const struct json_doc *doc, int root);

#endif
