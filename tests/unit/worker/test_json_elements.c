#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "worker/json_elements.h"

enum { CAP_BYTES = 64 };

/* Feeds text in pieces of `step` bytes; the elements come back one a line, and what ended it. */
static enum json_elements_result split(struct span text, size_t step, struct buffer *out, bool *is_over) {
    struct json_elements elements;
    enum json_elements_result result = JSON_ELEMENTS_NEED_MORE;
    json_elements_init(&elements, CAP_BYTES);
    buffer_clear(out);
    for (size_t at = 0; at < text.len && result == JSON_ELEMENTS_NEED_MORE; at += step) {
        size_t len = step < text.len - at ? step : text.len - at;
        char *copy = malloc(len);
        struct span element;
        assert_non_null(copy);
        memcpy(copy, text.base + at, len);
        struct span input = span_of(copy, len);
        while ((result = json_elements_next(&elements, &input, &element)) == JSON_ELEMENTS_ONE) {
            buffer_append_span(out, element);
            buffer_append_byte(out, '|');
        }
        free(copy);
    }
    *is_over = json_elements_is_over(&elements);
    if (result > JSON_ELEMENTS_NEED_MORE) { /* it stays */
        struct span input = SPAN_LITERAL("{}");
        struct span element;
        assert_int_equal(json_elements_next(&elements, &input, &element), result);
    }
    json_elements_fini(&elements);
    return result;
}

static void expect(const char *text, const char *elements, enum json_elements_result result, bool is_over) {
    struct buffer out;
    bool was_over = false;
    buffer_init(&out, 4096);
    for (size_t step = 1; step <= strlen(text) + 1; step++) {
        enum json_elements_result got = split(span_text(text), step, &out, &was_over);
        if (strcmp(buffer_text(&out), elements) != 0 || got != result || was_over != is_over) {
            fail_msg("%s by %zu: %s, %d, over %d", text, step, buffer_text(&out), (int)got, was_over);
        }
    }
    buffer_fini(&out);
}

static void elements_come_whole_however_cut(void **state) {
    (void)state;
    expect("[{\"a\":1}\n,\r\n{\"b\":[{}]}\n]\n", "{\"a\":1}|{\"b\":[{}]}|", JSON_ELEMENTS_NEED_MORE, true);
    expect(" [ ] ", "", JSON_ELEMENTS_NEED_MORE, true);
    expect("[{},{},{}]", "{}|{}|{}|", JSON_ELEMENTS_NEED_MORE, true);
    expect("[{\"a\":\"]}\\\"{\\\\\"},{}]", "{\"a\":\"]}\\\"{\\\\\"}|{}|", JSON_ELEMENTS_NEED_MORE, true);
    expect("[{},", "{}|", JSON_ELEMENTS_NEED_MORE, false);
    expect("[{},{\"a\":", "{}|", JSON_ELEMENTS_NEED_MORE, false);
    expect("[{\"a\":\"x", "", JSON_ELEMENTS_NEED_MORE, false);
}

static void all_else_is_refused(void **state) {
    (void)state;
    expect("{\"error\":{}}", "", JSON_ELEMENTS_INVALID, false);
    expect("[1]", "", JSON_ELEMENTS_INVALID, false);
    expect("[[{}]]", "", JSON_ELEMENTS_INVALID, false);
    expect("[,{}]", "", JSON_ELEMENTS_INVALID, false);
    expect("[{}{}]", "{}|", JSON_ELEMENTS_INVALID, false);
    expect("[{},]", "{}|", JSON_ELEMENTS_INVALID, false);
    expect("[{},,{}]", "{}|", JSON_ELEMENTS_INVALID, false);
    expect("[{}]x", "{}|", JSON_ELEMENTS_INVALID, false);
    expect("[{}][", "{}|", JSON_ELEMENTS_INVALID, false);
    expect("<html>", "", JSON_ELEMENTS_INVALID, false);
    expect("data: {}", "", JSON_ELEMENTS_INVALID, false);
}

static void elements_are_bounded(void **state) {
    (void)state;
    char text[CAP_BYTES + 16];
    struct buffer out;
    bool is_over = false;
    buffer_init(&out, 4096);
    for (size_t len = CAP_BYTES; len <= CAP_BYTES + 1; len++) {
        memset(text, ' ', sizeof(text));
        text[0] = '[';
        text[1] = '{';
        text[len] = '}';
        text[len + 1] = ']';
        for (size_t step = 1; step <= len + 2; step++) {
            enum json_elements_result result = split(span_of(text, len + 2), step, &out, &is_over);
            assert_int_equal(result, len == CAP_BYTES ? JSON_ELEMENTS_NEED_MORE : JSON_ELEMENTS_TOO_LONG);
            assert_int_equal(is_over, len == CAP_BYTES);
        }
    }
    buffer_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_come_whole_however_cut),
        cmocka_unit_test(all_else_is_refused),
        cmocka_unit_test(elements_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
