#include "worker/anthropic_turns.h"

#include <stdio.h>

#include "worker/json_scan.h"

enum { TOOL_ID_BYTES = 256, DATA_URL_HEAD_BYTES = 256, ARGUMENTS_DEPTH_MOST = 100 };

enum turn_role { TURN_NONE, TURN_USER, TURN_ASSISTANT };

/* The messages being written. */
struct turns {
    const struct json_doc *doc;
    struct json_writer *json;
    struct chat_verdict *wrong;
    enum turn_role open;
    struct buffer rest; /* the open user turn's blocks that are no tool results */
    struct json_writer rest_json;
    struct buffer plain;      /* a call's arguments, unescaped */
    struct json_doc inner;    /* and parsed */
    int64_t index;            /* of the message being read */
    int64_t function_message; /* the last with a legacy function_call: names that call */
};

static bool refuse(struct turns *turns, const char *code, const char *name, const char *must_be) {
    char param[CHAT_PARAM_BYTES];
    (void)snprintf(param, sizeof(param), "messages[%lld]%s%s", (long long)turns->index, name[0] != '\0' ? "." : "",
                   name);
    return chat_refuse(turns->wrong, code, param, "'%s' must be %s for this model.", param, must_be);
}

/* What stands between the quotes of a string value; empty for any other. */
static struct span inside_of(const struct json_doc *doc, int value) {
    if (json_type_of(doc, value) != JSON_STRING) {
        return SPAN_EMPTY;
    }
    struct span raw = json_raw(doc, value);
    return span_of(raw.base + 1, raw.len - 2);
}

/* Nothing but white space, which is refused as a text block. */
static bool is_blank(struct span inside) {
    for (size_t i = 0; i < inside.len; i++) {
        bool is_escape = inside.base[i] == '\\' && i + 1 < inside.len && strchr("ntr", inside.base[i + 1]) != NULL;
        if (inside.base[i] != ' ' && !is_escape) {
            return false;
        }
        i += is_escape;
    }
    return true;
}

static void write_text_block(struct json_writer *json, struct span raw) {
    json_begin_object(json, NULL);
    json_write_text(json, "type", "text");
    json_write_raw(json, "text", raw);
    json_end_object(json);
}

/* A string that stands escaped already. */
static void write_inside(struct json_writer *json, const char *name, struct span inside) {
    json_write_raw(json, name, SPAN_LITERAL("\""));
    buffer_append_span(json->out, inside);
    buffer_append_byte(json->out, '"');
}

static bool is_system(const struct json_doc *doc, int role) {
    return json_string_is(doc, role, "system") || json_string_is(doc, role, "developer");
}

/* Counts the texts of a system message's content; writes them too when json is given. -1: it has other parts. */
static int64_t walk_system(const struct json_doc *doc, int content, struct json_writer *json, struct span *last) {
    int64_t count = 0;
    if (json_type_of(doc, content) == JSON_STRING && !is_blank(inside_of(doc, content))) {
        *last = json_raw(doc, content);
        if (json != NULL) {
            write_text_block(json, *last);
        }
        return 1;
    }
    bool is_array = json_type_of(doc, content) == JSON_ARRAY;
    for (int part = is_array ? json_first(doc, content) : -1; part >= 0; part = json_next(doc, part)) {
        int text = json_member(doc, part, "text");
        if (!json_string_is(doc, json_member(doc, part, "type"), "text") || json_type_of(doc, text) != JSON_STRING) {
            return -1;
        }
        if (!is_blank(inside_of(doc, text))) {
            count++;
            *last = json_raw(doc, text);
            if (json != NULL) {
                write_text_block(json, *last);
            }
        }
    }
    return count;
}

bool anthropic_turns_write_system(const struct json_doc *doc, int messages, struct json_writer *json,
                                  struct chat_verdict *wrong) {
    struct turns turns = {.doc = doc, .wrong = wrong};
    struct span last = SPAN_EMPTY;
    int64_t texts = 0;
    for (int message = json_first(doc, messages); message >= 0; message = json_next(doc, message)) {
        if (is_system(doc, json_member(doc, message, "role"))) {
            int64_t count = walk_system(doc, json_member(doc, message, "content"), NULL, &last);
            if (count < 0) {
                return refuse(&turns, "invalid_value", "content", "text");
            }
            texts += count;
        }
        turns.index++;
    }
    if (texts == 1) {
        json_write_raw(json, "system", last);
    } else if (texts > 1) {
        json_begin_array(json, "system");
        for (int message = json_first(doc, messages); message >= 0; message = json_next(doc, message)) {
            if (is_system(doc, json_member(doc, message, "role"))) {
                (void)walk_system(doc, json_member(doc, message, "content"), json, &last);
            }
        }
        json_end_array(json);
    }
    return true;
}

