/* worker/json_splice.h - replaces values of a JSON object where they stand and adds members at its end; every other
 * byte stays as it is.
 * Used by: the worker, which makes an upstream's body from a client's. Pure.
 * Ownership: the splice borrows the object and owns what is put in; end it with json_splice_fini. Errors: found at
 * json_splice_write. */
#ifndef TOLLGATE_WORKER_JSON_SPLICE_H
#define TOLLGATE_WORKER_JSON_SPLICE_H

#include <stdint.h>

#include "base/buffer.h"

enum { JSON_SPLICE_EDITS_MOST = 8 };

/* A piece of the text that is replaced; kept in the order they stand in. */
struct json_edit {
    size_t at;
    size_t removes;
    size_t text_at; /* in texts */
    size_t text_len;
};

struct json_splice {
    struct span text;
    size_t end_at; /* where the object's closing brace stands in it */
    struct json_edit edits[JSON_SPLICE_EDITS_MOST];
    int count;
    struct buffer texts;
    struct buffer added; /* new members for the end of the object */
};

/* A splice of `text`, which holds one object that has members; its closing brace stands at end_at. */
void json_splice_init(struct json_splice *splice, struct span text, size_t end_at);
void json_splice_fini(struct json_splice *splice);

/* Replaces a piece of the text (an empty one: inserts before it) by JSON. Pieces must not overlap, and there may be
 * JSON_SPLICE_EDITS_MOST at most. */
void json_splice_replace(struct json_splice *splice, struct span replaced, struct span json);

/* The same with a text that is quoted, or a number. */
void json_splice_replace_text(struct json_splice *splice, struct span replaced, const char *text);
void json_splice_replace_int(struct json_splice *splice, struct span replaced, int64_t number);

/* Adds members at the object's end. */
void json_splice_add(struct json_splice *splice, const char *name, struct span json);
void json_splice_add_int(struct json_splice *splice, const char *name, int64_t number);

/* Appends the text with all this done to out. Returns false when a buffer failed. */
MUST_CHECK bool json_splice_write(struct json_splice *splice, struct buffer *out);

#endif
