#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/ws_memory.h"

#include <stdlib.h>

enum { CONTEXT_BYTES = 64 };

static void expect(const struct ws_memory *memory, const char *text) {
    struct buffer out;
    buffer_init(&out, 4 * WS_MEMORY_BYTES);
    ws_memory_write(memory, &out);
    assert_string_equal(buffer_text(&out), text);
    buffer_fini(&out);
}

static void add(struct ws_memory *memory, const char *asked, const char *answered) {
    ws_memory_add_turn(memory, span_text(asked), span_text(answered));
}

static void test_turns_wait_for_a_context(void **state) {
    struct ws_memory memory;
    (void)state;
    ws_memory_init(&memory, CONTEXT_BYTES);
    add(&memory, "q1", "a1");
    expect(&memory, "");
    assert_true(ws_memory_set_context(&memory, SPAN_LITERAL("c1,c2")));
    add(&memory, "", "a2");
    expect(&memory, "c1,c2,q1,a1,a2,");
    assert_true(ws_memory_set_context(&memory, SPAN_EMPTY));
    expect(&memory, "q1,a1,a2,");
    assert_true(ws_memory_set_context(&memory, SPAN_LITERAL("c3")));
    expect(&memory, "c3,q1,a1,a2,");
    ws_memory_fini(&memory);
}

static void test_a_context_that_is_too_long_changes_nothing(void **state) {
    struct ws_memory memory;
    char text[CONTEXT_BYTES + 1];
    (void)state;
    memset(text, 'c', sizeof(text));
    ws_memory_init(&memory, CONTEXT_BYTES);
    assert_false(ws_memory_set_context(&memory, span_of(text, sizeof(text))));
    assert_false(memory.is_conversation);
    assert_true(ws_memory_set_context(&memory, span_of(text, sizeof(text) - 1)));
    assert_false(ws_memory_set_context(&memory, span_of(text, sizeof(text))));
    assert_int_equal(memory.context.len, CONTEXT_BYTES);
    ws_memory_fini(&memory);
}

static void test_the_oldest_go_first(void **state) {
    static char third[WS_MEMORY_BYTES / 3];
    struct ws_memory memory;
    (void)state;
    memset(third, 'x', sizeof(third));
    ws_memory_init(&memory, CONTEXT_BYTES);
    assert_true(ws_memory_set_context(&memory, SPAN_EMPTY));
    for (int name = '0'; name < '8'; name++) {
        third[0] = (char)name;
        ws_memory_add_turn(&memory, SPAN_EMPTY, span_of(third, sizeof(third)));
        assert_true(memory.bytes <= WS_MEMORY_BYTES);
    }
    struct buffer out;
    buffer_init(&out, 4 * WS_MEMORY_BYTES);
    ws_memory_write(&memory, &out);
    assert_int_equal(out.len, 3 * (sizeof(third) + 1));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(out.base[(size_t)i * (sizeof(third) + 1)], '5' + i);
    }
    buffer_fini(&out);
    ws_memory_fini(&memory);
}

static void test_a_turn_fills_it_exactly_or_is_not_kept(void **state) {
    char *text = calloc(1, WS_MEMORY_BYTES + 1);
    struct ws_memory memory;
    (void)state;
    assert_non_null(text);
    memset(text, 'x', WS_MEMORY_BYTES + 1);
    ws_memory_init(&memory, CONTEXT_BYTES);
    add(&memory, "old", "turn");
    ws_memory_add_turn(&memory, SPAN_EMPTY, span_of(text, WS_MEMORY_BYTES + 1));
    assert_int_equal(memory.bytes, 8);
    ws_memory_add_turn(&memory, SPAN_LITERAL("q"), span_of(text, WS_MEMORY_BYTES - 1));
    assert_int_equal(memory.bytes, 8);
    ws_memory_add_turn(&memory, SPAN_LITERAL("q"), span_of(text, WS_MEMORY_BYTES - 2));
    assert_int_equal(memory.bytes, WS_MEMORY_BYTES);
    add(&memory, "next", "turn");
    assert_int_equal(memory.bytes, 9);
    ws_memory_fini(&memory);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns_wait_for_a_context),
        cmocka_unit_test(test_a_context_that_is_too_long_changes_nothing),
        cmocka_unit_test(test_the_oldest_go_first),
        cmocka_unit_test(test_a_turn_fills_it_exactly_or_is_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
