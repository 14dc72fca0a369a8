#include "master/process_title.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static char *title_base;
static size_t title_room_bytes;
/* setenv takes an array of its own and forgets ours; a leak checker must still find the texts. */
__attribute__((used)) static char **kept_environment;

/* One past the last byte of the texts that follow `end` without a gap. */
static char *find_end(char *end, char **texts) {
    for (char **text = texts; *text != NULL; text++) {
        if (*text == end) {
            end += strlen(*text) + 1;
        }
    }
    return end;
}

static bool copy_texts(char **from, char **to) {
    for (; *from != NULL; from++, to++) {
        *to = strdup(*from);
        if (*to == NULL) {
            return false;
        }
    }
    *to = NULL;
    return true;
}

static size_t count_texts(char **texts) {
    size_t count = 0;
    while (texts[count] != NULL) {
        count++;
    }
    return count;
}

void process_title_init(int argc, char **argv) {
    if (argc < 1 || title_base != NULL) {
        return;
    }
    char **old_environment = environ;
    char **environment = calloc(count_texts(environ) + 1, sizeof(*environment));
    char *begin = argv[0];
    char *end = find_end(find_end(begin, argv), environ);
    if (environment == NULL || !copy_texts(environ, environment) || !copy_texts(argv, argv)) {
        abort();
    }
    for (char **text = old_environment; *text != NULL; text++) {
        explicit_bzero(*text, strlen(*text));
    }
    environ = environment;
    kept_environment = environment;
    title_base = begin;
    title_room_bytes = (size_t)(end - begin);
}

void process_title_set(const char *title) {
    if (title_base == NULL || title_room_bytes < 2) {
        return;
    }
    size_t len = strnlen(title, title_room_bytes - 1);
    memcpy(title_base, title, len);
    memset(title_base + len, 0, title_room_bytes - len);
    prctl(PR_SET_NAME, "tollgate");
}
