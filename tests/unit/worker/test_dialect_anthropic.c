#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "worker/dialect_anthropic.h"
#include "worker/sse.h"

#include "answer_testing.h"
#include "fixture_testing.h"

enum { CAP_BYTES = 4 << 20 };

static struct json_doc scratch;

static int make_scratch(void **state) {
    (void)state;
    json_doc_init(&scratch);
    return 0;
}

static int free_scratch(void **state) {
    (void)state;
    json_doc_fini(&scratch);
    return 0;
}

/* Hears one event as if it were the stream's only one, with a sink that forgets. */
static struct answer_event hear(const char *data) {
    struct answer_listener listener;
    struct answer_event out;
    struct answer_event told;
    struct transcript transcript;
    transcript_init(&transcript);
    struct answer_sink sink = transcript_sink(&transcript);
    answer_listener_init(&listener);
    anthropic_hear_event(&listener, &scratch, SPAN_EMPTY, span_text(data), &told, &sink);
    answer_listener_init(&listener);
    anthropic_hear_event(&listener, &scratch, SPAN_EMPTY, span_text(data), &out, NULL);
    assert_true(told.is_invalid || !out.is_invalid);
    transcript_free(&transcript);
    return told;
}

struct heard {
    struct answer_listener listener;
    struct transcript transcript;
    int64_t invalid;
};

static void hear_next(struct heard *heard, const struct sse_event *event) {
    struct answer_event out;
    struct transcript before = heard->transcript;
    struct answer_sink sink = transcript_sink(&heard->transcript);
    if (!event->has_data) {
        return;
    }
    anthropic_hear_event(&heard->listener, &scratch, event->name, event->data, &out, &sink);
    if (out.is_invalid) {
        heard->invalid++;
        assert_int_equal(heard->transcript.parts, before.parts);
    }
}

/* Hears a stream that arrives in two pieces, cut at `cut`, or in pieces of `step`. */
static void hear_stream(struct span text, size_t cut, size_t step, struct heard *heard) {
    struct sse_splitter splitter;
    struct sse_event event;
    *heard = (struct heard){.invalid = 0};
    answer_listener_init(&heard->listener);
    transcript_init(&heard->transcript);
    sse_init(&splitter, CAP_BYTES);
    for (size_t at = 0; at < text.len;) {
        size_t len = at == 0 && cut != 0 ? cut : step;
        struct span input = span_of(text.base + at, len < text.len - at ? len : text.len - at);
        at += input.len;
        while (sse_next(&splitter, &input, &event) == SSE_EVENT) {
            hear_next(heard, &event);
        }
    }
    if (sse_finish(&splitter, &event)) {
        hear_next(heard, &event);
    }
    sse_fini(&splitter);
}

static void expect_count(const struct fixtures *fixtures, int file, const char *field, int64_t got, const char *name) {
    int64_t expected = fixture_expected(fixtures, file, field);
    if (got != (expected < 0 ? 0 : expected)) {
        fail_msg("%s: %s is %lld, not %lld", name, field, (long long)expected, (long long)got);
    }
}

static void expect_text(const struct fixtures *fixtures, int file, const struct transcript *transcript,
                        const char *name) {
    struct buffer plain;
    unsigned char digest[SHA256_BYTES];
    char hex[SHA256_HEX_BYTES];
    char expected[SHA256_HEX_BYTES];
    buffer_init(&plain, TRANSCRIPT_BYTES_MOST);
    unescape_inside(buffer_span(&transcript->content), &plain);
    hash_sha256(buffer_span(&plain), digest);
    hash_hex(digest, SHA256_BYTES, hex);
    int object = json_member(&fixtures->index, file, "expected");
    assert_true(json_string_copy(&fixtures->index, json_member(&fixtures->index, object, "concatenated_text_sha256"),
                                 expected, sizeof(expected)));
    if (strcmp(hex, expected) != 0) {
        fail_msg("%s: another text: %s", name, buffer_text(&plain));
    }
    buffer_fini(&plain);
}

