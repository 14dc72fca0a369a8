/* The end that the relay writes to a stream: whatever the stream said before, it is whole events that our own reader
 * takes as a good end. */
#include "fuzz.h"
#include "worker/sse.h"
#include "worker/stream_end.h"

enum { STREAM_BYTES_MOST = 1 << 20 };

static void expect_events(const struct stream_end *end, bool with_usage, int count) {
    static const struct token_counts tokens = {.input_tokens = 5, .output_tokens = 3};
    struct sse_splitter splitter;
    struct sse_event event;
    struct buffer out;
    buffer_init(&out, STREAM_BYTES_MOST);
    stream_end_write(&out, end, with_usage, &tokens, 7);
    CHECK(!out.failed && memchr(out.base, '\0', out.len) == NULL);
    struct span rest = buffer_span(&out);
    sse_init(&splitter, STREAM_BYTES_MOST);
    for (int i = 0; i < count; i++) {
        CHECK(sse_next(&splitter, &rest, &event) == SSE_EVENT && event.has_data);
        CHECK(span_starts_with(event.data, "{") || span_is(event.data, "[DONE]"));
    }
    CHECK(rest.len == 0 && !sse_finish(&splitter, &event));
    sse_fini(&splitter);
    buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct span text = fuzz_span(data, size);
    static const enum client_form forms[] = {CLIENT_CHAT, CLIENT_COMPLETIONS, CLIENT_RESPONSES};
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        enum client_form form = forms[i];
        struct stream_end end;
        stream_end_init(&end, form);
        stream_end_note(&end, SPAN_EMPTY, text);
        stream_end_note(&end, SPAN_LITERAL("x"), span_skip(text, size / 2));
        CHECK(end.sequence_number >= -1 && memchr(end.head, '\0', sizeof(end.head)) != NULL);
        expect_events(&end, false, form == CLIENT_RESPONSES ? 1 : 2);
        expect_events(&end, true, form == CLIENT_RESPONSES ? 1 : 3);
    }
    return 0;
}
