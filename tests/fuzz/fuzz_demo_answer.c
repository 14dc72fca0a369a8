/* The demo upstream: any body gets an error or an answer that its own dialect hears as whole, streamed or not, with as
 * many tokens as promised. */
#include "fuzz.h"
#include "worker/demo_answer.h"
#include "worker/dialect_openai.h"
#include "worker/sse.h"

enum { ANSWER_BYTES_MOST = 64 << 20, EVENTS_MOST = 2000, CREATED_S = 1700000000 };

static struct json_doc scratch;

static void stream(struct demo_answer *answer, int64_t promised) {
    struct sse_splitter splitter;
    struct answer_listener listener;
    struct answer_event heard;
    struct sse_event event;
    struct buffer out;
    int64_t tokens = 0;
    int events = 0;
    bool is_token = false;
    buffer_init(&out, ANSWER_BYTES_MOST);
    sse_init(&splitter, ANSWER_BYTES_MOST);
    answer_listener_init(&listener);
    while (events++ < EVENTS_MOST && demo_answer_next(answer, &out, &is_token)) {
        struct span piece = buffer_span(&out);
        tokens += is_token ? 1 : 0;
        CHECK(sse_next(&splitter, &piece, &event) == SSE_EVENT && piece.len == 0);
        openai_hear_event(&listener, &scratch, event.name, event.data, &heard, NULL);
        CHECK(!heard.is_invalid && !heard.is_error);
        CHECK(heard.is_done || json_parse(&scratch, event.data));
        buffer_clear(&out);
    }
    CHECK(!out.failed && tokens <= promised);
    CHECK(events > EVENTS_MOST || (tokens == promised && listener.is_done && listener.has_finish));
    sse_fini(&splitter);
    buffer_fini(&out);
}

static void answer_whole(struct demo_answer *answer, int64_t promised) {
    struct answer_listener listener;
    struct answer_event heard;
    struct buffer out;
    buffer_init(&out, ANSWER_BYTES_MOST);
    demo_answer_whole(answer, &out);
    CHECK(!out.failed && json_parse(&scratch, buffer_span(&out)));
    answer_listener_init(&listener);
    openai_hear_answer(&listener, &scratch, buffer_span(&out), &heard, NULL);
    CHECK(!heard.is_invalid && heard.has_usage && listener.usage.tokens.output_tokens == promised);
    buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (int way = 0; way < 2; way++) {
        struct demo_answer answer;
        const char *error = NULL;
        if (!demo_answer_init(&answer, &scratch, fuzz_span(data, size), CREATED_S, &error)) {
            CHECK(error != NULL);
            return 0;
        }
        (way == 0 ? stream : answer_whole)(&answer, demo_answer_tokens(&answer));
        demo_answer_fini(&answer);
    }
    return 0;
}