static void close_turn(struct turns *turns) {
    if (turns->open == TURN_NONE) {
        return;
    }
    if (turns->rest.len != 0) {
        json_write_raw(turns->json, NULL, buffer_span(&turns->rest));
    }
    turns->json->out->failed |= turns->rest.failed;
    buffer_clear(&turns->rest);
    turns->rest_json = json_writer_on(&turns->rest);
    json_end_array(turns->json);
    json_end_object(turns->json);
    turns->open = TURN_NONE;
}

/* Opens the turn that the next block belongs to, unless it is open. Returns where the block goes. */
static struct json_writer *open_turn(struct turns *turns, enum turn_role role, bool is_result) {
    if (turns->open != role) {
        close_turn(turns);
        json_begin_object(turns->json, NULL);
        json_write_text(turns->json, "role", role == TURN_USER ? "user" : "assistant");
        json_begin_array(turns->json, "content");
        turns->open = role;
    }
    return role == TURN_USER && !is_result ? &turns->rest_json : turns->json;
}

static void add_text(struct turns *turns, enum turn_role role, int text) {
    if (!is_blank(inside_of(turns->doc, text))) {
        write_text_block(open_turn(turns, role, false), json_raw(turns->doc, text));
    }
}

/* Splits data:MEDIA;base64,DATA. The head is short; the data are not looked at. */
static bool split_data_url(struct span url, struct span *media, struct span *data) {
    struct span head = span_of(url.base, url.len < DATA_URL_HEAD_BYTES ? url.len : DATA_URL_HEAD_BYTES);
    static const char mark[] = ";base64,";
    const char *found = head.len != 0 ? memmem(head.base, head.len, mark, sizeof(mark) - 1) : NULL;
    if (found == NULL || url.len < 5 || strncasecmp(url.base, "data:", 5) != 0) {
        return false;
    }
    const char *type = url.base + 5;
    const char *end = memchr(type, ';', (size_t)(found - type) + 1);
    *media = span_of(type, (size_t)(end - type));
    *data = span_skip(url, (size_t)(found - url.base) + sizeof(mark) - 1);
    return media->len != 0 && data->len != 0;
}

static void write_source(struct json_writer *json, const char *type, struct span media, struct span data) {
    json_begin_object(json, NULL);
    json_write_text(json, "type", type);
    json_begin_object(json, "source");
    json_write_text(json, "type", "base64");
    write_inside(json, "media_type", media);
    write_inside(json, "data", data);
    json_end_object(json);
}

/* image_url: a data: URL becomes its data, http and https are for the provider to fetch. */
static bool write_image(struct turns *turns, int part, struct json_writer *json) {
    int image = json_member(turns->doc, part, "image_url");
    int url = json_type_of(turns->doc, image) == JSON_STRING ? image : json_member(turns->doc, image, "url");
    struct span inside = inside_of(turns->doc, url);
    struct span media;
    struct span data;
    if (split_data_url(inside, &media, &data)) {
        write_source(json, "image", media, data);
        json_end_object(json);
        return true;
    }
    if (!span_starts_with(inside, "http:") && !span_starts_with(inside, "https:")) {
        return refuse(turns, "invalid_value", "content", "with images as base64 data: or http(s) URLs");
    }
    json_begin_object(json, NULL);
    json_write_text(json, "type", "image");
    json_begin_object(json, "source");
    json_write_text(json, "type", "url");
    write_inside(json, "url", inside);
    json_end_object(json);
    json_end_object(json);
    return true;
}

static bool is_media(struct span media, const char *type, const char *escaped) {
    return span_is_nocase(media, type) || span_is_nocase(media, escaped);
}

/* file: a PDF, or an image, with its data. */
static bool write_file(struct turns *turns, int part, struct json_writer *json) {
    const struct json_doc *doc = turns->doc;
    int file = json_member(doc, part, "file");
    int name = json_member(doc, file, "filename");
    struct span media;
    struct span data;
    bool has_data = split_data_url(inside_of(doc, json_member(doc, file, "file_data")), &media, &data);
    bool is_image = has_data && media.len > 6 && strncasecmp(media.base, "image", 5) == 0;
    if (!is_image && (!has_data || !is_media(media, "application/pdf", "application\\/pdf"))) {
        return refuse(turns, "invalid_value", "content", "with files as base64 data: URLs of PDFs or images");
    }
    write_source(json, is_image ? "image" : "document", media, data);
    if (!is_image && inside_of(doc, name).len != 0) {
        json_write_raw(json, "title", json_raw(doc, name));
    }
    json_end_object(json);
    return true;
}

