#include "worker/dialect_anthropic.h"

#include "base/json_write.h"
#include "worker/json_scan.h"

/* What the open block is (answer_listener.open_kind). */
enum block_kind {
    BLOCK_OTHER,
    BLOCK_TEXT,
    BLOCK_THINKING,
    BLOCK_TOOL,       /* no arguments yet */
    BLOCK_TOOL_FED,   /* arguments came in pieces */
    BLOCK_TOOL_WHOLE, /* and these all at once, when it began */
    BLOCK_SERVER_TOOL
};

enum { QUOTED_BYTES_MOST = 6 };

/* The members of an object that are texts, and those that hold structure; empty when absent. */
struct members {
    struct span type, text, thinking, signature, partial_json, data, id, name, stop_reason, stop_sequence;
    struct span index, delta, content_block, message, usage, error, input, content;
};

/* One event or answer being heard. */
struct hearing {
    struct answer_listener *listener;
    struct json_doc *scratch;
    struct answer_event *out;
    const struct answer_sink *sink;
    struct buffer quoted; /* a tool's input as the inside of a string */
};

/* Where the text `name` goes, NULL when it is none that is looked at. */
static struct span *find_text(struct members *members, struct span name) {
    const struct {
        const char *name;
        struct span *value;
    } texts[] = {{"type", &members->type},
                 {"text", &members->text},
                 {"thinking", &members->thinking},
                 {"signature", &members->signature},
                 {"partial_json", &members->partial_json},
                 {"data", &members->data},
                 {"id", &members->id},
                 {"name", &members->name},
                 {"stop_reason", &members->stop_reason},
                 {"stop_sequence", &members->stop_sequence}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (span_is(name, texts[i].name)) {
            return texts[i].value;
        }
    }
    return NULL;
}

static struct span *find_value(struct members *members, struct span name) {
    const struct {
        const char *name;
        struct span *value;
    } values[] = {
        {"index", &members->index},     {"delta", &members->delta},    {"content_block", &members->content_block},
        {"message", &members->message}, {"usage", &members->usage},    {"error", &members->error},
        {"input", &members->input},     {"content", &members->content}};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (span_is(name, values[i].name)) {
            return values[i].value;
        }
    }
    return NULL;
}

/* Reads the members of the object that is next. False when it is none or its shape is wrong. */
static bool read_members(struct json_scan *scan, struct members *out) {
    struct span name;
    *out = (struct members){.type = SPAN_EMPTY};
    if (!json_scan_enter(scan, '{')) {
        return false;
    }
    while (json_scan_member(scan, &name)) {
        struct span *text = find_text(out, name);
        if (text != NULL && json_scan_string(scan, text)) {
            continue;
        }
        struct span value = json_scan_skip(scan);
        struct span *kept = find_value(out, name);
        if (kept != NULL) {
            *kept = value;
        }
    }
    return !scan->bad;
}

/* As read_members for a value that was found before: an object and nothing else. */
static bool read_object(struct span object, struct members *out) {
    struct json_scan scan = json_scan_of(object);
    return read_members(&scan, out) && json_scan_is_over(&scan);
}

static void emit(struct hearing *hearing, struct answer_part part) {
    if (hearing->sink != NULL) {
        hearing->sink->on_part(hearing->sink->context, &part);
    }
}

static void emit_text(struct hearing *hearing, enum answer_part_kind kind, struct span text) {
    if (text.len != 0) {
        emit(hearing, (struct answer_part){.kind = kind, .tool = -1, .text = text});
    }
}

static void emit_arguments(struct hearing *hearing, struct span text) {
    emit(hearing,
         (struct answer_part){.kind = ANSWER_PART_ARGUMENTS, .tool = hearing->listener->tools - 1, .text = text});
}

static void take_text(struct hearing *hearing, enum answer_text kind, struct span inside) {
    answer_take_text(hearing->listener, hearing->out, 0, kind, inside);
}

static bool is_empty_object(struct span object) {
    struct json_scan scan = json_scan_of(object);
    return json_scan_enter(&scan, '{') && json_scan_peek(&scan) == '}';
}

