#include "worker/ws_message.h"

#include "base/json_write.h"
#include "base/utf8.h"
#include "worker/chat_check.h"
#include "worker/json_scan.h"

enum { ERROR_JSON_BYTES = 2048, WS_POSITION_BYTES = 24 };

static bool refuse(struct verdict *verdict, enum error_kind kind, const char *param, const char *text) {
    *verdict = verdict_with(kind, param, "%s", text);
    return false;
}

static bool refuse_as(struct verdict *verdict, const struct chat_verdict *found) {
    enum error_kind kind = strcmp(found->code, "missing_field") == 0 ? ERROR_missing_field : ERROR_invalid_value;
    return refuse(verdict, kind, found->param, found->message);
}

/* --- reading --- */

static bool read_id(const struct json_doc *doc, char out[static WS_ID_BYTES], struct verdict *verdict) {
    char text[WS_ID_TEXT_BYTES];
    int value = json_member(doc, 0, "id");
    int64_t number = 0;
    enum json_type type = json_type_of(doc, value);
    if (type == JSON_ABSENT || type == JSON_NULL) {
        return true;
    }
    if (json_int(doc, value, &number) && span_copy(json_raw(doc, value), out, WS_ID_BYTES)) {
        return true;
    }
    if (!json_string_copy(doc, value, text, sizeof(text)) || text[0] == '\0') {
        out[0] = '\0';
        return refuse(verdict, ERROR_invalid_value, "id", "'id' must be a string of 1 to 128 bytes.");
    }
    struct buffer quoted;
    buffer_init(&quoted, WS_ID_BYTES - 1);
    json_quote(&quoted, span_text(text));
    bool fits = !quoted.failed && span_copy(buffer_span(&quoted), out, WS_ID_BYTES);
    buffer_fini(&quoted);
    return fits || refuse(verdict, ERROR_invalid_value, "id", "'id' is too long.");
}

static bool read_type(const struct json_doc *doc, enum ws_form form, enum ws_type *out, struct verdict *verdict) {
    static const char *const names[] = {[WS_TYPE_COMPLETION] = "chat.completion",
                                        [WS_TYPE_CONTEXT] = "context.update",
                                        [WS_TYPE_CANCEL] = "cancel",
                                        [WS_TYPE_PING] = "ping",
                                        [WS_TYPE_RESUME] = "resume"};
    int type = json_member(doc, 0, "type");
    if (form == WS_FORM_CHUNKS) {
        *out = json_string_is(doc, type, "ping") ? WS_TYPE_PING : WS_TYPE_COMPLETION;
        return true;
    }
    if (json_type_of(doc, type) == JSON_ABSENT) {
        return refuse(verdict, ERROR_missing_field, "type", "The message needs a 'type'.");
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (json_string_is(doc, type, names[i])) {
            *out = (enum ws_type)i;
            return true;
        }
    }
    return refuse(verdict, ERROR_invalid_value, "type",
                  "'type' must be one of chat.completion, context.update, cancel, resume, ping.");
}

static bool read_resumable(const struct json_doc *doc, enum ws_wish *out, struct verdict *verdict) {
    int value = json_member(doc, 0, "resume");
    switch (json_type_of(doc, value)) {
    case JSON_ABSENT:
    case JSON_NULL:
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = json_type_of(doc, value) == JSON_TRUE ? WS_WISH_YES : WS_WISH_NO;
        return true;
    default:
        return refuse(verdict, ERROR_invalid_value, "resume", "'resume' must be true or false.");
    }
}

/* Takes digits off *text. False: there are none, or too many. */
static bool take_number(struct span *text, uint32_t *out) {
    uint64_t number = 0;
    size_t len = 0;
    for (; len < text->len && text->base[len] >= '0' && text->base[len] <= '9'; len++) {
        number = number * 10 + (uint64_t)(text->base[len] - '0');
        if (number > UINT32_MAX) {
            return false;
        }
    }
    *out = (uint32_t)number;
    *text = span_skip(*text, len);
    return len != 0;
}

static bool read_after(const struct json_doc *doc, struct ws_position *out, struct verdict *verdict) {
    int value = json_member(doc, 0, "after");
    enum json_type type = json_type_of(doc, value);
    char room[WS_POSITION_BYTES] = "";
    struct span text = SPAN_EMPTY;
    if (type == JSON_ABSENT || type == JSON_NULL) {
        return true;
    }
    if (type == JSON_NUMBER) {
        text = json_raw(doc, value);
    } else if (json_string_copy(doc, value, room, sizeof(room))) {
        text = span_text(room);
    }
    bool is_good = take_number(&text, &out->events);
    if (is_good && type == JSON_STRING && span_starts_with(text, ".")) {
        text = span_skip(text, 1);
        is_good = take_number(&text, &out->messages);
    }
    return (is_good && text.len == 0) ||
           refuse(verdict, ERROR_invalid_value, "after", "'after' must be the n of a message of this stream, or 0.");
}

