/* What an upstream of any dialect sends, told to a client of the other: the first byte picks the dialect, the client's
 * form, stream or whole, and a small or a large cap. An answer that is told is heard again as one of the client's
 * dialect, with the same text; an event that is refused says nothing more. Events are cut in pieces of odd lengths. */
#include "fuzz.h"
#include "worker/answer_told.h"
#include "worker/dialect.h"
#include "worker/dialect_anthropic.h"
#include "worker/dialect_openai.h"
#include "worker/json_elements.h"
#include "worker/sse.h"
#include "worker/translation.h"

enum { EVENT_BYTES = 1 << 20, SMALL_BYTES = 2048, OUT_BYTES = 64 << 20 };

static struct json_doc scratch;
static const struct token_counts tokens = {.input_tokens = 3, .output_tokens = 2};

/* One answer on its way. */
struct way {
    const struct dialect *dialect;
    struct translation_spec spec;
    struct translation *translation;
    struct answer_listener listener;
    struct buffer out;
    bool is_refused;
};

static void on_event(struct way *way, struct span name, struct span data) {
    struct answer_event event;
    const struct answer_sink *sink = translation_sink(way->translation);
    way->dialect->hear_event(&way->listener, &scratch, name, data, &event, sink);
    way->is_refused = event.is_invalid || event.is_error || translation_failed(way->translation);
    if (!way->is_refused) {
        buffer_append_span(&way->out, translation_take(way->translation));
    }
}

static void hear_events(struct way *way, struct span text, size_t piece_bytes) {
    struct sse_splitter splitter;
    struct sse_event cut;
    sse_init(&splitter, EVENT_BYTES);
    while (text.len != 0 && !way->is_refused) {
        struct span piece = span_of(text.base, text.len < piece_bytes ? text.len : piece_bytes);
        text = span_skip(text, piece.len);
        while (!way->is_refused && sse_next(&splitter, &piece, &cut) == SSE_EVENT) {
            if (cut.has_data) {
                on_event(way, cut.name, cut.data);
            }
        }
    }
    sse_fini(&splitter);
}

static void hear_elements(struct way *way, struct span text, size_t piece_bytes) {
    struct json_elements elements;
    struct span element;
    json_elements_init(&elements, EVENT_BYTES);
    while (text.len != 0 && !way->is_refused) {
        struct span piece = span_of(text.base, text.len < piece_bytes ? text.len : piece_bytes);
        text = span_skip(text, piece.len);
        while (!way->is_refused && json_elements_next(&elements, &piece, &element) == JSON_ELEMENTS_ONE) {
            on_event(way, SPAN_EMPTY, element);
        }
    }
    json_elements_fini(&elements);
}

/* --- what the client reads --- */

static void on_part(void *context, const struct answer_part *part) {
    (void)context;
    (void)part;
}

static void expect_event(const struct way *way, struct answer_listener *listener, const struct sse_event *cut) {
    struct answer_event event;
    CHECK(cut->has_data);
    if (way->spec.form == TRANSLATION_CHAT) {
        openai_hear_event(listener, &scratch, cut->name, cut->data, &event, NULL);
    } else {
        const struct answer_sink sink = {.on_part = on_part};
        CHECK(json_parse(&scratch, cut->data));
        CHECK(json_string_is(&scratch, json_member(&scratch, 0, "type"), "ping") || cut->name.len != 0);
        anthropic_hear_event(listener, &scratch, cut->name, cut->data, &event, &sink);
    }
    CHECK(!event.is_invalid && !event.is_error);
}

static void expect_stream(const struct way *way) {
    struct sse_splitter splitter;
    struct sse_event cut;
    struct answer_listener listener;
    struct span text = buffer_span(&way->out);
    answer_listener_init(&listener);
    sse_init(&splitter, OUT_BYTES);
    while (sse_next(&splitter, &text, &cut) == SSE_EVENT) {
        CHECK(!listener.is_done);
        expect_event(way, &listener, &cut);
    }
    CHECK(listener.is_done && listener.has_finish && listener.has_usage);
    CHECK(listener.usage.tokens.output_tokens == tokens.output_tokens);
    CHECK(!sse_finish(&splitter, &cut));
    sse_fini(&splitter);
}

static void tell_stream(struct way *way, struct span text, size_t piece_bytes, bool is_array) {
    if (is_array) {
        hear_elements(way, text, piece_bytes);
    } else {
        hear_events(way, text, piece_bytes);
    }
    if (way->is_refused) {
        return;
    }
    const struct answer_sink *sink = translation_sink(way->translation);
    if (way->dialect->hear_end != NULL) {
        way->dialect->hear_end(&way->listener, sink);
    }
    bool told = translation_end(way->translation, ANSWER_FINISH_NONE, true, &tokens, 5);
    CHECK(!told || !translation_failed(way->translation)); /* arguments that are no JSON are found at the end */
    buffer_append_span(&way->out, translation_take(way->translation));
    if (told) {
        expect_stream(way);
    }
}

static void tell_whole(struct way *way, struct span body) {
    struct answer_event event;
    struct answer_listener listener;
    way->dialect->hear_answer(&way->listener, &scratch, body, &event, translation_sink(way->translation));
    if (event.is_invalid || event.is_error || !translation_write_whole(way->translation, &tokens, &way->out)) {
        return;
    }
    answer_listener_init(&listener);
    if (way->spec.form == TRANSLATION_CHAT) {
        openai_hear_answer(&listener, &scratch, buffer_span(&way->out), &event, NULL);
    } else if (json_parse(&scratch, buffer_span(&way->out))) { /* which arguments 128 deep are not */
        anthropic_hear_answer(&listener, &scratch, buffer_span(&way->out), &event, NULL);
    } else {
        return;
    }
    CHECK(!event.is_invalid && !event.is_error && event.has_finish && event.has_usage);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const enum conf_dialect kinds[] = {CONF_DIALECT_OPENAI, CONF_DIALECT_ANTHROPIC, CONF_DIALECT_GEMINI};
    if (size < 2) {
        return 0;
    }
    unsigned choice = data[0];
    const struct conf_upstream upstream = {.dialect = kinds[choice % 3]};
    struct way way = {.dialect = dialect_of(&upstream)};
    way.spec = (struct translation_spec){
        .form = (choice / 3 % 2 != 0 || choice % 3 == 0) && choice % 3 != 1 ? TRANSLATION_MESSAGES : TRANSLATION_CHAT,
        .request_id = "req_1",
        .model = "m\"",
        .reasoning_format = way.dialect->reasoning_format,
        .input_tokens = 7,
        .is_stream = choice / 6 % 2 == 0,
        .cap_bytes = choice / 12 % 2 == 0 ? EVENT_BYTES * 2 : SMALL_BYTES};
    way.translation = translation_new(&way.spec);
    CHECK(way.translation != NULL);
    answer_listener_init(&way.listener);
    buffer_init(&way.out, OUT_BYTES);
    struct span text = fuzz_span(data + 1, size - 1);
    if (way.spec.is_stream) {
        bool is_array = upstream.dialect == CONF_DIALECT_GEMINI && text.base[0] == '[';
        tell_stream(&way, text, 1 + choice % 97, is_array);
    } else {
        tell_whole(&way, text);
    }
    translation_free(way.translation);
    buffer_fini(&way.out);
    return 0;
}