/* A tool's input that came as an object becomes text. Without any it stays open for pieces. */
static enum block_kind take_input(struct hearing *hearing, struct span input, bool is_emitted) {
    if (input.len == 0 || input.base[0] != '{' || is_empty_object(input)) {
        return is_emitted ? BLOCK_TOOL : BLOCK_SERVER_TOOL;
    }
    take_text(hearing, ANSWER_TEXT_TOOL, input);
    if (!is_emitted) {
        return BLOCK_SERVER_TOOL;
    }
    if (hearing->sink != NULL) {
        buffer_clear(&hearing->quoted);
        json_quote(&hearing->quoted, input);
        if (hearing->quoted.failed) {
            hearing->out->is_invalid = true;
        } else {
            emit_arguments(hearing, span_of(hearing->quoted.base + 1, hearing->quoted.len - 2));
        }
    }
    return BLOCK_TOOL_WHOLE;
}

static enum block_kind begin_tool(struct hearing *hearing, const struct members *block) {
    hearing->listener->tools++;
    hearing->out->tool_calls++;
    take_text(hearing, ANSWER_TEXT_TOOL, block->name);
    emit(hearing,
         (struct answer_part){
             .kind = ANSWER_PART_TOOL, .tool = hearing->listener->tools - 1, .id = block->id, .name = block->name});
    return take_input(hearing, block->input, true);
}

/* A block begins, or stands there whole. Returns what it is. */
static enum block_kind begin_block(struct hearing *hearing, const struct members *block) {
    if (span_is(block->type, "text")) {
        take_text(hearing, ANSWER_TEXT_CONTENT, block->text);
        emit_text(hearing, ANSWER_PART_TEXT, block->text);
        return BLOCK_TEXT;
    }
    if (span_is(block->type, "thinking")) {
        take_text(hearing, ANSWER_TEXT_REASONING, block->thinking);
        emit_text(hearing, ANSWER_PART_REASONING, block->thinking);
        emit_text(hearing, ANSWER_PART_SIGNATURE, block->signature);
        return BLOCK_THINKING;
    }
    if (span_is(block->type, "redacted_thinking")) {
        emit_text(hearing, ANSWER_PART_REDACTED, block->data);
        return BLOCK_OTHER;
    }
    if (span_is(block->type, "tool_use")) {
        return begin_tool(hearing, block);
    }
    if (span_is(block->type, "server_tool_use") || span_is(block->type, "mcp_tool_use")) {
        take_text(hearing, ANSWER_TEXT_TOOL, block->name);
        return take_input(hearing, block->input, false);
    }
    return BLOCK_OTHER;
}

/* The open block ends. A call to which no arguments came has an empty object of them. */
static void end_block(struct hearing *hearing) {
    if (hearing->listener->open_kind == BLOCK_TOOL) {
        emit_arguments(hearing, SPAN_LITERAL("{}"));
    }
    hearing->listener->open_block = -1;
    hearing->listener->open_kind = BLOCK_OTHER;
}

/* A small non-negative number; anything else is 0. */
static int64_t read_index(struct span text) {
    int64_t index = 0;
    for (size_t i = 0; i < text.len && i < 9 && text.base[i] >= '0' && text.base[i] <= '9'; i++) {
        index = index * 10 + (text.base[i] - '0');
    }
    return index;
}

static void hear_block_start(struct hearing *hearing, const struct members *event) {
    struct members block;
    if (!read_object(event->content_block, &block)) {
        hearing->out->is_invalid = true;
        return;
    }
    end_block(hearing);
    hearing->listener->open_kind = (uint8_t)begin_block(hearing, &block);
    hearing->listener->open_block = read_index(event->index);
}

