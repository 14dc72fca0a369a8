#include "worker/dialect_openai.h"

#include "worker/dialect_openai_parts.h"
#include "worker/json_scan.h"

/* Parts within parts: a thinking part holds text parts, nothing holds more. */
enum { PARTS_DEPTH_MOST = 2 };

/* One event or answer being heard. */
struct hearing {
    struct answer_listener *listener;
    struct answer_event *out;
    const struct answer_sink *sink; /* NULL: nobody wants the parts */
    struct json_scan scan;
    bool is_stream;
    int64_t choice; /* index of the choice, or output item, the cursor is in */
    int64_t finish_choice;
    struct span object; /* root members, as written */
    struct span type;
    struct span status;
    struct span delta; /* the text of a Responses delta event */
    struct span item;  /* what a Responses event adds */
    struct span usage; /* the best usage object so far */
    int usage_rank;
    bool has_candidates;
};

enum { USAGE_NONE, USAGE_GROQ, USAGE_RESPONSE, USAGE_ROOT };

static void take_text(struct hearing *hearing, enum answer_text kind, struct span inside) {
    answer_take_text(hearing->listener, hearing->out, hearing->choice, kind, inside);
}

/* Takes the value at the cursor as text when it is a string; skips any other. */
static bool hear_string(struct hearing *hearing, enum answer_text kind) {
    struct span inside;
    if (!json_scan_string(&hearing->scan, &inside)) {
        (void)json_scan_skip(&hearing->scan);
        return false;
    }
    take_text(hearing, kind, inside);
    return inside.len != 0;
}

/* Takes the value at the cursor as the name of a call that begins. */
static void hear_call_name(struct hearing *hearing) {
    hearing->out->tool_calls += hear_string(hearing, ANSWER_TEXT_TOOL);
}

static bool hear_text(struct hearing *hearing, enum answer_text kind, int depth);

/* One part of a content array: {"type":"text","text"}, {"type":"thinking","thinking":[parts]}, {"refusal"}, summaries.
 */
static void hear_part(struct hearing *hearing, enum answer_text kind, int depth) {
    struct span name;
    if (!json_scan_enter(&hearing->scan, '{')) {
        (void)hear_string(hearing, kind);
        return;
    }
    while (json_scan_member(&hearing->scan, &name)) {
        if (span_is(name, "text")) {
            (void)hear_string(hearing, kind);
        } else if (span_is(name, "thinking")) {
            (void)hear_text(hearing, ANSWER_TEXT_REASONING, depth + 1);
        } else if (span_is(name, "refusal")) {
            (void)hear_string(hearing, ANSWER_TEXT_REFUSAL);
        } else {
            (void)json_scan_skip(&hearing->scan);
        }
    }
}

/* A text, or an array of parts. Returns whether there was any. */
static bool hear_text(struct hearing *hearing, enum answer_text kind, int depth) {
    if (depth >= PARTS_DEPTH_MOST || !json_scan_enter(&hearing->scan, '[')) {
        return hear_string(hearing, kind);
    }
    int64_t before = hearing->out->text_bytes[kind];
    while (json_scan_element(&hearing->scan)) {
        hear_part(hearing, kind, depth);
    }
    return hearing->out->text_bytes[kind] != before;
}

/* {"name","arguments"} of a function, or {"name","input"} of a custom tool. */
static void hear_function(struct hearing *hearing) {
    struct span name;
    if (!json_scan_enter(&hearing->scan, '{')) {
        (void)json_scan_skip(&hearing->scan);
        return;
    }
    while (json_scan_member(&hearing->scan, &name)) {
        if (span_is(name, "name")) {
            hear_call_name(hearing);
        } else if (span_is(name, "arguments") || span_is(name, "input")) {
            (void)hear_string(hearing, ANSWER_TEXT_TOOL);
        } else {
            (void)json_scan_skip(&hearing->scan);
        }
    }
}

static void hear_tool_calls(struct hearing *hearing) {
    struct span name;
    if (!json_scan_enter(&hearing->scan, '[')) {
        (void)json_scan_skip(&hearing->scan);
        return;
    }
    while (json_scan_element(&hearing->scan)) {
        if (!json_scan_enter(&hearing->scan, '{')) {
            (void)json_scan_skip(&hearing->scan);
            continue;
        }
        while (json_scan_member(&hearing->scan, &name)) {
            if (span_is(name, "function") || span_is(name, "custom")) {
                hear_function(hearing);
            } else {
                (void)json_scan_skip(&hearing->scan);
            }
        }
    }
}

