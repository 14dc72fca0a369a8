#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hearing_testing.h"

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

/* Hears a fixture one way; with and without a sink the same is heard. */
static void try_way(const struct fixtures *fixtures, int file, const struct hearing_way *way, struct span text,
                    const char *name) {
    struct answer_listener heard;
    struct answer_listener alone;
    struct told_parts parts;
    told_init(&parts);
    hearing_run(way, &scratch, text, &heard, &parts.sink);
    hearing_run(way, &scratch, text, &alone, NULL);
    assert_memory_equal(&heard, &alone, sizeof(heard));
    hearing_expect_parts(fixtures, file, &parts, name);
    told_fini(&parts);
}

static void try_all_ways(const struct fixtures *fixtures, int file, struct hearing_way way, struct span text,
                         const char *name) {
    static const size_t steps[] = {SIZE_MAX, 1, 7, 1000};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        way.first = way.step = steps[i];
        try_way(fixtures, file, &way, text, name);
    }
    /* Every offset of short streams, some of long ones. */
    size_t stride = text.len / 400 + 1;
    way.step = SIZE_MAX;
    for (size_t cut = 1; way.is_stream && cut < text.len; cut += stride) {
        way.first = cut;
        try_way(fixtures, file, &way, text, name);
    }
}

static void every_recorded_answer_is_told_as_expected(void **state) {
    (void)state;
    struct fixtures fixtures;
    struct hearing_way way;
    fixtures_load(&fixtures);
    int count = 0;
    for (int file = json_first(&fixtures.index, fixtures.files); file >= 0; file = json_next(&fixtures.index, file)) {
        if (!hearing_way_of(&fixtures, file, &way) || way.is_gemini) {
            continue;
        }
        char name[FIXTURE_PATH_BYTES];
        struct buffer text;
        struct buffer crlf;
        fixture_open(&fixtures, file, name, &text);
        try_all_ways(&fixtures, file, way, buffer_span(&text), name);
        hearing_with_crlf(buffer_span(&text), &crlf);
        way.first = way.step = 11;
        try_way(&fixtures, file, &way, buffer_span(&crlf), name);
        buffer_fini(&crlf);
        buffer_fini(&text);
        count++;
    }
    assert_true(count >= 55);
    fixtures_free(&fixtures);
}

/* Hears events, NULL-terminated, as one stream. */
static void hear(struct told_parts *parts, const char *const *events) {
    struct answer_listener listener;
    struct answer_event out;
    answer_listener_init(&listener);
    told_init(parts);
    for (; *events != NULL; events++) {
        openai_hear_event(&listener, &scratch, SPAN_EMPTY, span_text(*events), &out, &parts->sink);
        assert_false(out.is_invalid);
    }
}

#define DELTA(inside) "{\"choices\":[{\"index\":0,\"delta\":{" inside "}}]}"
#define CALL(inside) DELTA("\"tool_calls\":[{" inside "}]")

static void calls_are_told_by_their_index(void **state) {
    (void)state;
    struct told_parts parts;
    static const char *const events[] = {
        CALL("\"index\":1,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}"),
        CALL("\"index\":1,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\"\"}"),
        CALL("\"index\":4,\"function\":{\"arguments\":\"{\",\"name\":\"g\"},\"id\":\"b\""),
        CALL("\"index\":1,\"id\":null,\"function\":{\"name\":null,\"arguments\":\":1}\"}"),
        CALL("\"index\":4,\"id\":\"other\",\"function\":{\"arguments\":\"}\"}"),
        NULL,
    };
    hear(&parts, events);
    assert_int_equal(parts.choices[0].call_count, 2);
    assert_string_equal(buffer_text(&parts.choices[0].calls[0].name), "f");
    assert_string_equal(buffer_text(&parts.choices[0].calls[0].arguments), "{\"x\":1}");
    assert_string_equal(buffer_text(&parts.choices[0].calls[1].id), "b");
    assert_string_equal(buffer_text(&parts.choices[0].calls[1].arguments), "{}");
    told_fini(&parts);
}

/* Gemini's OpenAI layer gives all calls index 0, others none. */
static void calls_with_one_index_are_told_apart_by_id(void **state) {
    (void)state;
    struct told_parts parts;
    static const char *const events[] = {
        CALL("\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"},"
             "\"extra_content\":{\"google\":{\"thought_signature\":\"S\"}}"),
        CALL("\"index\":0,\"id\":\"b\",\"function\":{\"name\":\"f\",\"arguments\":\"{1\"}"),
        CALL("\"index\":0,\"id\":\"b\",\"function\":{\"name\":\"f\",\"arguments\":\"}\"}"),
        DELTA("\"tool_calls\":[{\"id\":\"c\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}},null,7,{}]"),
        NULL,
    };
    hear(&parts, events);
    assert_int_equal(parts.choices[0].call_count, 4);
    assert_string_equal(buffer_text(&parts.choices[0].calls[0].signature), "S");
    assert_string_equal(buffer_text(&parts.choices[0].calls[1].arguments), "{1}");
    assert_string_equal(buffer_text(&parts.choices[0].calls[2].name), "g");
    told_fini(&parts);
}

