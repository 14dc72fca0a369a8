#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/ws_answer.h"

#include "base/json_read.h"

enum { TEXT_BYTES = 4 << 20 };

/* An answer and the messages that came of it, one a line. */
struct talk {
    struct ws_answer answer;
    struct buffer text;
    struct buffer sent;
    struct ws_out out;
    struct json_doc doc;
};

static void keep(void *context, struct span message) {
    struct talk *talk = context;
    assert_true(json_parse(&talk->doc, message));
    buffer_append_span(&talk->sent, message);
    buffer_append_byte(&talk->sent, '\n');
}

static void talk_init(struct talk *talk, enum ws_form form) {
    ws_answer_init(&talk->answer, form, "\"i\"");
    buffer_init(&talk->text, TEXT_BYTES);
    buffer_init(&talk->sent, TEXT_BYTES);
    json_doc_init(&talk->doc);
    talk->out = (struct ws_out){.send = keep, .context = talk, .text = &talk->text};
}

static void talk_fini(struct talk *talk) {
    ws_answer_fini(&talk->answer);
    buffer_fini(&talk->text);
    buffer_fini(&talk->sent);
    json_doc_fini(&talk->doc);
}

static void hear(struct talk *talk, const char *data) { ws_answer_hear(&talk->answer, span_text(data), &talk->out); }

static void end(struct talk *talk, const char *reason) {
    const struct ws_ending ending = {.finish_reason = reason,
                                     .chunk_head = "\"id\":\"c\",",
                                     .tokens = {.input_tokens = 3, .output_tokens = 4},
                                     .cost_nusd = 5};
    ws_answer_end(&talk->answer, &ending, &talk->out);
}

static void expect(struct talk *talk, const char *sent) {
    assert_string_equal(buffer_text(&talk->sent), sent);
    buffer_clear(&talk->sent);
}

static void expect_turn(const struct talk *talk, const char *turn) {
    struct buffer out;
    buffer_init(&out, TEXT_BYTES);
    assert_int_equal(ws_answer_write_turn(&talk->answer, &out), turn != NULL);
    if (turn != NULL) {
        assert_string_equal(buffer_text(&out), turn);
    }
    buffer_fini(&out);
}

#define DELTA(delta) "{\"choices\":[{\"index\":0,\"delta\":{" delta "},\"finish_reason\":null}],\"usage\":null}"
#define DETAILS                                                                                                        \
    "\"prompt_tokens_details\":{\"cached_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0},"
#define OURS "{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7," DETAILS "\"cost\":0.000000005}"

static void test_content(void **state) {
    struct talk talk;
    (void)state;
    talk_init(&talk, WS_FORM_CONTENT);
    hear(&talk, DELTA("\"role\":\"assistant\",\"content\":\"\""));
    expect(&talk, "");
    hear(&talk, DELTA("\"content\":\"a\\n\\\"b\\u00e9\""));
    expect(&talk, "{\"type\":\"content.delta\",\"id\":\"i\",\"delta\":\"a\\n\\\"b\\u00e9\"}\n");
    hear(&talk, DELTA("\"content\":null,\"refusal\":\"No.\""));
    expect(&talk, "{\"type\":\"refusal.delta\",\"id\":\"i\",\"delta\":\"No.\"}\n");
    hear(&talk, "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}");
    hear(&talk, "{\"choices\":[],\"usage\":{\"total_tokens\":9}}");
    hear(&talk, "[DONE]");
    expect(&talk, "");
    end(&talk, NULL);
    expect(&talk,
           "{\"type\":\"completion.done\",\"id\":\"i\",\"finish_reason\":\"stop\",\"usage\":{\"total_tokens\":9}}\n");
    expect_turn(&talk, "{\"role\":\"assistant\",\"content\":\"a\\n\\\"b\\u00e9No.\"}");
    talk_fini(&talk);
}

static void test_stream(void **state) {
    struct talk talk;
    (void)state;
    talk_init(&talk, WS_FORM_STREAM);
    hear(&talk, DELTA("\"content\":\"a\""));
    hear(&talk, "{\"choices\":[{\"index\":2,\"delta\":{\"content\":\"b\"}}]}");
    expect(&talk, "{\"type\":\"stream\",\"id\":\"i\",\"delta\":{\"content\":\"a\"}}\n"
                  "{\"type\":\"stream\",\"id\":\"i\",\"index\":2,\"delta\":{\"content\":\"b\"}}\n");
    end(&talk, NULL);
    expect(&talk, "{\"type\":\"usage\",\"id\":\"i\",\"usage\":" OURS "}\n{\"type\":\"done\",\"id\":\"i\"}\n");
    expect_turn(&talk, "{\"role\":\"assistant\",\"content\":\"a\"}");
    talk_fini(&talk);
}