static enum answer_finish finish_of(const char *name) {
    return strcmp(name, "stop") == 0             ? ANSWER_FINISH_STOP
           : strcmp(name, "length") == 0         ? ANSWER_FINISH_LENGTH
           : strcmp(name, "tool_calls") == 0     ? ANSWER_FINISH_TOOL_CALLS
           : strcmp(name, "content_filter") == 0 ? ANSWER_FINISH_CONTENT_FILTER
                                                 : ANSWER_FINISH_NONE;
}

/* Compares what was heard and told with what the index expects. */
static void expect_heard(const struct fixtures *fixtures, int file, const struct heard *heard, const char *name) {
    const struct json_doc *index = &fixtures->index;
    const struct token_counts *tokens = &heard->listener.usage.tokens;
    int expected = json_member(index, file, "expected");
    int extra = json_member(index, file, "extra");
    char finish[ANSWER_FINISH_BYTES] = "";
    assert_int_equal(heard->listener.has_usage, fixture_expected(fixtures, file, "prompt_tokens") >= 0);
    expect_count(fixtures, file, "prompt_tokens", tokens->input_tokens, name);
    expect_count(fixtures, file, "completion_tokens", tokens->output_tokens, name);
    expect_count(fixtures, file, "cached_tokens", tokens->cached_input_tokens, name);
    expect_count(fixtures, file, "cache_write_tokens", tokens->cache_write_tokens, name);
    expect_count(fixtures, file, "reasoning_tokens", tokens->reasoning_tokens, name);
    assert_false(heard->listener.usage.clamped);
    (void)!json_string_copy(index, json_member(index, expected, "finish_reason"), finish, sizeof(finish));
    assert_string_equal(heard->listener.finish_reason, finish);
    assert_int_equal(heard->listener.has_finish, finish[0] != '\0');
    /* Only what was reported at the end counts as final. */
    assert_int_equal(heard->listener.usage.has_output, finish[0] != '\0');
    if (strcmp(finish, "stop_sequence") == 0) {
        assert_int_equal(heard->transcript.finish, ANSWER_FINISH_STOP_SEQUENCE);
        assert_non_null(strstr(buffer_text(&heard->transcript.lines), "finish -1 2   ```"));
    } else {
        finish[0] = '\0';
        (void)!json_string_copy(index, json_member(index, expected, "finish_reason_openai"), finish, sizeof(finish));
        assert_int_equal(heard->transcript.finish, finish_of(finish));
    }
    assert_int_equal(heard->listener.is_error, json_type_of(index, json_member(index, extra, "error")) == JSON_OBJECT);
    expect_count(fixtures, file, "text_bytes", heard->listener.text_bytes[ANSWER_TEXT_CONTENT], name);
    expect_count(fixtures, file, "tool_call_count", heard->transcript.tools, name);
    expect_text(fixtures, file, &heard->transcript, name);
    int64_t reasoning = 0;
    if (json_int(index, json_member(index, extra, "reasoning_text_bytes"), &reasoning)) {
        assert_int_equal(heard->listener.text_bytes[ANSWER_TEXT_REASONING], reasoning);
    }
    int64_t invalid = 0;
    (void)!json_int(index, json_member(index, extra, "non_json_events"), &invalid);
    assert_int_equal(heard->invalid, invalid);
    assert_int_equal(heard->listener.is_done,
                     json_string_is(index, json_member(index, extra, "terminal_event"), "message_stop"));
}

/* The same events with CRLF line ends. */
static void frame_with_crlf(struct span text, struct buffer *out) {
    for (size_t i = 0; i < text.len; i++) {
        buffer_append_text(out, text.base[i] == '\n' ? "\r\n" : "");
        if (text.base[i] != '\n') {
            buffer_append_byte(out, text.base[i]);
        }
    }
}

