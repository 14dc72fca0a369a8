#include "worker/chat_writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/json_write.h"
#include "worker/answer_told.h"
#include "worker/chat_chunk.h"
#include "worker/chat_writer_gather.h"

/* Appends the inside of a JSON string. Readers that only scan may let control bytes through, which would break the line
 * of an event. */
static void append_inside(struct buffer *out, struct span inside) {
    size_t from = 0;
    for (size_t at = 0; at < inside.len; at++) {
        if ((unsigned char)inside.base[at] < 0x20) {
            buffer_append(out, inside.base + from, at - from);
            buffer_format(out, "\\u%04x", (unsigned)(unsigned char)inside.base[at]);
            from = at + 1;
        }
    }
    if (from != inside.len) {
        buffer_append(out, inside.base + from, inside.len - from);
    }
}

/* Appends "name":"inside". */
static void append_member(struct buffer *out, const char *name, struct span inside) {
    buffer_append_byte(out, '"');
    buffer_append_text(out, name);
    buffer_append_text(out, "\":\"");
    append_inside(out, inside);
    buffer_append_byte(out, '"');
}

static const char *finish_text(enum answer_finish finish) {
    switch (finish) {
    case ANSWER_FINISH_LENGTH:
        return "length";
    case ANSWER_FINISH_TOOL_CALLS:
        return "tool_calls";
    case ANSWER_FINISH_CONTENT_FILTER:
        return "content_filter";
    default:
        return "stop";
    }
}

void chat_writer_init(struct chat_writer *writer, const char *id, const char *model, int64_t created_s,
                      const char *reasoning_format, bool is_whole, size_t cap_bytes) {
    *writer = (struct chat_writer){.reasoning_format = reasoning_format, .is_whole = is_whole, .cap_bytes = cap_bytes};
    (void)span_copy(span_text(id), writer->id, sizeof(writer->id));
    buffer_init(&writer->head, (sizeof(writer->id) + strlen(model)) * 6 + 256);
    struct json_writer json = json_writer_on(&writer->head);
    json_begin_object(&json, NULL);
    json_write_text(&json, "id", writer->id);
    json_write_text(&json, "object", is_whole ? "chat.completion" : "chat.completion.chunk");
    json_write_int(&json, "created", created_s);
    json_write_text(&json, "model", model);
    writer->failed = writer->head.failed;
}

void chat_writer_fini(struct chat_writer *writer) {
    for (int64_t i = 0; i < writer->choice_count; i++) {
        chat_writer_free_choice(&writer->choices[i]);
    }
    free(writer->choices);
    buffer_fini(&writer->head);
    *writer = (struct chat_writer){.failed = true};
}

/* The choice of that index, made with those before it when it is new; NULL when there can be none. */
static struct chat_writer_choice *find_choice(struct chat_writer *writer, int64_t index) {
    if (index >= writer->choice_count) {
        struct chat_writer_choice *choices =
            realloc(writer->choices, (size_t)(index + 1) * sizeof(struct chat_writer_choice));
        if (choices == NULL) {
            writer->failed = true;
            return NULL;
        }
        writer->choices = choices;
        while (writer->choice_count <= index) {
            chat_writer_init_choice(&choices[writer->choice_count++], writer->cap_bytes);
        }
    }
    return &writer->choices[index];
}

/* --- a stream --- */

static void begin_chunk(const struct chat_writer *writer, struct buffer *out) {
    buffer_append_text(out, "data: ");
    buffer_append_span(out, buffer_span(&writer->head));
    buffer_append_text(out, ",\"choices\":[");
}

/* Opens a chunk of one choice up to the inside of its delta, the role first when it is the choice's first chunk.
 * `has_content`: its content follows; else a first chunk says that there is none yet. */
static void begin_delta(const struct chat_writer *writer, struct chat_writer_choice *choice, int64_t index,
                        bool has_content, struct buffer *out) {
    begin_chunk(writer, out);
    buffer_format(out, "{\"index\":%" PRId64 ",\"delta\":{", index);
    if (!choice->has_begun) {
        buffer_append_text(out, has_content ? "\"role\":\"assistant\"," : "\"role\":\"assistant\",\"content\":null,");
    }
    choice->has_begun = true;
}

static void end_delta(struct buffer *out) { buffer_append_text(out, "},\"finish_reason\":null}]}\n\n"); }

static void write_text(const struct chat_writer *writer, struct chat_writer_choice *choice,
                       const struct answer_part *part, const char *name, struct buffer *out) {
    begin_delta(writer, choice, part->choice, part->kind == ANSWER_PART_TEXT, out);
    append_member(out, name, part->text);
    end_delta(out);
}