/* One part of a user's or tool's content. */
static bool write_part(struct turns *turns, int part, struct json_writer *json) {
    int type = json_member(turns->doc, part, "type");
    int text = json_member(turns->doc, part, "text");
    if (json_string_is(turns->doc, type, "text") && json_type_of(turns->doc, text) == JSON_STRING) {
        if (!is_blank(inside_of(turns->doc, text))) {
            write_text_block(json, json_raw(turns->doc, text));
        }
        return true;
    }
    if (json_string_is(turns->doc, type, "image_url")) {
        return write_image(turns, part, json);
    }
    if (json_string_is(turns->doc, type, "file")) {
        return write_file(turns, part, json);
    }
    return refuse(turns, "invalid_value", "content", "made of text, image_url and file parts");
}

static bool is_blank_part(const struct json_doc *doc, int part) {
    return json_string_is(doc, json_member(doc, part, "type"), "text") &&
           is_blank(inside_of(doc, json_member(doc, part, "text")));
}

static bool add_user(struct turns *turns, int content) {
    if (json_type_of(turns->doc, content) == JSON_STRING) {
        add_text(turns, TURN_USER, content);
        return true;
    }
    if (json_type_of(turns->doc, content) != JSON_ARRAY) {
        return refuse(turns, "invalid_value", "content", "a string or an array of parts");
    }
    for (int part = json_first(turns->doc, content); part >= 0; part = json_next(turns->doc, part)) {
        if (!is_blank_part(turns->doc, part) && !write_part(turns, part, open_turn(turns, TURN_USER, false))) {
            return false;
        }
    }
    return true;
}

/* The id of a call as this provider allows it: other providers make ids with other characters. */
static bool write_id(struct turns *turns, struct json_writer *json, const char *name, int id, const char *field) {
    char text[TOOL_ID_BYTES];
    if (!json_string_copy(turns->doc, id, text, sizeof(text)) || text[0] == '\0') {
        return refuse(turns, id < 0 ? "missing_field" : "invalid_value", field, "a string that is not empty");
    }
    for (char *at = text; *at != '\0'; at++) {
        bool is_allowed = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') ||
                          *at == '-' || *at == '_';
        *at = is_allowed ? *at : '_';
    }
    json_write_text(json, name, text);
    return true;
}

/* The content of a tool's result; nothing when it is blank. */
static bool write_result(struct turns *turns, int content, struct json_writer *json) {
    const struct json_doc *doc = turns->doc;
    if (json_type_of(doc, content) == JSON_STRING) {
        if (!is_blank(inside_of(doc, content))) {
            json_write_raw(json, "content", json_raw(doc, content));
        }
        return true;
    }
    if (json_type_of(doc, content) != JSON_ARRAY) {
        return refuse(turns, "invalid_value", "content", "a string or an array of parts");
    }
    bool has_begun = false;
    for (int part = json_first(doc, content); part >= 0; part = json_next(doc, part)) {
        if (is_blank_part(doc, part)) {
            continue;
        }
        if (!has_begun) {
            json_begin_array(json, "content");
            has_begun = true;
        }
        if (!write_part(turns, part, json)) {
            return false;
        }
    }
    if (has_begun) {
        json_end_array(json);
    }
    return true;
}

/* A tool's result, or (legacy) a function's, which answers the last function call. */
static bool add_result(struct turns *turns, int message, bool is_function) {
    const struct json_doc *doc = turns->doc;
    struct json_writer *json = open_turn(turns, TURN_USER, true);
    json_begin_object(json, NULL);
    json_write_text(json, "type", "tool_result");
    if (is_function) {
        char id[TOOL_ID_BYTES];
        (void)snprintf(id, sizeof(id), "call_f%lld", (long long)turns->function_message);
        json_write_text(json, "tool_use_id", id);
    } else if (!write_id(turns, json, "tool_use_id", json_member(doc, message, "tool_call_id"), "tool_call_id")) {
        return false;
    }
    int content = json_member(doc, message, "content");
    bool is_given = json_type_of(doc, content) != JSON_NULL && content >= 0;
    if (is_given && !write_result(turns, content, json)) {
        return false;
    }
    json_end_object(json);
    return true;
}

