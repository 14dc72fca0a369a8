/* tests/unit/worker/answer_testing.h - writes down the parts a reader emits, so that two tellings of one answer can be
 * compared, however they were cut. Include after cmocka.h. */
#ifndef TOLLGATE_TESTS_UNIT_WORKER_ANSWER_TESTING_H
#define TOLLGATE_TESTS_UNIT_WORKER_ANSWER_TESTING_H

#include "base/json_read.h"
#include "worker/answer.h"

enum { TRANSCRIPT_BYTES_MOST = 16 << 20 };

struct transcript {
    struct buffer lines;   /* a line a part; pieces of one text or of one call's arguments are one part */
    struct buffer content; /* the TEXT parts, escaped */
    int64_t tools;
    int64_t parts;
    enum answer_finish finish;
    enum answer_part_kind last_kind;
    int64_t last_tool;
};

static inline void transcript_init(struct transcript *transcript) {
    *transcript = (struct transcript){.last_kind = ANSWER_PART_FINISH, .last_tool = -1};
    buffer_init(&transcript->lines, TRANSCRIPT_BYTES_MOST);
    buffer_init(&transcript->content, TRANSCRIPT_BYTES_MOST);
}

static inline void transcript_free(struct transcript *transcript) {
    buffer_fini(&transcript->lines);
    buffer_fini(&transcript->content);
}

/* Implements answer_sink.on_part. */
static inline void transcript_take(void *context, const struct answer_part *part) {
    static const char *const names[] = {"text", "reasoning", "refusal",  "signature", "redacted",
                                        "tool", "arguments", "logprobs", "finish"};
    struct transcript *transcript = context;
    bool goes_on =
        transcript->parts != 0 && part->kind == transcript->last_kind && part->tool == transcript->last_tool &&
        (part->kind == ANSWER_PART_TEXT || part->kind == ANSWER_PART_REASONING || part->kind == ANSWER_PART_ARGUMENTS);
    if (!goes_on) {
        buffer_format(&transcript->lines, "\n%s %d %d ", names[part->kind], (int)part->tool, (int)part->finish);
        buffer_append_span(&transcript->lines, part->id);
        buffer_append_text(&transcript->lines, " ");
        buffer_append_span(&transcript->lines, part->name);
        buffer_append_text(&transcript->lines, " ");
    }
    buffer_append_span(&transcript->lines, part->text);
    if (part->kind == ANSWER_PART_TEXT) {
        buffer_append_span(&transcript->content, part->text);
    }
    transcript->tools += part->kind == ANSWER_PART_TOOL;
    transcript->finish = part->kind == ANSWER_PART_FINISH ? part->finish : transcript->finish;
    transcript->parts++;
    transcript->last_kind = part->kind;
    transcript->last_tool = part->tool;
}

static inline struct answer_sink transcript_sink(struct transcript *transcript) {
    return (struct answer_sink){.on_part = transcript_take, .context = transcript};
}

/* Unescapes the inside of a JSON string. */
static inline void unescape_inside(struct span inside, struct buffer *out) {
    struct buffer quoted;
    struct json_doc doc;
    json_doc_init(&doc);
    buffer_init(&quoted, inside.len + 2);
    buffer_append_byte(&quoted, '"');
    buffer_append_span(&quoted, inside);
    buffer_append_byte(&quoted, '"');
    assert_true(json_parse(&doc, buffer_span(&quoted)));
    assert_true(json_string(&doc, 0, out));
    json_doc_fini(&doc);
    buffer_fini(&quoted);
}

/* Do two values say the same? Members may stand in any order. */
static inline bool json_is_same(const struct json_doc *a, int left, const struct json_doc *b, int right) {
    enum json_type type = json_type_of(a, left);
    if (type != json_type_of(b, right) || json_size(a, left) != json_size(b, right)) {
        return false;
    }
    if (type == JSON_ARRAY) {
        int other = json_first(b, right);
        for (int item = json_first(a, left); item >= 0; item = json_next(a, item), other = json_next(b, other)) {
            if (!json_is_same(a, item, b, other)) {
                return false;
            }
        }
        return true;
    }
    if (type == JSON_OBJECT) {
        for (int name = json_first(a, left); name >= 0; name = json_next(a, name)) {
            char text[256];
            assert_true(json_string_copy(a, name, text, sizeof(text)));
            if (!json_is_same(a, json_value_of(a, name), b, json_member(b, right, text))) {
                return false;
            }
        }
        return true;
    }
    if (type == JSON_STRING) {
        struct buffer text[2];
        buffer_init(&text[0], TRANSCRIPT_BYTES_MOST);
        buffer_init(&text[1], TRANSCRIPT_BYTES_MOST);
        bool is_same = json_string(a, left, &text[0]) && json_string(b, right, &text[1]) &&
                       span_equals(buffer_span(&text[0]), buffer_span(&text[1]));
        buffer_fini(&text[0]);
        buffer_fini(&text[1]);
        return is_same;
    }
    return span_equals(json_raw(a, left), json_raw(b, right));
}

/* Fails unless both are JSON that says the same. */
static inline void expect_same_json(const char *got, const char *expected) {
    struct json_doc a;
    struct json_doc b;
    json_doc_init(&a);
    json_doc_init(&b);
    if (!json_parse(&b, span_text(expected))) {
        fail_msg("the test's own JSON: %s at %zu: %s", b.error, b.error_at, expected);
    }
    if (!json_parse(&a, span_text(got))) {
        fail_msg("no JSON: %s at %zu: %s", a.error, a.error_at, got);
    }
    if (!json_is_same(&a, 0, &b, 0)) {
        fail_msg("got      %s\nexpected %s", got, expected);
    }
    json_doc_fini(&a);
    json_doc_fini(&b);
}

#endif