/* What only messages of its type have. */
static bool read_fields(const struct json_doc *doc, struct ws_message *out, struct verdict *verdict) {
    switch (out->type) {
    case WS_TYPE_COMPLETION:
        return read_resumable(doc, &out->resumable, verdict);
    case WS_TYPE_RESUME:
        return (out->id[0] != '\0' ||
                refuse(verdict, ERROR_missing_field, "id", "A resume needs the 'id' of the stream: its request_id.")) &&
               read_after(doc, &out->after, verdict);
    default:
        return true;
    }
}

bool ws_message_read(struct json_doc *doc, struct span text, enum ws_form form, struct ws_message *out,
                     struct verdict *verdict) {
    *out = (struct ws_message){.type = WS_TYPE_COMPLETION};
    if (!json_parse(doc, text)) {
        *verdict = verdict_with(ERROR_invalid_json, NULL, "The message is not valid JSON: %s (at byte %zu).",
                                doc->error, doc->error_at);
        return false;
    }
    if (json_type_of(doc, 0) != JSON_OBJECT) {
        return refuse(verdict, ERROR_invalid_json, NULL, "The message must be a JSON object.");
    }
    return (form == WS_FORM_CHUNKS || read_id(doc, out->id, verdict)) && read_type(doc, form, &out->type, verdict) &&
           (form == WS_FORM_CHUNKS || read_fields(doc, out, verdict));
}

/* What stands between the brackets of an array. */
static struct span inside_of(const struct json_doc *doc, int array) {
    struct span raw = json_raw(doc, array);
    return json_size(doc, array) == 0 ? SPAN_EMPTY : span_of(raw.base + 1, raw.len - 2);
}

bool ws_message_context(const struct json_doc *doc, struct span *messages, struct verdict *verdict) {
    int array = json_member(doc, 0, "messages");
    struct chat_verdict found;
    int64_t count = 0;
    if (json_type_of(doc, array) != JSON_ARRAY) {
        return refuse(verdict, json_type_of(doc, array) == JSON_ABSENT ? ERROR_missing_field : ERROR_invalid_value,
                      "messages", "A context.update needs 'messages', an array.");
    }
    if (!chat_check_messages(doc, array, &count, &found)) {
        return refuse_as(verdict, &found);
    }
    *messages = inside_of(doc, array);
    return true;
}

/* --- a chat body --- */

/* A body as it grows. What its message says wrongly is left in, so that it is refused like any body. */
struct body {
    const struct json_doc *doc;
    struct buffer *out;
    bool has_model;
    bool has_stream;
    bool has_options;
    int own; /* its messages, in a conversation; -1: none */
};

static void begin_member(struct body *body) {
    if (body->out->base[body->out->len - 1] != '{') {
        buffer_append_byte(body->out, ',');
    }
}

static void copy_member(struct body *body, int name) {
    begin_member(body);
    buffer_append_span(body->out, json_raw(body->doc, name));
    buffer_append_byte(body->out, ':');
    buffer_append_span(body->out, json_raw(body->doc, json_value_of(body->doc, name)));
}

static void write_stream_options(struct body *body, int options) {
    begin_member(body);
    buffer_append_text(body->out, "\"stream_options\":{");
    for (int name = json_first(body->doc, options); name >= 0; name = json_next(body->doc, name)) {
        if (!json_string_is(body->doc, name, "include_usage")) {
            copy_member(body, name);
        }
    }
    begin_member(body);
    buffer_append_text(body->out, "\"include_usage\":true}");
    body->has_options = true;
}

/* Streams and reports whatever the message says of that. True: the member is dealt with. */
static bool take_stream_member(struct body *body, int name, int value) {
    enum json_type type = json_type_of(body->doc, value);
    if (json_string_is(body->doc, name, "stream")) {
        bool is_good = type == JSON_TRUE || type == JSON_FALSE || type == JSON_NULL;
        body->has_stream |= !is_good;
        return is_good;
    }
    if (json_string_is(body->doc, name, "stream_options") && !body->has_options) {
        if (type == JSON_OBJECT) {
            write_stream_options(body, value);
        }
        body->has_options |= type != JSON_NULL;
        return type == JSON_OBJECT || type == JSON_NULL;
    }
    return false;
}

static void take_member(struct body *body, int name, bool has_envelope, bool is_conversation) {
    int value = json_value_of(body->doc, name);
    if (has_envelope && (json_string_is(body->doc, name, "type") || json_string_is(body->doc, name, "id") ||
                         json_string_is(body->doc, name, "resume"))) {
        return;
    }
    if (is_conversation && body->own < 0 && json_string_is(body->doc, name, "messages") &&
        (json_type_of(body->doc, value) == JSON_ARRAY || json_type_of(body->doc, value) == JSON_NULL)) {
        body->own = value;
        return;
    }
    if (!take_stream_member(body, name, value)) {
        body->has_model |= json_string_is(body->doc, name, "model");
        copy_member(body, name);
    }
}