/* A piece of a tool's arguments. To whom it belongs only the open block can tell. */
static void hear_partial_json(struct hearing *hearing, struct span index, struct span piece) {
    struct answer_listener *listener = hearing->listener;
    take_text(hearing, ANSWER_TEXT_TOOL, piece);
    if (piece.len == 0 || listener->open_kind == BLOCK_SERVER_TOOL) {
        return;
    }
    bool is_tool = listener->open_kind == BLOCK_TOOL || listener->open_kind == BLOCK_TOOL_FED;
    if (is_tool && listener->open_block == read_index(index)) {
        listener->open_kind = BLOCK_TOOL_FED;
        emit_arguments(hearing, piece);
    } else {
        hearing->out->is_invalid = hearing->sink != NULL;
    }
}

static void hear_block_delta(struct hearing *hearing, const struct members *event) {
    struct members delta;
    if (!read_object(event->delta, &delta)) {
        hearing->out->is_invalid = true;
        return;
    }
    if (span_is(delta.type, "text_delta")) {
        take_text(hearing, ANSWER_TEXT_CONTENT, delta.text);
        emit_text(hearing, ANSWER_PART_TEXT, delta.text);
    } else if (span_is(delta.type, "thinking_delta")) {
        take_text(hearing, ANSWER_TEXT_REASONING, delta.thinking);
        emit_text(hearing, ANSWER_PART_REASONING, delta.thinking);
    } else if (span_is(delta.type, "signature_delta")) {
        emit_text(hearing, ANSWER_PART_SIGNATURE, delta.signature);
    } else if (span_is(delta.type, "input_json_delta")) {
        hear_partial_json(hearing, event->index, delta.partial_json);
    }
}

/* What the report says instead of, or on top of, what was heard before: counts that a message_delta leaves out are
 * those of message_start. */
static void replace_usage(const struct answer_listener *listener, const struct json_doc *doc,
                          struct usage_report *report) {
    const struct token_counts *before = &listener->usage.tokens;
    struct token_counts *tokens = &report->tokens;
    int64_t plain = tokens->input_tokens - tokens->cached_input_tokens - tokens->cache_write_tokens;
    bool has_read = json_type_of(doc, json_member(doc, 0, "cache_read_input_tokens")) == JSON_NUMBER;
    bool has_written = json_type_of(doc, json_member(doc, 0, "cache_creation_input_tokens")) == JSON_NUMBER ||
                       json_type_of(doc, json_member(doc, 0, "cache_creation")) == JSON_OBJECT;
    if (json_type_of(doc, json_member(doc, 0, "input_tokens")) != JSON_NUMBER) {
        plain = before->input_tokens - before->cached_input_tokens - before->cache_write_tokens;
    }
    tokens->cached_input_tokens = has_read ? tokens->cached_input_tokens : before->cached_input_tokens;
    tokens->cache_write_tokens = has_written ? tokens->cache_write_tokens : before->cache_write_tokens;
    tokens->input_tokens = plain + tokens->cached_input_tokens + tokens->cache_write_tokens;
    if (tokens->input_tokens > TOKENS_MOST) {
        report->clamped = true;
        tokens->input_tokens = TOKENS_MOST;
        tokens->cached_input_tokens = 0;
        tokens->cache_write_tokens = 0;
    }
    report->has_input |= listener->usage.has_input;
}

/* Reads the usage object of a message (is_start) or of a message_delta, or of a whole message. */
static void hear_usage(struct hearing *hearing, struct span usage, bool is_start) {
    struct answer_event *out = hearing->out;
    if (usage.len == 0 || usage.base[0] != '{') {
        return;
    }
    if (!json_parse(hearing->scratch, usage)) {
        out->is_invalid = true;
        return;
    }
    out->has_usage = usage_read_anthropic(hearing->scratch, 0, &out->usage);
    if (!out->has_usage) {
        return;
    }
    out->usage_raw = usage;
    if (is_start) {
        out->usage.has_output = false;
    } else if (hearing->listener->has_usage) {
        replace_usage(hearing->listener, hearing->scratch, &out->usage);
    }
}

