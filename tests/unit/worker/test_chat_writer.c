#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hearing_testing.h"
#include "worker/chat_writer.h"

enum { CREATED_S = 1700000000, WRITER_CAP_BYTES = 1 << 20, COST_NUSD = 12500 };

static const struct token_counts tokens = {
    .input_tokens = 10, .cached_input_tokens = 4, .cache_write_tokens = 2, .output_tokens = 7, .reasoning_tokens = 3};

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

/* Parts on their way: kept for comparison, and written. */
struct writing {
    struct told_parts parts;
    struct chat_writer writer;
    struct buffer out;
    struct answer_sink sink;
};

/* answer_sink.on_part */
static void on_part(void *context, const struct answer_part *part) {
    struct writing *writing = context;
    told_on_part(&writing->parts, part);
    assert_true(chat_writer_part(&writing->writer, part, writing->writer.is_whole ? NULL : &writing->out));
}

static void begin(struct writing *writing, bool is_whole, const char *format, size_t cap_bytes) {
    told_init(&writing->parts);
    buffer_init(&writing->out, 8 << 20);
    chat_writer_init(&writing->writer, "chatcmpl-abc", "mod\"el", CREATED_S, format, is_whole, cap_bytes);
    writing->sink = (struct answer_sink){.on_part = on_part, .context = writing, .told = &writing->parts.told};
}

static void end(struct writing *writing) {
    chat_writer_fini(&writing->writer);
    buffer_fini(&writing->out);
    told_fini(&writing->parts);
}

/* Each chunk is one line of strict JSON with the answer's id, time and model, and the first of a choice has its role.
 */
static void expect_chunks(struct span text) {
    struct sse_splitter splitter;
    struct sse_event event;
    bool has_role[TOLD_CHOICES] = {false};
    sse_init(&splitter, HEARING_CAP_BYTES);
    while (sse_next(&splitter, &text, &event) == SSE_EVENT) {
        assert_true(event.has_data && event.data_in_raw);
        if (span_is(event.data, "[DONE]")) {
            continue;
        }
        assert_true(json_parse(&scratch, event.data));
        assert_true(json_string_is(&scratch, json_member(&scratch, 0, "id"), "chatcmpl-abc"));
        assert_true(json_string_is(&scratch, json_member(&scratch, 0, "model"), "mod\"el"));
        assert_true(json_string_is(&scratch, json_member(&scratch, 0, "object"), "chat.completion.chunk"));
        int choice = json_first(&scratch, json_member(&scratch, 0, "choices"));
        int64_t index = 0;
        if (choice >= 0) {
            assert_true(json_int(&scratch, json_member(&scratch, choice, "index"), &index));
            int role = json_member(&scratch, json_member(&scratch, choice, "delta"), "role");
            assert_int_equal(role >= 0, !has_role[index]);
            has_role[index] = true;
        }
    }
    sse_fini(&splitter);
}

/* Writes a recorded answer and hears it again. */
static void write_and_hear(const struct hearing_way *way, struct span text, bool is_whole, const char *name) {
    struct writing writing;
    struct answer_listener heard;
    struct answer_listener again;
    struct told_parts parts;
    begin(&writing, is_whole, "x-format", WRITER_CAP_BYTES);
    hearing_run(way, &scratch, text, &heard, &writing.sink);
    if (is_whole) {
        assert_true(chat_writer_write_whole(&writing.writer, &tokens, -1, &writing.out));
        assert_true(json_parse(&scratch, buffer_span(&writing.out)));
    } else {
        assert_true(chat_writer_end(&writing.writer, ANSWER_FINISH_NONE, true, &tokens, COST_NUSD, &writing.out));
        expect_chunks(buffer_span(&writing.out));
    }
    const struct hearing_way back = {.is_stream = !is_whole, .first = SIZE_MAX, .step = SIZE_MAX};
    told_init(&parts);
    hearing_run(&back, &scratch, buffer_span(&writing.out), &again, &parts.sink);
    told_expect_same(&writing.parts, &parts, name);
    for (int i = 0; i < TOLD_CHOICES; i++) {
        enum answer_finish finish = writing.parts.choices[i].finish;
        finish = finish == ANSWER_FINISH_STOP_SEQUENCE ? ANSWER_FINISH_STOP : finish;
        assert_true(finish == ANSWER_FINISH_NONE || finish == parts.choices[i].finish);
        for (int k = 0; k < parts.choices[i].call_count; k++) {
            assert_true(parts.choices[i].calls[k].id.len != 0);
        }
    }
    assert_int_equal(parts.choices[0].finishes, 1);
    assert_memory_equal(&again.usage.tokens, &tokens, sizeof(tokens));
    assert_int_equal(again.is_done, !is_whole);
    told_fini(&parts);
    end(&writing);
}

