#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/json_read.h"
#include "base/json_text.h"
#include "base/money.h"

enum { NUMBER_TEXT_BYTES = 128 };

/* Finds what stands between the quotes; false when the value is no string. */
static bool find_inner(const struct json_doc *doc, int value, struct span *inner) {
    if (json_type_of(doc, value) != JSON_STRING) {
        return false;
    }
    struct span raw = json_raw(doc, value);
    *inner = span_of(raw.base + 1, raw.len - 2);
    return true;
}

bool json_string(const struct json_doc *doc, int value, struct buffer *out) {
    struct span inner;
    if (!find_inner(doc, value, &inner)) {
        return false;
    }
    struct json_text_walk walk = json_text_start(inner);
    for (struct span piece = json_text_next(&walk); piece.len != 0; piece = json_text_next(&walk)) {
        buffer_append_span(out, piece);
    }
    return !out->failed;
}

/* Unescapes into out[size] with a terminating zero; false for a NUL inside or when it does not fit. */
static bool copy_inner(struct span inner, char *out, size_t size) {
    size_t len = 0;
    struct json_text_walk walk = json_text_start(inner);
    for (struct span piece = json_text_next(&walk); piece.len != 0; piece = json_text_next(&walk)) {
        if (piece.len >= size - len || memchr(piece.base, '\0', piece.len) != NULL) {
            return false;
        }
        memcpy(out + len, piece.base, piece.len);
        len += piece.len;
    }
    out[len] = '\0';
    return true;
}

bool json_string_copy(const struct json_doc *doc, int value, char *out, size_t size) {
    struct span inner;
    CHECK(size != 0);
    if (find_inner(doc, value, &inner) && copy_inner(inner, out, size)) {
        return true;
    }
    out[0] = '\0';
    return false;
}

char *json_string_arena(const struct json_doc *doc, int value, struct arena *arena) {
    struct span inner;
    if (!find_inner(doc, value, &inner)) {
        return NULL;
    }
    /* No escape is shorter than the bytes it stands for. */
    char *out = arena_take(arena, inner.len + 1);
    return out != NULL && copy_inner(inner, out, inner.len + 1) ? out : NULL;
}

bool json_string_is(const struct json_doc *doc, int value, const char *text) {
    struct span inner;
    return find_inner(doc, value, &inner) && json_text_is(inner, span_text(text));
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool json_int(const struct json_doc *doc, int value, int64_t *out) {
    if (json_type_of(doc, value) != JSON_NUMBER) {
        return false;
    }
    struct span raw = json_raw(doc, value);
    bool negative = raw.base[0] == '-';
    int64_t number = 0;
    for (size_t i = negative ? 1 : 0; i < raw.len; i++) {
        if (!is_digit(raw.base[i])) {
            return false;
        }
        int digit = raw.base[i] - '0';
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, negative ? -digit : digit, &number)) {
            return false;
        }
    }
    *out = number;
    return true;
}

/* A number as digits x 10^exponent. Only the digits up to the last that is not 0 count; there are none when it is 0. */
struct decimal {
    struct span digits; /* may have a point inside */
    int64_t exponent;
    bool negative;
};

/* Reads the digits behind 'e', stopping far outside of any range that matters. */
static int64_t read_exponent(struct span text) {
    const int64_t most = INT64_C(1) << 40;
    bool negative = text.len != 0 && text.base[0] == '-';
    int64_t exponent = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (is_digit(text.base[i]) && exponent < most) {
            exponent = exponent * 10 + (text.base[i] - '0');
        }
    }
    return negative ? -exponent : exponent;
}

static struct decimal read_decimal(struct span raw) {
    struct decimal decimal = {.negative = raw.base[0] == '-'};
    struct span digits = span_skip(raw, decimal.negative ? 1 : 0);
    for (size_t i = 0; i < digits.len; i++) {
        if (digits.base[i] == 'e' || digits.base[i] == 'E') {
            decimal.exponent = read_exponent(span_skip(digits, i + 1));
            digits.len = i;
        }
    }
    const char *point = memchr(digits.base, '.', digits.len);
    if (point != NULL) {
        decimal.exponent -= (int64_t)digits.len - (point - digits.base) - 1;
    }
    while (digits.len != 0 && !(digits.base[digits.len - 1] >= '1')) {
        decimal.exponent += digits.base[digits.len - 1] == '0' ? 1 : 0;
        digits.len--;
    }
    decimal.digits = digits;
    return decimal;
}

bool json_count(const struct json_doc *doc, int value, int64_t *out) {
    if (json_type_of(doc, value) != JSON_NUMBER) {
        return false;
    }
    struct decimal decimal = read_decimal(json_raw(doc, value));
    int64_t number = 0;
    bool overflow = false;
    for (size_t i = 0; i < decimal.digits.len && !overflow; i++) {
        if (decimal.digits.base[i] != '.') {
            overflow = __builtin_mul_overflow(number, 10, &number) ||
                       __builtin_sub_overflow(number, decimal.digits.base[i] - '0', &number);
        }
    }
    if (decimal.digits.len != 0 && decimal.exponent < 0) {
        return false;
    }
    for (int64_t i = 0; i < decimal.exponent && number != 0 && !overflow; i++) {
        overflow = __builtin_mul_overflow(number, 10, &number);
    }
    if (overflow || (number == INT64_MIN && !decimal.negative)) {
        *out = decimal.negative ? INT64_MIN : INT64_MAX;
    } else {
        *out = decimal.negative ? number : -number;
    }
    return true;
}

bool json_double(const struct json_doc *doc, int value, double *out) {
    char small[NUMBER_TEXT_BYTES];
    if (json_type_of(doc, value) != JSON_NUMBER) {
        return false;
    }
    struct span raw = json_raw(doc, value);
    char *text = raw.len < sizeof(small) ? small : malloc(raw.len + 1);
    if (text == NULL) {
        return false;
    }
    (void)span_copy(raw, text, raw.len + 1);
    *out = strtod(text, NULL);
    if (text != small) {
        free(text);
    }
    return isfinite(*out);
}

bool json_money(const struct json_doc *doc, int value, int64_t *out) {
    char text[NUMBER_TEXT_BYTES];
    if (json_type_of(doc, value) == JSON_NUMBER) {
        return money_parse(json_raw(doc, value), out);
    }
    return json_string_copy(doc, value, text, sizeof(text)) && money_parse(span_text(text), out);
}
