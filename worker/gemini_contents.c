#include "worker/gemini_contents.h"

#include <stdio.h>

#include "worker/chat_check.h"
#include "worker/gemini_calls.h"
#include "worker/gemini_media.h"

/* Whose content is being written. Results of tools are the user's as well, but no text goes between them. */
enum side { SIDE_NONE, SIDE_USER, SIDE_MODEL, SIDE_RESULTS };

struct contents {
    const struct json_doc *doc;
    struct json_writer *writer;
    struct chat_verdict *wrong;
    struct gemini_calls calls;
    struct json_doc arguments; /* of the call at hand */
    struct buffer text;        /* what has to be unescaped */
    bool needs_signatures;
    enum side open;
    bool has_any;   /* a content was written */
    bool is_system; /* systemInstruction is being written: texts only */
    int64_t number; /* of the message */
};

/* Google's documented stand-in for a signature that another model's call can't have. */
#define NO_SIGNATURE "skip_thought_signature_validator"

static void close_side(struct contents *contents) {
    if (contents->open != SIDE_NONE) {
        json_end_array(contents->writer);
        json_end_object(contents->writer);
        contents->open = SIDE_NONE;
    }
}

/* Opens a content of that side, unless it is open already. Only called when a part follows: none may be empty. */
static void open_side(struct contents *contents, enum side side) {
    if (contents->open == side) {
        return;
    }
    close_side(contents);
    json_begin_object(contents->writer, NULL);
    json_write_text(contents->writer, "role", side == SIDE_MODEL ? "model" : "user");
    json_begin_array(contents->writer, "parts");
    contents->open = side;
    contents->has_any = true;
}

/* Writes a string value as a text part; an empty one says nothing and some models refuse it. */
static bool write_text(struct contents *contents, enum side side, int value) {
    if (json_type_of(contents->doc, value) != JSON_STRING || json_raw(contents->doc, value).len == 2) {
        return false;
    }
    open_side(contents, side);
    json_begin_object(contents->writer, NULL);
    json_write_raw(contents->writer, "text", json_raw(contents->doc, value));
    json_end_object(contents->writer);
    return true;
}

/* A content of parts; *has_any is set when there was something to write. */
static bool write_parts(struct contents *contents, enum side side, int parts, bool *has_any) {
    char param[CHAT_PARAM_BYTES];
    int64_t index = 0;
    for (int part = json_first(contents->doc, parts); part >= 0; part = json_next(contents->doc, part), index++) {
        int text = gemini_media_text(contents->doc, part);
        if (text >= 0) {
            *has_any |= write_text(contents, side, text);
            continue;
        }
        (void)snprintf(param, sizeof(param), "messages[%lld].content[%lld]%s", (long long)contents->number,
                       (long long)index, contents->is_system ? ".type" : "");
        if (contents->is_system) {
            return chat_refuse(contents->wrong, "invalid_value", param, "'%s' must be text in a system message.",
                               param);
        }
        open_side(contents, side);
        if (!gemini_media_write(contents->doc, part, param, &contents->text, contents->writer, contents->wrong)) {
            return false;
        }
        *has_any = true;
    }
    return true;
}

static bool write_content(struct contents *contents, enum side side, int content, bool *has_any) {
    if (json_type_of(contents->doc, content) == JSON_ARRAY) {
        return write_parts(contents, side, content, has_any);
    }
    *has_any |= write_text(contents, side, content);
    return true;
}

/* A turn of the user is there even when it says nothing. */
static bool write_user(struct contents *contents, int message) {
    bool has_any = false;
    if (!write_content(contents, SIDE_USER, json_member(contents->doc, message, "content"), &has_any)) {
        return false;
    }
    if (!has_any && contents->open != SIDE_USER) {
        open_side(contents, SIDE_USER);
        json_begin_object(contents->writer, NULL);
        json_write_text(contents->writer, "text", "");
        json_end_object(contents->writer);
    }
    return true;
}

/* --- assistant --- */

/* Writes args: the arguments, which are a text, as the object they should be. */
static void write_arguments(struct contents *contents, int arguments) {
    struct json_writer *writer = contents->writer;
    buffer_clear(&contents->text);
    bool is_text = json_string(contents->doc, arguments, &contents->text);
    struct span text = span_trim(buffer_span(&contents->text));
    if (!is_text || text.len == 0) {
        json_write_raw(writer, "args", SPAN_LITERAL("{}"));
    } else if (json_parse(&contents->arguments, text) && json_type_of(&contents->arguments, 0) == JSON_OBJECT) {
        json_write_raw(writer, "args", json_raw(&contents->arguments, 0));
    } else {
        json_begin_object(writer, "args");
        json_write_raw(writer, "arguments", json_raw(contents->doc, arguments));
        json_end_object(writer);
    }
}

/* The signature of a call: a string value, or -1. */
static int find_signature(const struct json_doc *doc, int call) {
    int google = json_member(doc, json_member(doc, call, "extra_content"), "google");
    int signature = json_member(doc, google, "thought_signature");
    return json_type_of(doc, signature) == JSON_STRING ? signature : -1;
}

