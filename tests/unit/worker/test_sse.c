#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/sse.h"

#include "fixture_testing.h"

enum { CAP_BYTES = 1 << 20 };

/* Events written out for comparison: "[name]data\n" each. */
static void write_event(const struct sse_event *event, struct buffer *out) {
    buffer_append_byte(out, '[');
    buffer_append_span(out, event->name);
    buffer_append_byte(out, ']');
    buffer_append_span(out, event->data);
    buffer_append_byte(out, '\n');
}

/* What a run of the splitter gave. */
struct heard {
    struct buffer events; /* those with data */
    struct buffer raw;    /* all of the bytes of all blocks */
    int comment_blocks;
    bool was_pending; /* sse_finish had one more, kept apart from events */
    struct buffer pending;
};

static void heard_init(struct heard *heard) {
    *heard = (struct heard){.comment_blocks = 0};
    buffer_init(&heard->events, FIXTURE_BYTES_MOST);
    buffer_init(&heard->raw, FIXTURE_BYTES_MOST);
    buffer_init(&heard->pending, FIXTURE_BYTES_MOST);
}

static void heard_fini(struct heard *heard) {
    buffer_fini(&heard->events);
    buffer_fini(&heard->raw);
    buffer_fini(&heard->pending);
}

/* Feeds one piece from memory of its own, so that a read past its end or after its life is found. */
static void feed(struct sse_splitter *splitter, struct span piece, struct heard *heard) {
    char *copy = malloc(piece.len + 1);
    assert_non_null(copy);
    memcpy(copy, piece.base, piece.len);
    struct span input = span_of(copy, piece.len);
    struct sse_event event;
    enum sse_result result = SSE_EVENT;
    while ((result = sse_next(splitter, &input, &event)) == SSE_EVENT) {
        assert_true(event.raw.len != 0);
        assert_true(event.is_comment_only ? !event.has_data : true);
        if (event.data_in_raw && event.data.len != 0) {
            assert_true(event.data.base >= event.raw.base &&
                        event.data.base + event.data.len <= event.raw.base + event.raw.len);
        }
        buffer_append_span(&heard->raw, event.raw);
        heard->comment_blocks += event.is_comment_only;
        if (event.has_data) {
            write_event(&event, &heard->events);
        }
    }
    assert_int_equal(result, SSE_NEED_MORE);
    assert_int_equal(input.len, 0);
    free(copy);
}

static void finish(struct sse_splitter *splitter, struct heard *heard) {
    struct sse_event event;
    heard->was_pending = sse_finish(splitter, &event);
    if (heard->was_pending) {
        assert_true(event.is_unterminated);
        write_event(&event, &heard->pending);
        buffer_append_span(&heard->raw, event.raw);
    }
    assert_false(sse_finish(splitter, &event));
    sse_fini(splitter);
}

/* Cuts text at `first`, then every `step` bytes (0: no more cuts). */
static void split(struct span text, size_t first, size_t step, struct heard *heard) {
    struct sse_splitter splitter;
    sse_init(&splitter, CAP_BYTES);
    heard_init(heard);
    feed(&splitter, span_of(text.base, first), heard);
    for (size_t at = first; at < text.len;) {
        size_t len = step != 0 && step < text.len - at ? step : text.len - at;
        feed(&splitter, span_of(text.base + at, len), heard);
        at += len;
    }
    finish(&splitter, heard);
}

static void expect_events(struct span text, size_t first, size_t step, const char *expected, const char *what) {
    struct heard heard;
    split(text, first, step, &heard);
    if (strcmp(buffer_text(&heard.events), expected) != 0) {
        fail_msg("%s cut at %zu, step %zu: got <%s> expected <%s>", what, first, step, buffer_text(&heard.events),
                 expected);
    }
    heard_fini(&heard);
}

/* Whole, cut once at each byte, and in pieces of 1 to 7 bytes. */
static void expect_everywhere(struct span text, const char *expected, const char *what) {
    for (size_t first = 0; first <= text.len; first++) {
        expect_events(text, first, 0, expected, what);
    }
    for (size_t step = 1; step <= 7; step++) {
        expect_events(text, 0, step, expected, what);
    }
}

/* The index's expected_events in write_event's form. */
static void write_expected(const struct json_doc *index, int events, struct buffer *out) {
    for (int event = json_first(index, events); event >= 0; event = json_next(index, event)) {
        int name = json_first(index, event);
        buffer_append_byte(out, '[');
        (void)!json_string(index, name, out);
        buffer_append_byte(out, ']');
        assert_true(json_string(index, json_next(index, name), out));
        buffer_append_byte(out, '\n');
    }
}

static void framing_fixtures_give_their_events(void **state) {
    (void)state;
    struct fixtures fixtures;
    fixtures_load(&fixtures);
    int count = 0;
    for (int file = json_first(&fixtures.index, fixtures.files); file >= 0; file = json_next(&fixtures.index, file)) {
        if (!fixture_is(&fixtures, file, "kind", "framing")) {
            continue;
        }
        char name[FIXTURE_PATH_BYTES];
        struct buffer text;
        struct buffer expected;
        fixture_open(&fixtures, file, name, &text);
        buffer_init(&expected, FIXTURE_BYTES_MOST);
        write_expected(&fixtures.index, json_member(&fixtures.index, file, "expected_events"), &expected);
        expect_everywhere(buffer_span(&text), buffer_text(&expected), name);
        buffer_fini(&expected);
        buffer_fini(&text);
        count++;
    }
    assert_int_equal(count, 10);
    fixtures_free(&fixtures);
}

