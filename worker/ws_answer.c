#include "worker/ws_answer.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "worker/chat_chunk.h"
#include "worker/json_scan.h"

enum { USAGE_BYTES_MOST = 16 << 10, NAME_BYTES_MOST = 1 << 10, TYPE_BYTES = 32 };

/* A tool call as it is put together from its pieces; all inside of JSON strings. */
struct ws_tool {
    struct buffer id;
    struct buffer name;
    struct buffer arguments;
};

/* The members of a delta that are looked at; as they stand between their quotes. */
struct delta {
    struct span content;
    struct span refusal;
    struct span reasoning;
    struct span tool_calls; /* the array */
};

void ws_answer_init(struct ws_answer *answer, enum ws_form form, const char *id) {
    *answer = (struct ws_answer){.form = form};
    (void)span_copy(span_text(id), answer->id, sizeof(answer->id));
    buffer_init(&answer->usage, USAGE_BYTES_MOST);
    buffer_init(&answer->said, WS_MEMORY_BYTES);
}

static void drop_tools(struct ws_answer *answer) {
    for (int i = 0; i < answer->tool_count; i++) {
        buffer_fini(&answer->tools[i].id);
        buffer_fini(&answer->tools[i].name);
        buffer_fini(&answer->tools[i].arguments);
    }
    free(answer->tools);
    answer->tools = NULL;
    answer->tool_count = 0;
}

void ws_answer_fini(struct ws_answer *answer) {
    drop_tools(answer);
    buffer_fini(&answer->usage);
    buffer_fini(&answer->said);
}

/* --- writing --- */

static bool is_had(const struct ws_answer *answer) {
    const struct ws_position *after = &answer->after;
    return answer->number <= after->events || (answer->number == after->events + 1 && answer->told <= after->messages);
}

/* Sends the message that is held: whoever has it has its event whole, or so much of it. */
static void release_message(struct ws_answer *answer, struct ws_out *out, bool is_last) {
    if (!answer->is_held) {
        return;
    }
    answer->is_held = false;
    answer->told++;
    if (is_last) {
        buffer_format(out->text, ",\"n\":%u}", answer->number);
    } else {
        buffer_format(out->text, ",\"n\":\"%u.%u\"}", answer->number - 1, answer->told);
    }
    if (!out->text->failed && !is_had(answer)) {
        out->send(out->context, buffer_span(out->text));
    }
}

static void begin_message(struct ws_answer *answer, struct ws_out *out, const char *type) {
    release_message(answer, out, false);
    buffer_clear(out->text);
    buffer_format(out->text, "{\"type\":\"%s\",\"id\":%s", type, answer->id);
}

static void send_message(struct ws_answer *answer, struct ws_out *out) {
    if (answer->number != 0) {
        answer->is_held = true;
        return;
    }
    buffer_append_byte(out->text, '}');
    if (!out->text->failed) {
        out->send(out->context, buffer_span(out->text));
    }
}

static void write_choice(struct ws_out *out, int64_t choice) {
    if (choice != 0) {
        buffer_format(out->text, ",\"index\":%lld", (long long)choice);
    }
}

static void send_text(struct ws_answer *answer, struct ws_out *out, const char *name, int64_t choice,
                      struct span inside) {
    bool is_stream = answer->form == WS_FORM_STREAM;
    char type[TYPE_BYTES];
    if (inside.len == 0) {
        return;
    }
    (void)snprintf(type, sizeof(type), "%s.delta", name);
    begin_message(answer, out, is_stream ? "stream" : type);
    write_choice(out, choice);
    if (is_stream) {
        buffer_format(out->text, ",\"delta\":{\"%s\":\"", name);
    } else {
        buffer_append_text(out->text, ",\"delta\":\"");
    }
    ws_message_append_clean(out->text, inside);
    buffer_append_text(out->text, is_stream ? "\"}" : "\"");
    send_message(answer, out);
}

static void send_reasoning(struct ws_answer *answer, struct ws_out *out, int64_t choice, struct span inside) {
    if (inside.len == 0) {
        return;
    }
    begin_message(answer, out, "reasoning.delta");
    write_choice(out, choice);
    buffer_append_text(out->text, ",\"delta\":\"");
    ws_message_append_clean(out->text, inside);
    buffer_append_byte(out->text, '"');
    send_message(answer, out);
}