/* A delta or a message. Some servers send one reasoning text under two names: it is counted once. */
static void hear_message(struct hearing *hearing) {
    struct span name;
    bool has_reasoning = false;
    if (!json_scan_enter(&hearing->scan, '{')) {
        (void)json_scan_skip(&hearing->scan);
        return;
    }
    while (json_scan_member(&hearing->scan, &name)) {
        if (span_is(name, "content")) {
            (void)hear_text(hearing, ANSWER_TEXT_CONTENT, 0);
        } else if (!has_reasoning && (span_is(name, "reasoning_content") || span_is(name, "reasoning"))) {
            has_reasoning = hear_text(hearing, ANSWER_TEXT_REASONING, 0);
        } else if (span_is(name, "refusal")) {
            (void)hear_string(hearing, ANSWER_TEXT_REFUSAL);
        } else if (span_is(name, "tool_calls")) {
            hear_tool_calls(hearing);
        } else if (span_is(name, "function_call")) {
            hear_function(hearing);
        } else {
            (void)json_scan_skip(&hearing->scan);
        }
    }
}

/* A small non-negative number; anything else is 0. */
static int64_t read_index(struct span text) {
    int64_t index = 0;
    for (size_t i = 0; i < text.len && i < 9 && text.base[i] >= '0' && text.base[i] <= '9'; i++) {
        index = index * 10 + (text.base[i] - '0');
    }
    return index;
}

/* Keeps a finish reason, preferring choice 0's. */
static void take_finish(struct hearing *hearing, int64_t choice, struct span reason) {
    struct answer_event *out = hearing->out;
    if (reason.len == 0 || (out->has_finish && choice > hearing->finish_choice)) {
        return;
    }
    out->has_finish = true;
    hearing->finish_choice = choice;
    (void)span_copy(reason, out->finish_reason, sizeof(out->finish_reason));
}

/* One element of choices. Chunks may carry a `message` with all the text so far beside the delta (Perplexity): in a
 * stream only the delta counts. */
static void hear_choice(struct hearing *hearing) {
    struct span name;
    struct span reason = SPAN_EMPTY;
    if (!json_scan_enter(&hearing->scan, '{')) {
        (void)json_scan_skip(&hearing->scan);
        return;
    }
    while (json_scan_member(&hearing->scan, &name)) {
        if (span_is(name, hearing->is_stream ? "delta" : "message")) {
            hear_message(hearing);
        } else if (span_is(name, "text")) {
            (void)hear_string(hearing, ANSWER_TEXT_CONTENT);
        } else if (span_is(name, "index")) {
            hearing->choice = read_index(json_scan_skip(&hearing->scan));
        } else if (!span_is(name, "finish_reason") || !json_scan_string(&hearing->scan, &reason)) {
            (void)json_scan_skip(&hearing->scan);
        }
    }
    take_finish(hearing, hearing->choice, reason);
}

static void hear_choices(struct hearing *hearing) {
    if (!json_scan_enter(&hearing->scan, '[')) {
        (void)json_scan_skip(&hearing->scan);
        return;
    }
    hearing->out->has_choices = true;
    while (json_scan_element(&hearing->scan)) {
        const char *from = hearing->scan.at;
        hearing->choice = hearing->out->choice_count++;
        int64_t place = hearing->choice;
        hear_choice(hearing);
        if (hearing->sink != NULL) {
            openai_tell_choice(hearing->sink, span_of(from, (size_t)(hearing->scan.at - from)), place,
                               hearing->is_stream);
        }
    }
}

/* Remembers the usage object at the cursor when it is a better one than what was found before. */
static void hear_usage(struct hearing *hearing, int rank) {
    struct span usage = json_scan_skip(&hearing->scan);
    if (usage.len != 0 && usage.base[0] == '{' && rank >= hearing->usage_rank) {
        hearing->usage = usage;
        hearing->usage_rank = rank;
    }
}

/* An error is whatever is neither null, false, "" nor {}. */
static void hear_error(struct hearing *hearing) {
    struct span error = json_scan_skip(&hearing->scan);
    if (error.len != 0 && !span_is(error, "null") && !span_is(error, "false") && !span_is(error, "\"\"") &&
        !span_is(error, "{}")) {
        hearing->out->is_error = true;
        hearing->out->error_raw = error;
    }
}

/* One item of a Responses output: a message, a function call or reasoning. */
static void hear_item(struct hearing *hearing) {
    struct span name;
    struct span type = SPAN_EMPTY;
    if (!json_scan_enter(&hearing->scan, '{')) {
        (void)json_scan_skip(&hearing->scan);
        return;
    }
    while (json_scan_member(&hearing->scan, &name)) {
        bool is_reasoning = span_is(type, "reasoning");
        if (span_is(name, "type") && json_scan_string(&hearing->scan, &type)) {
            continue;
        }
        if (span_is(name, "content") || span_is(name, "summary")) {
            (void)hear_text(hearing, is_reasoning ? ANSWER_TEXT_REASONING : ANSWER_TEXT_CONTENT, 0);
        } else if (span_is(name, "name")) {
            hear_call_name(hearing);
        } else if (span_is(name, "arguments") || span_is(name, "input")) {
            (void)hear_string(hearing, ANSWER_TEXT_TOOL);
        } else {
            (void)json_scan_skip(&hearing->scan);
        }
    }
}