/* Arguments are JSON text in a chat and an object here. */
static bool write_input(struct turns *turns, int arguments, struct json_writer *json, const char *field) {
    enum json_type type = json_type_of(turns->doc, arguments);
    bool is_none = type == JSON_ABSENT || type == JSON_NULL;
    if (is_none || (type == JSON_STRING && is_blank(inside_of(turns->doc, arguments)))) {
        json_write_raw(json, "input", SPAN_LITERAL("{}"));
        return true;
    }
    buffer_clear(&turns->plain);
    bool is_object = json_string(turns->doc, arguments, &turns->plain) &&
                     json_parse(&turns->inner, buffer_span(&turns->plain)) &&
                     json_type_of(&turns->inner, 0) == JSON_OBJECT &&
                     json_scan_depth(json_raw(&turns->inner, 0)) <= ARGUMENTS_DEPTH_MOST;
    if (!is_object) {
        return refuse(turns, "invalid_value", field, "the text of a JSON object");
    }
    json_write_raw(json, "input", json_raw(&turns->inner, 0));
    return true;
}

static bool add_call(struct turns *turns, int call, int64_t index) {
    const struct json_doc *doc = turns->doc;
    char field[CHAT_PARAM_BYTES];
    int function = json_member(doc, call, "function");
    int name = json_member(doc, function, "name");
    if (json_type_of(doc, name) != JSON_STRING) {
        return refuse(turns, "invalid_value", "tool_calls", "calls of functions");
    }
    struct json_writer *json = open_turn(turns, TURN_ASSISTANT, false);
    json_begin_object(json, NULL);
    json_write_text(json, "type", "tool_use");
    (void)snprintf(field, sizeof(field), "tool_calls[%lld].id", (long long)index);
    if (!write_id(turns, json, "id", json_member(doc, call, "id"), field)) {
        return false;
    }
    json_write_raw(json, "name", json_raw(doc, name));
    (void)snprintf(field, sizeof(field), "tool_calls[%lld].function.arguments", (long long)index);
    if (!write_input(turns, json_member(doc, function, "arguments"), json, field)) {
        return false;
    }
    json_end_object(json);
    return true;
}

static bool add_function_call(struct turns *turns, int call) {
    char id[TOOL_ID_BYTES];
    int name = json_member(turns->doc, call, "name");
    if (json_type_of(turns->doc, name) != JSON_STRING) {
        return refuse(turns, "invalid_value", "function_call", "an object with a string 'name'");
    }
    turns->function_message = turns->index;
    struct json_writer *json = open_turn(turns, TURN_ASSISTANT, false);
    json_begin_object(json, NULL);
    json_write_text(json, "type", "tool_use");
    (void)snprintf(id, sizeof(id), "call_f%lld", (long long)turns->index);
    json_write_text(json, "id", id);
    json_write_raw(json, "name", json_raw(turns->doc, name));
    if (!write_input(turns, json_member(turns->doc, call, "arguments"), json, "function_call.arguments")) {
        return false;
    }
    json_end_object(json);
    return true;
}

/* Is it reasoning that this provider signed? Others' reasoning is theirs alone: it is left out. */
static bool is_signed(const struct json_doc *doc, int detail) {
    int type = json_member(doc, detail, "type");
    int format = json_member(doc, detail, "format");
    bool is_ours = json_type_of(doc, format) != JSON_STRING || span_starts_with(inside_of(doc, format), "anthropic");
    return is_ours && ((json_string_is(doc, type, "reasoning.text") &&
                        inside_of(doc, json_member(doc, detail, "signature")).len != 0) ||
                       (json_string_is(doc, type, "reasoning.encrypted") &&
                        inside_of(doc, json_member(doc, detail, "data")).len != 0));
}

static void add_thinking(struct turns *turns, int details) {
    const struct json_doc *doc = turns->doc;
    bool is_array = json_type_of(doc, details) == JSON_ARRAY;
    for (int detail = is_array ? json_first(doc, details) : -1; detail >= 0; detail = json_next(doc, detail)) {
        if (!is_signed(doc, detail)) {
            continue;
        }
        bool is_redacted = json_string_is(doc, json_member(doc, detail, "type"), "reasoning.encrypted");
        struct json_writer *json = open_turn(turns, TURN_ASSISTANT, false);
        json_begin_object(json, NULL);
        json_write_text(json, "type", is_redacted ? "redacted_thinking" : "thinking");
        if (is_redacted) {
            json_write_raw(json, "data", json_raw(doc, json_member(doc, detail, "data")));
        } else {
            write_inside(json, "thinking", inside_of(doc, json_member(doc, detail, "text")));
            json_write_raw(json, "signature", json_raw(doc, json_member(doc, detail, "signature")));
        }
        json_end_object(json);
    }
}