static void send_tool_call(struct ws_answer *answer, struct ws_out *out, int64_t choice, struct span call) {
    begin_message(answer, out, "tool_call.delta");
    write_choice(out, choice);
    buffer_append_text(out->text, ",\"delta\":");
    ws_message_append_clean(out->text, call);
    send_message(answer, out);
}

/* --- remembering --- */

static void forget(struct ws_answer *answer) {
    answer->is_forgotten = true;
    drop_tools(answer);
    buffer_fini(&answer->said);
}

static void remember_text(struct ws_answer *answer, int64_t choice, struct span inside) {
    if (choice != 0 || answer->is_forgotten || inside.len == 0) {
        return;
    }
    ws_message_append_clean(&answer->said, inside);
    if (answer->said.failed) {
        forget(answer);
    }
}

static struct ws_tool *find_tool(struct ws_answer *answer, int64_t index) {
    if (index < 0 || index >= WS_TOOLS_MOST) {
        return NULL;
    }
    if (index >= answer->tool_count) {
        struct ws_tool *tools = reallocarray(answer->tools, (size_t)index + 1, sizeof(*tools));
        if (tools == NULL) {
            return NULL;
        }
        answer->tools = tools;
        for (; answer->tool_count <= index; answer->tool_count++) {
            struct ws_tool *tool = &tools[answer->tool_count];
            buffer_init(&tool->id, NAME_BYTES_MOST);
            buffer_init(&tool->name, NAME_BYTES_MOST);
            buffer_init(&tool->arguments, WS_MEMORY_BYTES);
        }
    }
    return &answer->tools[index];
}

static int64_t read_number(struct span text) {
    int64_t number = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] < '0' || text.base[i] > '9' || number > INT32_MAX) {
            return -1;
        }
        number = number * 10 + (text.base[i] - '0');
    }
    return text.len != 0 ? number : -1;
}

/* What a piece of a tool call says. */
struct tool_piece {
    int64_t index;
    struct span id;
    struct span name;
    struct span arguments;
};

static void read_function(struct json_scan *scan, struct tool_piece *out) {
    struct span name;
    if (!json_scan_enter(scan, '{')) {
        (void)json_scan_skip(scan);
        return;
    }
    while (json_scan_member(scan, &name)) {
        struct span *to = span_is(name, "name") ? &out->name : span_is(name, "arguments") ? &out->arguments : NULL;
        if (to == NULL || !json_scan_string(scan, to)) {
            (void)json_scan_skip(scan);
        }
    }
}

static struct tool_piece read_tool(struct span call) {
    struct tool_piece piece = {.index = 0};
    struct json_scan scan = json_scan_of(call);
    struct span name;
    if (!json_scan_enter(&scan, '{')) {
        return piece;
    }
    while (json_scan_member(&scan, &name)) {
        if (span_is(name, "index")) {
            piece.index = read_number(json_scan_skip(&scan));
        } else if (span_is(name, "function")) {
            read_function(&scan, &piece);
        } else if (!span_is(name, "id") || !json_scan_string(&scan, &piece.id)) {
            (void)json_scan_skip(&scan);
        }
    }
    return piece;
}

static void remember_tool(struct ws_answer *answer, int64_t choice, struct span call) {
    if (choice != 0 || answer->is_forgotten) {
        return;
    }
    struct tool_piece piece = read_tool(call);
    struct ws_tool *tool = find_tool(answer, piece.index);
    if (tool == NULL) {
        forget(answer);
        return;
    }
    if (tool->id.len == 0) {
        ws_message_append_clean(&tool->id, piece.id);
    }
    ws_message_append_clean(&tool->name, piece.name);
    ws_message_append_clean(&tool->arguments, piece.arguments);
    if (tool->id.failed || tool->name.failed || tool->arguments.failed) {
        forget(answer);
    }
}

/* --- hearing --- */

