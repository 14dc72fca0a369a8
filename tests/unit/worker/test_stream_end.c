#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/dialect_openai.h"
#include "worker/sse.h"
#include "worker/stream_end.h"

#include "fixture_testing.h"

enum { CAP_BYTES = 4 << 20 };

static const struct token_counts tokens = {
    .input_tokens = 11, .cached_input_tokens = 3, .cache_write_tokens = 2, .output_tokens = 7, .reasoning_tokens = 4};

static void expect_end(const struct stream_end *end, bool with_usage, const char *expected) {
    struct buffer out;
    buffer_init(&out, CAP_BYTES);
    stream_end_write(&out, end, with_usage, &tokens, 12500);
    assert_string_equal(buffer_text(&out), expected);
    buffer_fini(&out);
}

static struct stream_end note(enum client_form form, const char *name, const char *data) {
    struct stream_end end;
    stream_end_init(&end, form);
    stream_end_note(&end, span_text(name), span_text(data));
    return end;
}

static void completions_end_as_their_upstream_would(void **state) {
    (void)state;
    struct stream_end end =
        note(CLIENT_COMPLETIONS, "",
             "{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":17,\"choices\":[{\"text\":\" +\",\"index\":"
             "0,\"logprobs\":null,\"finish_reason\":null}],\"model\":\"m\",\"usage\":null}");
    stream_end_note(&end, SPAN_EMPTY, SPAN_LITERAL("{\"id\":\"other\"}"));
    expect_end(&end, false,
               "data: {\"object\":\"text_completion\",\"id\":\"cmpl-1\",\"created\":17,\"model\":\"m\",\"choices\":[{"
               "\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\"}]}\n\n"
               "data: [DONE]\n\n");
    expect_end(&end, true,
               "data: {\"object\":\"text_completion\",\"id\":\"cmpl-1\",\"created\":17,\"model\":\"m\",\"choices\":[{"
               "\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\"}]}\n\n"
               "data: {\"object\":\"text_completion\",\"id\":\"cmpl-1\",\"created\":17,\"model\":\"m\",\"choices\":[],"
               "\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18,\"prompt_tokens_details\":{"
               "\"cached_tokens\":3,\"cache_write_tokens\":2},\"completion_tokens_details\":{\"reasoning_tokens\":4},"
               "\"cost\":0.000012500}}\n\n"
               "data: [DONE]\n\n");
}

static void responses_end_as_their_upstream_would(void **state) {
    (void)state;
    static const char *const body =
        "\"object\":\"response\",\"status\":\"incomplete\",\"error\":null,\"incomplete_details\":{\"reason\":\"max_"
        "output_tokens\"},\"output\":[],\"usage\":{\"input_tokens\":11,\"input_tokens_details\":{\"cached_tokens\":3,"
        "\"cache_write_tokens\":2},\"output_tokens\":7,\"output_tokens_details\":{\"reasoning_tokens\":4},\"total_"
        "tokens\":18}}}\n\n";
    char expected[1024];
    struct stream_end end =
        note(CLIENT_RESPONSES, "response.created",
             "{\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"created_at\":"
             "17.5,\"status\":\"in_progress\",\"model\":\"m\",\"output\":[]},\"sequence_number\":0}");
    stream_end_note(&end, SPAN_LITERAL("response.output_text.delta"),
                    SPAN_LITERAL("{\"type\":\"response.output_text.delta\",\"delta\":\"\\\"sequence_number\\\":99\","
                                 "\"sequence_number\":41,\"response\":{\"id\":\"other\"}}"));
    stream_end_note(&end, SPAN_EMPTY, SPAN_LITERAL("{\"sequence_number\":\"90\"}"));
    stream_end_note(&end, SPAN_EMPTY, SPAN_LITERAL("{\"sequence_number\":-90}"));
    stream_end_note(&end, SPAN_EMPTY, SPAN_LITERAL("{\"sequence_number\":99999999999999999999}"));
    stream_end_note(&end, SPAN_EMPTY, SPAN_LITERAL("{\"sequence_number\":90"));
    (void)snprintf(expected, sizeof(expected),
                   "event: response.incomplete\ndata: {\"type\":\"response.incomplete\",\"sequence_number\":91,"
                   "\"response\":{\"id\":\"resp_1\",\"created_at\":17.5,\"model\":\"m\",%s",
                   body);
    expect_end(&end, false, expected);
    end = note(CLIENT_RESPONSES, "", "{\"type\":\"keepalive\"}");
    (void)snprintf(expected, sizeof(expected),
                   "data: {\"type\":\"response.incomplete\",\"sequence_number\":0,\"response\":{%s", body);
    expect_end(&end, true, expected);
}

