/* What an OpenAI-dialect upstream answers: a text that begins with a brace or bracket is heard as a whole answer and as
 * an event, all else as a stream. Counts stay in bounds, spans lie in the text, a cost that is added leaves valid JSON
 * with the same usage, and the parts make a chat answer. */
#include "fuzz.h"
#include "fuzz_parts.h"
#include "worker/dialect_openai.h"
#include "worker/sse.h"

enum { CAP_BYTES = 1 << 20, COST_NUSD = 12500 };

static struct json_doc scratch;

static struct fuzz_parts parts;

static void expect_inside(struct span part, struct span whole) {
    CHECK(part.len == 0 || (part.base >= whole.base && part.base + part.len <= whole.base + whole.len));
}

static void expect_counts(const struct token_counts *tokens) {
    CHECK(tokens->input_tokens >= 0 && tokens->input_tokens <= TOKENS_MOST);
    CHECK(tokens->output_tokens >= 0 && tokens->output_tokens <= TOKENS_MOST);
    CHECK(tokens->reasoning_tokens >= 0 && tokens->reasoning_tokens <= TOKENS_MOST);
    CHECK(tokens->cached_input_tokens >= 0 && tokens->cache_write_tokens >= 0);
    CHECK(tokens->cached_input_tokens + tokens->cache_write_tokens <= tokens->input_tokens);
}

static void expect_sound(const struct answer_event *event, struct span data) {
    expect_inside(event->usage_raw, data);
    expect_inside(event->error_raw, data);
    CHECK(memchr(event->finish_reason, '\0', sizeof(event->finish_reason)) != NULL);
    CHECK(event->choice_count >= 0);
    for (int kind = 0; kind < ANSWER_TEXT_KINDS; kind++) {
        CHECK(event->text_bytes[kind] >= 0 && (uint64_t)event->text_bytes[kind] <= data.len);
    }
    CHECK(!event->is_usage_only || event->has_usage);
    CHECK(!event->has_usage || event->usage_raw.len != 0);
    if (event->has_usage) {
        expect_counts(&event->usage.tokens);
    }
}

/* Adds a cost to an event that was heard in `data`, and hears it again. */
static void splice_cost(const struct answer_event *event, struct span data, bool is_answer) {
    struct buffer out;
    struct answer_listener listener;
    struct answer_event again;
    bool was_strict = json_parse(&scratch, data);
    buffer_init(&out, data.len + 4096);
    CHECK(openai_add_cost(data, event->usage_raw, COST_NUSD, &out));
    CHECK(!was_strict || json_parse(&scratch, buffer_span(&out)));
    answer_listener_init(&listener);
    if (is_answer) {
        openai_hear_answer(&listener, &scratch, buffer_span(&out), &again, NULL);
    } else {
        openai_hear_event(&listener, &scratch, SPAN_EMPTY, buffer_span(&out), &again, NULL);
    }
    CHECK(again.has_usage && !again.is_invalid);
    CHECK(memcmp(&again.usage.tokens, &event->usage.tokens, sizeof(again.usage.tokens)) == 0);
    buffer_fini(&out);
}

static void expect_listener(const struct answer_listener *listener) {
    CHECK(answer_output_estimate(listener) >= 0);
    if (listener->has_usage) {
        expect_counts(&listener->usage.tokens);
    }
}

static bool has_word(struct span data, const char *word) {
    return memmem(data.base, data.len, word, strlen(word)) != NULL;
}

/* Other providers' answers are whole objects and yet none of this dialect. */
static bool may_be_foreign(struct span data) {
    return has_word(data, "candidates") || has_word(data, "message") || has_word(data, "content_block_");
}

static void hear_whole(struct span data, bool is_answer) {
    struct answer_listener listener;
    struct answer_event event;
    answer_listener_init(&listener);
    if (is_answer) {
        openai_hear_answer(&listener, &scratch, data, &event, NULL);
    } else {
        openai_hear_event(&listener, &scratch, SPAN_EMPTY, data, &event, NULL);
    }
    CHECK(!event.is_invalid || !json_parse(&scratch, data) || json_type_of(&scratch, 0) != JSON_OBJECT ||
          may_be_foreign(data));
    expect_sound(&event, data);
    expect_listener(&listener);
    if (event.has_usage) {
        splice_cost(&event, data, is_answer);
    }
}

static void hear_stream(struct span text) {
    struct sse_splitter splitter;
    struct sse_event cut;
    struct answer_listener listener;
    struct answer_event event;
    answer_listener_init(&listener);
    sse_init(&splitter, CAP_BYTES);
    while (sse_next(&splitter, &text, &cut) == SSE_EVENT) {
        openai_hear_event(&listener, &scratch, cut.name, cut.data, &event, NULL);
        expect_sound(&event, cut.data);
        if (event.has_usage) {
            splice_cost(&event, cut.data, false);
        }
    }
    if (sse_finish(&splitter, &cut)) {
        openai_hear_event(&listener, &scratch, cut.name, cut.data, &event, NULL);
        expect_sound(&event, cut.data);
    }
    expect_listener(&listener);
    sse_fini(&splitter);
}

/* Hears it for its parts. */
static void tell_whole(struct span data, bool is_answer) {
    struct answer_listener listener;
    struct answer_event event;
    answer_listener_init(&listener);
    fuzz_parts_begin(&parts);
    if (is_answer) {
        openai_hear_answer(&listener, &scratch, data, &event, &parts.sink);
    } else {
        openai_hear_event(&listener, &scratch, SPAN_EMPTY, data, &event, &parts.sink);
    }
    CHECK(event.is_invalid || event.is_done || data.len == 0 || json_parse(&scratch, data));
    fuzz_parts_end(&parts, !event.is_invalid && !event.is_error);
}

static void tell_stream(struct span text) {
    struct sse_splitter splitter;
    struct sse_event cut;
    struct answer_listener listener;
    struct answer_event event = {.is_done = false};
    answer_listener_init(&listener);
    fuzz_parts_begin(&parts);
    sse_init(&splitter, CAP_BYTES);
    while (!event.is_invalid && sse_next(&splitter, &text, &cut) == SSE_EVENT) {
        openai_hear_event(&listener, &scratch, cut.name, cut.data, &event, &parts.sink);
    }
    fuzz_parts_end(&parts, !event.is_invalid);
    sse_fini(&splitter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct span text = fuzz_span(data, size);
    if (size != 0 && (data[0] == '{' || data[0] == '[')) {
        hear_whole(text, true);
        hear_whole(text, false);
        tell_whole(text, true);
        tell_whole(text, false);
    } else {
        hear_stream(text);
        tell_stream(text);
    }
    return 0;
}
