/* tests/fuzz/fuzz.h - what the fuzz drivers share. A driver is one function over one input; it aborts (CHECK) when a
 * property does not hold, and the sanitizers do the rest. libFuzzer calls it with inputs of its own; replay.c with the
 * files of tests/fuzz/seeds, which makes the same driver a plain test. */
#ifndef TOLLGATE_TESTS_FUZZ_H
#define TOLLGATE_TESTS_FUZZ_H

#include <stdint.h>

#include "base/span.h"

/* The driver. libFuzzer fixes its name. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline struct span fuzz_span(const uint8_t *data, size_t size) { return span_of((const char *)data, size); }

#endif
