#include "admin/admin_query.h"

#include <stdlib.h>

static int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The text with its escapes undone and '+' as a space; NULL when an escape is broken or gives a zero byte. */
static char *decode(struct span text, struct arena *arena) {
    char *out = arena_take(arena, text.len + 1);
    size_t len = 0;
    if (out == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];
        if (c == '%') {
            int high = i + 1 < text.len ? hex_value(text.base[i + 1]) : -1;
            int low = i + 2 < text.len ? hex_value(text.base[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return NULL;
            }
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        if (c == '\0') {
            return NULL;
        }
        out[len++] = c;
    }
    out[len] = '\0';
    return out;
}

static bool add_field(struct span text, struct arena *arena, struct query *out) {
    const char *equals = memchr(text.base, '=', text.len);
    size_t name_len = equals != NULL ? (size_t)(equals - text.base) : text.len;
    if (out->count == QUERY_FIELDS_MOST) {
        return false;
    }
    const char *name = decode(span_of(text.base, name_len), arena);
    const char *value = decode(span_skip(text, name_len + 1), arena);
    out->fields[out->count++] = (struct query_field){name, value};
    return name != NULL && value != NULL;
}

bool query_parse(struct span text, struct arena *arena, struct query *out) {
    out->count = 0;
    while (text.len != 0) {
        const char *end = memchr(text.base, '&', text.len);
        size_t len = end != NULL ? (size_t)(end - text.base) : text.len;
        if (len != 0 && !add_field(span_of(text.base, len), arena, out)) {
            return false;
        }
        text = len < text.len ? span_skip(text, len + 1) : SPAN_EMPTY;
    }
    return true;
}

const char *query_get(const struct query *query, const char *name) {
    for (int i = 0; i < query->count; i++) {
        if (strcmp(query->fields[i].name, name) == 0) {
            return query->fields[i].value;
        }
    }
    return NULL;
}

static bool is_among(const char *name, const char *names) {
    size_t len = strlen(name);
    for (const char *at = names; *at != '\0';) {
        size_t word = strcspn(at, " ");
        if (word == len && memcmp(at, name, len) == 0) {
            return true;
        }
        at += word + strspn(at + word, " ");
    }
    return false;
}

const char *query_unexpected(const struct query *query, const char *names) {
    for (int i = 0; i < query->count; i++) {
        const char *name = query->fields[i].name;
        if (!is_among(name, names) || query_get(query, name) != query->fields[i].value) {
            return name;
        }
    }
    return NULL;
}

bool query_int(const char *text, int64_t *out) {
    size_t len = strlen(text);
    if (len == 0 || len > 18 || strspn(text, "0123456789") != len) {
        return false;
    }
    *out = strtoll(text, NULL, 10);
    return true;
}