static void chats_end_as_before(void **state) {
    (void)state;
    struct stream_end end = note(CLIENT_CHAT, "", "{\"id\":\"c\",\"created\":1,\"model\":\"m\",\"choices\":[]}");
    expect_end(&end, false,
               "data: {\"object\":\"chat.completion.chunk\",\"id\":\"c\",\"created\":1,\"model\":\"m\",\"choices\":[{"
               "\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n");
}

/* What an upstream sends in place of an id must not end the line, or the text. */
static void values_that_would_break_the_event_are_left_out(void **state) {
    (void)state;
    static const char *const data[] = {
        "{\"id\":{\n\"a\":1},\"created\":1}",
        "{\"id\":\"a\nb\",\"created\":1}",
        "{\"id\":[1,\t2],\"created\":1}",
    };
    for (size_t i = 0; i < sizeof(data) / sizeof(data[0]); i++) {
        struct stream_end end = note(CLIENT_COMPLETIONS, "", data[i]);
        assert_string_equal(end.head, "\"created\":1,");
    }
    struct stream_end end;
    stream_end_init(&end, CLIENT_COMPLETIONS);
    stream_end_note(&end, SPAN_EMPTY, SPAN_LITERAL("{\"id\":\"a\0b\",\"created\":1}"));
    assert_string_equal(end.head, "\"created\":1,");
    struct buffer text;
    buffer_init(&text, CAP_BYTES);
    buffer_append_text(&text, "{\"response\":{\"id\":\"");
    for (int i = 0; i < STREAM_END_HEAD_BYTES; i++) {
        buffer_append_byte(&text, 'x');
    }
    buffer_append_text(&text, "\",\"model\":\"m\"}}");
    assert_string_equal(note(CLIENT_RESPONSES, "", buffer_text(&text)).head, "\"model\":\"m\",");
    buffer_fini(&text);
}

/* Reads the one event that ends a recorded stream cut after `events` of its events. */
static void expect_cut(struct span text, int events, struct json_doc *doc, const char *name) {
    struct sse_splitter splitter;
    struct sse_event event;
    struct stream_end end;
    struct buffer out;
    stream_end_init(&end, CLIENT_RESPONSES);
    sse_init(&splitter, CAP_BYTES);
    for (int i = 0; i < events && sse_next(&splitter, &text, &event) == SSE_EVENT; i++) {
        stream_end_note(&end, event.name, event.data);
    }
    sse_fini(&splitter);
    buffer_init(&out, CAP_BYTES);
    stream_end_write(&out, &end, true, &tokens, 12500);
    struct span rest = buffer_span(&out);
    sse_init(&splitter, CAP_BYTES);
    assert_int_equal(sse_next(&splitter, &rest, &event), SSE_EVENT);
    assert_int_equal(rest.len, 0);
    assert_true(json_parse(doc, event.data));
    int64_t sequence = -1;
    int response = json_member(doc, 0, "response");
    int id = json_member(doc, response, "id");
    if (!json_int(doc, json_member(doc, 0, "sequence_number"), &sequence) || sequence != events ||
        json_type_of(doc, id) != JSON_STRING || json_member(doc, response, "created_at") < 0 ||
        json_type_of(doc, json_member(doc, response, "model")) != JSON_STRING) {
        fail_msg("%s after %d events: %s", name, events, buffer_text(&out));
    }
    struct answer_listener listener;
    struct answer_event heard;
    struct json_doc scratch;
    json_doc_init(&scratch);
    answer_listener_init(&listener);
    openai_hear_event(&listener, &scratch, event.name, event.data, &heard, NULL);
    assert_false(heard.is_error || heard.is_invalid);
    assert_string_equal(heard.finish_reason, "incomplete");
    assert_memory_equal(&heard.usage.tokens, &tokens, sizeof(tokens));
    json_doc_fini(&scratch);
    sse_fini(&splitter);
    buffer_fini(&out);
}

static void recorded_streams_can_be_ended_anywhere(void **state) {
    (void)state;
    static const char *const names[] = {
        "openai/responses-stream-plain.sse",
        "openai/responses-stream-reasoning-summary.sse",
        "openai/responses-stream-tool-call.sse",
        "azure/responses-stream.sse",
        "bedrock-mantle/responses-stream-data-only.sse",
        "xai/responses-stream.sse",
        "deepseek/responses-stream-reasoning-text.sse",
    };
    struct json_doc doc;
    json_doc_init(&doc);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct buffer text;
        fixture_read(names[i], &text);
        for (int events = 1; events <= 8; events++) {
            expect_cut(buffer_span(&text), events, &doc, names[i]);
        }
        buffer_fini(&text);
    }
    json_doc_fini(&doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completions_end_as_their_upstream_would),
        cmocka_unit_test(responses_end_as_their_upstream_would),
        cmocka_unit_test(chats_end_as_before),
        cmocka_unit_test(values_that_would_break_the_event_are_left_out),
        cmocka_unit_test(recorded_streams_can_be_ended_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