static void recorded_answers_stay_what_they_are(void **state) {
    (void)state;
    struct fixtures fixtures;
    struct hearing_way way;
    fixtures_load(&fixtures);
    int count = 0;
    for (int file = json_first(&fixtures.index, fixtures.files); file >= 0; file = json_next(&fixtures.index, file)) {
        if (!hearing_way_of(&fixtures, file, &way)) {
            continue;
        }
        char name[FIXTURE_PATH_BYTES];
        struct buffer text;
        fixture_open(&fixtures, file, name, &text);
        write_and_hear(&way, buffer_span(&text), false, name);
        write_and_hear(&way, buffer_span(&text), true, name);
        buffer_fini(&text);
        count++;
    }
    assert_true(count >= 80);
    fixtures_free(&fixtures);
}

#define HEAD                                                                                                           \
    "data: "                                                                                                           \
    "{\"id\":\"chatcmpl-abc\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mod\\\"el\""
#define CHUNK(choice) HEAD ",\"choices\":[" choice "]}\n\n"
#define FIRST(delta) CHUNK("{\"index\":0,\"delta\":{\"role\":\"assistant\"," delta "},\"finish_reason\":null}")
#define NEXT(delta) CHUNK("{\"index\":0,\"delta\":{" delta "},\"finish_reason\":null}")
#define FINISH(reason) CHUNK("{\"index\":0,\"delta\":{},\"finish_reason\":\"" reason "\"}")
#define DONE "data: [DONE]\n\n"

static void write_parts(struct writing *writing, const struct answer_part *parts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        assert_true(chat_writer_part(&writing->writer, &parts[i], &writing->out));
    }
}

#define PART(of_kind, number, literal)                                                                                 \
    { .kind = (of_kind), .tool = (number), .text = SPAN_LITERAL(literal) }

static const struct answer_part signed_call[] = {
    PART(ANSWER_PART_REASONING, -1, "be"),
    PART(ANSWER_PART_REASONING, -1, "cause"),
    PART(ANSWER_PART_SIGNATURE, -1, "S1"),
    PART(ANSWER_PART_REDACTED, -1, "D"),
    PART(ANSWER_PART_TEXT, -1, "a\\n"),
    {.kind = ANSWER_PART_TOOL, .tool = 0, .id = SPAN_LITERAL("i"), .name = SPAN_LITERAL("f")},
    PART(ANSWER_PART_ARGUMENTS, 0, "{\\\"x\\\""),
    PART(ANSWER_PART_ARGUMENTS, 0, ":1}"),
    PART(ANSWER_PART_SIGNATURE, 0, "S2"),
    {.kind = ANSWER_PART_FINISH, .tool = -1, .finish = ANSWER_FINISH_TOOL_CALLS},
};
enum { SIGNED_CALL = sizeof(signed_call) / sizeof(signed_call[0]) };

static void chunks_are_written_so(void **state) {
    (void)state;
    struct writing writing;
    begin(&writing, false, "google-gemini-v1", WRITER_CAP_BYTES);
    write_parts(&writing, signed_call, SIGNED_CALL);
    assert_true(chat_writer_end(&writing.writer, ANSWER_FINISH_LENGTH, true, &tokens, COST_NUSD, &writing.out));
    assert_string_equal(
        buffer_text(&writing.out),
        FIRST("\"content\":null,\"reasoning_content\":\"be\"") NEXT("\"reasoning_content\":\"cause\"")
            NEXT("\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":\"because\",\"signature\":\"S1\","
                 "\"format\":\"google-gemini-v1\",\"index\":0}]")
                NEXT("\"reasoning_details\":[{\"type\":\"reasoning.encrypted\",\"data\":\"D\","
                     "\"format\":\"google-gemini-v1\",\"index\":1}]") NEXT("\"content\":\"a\\n\"")
                    NEXT("\"tool_calls\":[{\"index\":0,\"id\":\"i\",\"type\":\"function\","
                         "\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]")
                        NEXT("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"x\\\"\"}}]")
                            NEXT("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}}]")
                                NEXT("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"\"},\"extra_content\":"
                                     "{\"google\":{\"thought_signature\":\"S2\"}}}]") FINISH("tool_calls") HEAD
        ",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":7,\"total_tokens\":17,"
        "\"prompt_tokens_details\":{\"cached_tokens\":4,\"cache_write_tokens\":2},"
        "\"completion_tokens_details\":{\"reasoning_tokens\":3},\"cost\":0.000012500}}\n\n" DONE);
    end(&writing);
}

