/* tests/unit/worker/hearing_testing.h - hears recorded answers of the OpenAI and Gemini dialects, cut as a test wants
 * it. Include after cmocka.h. */
#ifndef TOLLGATE_TESTS_UNIT_WORKER_HEARING_TESTING_H
#define TOLLGATE_TESTS_UNIT_WORKER_HEARING_TESTING_H

#include "base/hash.h"
#include "worker/dialect_gemini.h"
#include "worker/dialect_openai.h"
#include "worker/json_elements.h"
#include "worker/sse.h"

#include "fixture_testing.h"
#include "parts_testing.h"

enum { HEARING_CAP_BYTES = 4 << 20 };

/* How an answer is framed and cut. */
struct hearing_way {
    bool is_gemini;
    bool is_stream;
    bool is_array; /* a stream in the form of a JSON array */
    size_t first;  /* bytes of the first piece, */
    size_t step;   /* and of those after it */
};

static inline void hearing_event(const struct hearing_way *way, struct json_doc *scratch, struct span name,
                                 struct span data, struct answer_listener *listener, const struct answer_sink *sink) {
    struct answer_event out;
    if (way->is_gemini) {
        gemini_hear_event(listener, scratch, name, data, &out, sink);
    } else {
        openai_hear_event(listener, scratch, name, data, &out, sink);
    }
    if (out.is_invalid && !out.is_error) {
        fail_msg("invalid: %.*s", SPAN_ARGUMENTS(data));
    }
}

/* A block without data that is JSON: how Gemini says in a stream that something failed. */
static inline void hearing_block(const struct hearing_way *way, struct json_doc *scratch, const struct sse_event *event,
                                 struct answer_listener *listener, const struct answer_sink *sink) {
    if (event->has_data && (!event->is_unterminated || json_parse(scratch, event->data))) {
        hearing_event(way, scratch, event->name, event->data, listener, sink);
    } else if (!event->has_data && !event->is_comment_only && event->raw.base[0] == '{') {
        hearing_event(way, scratch, SPAN_EMPTY, event->raw, listener, sink);
    }
}

static inline void hearing_piece(const struct hearing_way *way, struct json_doc *scratch, struct span input,
                                 struct sse_splitter *splitter, struct json_elements *elements,
                                 struct answer_listener *listener, const struct answer_sink *sink) {
    struct sse_event event;
    struct span element;
    while (!way->is_array && sse_next(splitter, &input, &event) == SSE_EVENT) {
        hearing_block(way, scratch, &event, listener, sink);
    }
    while (way->is_array && input.len != 0) {
        enum json_elements_result result = json_elements_next(elements, &input, &element);
        assert_true(result == JSON_ELEMENTS_ONE || result == JSON_ELEMENTS_NEED_MORE);
        if (result == JSON_ELEMENTS_ONE) {
            hearing_event(way, scratch, SPAN_EMPTY, element, listener, sink);
        }
    }
}

/* Hears a stream in pieces. Each piece is a copy of its own, so that reading past it is found. */
static inline void hearing_stream(const struct hearing_way *way, struct json_doc *scratch, struct span text,
                                  struct answer_listener *listener, const struct answer_sink *sink) {
    struct sse_splitter splitter;
    struct json_elements elements;
    struct sse_event event;
    sse_init(&splitter, HEARING_CAP_BYTES);
    json_elements_init(&elements, HEARING_CAP_BYTES);
    for (size_t at = 0; at < text.len;) {
        size_t len = at == 0 ? way->first : way->step;
        len = len < text.len - at ? len : text.len - at;
        char *copy = malloc(len);
        assert_non_null(copy);
        memcpy(copy, text.base + at, len);
        hearing_piece(way, scratch, span_of(copy, len), &splitter, &elements, listener, sink);
        free(copy);
        at += len;
    }
    if (!way->is_array && sse_finish(&splitter, &event)) {
        hearing_block(way, scratch, &event, listener, sink);
    }
    assert_true(!way->is_array || json_elements_is_over(&elements));
    if (way->is_gemini) {
        gemini_hear_end(listener, sink);
    }
    json_elements_fini(&elements);
    sse_fini(&splitter);
}

