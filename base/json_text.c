#include "base/json_text.h"

struct json_text_walk json_text_start(struct span inner) {
    return (struct json_text_walk){.rest = inner};
}

static uint32_t read_hex(const char *digits) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = digits[i];
        uint32_t digit = c <= '9' ? (uint32_t)(c - '0') : (uint32_t)((c | 0x20) - 'a' + 10);
        value = value << 4 | digit;
    }
    return value;
}

/* Reads a \u escape, and the low surrogate's escape behind a high one. */
static uint32_t read_unicode_escape(struct json_text_walk *walk) {
    uint32_t character = read_hex(walk->rest.base + 2);
    walk->rest = span_skip(walk->rest, 6);
    if (character < 0xD800 || character > 0xDFFF) {
        return character;
    }
    if (character <= 0xDBFF && walk->rest.len >= 6 && span_starts_with(walk->rest, "\\u")) {
        uint32_t low = read_hex(walk->rest.base + 2);
        if (low >= 0xDC00 && low <= 0xDFFF) {
            walk->rest = span_skip(walk->rest, 6);
            return 0x10000 + ((character - 0xD800) << 10) + (low - 0xDC00);
        }
    }
    return UTF8_REPLACEMENT;
}

static char read_short_escape(char kind) {
    switch (kind) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return kind;
    }
}

struct span json_text_next(struct json_text_walk *walk) {
    struct span rest = walk->rest;
    if (rest.len == 0) {
        return SPAN_EMPTY;
    }
    if (rest.base[0] != '\\') {
        const char *stop = memchr(rest.base, '\\', rest.len);
        size_t len = stop != NULL ? (size_t)(stop - rest.base) : rest.len;
        walk->rest = span_skip(rest, len);
        return span_of(rest.base, len);
    }
    size_t len = 1;
    if (rest.base[1] == 'u') {
        len = utf8_encode(read_unicode_escape(walk), walk->character);
    } else {
        walk->character[0] = read_short_escape(rest.base[1]);
        walk->rest = span_skip(rest, 2);
    }
    return span_of(walk->character, len);
}

int json_text_compare(struct span a, struct span b) {
    struct json_text_walk walk_a = json_text_start(a);
    struct json_text_walk walk_b = json_text_start(b);
    struct span left = json_text_next(&walk_a);
    struct span right = json_text_next(&walk_b);
    while (left.len != 0 && right.len != 0) {
        size_t len = left.len < right.len ? left.len : right.len;
        int order = memcmp(left.base, right.base, len);
        if (order != 0) {
            return order;
        }
        left = left.len > len ? span_skip(left, len) : json_text_next(&walk_a);
        right = right.len > len ? span_skip(right, len) : json_text_next(&walk_b);
    }
    return (left.len != 0) - (right.len != 0);
}

bool json_text_is(struct span inner, struct span plain) {
    if (inner.len == 0 || memchr(inner.base, '\\', inner.len) == NULL) {
        return span_equals(inner, plain);
    }
    struct json_text_walk walk = json_text_start(inner);
    for (;;) {
        struct span piece = json_text_next(&walk);
        if (piece.len == 0) {
            return plain.len == 0;
        }
        if (piece.len > plain.len || memcmp(piece.base, plain.base, piece.len) != 0) {
            return false;
        }
        plain = span_skip(plain, piece.len);
    }
}