static void write_call(struct contents *contents, int function, int id, int signature, bool is_first) {
    const struct json_doc *doc = contents->doc;
    struct json_writer *writer = contents->writer;
    open_side(contents, SIDE_MODEL);
    json_begin_object(writer, NULL);
    json_begin_object(writer, "functionCall");
    if (json_type_of(doc, id) == JSON_STRING && json_raw(doc, id).len > 2) {
        json_write_raw(writer, "id", json_raw(doc, id));
    }
    json_write_raw(writer, "name", json_raw(doc, json_member(doc, function, "name")));
    write_arguments(contents, json_member(doc, function, "arguments"));
    json_end_object(writer);
    if (signature >= 0) {
        json_write_raw(writer, "thoughtSignature", json_raw(doc, signature));
    } else if (contents->needs_signatures && is_first) {
        json_write_text(writer, "thoughtSignature", NO_SIGNATURE);
    }
    json_end_object(writer);
}

static bool refuse_call(struct contents *contents, int64_t index) {
    char param[CHAT_PARAM_BYTES];
    (void)snprintf(param, sizeof(param), "messages[%lld].tool_calls[%lld].function", (long long)contents->number,
                   (long long)index);
    return chat_refuse(contents->wrong, "invalid_value", param, "'%s' must be an object with a string 'name'.", param);
}

static bool write_calls(struct contents *contents, int calls) {
    const struct json_doc *doc = contents->doc;
    int64_t index = 0;
    if (json_type_of(doc, calls) != JSON_ARRAY) {
        return true;
    }
    for (int call = json_first(doc, calls); call >= 0; call = json_next(doc, call), index++) {
        int function = json_member(doc, call, "function");
        if (json_type_of(doc, json_member(doc, function, "name")) != JSON_STRING) {
            return refuse_call(contents, index);
        }
        write_call(contents, function, json_member(doc, call, "id"), find_signature(doc, call), index == 0);
    }
    return true;
}

/* Signatures of texts came behind them, in parts of their own; those of other providers mean nothing here. */
static void write_signatures(struct contents *contents, int details) {
    const struct json_doc *doc = contents->doc;
    if (json_type_of(doc, details) != JSON_ARRAY) {
        return;
    }
    for (int detail = json_first(doc, details); detail >= 0; detail = json_next(doc, detail)) {
        int signature = json_member(doc, detail, "signature");
        int format = json_member(doc, detail, "format");
        bool is_ours = json_type_of(doc, format) != JSON_STRING || json_string_is(doc, format, "google-gemini-v1");
        if (!is_ours || json_type_of(doc, signature) != JSON_STRING || json_raw(doc, signature).len == 2) {
            continue;
        }
        open_side(contents, SIDE_MODEL);
        json_begin_object(contents->writer, NULL);
        json_write_text(contents->writer, "text", "");
        json_write_raw(contents->writer, "thoughtSignature", json_raw(doc, signature));
        json_end_object(contents->writer);
    }
}

static bool write_assistant(struct contents *contents, int message) {
    const struct json_doc *doc = contents->doc;
    bool has_any = false;
    if (!write_content(contents, SIDE_MODEL, json_member(doc, message, "content"), &has_any)) {
        return false;
    }
    (void)write_text(contents, SIDE_MODEL, json_member(doc, message, "refusal"));
    write_signatures(contents, json_member(doc, message, "reasoning_details"));
    int legacy = json_member(doc, message, "function_call");
    if (json_type_of(doc, json_member(doc, legacy, "name")) == JSON_STRING) {
        write_call(contents, legacy, -1, -1, true);
    }
    return write_calls(contents, json_member(doc, message, "tool_calls"));
}

/* --- results of tools --- */

static bool refuse_result(struct contents *contents, const char *field) {
    char param[CHAT_PARAM_BYTES];
    (void)snprintf(param, sizeof(param), "messages[%lld].%s", (long long)contents->number, field);
    return chat_refuse(contents->wrong, "invalid_value", param, "'%s' must name a tool call of a message before it.",
                       param);
}

/* The texts of a content, one behind the other, as one string. */
static void write_result(struct contents *contents, int content) {
    const struct json_doc *doc = contents->doc;
    struct json_writer *writer = contents->writer;
    json_begin_object(writer, "response");
    if (json_type_of(doc, content) == JSON_STRING) {
        json_write_raw(writer, "result", json_raw(doc, content));
        json_end_object(writer);
        return;
    }
    buffer_clear(&contents->text);
    buffer_append_byte(&contents->text, '"');
    if (json_type_of(doc, content) == JSON_ARRAY) {
        for (int part = json_first(doc, content); part >= 0; part = json_next(doc, part)) {
            struct span raw = json_raw(doc, gemini_media_text(doc, part));
            if (raw.len > 2 && raw.base[0] == '"') {
                buffer_append(&contents->text, raw.base + 1, raw.len - 2);
            }
        }
    }
    buffer_append_byte(&contents->text, '"');
    json_write_raw(writer, "result", buffer_span(&contents->text));
    json_end_object(writer);
}

