#include "base/utf8.h"

#include "base/check.h"

static bool is_continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

/* The lowest and highest second byte differ for the lead bytes where overlong forms, surrogates and the end of Unicode
 * have to be kept out. */
static bool is_second_byte(unsigned char lead, unsigned char second) {
    switch (lead) {
    case 0xE0:
        return second >= 0xA0 && second <= 0xBF;
    case 0xED:
        return second >= 0x80 && second <= 0x9F;
    case 0xF0:
        return second >= 0x90 && second <= 0xBF;
    case 0xF4:
        return second >= 0x80 && second <= 0x8F;
    default:
        return is_continuation(second);
    }
}

static size_t length_after_lead(unsigned char lead) {
    if (lead < 0x80) {
        return 1;
    }
    if (lead >= 0xC2 && lead <= 0xDF) {
        return 2;
    }
    if (lead >= 0xE0 && lead <= 0xEF) {
        return 3;
    }
    return lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
}

size_t utf8_length(struct span text) {
    if (text.len == 0) {
        return 0;
    }
    const unsigned char *bytes = (const unsigned char *)text.base;
    size_t len = length_after_lead(bytes[0]);
    if (len > text.len || (len > 1 && !is_second_byte(bytes[0], bytes[1]))) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if (!is_continuation(bytes[i])) {
            return 0;
        }
    }
    return len;
}

uint32_t utf8_decode(struct span text) {
    const unsigned char *bytes = (const unsigned char *)text.base;
    size_t len = length_after_lead(bytes[0]);
    CHECK(len != 0 && len <= text.len);
    uint32_t character = len == 1 ? bytes[0] : bytes[0] & (0xFFU >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        character = character << 6 | (bytes[i] & 0x3FU);
    }
    return character;
}

size_t utf8_encode(uint32_t character, char out[static UTF8_MOST_BYTES]) {
    size_t len = character < 0x80 ? 1 : character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    static const unsigned char leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80U | (character & 0x3FU));
        character >>= 6;
    }
    out[0] = (char)(leads[len] | character);
    return len;
}

struct span utf8_cut(struct span text, size_t most) {
    if (text.len <= most) {
        return text;
    }
    size_t len = most;
    for (size_t back = 0; back < UTF8_MOST_BYTES - 1 && len > 0; back++) {
        if (!is_continuation((unsigned char)text.base[len])) {
            break;
        }
        len--;
    }
    return span_of(text.base, len);
}
