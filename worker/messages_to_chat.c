#include "worker/messages_to_chat.h"

#include "base/json_write.h"

enum { LOW_BUDGET_MOST_TOKENS = 4096, MEDIUM_BUDGET_MOST_TOKENS = 16384 };

/* A body being said. */
struct saying {
    const struct json_doc *doc;
    struct buffer *out;
    struct json_writer json;
};

/* What stands between the quotes of a string value; empty for any other. */
static struct span inside_of(const struct json_doc *doc, int value) {
    if (json_type_of(doc, value) != JSON_STRING) {
        return SPAN_EMPTY;
    }
    struct span raw = json_raw(doc, value);
    return span_of(raw.base + 1, raw.len - 2);
}

static bool is_type(const struct saying *saying, int block, const char *type) {
    return json_string_is(saying->doc, json_member(saying->doc, block, "type"), type);
}

/* Writes the member `from` of `object` as it stands, under the name `to`; nothing when it is absent or null. */
static void copy_member(struct saying *saying, int object, const char *from, const char *to) {
    int value = json_member(saying->doc, object, from);
    if (value >= 0 && json_type_of(saying->doc, value) != JSON_NULL) {
        json_write_raw(&saying->json, to, json_raw(saying->doc, value));
    }
}

/* Writes a string made of a few that stand escaped already. */
static void write_joined(struct saying *saying, const char *name, const struct span *insides, int count) {
    json_write_raw(&saying->json, name, SPAN_LITERAL("\""));
    for (int i = 0; i < count; i++) {
        buffer_append_span(saying->out, insides[i]);
    }
    buffer_append_byte(saying->out, '"');
}

static void write_text_part(struct saying *saying, int text, const char *prefix) {
    const struct span insides[] = {span_text(prefix), inside_of(saying->doc, text)};
    json_begin_object(&saying->json, NULL);
    json_write_text(&saying->json, "type", "text");
    write_joined(saying, "text", insides, 2);
    json_end_object(&saying->json);
}

/* data:MEDIA;base64,DATA of a base64 source. */
static void write_data_url(struct saying *saying, const char *name, int source) {
    const struct span insides[] = {
        SPAN_LITERAL("data:"), inside_of(saying->doc, json_member(saying->doc, source, "media_type")),
        SPAN_LITERAL(";base64,"), inside_of(saying->doc, json_member(saying->doc, source, "data"))};
    write_joined(saying, name, insides, 4);
}

static void write_image(struct saying *saying, int block) {
    int source = json_member(saying->doc, block, "source");
    json_begin_object(&saying->json, NULL);
    json_write_text(&saying->json, "type", "image_url");
    json_begin_object(&saying->json, "image_url");
    if (is_type(saying, source, "base64")) {
        write_data_url(saying, "url", source);
    } else {
        copy_member(saying, source, "url", "url");
    }
    json_end_object(&saying->json);
    json_end_object(&saying->json);
}

/* A PDF is a file; a document of plain text is text. What is said about it goes before it. */
static void write_document(struct saying *saying, int block) {
    const struct json_doc *doc = saying->doc;
    int source = json_member(doc, block, "source");
    int title = json_member(doc, block, "title");
    int context = json_member(doc, block, "context");
    bool is_text = is_type(saying, source, "text");
    if (inside_of(doc, context).len != 0) {
        write_text_part(saying, context, "");
    }
    if (is_text) {
        if (inside_of(doc, title).len != 0) {
            write_text_part(saying, title, "");
        }
        write_text_part(saying, json_member(doc, source, "data"), "");
        return;
    }
    json_begin_object(&saying->json, NULL);
    json_write_text(&saying->json, "type", "file");
    json_begin_object(&saying->json, "file");
    if (inside_of(doc, title).len != 0) {
        json_write_raw(&saying->json, "filename", json_raw(doc, title));
    } else {
        json_write_text(&saying->json, "filename", "document.pdf");
    }
    write_data_url(saying, "file_data", source);
    json_end_object(&saying->json);
    json_end_object(&saying->json);
}

static bool is_part(const struct saying *saying, int block) {
    return is_type(saying, block, "text") || is_type(saying, block, "image") || is_type(saying, block, "document");
}

