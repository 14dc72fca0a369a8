#include "worker/json_elements.h"

/* Gathering memory beyond this is given back before the next element. */
enum { KEPT_BYTES = 16 * 1024 };

void json_elements_init(struct json_elements *elements, size_t cap_bytes) {
    *elements =
        (struct json_elements){.cap_bytes = cap_bytes, .place = JSON_ELEMENTS_START, .failure = JSON_ELEMENTS_ONE};
    buffer_init(&elements->gathered, cap_bytes);
}

void json_elements_fini(struct json_elements *elements) { buffer_fini(&elements->gathered); }

bool json_elements_is_over(const struct json_elements *elements) {
    return elements->failure == JSON_ELEMENTS_ONE && elements->place == JSON_ELEMENTS_OVER;
}

static enum json_elements_result fail(struct json_elements *elements, enum json_elements_result failure) {
    elements->failure = failure;
    return failure;
}

static bool is_blank(char byte) { return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n'; }

/* Where a byte that is no blank leads to from between two elements. False: it may not stand there. */
static bool step(struct json_elements *elements, char byte) {
    enum json_elements_place place = elements->place;
    bool may_begin = place == JSON_ELEMENTS_FIRST || place == JSON_ELEMENTS_BEFORE;
    bool may_close = place == JSON_ELEMENTS_FIRST || place == JSON_ELEMENTS_AFTER;
    if (byte == '[' && place == JSON_ELEMENTS_START) {
        elements->place = JSON_ELEMENTS_FIRST;
    } else if (byte == '{' && may_begin) {
        elements->place = JSON_ELEMENTS_INSIDE;
    } else if (byte == ',' && place == JSON_ELEMENTS_AFTER) {
        elements->place = JSON_ELEMENTS_BEFORE;
    } else if (byte == ']' && may_close) {
        elements->place = JSON_ELEMENTS_OVER;
    } else {
        return false;
    }
    return true;
}

/* Consumes what stands between elements, up to the brace that opens one. False: something else stands there. */
static bool skip_between(struct json_elements *elements, struct span *input) {
    while (input->len != 0 && elements->place != JSON_ELEMENTS_INSIDE) {
        if (!is_blank(input->base[0]) && !step(elements, input->base[0])) {
            return false;
        }
        if (elements->place != JSON_ELEMENTS_INSIDE) {
            *input = span_skip(*input, 1);
        }
    }
    return true;
}

/* How many bytes of input belong to the element; *is_whole: it ends with them. */
static size_t find_end(struct json_elements *elements, struct span input, bool *is_whole) {
    size_t at = 0;
    *is_whole = false;
    while (at < input.len && !*is_whole) {
        char byte = input.base[at++];
        if (elements->is_escaped) {
            elements->is_escaped = false;
        } else if (elements->is_in_string) {
            elements->is_escaped = byte == '\\';
            elements->is_in_string = byte != '"';
        } else if (byte == '"') {
            elements->is_in_string = true;
        } else if (byte == '{' || byte == '[') {
            elements->depth++;
        } else if (byte == '}' || byte == ']') {
            *is_whole = --elements->depth == 0;
        }
    }
    return at;
}

/* Prepares for the next element once the last one was handed out. */
static void start_element(struct json_elements *elements) {
    if (elements->gathered.size > KEPT_BYTES) {
        buffer_fini(&elements->gathered);
    }
    buffer_clear(&elements->gathered);
    elements->is_delivered = false;
}

enum json_elements_result json_elements_next(struct json_elements *elements, struct span *input, struct span *out) {
    bool is_whole = false;
    if (elements->failure != JSON_ELEMENTS_ONE) {
        return elements->failure;
    }
    if (elements->is_delivered) {
        start_element(elements);
    }
    if (!skip_between(elements, input)) {
        return fail(elements, JSON_ELEMENTS_INVALID);
    }
    if (input->len == 0) {
        return JSON_ELEMENTS_NEED_MORE;
    }
    struct span part = span_of(input->base, find_end(elements, *input, &is_whole));
    *input = span_skip(*input, part.len);
    if (part.len > elements->cap_bytes - elements->gathered.len) {
        return fail(elements, JSON_ELEMENTS_TOO_LONG);
    }
    bool is_in_parts = !is_whole || elements->gathered.len != 0;
    if (is_in_parts) {
        buffer_append_span(&elements->gathered, part);
    }
    if (elements->gathered.failed) {
        return fail(elements, JSON_ELEMENTS_TOO_LONG);
    }
    if (!is_whole) {
        return JSON_ELEMENTS_NEED_MORE;
    }
    *out = is_in_parts ? buffer_span(&elements->gathered) : part;
    elements->place = JSON_ELEMENTS_AFTER;
    elements->is_delivered = true;
    return JSON_ELEMENTS_ONE;
}
