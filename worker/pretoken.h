/* worker/pretoken.h - cuts text into the pieces that byte-pair merging works on, as o200k's and cl100k's patterns do.
 * Used by: worker/bpe.c. Pure, linear in the piece.
 * Text is UTF-8; a byte that is none counts as a character that is neither letter, number nor blank. */
#ifndef TOLLGATE_WORKER_PRETOKEN_H
#define TOLLGATE_WORKER_PRETOKEN_H

#include "worker/vocabulary.h"

/* How many bytes the first piece of text has; 0 when text is empty or, unless is_last, when what may follow text could
 * change it. *is_number tells whether the piece is a group of digits (one to three). */
size_t pretoken_next(enum vocabulary_kind kind, struct span text, bool is_last, bool *is_number);

/* The longest start of at most `most` bytes that cuts no character in two; all of them when that would be nothing. */
size_t pretoken_cut(struct span text, size_t most);

#endif
