/* worker/tokenizer.h - how a model counts: which vocabulary, how its own differs from that, what it adds to an answer.
 * Used by: worker/estimate.c, by the model's name. Pure; a tokenizer is constant and lives for ever. */
#ifndef TOLLGATE_WORKER_TOKENIZER_H
#define TOLLGATE_WORKER_TOKENIZER_H

#include "worker/vocabulary.h"

struct tokenizer {
    const char *name; /* of the model family; "" for those not known */
    enum vocabulary_kind vocabulary;
    bool is_exact;             /* the vocabulary is the model's own */
    bool splits_digits;        /* each digit is a token */
    int16_t ratio_thousandths; /* its tokens to the vocabulary's, in text of the usual kinds */
    /* What is counted beside the text: */
    int16_t answer_tokens;        /* in an answer with text */
    int16_t reasoning_tokens;     /* around reasoning */
    int16_t call_tokens;          /* around a tool call, beside its name and arguments */
    int16_t parallel_call_tokens; /* around each of several */
};

/* The tokenizer of a model, by any name upstreams have for it ("openai/gpt-4o", "us.anthropic.claude-sonnet-4-5"). */
const struct tokenizer *tokenizer_of(struct span model);

#endif