static void whole_answers_are_written_so(void **state) {
    (void)state;
    struct writing writing;
    begin(&writing, true, "anthropic-claude-v1", WRITER_CAP_BYTES);
    write_parts(&writing, signed_call, SIGNED_CALL);
    assert_true(chat_writer_write_whole(&writing.writer, &tokens, -1, &writing.out));
    assert_string_equal(
        buffer_text(&writing.out),
        "{\"id\":\"chatcmpl-abc\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"mod\\\"el\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"a\\n\",\"refusal\":null,"
        "\"reasoning_content\":\"because\",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":\"because\","
        "\"signature\":\"S1\",\"format\":\"anthropic-claude-v1\",\"index\":0},{\"type\":\"reasoning.encrypted\","
        "\"data\":\"D\",\"format\":\"anthropic-claude-v1\",\"index\":1}],\"tool_calls\":[{\"id\":\"i\","
        "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"},"
        "\"extra_content\":{\"google\":{\"thought_signature\":\"S2\"}}}]},\"logprobs\":null,"
        "\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":7,\"total_tokens\":"
        "17,"
        "\"prompt_tokens_details\":{\"cached_tokens\":4,\"cache_write_tokens\":2},"
        "\"completion_tokens_details\":{\"reasoning_tokens\":3}}}");
    end(&writing);
}

static void ends_fit_what_was_said(void **state) {
    (void)state;
    struct writing writing;
    begin(&writing, false, NULL, WRITER_CAP_BYTES);
    assert_true(chat_writer_end(&writing.writer, ANSWER_FINISH_NONE, false, &tokens, -1, &writing.out));
    assert_string_equal(buffer_text(&writing.out), FIRST("\"content\":\"\"") FINISH("stop") DONE);
    end(&writing);
    begin(&writing, false, NULL, WRITER_CAP_BYTES);
    static const struct answer_part text[] = {PART(ANSWER_PART_TEXT, -1, "a"),
                                              {.kind = ANSWER_PART_TEXT, .choice = 9999, .text = SPAN_LITERAL("x")},
                                              {.kind = ANSWER_PART_TEXT, .choice = -1, .text = SPAN_LITERAL("x")}};
    write_parts(&writing, text, 3);
    assert_true(chat_writer_end(&writing.writer, ANSWER_FINISH_LENGTH, false, &tokens, -1, &writing.out));
    assert_string_equal(buffer_text(&writing.out), FIRST("\"content\":\"a\"") FINISH("length") DONE);
    end(&writing);
    begin(&writing, false, NULL, WRITER_CAP_BYTES);
    static const struct answer_part call[] = {{.kind = ANSWER_PART_TOOL, .tool = 0, .name = SPAN_LITERAL("f")}};
    write_parts(&writing, call, 1);
    assert_true(chat_writer_end(&writing.writer, ANSWER_FINISH_NONE, false, &tokens, -1, &writing.out));
    assert_non_null(strstr(buffer_text(&writing.out), "\"id\":\"call_"));
    assert_non_null(strstr(buffer_text(&writing.out), "\"role\":\"assistant\",\"content\":null,\"tool_calls\""));
    assert_non_null(strstr(buffer_text(&writing.out), FINISH("tool_calls") DONE));
    end(&writing);
    begin(&writing, true, NULL, WRITER_CAP_BYTES);
    write_parts(&writing, call, 1);
    assert_true(chat_writer_write_whole(&writing.writer, &tokens, -1, &writing.out));
    assert_non_null(strstr(buffer_text(&writing.out), "\"content\":null"));
    end(&writing);
}

