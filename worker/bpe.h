/* worker/bpe.h - counts tokens as a byte-pair tokenizer does, exactly, in text that comes in pieces.
 * Used by: worker/estimate.c. Pure, allocates nothing.
 * Only the open piece of the text is kept (BPE_PIECE_BYTES at most): what can still change by what follows. A piece
 * longer than that (a run of letters without blanks, of blanks, of signs) is cut there, which may cost a token a cut;
 * so the work is linear in the text. */
#ifndef TOLLGATE_WORKER_BPE_H
#define TOLLGATE_WORKER_BPE_H

#include "worker/pretoken.h"

enum { BPE_PIECE_BYTES = 512, BPE_OPEN_BYTES = 48 };

/* A zeroed one is empty. */
struct bpe_counter {
    int64_t tokens;       /* of the pieces that have ended */
    int64_t extra_digits; /* beyond the first of each group, for tokenizers that take digits one by one */
    int64_t ended_bytes;  /* of those pieces */
    uint32_t open_bytes;
    char open[BPE_PIECE_BYTES];
};

/* Adds UTF-8 text. */
void bpe_add(struct bpe_counter *counter, const struct vocabulary *vocabulary, enum vocabulary_kind kind,
             struct span text);

/* Ends the open piece: what is added next belongs to another text. */
void bpe_break(struct bpe_counter *counter, const struct vocabulary *vocabulary, enum vocabulary_kind kind);

/* Tokens of all that was added, the open piece included. Where that is longer than BPE_OPEN_BYTES (a run of letters in
 * a script without blanks), it is taken to be as dense as the text before: merging it for each of many small pieces of
 * text would not be linear. After bpe_break the count is exact. */
int64_t bpe_tokens(const struct bpe_counter *counter, const struct vocabulary *vocabulary, enum vocabulary_kind kind);

/* Copies a counter, but of its open piece only what is there. */
void bpe_copy(struct bpe_counter *to, const struct bpe_counter *from);

/* The tokens of one piece, as pretoken_next cuts them; at most BPE_PIECE_BYTES bytes. */
int bpe_count_piece(const struct vocabulary *vocabulary, struct span piece);

#endif