/* What the assistant said: texts and refusals, which are text here. */
static bool add_assistant_content(struct turns *turns, int content) {
    const struct json_doc *doc = turns->doc;
    add_text(turns, TURN_ASSISTANT, content);
    bool is_array = json_type_of(doc, content) == JSON_ARRAY;
    for (int part = is_array ? json_first(doc, content) : -1; part >= 0; part = json_next(doc, part)) {
        int type = json_member(doc, part, "type");
        if (!json_string_is(doc, type, "text") && !json_string_is(doc, type, "refusal")) {
            return refuse(turns, "invalid_value", "content", "made of text parts");
        }
        add_text(turns, TURN_ASSISTANT, json_member(doc, part, json_string_is(doc, type, "text") ? "text" : "refusal"));
    }
    return true;
}

static bool add_assistant(struct turns *turns, int message) {
    const struct json_doc *doc = turns->doc;
    add_thinking(turns, json_member(doc, message, "reasoning_details"));
    if (!add_assistant_content(turns, json_member(doc, message, "content"))) {
        return false;
    }
    add_text(turns, TURN_ASSISTANT, json_member(doc, message, "refusal"));
    if (json_type_of(doc, json_member(doc, message, "audio")) == JSON_OBJECT) {
        return refuse(turns, "invalid_value", "audio", "left out");
    }
    int calls = json_member(doc, message, "tool_calls");
    bool is_array = json_type_of(doc, calls) == JSON_ARRAY;
    int64_t index = 0;
    for (int call = is_array ? json_first(doc, calls) : -1; call >= 0; call = json_next(doc, call)) {
        if (!add_call(turns, call, index++)) {
            return false;
        }
    }
    int function_call = json_member(doc, message, "function_call");
    return json_type_of(doc, function_call) != JSON_OBJECT || add_function_call(turns, function_call);
}

static bool add_message(struct turns *turns, int message) {
    const struct json_doc *doc = turns->doc;
    int role = json_member(doc, message, "role");
    bool is_function = json_string_is(doc, role, "function");
    if (json_string_is(doc, role, "tool") || is_function) {
        return add_result(turns, message, is_function);
    }
    if (inside_of(doc, json_member(doc, message, "name")).len != 0) {
        return refuse(turns, "invalid_value", "name", "left out");
    }
    if (is_system(doc, role)) {
        return true;
    }
    if (json_string_is(doc, role, "user")) {
        return add_user(turns, json_member(doc, message, "content"));
    }
    if (!json_string_is(doc, role, "assistant")) {
        return refuse(turns, "invalid_value", "role", "one of system, developer, user, assistant, tool, function");
    }
    bool is_first = turns->open == TURN_NONE;
    return add_assistant(turns, message) && (!is_first || turns->open == TURN_NONE ||
                                             refuse(turns, "invalid_value", "role", "'user' in the first message"));
}

bool anthropic_turns_write_messages(const struct json_doc *doc, int messages, struct json_writer *json,
                                    struct chat_verdict *wrong) {
    struct turns turns = {.doc = doc, .json = json, .wrong = wrong};
    bool is_right = true;
    bool has_turns = false;
    buffer_init(&turns.rest, json->out->cap);
    buffer_init(&turns.plain, doc->text.len);
    turns.rest_json = json_writer_on(&turns.rest);
    json_doc_init(&turns.inner);
    json_begin_array(json, "messages");
    for (int message = json_first(doc, messages); message >= 0 && is_right; message = json_next(doc, message)) {
        is_right = add_message(&turns, message);
        has_turns |= turns.open != TURN_NONE;
        turns.index++;
    }
    close_turn(&turns);
    json_end_array(json);
    json_doc_fini(&turns.inner);
    buffer_fini(&turns.plain);
    buffer_fini(&turns.rest);
    return is_right && (has_turns || chat_refuse(wrong, "invalid_value", "messages",
                                                 "'messages' must say something besides system messages."));
}

bool anthropic_turns_lack_thinking(const struct json_doc *doc, int messages) {
    bool lacks = false;
    for (int message = json_first(doc, messages); message >= 0; message = json_next(doc, message)) {
        int role = json_member(doc, message, "role");
        int details = json_member(doc, message, "reasoning_details");
        if (json_string_is(doc, role, "user")) {
            lacks = false;
        } else if (json_string_is(doc, role, "assistant")) {
            lacks = json_size(doc, json_member(doc, message, "tool_calls")) != 0 ||
                    json_type_of(doc, json_member(doc, message, "function_call")) == JSON_OBJECT;
            bool is_array = json_type_of(doc, details) == JSON_ARRAY;
            for (int detail = is_array ? json_first(doc, details) : -1; detail >= 0 && lacks;
                 detail = json_next(doc, detail)) {
                lacks = !is_signed(doc, detail);
            }
        }
    }
    return lacks;
}
