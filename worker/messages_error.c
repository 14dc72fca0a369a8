#include "worker/messages_error.h"

#include "base/json_write.h"

const char *messages_error_type(int status) {
    static const struct {
        int status;
        const char *type;
    } types[] = {{401, "authentication_error"}, {402, "billing_error"},     {403, "permission_error"},
                 {404, "not_found_error"},      {413, "request_too_large"}, {429, "rate_limit_error"},
                 {503, "overloaded_error"},     {504, "timeout_error"},     {529, "overloaded_error"}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (types[i].status == status) {
            return types[i].type;
        }
    }
    return status >= 500 ? "api_error" : "invalid_request_error";
}

void messages_error_write(int status, const char *message, const char *request_id, struct buffer *out) {
    struct json_writer writer = json_writer_on(out);
    json_begin_object(&writer, NULL);
    json_write_text(&writer, "type", "error");
    json_begin_object(&writer, "error");
    json_write_text(&writer, "type", messages_error_type(status));
    json_write_text(&writer, "message", message);
    json_end_object(&writer);
    json_write_text(&writer, "request_id", request_id);
    json_end_object(&writer);
}

void messages_error_write_event(int status, const char *message, const char *request_id, struct buffer *out) {
    buffer_append_text(out, "event: error\ndata: ");
    messages_error_write(status, message, request_id, out);
    buffer_append_text(out, "\n\n");
}