static void hear_output(struct hearing *hearing) {
    if (!json_scan_enter(&hearing->scan, '[')) {
        (void)json_scan_skip(&hearing->scan);
        return;
    }
    while (json_scan_element(&hearing->scan)) {
        hear_item(hearing);
        hearing->choice++;
    }
}

/* An object that holds a usage of its own: Groq's x_groq, a Responses event's response. */
static void hear_owner(struct hearing *hearing, int rank) {
    struct span name;
    if (!json_scan_enter(&hearing->scan, '{')) {
        (void)json_scan_skip(&hearing->scan);
        return;
    }
    while (json_scan_member(&hearing->scan, &name)) {
        if (span_is(name, "usage")) {
            hear_usage(hearing, rank);
        } else if (rank == USAGE_RESPONSE && span_is(name, "error")) {
            hear_error(hearing);
        } else if (rank != USAGE_RESPONSE || !span_is(name, "status") ||
                   !json_scan_string(&hearing->scan, &hearing->status)) {
            (void)json_scan_skip(&hearing->scan);
        }
    }
}

/* Members of the root that hold structure. False: the name is none of these and the cursor has not moved. */
static bool hear_root_value(struct hearing *hearing, struct span name) {
    if (span_is(name, "choices")) {
        hear_choices(hearing);
    } else if (span_is(name, "usage")) {
        hear_usage(hearing, USAGE_ROOT);
    } else if (span_is(name, "error")) {
        hear_error(hearing);
    } else if (span_is(name, "x_groq")) {
        hear_owner(hearing, USAGE_GROQ);
    } else if (span_is(name, "response")) {
        hear_owner(hearing, USAGE_RESPONSE);
    } else if (span_is(name, "output") && !hearing->is_stream) {
        hear_output(hearing);
    } else if (span_is(name, "item") && hearing->is_stream) {
        hearing->item = json_scan_skip(&hearing->scan);
    } else {
        return false;
    }
    return true;
}

/* Members of the root that are plain words. */
static struct span *find_root_word(struct hearing *hearing, struct span name) {
    return span_is(name, "object")   ? &hearing->object
           : span_is(name, "type")   ? &hearing->type
           : span_is(name, "status") ? &hearing->status
           : span_is(name, "delta")  ? &hearing->delta
                                     : NULL;
}

/* Gemini's and Anthropic's answers, which no client of this dialect could read. What else is unknown is for newer
 * clients than this. */
static bool is_foreign(const struct hearing *hearing) {
    struct span type = hearing->type;
    return !hearing->out->has_choices &&
           (hearing->has_candidates || span_is(type, "message") || span_starts_with(type, "message_") ||
            span_starts_with(type, "content_block_"));
}

static void hear_root(struct hearing *hearing) {
    struct span name;
    if (!json_scan_enter(&hearing->scan, '{')) {
        hearing->out->is_invalid = true;
        return;
    }
    while (json_scan_member(&hearing->scan, &name)) {
        if (hear_root_value(hearing, name)) {
            continue;
        }
        hearing->has_candidates |= span_is(name, "candidates");
        struct span *word = find_root_word(hearing, name);
        if (word == NULL || !json_scan_string(&hearing->scan, word)) {
            (void)json_scan_skip(&hearing->scan);
        }
    }
    hearing->out->is_invalid = !json_scan_is_over(&hearing->scan) || is_foreign(hearing);
}

/* The item that a Responses event adds: of a call, the name; its arguments come as deltas. */
static void hear_added_item(struct hearing *hearing) {
    struct span name;
    hearing->scan = json_scan_of(hearing->item);
    if (!json_scan_enter(&hearing->scan, '{')) {
        return;
    }
    while (json_scan_member(&hearing->scan, &name)) {
        if (span_is(name, "name")) {
            hear_call_name(hearing);
        } else {
            (void)json_scan_skip(&hearing->scan);
        }
    }
}

