/* base/json_read.h - strict JSON (RFC 8259) into jsmn tokens, and the ways to read them.
 * Used by: every process. jsmn alone accepts much that is no JSON, so a validating pass of our own goes first: grammar,
 * depth, UTF-8, escapes, numbers, one root. Parsing is linear in the text.
 * Ownership: tokens live in the document until json_doc_fini; spans point into the caller's text.
 * A value is named by its token index; -1 means "absent" and every reader accepts it as such. */
#ifndef TOLLGATE_BASE_JSON_READ_H
#define TOLLGATE_BASE_JSON_READ_H

#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/check.h"
#include "base/span.h"

enum { JSON_DEPTH_MOST = 128, JSON_TOKENS_MOST = 1 << 20 };

enum json_type { JSON_ABSENT, JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_token; /* a jsmn token; json_read.c alone looks inside */

struct json_doc {
    struct span text;
    struct json_token *tokens;
    int count;
    int capacity;      /* the token array is kept from one parse to the next */
    const char *error; /* after a failed parse: what is wrong, in words, without any of the text */
    size_t error_at;   /* and the byte where */
};

/* An empty document; allocates nothing. */
void json_doc_init(struct json_doc *doc);
void json_doc_fini(struct json_doc *doc);

/* Checks and tokenises text, which must outlive the document. Returns false with error and error_at set: not JSON, not
 * UTF-8, deeper than JSON_DEPTH_MOST, more than JSON_TOKENS_MOST values, or no memory. The root is token 0. */
MUST_CHECK bool json_parse(struct json_doc *doc, struct span text);

enum json_type json_type_of(const struct json_doc *doc, int value);

/* The value's bytes as they stand in the text; for a string with its quotes. Empty for -1. */
struct span json_raw(const struct json_doc *doc, int value);

/* The member `name` of an object: its value, or -1 (also when `object` is not an object). Names are compared after
 * unescaping. With duplicate names the first is returned. */
int json_member(const struct json_doc *doc, int object, const char *name);

/* Walks an object or array. Start with json_first, go on with json_next; -1 ends. For an object these return the name
 * token of each member; its value is json_value_of(name). For an array they return the elements. */
int json_first(const struct json_doc *doc, int container);
int json_next(const struct json_doc *doc, int child);
int json_value_of(const struct json_doc *doc, int name);

/* Number of members or elements; 0 for anything else. */
int json_size(const struct json_doc *doc, int container);

/* The first member name of `object` that stood before (compared after unescaping): its name token, or -1. Without
 * memory to find out it answers with the first name, so that the caller refuses. */
int json_duplicate(const struct json_doc *doc, int object);

/* Unescapes a string value into `out` (appending). Returns false when value is no string or the buffer failed.
 * Lone surrogate escapes become U+FFFD. */
MUST_CHECK bool json_string(const struct json_doc *doc, int value, struct buffer *out);

/* Unescapes a string value into out[size], zero-terminated. Returns false when it is no string, has an embedded NUL, or
 * does not fit. */
MUST_CHECK bool json_string_copy(const struct json_doc *doc, int value, char *out, size_t size);

/* Unescapes into the arena, zero-terminated; NULL when it is no string, has an embedded NUL, or the arena is exhausted.
 */
MUST_CHECK char *json_string_arena(const struct json_doc *doc, int value, struct arena *arena);

/* Is the value a string with exactly this content? */
bool json_string_is(const struct json_doc *doc, int value, const char *text);

/* An integer: a number without fraction or exponent that fits in int64_t. */
MUST_CHECK bool json_int(const struct json_doc *doc, int value, int64_t *out);

/* A number of any form that is a whole count: integers, and forms such as 12.0 or 1e3 some providers send. Rounds
 * nothing: returns false for a fraction, and clamps to the ends of int64 when out of range. */
MUST_CHECK bool json_count(const struct json_doc *doc, int value, int64_t *out);

/* Any number as a double (for temperatures and the like, never for money or counts). False when out of range. */
MUST_CHECK bool json_double(const struct json_doc *doc, int value, double *out);

/* Decimal money: a number or string accepted by money_parse. */
MUST_CHECK bool json_money(const struct json_doc *doc, int value, int64_t *out);

#endif
