#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { ARENA_BLOCK_BYTES = 4096 - 64, ARENA_ALIGN = 16 };

struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t size;
    _Alignas(16) char bytes[];
};

void arena_init(struct arena *arena, size_t cap_bytes) {
    *arena = (struct arena){.blocks = NULL, .taken_bytes = 0, .cap_bytes = cap_bytes};
}

void arena_fini(struct arena *arena) {
    struct arena_block *block = arena->blocks;
    while (block != NULL) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    arena->blocks = NULL;
    arena->taken_bytes = 0;
}

void *arena_take(struct arena *arena, size_t size) {
    if (size > PTRDIFF_MAX - ARENA_ALIGN - sizeof(struct arena_block)) {
        return NULL;
    }
    size_t rounded = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (rounded > arena->cap_bytes || arena->taken_bytes > arena->cap_bytes - rounded) {
        return NULL;
    }
    struct arena_block *block = arena->blocks;
    if (block == NULL || block->size - block->used < rounded) {
        size_t want = rounded > ARENA_BLOCK_BYTES ? rounded : ARENA_BLOCK_BYTES;
        block = malloc(sizeof(*block) + want);
        if (block == NULL) {
            return NULL;
        }
        block->used = 0;
        block->size = want;
        block->next = arena->blocks;
        arena->blocks = block;
    }
    void *out = block->bytes + block->used;
    block->used += rounded;
    arena->taken_bytes += rounded;
    memset(out, 0, rounded);
    return out;
}

void *arena_take_array(struct arena *arena, size_t count, size_t size) {
    size_t total = 0;
    return __builtin_mul_overflow(count, size, &total) ? NULL : arena_take(arena, total);
}

char *arena_copy_text(struct arena *arena, struct span text) {
    char *out = text.len == SIZE_MAX ? NULL : arena_take(arena, text.len + 1);
    if (out != NULL && text.len != 0) {
        memcpy(out, text.base, text.len);
    }
    return out;
}

char *arena_format(struct arena *arena, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    CHECK(len >= 0);
    char *out = arena_take(arena, (size_t)len + 1);
    if (out != NULL) {
        va_start(arguments, format);
        (void)vsnprintf(out, (size_t)len + 1, format, arguments);
        va_end(arguments);
    }
    return out;
}

void *arena_take_or_die(struct arena *arena, size_t size) {
    void *out = arena_take(arena, size);
    CHECK(out != NULL);
    return out;
}
