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

/* The variables sample.yaml names in its comments. */
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

/* sample.yaml with the lines that need a secret put in force. */
static inline char *read_sample(size_t *len) {
    static const char *const marks[] = {"# api_key: ", "# token: "};
    char *text = read_whole_file(SAMPLE_PATH, len);
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        for (char *at = strstr(text, marks[i]); at != NULL; at = strstr(at, marks[i])) {
            memmove(at, at + 2, strlen(at + 2) + 1);
            *len -= 2;
        }
    }
    return text;
}

/* Aborts unless every reference of the configuration leads somewhere and nothing that must be there is missing. */
static inline void check_sound(const struct conf *conf) {
    bool sound = conf->listen_count > 0 && conf->admin_address.host != NULL && conf->workers > 0 &&
                 conf->state_dir != NULL && conf->log.access != NULL && conf->retry.attempts > 0;
    for (int i = 0; i < conf->listen_count; i++) {
        sound = sound && conf->listens[i].address.host != NULL;
    }
    for (int i = 0; i < conf->model_count; i++) {
        const struct conf_model *model = &conf->models[i];
        sound = sound && (model->alias < 0 ? model->route_count + model->rule_count > 0
                                           : model->alias < conf->model_count && conf_model_resolve(conf, i) >= 0);
        for (int j = 0; j < model->route_count; j++) {
            int upstream = model->routes[j].upstream;
            sound = sound && upstream >= 0 && upstream < conf->upstream_count && model->routes[j].model != NULL &&
                    model->routes[j].weight > 0;
        }
        for (int j = 0; j < model->rule_count; j++) {
            sound = sound && model->rules[j].model >= 0 && model->rules[j].model < conf->model_count;
        }
        for (int j = 0; j < model->fallback_count; j++) {
            sound = sound && model->fallback[j] >= 0 && model->fallback[j] < conf->model_count;
        }
    }
    for (int i = 0; i < conf->tier_count; i++) {
        for (int j = 0; j < conf->tiers[i].model_count; j++) {
            sound = sound && conf->tiers[i].models[j] != NULL;
        }
    }
    if (!sound) {
        abort();
    }
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