static int count_parts(const struct saying *saying, int content) {
    int count = 0;
    for (int block = json_first(saying->doc, content); block >= 0; block = json_next(saying->doc, block)) {
        count += is_part(saying, block);
    }
    return count;
}

/* The only part of the content, when that is a text; else -1. */
static int find_lone_text(const struct saying *saying, int content) {
    int text = -1;
    for (int block = json_first(saying->doc, content); block >= 0; block = json_next(saying->doc, block)) {
        if (is_part(saying, block)) {
            if (text >= 0 || !is_type(saying, block, "text")) {
                return -1;
            }
            text = json_member(saying->doc, block, "text");
        }
    }
    return text;
}

/* Writes `content`: a string where there is one text (or none), else parts. Prefix goes before the first text. */
static void write_content(struct saying *saying, int content, const char *prefix) {
    const struct json_doc *doc = saying->doc;
    int count = json_type_of(doc, content) == JSON_ARRAY ? count_parts(saying, content) : 0;
    int text = json_type_of(doc, content) == JSON_STRING ? content : count == 1 ? find_lone_text(saying, content) : -1;
    if (count == 0 || text >= 0) {
        const struct span insides[] = {span_text(prefix), inside_of(doc, text)};
        write_joined(saying, "content", insides, 2);
        return;
    }
    json_begin_array(&saying->json, "content");
    for (int block = json_first(doc, content); block >= 0; block = json_next(doc, block)) {
        if (is_type(saying, block, "text")) {
            write_text_part(saying, json_member(doc, block, "text"), prefix);
            prefix = "";
        } else if (is_type(saying, block, "image")) {
            write_image(saying, block);
        } else if (is_type(saying, block, "document")) {
            write_document(saying, block);
        }
    }
    json_end_array(&saying->json);
}

static void write_plain_message(struct saying *saying, const char *role, int content) {
    json_begin_object(&saying->json, NULL);
    json_write_text(&saying->json, "role", role);
    write_content(saying, content, "");
    json_end_object(&saying->json);
}

/* Results come first: chat wants them right behind the calls. */
static void write_user(struct saying *saying, int content) {
    const struct json_doc *doc = saying->doc;
    bool has_result = false;
    bool is_array = json_type_of(doc, content) == JSON_ARRAY;
    for (int block = is_array ? json_first(doc, content) : -1; block >= 0; block = json_next(doc, block)) {
        if (!is_type(saying, block, "tool_result")) {
            continue;
        }
        bool is_error = json_type_of(doc, json_member(doc, block, "is_error")) == JSON_TRUE;
        json_begin_object(&saying->json, NULL);
        json_write_text(&saying->json, "role", "tool");
        copy_member(saying, block, "tool_use_id", "tool_call_id");
        write_content(saying, json_member(doc, block, "content"), is_error ? "Error: " : "");
        json_end_object(&saying->json);
        has_result = true;
    }
    if (!has_result || count_parts(saying, content) != 0) {
        write_plain_message(saying, "user", content);
    }
}

static bool has_calls_in(const struct saying *saying, int content) {
    bool is_array = json_type_of(saying->doc, content) == JSON_ARRAY;
    int block = is_array ? json_first(saying->doc, content) : -1;
    while (block >= 0 && !is_type(saying, block, "tool_use")) {
        block = json_next(saying->doc, block);
    }
    return block >= 0;
}

/* Thinking that nobody signed, as of providers that sign none, no provider takes back. */
static bool is_signed_thinking(const struct saying *saying, int block) {
    return is_type(saying, block, "thinking") &&
           inside_of(saying->doc, json_member(saying->doc, block, "signature")).len != 0;
}

static bool has_reasoning_in(const struct saying *saying, int content) {
    bool is_array = json_type_of(saying->doc, content) == JSON_ARRAY;
    int block = is_array ? json_first(saying->doc, content) : -1;
    while (block >= 0 && !is_signed_thinking(saying, block) && !is_type(saying, block, "redacted_thinking")) {
        block = json_next(saying->doc, block);
    }
    return block >= 0;
}

