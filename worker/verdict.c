#include "worker/verdict.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/json_write.h"

static const struct error_row {
    int status;
    const char *type;
    const char *code;
    const char *text;
} rows[ERROR_KINDS] = {
#define ERROR(name, status, type, code, text) [ERROR_##name] = {status, type, code, text},
#include "worker/errors.def"
#undef ERROR
};

struct verdict verdict_of(enum error_kind kind) {
    return (struct verdict){.kind = kind};
}

struct verdict verdict_with(enum error_kind kind, const char *param, const char *format, ...) {
    struct verdict verdict = {.kind = kind};
    if (param != NULL) {
        (void)span_copy(span_text(param), verdict.param, sizeof(verdict.param));
    }
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(verdict.message, sizeof(verdict.message), format, arguments);
    va_end(arguments);
    return verdict;
}

int verdict_status(const struct verdict *verdict) { return rows[verdict->kind].status; }

const char *verdict_code(const struct verdict *verdict) { return rows[verdict->kind].code; }

const char *verdict_type(const struct verdict *verdict) { return rows[verdict->kind].type; }

const char *verdict_text(const struct verdict *verdict) {
    return verdict->message[0] != '\0' ? verdict->message : rows[verdict->kind].text;
}

void verdict_write_json(const struct verdict *verdict, struct buffer *out) {
    const struct error_row *row = &rows[verdict->kind];
    struct json_writer writer = json_writer_on(out);
    json_begin_object(&writer, NULL);
    json_begin_object(&writer, "error");
    json_write_text(&writer, "message", verdict_text(verdict));
    json_write_text(&writer, "type", row->type);
    json_write_text(&writer, "code", row->code);
    json_write_text(&writer, "param", verdict->param[0] != '\0' ? verdict->param : NULL);
    json_end_object(&writer);
    json_end_object(&writer);
}

void verdict_write_event(const struct verdict *verdict, struct buffer *out) {
    buffer_append_text(out, "data: ");
    verdict_write_json(verdict, out);
    buffer_append_text(out, "\n\n");
}