static void control_bytes_cannot_break_an_event(void **state) {
    (void)state;
    struct writing writing;
    begin(&writing, false, NULL, WRITER_CAP_BYTES);
    static const struct answer_part parts[] = {PART(ANSWER_PART_TEXT, -1, "a\n\ndata: x\r\x01"),
                                               PART(ANSWER_PART_LOGPROBS, -1, "{\n\"content\":\r[]}")};
    write_parts(&writing, parts, 2);
    assert_string_equal(buffer_text(&writing.out),
                        FIRST("\"content\":\"a\\u000a\\u000adata: x\\u000d\\u0001\"")
                            CHUNK("{\"index\":0,\"delta\":{},\"logprobs\":{ \"content\": []},\"finish_reason\":null}"));
    end(&writing);
}

/* Whole answers fail past the cap; streams go on, without the signature of what they had no room to keep. */
static void gathering_is_bounded(void **state) {
    (void)state;
    enum { CAP = 1000 };
    static const enum answer_part_kind kinds[] = {ANSWER_PART_TEXT,     ANSWER_PART_REASONING, ANSWER_PART_REFUSAL,
                                                  ANSWER_PART_LOGPROBS, ANSWER_PART_SIGNATURE, ANSWER_PART_REDACTED,
                                                  ANSWER_PART_TOOL,     ANSWER_PART_ARGUMENTS};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct writing writing;
        begin(&writing, true, "f", CAP);
        struct answer_part part = {.kind = kinds[i], .tool = -1, .text = SPAN_LITERAL("{\"content\":[123456789,1]}")};
        bool is_of_call = kinds[i] == ANSWER_PART_TOOL || kinds[i] == ANSWER_PART_ARGUMENTS;
        const struct answer_part call = {.kind = ANSWER_PART_TOOL, .name = SPAN_LITERAL("f")};
        assert_true(!is_of_call || chat_writer_part(&writing.writer, &call, NULL));
        int taken = 0;
        for (; taken < CAP && chat_writer_part(&writing.writer, &part, NULL); taken++) {
            part.tool = kinds[i] == ANSWER_PART_TOOL ? taken + 1 : is_of_call ? 0 : -1;
        }
        assert_in_range(taken, 2, CAP / 8);
        assert_false(chat_writer_write_whole(&writing.writer, &tokens, -1, &writing.out));
        end(&writing);
    }
    struct writing writing;
    begin(&writing, false, "f", 8);
    static const struct answer_part parts[] = {
        PART(ANSWER_PART_REASONING, -1, "12345"), PART(ANSWER_PART_REASONING, -1, "67890"),
        PART(ANSWER_PART_REASONING, -1, "x"),     PART(ANSWER_PART_SIGNATURE, -1, "LOST"),
        PART(ANSWER_PART_REASONING, -1, "short"), PART(ANSWER_PART_SIGNATURE, -1, "KEPT"),
    };
    write_parts(&writing, parts, 6);
    assert_null(strstr(buffer_text(&writing.out), "LOST"));
    assert_non_null(strstr(buffer_text(&writing.out), "\"text\":\"short\",\"signature\":\"KEPT\""));
    end(&writing);
}

static void full_buffers_are_told(void **state) {
    (void)state;
    struct chat_writer writer;
    struct buffer small;
    buffer_init(&small, 100);
    chat_writer_init(&writer, "chatcmpl-abc", "m", CREATED_S, NULL, false, WRITER_CAP_BYTES);
    const struct answer_part part = PART(ANSWER_PART_TEXT, -1, "hello");
    assert_false(chat_writer_part(&writer, &part, &small));
    assert_false(chat_writer_end(&writer, ANSWER_FINISH_NONE, true, &tokens, 1, &small));
    chat_writer_fini(&writer);
    assert_false(chat_writer_part(&writer, &part, &small));
    buffer_fini(&small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_answers_stay_what_they_are),
        cmocka_unit_test(chunks_are_written_so),
        cmocka_unit_test(whole_answers_are_written_so),
        cmocka_unit_test(ends_fit_what_was_said),
        cmocka_unit_test(control_bytes_cannot_break_an_event),
        cmocka_unit_test(gathering_is_bounded),
        cmocka_unit_test(full_buffers_are_told),
    };
    return cmocka_run_group_tests(tests, make_scratch, free_scratch);
}
