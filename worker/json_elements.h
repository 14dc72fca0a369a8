/* worker/json_elements.h - cuts a JSON array of objects, as Gemini streams it without alt=sse ("[{...}\n,\r\n{...}]"),
 * into its elements as the bytes arrive.
 * Used by: the worker, one splitter a stream. Pure: no I/O, no clock, no log. Bytes may be cut anywhere. An element
 * that lies whole in the piece fed in is not copied; only one that arrives in parts is gathered. It finds where
 * elements end; whether an element is valid JSON is for who reads it. Ownership: the splitter owns its buffer; an
 * element points into the piece fed in or into the splitter and is valid until the next call with this splitter, as
 * long as the piece itself lives. Errors: JSON_ELEMENTS_INVALID for anything but an array of objects,
 * JSON_ELEMENTS_TOO_LONG for an element beyond the cap (or no memory to gather one); both stay. */
#ifndef TOLLGATE_WORKER_JSON_ELEMENTS_H
#define TOLLGATE_WORKER_JSON_ELEMENTS_H

#include "base/buffer.h"

enum json_elements_result { JSON_ELEMENTS_ONE, JSON_ELEMENTS_NEED_MORE, JSON_ELEMENTS_INVALID, JSON_ELEMENTS_TOO_LONG };

/* Between elements: what may come next. */
enum json_elements_place {
    JSON_ELEMENTS_START,  /* [ */
    JSON_ELEMENTS_FIRST,  /* { or ] */
    JSON_ELEMENTS_INSIDE, /* in an element */
    JSON_ELEMENTS_AFTER,  /* , or ] */
    JSON_ELEMENTS_BEFORE, /* { */
    JSON_ELEMENTS_OVER,   /* nothing but white space */
};

struct json_elements {
    struct buffer gathered; /* an element that is arriving in parts */
    size_t cap_bytes;
    size_t depth; /* open brackets of the element */
    enum json_elements_place place;
    enum json_elements_result failure; /* JSON_ELEMENTS_ONE: none */
    bool is_in_string;
    bool is_escaped;   /* the last byte was a backslash that escapes the next */
    bool is_delivered; /* gathered holds an element already handed out */
};

/* An empty splitter; an element may have at most cap_bytes. Allocates nothing yet. */
void json_elements_init(struct json_elements *elements, size_t cap_bytes);
void json_elements_fini(struct json_elements *elements);

/* Consumes from *input up to the end of the next element. JSON_ELEMENTS_ONE: *out is that element, call again with the
 * rest. JSON_ELEMENTS_NEED_MORE: all of *input was consumed. */
MUST_CHECK enum json_elements_result json_elements_next(struct json_elements *elements, struct span *input,
                                                        struct span *out);

/* Has the array been closed? A stream that ends before was cut off. */
bool json_elements_is_over(const struct json_elements *elements);

#endif