static void test_chunks(void **state) {
    struct talk talk;
    (void)state;
    talk_init(&talk, WS_FORM_CHUNKS);
    hear(&talk, DELTA("\"content\":\"a\""));
    expect(&talk, DELTA("\"content\":\"a\"") "\n");
    end(&talk, NULL);
    expect(&talk, "{\"object\":\"chat.completion.chunk\",\"id\":\"c\",\"choices\":[],\"usage\":" OURS "}\n");
    hear(&talk, "{\"choices\":[],\"usage\":{\"total_tokens\":9}}");
    expect(&talk, "{\"choices\":[],\"usage\":{\"total_tokens\":9}}\n");
    end(&talk, NULL);
    expect(&talk, "");
    talk_fini(&talk);
}

static void test_a_cancel(void **state) {
    struct talk talk;
    (void)state;
    talk_init(&talk, WS_FORM_CONTENT);
    end(&talk, "cancelled");
    expect(&talk, "{\"type\":\"completion.done\",\"id\":\"i\",\"finish_reason\":\"cancelled\",\"usage\":" OURS "}\n");
    expect_turn(&talk, NULL);
    talk_fini(&talk);
    talk_init(&talk, WS_FORM_CONTENT);
    end(&talk, NULL);
    expect(&talk, "{\"type\":\"completion.done\",\"id\":\"i\",\"finish_reason\":null,\"usage\":" OURS "}\n");
    talk_fini(&talk);
}

static void test_an_error_is_the_end(void **state) {
    struct talk talk;
    (void)state;
    talk_init(&talk, WS_FORM_CONTENT);
    hear(&talk, DELTA("\"content\":\"a\""));
    buffer_clear(&talk.sent);
    hear(&talk, "{\"error\":{\"message\":\"m\",\"error\":{}}}");
    expect(&talk, "{\"type\":\"error\",\"id\":\"i\",\"error\":{\"message\":\"m\",\"error\":{}}}\n");
    hear(&talk, DELTA("\"content\":\"b\""));
    hear(&talk, "{\"error\":{}}");
    end(&talk, NULL);
    expect(&talk, "");
    expect_turn(&talk, NULL);
    talk_fini(&talk);
}

static void test_reasoning(void **state) {
    struct talk talk;
    (void)state;
    talk_init(&talk, WS_FORM_STREAM);
    hear(&talk, DELTA("\"reasoning_content\":\"x\",\"reasoning\":\"x\""));
    hear(&talk, DELTA("\"reasoning\":\"y\",\"content\":\"\""));
    hear(&talk, DELTA("\"reasoning\":{\"text\":\"z\"}"));
    expect(&talk, "{\"type\":\"reasoning.delta\",\"id\":\"i\",\"delta\":\"x\"}\n"
                  "{\"type\":\"reasoning.delta\",\"id\":\"i\",\"delta\":\"y\"}\n");
    expect_turn(&talk, NULL);
    talk_fini(&talk);
}

#define CALL(index, rest) "\"tool_calls\":[{\"index\":" index "," rest "}]"

static void test_tool_calls(void **state) {
    struct talk talk;
    (void)state;
    talk_init(&talk, WS_FORM_CONTENT);
    hear(&talk, DELTA(CALL("1", "\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"\"}")));
    expect(&talk, "{\"type\":\"tool_call.delta\",\"id\":\"i\",\"delta\":{\"index\":1,\"id\":\"b\",\"function\":"
                  "{\"name\":\"g\",\"arguments\":\"\"}}}\n");
    hear(&talk,
         DELTA(CALL("0", "\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}")));
    hear(&talk, DELTA(CALL("0", "\"id\":\"a\",\"function\":{\"arguments\":\"}\"}")));
    hear(&talk, DELTA("\"content\":null"));
    expect_turn(&talk, "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
                       "{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},"
                       "{\"id\":\"b\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"\"}}]}");
    buffer_clear(&talk.sent);
    hear(&talk, DELTA(CALL("99999999999", "\"id\":\"z\"")));
    expect_turn(&talk, NULL);
    talk_fini(&talk);
}

static void test_a_long_answer_is_not_remembered(void **state) {
    struct buffer data;
    struct talk talk;
    (void)state;
    buffer_init(&data, TEXT_BYTES);
    buffer_append_text(&data, "{\"choices\":[{\"delta\":{\"content\":\"");
    char *fill = buffer_reserve(&data, WS_MEMORY_BYTES / 2 + 1);
    assert_non_null(fill);
    memset(fill, 'x', WS_MEMORY_BYTES / 2 + 1);
    buffer_added(&data, WS_MEMORY_BYTES / 2 + 1);
    buffer_append_text(&data, "\"}}]}");
    talk_init(&talk, WS_FORM_CONTENT);
    for (int i = 0; i < 3; i++) {
        ws_answer_hear(&talk.answer, buffer_span(&data), &talk.out);
        assert_true(talk.sent.len > WS_MEMORY_BYTES / 2);
        buffer_clear(&talk.sent);
    }
    expect_turn(&talk, NULL);
    end(&talk, NULL);
    assert_true(talk.sent.len != 0);
    talk_fini(&talk);
    buffer_fini(&data);
}

