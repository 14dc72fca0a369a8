/* Runs a driver over files without libFuzzer: replay_NAME PATH... (folders are walked). So every seed, and every input
 * that once broke something, is tested with any compiler. */
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "fuzz.h"

static int files;
static const char *current = "";

/* A failed check says what and where; this says on which input. */
static void name_input(int number) {
    (void)!write(STDERR_FILENO, current, strlen(current));
    (void)!write(STDERR_FILENO, "\n", 1);
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static int replay_file(const char *path, const struct stat *status, int kind, struct FTW *place) {
    (void)place;
    if (kind != FTW_F) {
        return 0;
    }
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    size_t size = (size_t)status->st_size;
    uint8_t *bytes =
        malloc(size + (size == 0 ? 1 : 0)); /* exactly so many, so that a sanitizer sees each step outside */
    CHECK(bytes != NULL);
    CHECK(fread(bytes, 1, size, file) == size);
    (void)fclose(file);
    current = path;
    (void)LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    files++;
    return 0;
}

int main(int count, char **paths) {
    (void)signal(SIGABRT, name_input);
    for (int at = 1; at < count; at++) {
        if (nftw(paths[at], replay_file, 16, FTW_PHYS) != 0) {
            perror(paths[at]);
            return 1;
        }
    }
    printf("%d inputs\n", files);
    return files == 0 ? 1 : 0;
}