/* Recorded streams cut anywhere give the events they give whole, and the raw blocks are the stream itself. */
static void recorded_streams_do_not_depend_on_cuts(void **state) {
    (void)state;
    static const char *const names[] = {"openrouter/chat-stream-comments.sse", "perplexity/chat-stream-crlf.sse",
                                        "anthropic-openai-compat/chat-stream-tool-index1.sse",
                                        "mistral/chat-stream-thinking.sse"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct buffer text;
        struct heard whole;
        fixture_read(names[i], &text);
        split(buffer_span(&text), text.len, 0, &whole);
        assert_int_equal(memcmp(whole.raw.base, text.base, text.len), 0);
        assert_true(whole.raw.len <= text.len + 2);
        for (size_t first = 0; first <= text.len; first += text.len / 400 + 1) {
            struct heard cut;
            split(buffer_span(&text), first, 0, &cut);
            assert_string_equal(buffer_text(&cut.events), buffer_text(&whole.events));
            assert_string_equal(buffer_text(&cut.pending), buffer_text(&whole.pending));
            assert_true(span_equals(buffer_span(&cut.raw), buffer_span(&whole.raw)));
            heard_fini(&cut);
        }
        heard_fini(&whole);
        buffer_fini(&text);
    }
}

static void cuts_inside_crlf_keep_bytes(void **state) {
    (void)state;
    struct span text = SPAN_LITERAL("data: 1\r\n\r\ndata: 2\r\n\r\n");
    for (size_t first = 0; first <= text.len; first++) {
        for (size_t step = 0; step <= 3; step++) {
            struct heard heard;
            split(text, first, step, &heard);
            assert_true(span_equals(buffer_span(&heard.raw), text));
            heard_fini(&heard);
        }
    }
}

static void events_are_given_before_the_next_byte(void **state) {
    (void)state;
    static const char *const texts[] = {"data: x\n\n", "data: x\r\r", "data: x\r\n\r", "data: x\n\r", ": c\n\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct sse_splitter splitter;
        struct sse_event event;
        struct span input = span_text(texts[i]);
        sse_init(&splitter, CAP_BYTES);
        assert_int_equal(sse_next(&splitter, &input, &event), SSE_EVENT);
        assert_int_equal(input.len, 0);
        sse_fini(&splitter);
    }
}

static void whole_events_are_not_copied(void **state) {
    (void)state;
    struct sse_splitter splitter;
    struct sse_event event;
    struct span text = SPAN_LITERAL("event: a\ndata: {\"x\":1}\n\ndata: 2\n\n");
    struct span input = text;
    sse_init(&splitter, CAP_BYTES);
    assert_int_equal(sse_next(&splitter, &input, &event), SSE_EVENT);
    assert_ptr_equal(event.raw.base, text.base);
    assert_true(event.data_in_raw && span_is(event.data, "{\"x\":1}") && span_is(event.name, "a"));
    assert_int_equal(sse_next(&splitter, &input, &event), SSE_EVENT);
    assert_true(span_is(event.raw, "data: 2\n\n") && event.name.len == 0);
    assert_int_equal(sse_next(&splitter, &input, &event), SSE_NEED_MORE);
    assert_null(splitter.gathered.base);
    assert_null(splitter.joined.base);
    sse_fini(&splitter);
}

static void comments_are_told_apart(void **state) {
    (void)state;
    struct heard heard;
    split(SPAN_LITERAL(": a\n: b\n\n\n\n:\n\nid: 4\n\ndata: x\n: mid\n\n"), 0, 0, &heard);
    assert_int_equal(heard.comment_blocks, 2);
    assert_string_equal(buffer_text(&heard.events), "[]x\n");
    assert_string_equal(buffer_text(&heard.raw), ": a\n: b\n\n:\n\nid: 4\n\ndata: x\n: mid\n\n");
    heard_fini(&heard);
}

static void pending_block_is_given_with_its_blank_line(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *raw;
    } cases[] = {
        {"data: 1", "data: 1\n\n"},
        {"data: 1\n", "data: 1\n\n"},
        {"data: 1\r\n", "data: 1\r\n\r\n"},
        {"data: 1\r", "data: 1\r\r"},
        {"event: e\r\ndata: 1", "event: e\r\ndata: 1\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t step = 0; step <= 2; step++) {
            struct heard heard;
            split(span_text(cases[i].text), 0, step, &heard);
            assert_true(heard.was_pending);
            assert_string_equal(buffer_text(&heard.raw), cases[i].raw);
            heard_fini(&heard);
        }
    }
    struct heard heard;
    split(SPAN_LITERAL("data: 1\n\n\n\r\n"), 0, 1, &heard);
    assert_false(heard.was_pending);
    heard_fini(&heard);
}

