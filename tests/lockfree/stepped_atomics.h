/* tests/lockfree/stepped_atomics.h - put before every source of shm/ in the exploring test: each atomic access (and
 * each half of a copy) first asks the scheduler who goes on. */
#ifndef TOLLGATE_TESTS_LOCKFREE_STEPPED_ATOMICS_H
#define TOLLGATE_TESTS_LOCKFREE_STEPPED_ATOMICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* A scheduling point before an access to `word`. */
void explore_step(const volatile void *word);

/* The same before one that only reads: two such of one word in a row are a loop that waits for another. */
void explore_look(const volatile void *word);

/* Should this weak compare-and-swap fail for no reason, as it may? */
bool explore_fails_weakly(void);

void *explore_copy(void *to, const void *from, size_t size);

#undef atomic_load_explicit
#undef atomic_load
#undef atomic_store_explicit
#undef atomic_store
#undef atomic_fetch_add_explicit
#undef atomic_fetch_add
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_sub
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak
#undef atomic_compare_exchange_weak_explicit
#undef memcpy

#ifdef __clang__
#define STEPPED_LOAD(word) __c11_atomic_load(word, __ATOMIC_SEQ_CST)
#define STEPPED_STORE(word, value) __c11_atomic_store(word, value, __ATOMIC_SEQ_CST)
#define STEPPED_ADD(word, value) __c11_atomic_fetch_add(word, value, __ATOMIC_SEQ_CST)
#define STEPPED_SUB(word, value) __c11_atomic_fetch_sub(word, value, __ATOMIC_SEQ_CST)
#define STEPPED_SWAP(word, seen, next)                                                                                 \
    __c11_atomic_compare_exchange_strong(word, seen, next, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#else
#define STEPPED_LOAD(word) __atomic_load_n(word, __ATOMIC_SEQ_CST)
#define STEPPED_STORE(word, value) __atomic_store_n(word, value, __ATOMIC_SEQ_CST)
#define STEPPED_ADD(word, value) __atomic_fetch_add(word, value, __ATOMIC_SEQ_CST)
#define STEPPED_SUB(word, value) __atomic_fetch_sub(word, value, __ATOMIC_SEQ_CST)
#define STEPPED_SWAP(word, seen, next)                                                                                 \
    __atomic_compare_exchange_n(word, seen, next, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#endif

#define atomic_load(word) (explore_look(word), STEPPED_LOAD(word))
#define atomic_load_explicit(word, order) atomic_load(word)
#define atomic_store(word, value) (explore_step(word), STEPPED_STORE(word, value))
#define atomic_store_explicit(word, value, order) atomic_store(word, value)
#define atomic_fetch_add(word, value) (explore_step(word), STEPPED_ADD(word, value))
#define atomic_fetch_add_explicit(word, value, order) atomic_fetch_add(word, value)
#define atomic_fetch_sub(word, value) (explore_step(word), STEPPED_SUB(word, value))
#define atomic_fetch_sub_explicit(word, value, order) atomic_fetch_sub(word, value)
#define atomic_compare_exchange_strong(word, seen, next) (explore_step(word), STEPPED_SWAP(word, seen, next))
#define atomic_compare_exchange_strong_explicit(word, seen, next, order, other)                                        \
    atomic_compare_exchange_strong(word, seen, next)
#define atomic_compare_exchange_weak(word, seen, next)                                                                 \
    (explore_step(word), !explore_fails_weakly() && STEPPED_SWAP(word, seen, next))
#define atomic_compare_exchange_weak_explicit(word, seen, next, order, other)                                          \
    atomic_compare_exchange_weak(word, seen, next)
#define __sync_val_compare_and_swap(word, seen, next)                                                                  \
    (explore_step(word), __sync_val_compare_and_swap(word, seen, next))
#define memcpy(to, from, size) explore_copy(to, from, size)

#endif