/* Appends a reasoning detail; for a signature with the reasoning gathered before it. */
static void append_detail(const struct chat_writer *writer, struct chat_writer_choice *choice,
                          const struct answer_part *part, struct buffer *out) {
    bool is_signature = part->kind == ANSWER_PART_SIGNATURE;
    buffer_append_text(out, is_signature ? "{\"type\":\"reasoning.text\"," : "{\"type\":\"reasoning.encrypted\",");
    if (is_signature) {
        append_member(out, "text", buffer_span(&choice->unsigned_reasoning));
        buffer_append_byte(out, ',');
    }
    append_member(out, is_signature ? "signature" : "data", part->text);
    if (writer->reasoning_format != NULL) {
        buffer_format(out, ",\"format\":\"%s\"", writer->reasoning_format);
    }
    buffer_format(out, ",\"index\":%" PRId64 "}", choice->details++);
}

/* A signature without all that it vouches for would only be refused. */
static bool is_useless(const struct chat_writer_choice *choice, const struct answer_part *part) {
    return part->kind == ANSWER_PART_SIGNATURE && choice->has_lost_reasoning;
}

static void write_detail(struct chat_writer *writer, struct chat_writer_choice *choice, const struct answer_part *part,
                         struct buffer *out) {
    if (is_useless(choice, part)) {
        choice->has_lost_reasoning = false;
        return;
    }
    begin_delta(writer, choice, part->choice, false, out);
    buffer_append_text(out, "\"reasoning_details\":[");
    append_detail(writer, choice, part, out);
    buffer_append_byte(out, ']');
    end_delta(out);
    if (part->kind == ANSWER_PART_SIGNATURE) {
        chat_writer_drop_reasoning(writer, choice);
    }
}

/* An id for a call that has none: the same for the same answer, choice and call. */
static void append_call_id(const struct chat_writer *writer, const struct answer_part *part, struct buffer *out) {
    if (part->id.len != 0) {
        append_inside(out, part->id);
        return;
    }
    uint64_t seed = (uint64_t)part->choice << 32 | (uint64_t)part->tool;
    buffer_format(out, "call_%016" PRIx64 "%08" PRIx64, hash_fast(span_text(writer->id), seed), seed & UINT32_MAX);
}

static void append_call_head(const struct chat_writer *writer, const struct answer_part *part, struct buffer *out) {
    buffer_append_text(out, "\"id\":\"");
    append_call_id(writer, part, out);
    buffer_append_text(out, "\",\"type\":\"function\",\"function\":{");
    append_member(out, "name", part->name);
    buffer_append_text(out, ",\"arguments\":\"");
}

static void append_call_signature(struct span signature, struct buffer *out) {
    buffer_append_text(out, ",\"extra_content\":{\"google\":{");
    append_member(out, "thought_signature", signature);
    buffer_append_text(out, "}}");
}

static void write_call(const struct chat_writer *writer, struct chat_writer_choice *choice,
                       const struct answer_part *part, struct buffer *out) {
    begin_delta(writer, choice, part->choice, false, out);
    buffer_format(out, "\"tool_calls\":[{\"index\":%" PRId64 ",", part->tool);
    if (part->kind == ANSWER_PART_TOOL) {
        append_call_head(writer, part, out);
        buffer_append_text(out, "\"}");
    } else if (part->kind == ANSWER_PART_ARGUMENTS) {
        buffer_append_text(out, "\"function\":{");
        append_member(out, "arguments", part->text);
        buffer_append_byte(out, '}');
    } else {
        /* Clients look into `function` of every piece. */
        buffer_append_text(out, "\"function\":{\"arguments\":\"\"}");
        append_call_signature(part->text, out);
    }
    buffer_append_text(out, "}]");
    end_delta(out);
}

static void write_logprobs(const struct chat_writer *writer, struct chat_writer_choice *choice,
                           const struct answer_part *part, struct buffer *out) {
    begin_delta(writer, choice, part->choice, true, out);
    if (out->len != 0 && out->base[out->len - 1] == ',') {
        buffer_truncate(out, out->len - 1);
    }
    buffer_append_text(out, "},\"logprobs\":");
    chat_writer_append_json(out, part->text);
    buffer_append_text(out, ",\"finish_reason\":null}]}\n\n");
}

