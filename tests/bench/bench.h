/* tests/bench/bench.h - what the C benches share: one line a result, for `run` to make a table of. */
#ifndef TOLLGATE_TESTS_BENCH_H
#define TOLLGATE_TESTS_BENCH_H

#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "base/clock.h"

/* A result beside what was measured in the same run to compare it with; `beside` NULL: nothing. */
static inline void bench_row(const char *what, double value, const char *unit, const char *beside, double other) {
    printf("%s\t%.6g\t%s\t%s\t%.6g\n", what, value, unit, beside != NULL ? beside : "", other);
    (void)fflush(stdout);
}

#endif
