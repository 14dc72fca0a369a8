#include "worker/query.h"

struct span query_find(struct span query, const char *name) {
    size_t name_len = strlen(name);
    while (query.len != 0) {
        const char *and = memchr(query.base, '&', query.len);
        size_t len = and != NULL ? (size_t)(and-query.base) : query.len;
        if (len >= name_len && memcmp(query.base, name, name_len) == 0) {
            if (len == name_len) {
                return span_of(query.base + len, 0);
            }
            if (query.base[name_len] == '=') {
                return span_of(query.base + name_len + 1, len - name_len - 1);
            }
        }
        query = span_skip(query, and != NULL ? len + 1 : len);
    }
    return SPAN_EMPTY;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool query_decode(struct span value, char *out, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < value.len; i++) {
        char c = value.base[i] == '+' ? ' ' : value.base[i];
        if (c == '%' && i + 2 < value.len && hex_digit(value.base[i + 1]) >= 0 && hex_digit(value.base[i + 2]) >= 0) {
            c = (char)(hex_digit(value.base[i + 1]) * 16 + hex_digit(value.base[i + 2]));
            i += 2;
        }
        if (c == '\0' || n + 1 >= size) {
            out[0] = '\0';
            return false;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}
