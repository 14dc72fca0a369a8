#include "worker/messages_writer.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/json_write.h"

enum block_kind { BLOCK_NONE, BLOCK_TEXT, BLOCK_THINKING, BLOCK_REDACTED, BLOCK_TOOL };

/* A block that waits until the one before it is over. Its texts are escaped. */
struct messages_held {
    enum block_kind kind;
    int64_t tool;
    bool is_signed;
    struct buffer id;
    struct buffer name;
    struct buffer text; /* or arguments, or redacted data */
    struct buffer signature;
};

/* One block's beginning, wherever its texts lie. */
struct beginning {
    enum block_kind kind;
    int64_t tool;
    struct span id;
    struct span name;
    struct span data; /* of redacted thinking */
};

void messages_writer_init(struct messages_writer *writer, const char *id, const char *model, int64_t input_tokens,
                          bool is_stream, size_t cap_bytes) {
    *writer = (struct messages_writer){
        .input_tokens = input_tokens, .cap_bytes = cap_bytes, .is_stream = is_stream, .open_tool = -1};
    (void)span_copy(span_text(id), writer->id, sizeof(writer->id));
    (void)span_copy(span_text(model), writer->model, sizeof(writer->model));
    buffer_init(&writer->content, cap_bytes);
    buffer_init(&writer->text, cap_bytes);
    buffer_init(&writer->signature, cap_bytes);
    buffer_init(&writer->stop_sequence, cap_bytes);
}

static void free_held(struct messages_held *held) {
    buffer_fini(&held->id);
    buffer_fini(&held->name);
    buffer_fini(&held->text);
    buffer_fini(&held->signature);
}

void messages_writer_free(struct messages_writer *writer) {
    for (int i = 0; i < writer->held_count; i++) {
        free_held(&writer->held[i]);
    }
    free(writer->held);
    writer->held = NULL;
    writer->held_count = 0;
    buffer_fini(&writer->content);
    buffer_fini(&writer->text);
    buffer_fini(&writer->signature);
    buffer_fini(&writer->stop_sequence);
}

static void append_quoted(struct buffer *out, struct span inside) {
    buffer_append_byte(out, '"');
    buffer_append_span(out, inside);
    buffer_append_byte(out, '"');
}

/* The usage object: what is cached or written is not part of input_tokens here. */
static void append_usage(struct buffer *out, const struct token_counts *tokens) {
    struct json_writer json = json_writer_on(out);
    json_begin_object(&json, NULL);
    json_write_int(&json, "input_tokens",
                   tokens->input_tokens - tokens->cached_input_tokens - tokens->cache_write_tokens);
    json_write_int(&json, "cache_creation_input_tokens", tokens->cache_write_tokens);
    json_write_int(&json, "cache_read_input_tokens", tokens->cached_input_tokens);
    json_write_int(&json, "output_tokens", tokens->output_tokens);
    if (tokens->reasoning_tokens > 0) {
        json_begin_object(&json, "output_tokens_details");
        json_write_int(&json, "thinking_tokens", tokens->reasoning_tokens);
        json_end_object(&json);
    }
    json_end_object(&json);
}

