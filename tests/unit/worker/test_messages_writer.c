#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/answer_told.h"
#include "worker/dialect_anthropic.h"
#include "worker/dialect_gemini.h"
#include "worker/dialect_openai.h"
#include "worker/messages_error.h"
#include "worker/messages_writer.h"
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

/* An answer written, and what an own reader hears in it. */
struct told {
    struct buffer text;
    struct answer_listener listener;
    struct transcript transcript;
};

static void told_free(struct told *told) {
    buffer_fini(&told->text);
    transcript_free(&told->transcript);
}

/* Every event of a stream has its name, which is its type, as the SDKs want it; blocks do not overlap. */
static void expect_named(const struct sse_event *event, int64_t *open) {
    char type[64];
    int64_t index = -1;
    assert_true(json_parse(&scratch, event->data));
    assert_true(json_string_copy(&scratch, json_member(&scratch, 0, "type"), type, sizeof(type)));
    assert_true(span_is(event->name, type));
    bool has_index = json_int(&scratch, json_member(&scratch, 0, "index"), &index);
    assert_int_equal(has_index, strncmp(type, "content_block", 13) == 0);
    if (strcmp(type, "content_block_start") == 0) {
        assert_true(*open < 0 && index == -*open - 1);
        *open = index;
    } else if (has_index) {
        assert_int_equal(index, *open);
    }
    if (strcmp(type, "content_block_stop") == 0) {
        *open = -index - 2;
    }
}

/* Reads a stream that was written. Between blocks `open` is -1 - the next block's number. */
static void read_stream(struct told *told) {
    struct sse_splitter splitter;
    struct sse_event event;
    struct answer_event out;
    struct answer_sink sink = transcript_sink(&told->transcript);
    struct span input = buffer_span(&told->text);
    int64_t open = -1;
    int events = 0;
    answer_listener_init(&told->listener);
    sse_init(&splitter, CAP_BYTES);
    while (sse_next(&splitter, &input, &event) == SSE_EVENT) {
        expect_named(&event, &open);
        assert_int_equal(span_is(event.name, "message_start"), events++ == 0);
        anthropic_hear_event(&told->listener, &scratch, event.name, event.data, &out, &sink);
        assert_false(out.is_invalid);
        assert_false(told->listener.is_done && !span_is(event.name, "message_stop"));
    }
    assert_false(sse_finish(&splitter, &event));
    assert_true(open < 0);
    sse_fini(&splitter);
}

static void read_whole(struct told *told) {
    struct answer_event out;
    struct answer_sink sink = transcript_sink(&told->transcript);
    answer_listener_init(&told->listener);
    anthropic_hear_answer(&told->listener, &scratch, buffer_span(&told->text), &out, &sink);
    assert_false(out.is_invalid);
}

static void told_init(struct told *told) {
    *told = (struct told){.text = {0}};
    buffer_init(&told->text, CAP_BYTES);
    transcript_init(&told->transcript);
}

/* A reader's parts go to a writer and into a transcript. */
struct relay {
    struct messages_writer *writer;
    struct buffer *out;
    struct transcript *transcript;
    bool is_fine;
};

/* Implements answer_sink.on_part. */
static void on_part(void *context, const struct answer_part *part) {
    struct relay *relay = context;
    transcript_take(relay->transcript, part);
    relay->is_fine &= messages_writer_part(relay->writer, part, relay->out);
}

