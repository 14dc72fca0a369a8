#include "worker/query.h"

bool query_find(struct span query, const char *name, struct span *value) {
    size_t name_len = strlen(name);
    *value = SPAN_EMPTY;
    while (query.len != 0) {
        const char *and = memchr(query.base, '&', query.len);
        size_t len = and != NULL ? (size_t)(and-query.base) : query.len;
        bool is_it = len >= name_len && memcmp(query.base, name, name_len) == 0;
        if (is_it && len == name_len) {
            return true;
        }
        if (is_it && query.base[name_len] == '=') {
            *value = span_of(query.base + name_len + 1, len - name_len - 1);
            return true;
        }
        query = span_skip(query, and != NULL ? len + 1 : len);
    }
    return false;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The next character of the value, which is shortened by it. */
static char take_character(struct span *value) {
    char c = value->base[0];
    size_t taken = 1;
    if (c == '%' && value->len > 2 && hex_digit(value->base[1]) >= 0 && hex_digit(value->base[2]) >= 0) {
        c = (char)(hex_digit(value->base[1]) * 16 + hex_digit(value->base[2]));
        taken = 3;
    } else if (c == '+') {
        c = ' ';
    }
    *value = span_skip(*value, taken);
    return c;
}

void query_decode(struct span value, struct buffer *out) {
    while (value.len != 0) {
        buffer_append_byte(out, take_character(&value));
    }
}

bool query_copy(struct span value, char *out, size_t size) {
    size_t n = 0;
    while (value.len != 0) {
        char c = take_character(&value);
        if (c == '\0' || n + 1 >= size) {
            out[0] = '\0';
            return false;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}