static void test_odd_shapes_say_nothing(void **state) {
    static const char *const texts[] = {
        "",
        "null",
        "[]",
        "{}",
        "{\"choices\":7}",
        "{\"choices\":[7,null,[],{}]}",
        "{\"choices\":[{\"delta\":7,\"finish_reason\":8,\"index\":\"x\"}]}",
        "{\"choices\":[{\"delta\":{\"content\":[],\"tool_calls\":{},\"reasoning\":4}}]}",
        "{\"choices\":[{\"delta\":{\"tool_calls\":[",
        "{\"choices\":[{\"delta\":{\"content\":\"cut",
        "{\"error\":null,\"choices\":[]}",
    };
    struct talk talk;
    (void)state;
    talk_init(&talk, WS_FORM_CONTENT);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        hear(&talk, texts[i]);
        expect(&talk, "");
    }
    talk_fini(&talk);
}

static void hear_number(struct talk *talk, uint32_t number, const char *data) {
    talk->answer.number = number;
    hear(talk, data);
}

static void test_messages_say_how_far_they_are(void **state) {
    struct talk talk;
    (void)state;
    talk_init(&talk, WS_FORM_CONTENT);
    hear_number(&talk, 1, DELTA("\"content\":\"\""));
    expect(&talk, "");
    hear_number(&talk, 2, DELTA("\"content\":\"a\",\"reasoning\":\"b\",\"tool_calls\":[{}]"));
    expect(&talk, "{\"type\":\"reasoning.delta\",\"id\":\"i\",\"delta\":\"b\",\"n\":\"1.1\"}\n"
                  "{\"type\":\"content.delta\",\"id\":\"i\",\"delta\":\"a\",\"n\":\"1.2\"}\n"
                  "{\"type\":\"tool_call.delta\",\"id\":\"i\",\"delta\":{},\"n\":2}\n");
    hear_number(&talk, 4294967295U, DELTA("\"content\":\"c\""));
    expect(&talk, "{\"type\":\"content.delta\",\"id\":\"i\",\"delta\":\"c\",\"n\":4294967295}\n");
    end(&talk, NULL);
    expect(&talk, "{\"type\":\"completion.done\",\"id\":\"i\",\"finish_reason\":null,\"usage\":" OURS "}\n");
    talk_fini(&talk);
}

static void test_what_a_client_has_is_heard_and_not_told(void **state) {
    struct talk talk;
    (void)state;
    talk_init(&talk, WS_FORM_STREAM);
    talk.answer.after = (struct ws_position){.events = 1, .messages = 1};
    hear_number(&talk, 1,
                "{\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}],\"usage\":{\"x\":1}}");
    expect(&talk, "");
    hear_number(&talk, 2, DELTA("\"content\":\"b\",\"reasoning\":\"c\""));
    expect(&talk, "{\"type\":\"stream\",\"id\":\"i\",\"delta\":{\"content\":\"b\"},\"n\":2}\n");
    hear_number(&talk, 3, DELTA("\"content\":\"d\""));
    expect(&talk, "{\"type\":\"stream\",\"id\":\"i\",\"delta\":{\"content\":\"d\"},\"n\":3}\n");
    end(&talk, NULL);
    expect(&talk, "{\"type\":\"usage\",\"id\":\"i\",\"usage\":{\"x\":1}}\n{\"type\":\"done\",\"id\":\"i\"}\n");
    talk_fini(&talk);
}

static void test_an_error_is_always_told(void **state) {
    struct talk talk;
    (void)state;
    talk_init(&talk, WS_FORM_CONTENT);
    talk.answer.after.events = 9;
    hear_number(&talk, 1, "{\"error\":{\"message\":\"m\"}}");
    expect(&talk, "{\"type\":\"error\",\"id\":\"i\",\"error\":{\"message\":\"m\"}}\n");
    end(&talk, NULL);
    expect(&talk, "");
    talk_fini(&talk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_a_cancel),
        cmocka_unit_test(test_an_error_is_the_end),
        cmocka_unit_test(test_reasoning),
        cmocka_unit_test(test_tool_calls),
        cmocka_unit_test(test_a_long_answer_is_not_remembered),
        cmocka_unit_test(test_odd_shapes_say_nothing),
        cmocka_unit_test(test_messages_say_how_far_they_are),
        cmocka_unit_test(test_what_a_client_has_is_heard_and_not_told),
        cmocka_unit_test(test_an_error_is_always_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