static void byte_order_mark_is_dropped_once(void **state) {
    (void)state;
    expect_everywhere(SPAN_LITERAL("\xEF\xBB\xBF"
                                   "data: 1\n\n\xEF\xBB\xBF"
                                   "data: 2\n\n"),
                      "[]1\n", "second mark");
    expect_everywhere(SPAN_LITERAL("\xEF\xBB"
                                   "data: 1\n\ndata: 2\n\n"),
                      "[]2\n", "half a mark");
    expect_everywhere(SPAN_LITERAL("\xEF\xBB\xBF\n\ndata: 1\n\n"), "[]1\n", "blank lines after the mark");
}

static void long_events_are_refused(void **state) {
    (void)state;
    char text[400];
    memset(text, 'x', sizeof(text));
    memcpy(text, "data:", 5);
    memcpy(text + sizeof(text) - 2, "\n\n", 2);
    for (size_t step = 1; step <= sizeof(text); step += 57) {
        for (size_t cap = 399; cap <= 400; cap++) {
            struct sse_splitter splitter;
            struct sse_event event;
            sse_init(&splitter, cap);
            enum sse_result result = SSE_NEED_MORE;
            for (size_t at = 0; at < sizeof(text) && result == SSE_NEED_MORE; at += step) {
                struct span input = span_of(text + at, step < sizeof(text) - at ? step : sizeof(text) - at);
                result = sse_next(&splitter, &input, &event);
            }
            assert_int_equal(result, cap == 400 ? SSE_EVENT : SSE_TOO_LONG);
            if (result == SSE_TOO_LONG) {
                struct span more = SPAN_LITERAL("\n\ndata: 1\n\n");
                assert_int_equal(sse_next(&splitter, &more, &event), SSE_TOO_LONG);
                assert_false(sse_finish(&splitter, &event));
            }
            sse_fini(&splitter);
        }
    }
}

/* Endless blank lines and comments, in any pieces, gather nothing. */
static void keepalives_need_no_memory(void **state) {
    (void)state;
    struct sse_splitter splitter;
    struct sse_event event;
    sse_init(&splitter, 16);
    for (int i = 0; i < 10000; i++) {
        struct span input = i % 2 == 0 ? SPAN_LITERAL("\r\n\n\r") : SPAN_LITERAL(":\n\n");
        while (sse_next(&splitter, &input, &event) == SSE_EVENT) {
            assert_true(event.is_comment_only);
        }
    }
    assert_null(splitter.gathered.base);
    sse_fini(&splitter);
}

/* Any bytes at all, against a plain reading line by line of the same bytes. */
static void random_bytes_match_a_plain_reader(void **state) {
    (void)state;
    static const char *const words[] = {"data", ":", " ", "\n", "\r", "\r\n", "event", "x", "id", "\n\n", "data: 7"};
    unsigned seed = 7;
    for (int round = 0; round < 3000; round++) {
        struct buffer text;
        buffer_init(&text, 4096);
        for (int i = 0; i < 24; i++) {
            seed = seed * 1103515245U + 12345U;
            buffer_append_text(&text, words[(seed >> 16) % (sizeof(words) / sizeof(words[0]))]);
        }
        /* Plain: normalise the line ends, then the whole text is split at blank lines. */
        struct buffer plain;
        buffer_init(&plain, 4096);
        for (size_t i = 0; i < text.len; i++) {
            if (text.base[i] == '\r') {
                buffer_append_byte(&plain, '\n');
                i += i + 1 < text.len && text.base[i + 1] == '\n';
            } else {
                buffer_append_byte(&plain, text.base[i]);
            }
        }
        struct heard expected;
        struct heard heard;
        split(buffer_span(&plain), plain.len, 0, &expected);
        split(buffer_span(&text), text.len, 0, &heard);
        assert_string_equal(buffer_text(&heard.events), buffer_text(&expected.events));
        for (size_t step = 1; step <= 5; step++) {
            struct heard cut;
            split(buffer_span(&text), 0, step, &cut);
            assert_string_equal(buffer_text(&cut.events), buffer_text(&expected.events));
            assert_string_equal(buffer_text(&cut.pending), buffer_text(&expected.pending));
            heard_fini(&cut);
        }
        heard_fini(&heard);
        heard_fini(&expected);
        buffer_fini(&plain);
        buffer_fini(&text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(framing_fixtures_give_their_events),
        cmocka_unit_test(recorded_streams_do_not_depend_on_cuts),
        cmocka_unit_test(cuts_inside_crlf_keep_bytes),
        cmocka_unit_test(events_are_given_before_the_next_byte),
        cmocka_unit_test(whole_events_are_not_copied),
        cmocka_unit_test(comments_are_told_apart),
        cmocka_unit_test(pending_block_is_given_with_its_blank_line),
        cmocka_unit_test(byte_order_mark_is_dropped_once),
        cmocka_unit_test(long_events_are_refused),
        cmocka_unit_test(keepalives_need_no_memory),
        cmocka_unit_test(random_bytes_match_a_plain_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