/* Hears a recorded answer and writes it. Returns whether it could be written. */
static bool relay_fixture(struct span text, bool is_recorded_stream, bool is_stream, struct transcript *heard,
                          struct answer_listener *listener, struct told *told) {
    struct messages_writer writer;
    struct answer_event out;
    struct relay relay = {.writer = &writer, .out = &told->text, .transcript = heard, .is_fine = true};
    struct answer_sink sink = {.on_part = on_part, .context = &relay};
    messages_writer_init(&writer, "msg_test", "claude", 7, is_stream, CAP_BYTES);
    answer_listener_init(listener);
    if (is_recorded_stream) {
        struct sse_splitter splitter;
        struct sse_event event;
        sse_init(&splitter, CAP_BYTES);
        while (sse_next(&splitter, &text, &event) == SSE_EVENT) {
            anthropic_hear_event(listener, &scratch, event.name, event.data, &out, &sink);
        }
        if (sse_finish(&splitter, &event)) {
            anthropic_hear_event(listener, &scratch, event.name, event.data, &out, &sink);
        }
        sse_fini(&splitter);
    } else {
        anthropic_hear_answer(listener, &scratch, text, &out, &sink);
    }
    assert_true(relay.is_fine);
    bool is_told = true;
    if (is_stream) {
        is_told = messages_writer_end(&writer, ANSWER_FINISH_NONE, &listener->usage.tokens, &told->text);
    } else {
        is_told = messages_writer_write_whole(&writer, &listener->usage.tokens, &told->text);
    }
    messages_writer_free(&writer);
    return is_told;
}

/* A recorded answer, written anew, says the same. */
static void check_fixture(struct span text, bool is_recorded_stream, bool is_stream, const char *name) {
    struct answer_listener listener;
    struct transcript heard;
    struct told told;
    transcript_init(&heard);
    told_init(&told);
    assert_true(relay_fixture(text, is_recorded_stream, is_stream, &heard, &listener, &told));
    if (is_stream) {
        read_stream(&told);
        assert_true(told.listener.is_done);
    } else {
        read_whole(&told);
    }
    bool is_cut_off = strstr(name, "partial-json") != NULL && !is_stream;
    if (listener.has_finish && !is_cut_off &&
        strcmp(buffer_text(&heard.lines), buffer_text(&told.transcript.lines)) != 0) {
        fail_msg("%s: %s\nbecame %s", name, buffer_text(&heard.lines), buffer_text(&told.transcript.lines));
    }
    assert_memory_equal(&told.listener.usage.tokens, &listener.usage.tokens, sizeof(listener.usage.tokens));
    assert_string_equal(buffer_text(&told.transcript.content), buffer_text(&heard.content));
    transcript_free(&heard);
    told_free(&told);
}

static void recorded_answers_say_the_same_when_written_anew(void **state) {
    (void)state;
    struct fixtures fixtures;
    fixtures_load(&fixtures);
    int count = 0;
    for (int file = json_first(&fixtures.index, fixtures.files); file >= 0; file = json_next(&fixtures.index, file)) {
        if (!fixture_is(&fixtures, file, "api", "anthropic.messages") || fixture_is(&fixtures, file, "kind", "error")) {
            continue;
        }
        char name[FIXTURE_PATH_BYTES];
        struct buffer text;
        bool is_stream = fixture_is(&fixtures, file, "kind", "stream");
        fixture_open(&fixtures, file, name, &text);
        check_fixture(buffer_span(&text), is_stream, true, name);
        check_fixture(buffer_span(&text), is_stream, false, name);
        buffer_fini(&text);
        count++;
    }
    assert_true(count >= 19);
    fixtures_free(&fixtures);
}

/* Another dialect's reader. */
struct reader {
    void (*hear_event)(struct answer_listener *listener, struct json_doc *scratch, struct span name, struct span data,
                       struct answer_event *out, const struct answer_sink *sink);
    void (*hear_answer)(struct answer_listener *listener, struct json_doc *scratch, struct span body,
                        struct answer_event *out, const struct answer_sink *sink);
    bool is_gemini;
};

static void hear_with(const struct reader *reader, struct span text, bool is_stream, struct answer_listener *listener,
                      const struct answer_sink *sink) {
    struct answer_event out;
    struct sse_splitter splitter;
    struct sse_event event;
    answer_listener_init(listener);
    if (!is_stream) {
        reader->hear_answer(listener, &scratch, text, &out, sink);
        return;
    }
    sse_init(&splitter, CAP_BYTES);
    while (sse_next(&splitter, &text, &event) == SSE_EVENT) {
        if (event.has_data) {
            reader->hear_event(listener, &scratch, event.name, event.data, &out, sink);
        }
    }
    if (sse_finish(&splitter, &event)) {
        reader->hear_event(listener, &scratch, event.name, event.data, &out, sink);
    }
    sse_fini(&splitter);
    if (reader->is_gemini) {
        gemini_hear_end(listener, sink);
    }
}