/* What a result holds beside text stands behind it. */
static bool write_result_media(struct contents *contents, int content) {
    const struct json_doc *doc = contents->doc;
    char param[CHAT_PARAM_BYTES];
    int64_t index = 0;
    if (json_type_of(doc, content) != JSON_ARRAY) {
        return true;
    }
    for (int part = json_first(doc, content); part >= 0; part = json_next(doc, part), index++) {
        (void)snprintf(param, sizeof(param), "messages[%lld].content[%lld]", (long long)contents->number,
                       (long long)index);
        if (gemini_media_text(doc, part) < 0 &&
            !gemini_media_write(doc, part, param, &contents->text, contents->writer, contents->wrong)) {
            return false;
        }
    }
    return true;
}

static bool write_tool(struct contents *contents, int message, bool is_legacy) {
    const struct json_doc *doc = contents->doc;
    int id = is_legacy ? -1 : json_member(doc, message, "tool_call_id");
    int content = json_member(doc, message, "content");
    int name = -1;
    buffer_clear(&contents->text);
    if (json_string(doc, id, &contents->text)) {
        name = gemini_calls_find(&contents->calls, buffer_span(&contents->text), contents->number);
    }
    name = name >= 0 ? name : json_member(doc, message, "name");
    if (json_type_of(doc, name) != JSON_STRING) {
        return refuse_result(contents, is_legacy ? "name" : "tool_call_id");
    }
    open_side(contents, SIDE_RESULTS);
    json_begin_object(contents->writer, NULL);
    json_begin_object(contents->writer, "functionResponse");
    if (json_type_of(doc, id) == JSON_STRING && json_raw(doc, id).len > 2) {
        json_write_raw(contents->writer, "id", json_raw(doc, id));
    }
    json_write_raw(contents->writer, "name", json_raw(doc, name));
    write_result(contents, content);
    json_end_object(contents->writer);
    json_end_object(contents->writer);
    return write_result_media(contents, content);
}

/* --- all messages --- */

static bool is_system(const struct json_doc *doc, int message) {
    int role = json_member(doc, message, "role");
    return json_string_is(doc, role, "system") || json_string_is(doc, role, "developer");
}

static bool write_message(struct contents *contents, int message) {
    int role = json_member(contents->doc, message, "role");
    if (json_string_is(contents->doc, role, "assistant")) {
        return write_assistant(contents, message);
    }
    bool is_legacy = json_string_is(contents->doc, role, "function");
    if (is_legacy || json_string_is(contents->doc, role, "tool")) {
        return write_tool(contents, message, is_legacy);
    }
    return write_user(contents, message);
}

/* The messages of one kind, in their order. */
static bool write_messages(struct contents *contents, int messages, bool wants_system) {
    contents->number = 0;
    for (int message = json_first(contents->doc, messages); message >= 0;
         message = json_next(contents->doc, message), contents->number++) {
        bool is_wanted = is_system(contents->doc, message) == wants_system;
        if (is_wanted && !(wants_system ? write_user(contents, message) : write_message(contents, message))) {
            return false;
        }
    }
    return true;
}

static bool has_system(const struct json_doc *doc, int messages) {
    for (int message = json_first(doc, messages); message >= 0; message = json_next(doc, message)) {
        if (is_system(doc, message)) {
            return true;
        }
    }
    return false;
}

/* Nothing is written when all of them are empty. */
static bool write_system(struct contents *contents, int messages) {
    struct json_writer *writer = contents->writer;
    const struct json_writer before = *writer;
    size_t begin = writer->out->len;
    json_begin_object(writer, "systemInstruction");
    json_begin_array(writer, "parts");
    size_t parts = writer->out->len;
    contents->is_system = true;
    contents->open = SIDE_USER; /* its parts go into this array */
    bool is_written = write_messages(contents, messages, true);
    bool is_empty = writer->out->len == parts;
    close_side(contents);
    if (is_empty) {
        buffer_truncate(writer->out, begin);
        *writer = before;
    }
    return is_written;
}

static bool write_all(struct contents *contents, int messages) {
    bool is_system_left = has_system(contents->doc, messages);
    json_begin_array(contents->writer, "contents");
    if (!write_messages(contents, messages, false)) {
        return false;
    }
    if (!contents->has_any) {
        is_system_left = false;
        if (!write_messages(contents, messages, true)) {
            return false;
        }
    }
    close_side(contents);
    json_end_array(contents->writer);
    return !is_system_left || write_system(contents, messages);
}

bool gemini_contents_write(const struct json_doc *doc, bool needs_signatures, struct json_writer *writer,
                           struct chat_verdict *wrong) {
    struct contents contents = {
        .doc = doc, .writer = writer, .wrong = wrong, .needs_signatures = needs_signatures, .open = SIDE_NONE};
    int messages = json_member(doc, 0, "messages");
    json_doc_init(&contents.arguments);
    buffer_init(&contents.text, doc->text.len + 2);
    bool is_written = gemini_calls_init(&contents.calls, doc, messages) && write_all(&contents, messages);
    gemini_calls_fini(&contents.calls);
    json_doc_fini(&contents.arguments);
    buffer_fini(&contents.text);
    return is_written;
}
