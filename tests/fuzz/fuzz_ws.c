/* A WebSocket's messages: a first byte picks the form, then a client's message up to a NUL, then an answer's events,
 * one a line. Every body and every message of ours must be JSON, and so must the turn that is remembered, if its events
 * were. Events that have numbers: coming back behind any message brings exactly those after it. */
#include "fuzz.h"
#include "worker/ws_answer.h"

enum { TEXT_BYTES = 8 << 20, MESSAGES_MOST = 4096 };

struct heard {
    struct json_doc doc;
    bool all_json; /* so far every event was */
};

static void take_message(void *context, struct span message) {
    struct heard *heard = context;
    CHECK(!heard->all_json || json_parse(&heard->doc, message));
}

static void try_message(struct span text, enum ws_form form, const struct ws_memory *memory, struct buffer *body) {
    struct ws_message message;
    struct verdict verdict;
    struct span asked;
    struct json_doc doc;
    json_doc_init(&doc);
    buffer_clear(body);
    if (!ws_message_read(&doc, text, form, &message, &verdict)) {
        CHECK(verdict.kind != ERROR_NONE);
    } else if (message.type == WS_TYPE_CONTEXT) {
        (void)!ws_message_context(&doc, &asked, &verdict);
    } else if (ws_message_write_body(&doc, form, "model", memory, body, &asked, &verdict)) {
        CHECK(asked.len == 0 || (asked.base >= body->base && asked.base + asked.len <= body->base + body->len));
        CHECK(json_parse(&doc, buffer_span(body)));
        CHECK(json_type_of(&doc, json_member(&doc, 0, "stream")) != JSON_ABSENT);
    }
    json_doc_fini(&doc);
}

static void try_answer(struct span lines, enum ws_form form, struct buffer *text) {
    struct heard heard = {.all_json = true};
    struct ws_answer answer;
    struct ws_out out = {.send = take_message, .context = &heard, .text = text};
    const struct ws_ending ending = {.chunk_head = ""};
    json_doc_init(&heard.doc);
    ws_answer_init(&answer, form, "\"id\"");
    while (lines.len != 0) {
        const char *end = memchr(lines.base, '\n', lines.len);
        struct span line = span_of(lines.base, end != NULL ? (size_t)(end - lines.base) : lines.len);
        heard.all_json = heard.all_json && json_parse(&heard.doc, line);
        ws_answer_hear(&answer, line, &out);
        lines = span_skip(lines, line.len + 1);
    }
    ws_answer_end(&answer, &ending, &out);
    buffer_clear(text);
    if (ws_answer_write_turn(&answer, text)) {
        take_message(&heard, buffer_span(text));
    }
    ws_answer_fini(&answer);
    json_doc_fini(&heard.doc);
}

/* --- coming back --- */

/* Messages sent, one after the other, and where each begins. */
struct told {
    struct buffer text;
    size_t begins[MESSAGES_MOST + 1];
    int count;
};

static void keep_message(void *context, struct span message) {
    struct told *told = context;
    buffer_append_span(&told->text, message);
    told->count += told->count < MESSAGES_MOST;
    told->begins[told->count] = told->text.len;
}

static void tell(struct span lines, enum ws_form form, struct ws_position after, struct buffer *text,
                 struct told *told) {
    struct ws_answer answer;
    struct ws_out out = {.send = keep_message, .context = told, .text = text};
    const struct ws_ending ending = {.chunk_head = ""};
    uint32_t number = 0;
    told->count = 0;
    told->begins[0] = 0;
    buffer_clear(&told->text);
    ws_answer_init(&answer, form, "\"id\"");
    answer.after = after;
    while (lines.len != 0) {
        const char *end = memchr(lines.base, '\n', lines.len);
        struct span line = span_of(lines.base, end != NULL ? (size_t)(end - lines.base) : lines.len);
        answer.number = ++number;
        ws_answer_hear(&answer, line, &out);
        lines = span_skip(lines, line.len + 1);
    }
    ws_answer_end(&answer, &ending, &out);
    ws_answer_fini(&answer);
}

/* Where a message says its client is. False: it says nothing of that. */
static bool read_position(struct span message, struct ws_position *after) {
    static const char MARK[] = ",\"n\":";
    struct ws_message read;
    struct verdict verdict;
    struct json_doc doc;
    struct buffer text;
    const char *mark = NULL;
    for (size_t i = 0; i + sizeof(MARK) <= message.len; i++) {
        mark = memcmp(message.base + i, MARK, sizeof(MARK) - 1) == 0 ? message.base + i : mark;
    }
    if (mark == NULL || span_starts_with(message, "{\"type\":\"completion.done\"") ||
        span_starts_with(message, "{\"type\":\"usage\"") || span_starts_with(message, "{\"type\":\"error\"")) {
        return false;
    }
    buffer_init(&text, TEXT_BYTES);
    json_doc_init(&doc);
    buffer_append_text(&text, "{\"type\":\"resume\",\"id\":\"x\",\"after\":");
    buffer_append_span(&text, span_skip(message, (size_t)(mark - message.base) + sizeof(MARK) - 1));
    bool good = ws_message_read(&doc, buffer_span(&text), WS_FORM_CONTENT, &read, &verdict);
    *after = read.after;
    json_doc_fini(&doc);
    buffer_fini(&text);
    return good;
}

static void try_coming_back(struct span lines, enum ws_form form, unsigned choice, struct buffer *text) {
    static struct told whole;
    static struct told rest;
    struct ws_position after = {0, 0};
    buffer_init(&whole.text, TEXT_BYTES);
    buffer_init(&rest.text, TEXT_BYTES);
    tell(lines, form, after, text, &whole);
    int at = whole.count != 0 ? (int)choice % whole.count : 0;
    struct span message =
        span_of(whole.text.base + whole.begins[at], whole.begins[at + (whole.count != 0)] - whole.begins[at]);
    if (whole.count < MESSAGES_MOST && read_position(message, &after)) {
        tell(lines, form, after, text, &rest);
        CHECK(span_equals(buffer_span(&rest.text), span_skip(buffer_span(&whole.text), whole.begins[at + 1])));
    }
    buffer_fini(&whole.text);
    buffer_fini(&rest.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ws_memory memory;
    struct buffer text;
    if (size < 2) {
        return 0;
    }
    enum ws_form form = (enum ws_form)(data[0] % 3);
    struct span input = fuzz_span(data + 1, size - 1);
    const char *nul = memchr(input.base, '\0', input.len);
    struct span message = span_of(input.base, nul != NULL ? (size_t)(nul - input.base) : input.len);
    buffer_init(&text, TEXT_BYTES);
    ws_memory_init(&memory, TEXT_BYTES);
    try_message(message, form, &memory, &text);
    CHECK(ws_memory_set_context(&memory, SPAN_LITERAL("{\"role\":\"user\",\"content\":\"c\"}")));
    try_message(message, form, &memory, &text);
    struct span lines = span_skip(input, message.len + 1);
    try_answer(lines, form, &text);
    if (form != WS_FORM_CHUNKS) {
        try_coming_back(lines, form, data[0] / 3, &text);
    }
    ws_memory_fini(&memory);
    buffer_fini(&text);
    return 0;
}
