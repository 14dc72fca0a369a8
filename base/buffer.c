#include "base/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUFFER_FIRST_BYTES = 256 };

void buffer_init(struct buffer *buffer, size_t cap) { *buffer = (struct buffer){.cap = cap}; }

void buffer_fini(struct buffer *buffer) {
    free(buffer->base);
    buffer_init(buffer, buffer->cap);
}

void buffer_clear(struct buffer *buffer) {
    buffer->len = 0;
    buffer->failed = false;
    if (buffer->base != NULL) {
        buffer->base[0] = '\0';
    }
}

char *buffer_reserve(struct buffer *buffer, size_t more) {
    if (buffer->failed || more > buffer->cap || buffer->len > buffer->cap - more || buffer->cap == SIZE_MAX) {
        buffer->failed = true;
        return NULL;
    }
    size_t need = buffer->len + more + 1;
    if (need > buffer->size) {
        size_t size = buffer->size != 0 ? buffer->size : BUFFER_FIRST_BYTES;
        while (size < need) {
            size = size > SIZE_MAX / 2 ? need : size * 2;
        }
        if (size > buffer->cap + 1) {
            size = buffer->cap + 1;
        }
        char *base = realloc(buffer->base, size);
        if (base == NULL) {
            buffer->failed = true;
            return NULL;
        }
        buffer->base = base;
        buffer->size = size;
    }
    return buffer->base + buffer->len;
}

void buffer_added(struct buffer *buffer, size_t count) {
    CHECK(buffer->base != NULL && count < buffer->size - buffer->len);
    buffer->len += count;
    buffer->base[buffer->len] = '\0';
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t len) {
    char *to = buffer_reserve(buffer, len);
    if (to != NULL) {
        if (len != 0) {
            memcpy(to, bytes, len);
        }
        buffer_added(buffer, len);
    }
}

void buffer_append_span(struct buffer *buffer, struct span text) { buffer_append(buffer, text.base, text.len); }

void buffer_append_text(struct buffer *buffer, const char *text) { buffer_append(buffer, text, strlen(text)); }

void buffer_append_byte(struct buffer *buffer, char byte) { buffer_append(buffer, &byte, 1); }

void buffer_format(struct buffer *buffer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    CHECK(len >= 0);
    char *to = buffer_reserve(buffer, (size_t)len);
    if (to != NULL) {
        va_start(arguments, format);
        (void)vsnprintf(to, (size_t)len + 1, format, arguments);
        va_end(arguments);
        buffer_added(buffer, (size_t)len);
    }
}

void buffer_truncate(struct buffer *buffer, size_t len) {
    CHECK(len <= buffer->len);
    if (len < buffer->len) {
        buffer->len = len;
        buffer->base[len] = '\0';
    }
}

void buffer_consume(struct buffer *buffer, size_t count) {
    CHECK(count <= buffer->len);
    if (count != 0) {
        memmove(buffer->base, buffer->base + count, buffer->len - count);
        buffer->len -= count;
        buffer->base[buffer->len] = '\0';
    }
}
