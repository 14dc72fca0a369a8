/* A JSON array that arrives in pieces: the same elements wherever it is cut, none beyond the cap; an array of objects
 * that is valid JSON is never refused, and each of its elements is valid. */
#include "base/json_read.h"
#include "fuzz.h"
#include "worker/json_elements.h"

enum { CAP_BYTES = 1 << 12, OUT_BYTES = 1 << 24 };

static struct json_doc doc;

/* Splits text fed by `step` bytes; appends each element and a NUL to out. */
static enum json_elements_result split(struct span text, size_t step, size_t cap_bytes, struct buffer *out,
                                       bool *is_over) {
    struct json_elements elements;
    enum json_elements_result result = JSON_ELEMENTS_NEED_MORE;
    json_elements_init(&elements, cap_bytes);
    for (size_t at = 0; at < text.len && result == JSON_ELEMENTS_NEED_MORE; at += step) {
        struct span input = span_of(text.base + at, step < text.len - at ? step : text.len - at);
        struct span element;
        while ((result = json_elements_next(&elements, &input, &element)) == JSON_ELEMENTS_ONE) {
            CHECK(element.len >= 2 && element.len <= cap_bytes);
            CHECK(element.base[0] == '{');
            buffer_append_span(out, element);
            buffer_append_byte(out, '\0');
        }
        CHECK(result != JSON_ELEMENTS_NEED_MORE || input.len == 0);
    }
    *is_over = json_elements_is_over(&elements);
    json_elements_fini(&elements);
    return result;
}

static bool is_array_of_objects(struct span text) {
    if (!json_parse(&doc, text) || json_type_of(&doc, 0) != JSON_ARRAY) {
        return false;
    }
    for (int each = json_first(&doc, 0); each >= 0; each = json_next(&doc, each)) {
        if (json_type_of(&doc, each) != JSON_OBJECT) {
            return false;
        }
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct span text = fuzz_span(data, size);
    struct buffer first;
    struct buffer second;
    bool is_over = false;
    bool was_over = false;
    buffer_init(&first, OUT_BYTES);
    buffer_init(&second, OUT_BYTES);
    enum json_elements_result result = split(text, size != 0 ? size : 1, CAP_BYTES, &first, &is_over);
    for (size_t step = 1; step <= 7; step += 3) {
        buffer_clear(&second);
        CHECK(split(text, step, CAP_BYTES, &second, &was_over) == result && was_over == is_over);
        CHECK(span_equals(buffer_span(&first), buffer_span(&second)));
    }
    if (is_array_of_objects(text)) {
        buffer_clear(&first);
        CHECK(split(text, 5, size, &first, &is_over) == JSON_ELEMENTS_NEED_MORE && is_over);
        struct span rest = buffer_span(&first);
        while (rest.len != 0) {
            size_t len = strlen(rest.base);
            CHECK(json_parse(&doc, span_of(rest.base, len)));
            rest = span_skip(rest, len + 1);
        }
    }
    buffer_fini(&first);
    buffer_fini(&second);
    return 0;
}
