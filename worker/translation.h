/* worker/translation.h - tells an answer of one dialect in another: between a dialect's reader, which gives parts, and
 * the client's writer.
 * Used by: the relay, one a try whose upstream does not speak what its client speaks. Pure.
 * Ownership: the caller frees it with translation_free. Bytes gathered are the caller's to take after each event. */
#ifndef TOLLGATE_WORKER_TRANSLATION_H
#define TOLLGATE_WORKER_TRANSLATION_H

#include "base/buffer.h"
#include "worker/answer.h"

enum translation_form { TRANSLATION_CHAT, TRANSLATION_MESSAGES };

struct translation;

struct translation_spec {
    enum translation_form form;   /* the client's */
    const char *request_id;       /* what the answer's id is made from */
    const char *model;            /* as the client knows it */
    const char *reasoning_format; /* see struct dialect */
    int64_t input_tokens;         /* estimate */
    bool is_stream;
    size_t cap_bytes; /* of what must be gathered */
};

/* NULL: no memory. */
struct translation *translation_new(const struct translation_spec *spec);
void translation_free(struct translation *translation);

/* What a reader tells its parts to. */
const struct answer_sink *translation_sink(struct translation *translation);

/* Stream: the bytes told since the last take; valid until the next part. */
struct span translation_take(struct translation *translation);

/* The answer could not be told: the upstream said what has no form there, or too much. */
bool translation_failed(const struct translation *translation);

/* Stream: adds the answer's end. finish NONE: as the upstream said. A cost below 0 is left out. False when the answer
 * could not be told, now or before: what there is to take must not leave. */
MUST_CHECK bool translation_end(struct translation *translation, enum answer_finish finish, bool with_usage,
                                const struct token_counts *tokens, int64_t cost_nusd);

/* Whole answer: appends it. False when it could not be told. */
MUST_CHECK bool translation_write_whole(struct translation *translation, const struct token_counts *tokens,
                                        struct buffer *out);

#endif