static void many_calls_are_bounded(void **state) {
    (void)state;
    static struct answer_told told;
    answer_told_init(&told);
    for (int64_t i = 0; i < ANSWER_CALLS_MOST; i++) {
        assert_int_equal(answer_told_begin_call(&told, 7, i, SPAN_LITERAL("x")), i);
    }
    assert_int_equal(answer_told_begin_call(&told, 7, 0, SPAN_LITERAL("x")), -1);
    assert_int_equal(answer_told_find_call(&told, 7, ANSWER_CALLS_MOST - 1, SPAN_EMPTY, false), ANSWER_CALLS_MOST - 1);
    assert_int_equal(answer_told_find_call(&told, 7, 0, SPAN_EMPTY, false), -1);
    assert_int_equal(answer_told_find_call(&told, 8, ANSWER_CALLS_MOST - 1, SPAN_EMPTY, false), -1);
    assert_false(answer_told_has_room(ANSWER_CHOICES_MOST));
    assert_false(answer_told_has_room(-1));
}

static void reasoning_comes_before_what_follows_from_it(void **state) {
    (void)state;
    struct told_parts parts;
    static const char *const events[] = {
        DELTA("\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"hm\"}]},"
              "{\"type\":\"text\",\"text\":\"yes\"},\"!\"],\"reasoning\":\"\",\"reasoning_content\":\" so\","
              "\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":\" so\",\"signature\":\"S\"},"
              "{\"type\":\"reasoning.encrypted\",\"data\":\"D\"},7]"),
        "{\"choices\":[{\"index\":0,\"delta\":{\"refusal\":\"no\"},\"logprobs\":{\"content\":[]},"
        "\"finish_reason\":\"stop\",\"stop_reason\":\"END\"}]}",
        "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}",
        "{\"choices\":[{\"text\":\"plain\",\"index\":1,\"finish_reason\":\"length\",\"logprobs\":null}]}",
        "{\"choices\":[{\"delta\":{\"content\":\"far\"},\"index\":500,\"finish_reason\":\"stop\"},7,null]}",
        NULL,
    };
    hear(&parts, events);
    const struct told_choice *choice = &parts.choices[0];
    assert_string_equal(buffer_text(&choice->reasoning), " sohm");
    assert_string_equal(buffer_text(&choice->content), "yes!");
    assert_string_equal(buffer_text(&choice->signature), "S");
    assert_string_equal(buffer_text(&choice->redacted), "D");
    assert_string_equal(buffer_text(&choice->refusal), "no");
    assert_string_equal(buffer_text(&choice->logprobs), "{\"content\":[]}");
    assert_string_equal(buffer_text(&choice->sequence), "END");
    assert_int_equal(choice->finish, ANSWER_FINISH_STOP_SEQUENCE);
    assert_int_equal(choice->finishes, 1);
    assert_string_equal(buffer_text(&parts.choices[1].content), "plain");
    assert_int_equal(parts.choices[1].finish, ANSWER_FINISH_LENGTH);
    told_fini(&parts);
}

/* What goes into other texts has to be strict JSON. */
static void parts_are_strict(void **state) {
    (void)state;
    static const char *const texts[] = {DELTA("\"content\":\"a\nb\""), DELTA("\"content\":\"\\x\""),
                                        DELTA("\"content\":\"\x80\""), DELTA("\"content\":01")};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct answer_listener listener;
        struct answer_event out;
        struct told_parts parts;
        answer_listener_init(&listener);
        told_init(&parts);
        openai_hear_event(&listener, &scratch, SPAN_EMPTY, span_text(texts[i]), &out, &parts.sink);
        assert_true(out.is_invalid);
        assert_int_equal(parts.part_count, 0);
        told_fini(&parts);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recorded_answer_is_told_as_expected),   cmocka_unit_test(calls_are_told_by_their_index),
        cmocka_unit_test(calls_with_one_index_are_told_apart_by_id),   cmocka_unit_test(many_calls_are_bounded),
        cmocka_unit_test(reasoning_comes_before_what_follows_from_it), cmocka_unit_test(parts_are_strict),
    };
    return cmocka_run_group_tests(tests, make_scratch, free_scratch);
}