static void write_calls(struct saying *saying, int content) {
    const struct json_doc *doc = saying->doc;
    json_begin_array(&saying->json, "tool_calls");
    for (int block = json_first(doc, content); block >= 0; block = json_next(doc, block)) {
        if (!is_type(saying, block, "tool_use")) {
            continue;
        }
        json_begin_object(&saying->json, NULL);
        copy_member(saying, block, "id", "id");
        json_write_text(&saying->json, "type", "function");
        json_begin_object(&saying->json, "function");
        copy_member(saying, block, "name", "name");
        json_write_span(&saying->json, "arguments", json_raw(doc, json_member(doc, block, "input")));
        json_end_object(&saying->json);
        json_end_object(&saying->json);
    }
    json_end_array(&saying->json);
}

static void write_reasoning(struct saying *saying, int content) {
    const struct json_doc *doc = saying->doc;
    json_begin_array(&saying->json, "reasoning_details");
    for (int block = json_first(doc, content); block >= 0; block = json_next(doc, block)) {
        if (is_signed_thinking(saying, block)) {
            json_begin_object(&saying->json, NULL);
            json_write_text(&saying->json, "type", "reasoning.text");
            copy_member(saying, block, "thinking", "text");
            copy_member(saying, block, "signature", "signature");
            json_end_object(&saying->json);
        } else if (is_type(saying, block, "redacted_thinking")) {
            json_begin_object(&saying->json, NULL);
            json_write_text(&saying->json, "type", "reasoning.encrypted");
            copy_member(saying, block, "data", "data");
            json_end_object(&saying->json);
        }
    }
    json_end_array(&saying->json);
}

static void write_assistant(struct saying *saying, int content) {
    bool has_calls = has_calls_in(saying, content);
    bool is_array = json_type_of(saying->doc, content) == JSON_ARRAY;
    json_begin_object(&saying->json, NULL);
    json_write_text(&saying->json, "role", "assistant");
    if (has_calls && is_array && count_parts(saying, content) == 0) {
        json_write_null(&saying->json, "content");
    } else {
        write_content(saying, content, "");
    }
    if (has_calls) {
        write_calls(saying, content);
    }
    if (has_reasoning_in(saying, content)) {
        write_reasoning(saying, content);
    }
    json_end_object(&saying->json);
}

static void write_messages(struct saying *saying) {
    const struct json_doc *doc = saying->doc;
    int system = json_member(doc, 0, "system");
    json_begin_array(&saying->json, "messages");
    if (json_type_of(doc, system) == JSON_STRING || json_size(doc, system) != 0) {
        write_plain_message(saying, "system", system);
    }
    int messages = json_member(doc, 0, "messages");
    for (int message = json_first(doc, messages); message >= 0; message = json_next(doc, message)) {
        int role = json_member(doc, message, "role");
        int content = json_member(doc, message, "content");
        if (json_string_is(doc, role, "assistant")) {
            write_assistant(saying, content);
        } else if (json_string_is(doc, role, "system")) {
            write_plain_message(saying, "system", content);
        } else {
            write_user(saying, content);
        }
    }
    json_end_array(&saying->json);
}

static void write_tools(struct saying *saying) {
    const struct json_doc *doc = saying->doc;
    int tools = json_member(doc, 0, "tools");
    if (json_size(doc, tools) == 0) {
        return;
    }
    json_begin_array(&saying->json, "tools");
    for (int tool = json_first(doc, tools); tool >= 0; tool = json_next(doc, tool)) {
        json_begin_object(&saying->json, NULL);
        json_write_text(&saying->json, "type", "function");
        json_begin_object(&saying->json, "function");
        copy_member(saying, tool, "name", "name");
        copy_member(saying, tool, "description", "description");
        copy_member(saying, tool, "input_schema", "parameters");
        copy_member(saying, tool, "strict", "strict");
        json_end_object(&saying->json);
        json_end_object(&saying->json);
    }
    json_end_array(&saying->json);
}

