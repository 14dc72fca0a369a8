#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void check_failed(const char *condition, const char *file, int line, const char *function) {
    char text[512];
    int len = snprintf(text, sizeof(text), "tollgate: check failed: %s (%s:%d %s)\n", condition, file, line, function);
    if (len > 0) {
        ssize_t written = write(STDERR_FILENO, text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
        (void)written;
    }
    abort();
}
