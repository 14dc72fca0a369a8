/* What an Anthropic upstream answers: a text that begins with a brace or bracket is heard as a whole message and as an
 * event, all else as a stream. Counts stay in bounds, spans lie in the text, and what is told is written anew, as a
 * stream and as a whole message, that a reader hears without a fault. */
#include "fuzz.h"
#include "worker/dialect_anthropic.h"
#include "worker/messages_writer.h"
#include "worker/sse.h"

enum { CAP_BYTES = 1 << 20, HELD_BYTES = 4096 };

static struct json_doc scratch;

/* The parts go to a writer of either kind, until one of them cannot be told. */
struct retelling {
    struct messages_writer stream;
    struct messages_writer whole;
    struct buffer out;
    bool is_told;
};

/* Implements answer_sink.on_part. */
static void on_part(void *context, const struct answer_part *part) {
    struct retelling *retelling = context;
    CHECK(part->choice == 0 && part->tool >= -1);
    retelling->is_told = retelling->is_told && messages_writer_part(&retelling->stream, part, &retelling->out) &&
                         messages_writer_part(&retelling->whole, part, &retelling->out);
}

static void expect_counts(const struct token_counts *tokens) {
    CHECK(tokens->input_tokens >= 0 && tokens->input_tokens <= TOKENS_MOST);
    CHECK(tokens->output_tokens >= 0 && tokens->output_tokens <= TOKENS_MOST);
    CHECK(tokens->reasoning_tokens >= 0 && tokens->reasoning_tokens <= tokens->output_tokens);
    CHECK(tokens->cached_input_tokens >= 0 && tokens->cache_write_tokens >= 0);
    CHECK(tokens->cached_input_tokens + tokens->cache_write_tokens <= tokens->input_tokens);
}

static void expect_inside(struct span part, struct span whole) {
    CHECK(part.len == 0 || (part.base >= whole.base && part.base + part.len <= whole.base + whole.len));
}

static void expect_sound(const struct answer_event *event, struct span data) {
    expect_inside(event->usage_raw, data);
    expect_inside(event->error_raw, data);
    CHECK(memchr(event->finish_reason, '\0', sizeof(event->finish_reason)) != NULL);
    for (int kind = 0; kind < ANSWER_TEXT_KINDS; kind++) {
        CHECK(event->text_bytes[kind] >= 0 && (uint64_t)event->text_bytes[kind] <= data.len);
    }
    CHECK(!event->is_invalid || !(event->has_usage || event->has_finish || event->has_choices || event->is_done));
    if (event->has_usage) {
        expect_counts(&event->usage.tokens);
    }
}

static void start(struct retelling *retelling) {
    messages_writer_init(&retelling->stream, "msg_1", "m", 1, true, HELD_BYTES);
    messages_writer_init(&retelling->whole, "msg_1", "m", 1, false, CAP_BYTES);
    buffer_init(&retelling->out, CAP_BYTES * 8);
    retelling->is_told = true;
}

static void expect_stream(struct span text) {
    struct sse_splitter splitter;
    struct sse_event cut;
    struct answer_listener listener;
    struct answer_event event;
    answer_listener_init(&listener);
    sse_init(&splitter, CAP_BYTES * 8);
    while (sse_next(&splitter, &text, &cut) == SSE_EVENT) {
        CHECK(json_parse(&scratch, cut.data));
        anthropic_hear_event(&listener, &scratch, cut.name, cut.data, &event, NULL);
        CHECK(!event.is_invalid && !event.is_error);
    }
    CHECK(listener.is_done && listener.has_finish);
    sse_fini(&splitter);
}

/* The answer is over: both retellings are whole. */
static void finish(struct retelling *retelling, const struct answer_listener *listener) {
    struct answer_listener again;
    struct answer_event event;
    CHECK(answer_output_estimate(listener) >= 0);
    if (listener->has_usage) {
        expect_counts(&listener->usage.tokens);
    }
    if (retelling->is_told) {
        bool is_whole =
            messages_writer_end(&retelling->stream, ANSWER_FINISH_NONE, &listener->usage.tokens, &retelling->out);
        CHECK(!retelling->out.failed);
        if (is_whole) {
            expect_stream(buffer_span(&retelling->out));
        }
        buffer_clear(&retelling->out);
        if (messages_writer_write_whole(&retelling->whole, &listener->usage.tokens, &retelling->out) &&
            json_parse(&scratch, buffer_span(&retelling->out))) { /* which arguments 128 deep are not */
            answer_listener_init(&again);
            anthropic_hear_answer(&again, &scratch, buffer_span(&retelling->out), &event, NULL);
            CHECK(!event.is_invalid && !event.is_error);
        }
    }
    messages_writer_free(&retelling->stream);
    messages_writer_free(&retelling->whole);
    buffer_fini(&retelling->out);
}

static void hear_whole(struct span data, bool is_answer) {
    struct answer_listener listener;
    struct answer_event event;
    struct retelling retelling;
    struct answer_sink sink = {.on_part = on_part, .context = &retelling};
    start(&retelling);
    answer_listener_init(&listener);
    if (is_answer) {
        anthropic_hear_answer(&listener, &scratch, data, &event, &sink);
    } else {
        anthropic_hear_event(&listener, &scratch, SPAN_EMPTY, data, &event, &sink);
    }
    expect_sound(&event, data);
    retelling.is_told &= !event.is_invalid;
    finish(&retelling, &listener);
}

/* Listens only and tells: both must hear the same. */
static void hear_stream(struct span text) {
    struct sse_splitter splitter;
    struct sse_event cut;
    struct answer_listener listener;
    struct answer_listener silent;
    struct answer_event event;
    struct retelling retelling;
    struct answer_sink sink = {.on_part = on_part, .context = &retelling};
    start(&retelling);
    answer_listener_init(&listener);
    sse_init(&splitter, CAP_BYTES);
    while (sse_next(&splitter, &text, &cut) == SSE_EVENT) {
        silent = listener;
        anthropic_hear_event(&listener, &scratch, cut.name, cut.data, &event, &sink);
        expect_sound(&event, cut.data);
        if (event.is_invalid) {
            retelling.is_told = false;
            continue;
        }
        anthropic_hear_event(&silent, &scratch, cut.name, cut.data, &event, NULL);
        expect_sound(&event, cut.data);
        CHECK(memcmp(silent.text_bytes, listener.text_bytes, sizeof(silent.text_bytes)) == 0);
        CHECK(silent.tools == listener.tools && silent.is_done == listener.is_done);
    }
    finish(&retelling, &listener);
    sse_fini(&splitter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct span text = fuzz_span(data, size);
    if (size != 0 && (data[0] == '{' || data[0] == '[')) {
        hear_whole(text, true);
        hear_whole(text, false);
        (void)anthropic_judge_refusal(&scratch, text);
    } else {
        hear_stream(text);
    }
    return 0;
}