/* Hears an answer from its beginning. */
static inline void hearing_run(const struct hearing_way *way, struct json_doc *scratch, struct span text,
                               struct answer_listener *listener, const struct answer_sink *sink) {
    struct answer_event out;
    answer_listener_init(listener);
    if (way->is_stream) {
        hearing_stream(way, scratch, text, listener, sink);
    } else if (way->is_gemini) {
        gemini_hear_answer(listener, scratch, text, &out, sink);
        assert_false(out.is_invalid);
    } else {
        openai_hear_answer(listener, scratch, text, &out, sink);
        assert_false(out.is_invalid);
    }
}

/* Is the index entry an answer of chat or generateContent? Sets all of the way but its pieces. */
static inline bool hearing_way_of(const struct fixtures *fixtures, int file, struct hearing_way *out) {
    char name[FIXTURE_PATH_BYTES];
    *out = (struct hearing_way){.is_gemini = fixture_is(fixtures, file, "api", "gemini.generateContent"),
                                .is_stream = fixture_is(fixtures, file, "kind", "stream"),
                                .first = SIZE_MAX,
                                .step = SIZE_MAX};
    assert_true(json_string_copy(&fixtures->index, json_member(&fixtures->index, file, "file"), name, sizeof(name)));
    out->is_array = out->is_stream && strstr(name, ".json") != NULL;
    return (out->is_gemini || fixture_is(fixtures, file, "api", "openai.chat")) &&
           (out->is_stream || fixture_is(fixtures, file, "kind", "json"));
}

static inline const char *hearing_finish_text(enum answer_finish finish) {
    static const char *const texts[] = {"", "stop", "stop", "length", "tool_calls", "content_filter"};
    return texts[finish];
}

/* Compares choice 0 with what the index expects. */
static inline void hearing_expect_parts(const struct fixtures *fixtures, int file, const struct told_parts *parts,
                                        const char *name) {
    const struct json_doc *index = &fixtures->index;
    int expected = json_member(index, file, "expected");
    const struct told_choice *choice = &parts->choices[0];
    unsigned char digest[SHA256_BYTES];
    char hex[SHA256_HEX_BYTES];
    hash_sha256(buffer_span(&choice->content), digest);
    hash_hex(digest, sizeof(digest), hex);
    if (!json_string_is(index, json_member(index, expected, "concatenated_text_sha256"), hex)) {
        fail_msg("%s: the text is \"%s\"", name, buffer_text(&choice->content));
    }
    if (fixture_expected(fixtures, file, "tool_call_count") != choice->call_count) {
        fail_msg("%s: %d calls", name, choice->call_count);
    }
    int finish = json_member(index, expected, "finish_reason_openai");
    if (json_string_is(index, finish, "function_call")) {
        assert_int_equal(choice->finish, ANSWER_FINISH_TOOL_CALLS);
    } else if (json_type_of(index, finish) == JSON_STRING &&
               !json_string_is(index, finish, hearing_finish_text(choice->finish))) {
        fail_msg("%s: finish is %d", name, (int)choice->finish);
    }
    int64_t reasoning = 0;
    if (json_int(index, json_member(index, json_member(index, file, "extra"), "reasoning_text_bytes"), &reasoning) &&
        reasoning != (int64_t)choice->reasoning.len) {
        fail_msg("%s: %zu bytes of reasoning, not %lld", name, choice->reasoning.len, (long long)reasoning);
    }
    assert_true(choice->finishes <= 1);
    if (choice->spoke_after_finish) {
        fail_msg("%s: something came after the finish", name);
    }
    for (int i = 0; i < choice->call_count; i++) {
        assert_true(choice->calls[i].name.len != 0);
    }
}

/* The same text with CRLF for each line end. */
static inline void hearing_with_crlf(struct span text, struct buffer *out) {
    buffer_init(out, text.len * 2 + 2);
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] == '\n' && (i == 0 || text.base[i - 1] != '\r')) {
            buffer_append_byte(out, '\r');
        }
        buffer_append_byte(out, text.base[i]);
    }
}

#endif