static struct delta read_delta(struct json_scan *scan) {
    struct delta delta = {.content = SPAN_EMPTY};
    struct span reasoning = SPAN_EMPTY;
    struct span name;
    if (!json_scan_enter(scan, '{')) {
        (void)json_scan_skip(scan);
        return delta;
    }
    while (json_scan_member(scan, &name)) {
        struct span *to = span_is(name, "content")             ? &delta.content
                          : span_is(name, "refusal")           ? &delta.refusal
                          : span_is(name, "reasoning_content") ? &delta.reasoning
                          : span_is(name, "reasoning")         ? &reasoning
                                                               : NULL;
        if (to != NULL && json_scan_string(scan, to)) {
            continue;
        }
        struct span value = json_scan_skip(scan);
        if (span_is(name, "tool_calls")) {
            delta.tool_calls = value;
        }
    }
    if (delta.reasoning.len == 0) {
        delta.reasoning = reasoning; /* OpenRouter's name for it; some send both */
    }
    return delta;
}

static void tell_tool_calls(struct ws_answer *answer, int64_t choice, struct span calls, struct ws_out *out) {
    struct json_scan scan = json_scan_of(calls);
    if (!json_scan_enter(&scan, '[')) {
        return;
    }
    while (json_scan_element(&scan)) {
        struct span call = json_scan_skip(&scan);
        if (call.len != 0) {
            send_tool_call(answer, out, choice, call);
            remember_tool(answer, choice, call);
        }
    }
}

static void tell_delta(struct ws_answer *answer, int64_t choice, const struct delta *delta, struct ws_out *out) {
    send_reasoning(answer, out, choice, delta->reasoning);
    send_text(answer, out, "content", choice, delta->content);
    send_text(answer, out, "refusal", choice, delta->refusal);
    remember_text(answer, choice, delta->content);
    remember_text(answer, choice, delta->refusal);
    tell_tool_calls(answer, choice, delta->tool_calls, out);
}

static void hear_choice(struct ws_answer *answer, struct json_scan *scan, struct ws_out *out) {
    struct delta delta = {.content = SPAN_EMPTY};
    struct span finish = SPAN_EMPTY;
    int64_t choice = 0;
    struct span name;
    if (!json_scan_enter(scan, '{')) {
        (void)json_scan_skip(scan);
        return;
    }
    while (json_scan_member(scan, &name)) {
        if (span_is(name, "delta")) {
            delta = read_delta(scan);
        } else if (span_is(name, "index")) {
            choice = read_number(json_scan_skip(scan));
        } else if (!span_is(name, "finish_reason") || !json_scan_string(scan, &finish)) {
            (void)json_scan_skip(scan);
        }
    }
    if (answer->form != WS_FORM_CHUNKS) {
        tell_delta(answer, choice, &delta, out);
    }
    if (finish.len != 0 && choice == 0 && !span_copy(finish, answer->finish_reason, sizeof(answer->finish_reason))) {
        (void)span_copy(SPAN_LITERAL("other"), answer->finish_reason,
                        sizeof(answer->finish_reason)); /* no cut escape */
    }
}

static void hear_choices(struct ws_answer *answer, struct span choices, struct ws_out *out) {
    struct json_scan scan = json_scan_of(choices);
    if (!json_scan_enter(&scan, '[')) {
        return;
    }
    while (json_scan_element(&scan)) {
        hear_choice(answer, &scan, out);
    }
}

static void hear_usage(struct ws_answer *answer, struct span usage) {
    answer->ends_with_usage = usage.len != 0 && usage.base[0] == '{';
    if (answer->ends_with_usage) {
        buffer_clear(&answer->usage);
        ws_message_append_clean(&answer->usage, usage);
    }
}

static void tell_error(struct ws_answer *answer, struct span error, struct ws_out *out) {
    if (!answer->is_failed) {
        answer->is_failed = true;
        buffer_clear(out->text);
        ws_message_write_error(out->text, answer->id, 0, error, 0);
        out->send(out->context, buffer_span(out->text));
    }
}

static void send_chunk(struct span data, struct ws_out *out) {
    buffer_clear(out->text);
    ws_message_append_clean(out->text, data);
    if (!out->text->failed) {
        out->send(out->context, buffer_span(out->text));
    }
}

static void hear_event(struct ws_answer *answer, struct span data, struct ws_out *out) {
    struct json_scan scan = json_scan_of(data);
    struct span choices = SPAN_EMPTY;
    struct span usage = SPAN_EMPTY;
    struct span name;
    if (answer->is_failed || !json_scan_enter(&scan, '{')) {
        return; /* [DONE]: the end is told when the stream ends */
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        if (span_is(name, "error") && value.len != 0 && value.base[0] == '{') {
            tell_error(answer, value, out);
            return;
        }
        if (span_is(name, "choices")) {
            choices = value;
        } else if (span_is(name, "usage")) {
            usage = value;
        }
    }
    if (answer->form == WS_FORM_CHUNKS) {
        send_chunk(data, out);
    }
    hear_choices(answer, choices, out);
    hear_usage(answer, usage);
}

