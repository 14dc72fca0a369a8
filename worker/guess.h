/* worker/guess.h - about how many tokens a text is, without any vocabulary.
 * Used by: worker/estimate.c: where no vocabulary was built in, and for the far end of very long texts. Pure, allocates
 * nothing, linear in the text. Incremental: a text may be added in pieces cut anywhere, inside a character too. Units:
 * thousandths of a token of a current large vocabulary (o200k). */
#ifndef TOLLGATE_WORKER_GUESS_H
#define TOLLGATE_WORKER_GUESS_H

#include <stdint.h>

#include "base/span.h"

/* A zeroed one is empty. */
struct guess {
    int64_t token_thousandths;  /* of the runs that have ended */
    int64_t extra_digits;       /* beyond one in three, for tokenizers that take digits one by one */
    uint32_t run_length;        /* characters of the run that is open */
    uint32_t character;         /* code point being gathered from UTF-8 */
    uint8_t continuation_bytes; /* still missing from it */
    uint8_t run_class;
    uint8_t previous_class; /* of the run before the open one */
    uint8_t last_letter;    /* kind of the open word's last letter */
    uint8_t has_accent;     /* the open word has a letter beyond ASCII */
    uint8_t foreign_words;  /* how many of the coming words count as another language's than English */
};

/* Adds UTF-8 text. Bytes that are no UTF-8 count as characters of their own. */
void guess_add(struct guess *guess, struct span text);

/* Ends the open word: what is added next belongs to another text. */
void guess_break(struct guess *guess);

/* Thousandths of tokens of all that was added so far, the open run included. Adding may go on. */
int64_t guess_thousandths(const struct guess *guess);

#endif
