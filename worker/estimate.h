/* worker/estimate.h - how many tokens a text is for a model.
 * Used by: the worker: prompts at admission, relayed output where the upstream reports no usage. Pure, allocates
 * nothing. Incremental: a text may be added in pieces cut anywhere, inside a character too.
 * With a vocabulary built in, the first 128 KiB are counted exactly as that vocabulary's tokenizer does; what is beyond
 * is guessed and put right by the ratio of count to guess just before. Without one, all is guessed. Of what is beyond
 * 1 MiB one block in eight is looked at. Models of other vocabularies have a ratio of their own (worker/tokenizer.h).
 */
#ifndef TOLLGATE_WORKER_ESTIMATE_H
#define TOLLGATE_WORKER_ESTIMATE_H

#include "base/json_read.h"
#include "worker/bpe.h"
#include "worker/guess.h"
#include "worker/tokenizer.h"
#include "worker/unescape.h"

enum { ESTIMATE_EXACT_BYTES = 128 << 10, ESTIMATE_SAMPLE_BYTES = 16 << 10, ESTIMATE_WHOLE_BYTES = 1 << 20 };

/* A zeroed one is empty, and of no model that is known. */
struct estimate {
    const struct tokenizer *tokenizer;
    struct unescape unescape;
    int64_t counted_bytes;
    struct guess guess;       /* of what is not counted, and of the sample: the last of what is */
    struct guess sample;      /* the guess when the sample ended */
    int64_t sample_tokens;    /* the sample's count */
    int64_t guessed_bytes;    /* what is not counted: looked at, */
    int64_t skipped_bytes;    /* and taken to be like it */
    struct bpe_counter exact; /* last, for estimate_copy */
};

/* An empty estimate for a model; an empty name: for one that is not known. */
void estimate_init(struct estimate *estimate, struct span model);

/* Adds UTF-8 text. Bytes that are no UTF-8 count as characters of their own. */
void estimate_add(struct estimate *estimate, struct span text);

/* Adds the inside of a JSON string, unescaping as it goes. */
void estimate_add_json(struct estimate *estimate, struct span escaped);

/* Ends the open word: what is added next belongs to another text. */
void estimate_break(struct estimate *estimate);

/* Tokens of all that was added so far, the open word included; exact after estimate_break, where it is counted at all.
 * Adding may go on. */
int64_t estimate_tokens(const struct estimate *estimate);

/* What the model's own format adds to an answer, beside its text. */
int64_t estimate_framing(const struct estimate *estimate, bool has_text, bool has_reasoning, int64_t tool_calls);

/* Copies an estimate, of its buffers only what is in use. */
void estimate_copy(struct estimate *to, const struct estimate *from);

/* A text's tokens in one call, for a model. */
int64_t estimate_text(struct span model, struct span text);

/* A chat request's prompt as the upstream will count it: messages with their framing, tool definitions, images and
 * files at flat rates. `root` is the request object, whose `model` says how. Saturates at INT32_MAX. */
int64_t estimate_chat_prompt(const struct json_doc *doc, int root);

/* Are these counts the model's own, not another tokenizer's put right? */
bool estimate_is_exact(const struct estimate *estimate);

/* Converts a text's tokens from one tokenizer's to another's. */
int64_t estimate_convert(int64_t tokens, const struct tokenizer *from, const struct tokenizer *to);

#endif
