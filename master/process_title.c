#include "master/process_title.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static char *title_base;
static size_t title_room_bytes;
/* What holds the copies. setenv replaces entries of environ and then environ itself; nothing else may then lead here.
 */
__attribute__((used)) static char **kept_arguments;
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

static size_t count_texts(char **texts, size_t *bytes) {
    size_t count = 0;
    for (*bytes = 0; texts[count] != NULL; count++) {
        *bytes += strlen(texts[count]) + 1;
    }
    return count;
}

/* The texts and the array of them in one piece. */
static char **copy_texts(char **texts) {
    size_t bytes = 0;
    size_t count = count_texts(texts, &bytes);
    char **copies = calloc(1, (count + 1) * sizeof(*copies) + bytes);
    if (copies == NULL) {
        abort();
    }
    char *at = (char *)(copies + count + 1);
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(texts[i]) + 1;
        memcpy(at, texts[i], len);
        copies[i] = at;
        at += len;
    }
    return copies;
}

void process_title_init(int argc, char **argv) {
    if (argc < 1 || title_base != NULL) {
        return;
    }
    char **old_environment = environ;
    char *begin = argv[0];
    char *end = find_end(find_end(begin, argv), environ);
    kept_arguments = copy_texts(argv);
    kept_environment = copy_texts(environ);
    memcpy(argv, kept_arguments, (size_t)argc * sizeof(*argv));
    for (char **text = old_environment; *text != NULL; text++) {
        explicit_bzero(*text, strlen(*text));
    }
    environ = kept_environment;
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
