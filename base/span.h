/* base/span.h - a borrowed, read-only run of bytes: pointer and length, not zero-terminated.
 * Used by: every process. Whoever made the bytes owns them; a span never frees. */
#ifndef TOLLGATE_BASE_SPAN_H
#define TOLLGATE_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct span {
    const char *base;
    size_t len;
};

#define SPAN_LITERAL(text) ((struct span){(text), sizeof(text) - 1})
#define SPAN_EMPTY ((struct span){NULL, 0})
/* For printf's "%.*s". */
#define SPAN_ARGUMENTS(s) (int)(s).len, (s).base

static inline struct span span_of(const char *base, size_t len) { return (struct span){base, len}; }

/* A span over a zero-terminated text; NULL gives the empty span. */
static inline struct span span_text(const char *text) { return (struct span){text, text != NULL ? strlen(text) : 0}; }

static inline bool span_equals(struct span a, struct span b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.base, b.base, a.len) == 0);
}

static inline bool span_is(struct span s, const char *text) { return span_equals(s, span_text(text)); }

static inline bool span_is_nocase(struct span s, const char *text) {
    return s.len == strlen(text) && (s.len == 0 || strncasecmp(s.base, text, s.len) == 0);
}

static inline bool span_starts_with(struct span s, const char *prefix) {
    size_t n = strlen(prefix);
    return s.len >= n && (n == 0 || memcmp(s.base, prefix, n) == 0);
}

/* The part of s after its first `skip` bytes (empty when there are fewer). */
static inline struct span span_skip(struct span s, size_t skip) {
    size_t skipped = skip < s.len ? skip : s.len;
    return skipped == 0 ? s : span_of(s.base + skipped, s.len - skipped);
}

/* s without spaces and tabs at either end. */
static inline struct span span_trim(struct span s) {
    while (s.len != 0 && (s.base[0] == ' ' || s.base[0] == '\t')) {
        s = span_skip(s, 1);
    }
    while (s.len != 0 && (s.base[s.len - 1] == ' ' || s.base[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* Copies s into out[size] with a terminating zero, cutting it when it does not fit. Returns false when it was cut. */
static inline bool span_copy(struct span s, char *out, size_t size) {
    if (size == 0) {
        return false;
    }
    size_t n = s.len < size - 1 ? s.len : size - 1;
    if (n != 0) {
        memcpy(out, s.base, n);
    }
    out[n] = '\0';
    return n == s.len;
}

#endif
