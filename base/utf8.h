/* base/utf8.h - recognises and writes UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing past U+10FFFF).
 * Used by: the JSON reader and writer and the log, in every process. Pure. */
#ifndef TOLLGATE_BASE_UTF8_H
#define TOLLGATE_BASE_UTF8_H

#include <stdint.h>

#include "base/span.h"

enum { UTF8_MOST_BYTES = 4, UTF8_REPLACEMENT = 0xFFFD };

/* How many bytes the character at the start of text has (1 to 4), or 0 when it is empty, cut or not valid. */
size_t utf8_length(struct span text);

/* The character at the start of text, which utf8_length has found valid. */
uint32_t utf8_decode(struct span text);

/* Writes a character (no surrogate) and returns its number of bytes. */
size_t utf8_encode(uint32_t character, char out[static UTF8_MOST_BYTES]);

/* The longest start of text of at most `most` bytes that does not cut a character in two. */
struct span utf8_cut(struct span text, size_t most);

#endif