static enum answer_finish map_stop_reason(struct span reason) {
    static const struct {
        const char *reason;
        enum answer_finish finish;
    } reasons[] = {{"end_turn", ANSWER_FINISH_STOP},       {"stop_sequence", ANSWER_FINISH_STOP_SEQUENCE},
                   {"max_tokens", ANSWER_FINISH_LENGTH},   {"model_context_window_exceeded", ANSWER_FINISH_LENGTH},
                   {"tool_use", ANSWER_FINISH_TOOL_CALLS}, {"refusal", ANSWER_FINISH_CONTENT_FILTER}};
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (span_is(reason, reasons[i].reason)) {
            return reasons[i].finish;
        }
    }
    return ANSWER_FINISH_STOP;
}

static void hear_finish(struct hearing *hearing, const struct members *members) {
    if (members->stop_reason.len == 0) {
        return;
    }
    enum answer_finish finish = map_stop_reason(members->stop_reason);
    if (finish == ANSWER_FINISH_LENGTH && hearing->listener->open_kind == BLOCK_TOOL) {
        hearing->listener->open_kind = BLOCK_OTHER; /* its arguments never came: {} would make them look complete */
    }
    end_block(hearing);
    hearing->out->has_finish = true;
    (void)span_copy(members->stop_reason, hearing->out->finish_reason, sizeof(hearing->out->finish_reason));
    emit(hearing, (struct answer_part){
                      .kind = ANSWER_PART_FINISH, .tool = -1, .finish = finish, .text = members->stop_sequence});
}

/* An error is whatever is neither null, false, "" nor {}. */
static bool is_error_value(struct span error) {
    return error.len != 0 && !span_is(error, "null") && !span_is(error, "false") && !span_is(error, "\"\"") &&
           !is_empty_object(error);
}

static void hear_error(struct hearing *hearing, const struct members *root) {
    hearing->out->is_error = true;
    hearing->out->error_raw = is_error_value(root->error) ? root->error : SPAN_EMPTY;
}

static void hear_message_start(struct hearing *hearing, const struct members *event) {
    struct members message;
    if (!read_object(event->message, &message)) {
        hearing->out->is_invalid = true;
        return;
    }
    hear_usage(hearing, message.usage, true);
}

static void hear_message_delta(struct hearing *hearing, const struct members *event) {
    struct members delta;
    if (!read_object(event->delta, &delta)) {
        hearing->out->is_invalid = true;
        return;
    }
    hear_usage(hearing, event->usage, false);
    hear_finish(hearing, &delta);
}

/* Unknown types are for newer clients than this; they are ignored. */
static void hear_root(struct hearing *hearing, const struct members *event) {
    struct answer_event *out = hearing->out;
    bool is_message = span_starts_with(event->type, "message_");
    out->has_choices =
        (is_message && !span_is(event->type, "message_stop")) || span_starts_with(event->type, "content_block_");
    out->choice_count = out->has_choices ? 1 : 0;
    if (span_is(event->type, "message_start")) {
        hear_message_start(hearing, event);
    } else if (span_is(event->type, "content_block_start")) {
        hear_block_start(hearing, event);
    } else if (span_is(event->type, "content_block_delta")) {
        hear_block_delta(hearing, event);
    } else if (span_is(event->type, "content_block_stop")) {
        end_block(hearing);
    } else if (span_is(event->type, "message_delta")) {
        hear_message_delta(hearing, event);
    } else if (span_is(event->type, "message_stop")) {
        out->is_done = true;
    } else if (span_is(event->type, "error") || (event->type.len == 0 && is_error_value(event->error))) {
        hear_error(hearing, event);
    } else {
        out->is_invalid = event->type.len == 0;
        out->has_choices = false;
    }
}

/* The blocks of a whole message. */
static void hear_content(struct hearing *hearing, struct span content) {
    struct json_scan scan = json_scan_of(content);
    struct members block;
    bool is_sound = json_scan_enter(&scan, '[');
    while (is_sound && json_scan_element(&scan)) {
        is_sound = read_members(&scan, &block);
        if (is_sound) {
            hearing->listener->open_kind = (uint8_t)begin_block(hearing, &block);
            end_block(hearing);
        }
    }
    hearing->out->is_invalid |= !is_sound || !json_scan_is_over(&scan);
}