/* Another provider's answer, written in both ways, can be read and says the same text, calls and counts. */
static void check_foreign(const struct reader *reader, struct span text, bool is_recorded_stream, bool is_stream,
                          int64_t tools, const char *name) {
    struct messages_writer writer;
    struct answer_listener listener;
    struct answer_told already;
    struct transcript heard;
    struct told told;
    struct relay relay = {.writer = &writer, .out = &told.text, .transcript = &heard, .is_fine = true};
    struct answer_sink sink = {.on_part = on_part, .context = &relay, .told = &already};
    transcript_init(&heard);
    told_init(&told);
    answer_told_init(&already);
    messages_writer_init(&writer, "msg_test", "m", 7, is_stream, CAP_BYTES);
    hear_with(reader, text, is_recorded_stream, &listener, &sink);
    if (!relay.is_fine) {
        fail_msg("%s cannot be told", name);
    }
    if (is_stream) {
        assert_true(messages_writer_end(&writer, ANSWER_FINISH_NONE, &listener.usage.tokens, &told.text));
        read_stream(&told);
        assert_true(told.listener.is_done);
    } else if (messages_writer_write_whole(&writer, &listener.usage.tokens, &told.text)) {
        read_whole(&told);
    } else {
        fail_msg("%s is no whole message", name);
    }
    bool has_one_choice = strstr(name, "-n2") == NULL && strstr(name, "-n3") == NULL;
    if (has_one_choice && strstr(buffer_text(&heard.lines), "refusal") == NULL) {
        assert_string_equal(buffer_text(&told.transcript.content), buffer_text(&heard.content));
    }
    if (told.transcript.tools != (tools < 0 ? 0 : tools)) {
        fail_msg("%s: %lld calls, not %lld", name, (long long)told.transcript.tools, (long long)tools);
    }
    assert_true(told.listener.has_finish);
    assert_int_equal(told.listener.usage.tokens.input_tokens, listener.usage.tokens.input_tokens);
    assert_int_equal(told.listener.usage.tokens.output_tokens, listener.usage.tokens.output_tokens);
    messages_writer_free(&writer);
    transcript_free(&heard);
    told_free(&told);
}

static void other_providers_answers_become_messages(void **state) {
    (void)state;
    const struct reader openai = {openai_hear_event, openai_hear_answer, false};
    const struct reader gemini = {gemini_hear_event, gemini_hear_answer, true};
    struct fixtures fixtures;
    fixtures_load(&fixtures);
    int count = 0;
    for (int file = json_first(&fixtures.index, fixtures.files); file >= 0; file = json_next(&fixtures.index, file)) {
        bool is_stream = fixture_is(&fixtures, file, "kind", "stream");
        bool is_gemini = fixture_is(&fixtures, file, "api", "gemini.generateContent");
        int error = json_member(&fixtures.index, json_member(&fixtures.index, file, "extra"), "error");
        if ((!fixture_is(&fixtures, file, "api", "openai.chat") && !is_gemini) || error >= 0 ||
            (!is_stream && !fixture_is(&fixtures, file, "kind", "json"))) {
            continue;
        }
        char name[FIXTURE_PATH_BYTES];
        struct buffer text;
        fixture_open(&fixtures, file, name, &text);
        if (strstr(name, "json-array") == NULL) {
            int64_t tools = fixture_expected(&fixtures, file, "tool_call_count");
            check_foreign(is_gemini ? &gemini : &openai, buffer_span(&text), is_stream, true, tools, name);
            check_foreign(is_gemini ? &gemini : &openai, buffer_span(&text), is_stream, false, tools, name);
            count++;
        }
        buffer_fini(&text);
    }
    assert_true(count >= 60);
    fixtures_free(&fixtures);
}

#define TEXT(t)                                                                                                        \
    {                                                                                                                  \
        .kind = ANSWER_PART_TEXT, .tool = -1, .text = {(t), sizeof(t) - 1 }                                            \
    }