static void write_tool_choice(struct saying *saying) {
    int choice = json_member(saying->doc, 0, "tool_choice");
    if (is_type(saying, choice, "tool")) {
        json_begin_object(&saying->json, "tool_choice");
        json_write_text(&saying->json, "type", "function");
        json_begin_object(&saying->json, "function");
        copy_member(saying, choice, "name", "name");
        json_end_object(&saying->json);
        json_end_object(&saying->json);
    } else if (json_type_of(saying->doc, choice) == JSON_OBJECT) {
        json_write_text(&saying->json, "tool_choice",
                        is_type(saying, choice, "any")    ? "required"
                        : is_type(saying, choice, "none") ? "none"
                                                          : "auto");
    }
    if (json_type_of(saying->doc, json_member(saying->doc, choice, "disable_parallel_tool_use")) == JSON_TRUE) {
        json_write_bool(&saying->json, "parallel_tool_calls", false);
    }
}

static void write_effort(struct saying *saying) {
    const struct json_doc *doc = saying->doc;
    int thinking = json_member(doc, 0, "thinking");
    int effort = json_member(doc, json_member(doc, 0, "output_config"), "effort");
    int64_t budget_tokens = 0;
    if (is_type(saying, thinking, "disabled")) {
        return;
    }
    if (json_string_is(doc, effort, "max")) {
        json_write_text(&saying->json, "reasoning_effort", "xhigh");
    } else if (json_type_of(doc, effort) == JSON_STRING) {
        json_write_raw(&saying->json, "reasoning_effort", json_raw(doc, effort));
    } else if (json_int(doc, json_member(doc, thinking, "budget_tokens"), &budget_tokens)) {
        json_write_text(&saying->json, "reasoning_effort",
                        budget_tokens <= LOW_BUDGET_MOST_TOKENS      ? "low"
                        : budget_tokens <= MEDIUM_BUDGET_MOST_TOKENS ? "medium"
                                                                     : "high");
    } else if (is_type(saying, thinking, "adaptive") || is_type(saying, thinking, "enabled")) {
        json_write_text(&saying->json, "reasoning_effort", "high");
    }
}

static void write_format(struct saying *saying) {
    const struct json_doc *doc = saying->doc;
    int format = json_member(doc, json_member(doc, 0, "output_config"), "format");
    if (json_type_of(doc, format) != JSON_OBJECT) {
        format = json_member(doc, 0, "output_format");
    }
    if (!is_type(saying, format, "json_schema")) {
        return;
    }
    json_begin_object(&saying->json, "response_format");
    json_write_text(&saying->json, "type", "json_schema");
    json_begin_object(&saying->json, "json_schema");
    json_write_text(&saying->json, "name", "answer");
    copy_member(saying, format, "schema", "schema");
    json_write_bool(&saying->json, "strict", true);
    json_end_object(&saying->json);
    json_end_object(&saying->json);
}

static void write_stream(struct saying *saying) {
    if (json_type_of(saying->doc, json_member(saying->doc, 0, "stream")) == JSON_TRUE) {
        json_write_bool(&saying->json, "stream", true);
        json_begin_object(&saying->json, "stream_options");
        json_write_bool(&saying->json, "include_usage", true);
        json_end_object(&saying->json);
    }
}

bool messages_to_chat_write(const struct json_doc *doc, bool wants_max_completion_tokens, bool with_top_k,
                            struct buffer *out) {
    struct saying saying = {.doc = doc, .out = out, .json = json_writer_on(out)};
    json_begin_object(&saying.json, NULL);
    copy_member(&saying, 0, "model", "model");
    write_messages(&saying);
    copy_member(&saying, 0, "max_tokens", wants_max_completion_tokens ? "max_completion_tokens" : "max_tokens");
    write_tools(&saying);
    write_tool_choice(&saying);
    if (json_size(doc, json_member(doc, 0, "stop_sequences")) != 0) {
        copy_member(&saying, 0, "stop_sequences", "stop");
    }
    copy_member(&saying, 0, "temperature", "temperature");
    copy_member(&saying, 0, "top_p", "top_p");
    if (with_top_k) {
        copy_member(&saying, 0, "top_k", "top_k");
    }
    write_effort(&saying);
    write_format(&saying);
    copy_member(&saying, json_member(doc, 0, "metadata"), "user_id", "user");
    if (json_string_is(doc, json_member(doc, 0, "service_tier"), "standard_only")) {
        json_write_text(&saying.json, "service_tier", "default");
    }
    write_stream(&saying);
    json_end_object(&saying.json);
    return !out->failed;
}