static void check_stream(const struct fixtures *fixtures, int file, struct span text, const char *name) {
    static const size_t steps[] = {SIZE_MAX, 1, 7, 1000};
    struct heard whole;
    struct heard heard;
    struct buffer crlf;
    hear_stream(text, 0, SIZE_MAX, &whole);
    expect_heard(fixtures, file, &whole, name);
    buffer_init(&crlf, FIXTURE_BYTES_MOST);
    frame_with_crlf(text, &crlf);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        hear_stream(buffer_span(&crlf), 0, steps[i], &heard);
        expect_heard(fixtures, file, &heard, name);
        assert_string_equal(buffer_text(&heard.transcript.lines), buffer_text(&whole.transcript.lines));
        transcript_free(&heard.transcript);
    }
    for (size_t cut = 1; cut < text.len; cut++) {
        hear_stream(text, cut, SIZE_MAX, &heard);
        assert_string_equal(buffer_text(&heard.transcript.lines), buffer_text(&whole.transcript.lines));
        assert_memory_equal(&heard.listener.usage, &whole.listener.usage, sizeof(whole.listener.usage));
        assert_int_equal(estimate_tokens(&heard.listener.output), estimate_tokens(&whole.listener.output));
        transcript_free(&heard.transcript);
    }
    buffer_fini(&crlf);
    transcript_free(&whole.transcript);
}

static void check_message(const struct fixtures *fixtures, int file, struct span text, const char *name) {
    struct heard heard = {.invalid = 0};
    struct answer_listener silent;
    struct answer_event out;
    answer_listener_init(&heard.listener);
    answer_listener_init(&silent);
    transcript_init(&heard.transcript);
    struct answer_sink sink = transcript_sink(&heard.transcript);
    anthropic_hear_answer(&heard.listener, &scratch, text, &out, &sink);
    assert_false(out.is_invalid);
    assert_true(out.has_choices);
    expect_heard(fixtures, file, &heard, name);
    anthropic_hear_answer(&silent, &scratch, text, &out, NULL);
    assert_memory_equal(&silent.usage, &heard.listener.usage, sizeof(silent.usage));
    assert_memory_equal(silent.text_bytes, heard.listener.text_bytes, sizeof(silent.text_bytes));
    transcript_free(&heard.transcript);
}

static void every_recorded_answer_is_told_as_expected(void **state) {
    (void)state;
    struct fixtures fixtures;
    fixtures_load(&fixtures);
    int count = 0;
    for (int file = json_first(&fixtures.index, fixtures.files); file >= 0; file = json_next(&fixtures.index, file)) {
        bool is_stream = fixture_is(&fixtures, file, "kind", "stream");
        if (!fixture_is(&fixtures, file, "api", "anthropic.messages") ||
            (!is_stream && !fixture_is(&fixtures, file, "kind", "json"))) {
            continue;
        }
        char name[FIXTURE_PATH_BYTES];
        struct buffer text;
        fixture_open(&fixtures, file, name, &text);
        if (is_stream) {
            check_stream(&fixtures, file, buffer_span(&text), name);
        } else {
            check_message(&fixtures, file, buffer_span(&text), name);
        }
        buffer_fini(&text);
        count++;
    }
    assert_true(count >= 19);
    fixtures_free(&fixtures);
}

static void expect_parts(const char *file, const char *part) {
    struct buffer text;
    struct heard heard;
    fixture_read(file, &text);
    hear_stream(buffer_span(&text), 0, SIZE_MAX, &heard);
    if (strstr(buffer_text(&heard.transcript.lines), part) == NULL) {
        fail_msg("%s has no '%s': %s", file, part, buffer_text(&heard.transcript.lines));
    }
    transcript_free(&heard.transcript);
    buffer_fini(&text);
}

static void tools_and_thinking_become_parts(void **state) {
    (void)state;
    expect_parts("anthropic/messages-stream-tool.sse",
                 "\ntool 0 0 toolu_01N1ZDRmZU72nRmPs2F1BRwr best_language_to_learn \narguments 0 0   {}\nfinish -1 4");
    expect_parts("anthropic/messages-stream-parallel-tools.sse", "\ntool 1 0 toolu_");
    expect_parts("anthropic/messages-stream-max-tokens-partial-json.sse", "\\n\\\"Filing taxes\nfinish -1 3");
    expect_parts("anthropic/messages-stream-thinking-tool.sse", "returns.\nsignature -1 0   EoQDCm0IDhgC");
    expect_parts("anthropic/messages-stream-redacted-thinking.sse", "\nredacted -1 0   EqkECkYIBxgC");
    expect_parts("anthropic/messages-stream-redacted-thinking.sse", "\nredacted -1 0   EtgBCkYIBxgC");
}