#define REASONING(t)                                                                                                   \
    {                                                                                                                  \
        .kind = ANSWER_PART_REASONING, .tool = -1, .text = {(t), sizeof(t) - 1 }                                       \
    }
#define SIGNATURE(t)                                                                                                   \
    {                                                                                                                  \
        .kind = ANSWER_PART_SIGNATURE, .tool = -1, .text = {(t), sizeof(t) - 1 }                                       \
    }
#define TOOL(number, i)                                                                                                \
    {                                                                                                                  \
        .kind = ANSWER_PART_TOOL, .tool = (number), .id = {(i), sizeof(i) - 1}, .name = { "f", 1 }                     \
    }
#define ARGUMENTS(number, t)                                                                                           \
    {                                                                                                                  \
        .kind = ANSWER_PART_ARGUMENTS, .tool = (number), .text = {(t), sizeof(t) - 1 }                                 \
    }
#define FINISH(f)                                                                                                      \
    { .kind = ANSWER_PART_FINISH, .tool = -1, .finish = (f) }

static const struct token_counts tokens = {.input_tokens = 100,
                                           .cached_input_tokens = 30,
                                           .cache_write_tokens = 20,
                                           .output_tokens = 9,
                                           .reasoning_tokens = 4};

/* Writes parts as a stream, and reads it. */
static void tell_stream(const struct answer_part *parts, size_t count, enum answer_finish finish, struct told *told) {
    struct messages_writer writer;
    told_init(told);
    messages_writer_init(&writer, "msg_1", "m\"1", 7, true, CAP_BYTES);
    for (size_t i = 0; i < count; i++) {
        assert_true(messages_writer_part(&writer, &parts[i], &told->text));
    }
    assert_true(messages_writer_end(&writer, finish, &tokens, &told->text));
    messages_writer_free(&writer);
    read_stream(told);
}

static bool tell_whole(const struct answer_part *parts, size_t count, struct buffer *out) {
    struct messages_writer writer;
    messages_writer_init(&writer, "msg_1", "m", 7, false, CAP_BYTES);
    for (size_t i = 0; i < count; i++) {
        assert_true(messages_writer_part(&writer, &parts[i], out));
    }
    assert_int_equal(out->len, 0);
    bool is_told = messages_writer_write_whole(&writer, &tokens, out);
    messages_writer_free(&writer);
    return is_told;
}

static void expect_stream(const struct answer_part *parts, size_t count, enum answer_finish finish,
                          const char *expected) {
    struct told told;
    tell_stream(parts, count, finish, &told);
    assert_string_equal(buffer_text(&told.transcript.lines), expected);
    told_free(&told);
}
#define EXPECT_STREAM(parts, finish, expected)                                                                         \
    expect_stream(parts, sizeof(parts) / sizeof((parts)[0]), finish, expected)

static void expect_whole(const struct answer_part *parts, size_t count, const char *expected) {
    struct buffer out;
    buffer_init(&out, CAP_BYTES);
    assert_true(tell_whole(parts, count, &out));
    expect_same_json(buffer_text(&out), expected);
    buffer_fini(&out);
}
#define EXPECT_WHOLE(parts, expected) expect_whole(parts, sizeof(parts) / sizeof((parts)[0]), expected)

static void a_stream_is_written_byte_for_byte(void **state) {
    (void)state;
    const struct answer_part parts[] = {REASONING("th"), SIGNATURE("s"), TEXT("a\\n"), TOOL(0, "c"), FINISH(4)};
    struct told told;
    tell_stream(parts, 5, ANSWER_FINISH_NONE, &told);
    assert_string_equal(
        buffer_text(&told.text),
        "event: message_start\ndata: "
        "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\","
        "\"model\":\"m\\\"1\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":7,"
        "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":0}}}\n\n"
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":"
        "\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n"
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
        "\"thinking_delta\",\"thinking\":\"th\"}}\n\n"
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
        "\"signature_delta\",\"signature\":\"s\"}}\n\n"
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":"
        "\"text\",\"text\":\"\"}}\n\n"
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":"
        "\"text_delta\",\"text\":\"a\\n\"}}\n\n"
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n"
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":"
        "\"tool_use\",\"id\":\"c\",\"name\":\"f\",\"input\":{}}}\n\n"
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":"
        "\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n"
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n"
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\","
        "\"stop_sequence\":null},\"usage\":{\"input_tokens\":50,\"cache_creation_input_tokens\":20,"
        "\"cache_read_input_tokens\":30,\"output_tokens\":9,\"output_tokens_details\":{\"thinking_tokens\":4}}}\n\n"
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    told_free(&told);
}

