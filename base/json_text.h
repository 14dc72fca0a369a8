/* base/json_text.h - the inside of JSON strings: walks, compares and unescapes what stands between the quotes.
 * Used by: json_read.c and json_value.c only. The texts have passed json_validate, so every escape is complete. */
#ifndef TOLLGATE_BASE_JSON_TEXT_H
#define TOLLGATE_BASE_JSON_TEXT_H

#include "base/span.h"
#include "base/utf8.h"

struct json_text_walk {
    struct span rest;
    char character[UTF8_MOST_BYTES];
};

/* Starts a walk over the inside of a string. */
struct json_text_walk json_text_start(struct span inner);

/* The next run of unescaped bytes; empty at the end. Valid until the next call. A lone surrogate gives U+FFFD. */
struct span json_text_next(struct json_text_walk *walk);

/* Orders two insides by their unescaped bytes: below, at or above 0. */
int json_text_compare(struct span a, struct span b);

/* Is the inside, unescaped, exactly these plain bytes? */
bool json_text_is(struct span inner, struct span plain);

#endif
