/* Event streams: the same events wherever the bytes are cut, and spans that lie where they say. */
#include "base/buffer.h"
#include "base/hash.h"
#include "fuzz.h"
#include "worker/sse.h"

enum { WIDE_BYTES = 1 << 20, TIGHT_BYTES = 64 };

/* All that was heard, folded. */
struct heard {
    uint64_t digest;
    size_t events;
    bool is_too_long;
};

/* The lines of a block. How its line ends are written may depend on where they were cut: an LF that comes after the
 * blank line's CR went out already belongs to no event. */
static void fold_lines(struct heard *heard, struct span raw) {
    for (size_t at = 0; at < raw.len; at++) {
        bool is_crlf = raw.base[at] == '\n' && at != 0 && raw.base[at - 1] == '\r';
        char byte = raw.base[at] == '\r' ? '\n' : raw.base[at];
        heard->digest = is_crlf ? heard->digest : hash_fast(span_of(&byte, 1), heard->digest);
    }
}

static void fold(struct heard *heard, const struct sse_event *event) {
    CHECK(event->has_data || event->data.len == 0);
    CHECK(!event->is_comment_only || !event->has_data);
    if (event->data_in_raw) {
        CHECK(event->data.base >= event->raw.base);
        CHECK(event->data.base + event->data.len <= event->raw.base + event->raw.len);
    }
    heard->digest = hash_fast(event->name, heard->digest);
    heard->digest = hash_fast(event->data, heard->digest);
    fold_lines(heard, event->raw);
    heard->digest += (uint64_t)event->has_data * 2 + event->is_comment_only + (uint64_t)event->is_unterminated * 4;
    heard->events++;
}

static struct heard hear(struct span text, size_t step, size_t cap_bytes) {
    struct sse_splitter splitter;
    struct sse_event event;
    struct heard heard = {.digest = 1};
    sse_init(&splitter, cap_bytes);
    for (size_t at = 0; at < text.len && !heard.is_too_long; at += step) {
        struct span piece = span_of(text.base + at, step < text.len - at ? step : text.len - at);
        enum sse_result result = SSE_EVENT;
        while ((result = sse_next(&splitter, &piece, &event)) == SSE_EVENT) {
            fold(&heard, &event);
        }
        CHECK(result == SSE_TOO_LONG || piece.len == 0);
        heard.is_too_long = result == SSE_TOO_LONG;
    }
    if (sse_finish(&splitter, &event)) {
        CHECK(!heard.is_too_long);
        fold(&heard, &event);
    }
    sse_fini(&splitter);
    return heard;
}

static void expect_same(struct heard a, struct heard b) {
    CHECK(a.is_too_long == b.is_too_long);
    CHECK(a.events == b.events && a.digest == b.digest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct span text = fuzz_span(data, size);
    if (size == 0) {
        return 0;
    }
    struct heard whole = hear(text, size, WIDE_BYTES);
    expect_same(hear(text, 1, WIDE_BYTES), whole);
    expect_same(hear(text, 2 + size % 13, WIDE_BYTES), whole);
    (void)hear(text, 3, TIGHT_BYTES);
    (void)hear(text, size, TIGHT_BYTES);
    return 0;
}