/* What only the root's words tell: flat error objects, and the texts and ends of the Responses API. */
static void weigh_words(struct hearing *hearing) {
    struct answer_event *out = hearing->out;
    struct span type = hearing->type;
    out->is_error |= span_is(hearing->object, "error") || span_is(type, "error") || span_is(type, "response.failed");
    if (span_starts_with(type, "response.") && hearing->delta.len != 0) {
        bool is_reasoning = span_starts_with(type, "response.reasoning");
        bool is_tool =
            span_starts_with(type, "response.function_call") || span_starts_with(type, "response.custom_tool");
        bool is_refusal = span_starts_with(type, "response.refusal");
        take_text(hearing,
                  is_reasoning ? ANSWER_TEXT_REASONING
                  : is_tool    ? ANSWER_TEXT_TOOL
                  : is_refusal ? ANSWER_TEXT_REFUSAL
                               : ANSWER_TEXT_CONTENT,
                  hearing->delta);
    }
    if (span_is(type, "response.output_item.added")) {
        hear_added_item(hearing);
    }
    bool is_terminal = span_is(type, "response.completed") || span_is(type, "response.incomplete") ||
                       span_is(type, "response.failed") || span_is(hearing->object, "response");
    if (is_terminal) {
        take_finish(hearing, 0, hearing->status);
    }
}

static void read_usage(struct hearing *hearing, struct json_doc *scratch) {
    struct answer_event *out = hearing->out;
    if (hearing->usage.len == 0) {
        return;
    }
    if (!json_parse(scratch, hearing->usage)) {
        out->is_invalid = true;
        return;
    }
    out->has_usage = usage_read(scratch, 0, &out->usage);
    out->usage_raw = out->has_usage ? hearing->usage : SPAN_EMPTY;
    out->is_usage_only = out->has_usage && out->has_choices && out->choice_count == 0 && !out->is_error;
}

/* Walks one JSON object. An invalid one leaves no trace but is_invalid. */
static void hear_object(struct answer_listener *listener, struct json_doc *scratch, struct span text, bool is_stream,
                        struct answer_event *out, const struct answer_sink *sink) {
    struct estimate before;
    estimate_copy(&before, &listener->output);
    struct hearing hearing = {
        .listener = listener, .out = out, .sink = sink, .is_stream = is_stream, .scan = json_scan_of(text)};
    if (sink != NULL && !json_parse(scratch, text)) {
        out->is_invalid = true; /* parts are put into other texts: they have to be whole */
        return;
    }
    hear_root(&hearing);
    if (!out->is_invalid) {
        weigh_words(&hearing);
        read_usage(&hearing, scratch);
        /* After read_usage: the last event of a Responses stream is more than its usage. */
        out->has_choices |= span_starts_with(hearing.type, "response.");
    }
    if (out->is_invalid) {
        *out = (struct answer_event){.is_invalid = true};
        estimate_copy(&listener->output, &before);
        return;
    }
    answer_remember(listener, out);
}

void openai_hear_event(struct answer_listener *listener, struct json_doc *scratch, struct span name, struct span data,
                       struct answer_event *out, const struct answer_sink *sink) {
    *out = (struct answer_event){0};
    struct span text = span_trim(data);
    if (span_starts_with(text, "[DONE]")) {
        out->is_done = true;
        listener->is_done = true;
    } else if (text.len != 0) {
        hear_object(listener, scratch, text, true, out, sink);
    }
    if (span_is(name, "error")) {
        out->is_error = true;
        listener->is_error = true;
    }
}

void openai_hear_answer(struct answer_listener *listener, struct json_doc *scratch, struct span body,
                        struct answer_event *out, const struct answer_sink *sink) {
    *out = (struct answer_event){0};
    hear_object(listener, scratch, body, false, out, sink);
}

/* The value of the member `cost` of the usage object, or an empty span; *is_empty tells whether the object has members.
 */
static struct span find_cost(struct span usage_raw, bool *is_empty) {
    struct json_scan scan = json_scan_of(usage_raw);
    struct span name;
    *is_empty = true;
    if (!json_scan_enter(&scan, '{')) {
        return SPAN_EMPTY;
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        *is_empty = false;
        if (span_is(name, "cost")) {
            return value;
        }
    }
    return SPAN_EMPTY;
}

bool openai_add_cost(struct span around, struct span usage_raw, int64_t cost_nusd, struct buffer *out) {
    CHECK(usage_raw.len >= 2 && usage_raw.base >= around.base &&
          usage_raw.base + usage_raw.len <= around.base + around.len && usage_raw.base[usage_raw.len - 1] == '}');
    char cost[NUSD_TEXT_BYTES];
    bool is_empty = true;
    struct span old = find_cost(usage_raw, &is_empty);
    const char *cut = old.len != 0 ? old.base : usage_raw.base + usage_raw.len - 1;
    size_t before = (size_t)(cut - around.base);
    buffer_append(out, around.base, before);
    if (old.len == 0) {
        buffer_append_text(out, is_empty ? "\"cost\":" : ",\"cost\":");
    }
    buffer_append_text(out, money_format(cost_nusd, cost));
    buffer_append_span(out, span_skip(around, before + old.len));
    return !out->failed;
}
