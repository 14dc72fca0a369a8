/* base/arena.h - a bump allocator with a cap: everything taken from it is freed in one step.
 * Used by: every process; one arena a request, a report or a configuration. Not shared between threads or processes.
 * Errors: arena_take returns NULL once the cap would be passed; the *_or_die forms abort and are for start-up data
 * only. */
#ifndef TOLLGATE_BASE_ARENA_H
#define TOLLGATE_BASE_ARENA_H

#include "base/check.h"
#include "base/span.h"

struct arena_block;

struct arena {
    struct arena_block *blocks;
    size_t taken_bytes;
    size_t cap_bytes;
};

/* Makes an empty arena that will hand out at most cap_bytes. Allocates nothing yet. */
void arena_init(struct arena *arena, size_t cap_bytes);

/* Frees all that was taken. The arena is empty and usable again. */
void arena_fini(struct arena *arena);

/* Returns `size` zeroed bytes aligned for any type, or NULL when the cap or the memory is exhausted. */
MUST_CHECK void *arena_take(struct arena *arena, size_t size);

/* As arena_take for count * size bytes, refusing a product that overflows. */
MUST_CHECK void *arena_take_array(struct arena *arena, size_t count, size_t size);

/* A zero-terminated copy of the span, or NULL. */
MUST_CHECK char *arena_copy_text(struct arena *arena, struct span text);

/* A formatted, zero-terminated text, or NULL. */
MUST_CHECK char *arena_format(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);

/* As arena_take, aborting instead of returning NULL. For sizes no client chooses. */
void *arena_take_or_die(struct arena *arena, size_t size);

#endif