/* Hears data after data and compares the parts. */
static void expect_told(const char *const *events, const char *expected, int64_t invalid) {
    struct heard heard = {.invalid = 0};
    answer_listener_init(&heard.listener);
    transcript_init(&heard.transcript);
    for (; *events != NULL; events++) {
        hear_next(&heard, &(struct sse_event){.data = span_text(*events), .has_data = true});
    }
    assert_string_equal(buffer_text(&heard.transcript.lines), expected);
    assert_int_equal(heard.invalid, invalid);
    transcript_free(&heard.transcript);
}

#define TOOL_START(index, input)                                                                                       \
    "{\"type\":\"content_block_start\",\"index\":" index ",\"content_block\":{\"type\":\"tool_use\",\"id\":\"t" index  \
    "\",\"name\":\"f\",\"input\":" input "}}"
#define TOOL_PIECE(index, piece)                                                                                       \
    "{\"type\":\"content_block_delta\",\"index\":" index                                                               \
    ",\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"" piece "\"}}"
#define BLOCK_STOP(index) "{\"type\":\"content_block_stop\",\"index\":" index "}"
#define MESSAGE_DELTA(reason) "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"" reason "\"},\"usage\":{}}"

static void arguments_arrive_in_every_way(void **state) {
    (void)state;
    const char *pieces[] = {TOOL_START("0", "{}"),
                            TOOL_PIECE("0", ""),
                            TOOL_PIECE("0", "{\\\"a\\\":"),
                            TOOL_PIECE("0", "1}"),
                            BLOCK_STOP("0"),
                            MESSAGE_DELTA("tool_use"),
                            NULL};
    expect_told(pieces, "\ntool 0 0 t0 f \narguments 0 0   {\\\"a\\\":1}\nfinish -1 4   ", 0);
    const char *whole[] = {TOOL_START("0", "{\"a\" : \"\\n\"}"), BLOCK_STOP("0"), TOOL_START("1", "{ }"),
                           MESSAGE_DELTA("tool_use"), NULL};
    expect_told(whole,
                "\ntool 0 0 t0 f \narguments 0 0   {\\\"a\\\" : \\\"\\\\n\\\"}\ntool 1 0 t1 f "
                "\narguments 1 0   {}\nfinish -1 4   ",
                0);
    /* What was cut off before its arguments has none. */
    const char *cut[] = {TOOL_START("0", "{}"), MESSAGE_DELTA("max_tokens"), NULL};
    expect_told(cut, "\ntool 0 0 t0 f \nfinish -1 3   ", 0);
    /* Pieces nobody can place, and pieces on top of a whole. */
    const char *lost[] = {TOOL_START("0", "{}"), TOOL_PIECE("1", "{}"), NULL};
    expect_told(lost, "\ntool 0 0 t0 f ", 1);
    const char *twice[] = {TOOL_START("0", "{\"a\":1}"), TOOL_PIECE("0", "{}"), NULL};
    expect_told(twice, "\ntool 0 0 t0 f \narguments 0 0   {\\\"a\\\":1}", 1);
    const char *none[] = {TOOL_PIECE("0", "{}"), NULL};
    expect_told(none, "", 1);
}

