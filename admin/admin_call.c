#include "admin/admin_call.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_write.h"

enum { ARENA_BYTES_MOST = 4 << 20, MESSAGE_BYTES = 4096 };

struct admin_call *call_new(struct span method, struct span path, struct span body) {
    struct admin_call *call = calloc(1, sizeof(*call));
    if (call == NULL) {
        return NULL;
    }
    arena_init(&call->arena, ARENA_BYTES_MOST);
    buffer_init(&call->answer, CALL_ANSWER_BYTES_MOST);
    call->method = arena_copy_text(&call->arena, method);
    call->path = arena_copy_text(&call->arena, path);
    call->body = span_of(arena_copy_text(&call->arena, body), body.len);
    if (call->method == NULL || call->path == NULL || call->body.base == NULL) {
        call_free(call);
        return NULL;
    }
    return call;
}

void call_free(struct admin_call *call) {
    if (call == NULL) {
        return;
    }
    if (call->body.base != NULL) {
        explicit_bzero((void *)(uintptr_t)call->body.base, call->body.len);
    }
    if (call->answer.base != NULL) {
        explicit_bzero(call->answer.base, call->answer.size);
    }
    buffer_fini(&call->answer);
    arena_fini(&call->arena);
    free(call);
}

static void write_error(struct admin_call *call, const char *type, const char *code, const char *param,
                        const char *message) {
    struct json_writer json = json_writer_on(&call->answer);
    json_begin_object(&json, NULL);
    json_begin_object(&json, "error");
    json_write_text(&json, "message", message);
    json_write_text(&json, "type", type);
    json_write_text(&json, "code", code);
    json_write_text(&json, "param", param);
    json_end_object(&json);
    json_end_object(&json);
}

static void fail_with(struct admin_call *call, int status, const char *type, const char *code, const char *param,
                      const char *format, va_list arguments) {
    char message[MESSAGE_BYTES];
    (void)vsnprintf(message, sizeof(message), format, arguments);
    buffer_clear(&call->answer);
    call->fixed = SPAN_EMPTY;
    call->status = status;
    call->content_type = "application/json";
    write_error(call, type, code, param, message);
}

void call_fail(struct admin_call *call, int status, const char *type, const char *code, const char *param,
               const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fail_with(call, status, type, code, param, format, arguments);
    va_end(arguments);
}

void call_fail_invalid(struct admin_call *call, const char *param, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fail_with(call, 400, "invalid_request_error", "invalid_value", param, format, arguments);
    va_end(arguments);
}

void call_fail_not_found(struct admin_call *call, const char *message) {
    call_fail(call, 404, "invalid_request_error", "not_found", NULL, "%s", message);
}

void call_fail_unavailable(struct admin_call *call, const char *message) {
    call_fail(call, 503, "overloaded_error", "overloaded", NULL, "%s", message);
    call->extra_header = "retry-after";
    call->extra_value = "1";
}

void call_done(struct admin_call *call, int status) {
    if (call->answer.failed) {
        call_fail_unavailable(call, "The answer is too long. Ask for less at a time.");
        return;
    }
    call->status = status;
    call->content_type = "application/json";
}