static void write_rest(struct body *body, const char *model) {
    if (!body->has_model && model[0] != '\0') {
        begin_member(body);
        buffer_append_text(body->out, "\"model\":");
        json_quote(body->out, span_text(model));
    }
    if (!body->has_stream) {
        begin_member(body);
        buffer_append_text(body->out, "\"stream\":true");
    }
    if (!body->has_options) {
        begin_member(body);
        buffer_append_text(body->out, "\"stream_options\":{\"include_usage\":true}");
    }
}

/* The remembered messages and its own. Returns how many bytes its own have; they and a bracket end out. */
static size_t write_conversation(struct body *body, const struct ws_memory *memory) {
    struct buffer *out = body->out;
    struct span own = inside_of(body->doc, body->own);
    buffer_append_text(out, ",\"messages\":[");
    ws_memory_write(memory, out);
    if (own.len == 0 && out->len != 0 && out->base[out->len - 1] == ',') {
        buffer_truncate(out, out->len - 1);
    }
    buffer_append_span(out, own);
    buffer_append_byte(out, ']');
    return own.len;
}

/* Its own messages where nothing is remembered: where they stand in the copy. */
static struct span find_own(const struct buffer *out) {
    struct json_scan scan = json_scan_of(buffer_span(out));
    struct span name;
    if (!json_scan_enter(&scan, '{')) {
        return SPAN_EMPTY;
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        if (span_is(name, "messages")) {
            return value.len > 2 && value.base[0] == '[' ? span_of(value.base + 1, value.len - 2) : SPAN_EMPTY;
        }
    }
    return SPAN_EMPTY;
}

bool ws_message_write_body(const struct json_doc *doc, enum ws_form form, const char *model,
                           const struct ws_memory *memory, struct buffer *out, struct span *asked,
                           struct verdict *verdict) {
    struct body body = {.doc = doc, .out = out, .own = -1};
    struct chat_verdict found;
    int64_t count = 0;
    size_t own_bytes = 0;
    buffer_append_byte(out, '{');
    for (int name = json_first(doc, 0); name >= 0 && !out->failed; name = json_next(doc, name)) {
        take_member(&body, name, form != WS_FORM_CHUNKS, memory->is_conversation);
    }
    if (!chat_check_messages(doc, body.own, &count, &found)) {
        return refuse_as(verdict, &found);
    }
    if (!out->failed) {
        write_rest(&body, model);
        own_bytes = memory->is_conversation ? write_conversation(&body, memory) : 0;
    }
    buffer_append_byte(out, '}');
    if (out->failed) {
        *verdict = verdict_of(ERROR_body_too_large);
        return false;
    }
    *asked = memory->is_conversation ? span_of(out->base + out->len - 2 - own_bytes, own_bytes) : find_own(out);
    return true;
}

/* --- writing --- */

void ws_message_append_clean(struct buffer *out, struct span json) {
    size_t from = 0;
    size_t at = 0;
    while (at < json.len) {
        size_t len = (unsigned char)json.base[at] < 0x80 ? 1 : utf8_length(span_skip(json, at));
        if (len != 0) {
            at += len;
            continue;
        }
        buffer_append(out, json.base + from, at - from);
        buffer_append_text(out, "\xEF\xBF\xBD");
        from = ++at;
    }
    if (at > from) {
        buffer_append(out, json.base + from, at - from);
    }
}

struct span ws_message_error_of(struct span json) {
    struct json_scan scan = json_scan_of(json);
    struct span name;
    if (!json_scan_enter(&scan, '{')) {
        return SPAN_EMPTY;
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        if (span_is(name, "error") && value.len != 0 && value.base[0] == '{') {
            return value;
        }
    }
    return SPAN_EMPTY;
}

void ws_message_write_error(struct buffer *out, const char *id, int status, struct span error_json,
                            int64_t retry_after_ms) {
    if (error_json.len == 0) {
        const struct verdict verdict = verdict_of(ERROR_upstream_error);
        ws_message_write_verdict(out, id, &verdict);
        return;
    }
    buffer_format(out, "{\"type\":\"error\",\"id\":%s,", id[0] != '\0' ? id : "null");
    if (status != 0) {
        buffer_format(out, "\"status\":%d,", status);
    }
    if (retry_after_ms > 0) {
        buffer_format(out, "\"retry_after_ms\":%lld,", (long long)retry_after_ms);
    }
    buffer_append_text(out, "\"error\":");
    ws_message_append_clean(out, error_json);
    buffer_append_byte(out, '}');
}

void ws_message_write_verdict(struct buffer *out, const char *id, const struct verdict *verdict) {
    struct buffer body;
    buffer_init(&body, ERROR_JSON_BYTES);
    verdict_write_json(verdict, &body);
    ws_message_write_error(out, id, verdict_status(verdict), ws_message_error_of(buffer_span(&body)),
                           verdict->retry_after_ms);
    buffer_fini(&body);
}