static void usage_of_the_delta_replaces_that_of_the_start(void **state) {
    (void)state;
    struct answer_listener listener;
    struct answer_event out;
    answer_listener_init(&listener);
    anthropic_hear_event(
        &listener, &scratch, SPAN_EMPTY,
        SPAN_LITERAL("{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":10,"
                     "\"cache_read_input_tokens\":5,\"cache_creation\":{\"ephemeral_5m_input_tokens\":3,"
                     "\"ephemeral_1h_input_tokens\":4},\"output_tokens\":9}}}"),
        &out, NULL);
    assert_true(out.has_usage && out.has_choices && !out.is_usage_only);
    assert_int_equal(listener.usage.tokens.input_tokens, 22);
    assert_int_equal(listener.usage.tokens.cached_input_tokens, 5);
    assert_int_equal(listener.usage.tokens.cache_write_tokens, 7);
    assert_false(listener.usage.has_output);
    /* Nothing final came: what the start says is the least. */
    assert_int_equal(answer_output_estimate(&listener), 9);
    anthropic_hear_event(
        &listener, &scratch, SPAN_EMPTY,
        SPAN_LITERAL(
            "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":"
            "4,\"cache_read_input_tokens\":6,\"output_tokens_details\":{\"thinking_tokens\":3}}}"),
        &out, NULL);
    assert_true(listener.usage.has_output && listener.usage.has_input);
    assert_int_equal(listener.usage.tokens.input_tokens, 23);
    assert_int_equal(listener.usage.tokens.cached_input_tokens, 6);
    assert_int_equal(listener.usage.tokens.cache_write_tokens, 7);
    assert_int_equal(listener.usage.tokens.output_tokens, 4);
    assert_int_equal(listener.usage.tokens.reasoning_tokens, 3);
    assert_true(span_starts_with(out.usage_raw, "{\"output_tokens\""));
    assert_false(listener.usage.clamped);
}

static void impossible_usage_is_clamped(void **state) {
    (void)state;
    struct answer_event out = hear("{\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"input_tokens\":1e30,"
                                   "\"cache_read_input_tokens\":7,\"output_tokens\":-1}}");
    assert_true(out.has_usage && out.usage.clamped);
    assert_int_equal(out.usage.tokens.input_tokens, TOKENS_MOST);
    assert_int_equal(out.usage.tokens.cached_input_tokens, 0);
    assert_int_equal(out.usage.tokens.output_tokens, 0);
}

static void events_are_told_apart(void **state) {
    (void)state;
    struct answer_event ping = hear("{\"type\": \"ping\"}");
    assert_false(ping.is_invalid || ping.has_choices || ping.is_done || ping.is_error);
    assert_true(hear("{\"type\":\"message_stop\"}").is_done);
    assert_false(hear("{\"type\":\"message_stop\"}").has_choices);
    struct answer_event newer = hear("{\"type\":\"message_of_tomorrow\",\"x\":[1]}");
    assert_false(newer.is_invalid || newer.has_choices);
    struct answer_event error = hear("{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}");
    assert_true(error.is_error && !error.is_invalid);
    assert_true(span_is(error.error_raw, "{\"type\":\"overloaded_error\"}"));
    assert_true(hear("{\"error\":{\"message\":\"x\"}}").is_error);
    struct answer_listener listener;
    struct answer_event out;
    answer_listener_init(&listener);
    anthropic_hear_event(&listener, &scratch, SPAN_LITERAL("error"), SPAN_LITERAL("oops"), &out, NULL);
    assert_true(out.is_error && out.is_invalid && listener.is_error);
    assert_false(hear("").is_invalid);
    assert_false(
        hear("{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"new_block\"}}").is_invalid);
}

static void what_is_of_another_dialect_is_invalid(void **state) {
    (void)state;
    static const char *const texts[] = {
        "x",
        "7",
        "\"a\"",
        "null",
        "[]",
        "[DONE]",
        "{}",
        "{",
        "{\"type\":7}",
        "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}",
        "{\"type\":\"content_block_delta\"}",
        "{\"type\":\"content_block_delta\",\"delta\":[]}",
        "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}",
        "{\"type\":\"content_block_delta\",\"delta\":{\"type\" \"text_delta\",\"text\":\"a\"}}",
        "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"\x80\"}}",
        "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"\\x\"}}",
        "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"\n\"}}",
        "{\"type\":\"content_block_start\",\"content_block\":null}",
        "{\"type\":\"message_start\"}",
        "{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1x}}}",
        "{\"type\":\"message_delta\",\"delta\":\"\"}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (!hear(texts[i]).is_invalid) {
            fail_msg("%s is not invalid", texts[i]);
        }
    }
    struct buffer deep;
    buffer_init(&deep, 1 << 22);
    buffer_append_text(&deep, "{\"type\":\"content_block_delta\",\"delta\":");
    for (int i = 0; i < 300000; i++) {
        buffer_append_text(&deep, "{\"delta\":");
    }
    assert_true(hear(buffer_text(&deep)).is_invalid);
    buffer_fini(&deep);
}

