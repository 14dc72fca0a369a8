/* tests/fuzz/fuzz_parts.h - checks the parts that a reader tells: they are sound, their texts are whole insides of JSON
 * strings, a choice ends once; and what a chat_writer makes of them is heard again as a chat answer. */
#ifndef TOLLGATE_TESTS_FUZZ_PARTS_H
#define TOLLGATE_TESTS_FUZZ_PARTS_H

#include "fuzz.h"
#include "worker/answer_told.h"
#include "worker/chat_writer.h"
#include "worker/dialect_openai.h"
#include "worker/sse.h"

enum { FUZZ_PARTS_BYTES = 32 << 20, FUZZ_PARTS_CAP = 1 << 20 };

struct fuzz_parts {
    struct answer_told told;
    struct answer_sink sink;
    struct chat_writer stream;
    struct chat_writer whole;
    struct buffer out;
    int64_t calls[ANSWER_CHOICES_MOST];
    int64_t finishes[ANSWER_CHOICES_MOST];
    int64_t text_bytes[ANSWER_PART_FINISH + 1];
    bool has_written; /* nothing was refused for want of room */
    bool has_whole;
};

static struct json_doc fuzz_parts_doc;

static inline void fuzz_expect_inside(struct span inside) {
    struct buffer quoted;
    buffer_init(&quoted, inside.len + 2);
    buffer_append_byte(&quoted, '"');
    if (inside.len != 0) {
        buffer_append_span(&quoted, inside);
    }
    buffer_append_byte(&quoted, '"');
    CHECK(json_parse(&fuzz_parts_doc, buffer_span(&quoted)) && json_type_of(&fuzz_parts_doc, 0) == JSON_STRING);
    buffer_fini(&quoted);
}

/* answer_sink.on_part */
static inline void fuzz_on_part(void *context, const struct answer_part *part) {
    struct fuzz_parts *parts = context;
    CHECK(answer_told_has_room(part->choice));
    if (part->kind == ANSWER_PART_TOOL) {
        CHECK(part->tool == parts->calls[part->choice]++);
        fuzz_expect_inside(part->id);
        fuzz_expect_inside(part->name);
    } else if (part->kind == ANSWER_PART_FINISH) {
        CHECK(parts->finishes[part->choice]++ == 0 && part->finish != ANSWER_FINISH_NONE);
    } else {
        CHECK(part->text.len != 0 && part->tool < parts->calls[part->choice]);
        CHECK(part->kind != ANSWER_PART_ARGUMENTS || part->tool >= 0);
        if (part->kind == ANSWER_PART_LOGPROBS) {
            CHECK(json_parse(&fuzz_parts_doc, part->text));
        } else {
            fuzz_expect_inside(part->text);
        }
    }
    parts->text_bytes[part->kind] += (int64_t)part->text.len;
    parts->has_written = parts->has_written && chat_writer_part(&parts->stream, part, &parts->out);
    parts->has_whole = parts->has_whole && chat_writer_part(&parts->whole, part, NULL);
}

static inline void fuzz_parts_begin(struct fuzz_parts *parts) {
    memset(parts, 0, sizeof(*parts));
    answer_told_init(&parts->told);
    parts->sink = (struct answer_sink){.on_part = fuzz_on_part, .context = parts, .told = &parts->told};
    chat_writer_init(&parts->stream, "chatcmpl-1", "m", 1, "f", false, FUZZ_PARTS_CAP);
    chat_writer_init(&parts->whole, "chatcmpl-1", "m", 1, "f", true, FUZZ_PARTS_CAP);
    buffer_init(&parts->out, FUZZ_PARTS_BYTES);
    parts->has_written = true;
    parts->has_whole = true;
}

/* answer_sink.on_part: of what was written */
static inline void fuzz_count_part(void *context, const struct answer_part *part) {
    int64_t *text_bytes = context;
    text_bytes[part->kind] += (int64_t)part->text.len;
}

static inline void fuzz_expect_same(const struct fuzz_parts *parts, const int64_t *text_bytes) {
    CHECK(text_bytes[ANSWER_PART_TEXT] == parts->text_bytes[ANSWER_PART_TEXT]);
    CHECK(text_bytes[ANSWER_PART_REASONING] == parts->text_bytes[ANSWER_PART_REASONING]);
    CHECK(text_bytes[ANSWER_PART_REFUSAL] == parts->text_bytes[ANSWER_PART_REFUSAL]);
    CHECK(text_bytes[ANSWER_PART_ARGUMENTS] == parts->text_bytes[ANSWER_PART_ARGUMENTS]);
}

static inline void fuzz_parts_hear_stream(const struct fuzz_parts *parts) {
    struct sse_splitter splitter;
    struct sse_event event;
    struct answer_listener listener;
    struct answer_event heard;
    int64_t text_bytes[ANSWER_PART_FINISH + 1] = {0};
    static struct answer_told told;
    answer_told_init(&told);
    const struct answer_sink sink = {.on_part = fuzz_count_part, .context = text_bytes, .told = &told};
    struct span text = buffer_span(&parts->out);
    answer_listener_init(&listener);
    sse_init(&splitter, FUZZ_PARTS_BYTES);
    while (sse_next(&splitter, &text, &event) == SSE_EVENT) {
        CHECK(event.has_data && event.data_in_raw);
        openai_hear_event(&listener, &fuzz_parts_doc, event.name, event.data, &heard, &sink);
        CHECK(!heard.is_invalid && !heard.is_error);
    }
    CHECK(listener.is_done && listener.has_finish && listener.has_usage);
    fuzz_expect_same(parts, text_bytes);
    sse_fini(&splitter);
}

static inline void fuzz_parts_hear_whole(struct fuzz_parts *parts, const struct token_counts *tokens) {
    struct answer_listener listener;
    struct answer_event heard;
    int64_t text_bytes[ANSWER_PART_FINISH + 1] = {0};
    static struct answer_told told;
    answer_told_init(&told);
    const struct answer_sink sink = {.on_part = fuzz_count_part, .context = text_bytes, .told = &told};
    buffer_clear(&parts->out);
    if (!chat_writer_write_whole(&parts->whole, tokens, -1, &parts->out)) {
        return;
    }
    answer_listener_init(&listener);
    openai_hear_answer(&listener, &fuzz_parts_doc, buffer_span(&parts->out), &heard, &sink);
    CHECK(!heard.is_invalid && heard.has_finish && heard.has_usage);
    fuzz_expect_same(parts, text_bytes);
}

/* Ends both answers and hears them, unless the reader found the events to be invalid or an error. */
static inline void fuzz_parts_end(struct fuzz_parts *parts, bool is_good) {
    const struct token_counts tokens = {.input_tokens = 3, .output_tokens = 2};
    if (is_good && parts->has_written &&
        chat_writer_end(&parts->stream, ANSWER_FINISH_NONE, true, &tokens, 5, &parts->out)) {
        fuzz_parts_hear_stream(parts);
    }
    if (is_good && parts->has_whole) {
        fuzz_parts_hear_whole(parts, &tokens);
    }
    chat_writer_fini(&parts->stream);
    chat_writer_fini(&parts->whole);
    buffer_fini(&parts->out);
}

#endif