static void hear_message(struct hearing *hearing, const struct members *message) {
    struct answer_event *out = hearing->out;
    if (span_is(message->type, "error") || is_error_value(message->error)) {
        hear_error(hearing, message);
        return;
    }
    if (!span_is(message->type, "message")) {
        out->is_invalid = true;
        return;
    }
    out->has_choices = true;
    out->choice_count = 1;
    hear_content(hearing, message->content);
    hear_usage(hearing, message->usage, false);
    hear_finish(hearing, message);
}

/* Walks one JSON object. An invalid one leaves no trace but is_invalid. */
static void hear_object(struct hearing *hearing, struct span text, bool is_stream) {
    const struct answer_listener before = *hearing->listener;
    struct members root;
    buffer_init(&hearing->quoted, text.len < SIZE_MAX / QUOTED_BYTES_MOST - 2 ? text.len * QUOTED_BYTES_MOST + 2 : 0);
    bool is_strict = hearing->sink == NULL || json_parse(hearing->scratch, text);
    if (!is_strict || !read_object(text, &root)) {
        hearing->out->is_invalid = true;
    } else if (is_stream) {
        hear_root(hearing, &root);
    } else {
        hear_message(hearing, &root);
    }
    buffer_fini(&hearing->quoted);
    if (hearing->out->is_invalid) {
        *hearing->out = (struct answer_event){.is_invalid = true};
        *hearing->listener = before;
        return;
    }
    answer_remember(hearing->listener, hearing->out);
    hearing->listener->is_done |= hearing->out->is_done;
}

void anthropic_hear_event(struct answer_listener *listener, struct json_doc *scratch, struct span name,
                          struct span data, struct answer_event *out, const struct answer_sink *sink) {
    struct hearing hearing = {.listener = listener, .scratch = scratch, .out = out, .sink = sink};
    *out = (struct answer_event){0};
    if (span_trim(data).len != 0) {
        hear_object(&hearing, data, true);
    }
    if (span_is(name, "error")) {
        out->is_error = true;
        listener->is_error = true;
    }
}

void anthropic_hear_answer(struct answer_listener *listener, struct json_doc *scratch, struct span body,
                           struct answer_event *out, const struct answer_sink *sink) {
    struct hearing hearing = {.listener = listener, .scratch = scratch, .out = out, .sink = sink};
    *out = (struct answer_event){0};
    hear_object(&hearing, body, false);
}

/* Does the string value contain `part`, in any case? */
static bool mentions(const struct json_doc *doc, int value, const char *part) {
    struct span text = json_raw(doc, value);
    size_t len = strlen(part);
    for (size_t at = 0; len <= text.len && at <= text.len - len; at++) {
        if (span_is_nocase(span_of(text.base + at, len), part)) {
            return true;
        }
    }
    return false;
}

static bool is_one_of(const struct json_doc *doc, int value, const char *const *texts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (json_string_is(doc, value, texts[i])) {
            return true;
        }
    }
    return false;
}

struct answer_refusal anthropic_judge_refusal(struct json_doc *scratch, struct span body) {
    static const char *const credentials[] = {"authentication_error", "permission_error", "billing_error", "forbidden"};
    static const char *const too_long[] = {"prompt is too long", "exceed context limit", "exceeds the context window",
                                           "context window"};
    struct answer_refusal refusal = {.is_context_length = false};
    if (!json_parse(scratch, body)) {
        return refusal;
    }
    int error = json_member(scratch, 0, "error");
    int type = json_member(scratch, error, "type");
    int message = json_member(scratch, error, "message");
    refusal.is_overloaded = json_string_is(scratch, type, "overloaded_error");
    refusal.is_credentials = is_one_of(scratch, type, credentials, sizeof(credentials) / sizeof(credentials[0])) ||
                             mentions(scratch, message, "credit balance is too low");
    for (size_t i = 0; i < sizeof(too_long) / sizeof(too_long[0]); i++) {
        refusal.is_context_length |=
            json_string_is(scratch, type, "invalid_request_error") && mentions(scratch, message, too_long[i]);
    }
    return refusal;
}