/* An answer that is cut off anywhere is invalid and leaves nothing behind. */
static void cut_messages_are_invalid(void **state) {
    (void)state;
    struct buffer text;
    fixture_read("anthropic/messages-parallel-tools.json", &text);
    while (text.len != 0 && text.base[text.len - 1] != '}') {
        text.len--;
    }
    for (size_t len = 0; len < text.len; len++) {
        struct answer_listener heard;
        struct answer_event out;
        char *copy = malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy, text.base, len);
        answer_listener_init(&heard);
        anthropic_hear_answer(&heard, &scratch, span_of(copy, len), &out, NULL);
        assert_true(out.is_invalid);
        assert_false(heard.has_usage || heard.has_finish || heard.is_error);
        assert_int_equal(heard.tools, 0);
        assert_int_equal(estimate_tokens(&heard.output), 0);
        free(copy);
    }
    buffer_fini(&text);
}

static void whole_answers_of_another_dialect_are_invalid(void **state) {
    (void)state;
    static const char *const texts[] = {"{\"object\":\"chat.completion\",\"choices\":[]}", "{\"type\":\"message\"}",
                                        "{\"type\":\"message\",\"content\":{}}",
                                        "{\"type\":\"message\",\"content\":[1]}", "[]"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct answer_listener listener;
        struct answer_event out;
        answer_listener_init(&listener);
        anthropic_hear_answer(&listener, &scratch, span_text(texts[i]), &out, NULL);
        assert_true(out.is_invalid);
    }
}

static struct answer_refusal judge(const char *name) {
    struct buffer text;
    fixture_read(name, &text);
    struct answer_refusal refusal = anthropic_judge_refusal(&scratch, buffer_span(&text));
    struct answer_listener listener;
    struct answer_event out;
    answer_listener_init(&listener);
    anthropic_hear_answer(&listener, &scratch, buffer_span(&text), &out, NULL);
    assert_true(out.is_error && !out.is_invalid);
    buffer_fini(&text);
    return refusal;
}

static void refusals_are_judged(void **state) {
    (void)state;
    assert_true(judge("errors/anthropic-400-prompt-too-long.json").is_context_length);
    assert_true(judge("errors/anthropic-401.json").is_credentials);
    assert_true(judge("errors/anthropic-403-permission.json").is_credentials);
    assert_true(judge("errors/anthropic-529.json").is_overloaded);
    static const char *const others[] = {"errors/anthropic-404-model.json", "errors/anthropic-413.json",
                                         "errors/anthropic-429.json", "errors/anthropic-500.json"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct answer_refusal refusal = judge(others[i]);
        assert_false(refusal.is_context_length || refusal.is_credentials || refusal.is_overloaded);
    }
    assert_true(anthropic_judge_refusal(&scratch, SPAN_LITERAL("{\"type\":\"error\",\"error\":{\"type\":"
                                                               "\"invalid_request_error\",\"message\":\"Your credit "
                                                               "balance is too low to access the API.\"}}"))
                    .is_credentials);
    static const char *const bodies[] = {"", "<html>", "[]", "{\"error\":\"prompt is too long\"}", "{\"error\":[]}"};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct answer_refusal refusal = anthropic_judge_refusal(&scratch, span_text(bodies[i]));
        assert_false(refusal.is_context_length || refusal.is_credentials || refusal.is_overloaded);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recorded_answer_is_told_as_expected),
        cmocka_unit_test(tools_and_thinking_become_parts),
        cmocka_unit_test(arguments_arrive_in_every_way),
        cmocka_unit_test(usage_of_the_delta_replaces_that_of_the_start),
        cmocka_unit_test(impossible_usage_is_clamped),
        cmocka_unit_test(events_are_told_apart),
        cmocka_unit_test(what_is_of_another_dialect_is_invalid),
        cmocka_unit_test(cut_messages_are_invalid),
        cmocka_unit_test(whole_answers_of_another_dialect_are_invalid),
        cmocka_unit_test(refusals_are_judged),
    };
    return cmocka_run_group_tests(tests, make_scratch, free_scratch);
}
