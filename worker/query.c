#include "worker/query.h"

bool query_find(struct span query, const char *name, struct span *value) {
    size_t name_len = strlen(name);
    *value = SPAN_EMPTY;
    while (query.len != 0) {
        const char *and = memchr(query.base, '&', query.len);
        size_t len = and != NULL ? (size_t)(and-query.base) : query.len;
        if (len > name_len && query.base[name_len] == '=' && memcmp(query.base, name, name_len) == 0) {
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

void query_decode(struct span value, struct buffer *out) {
    for (size_t i = 0; i < value.len; i++) {
        char c = value.base[i];
        if (c == '%' && i + 2 < value.len && hex_digit(value.base[i + 1]) >= 0 && hex_digit(value.base[i + 2]) >= 0) {
            c = (char)(hex_digit(value.base[i + 1]) * 16 + hex_digit(value.base[i + 2]));
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        buffer_append_byte(out, c);
    }
}
