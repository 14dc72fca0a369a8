#include "worker/field_read.h"

#include "worker/chat_check.h"

bool field_read_open(struct json_doc *doc, struct span body, struct chat_request *out, struct chat_verdict *verdict) {
    *verdict = (struct chat_verdict){0};
    *out = (struct chat_request){.body = body};
    if (!json_parse(doc, body)) {
        return chat_refuse(verdict, "invalid_json", "", "The body is not valid JSON: %s (at byte %zu).", doc->error,
                           doc->error_at);
    }
    if (json_type_of(doc, 0) != JSON_OBJECT) {
        return chat_refuse(verdict, "invalid_json", "", "The body must be a JSON object.");
    }
    struct span root = json_raw(doc, 0);
    out->end_at = (size_t)(root.base - body.base) + root.len - 1;
    return true;
}

bool field_read_model(const struct json_doc *doc, int value, struct chat_request *out, struct chat_verdict *verdict) {
    out->model_member = field_read_member(doc, value);
    if (json_string_copy(doc, value, out->model, sizeof(out->model))) {
        return true;
    }
    bool is_right =
        chat_refuse(verdict, "model_not_found", "model", "No model has a name like that; GET /v1/models lists them.");
    verdict->status = 404;
    return is_right;
}

void field_read_stream(const struct json_doc *doc, int value, struct chat_request *out) {
    out->stream = json_type_of(doc, value) == JSON_TRUE;
    out->stream_member = field_read_member(doc, value);
}

bool field_read_stream_options(const struct json_doc *doc, int value, struct chat_request *out,
                               struct chat_verdict *verdict) {
    int include_usage = -1;
    if (!chat_check_stream_options(doc, value, &include_usage, verdict)) {
        return false;
    }
    out->stream_options_member = field_read_member(doc, value);
    out->include_usage_member = field_read_member(doc, include_usage);
    out->include_usage = json_type_of(doc, include_usage) == JSON_TRUE;
    return true;
}

/* Copies a string's text, cut at a character border; "" when the value is no string. */
static void copy_cut(const struct json_doc *doc, int value, char *out, size_t size) {
    struct buffer text;
    buffer_init(&text, json_raw(doc, value).len);
    out[0] = '\0';
    if (json_string(doc, value, &text)) {
        size_t len = text.len < size - 1 ? text.len : size - 1;
        while (len != 0 && len < text.len && ((unsigned char)text.base[len] & 0xC0U) == 0x80U) {
            len--;
        }
        (void)span_copy(span_of(text.base, len), out, size);
    }
    buffer_fini(&text);
}

void field_read_end_user(const struct json_doc *doc, int user, int safety_identifier, int metadata,
                         struct chat_request *out) {
    int value = json_type_of(doc, user) == JSON_STRING ? user : safety_identifier;
    if (json_type_of(doc, value) != JSON_STRING) {
        value = json_member(doc, metadata, "user_id");
    }
    copy_cut(doc, value, out->end_user, sizeof(out->end_user));
}

struct chat_member field_read_member(const struct json_doc *doc, int value) {
    return (struct chat_member){.is_present = value >= 0, .value = json_raw(doc, value)};
}

int64_t field_read_count(const struct json_doc *doc, int value) {
    int64_t number = 0;
    return json_int(doc, value, &number) ? number : 0;
}
