/* What a Gemini upstream answers: a text that begins with a brace is heard as a whole answer and as an event, one with
 * a bracket as an error body and as a stream of elements, all else as an event stream. Counts stay in bounds, spans lie
 * in the text, the same is heard with and without a sink, and the parts make a chat answer. */
#include "fuzz.h"
#include "fuzz_parts.h"
#include "worker/dialect_gemini.h"
#include "worker/json_elements.h"

enum { CAP_BYTES = 1 << 20 };

static struct json_doc scratch;
static struct fuzz_parts parts;

static void expect_sound(const struct answer_event *event, struct span data) {
    const struct span spans[] = {event->usage_raw, event->error_raw};
    for (size_t i = 0; i < 2; i++) {
        CHECK(spans[i].len == 0 ||
              (spans[i].base >= data.base && spans[i].base + spans[i].len <= data.base + data.len));
    }
    CHECK(memchr(event->finish_reason, '\0', sizeof(event->finish_reason)) != NULL);
    CHECK(event->choice_count >= 0 && !event->is_done);
    CHECK(!event->is_invalid || (!event->has_choices && !event->has_usage && !event->has_finish));
    for (int kind = 0; kind < ANSWER_TEXT_KINDS; kind++) {
        CHECK(event->text_bytes[kind] >= 0 && (uint64_t)event->text_bytes[kind] <= data.len);
    }
    const struct token_counts *tokens = &event->usage.tokens;
    CHECK(tokens->input_tokens >= 0 && tokens->input_tokens <= TOKENS_MOST);
    CHECK(tokens->output_tokens >= tokens->reasoning_tokens && tokens->output_tokens <= TOKENS_MOST);
    CHECK(tokens->cached_input_tokens >= 0 && tokens->cached_input_tokens <= tokens->input_tokens);
    CHECK(tokens->reasoning_tokens >= 0 && event->usage.unexplained_tokens >= 0);
}

/* Hears an event with the sink, and without; returns whether it was a good one. */
static bool hear_event(struct answer_listener *listener, struct answer_listener *alone, struct span name,
                       struct span data) {
    struct answer_event event;
    struct answer_event quiet;
    gemini_hear_event(alone, &scratch, name, data, &quiet, NULL);
    gemini_hear_event(listener, &scratch, name, data, &event, &parts.sink);
    expect_sound(&event, data);
    CHECK(event.is_invalid == quiet.is_invalid && event.is_error == quiet.is_error);
    CHECK(memcmp(event.text_bytes, quiet.text_bytes, sizeof(event.text_bytes)) == 0);
    CHECK(strcmp(event.finish_reason, quiet.finish_reason) == 0);
    return !event.is_invalid && !event.is_error;
}

static void hear_answer(struct span data) {
    struct answer_listener listener;
    struct answer_event event;
    struct answer_refusal refusal;
    answer_listener_init(&listener);
    fuzz_parts_begin(&parts);
    gemini_hear_answer(&listener, &scratch, data, &event, &parts.sink);
    expect_sound(&event, data);
    fuzz_parts_end(&parts, !event.is_invalid && !event.is_error);
    gemini_judge_refusal(&scratch, data, &refusal);
    CHECK(refusal.retry_after_ms >= 0 && refusal.retry_after_ms <= 86400000);
}

static void hear_elements(struct span text, struct answer_listener *listener, struct answer_listener *alone) {
    struct json_elements elements;
    struct span element;
    bool is_good = true;
    json_elements_init(&elements, CAP_BYTES);
    while (is_good && json_elements_next(&elements, &text, &element) == JSON_ELEMENTS_ONE) {
        is_good = hear_event(listener, alone, SPAN_EMPTY, element);
    }
    gemini_hear_end(listener, &parts.sink);
    fuzz_parts_end(&parts, is_good);
    json_elements_fini(&elements);
}

static void hear_stream(struct span text, struct answer_listener *listener, struct answer_listener *alone) {
    struct sse_splitter splitter;
    struct sse_event cut;
    bool is_good = true;
    sse_init(&splitter, CAP_BYTES);
    while (is_good && sse_next(&splitter, &text, &cut) == SSE_EVENT) {
        is_good = hear_event(listener, alone, cut.name, cut.data);
    }
    gemini_hear_end(listener, &parts.sink);
    fuzz_parts_end(&parts, is_good);
    sse_fini(&splitter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct span text = fuzz_span(data, size);
    struct answer_listener listener;
    struct answer_listener alone;
    bool is_json = size != 0 && (data[0] == '{' || data[0] == '[');
    if (is_json) {
        hear_answer(text);
    }
    answer_listener_init(&listener);
    answer_listener_init(&alone);
    fuzz_parts_begin(&parts);
    if (is_json && data[0] == '[') {
        hear_elements(text, &listener, &alone);
    } else if (is_json) {
        bool is_good = hear_event(&listener, &alone, SPAN_EMPTY, text);
        gemini_hear_end(&listener, &parts.sink);
        fuzz_parts_end(&parts, is_good);
    } else {
        hear_stream(text, &listener, &alone);
    }
    CHECK(answer_output_estimate(&listener) == answer_output_estimate(&alone));
    return 0;
}
