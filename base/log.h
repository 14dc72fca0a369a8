/* base/log.h - one-line events: a name and key=value fields, as text or JSON.
 * Used by: every process. A child's lines go to its stderr, which the master has made a pipe: a full pipe drops the
 * line and counts it, so logging never waits. Secrets, prompts and answers are never passed here (invariant I9). Values
 * are escaped: an event is always exactly one line, whatever a client sent. */
#ifndef TOLLGATE_BASE_LOG_H
#define TOLLGATE_BASE_LOG_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/span.h"

/* error: the operator must act. warn: degraded. info: lifecycle. debug: transitions. */
enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

enum log_format { LOG_TEXT_FORMAT, LOG_JSON_FORMAT };

struct log_field {
    const char *name;
    enum { LOG_FIELD_TEXT, LOG_FIELD_INT, LOG_FIELD_NUSD } kind;
    struct span text;
    int64_t number;
};

/* Sets what is written and how; role is "master", "worker 0", "ledger", "admin" or "cli" and is copied. Call again
 * after a fork or a reload. */
void log_set_up(enum log_level level, enum log_format format, const char *role);

/* Where lines go; default standard error. The descriptor stays the caller's. */
void log_set_descriptor(int fd);

bool log_enabled(enum log_level level);

/* Writes one line; event is a unique literal such as "worker_started". Use the macros below. */
void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count);

/* Formats one line (with its newline) into out instead of writing it; what log_write and the access log share. */
void log_render(struct buffer *out, enum log_level level, const char *event, const struct log_field *fields,
                size_t count);

/* Lines dropped in this process because the pipe was full. */
int64_t log_dropped_lines(void);

static inline struct log_field log_text(const char *name, const char *value) {
    return (struct log_field){name, LOG_FIELD_TEXT, span_text(value), 0};
}
static inline struct log_field log_span(const char *name, struct span value) {
    return (struct log_field){name, LOG_FIELD_TEXT, value, 0};
}
static inline struct log_field log_int(const char *name, int64_t value) {
    return (struct log_field){name, LOG_FIELD_INT, {NULL, 0}, value};
}
static inline struct log_field log_nusd(const char *name, int64_t value) {
    return (struct log_field){name, LOG_FIELD_NUSD, {NULL, 0}, value};
}

/* LOG(LOG_INFO, "worker_started", log_int("pid", pid)); the fields are optional. */
#define LOG(level, event, ...)                                                                                         \
    do {                                                                                                               \
        if (log_enabled(level)) {                                                                                      \
            const struct log_field log_fields_[] = {{.name = NULL}, ##__VA_ARGS__};                                    \
            log_write((level), (event), log_fields_ + 1, sizeof(log_fields_) / sizeof(log_fields_[0]) - 1);            \
        }                                                                                                              \
    } while (0)

#endif
