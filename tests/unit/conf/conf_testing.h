/* tests/unit/conf/conf_testing.h - what the tests of the configuration share. */
#ifndef TOLLGATE_TESTS_CONF_TESTING_H
#define TOLLGATE_TESTS_CONF_TESTING_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"

#define SAMPLE_PATH SOURCE_DIR "/conf/sample.yaml"
#define DEMO_PATH SOURCE_DIR "/conf/demo.yaml"
#define REFERENCE_PATH SOURCE_DIR "/conf/REFERENCE.md"

/* The variables sample.yaml needs. */
static inline void set_sample_environment(void) {
    static const char *const names[] = {"TOLLGATE_ADMIN_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY",
                                        "DEEPSEEK_API_KEY"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char value[64];
        (void)snprintf(value, sizeof(value), "secret-of-%s", names[i]);
        if (setenv(names[i], value, 1) != 0) {
            abort();
        }
    }
}

/* The whole file, malloc'd and zero-terminated; aborts when it cannot be read. */
static inline char *read_whole_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        abort();
    }
    char *text = calloc(1, 1 << 20);
    if (text == NULL) {
        abort();
    }
    *len = fread(text, 1, (1 << 20) - 1, file);
    (void)fclose(file);
    return text;
}

/* The findings of a text as conf_findings_print gives them, malloc'd; "" when it is valid. */
static inline char *findings_of(struct span text, const char *path) {
    struct conf_findings findings;
    struct conf *conf = conf_parse(text, path, NULL, &findings);
    struct buffer out;
    buffer_init(&out, 1 << 20);
    conf_findings_print(&findings, &out);
    if ((conf == NULL) != (findings.count > 0)) {
        abort();
    }
    char *copy = strdup(buffer_text(&out));
    buffer_fini(&out);
    conf_findings_free(&findings);
    conf_free(conf);
    return copy;
}

#endif