void ws_answer_hear(struct ws_answer *answer, struct span data, struct ws_out *out) {
    answer->told = 0;
    hear_event(answer, data, out);
    release_message(answer, out, true);
}

/* --- the end --- */

static void write_usage(const struct ws_answer *answer, const struct ws_ending *ending, struct buffer *out) {
    if (answer->usage.len != 0 && !answer->usage.failed) {
        buffer_append_span(out, buffer_span(&answer->usage));
    } else {
        chat_chunk_write_usage(out, &ending->tokens, ending->cost_nusd);
    }
}

static void write_finish_reason(const struct ws_answer *answer, const struct ws_ending *ending, struct buffer *out) {
    const char *reason = ending->finish_reason != NULL ? ending->finish_reason : answer->finish_reason;
    buffer_append_text(out, ",\"finish_reason\":");
    if (reason[0] == '\0') {
        buffer_append_text(out, "null");
        return;
    }
    buffer_append_byte(out, '"');
    ws_message_append_clean(out, span_text(reason));
    buffer_append_byte(out, '"');
}

static void end_chunks(struct ws_answer *answer, const struct ws_ending *ending, struct ws_out *out) {
    if (answer->ends_with_usage) {
        return;
    }
    buffer_clear(out->text);
    buffer_format(out->text, "{\"object\":\"chat.completion.chunk\",%s\"choices\":[],\"usage\":", ending->chunk_head);
    write_usage(answer, ending, out->text);
    send_message(answer, out);
}

static void end_stream(struct ws_answer *answer, const struct ws_ending *ending, struct ws_out *out) {
    begin_message(answer, out, "usage");
    buffer_append_text(out->text, ",\"usage\":");
    write_usage(answer, ending, out->text);
    send_message(answer, out);
    begin_message(answer, out, "done");
    if (ending->finish_reason != NULL) {
        write_finish_reason(answer, ending, out->text);
    }
    send_message(answer, out);
}

void ws_answer_end(struct ws_answer *answer, const struct ws_ending *ending, struct ws_out *out) {
    answer->number = 0;
    if (answer->is_failed) {
        return;
    }
    if (answer->form == WS_FORM_CHUNKS) {
        end_chunks(answer, ending, out);
        return;
    }
    if (answer->form == WS_FORM_STREAM) {
        end_stream(answer, ending, out);
        return;
    }
    begin_message(answer, out, "completion.done");
    write_finish_reason(answer, ending, out->text);
    buffer_append_text(out->text, ",\"usage\":");
    write_usage(answer, ending, out->text);
    send_message(answer, out);
}

static void write_tools(const struct ws_answer *answer, struct buffer *out) {
    buffer_append_text(out, ",\"tool_calls\":[");
    for (int i = 0; i < answer->tool_count; i++) {
        const struct ws_tool *tool = &answer->tools[i];
        buffer_append_text(out, i == 0 ? "{\"id\":\"" : ",{\"id\":\"");
        buffer_append_span(out, buffer_span(&tool->id));
        buffer_append_text(out, "\",\"type\":\"function\",\"function\":{\"name\":\"");
        buffer_append_span(out, buffer_span(&tool->name));
        buffer_append_text(out, "\",\"arguments\":\"");
        buffer_append_span(out, buffer_span(&tool->arguments));
        buffer_append_text(out, "\"}}");
    }
    buffer_append_byte(out, ']');
}

bool ws_answer_write_turn(const struct ws_answer *answer, struct buffer *out) {
    if (answer->is_forgotten || answer->is_failed || (answer->said.len == 0 && answer->tool_count == 0)) {
        return false;
    }
    buffer_append_text(out, "{\"role\":\"assistant\",\"content\":");
    if (answer->said.len != 0) {
        buffer_append_byte(out, '"');
        buffer_append_span(out, buffer_span(&answer->said));
        buffer_append_byte(out, '"');
    } else {
        buffer_append_text(out, "null");
    }
    if (answer->tool_count != 0) {
        write_tools(answer, out);
    }
    buffer_append_byte(out, '}');
    return !out->failed;
}