static void finishes_are_named_as_anthropic_does(void **state) {
    (void)state;
    static const struct {
        enum answer_finish said, override;
        const char *expected;
    } cases[] = {
        {ANSWER_FINISH_STOP, ANSWER_FINISH_NONE, "\"end_turn\""},
        {ANSWER_FINISH_LENGTH, ANSWER_FINISH_NONE, "\"max_tokens\""},
        {ANSWER_FINISH_CONTENT_FILTER, ANSWER_FINISH_NONE, "\"refusal\""},
        {ANSWER_FINISH_STOP, ANSWER_FINISH_LENGTH, "\"max_tokens\""},
        {ANSWER_FINISH_NONE, ANSWER_FINISH_NONE, "\"end_turn\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct answer_part parts[] = {TEXT("a"), FINISH(cases[i].said)};
        struct told told;
        tell_stream(parts, 2, cases[i].override, &told);
        assert_non_null(strstr(buffer_text(&told.text), cases[i].expected));
        told_free(&told);
    }
    const struct answer_part sequence[] = {
        TEXT("a"),
        {.kind = ANSWER_PART_FINISH, .tool = -1, .finish = ANSWER_FINISH_STOP_SEQUENCE, .text = SPAN_LITERAL("\\n")}};
    EXPECT_STREAM(sequence, ANSWER_FINISH_NONE, "\ntext -1 0   a\nfinish -1 2   \\n");
    const struct answer_part refusal[] = {{.kind = ANSWER_PART_REFUSAL, .tool = -1, .text = SPAN_LITERAL("No.")},
                                          FINISH(ANSWER_FINISH_STOP)};
    EXPECT_STREAM(refusal, ANSWER_FINISH_NONE, "\ntext -1 0   No.\nfinish -1 5   ");
    /* "stop" beside calls would keep a client from running them. */
    const struct answer_part calls[] = {TOOL(0, "c"), ARGUMENTS(0, "{}"), FINISH(ANSWER_FINISH_STOP)};
    EXPECT_STREAM(calls, ANSWER_FINISH_NONE, "\ntool 0 0 c f \narguments 0 0   {}\nfinish -1 4   ");
    struct told empty;
    tell_stream(NULL, 0, ANSWER_FINISH_NONE, &empty);
    assert_string_equal(buffer_text(&empty.transcript.lines), "\nfinish -1 1   ");
    told_free(&empty);
}

static void overlapping_calls_are_put_in_order(void **state) {
    (void)state;
    const struct answer_part parts[] = {TOOL(0, "a"),          ARGUMENTS(0, "{\\\"x\\\":"),
                                        TOOL(1, "b"),          ARGUMENTS(1, "{\\\"y\\\":\\\"}"),
                                        TEXT("said between"),  ARGUMENTS(0, "[1,\\\"\\\\\\\"}\\\"]"),
                                        ARGUMENTS(1, "\\\"}"), ARGUMENTS(0, "}"),
                                        REASONING("after"),    FINISH(ANSWER_FINISH_TOOL_CALLS)};
    EXPECT_STREAM(
        parts, ANSWER_FINISH_NONE,
        "\ntool 0 0 a f \narguments 0 0   {\\\"x\\\":[1,\\\"\\\\\\\"}\\\"]}\ntool 1 0 b f "
        "\narguments 1 0   {\\\"y\\\":\\\"}\\\"}\ntext -1 0   said between\nreasoning -1 0   after\nfinish -1 "
        "4   ");
    EXPECT_WHOLE(parts,
                 "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":["
                 "{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":{\"x\":[1,\"\\\"}\"]}},"
                 "{\"type\":\"tool_use\",\"id\":\"b\",\"name\":\"f\",\"input\":{\"y\":\"}\"}},"
                 "{\"type\":\"text\",\"text\":\"said between\"},{\"type\":\"thinking\",\"thinking\":\"after\","
                 "\"signature\":\"\"}],\"stop_reason\":\"tool_use\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":"
                 "50,\"cache_creation_input_tokens\":20,\"cache_read_input_tokens\":30,\"output_tokens\":9,"
                 "\"output_tokens_details\":{\"thinking_tokens\":4}}}");
}

/* A call whose arguments are complete does not hold back the next. */
static void complete_calls_are_written_at_once(void **state) {
    (void)state;
    struct messages_writer writer;
    struct buffer out;
    const struct answer_part parts[] = {TOOL(0, "a"), ARGUMENTS(0, " "), ARGUMENTS(0, "{\\u0022x\\u0022:1"),
                                        ARGUMENTS(0, "\\u007d"), TOOL(1, "b")};
    messages_writer_init(&writer, "msg_1", "m", 0, true, CAP_BYTES);
    buffer_init(&out, CAP_BYTES);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        assert_true(messages_writer_part(&writer, &parts[i], &out));
    }
    assert_non_null(strstr(buffer_text(&out), "\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"b\""));
    /* The first is over: more of it has no place, unless it is nothing. */
    const struct answer_part late[] = {ARGUMENTS(0, ""), ARGUMENTS(0, "x"), ARGUMENTS(5, "x")};
    assert_true(messages_writer_part(&writer, &late[0], &out));
    assert_false(messages_writer_part(&writer, &late[1], &out));
    assert_false(messages_writer_part(&writer, &late[2], &out));
    buffer_fini(&out);
    messages_writer_free(&writer);
}

static void what_is_held_is_bounded(void **state) {
    (void)state;
    struct messages_writer writer;
    struct buffer out;
    const struct answer_part first = TOOL(0, "a");
    buffer_init(&out, CAP_BYTES);
    messages_writer_init(&writer, "msg_1", "m", 0, true, 1000);
    assert_true(messages_writer_part(&writer, &first, &out));
    int held = 0;
    struct answer_part next = TOOL(1, "b");
    while (messages_writer_part(&writer, &next, &out)) {
        next.tool++;
        held++;
    }
    assert_int_equal(held, MESSAGES_HELD_MOST);
    assert_true(messages_writer_end(&writer, ANSWER_FINISH_NONE, &tokens, &out));
    messages_writer_free(&writer);
    messages_writer_init(&writer, "msg_1", "m", 0, true, 100);
    assert_true(messages_writer_part(&writer, &first, &out));
    next.tool = 1;
    assert_true(messages_writer_part(&writer, &next, &out));
    const struct answer_part piece = ARGUMENTS(1, "0123456789");
    int pieces = 0;
    while (messages_writer_part(&writer, &piece, &out)) {
        pieces++;
    }
    assert_int_equal(pieces, 9);
    messages_writer_free(&writer);
    buffer_fini(&out);
}

static void thinking_keeps_its_signatures(void **state) {
    (void)state;
    const struct answer_part parts[] = {
        SIGNATURE("only"),
        REASONING("one"),
        SIGNATURE("s1"),
        REASONING("two"),
        {.kind = ANSWER_PART_REDACTED, .tool = -1, .text = SPAN_LITERAL("r")},
        TEXT(""),
        TEXT("a"),
        TOOL(0, ""),
        {.kind = ANSWER_PART_SIGNATURE, .tool = 0, .text = SPAN_LITERAL("of a call")},
        {.kind = ANSWER_PART_LOGPROBS, .tool = -1, .text = SPAN_LITERAL("{}")},
        {.kind = ANSWER_PART_TEXT, .choice = 1, .tool = -1, .text = SPAN_LITERAL("other choice")},
        FINISH(ANSWER_FINISH_STOP)};
    EXPECT_STREAM(
        parts, ANSWER_FINISH_NONE,
        "\nsignature -1 0   only\nreasoning -1 0   one\nsignature -1 0   s1\nreasoning -1 0   two\nredacted -1 "
        "0   r\ntext -1 0   a\ntool 0 0 toolu_1_0 f \narguments 0 0   {}\nfinish -1 4   ");
}

static void whole_messages_need_objects_as_arguments(void **state) {
    (void)state;
    static const char *const bad[] = {"{", "[]", "7", "\\\"a\\\"", "{}x", "null"};
    struct buffer out;
    buffer_init(&out, CAP_BYTES);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct answer_part parts[] = {TOOL(0, "a"), ARGUMENTS(0, ""), FINISH(ANSWER_FINISH_TOOL_CALLS)};
        parts[1].text = span_text(bad[i]);
        assert_false(tell_whole(parts, 3, &out));
        buffer_clear(&out);
        parts[2].finish = ANSWER_FINISH_LENGTH;
        assert_true(tell_whole(parts, 3, &out));
        assert_non_null(strstr(buffer_text(&out), "\"input\":{}}"));
        buffer_clear(&out);
    }
    const struct answer_part none[] = {TOOL(0, "a"), FINISH(ANSWER_FINISH_TOOL_CALLS)};
    assert_true(tell_whole(none, 2, &out));
    assert_non_null(strstr(buffer_text(&out), "\"input\":{}}"));
    buffer_fini(&out);
    /* A message that does not fit is not told. */
    struct messages_writer writer;
    const struct answer_part text = TEXT("0123456789");
    messages_writer_init(&writer, "msg_1", "m", 0, false, 20);
    buffer_init(&out, CAP_BYTES);
    for (int i = 0; i < 5; i++) {
        (void)!messages_writer_part(&writer, &text, &out);
    }
    assert_false(messages_writer_write_whole(&writer, &tokens, &out));
    messages_writer_free(&writer);
    buffer_fini(&out);
}

static void errors_have_anthropics_form(void **state) {
    (void)state;
    static const struct {
        int status;
        const char *type;
    } types[] = {{400, "invalid_request_error"},
                 {401, "authentication_error"},
                 {402, "billing_error"},
                 {403, "permission_error"},
                 {404, "not_found_error"},
                 {405, "invalid_request_error"},
                 {413, "request_too_large"},
                 {415, "invalid_request_error"},
                 {429, "rate_limit_error"},
                 {500, "api_error"},
                 {502, "api_error"},
                 {503, "overloaded_error"},
                 {504, "timeout_error"},
                 {529, "overloaded_error"}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        assert_string_equal(messages_error_type(types[i].status), types[i].type);
    }
    struct buffer out;
    buffer_init(&out, 4096);
    messages_error_write(429, "Slow \"down\".", "req_1", &out);
    assert_string_equal(buffer_text(&out), "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":"
                                           "\"Slow \\\"down\\\".\"},\"request_id\":\"req_1\"}");
    buffer_clear(&out);
    messages_error_write_event(503, "m", "req_1", &out);
    assert_string_equal(buffer_text(&out),
                        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":"
                        "\"m\"},\"request_id\":\"req_1\"}\n\n");
    buffer_fini(&out);
    assert_string_equal(MESSAGES_PING, "event: ping\ndata: {\"type\": \"ping\"}\n\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_answers_say_the_same_when_written_anew),
        cmocka_unit_test(other_providers_answers_become_messages),
        cmocka_unit_test(a_stream_is_written_byte_for_byte),
        cmocka_unit_test(finishes_are_named_as_anthropic_does),
        cmocka_unit_test(overlapping_calls_are_put_in_order),
        cmocka_unit_test(complete_calls_are_written_at_once),
        cmocka_unit_test(what_is_held_is_bounded),
        cmocka_unit_test(thinking_keeps_its_signatures),
        cmocka_unit_test(whole_messages_need_objects_as_arguments),
        cmocka_unit_test(errors_have_anthropics_form),
    };
    return cmocka_run_group_tests(tests, make_scratch, free_scratch);
}