static void write_finish(const struct chat_writer *writer, struct chat_writer_choice *choice, int64_t index,
                         enum answer_finish finish, struct buffer *out) {
    if (!choice->has_begun) {
        begin_delta(writer, choice, index, true, out);
        buffer_append_text(out, "\"content\":\"\"");
        end_delta(out);
    }
    choice->finish = finish;
    begin_chunk(writer, out);
    buffer_format(out, "{\"index\":%" PRId64 ",\"delta\":{},\"finish_reason\":\"%s\"}]}\n\n", index,
                  finish_text(finish));
}

static void write_part(struct chat_writer *writer, struct chat_writer_choice *choice, const struct answer_part *part,
                       struct buffer *out) {
    switch (part->kind) {
    case ANSWER_PART_TEXT:
        write_text(writer, choice, part, "content", out);
        break;
    case ANSWER_PART_REASONING:
        chat_writer_keep_reasoning(writer, choice, part->text);
        write_text(writer, choice, part, "reasoning_content", out);
        break;
    case ANSWER_PART_REFUSAL:
        write_text(writer, choice, part, "refusal", out);
        break;
    case ANSWER_PART_SIGNATURE:
        if (part->tool < 0) {
            write_detail(writer, choice, part, out);
            break;
        }
        write_call(writer, choice, part, out);
        break;
    case ANSWER_PART_REDACTED:
        write_detail(writer, choice, part, out);
        break;
    case ANSWER_PART_TOOL:
    case ANSWER_PART_ARGUMENTS:
        choice->has_calls = true;
        write_call(writer, choice, part, out);
        break;
    case ANSWER_PART_LOGPROBS:
        write_logprobs(writer, choice, part, out);
        break;
    case ANSWER_PART_FINISH:
        if (choice->finish == ANSWER_FINISH_NONE) {
            write_finish(writer, choice, part->choice, part->finish, out);
        }
        break;
    }
}

/* --- a whole answer --- */

/* Appends a member of the text that was gathered, or null. */
static void append_gathered(struct buffer *out, const char *name, const struct buffer *text, const char *otherwise) {
    if (text->len != 0) {
        append_member(out, name, buffer_span(text));
    } else {
        buffer_format(out, "\"%s\":%s", name, otherwise);
    }
}

static void append_gathered_calls(const struct chat_writer_choice *choice, struct buffer *out) {
    buffer_append_text(out, ",\"tool_calls\":[");
    for (int64_t i = 0; i < choice->call_count; i++) {
        const struct chat_writer_call *call = &choice->calls[i];
        buffer_append_text(out, i != 0 ? ",{" : "{");
        buffer_append_span(out, buffer_span(&call->head));
        append_inside(out, buffer_span(&call->arguments));
        buffer_append_text(out, "\"}");
        if (call->signature.len != 0) {
            append_call_signature(buffer_span(&call->signature), out);
        }
        buffer_append_byte(out, '}');
    }
    buffer_append_byte(out, ']');
}

static void append_choice(const struct chat_writer_choice *choice, int64_t index, struct buffer *out) {
    buffer_format(out, "{\"index\":%" PRId64 ",\"message\":{\"role\":\"assistant\",", index);
    bool has_none = choice->call_count != 0 || choice->refusal.len != 0;
    append_gathered(out, "content", &choice->content, has_none ? "null" : "\"\"");
    buffer_append_byte(out, ',');
    append_gathered(out, "refusal", &choice->refusal, "null");
    if (choice->reasoning.len != 0) {
        buffer_append_byte(out, ',');
        append_member(out, "reasoning_content", buffer_span(&choice->reasoning));
    }
    if (choice->detail_text.len != 0) {
        buffer_append_text(out, ",\"reasoning_details\":[");
        buffer_append_span(out, buffer_span(&choice->detail_text));
        buffer_append_byte(out, ']');
    }
    if (choice->call_count != 0) {
        append_gathered_calls(choice, out);
    }
    buffer_append_text(out, "},\"logprobs\":");
    if (choice->logprobs.len != 0) {
        buffer_append_text(out, "{\"content\":[");
        buffer_append_span(out, buffer_span(&choice->logprobs));
        buffer_append_text(out, "],\"refusal\":null}");
    } else {
        buffer_append_text(out, "null");
    }
    enum answer_finish otherwise = choice->call_count != 0 ? ANSWER_FINISH_TOOL_CALLS : ANSWER_FINISH_STOP;
    buffer_format(out, ",\"finish_reason\":\"%s\"}",
                  finish_text(choice->finish != ANSWER_FINISH_NONE ? choice->finish : otherwise));
}

