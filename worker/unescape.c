#include "worker/unescape.h"

#include "base/utf8.h"

static uint32_t hex_value(char digit) {
    return digit >= '0' && digit <= '9' ? (uint32_t)(digit - '0') : ((uint32_t)((digit | 0x20) - 'a') + 10) & 0x0FU;
}

/* A high half that its other half did not follow. */
static size_t write_lone_half(struct unescape *state, char *out) {
    if (state->high_surrogate == 0) {
        return 0;
    }
    state->high_surrogate = 0;
    return utf8_encode(UTF8_REPLACEMENT, out);
}

/* One \uXXXX: the first half of a pair waits for the other. */
static size_t write_unicode(struct unescape *state, char *out) {
    uint32_t character = 0;
    for (int i = 2; i < 6; i++) {
        character = character << 4 | hex_value(state->escape[i]);
    }
    if (character >= 0xDC00 && character <= 0xDFFF && state->high_surrogate != 0) {
        character = 0x10000U + ((uint32_t)(state->high_surrogate - 0xD800U) << 10) + (character - 0xDC00U);
        state->high_surrogate = 0;
        return utf8_encode(character, out);
    }
    size_t written = write_lone_half(state, out);
    if (character >= 0xD800 && character <= 0xDBFF) {
        state->high_surrogate = (uint16_t)character;
        return written;
    }
    return written +
           utf8_encode(character >= 0xDC00 && character <= 0xDFFF ? UTF8_REPLACEMENT : character, out + written);
}

static char plain_of(char escaped) {
    switch (escaped) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    default:
        return escaped;
    }
}

/* Takes one more byte of the escape that is open; writes what it stands for when it is whole. */
static size_t take_escape_byte(struct unescape *state, char byte, char *out) {
    state->escape[state->escape_bytes++] = byte;
    bool is_unicode = state->escape_bytes >= 2 && state->escape[1] == 'u';
    if (is_unicode && state->escape_bytes < sizeof(state->escape)) {
        return 0;
    }
    state->escape_bytes = 0;
    if (is_unicode) {
        return write_unicode(state, out);
    }
    size_t written = write_lone_half(state, out);
    out[written] = plain_of(byte);
    return written + 1;
}

size_t unescape_next(struct unescape *state, struct span *escaped, char *out, size_t size) {
    size_t written = 0;
    while (escaped->len != 0 && written + UNESCAPE_BYTES_LEAST <= size) {
        char byte = escaped->base[0];
        if (state->escape_bytes != 0) {
            written += take_escape_byte(state, byte, out + written);
            *escaped = span_skip(*escaped, 1);
            continue;
        }
        if (byte == '\\') {
            state->escape[0] = byte;
            state->escape_bytes = 1;
            *escaped = span_skip(*escaped, 1);
            continue;
        }
        written += write_lone_half(state, out + written);
        const char *backslash = memchr(escaped->base, '\\', escaped->len);
        size_t plain = backslash != NULL ? (size_t)(backslash - escaped->base) : escaped->len;
        plain = plain < size - written ? plain : size - written;
        memcpy(out + written, escaped->base, plain);
        written += plain;
        *escaped = span_skip(*escaped, plain);
    }
    return written;
}

size_t unescape_end(struct unescape *state, char *out) {
    size_t written = write_lone_half(state, out);
    if (state->escape_bytes != 0) {
        written += utf8_encode(UTF8_REPLACEMENT, out + written);
    }
    *state = (struct unescape){0};
    return written;
}