/* The members every message begins with, up to its content. */
static void append_head(const struct messages_writer *writer, struct buffer *out) {
    buffer_append_text(out, "{\"id\":");
    json_quote(out, span_text(writer->id));
    buffer_append_text(out, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    json_quote(out, span_text(writer->model));
    buffer_append_text(out, ",\"content\":[");
}

void messages_writer_start(struct messages_writer *writer, struct buffer *out) {
    if (writer->has_started) {
        return;
    }
    writer->has_started = true;
    buffer_append_text(out, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
    append_head(writer, out);
    buffer_append_text(out, "],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
    append_usage(out, &(struct token_counts){.input_tokens = writer->input_tokens});
    buffer_append_text(out, "}}\n\n");
}

/* What a block's object says when it begins, the texts that follow left out. */
static void append_block_head(const struct messages_writer *writer, const struct beginning *block, struct buffer *out) {
    switch (block->kind) {
    case BLOCK_THINKING:
        buffer_append_text(out, "{\"type\":\"thinking\"");
        break;
    case BLOCK_REDACTED:
        buffer_append_text(out, "{\"type\":\"redacted_thinking\",\"data\":");
        append_quoted(out, block->data);
        break;
    case BLOCK_TOOL:
        buffer_append_text(out, "{\"type\":\"tool_use\",\"id\":");
        if (block->id.len != 0) {
            append_quoted(out, block->id);
        } else {
            /* Some servers give none, but the client answers with it. */
            const char *own = strncmp(writer->id, "msg_", 4) == 0 ? writer->id + 4 : writer->id;
            buffer_append_text(out, "\"toolu_");
            buffer_append_text(out, own);
            buffer_format(out, "_%" PRId64 "\"", writer->tools);
        }
        buffer_append_text(out, ",\"name\":");
        append_quoted(out, block->name);
        break;
    default:
        buffer_append_text(out, "{\"type\":\"text\"");
        break;
    }
}

static void append_start_event(const struct messages_writer *writer, const struct beginning *block,
                               struct buffer *out) {
    buffer_format(out,
                  "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":%" PRId64
                  ",\"content_block\":",
                  writer->blocks);
    append_block_head(writer, block, out);
    buffer_append_text(out, block->kind == BLOCK_TEXT       ? ",\"text\":\"\""
                            : block->kind == BLOCK_THINKING ? ",\"thinking\":\"\",\"signature\":\"\""
                            : block->kind == BLOCK_TOOL     ? ",\"input\":{}"
                                                            : "");
    buffer_append_text(out, "}}\n\n");
}

static void begin_block(struct messages_writer *writer, const struct beginning *block, struct buffer *out) {
    if (writer->is_stream) {
        append_start_event(writer, block, out);
    } else {
        buffer_append_text(&writer->content, writer->blocks != 0 ? "," : "");
        append_block_head(writer, block, &writer->content);
    }
    writer->open_kind = (uint8_t)block->kind;
    writer->open_tool = block->kind == BLOCK_TOOL ? block->tool : -1;
    memset(&writer->arguments, 0, sizeof(writer->arguments));
    writer->blocks++;
    writer->tools += block->kind == BLOCK_TOOL;
}

/* A delta of the open block: its type is named after its member. */
static void append_delta(struct messages_writer *writer, const char *type, const char *member, struct span text,
                         struct buffer *out) {
    buffer_format(out,
                  "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":%" PRId64
                  ",\"delta\":{\"type\":\"%s\",\"%s\":",
                  writer->blocks - 1, type, member);
    append_quoted(out, text);
    buffer_append_text(out, "}}\n\n");
}

/* Steps over one byte of a call's arguments. */
static void scan_argument(struct messages_writer *writer, char byte) {
    if (writer->arguments.in_string) {
        bool closes = byte == '"' && !writer->arguments.is_escaped;
        writer->arguments.is_escaped = byte == '\\' && !writer->arguments.is_escaped;
        writer->arguments.in_string = !closes;
    } else if (byte == '"') {
        writer->arguments.in_string = true;
    } else if (byte == '{' || byte == '[') {
        writer->arguments.has_begun = true;
        writer->arguments.depth++;
    } else if ((byte == '}' || byte == ']') && writer->arguments.depth != 0) {
        writer->arguments.depth--;
    }
    writer->arguments.is_over = writer->arguments.has_begun && writer->arguments.depth == 0;
}

/* Follows the brackets of arguments, which stand escaped: \" is a quote and \\ a backslash of the JSON within. */
static void scan_arguments(struct messages_writer *writer, struct span inside) {
    for (size_t i = 0; i < inside.len; i++) {
        char byte = inside.base[i];
        if (byte == '\\' && i + 1 < inside.len) {
            byte = inside.base[++i];
            if (byte == 'u' && inside.len - i > 4) {
                static const char marks[] = "\"\\{}[]";
                static const char *const codes[] = {"0022", "005c", "007b", "007d", "005b", "005d"};
                byte = ' ';
                for (size_t mark = 0; mark + 1 < sizeof(marks); mark++) {
                    byte = strncasecmp(inside.base + i + 1, codes[mark], 4) == 0 ? marks[mark] : byte;
                }
                i += 4;
            } else if (byte != '"' && byte != '\\') {
                byte = ' ';
            }
        }
        scan_argument(writer, byte);
    }
}

static void add_arguments(struct messages_writer *writer, struct span text, struct buffer *out) {
    if (text.len == 0) {
        return;
    }
    scan_arguments(writer, text);
    writer->arguments.has_any = true;
    buffer_append_span(&writer->text, text);
    if (writer->is_stream) {
        append_delta(writer, "input_json_delta", "partial_json", text, out);
    }
}

static void add_text(struct messages_writer *writer, struct span text, struct buffer *out) {
    if (!writer->is_stream) {
        buffer_append_span(&writer->text, text);
    } else if (text.len != 0 && writer->open_kind == BLOCK_TEXT) {
        append_delta(writer, "text_delta", "text", text, out);
    } else if (text.len != 0) {
        append_delta(writer, "thinking_delta", "thinking", text, out);
    }
}

static void add_signature(struct messages_writer *writer, struct span text, struct buffer *out) {
    if (!writer->is_stream) {
        buffer_append_span(&writer->signature, text);
    } else {
        append_delta(writer, "signature_delta", "signature", text, out);
    }
}

/* The open call's arguments must be an object. What is none is noted, and an empty one stands for it: appended to
 * `input`, unless that is NULL. */
static void check_input(struct messages_writer *writer, struct buffer *input) {
    struct buffer quoted;
    struct buffer plain;
    struct json_doc doc;
    json_doc_init(&doc);
    buffer_init(&quoted, writer->text.len + 2);
    buffer_init(&plain, writer->text.len);
    append_quoted(&quoted, buffer_span(&writer->text));
    bool is_read = !writer->text.failed && !quoted.failed && json_parse(&doc, buffer_span(&quoted)) &&
                   json_string(&doc, 0, &plain);
    bool is_object =
        is_read && plain.len != 0 && json_parse(&doc, buffer_span(&plain)) && json_type_of(&doc, 0) == JSON_OBJECT;
    writer->has_bad_arguments |= !is_object && (!is_read || plain.len != 0);
    if (input != NULL) {
        buffer_append_span(input, is_object ? json_raw(&doc, 0) : SPAN_LITERAL("{}"));
    }
    buffer_fini(&quoted);
    buffer_fini(&plain);
    json_doc_fini(&doc);
}

/* Writes what a whole message's open block gathered. */
static void close_whole(struct messages_writer *writer) {
    struct buffer *content = &writer->content;
    if (writer->open_kind == BLOCK_TOOL) {
        buffer_append_text(content, ",\"input\":");
        check_input(writer, content);
    } else if (writer->open_kind != BLOCK_REDACTED) {
        buffer_append_text(content, writer->open_kind == BLOCK_TEXT ? ",\"text\":" : ",\"thinking\":");
        append_quoted(content, buffer_span(&writer->text));
    }
    if (writer->open_kind == BLOCK_THINKING) {
        buffer_append_text(content, ",\"signature\":");
        append_quoted(content, buffer_span(&writer->signature));
    }
    buffer_append_byte(content, '}');
    content->failed |= writer->text.failed || writer->signature.failed;
    buffer_clear(&writer->text);
    buffer_clear(&writer->signature);
}

static void close_block(struct messages_writer *writer, struct buffer *out) {
    if (writer->open_kind == BLOCK_NONE) {
        return;
    }
    if (!writer->is_stream) {
        close_whole(writer);
    } else {
        if (writer->open_kind == BLOCK_TOOL && !writer->arguments.has_any) {
            append_delta(writer, "input_json_delta", "partial_json", SPAN_LITERAL("{}"), out);
        } else if (writer->open_kind == BLOCK_TOOL) {
            check_input(writer, NULL);
            buffer_fini(&writer->text);
        }
        buffer_format(out,
                      "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":%" PRId64 "}\n\n",
                      writer->blocks - 1);
    }
    writer->open_kind = BLOCK_NONE;
    writer->open_tool = -1;
}

static struct messages_held *hold_block(struct messages_writer *writer, const struct beginning *block) {
    if (writer->held == NULL) {
        writer->held = calloc(MESSAGES_HELD_MOST, sizeof(*writer->held));
    }
    if (writer->held == NULL || writer->held_count == MESSAGES_HELD_MOST) {
        return NULL;
    }
    struct messages_held *held = &writer->held[writer->held_count++];
    *held = (struct messages_held){.kind = block->kind, .tool = block->tool};
    buffer_init(&held->id, writer->cap_bytes);
    buffer_init(&held->name, writer->cap_bytes);
    buffer_init(&held->text, writer->cap_bytes);
    buffer_init(&held->signature, writer->cap_bytes);
    buffer_append_span(&held->id, block->id);
    buffer_append_span(&held->name, block->name);
    buffer_append_span(&held->text, block->data);
    writer->held_bytes += block->id.len + block->name.len + block->data.len;
    return writer->held_bytes > writer->cap_bytes || held->id.failed || held->name.failed || held->text.failed ? NULL
                                                                                                               : held;
}

/* Appends to a held block's text. */
static bool hold_text(struct messages_writer *writer, struct buffer *to, struct span text) {
    writer->held_bytes += text.len;
    buffer_append_span(to, text);
    return writer->held_bytes <= writer->cap_bytes && !to->failed;
}

/* Is the open block a call whose arguments are not complete? */
static bool must_wait(const struct messages_writer *writer) {
    return writer->open_kind == BLOCK_TOOL && !writer->arguments.is_over;
}

/* Writes the oldest held block; it becomes the open one. */
static void release_one(struct messages_writer *writer, struct buffer *out) {
    struct messages_held held = writer->held[0];
    memmove(writer->held, writer->held + 1, (size_t)--writer->held_count * sizeof(held));
    struct span text = buffer_span(&held.text);
    close_block(writer, out);
    begin_block(writer,
                &(struct beginning){.kind = held.kind,
                                    .tool = held.tool,
                                    .id = buffer_span(&held.id),
                                    .name = buffer_span(&held.name),
                                    .data = text},
                out);
    if (held.kind == BLOCK_TOOL) {
        add_arguments(writer, text, out);
    } else if (held.kind != BLOCK_REDACTED) {
        add_text(writer, text, out);
    }
    if (held.is_signed) {
        add_signature(writer, buffer_span(&held.signature), out);
    }
    writer->held_bytes -= held.id.len + held.name.len + held.text.len + held.signature.len;
    free_held(&held);
}

/* Writes what no longer has to wait; at the end of the answer that is all. */
static void release_held(struct messages_writer *writer, bool is_end, struct buffer *out) {
    while (writer->held_count != 0 && (is_end || !must_wait(writer))) {
        release_one(writer, out);
    }
}

/* A new block: the open one ends, or, when it cannot yet, the new one waits. */
static bool take_block(struct messages_writer *writer, const struct beginning *block, struct buffer *out) {
    if (must_wait(writer) || writer->held_count != 0) {
        return hold_block(writer, block) != NULL;
    }
    close_block(writer, out);
    begin_block(writer, block, out);
    return true;
}

/* Text or thinking: more of the last block when that is of this kind, else a new one. A signature ends its thinking. */
static bool take_text(struct messages_writer *writer, enum block_kind kind, struct span text, struct buffer *out) {
    struct messages_held *last = writer->held_count != 0 ? &writer->held[writer->held_count - 1] : NULL;
    bool goes_on = last != NULL ? last->kind == kind && !last->is_signed : writer->open_kind == kind;
    if (text.len == 0) {
        return true;
    }
    if (!goes_on) {
        if (!take_block(writer, &(struct beginning){.kind = kind, .tool = -1}, out)) {
            return false;
        }
        last = writer->held_count != 0 ? &writer->held[writer->held_count - 1] : NULL;
    }
    if (last != NULL) {
        return hold_text(writer, &last->text, text);
    }
    add_text(writer, text, out);
    return true;
}

static bool take_signature(struct messages_writer *writer, struct span text, struct buffer *out) {
    struct messages_held *last = writer->held_count != 0 ? &writer->held[writer->held_count - 1] : NULL;
    bool goes_on = last != NULL ? last->kind == BLOCK_THINKING : writer->open_kind == BLOCK_THINKING;
    if (!goes_on) {
        /* Thinking that the provider keeps to itself still comes with its signature. */
        if (!take_block(writer, &(struct beginning){.kind = BLOCK_THINKING, .tool = -1}, out)) {
            return false;
        }
        last = writer->held_count != 0 ? &writer->held[writer->held_count - 1] : NULL;
    }
    if (last != NULL) {
        last->is_signed = true;
        return hold_text(writer, &last->signature, text);
    }
    add_signature(writer, text, out);
    close_block(writer, out);
    return true;
}

static bool take_arguments(struct messages_writer *writer, const struct answer_part *part, struct buffer *out) {
    if (part->tool == writer->open_tool && writer->open_kind == BLOCK_TOOL) {
        add_arguments(writer, part->text, out);
        release_held(writer, false, out);
        return true;
    }
    for (int i = 0; i < writer->held_count; i++) {
        if (writer->held[i].kind == BLOCK_TOOL && writer->held[i].tool == part->tool) {
            return hold_text(writer, &writer->held[i].text, part->text);
        }
    }
    return part->text.len == 0;
}

bool messages_writer_part(struct messages_writer *writer, const struct answer_part *part, struct buffer *out) {
    if (part->choice != 0) {
        return true;
    }
    if (writer->is_stream) {
        messages_writer_start(writer, out);
    }
    switch (part->kind) {
    case ANSWER_PART_REFUSAL:
        writer->has_refused = true;
        return take_text(writer, BLOCK_TEXT, part->text, out);
    case ANSWER_PART_TEXT:
        return take_text(writer, BLOCK_TEXT, part->text, out);
    case ANSWER_PART_REASONING:
        return take_text(writer, BLOCK_THINKING, part->text, out);
    case ANSWER_PART_SIGNATURE:
        return part->tool >= 0 || part->text.len == 0 || take_signature(writer, part->text, out);
    case ANSWER_PART_REDACTED:
        return take_block(writer, &(struct beginning){.kind = BLOCK_REDACTED, .tool = -1, .data = part->text}, out);
    case ANSWER_PART_TOOL:
        return take_block(
            writer, &(struct beginning){.kind = BLOCK_TOOL, .tool = part->tool, .id = part->id, .name = part->name},
            out);
    case ANSWER_PART_ARGUMENTS:
        return take_arguments(writer, part, out);
    case ANSWER_PART_FINISH:
        writer->finish = part->finish;
        buffer_clear(&writer->stop_sequence);
        buffer_append_span(&writer->stop_sequence, part->text);
        return true;
    case ANSWER_PART_LOGPROBS:
        return true;
    }
    return true;
}

/* Some servers say "stop" beside tool calls, which a client would then not run. */
static const char *find_stop_reason(const struct messages_writer *writer) {
    switch (writer->finish) {
    case ANSWER_FINISH_LENGTH:
        return "max_tokens";
    case ANSWER_FINISH_CONTENT_FILTER:
        return "refusal";
    case ANSWER_FINISH_STOP_SEQUENCE:
        return "stop_sequence";
    default:
        return writer->has_refused ? "refusal" : writer->tools != 0 ? "tool_use" : "end_turn";
    }
}

static void append_stop(const struct messages_writer *writer, struct buffer *out) {
    buffer_format(out, "\"stop_reason\":\"%s\",\"stop_sequence\":", find_stop_reason(writer));
    if (writer->finish == ANSWER_FINISH_STOP_SEQUENCE && writer->stop_sequence.len != 0) {
        append_quoted(out, buffer_span(&writer->stop_sequence));
    } else {
        buffer_append_text(out, "null");
    }
}

/* Arguments may be cut short by what ended the answer; else they are to be whole. */
static bool has_sound_arguments(const struct messages_writer *writer) {
    return !writer->has_bad_arguments || writer->finish == ANSWER_FINISH_LENGTH ||
           writer->finish == ANSWER_FINISH_CONTENT_FILTER;
}

bool messages_writer_end(struct messages_writer *writer, enum answer_finish finish, const struct token_counts *tokens,
                         struct buffer *out) {
    writer->finish = finish != ANSWER_FINISH_NONE ? finish : writer->finish;
    messages_writer_start(writer, out);
    release_held(writer, true, out);
    close_block(writer, out);
    if (!has_sound_arguments(writer)) {
        return false;
    }
    buffer_append_text(out, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
    append_stop(writer, out);
    buffer_append_text(out, "},\"usage\":");
    append_usage(out, tokens);
    buffer_append_text(out, "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    return !out->failed;
}

bool messages_writer_write_whole(struct messages_writer *writer, const struct token_counts *tokens,
                                 struct buffer *out) {
    release_held(writer, true, out);
    close_block(writer, out);
    append_head(writer, out);
    buffer_append_span(out, buffer_span(&writer->content));
    buffer_append_text(out, "],");
    append_stop(writer, out);
    buffer_append_text(out, ",\"usage\":");
    append_usage(out, tokens);
    buffer_append_byte(out, '}');
    return has_sound_arguments(writer) && !writer->content.failed && !writer->stop_sequence.failed && !out->failed;
}