static void gather_detail(struct chat_writer *writer, struct chat_writer_choice *choice,
                          const struct answer_part *part) {
    struct buffer *text = &choice->detail_text;
    size_t before = text->len;
    if (before != 0) {
        buffer_append_byte(text, ',');
    }
    append_detail(writer, choice, part, text);
    chat_writer_count(writer, text, text->len - before);
    if (part->kind == ANSWER_PART_SIGNATURE) {
        chat_writer_drop_reasoning(writer, choice);
    }
}

static void gather_call(struct chat_writer *writer, struct chat_writer_choice *choice, const struct answer_part *part) {
    struct chat_writer_call *call = chat_writer_find_call(writer, choice, part->tool);
    if (call == NULL) {
        return;
    }
    if (part->kind == ANSWER_PART_SIGNATURE) {
        chat_writer_gather(writer, &call->signature, part->text);
    } else if (call->head.len == 0) {
        append_call_head(writer, part, &call->head);
        chat_writer_count(writer, &call->head, call->head.len);
    }
}

/* Gathers a part; chat_writer_gather.c takes those whose form does not depend on this file. */
static void gather_part(struct chat_writer *writer, struct chat_writer_choice *choice, const struct answer_part *part) {
    bool is_of_call = part->kind == ANSWER_PART_SIGNATURE && part->tool >= 0;
    if (part->kind == ANSWER_PART_TOOL || is_of_call) {
        gather_call(writer, choice, part);
    } else if (part->kind == ANSWER_PART_SIGNATURE || part->kind == ANSWER_PART_REDACTED) {
        gather_detail(writer, choice, part);
    } else {
        chat_writer_gather_plain(writer, choice, part);
    }
}

/* --- both --- */

bool chat_writer_part(struct chat_writer *writer, const struct answer_part *part, struct buffer *out) {
    if (writer->failed || !answer_told_has_room(part->choice)) {
        return !writer->failed;
    }
    struct chat_writer_choice *choice = find_choice(writer, part->choice);
    if (choice == NULL) {
        return false;
    }
    choice->is_used = true;
    if (writer->is_whole) {
        gather_part(writer, choice, part);
        return !writer->failed;
    }
    write_part(writer, choice, part, out);
    return !writer->failed && !out->failed;
}

/* Makes sure of a choice 0: an answer may say nothing at all. False when the writer failed. */
static bool has_any_choice(struct chat_writer *writer) {
    struct chat_writer_choice *first = writer->failed ? NULL : find_choice(writer, 0);
    if (first == NULL) {
        return false;
    }
    first->is_used = true;
    return true;
}

bool chat_writer_end(struct chat_writer *writer, enum answer_finish finish, bool with_usage,
                     const struct token_counts *tokens, int64_t cost_nusd, struct buffer *out) {
    CHECK(!writer->is_whole);
    if (!has_any_choice(writer)) {
        return false;
    }
    for (int64_t i = 0; i < writer->choice_count; i++) {
        struct chat_writer_choice *choice = &writer->choices[i];
        enum answer_finish fitting = choice->has_calls ? ANSWER_FINISH_TOOL_CALLS : ANSWER_FINISH_STOP;
        if (choice->is_used && choice->finish == ANSWER_FINISH_NONE) {
            write_finish(writer, choice, i, finish != ANSWER_FINISH_NONE ? finish : fitting, out);
        }
    }
    if (with_usage) {
        begin_chunk(writer, out);
        buffer_append_text(out, "],\"usage\":");
        chat_chunk_write_usage(out, tokens, cost_nusd);
        buffer_append_text(out, "}\n\n");
    }
    buffer_append_text(out, "data: [DONE]\n\n");
    return !out->failed;
}

bool chat_writer_write_whole(struct chat_writer *writer, const struct token_counts *tokens, int64_t cost_nusd,
                             struct buffer *out) {
    CHECK(writer->is_whole);
    bool is_first = true;
    if (!has_any_choice(writer)) {
        return false;
    }
    buffer_append_span(out, buffer_span(&writer->head));
    buffer_append_text(out, ",\"choices\":[");
    for (int64_t i = 0; i < writer->choice_count; i++) {
        if (writer->choices[i].is_used) {
            buffer_append_text(out, is_first ? "" : ",");
            append_choice(&writer->choices[i], i, out);
            is_first = false;
        }
    }
    buffer_append_text(out, "],\"usage\":");
    chat_chunk_write_usage(out, tokens, cost_nusd);
    buffer_append_byte(out, '}');
    return !out->failed;
}
