/* worker/unescape.h - unescapes the inside of a JSON string that comes in pieces, cut anywhere.
 * Used by: worker/estimate.c. Pure, allocates nothing. Takes any bytes: an escape that is none stands for its last
 * byte, half a surrogate pair for U+FFFD. */
#ifndef TOLLGATE_WORKER_UNESCAPE_H
#define TOLLGATE_WORKER_UNESCAPE_H

#include <stdint.h>

#include "base/span.h"

enum { UNESCAPE_BYTES_LEAST = 8 };

/* A zeroed one is at the start of a string. */
struct unescape {
    uint16_t high_surrogate; /* waits for its other half; 0: none does */
    uint8_t escape_bytes;    /* of an escape cut between two pieces */
    char escape[6];
};

/* Unescapes as much of *escaped as fits into out (UNESCAPE_BYTES_LEAST at least), and moves *escaped past it. Returns
 * the bytes written; 0 only when *escaped is at its end. */
size_t unescape_next(struct unescape *state, struct span *escaped, char *out, size_t size);

/* Is the string's end, or anything else than plain text, awaited? */
static inline bool unescape_is_open(const struct unescape *state) {
    return state->escape_bytes != 0 || state->high_surrogate != 0;
}

/* Writes what stands for an unfinished escape (at most UNESCAPE_BYTES_LEAST bytes); the state is a fresh one then. */
size_t unescape_end(struct unescape *state, char *out);

#endif
