#include "worker/chat_writer_gather.h"

#include <stdlib.h>

#include "worker/answer_told.h"
#include "worker/json_scan.h"

void chat_writer_init_choice(struct chat_writer_choice *choice, size_t cap_bytes) {
    *choice = (struct chat_writer_choice){.finish = ANSWER_FINISH_NONE};
    struct buffer *const texts[] = {&choice->unsigned_reasoning, &choice->content, &choice->reasoning, &choice->refusal,
                                    &choice->detail_text,        &choice->logprobs};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        buffer_init(texts[i], cap_bytes);
    }
}

void chat_writer_free_choice(struct chat_writer_choice *choice) {
    for (int64_t i = 0; i < choice->call_count; i++) {
        buffer_fini(&choice->calls[i].head);
        buffer_fini(&choice->calls[i].arguments);
        buffer_fini(&choice->calls[i].signature);
    }
    free(choice->calls);
    buffer_fini(&choice->unsigned_reasoning);
    buffer_fini(&choice->content);
    buffer_fini(&choice->reasoning);
    buffer_fini(&choice->refusal);
    buffer_fini(&choice->detail_text);
    buffer_fini(&choice->logprobs);
}

void chat_writer_count(struct chat_writer *writer, const struct buffer *text, size_t bytes) {
    writer->failed |= text->failed || bytes > writer->cap_bytes - writer->held_bytes;
    writer->held_bytes += writer->failed ? 0 : bytes;
}

void chat_writer_gather(struct chat_writer *writer, struct buffer *text, struct span more) {
    if (more.len != 0) {
        buffer_append_span(text, more);
        chat_writer_count(writer, text, more.len);
    }
}

void chat_writer_keep_reasoning(struct chat_writer *writer, struct chat_writer_choice *choice, struct span text) {
    bool has_room = text.len <= writer->cap_bytes - writer->held_bytes;
    if (writer->reasoning_format == NULL || choice->has_lost_reasoning) {
        return;
    }
    if (!has_room && !writer->is_whole) {
        chat_writer_drop_reasoning(writer, choice);
        choice->has_lost_reasoning = true;
        return;
    }
    chat_writer_gather(writer, &choice->unsigned_reasoning, text);
}

void chat_writer_drop_reasoning(struct chat_writer *writer, struct chat_writer_choice *choice) {
    if (!writer->failed) {
        writer->held_bytes -= choice->unsigned_reasoning.len;
    }
    buffer_fini(&choice->unsigned_reasoning);
}

struct chat_writer_call *chat_writer_find_call(struct chat_writer *writer, struct chat_writer_choice *choice,
                                               int64_t number) {
    if (number < 0 || number >= ANSWER_CALLS_MOST || number > choice->call_count) {
        return NULL; /* readers number calls without gaps */
    }
    if (number < choice->call_count) {
        return &choice->calls[number];
    }
    if (choice->call_count == choice->call_room) {
        int64_t room = choice->call_room != 0 ? choice->call_room * 2 : 4;
        struct chat_writer_call *calls = realloc(choice->calls, (size_t)room * sizeof(struct chat_writer_call));
        if (calls == NULL) {
            writer->failed = true;
            return NULL;
        }
        choice->calls = calls;
        choice->call_room = room;
    }
    struct chat_writer_call *call = &choice->calls[choice->call_count++];
    buffer_init(&call->head, writer->cap_bytes);
    buffer_init(&call->arguments, writer->cap_bytes);
    buffer_init(&call->signature, writer->cap_bytes);
    chat_writer_count(writer, &call->head, sizeof(struct chat_writer_call));
    return call;
}

/* Adds the elements of the logprobs' content to those before. */
static void gather_logprobs(struct chat_writer *writer, struct chat_writer_choice *choice, struct span json) {
    struct json_scan scan = json_scan_of(json);
    struct span name;
    if (!json_scan_enter(&scan, '{')) {
        return;
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        struct json_scan elements = json_scan_of(value);
        if (!span_is(name, "content") || !json_scan_enter(&elements, '[')) {
            continue;
        }
        while (json_scan_element(&elements)) {
            struct span element = json_scan_skip(&elements);
            chat_writer_gather(writer, &choice->logprobs, choice->logprobs.len != 0 ? SPAN_LITERAL(",") : SPAN_EMPTY);
            chat_writer_gather(writer, &choice->logprobs, element);
        }
    }
}

void chat_writer_gather_plain(struct chat_writer *writer, struct chat_writer_choice *choice,
                              const struct answer_part *part) {
    struct chat_writer_call *call = NULL;
    switch (part->kind) {
    case ANSWER_PART_TEXT:
        chat_writer_gather(writer, &choice->content, part->text);
        break;
    case ANSWER_PART_REASONING:
        chat_writer_keep_reasoning(writer, choice, part->text);
        chat_writer_gather(writer, &choice->reasoning, part->text);
        break;
    case ANSWER_PART_REFUSAL:
        chat_writer_gather(writer, &choice->refusal, part->text);
        break;
    case ANSWER_PART_ARGUMENTS:
        call = part->tool < choice->call_count ? chat_writer_find_call(writer, choice, part->tool) : NULL;
        if (call != NULL) {
            chat_writer_gather(writer, &call->arguments, part->text);
        }
        break;
    case ANSWER_PART_LOGPROBS:
        gather_logprobs(writer, choice, part->text);
        break;
    case ANSWER_PART_FINISH:
        choice->finish = choice->finish == ANSWER_FINISH_NONE ? part->finish : choice->finish;
        break;
    default:
        break;
    }
}

void chat_writer_append_json(struct buffer *out, struct span json) {
    char *to = buffer_reserve(out, json.len);
    for (size_t i = 0; to != NULL && i < json.len; i++) {
        to[i] = json.base[i] == '\n' || json.base[i] == '\r' ? ' ' : json.base[i];
    }
    if (to != NULL) {
        buffer_added(out, json.len);
    }
}
