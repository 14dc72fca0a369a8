/* base/buffer.h - a growing byte buffer with a cap.
 * Used by: every process, for texts whose length is not known before. The buffer owns its bytes.
 * Errors: an append that would pass the cap (or finds no memory) adds nothing and sets `failed`, which stays set until
 * buffer_clear; callers may append freely and look once at the end. */
#ifndef TOLLGATE_BASE_BUFFER_H
#define TOLLGATE_BASE_BUFFER_H

#include "base/check.h"
#include "base/span.h"

struct buffer {
    char *base; /* always zero-terminated once anything was appended */
    size_t len;
    size_t size;
    size_t cap; /* most bytes it may hold */
    bool failed;
};

/* An empty buffer that may grow to cap bytes. Allocates nothing yet. */
void buffer_init(struct buffer *buffer, size_t cap);

/* Frees the bytes; the buffer is empty and usable again. */
void buffer_fini(struct buffer *buffer);

/* Forgets the content, keeps the memory. */
void buffer_clear(struct buffer *buffer);

/* Makes room for `more` bytes and returns where they go, or NULL (and sets failed). Follow with buffer_added. */
char *buffer_reserve(struct buffer *buffer, size_t more);

/* Says that `count` bytes were written where buffer_reserve pointed. */
void buffer_added(struct buffer *buffer, size_t count);

void buffer_append(struct buffer *buffer, const void *bytes, size_t len);
void buffer_append_span(struct buffer *buffer, struct span text);
void buffer_append_text(struct buffer *buffer, const char *text);
void buffer_append_byte(struct buffer *buffer, char byte);
void buffer_format(struct buffer *buffer, const char *format, ...) PRINTF_LIKE(2, 3);

/* Forgets what comes after the first `len` bytes; len is at most the present length. */
void buffer_truncate(struct buffer *buffer, size_t len);

/* Drops the first `count` bytes, moving the rest to the front. */
void buffer_consume(struct buffer *buffer, size_t count);

static inline struct span buffer_span(const struct buffer *buffer) { return span_of(buffer->base, buffer->len); }

/* The content as a zero-terminated text ("" when empty). */
static inline const char *buffer_text(const struct buffer *buffer) { return buffer->base != NULL ? buffer->base : ""; }

#endif
