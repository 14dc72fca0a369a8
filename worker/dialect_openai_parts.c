#include "worker/dialect_openai_parts.h"

#include "worker/answer_told.h"
#include "worker/json_scan.h"

/* Parts within parts: a thinking part holds text parts, nothing holds more. */
enum { PARTS_DEPTH_MOST = 2 };

/* The number under which a legacy function_call, which has none, is remembered. */
#define LEGACY_INDEX INT64_MIN

/* A choice being told. */
struct telling {
    const struct answer_sink *sink;
    int64_t choice;
};

/* The members of a delta or message, as written; empty when absent. */
struct message {
    struct span content;
    struct span reasoning;
    struct span details;
    struct span refusal;
    struct span tool_calls;
    struct span function_call;
    struct span extra;
};

struct call {
    struct span id;
    struct span name;
    struct span arguments;
    struct span signature;
    int64_t index;
};

static void tell(struct telling *telling, enum answer_part_kind kind, int64_t tool, struct span text) {
    if (text.len != 0) {
        const struct answer_part part = {.kind = kind, .choice = telling->choice, .tool = tool, .text = text};
        telling->sink->on_part(telling->sink->context, &part);
    }
}

/* What stands between a string's quotes; empty for any other value. */
static struct span inside_of(struct span value) {
    bool is_string = value.len >= 2 && value.base[0] == '"';
    return is_string ? span_of(value.base + 1, value.len - 2) : SPAN_EMPTY;
}

static void tell_text(struct telling *telling, enum answer_part_kind kind, struct span value, int depth);

/* One element of a content array: as hear_part of dialect_openai.c counts it. */
static void tell_part(struct telling *telling, enum answer_part_kind kind, struct span part, int depth) {
    struct json_scan scan = json_scan_of(part);
    struct span name;
    if (!json_scan_enter(&scan, '{')) {
        tell(telling, kind, -1, inside_of(part));
        return;
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        if (span_is(name, "text")) {
            tell(telling, kind, -1, inside_of(value));
        } else if (span_is(name, "thinking")) {
            tell_text(telling, ANSWER_PART_REASONING, value, depth + 1);
        } else if (span_is(name, "refusal")) {
            tell(telling, ANSWER_PART_REFUSAL, -1, inside_of(value));
        }
    }
}

/* A text, or an array of parts. */
static void tell_text(struct telling *telling, enum answer_part_kind kind, struct span value, int depth) {
    struct json_scan scan = json_scan_of(value);
    if (depth >= PARTS_DEPTH_MOST || !json_scan_enter(&scan, '[')) {
        tell(telling, kind, -1, inside_of(value));
        return;
    }
    while (json_scan_element(&scan)) {
        tell_part(telling, kind, json_scan_skip(&scan), depth);
    }
}

/* One reasoning detail (OpenRouter's form). Its text stands in `reasoning` as well and was told from there. */
static void tell_detail(struct telling *telling, struct span detail) {
    struct json_scan scan = json_scan_of(detail);
    struct span name;
    if (!json_scan_enter(&scan, '{')) {
        return;
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        if (span_is(name, "signature")) {
            tell(telling, ANSWER_PART_SIGNATURE, -1, inside_of(value));
        } else if (span_is(name, "data")) {
            tell(telling, ANSWER_PART_REDACTED, -1, inside_of(value));
        }
    }
}

static void tell_details(struct telling *telling, struct span details) {
    struct json_scan scan = json_scan_of(details);
    if (json_scan_enter(&scan, '[')) {
        while (json_scan_element(&scan)) {
            tell_detail(telling, json_scan_skip(&scan));
        }
    }
}

/* The member of an object, as written; empty when there is none. */
static struct span member_of(struct span object, const char *wanted) {
    struct json_scan scan = json_scan_of(object);
    struct span name;
    if (json_scan_enter(&scan, '{')) {
        while (json_scan_member(&scan, &name)) {
            struct span value = json_scan_skip(&scan);
            if (span_is(name, wanted)) {
                return value;
            }
        }
    }
    return SPAN_EMPTY;
}

/* extra_content.google.thought_signature */
static struct span signature_of(struct span extra) {
    return inside_of(member_of(member_of(extra, "google"), "thought_signature"));
}

/* {"name","arguments"} of a function, or {"name","input"} of a custom tool. */
static void read_function(struct span function, struct call *out) {
    struct json_scan scan = json_scan_of(function);
    struct span name;
    if (!json_scan_enter(&scan, '{')) {
        return;
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        if (span_is(name, "name")) {
            out->name = inside_of(value);
        } else if (span_is(name, "arguments") || span_is(name, "input")) {
            out->arguments = inside_of(value);
        }
    }
}

/* A small number, minus signs included; anything else is 0. */
static int64_t read_index(struct span text) {
    int64_t index = 0;
    bool is_negative = text.len != 0 && text.base[0] == '-';
    for (size_t i = is_negative ? 1 : 0; i < text.len && i < 10 && text.base[i] >= '0' && text.base[i] <= '9'; i++) {
        index = index * 10 + (text.base[i] - '0');
    }
    return is_negative ? -index : index;
}

static struct call read_call(struct span object, int64_t place) {
    struct call call = {.index = place};
    struct json_scan scan = json_scan_of(object);
    struct span name;
    if (!json_scan_enter(&scan, '{')) {
        return call;
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        if (span_is(name, "index") && value.len != 0 && value.base[0] != 'n') {
            call.index = read_index(value);
        } else if (span_is(name, "id")) {
            call.id = inside_of(value);
        } else if (span_is(name, "function") || span_is(name, "custom")) {
            read_function(value, &call);
        } else if (span_is(name, "extra_content")) {
            call.signature = signature_of(value);
        }
    }
    return call;
}

static void tell_call(struct telling *telling, const struct call *call) {
    struct answer_told *told = telling->sink->told;
    int64_t number = answer_told_find_call(told, telling->choice, call->index, call->id, call->name.len != 0);
    if (number < 0) {
        number = answer_told_begin_call(told, telling->choice, call->index, call->id);
        if (number < 0) {
            return;
        }
        const struct answer_part part = {
            .kind = ANSWER_PART_TOOL, .choice = telling->choice, .tool = number, .id = call->id, .name = call->name};
        telling->sink->on_part(telling->sink->context, &part);
    }
    tell(telling, ANSWER_PART_ARGUMENTS, number, call->arguments);
    tell(telling, ANSWER_PART_SIGNATURE, number, call->signature);
}

static void tell_calls(struct telling *telling, struct span calls) {
    struct json_scan scan = json_scan_of(calls);
    if (!json_scan_enter(&scan, '[')) {
        return;
    }
    for (int64_t place = 0; json_scan_element(&scan); place++) {
        struct span object = json_scan_skip(&scan);
        if (object.len != 0 && object.base[0] == '{') {
            struct call call = read_call(object, place);
            tell_call(telling, &call);
        }
    }
}

static void tell_legacy_call(struct telling *telling, struct span function) {
    struct call call = {.index = LEGACY_INDEX};
    read_function(function, &call);
    if (call.name.len != 0 || call.arguments.len != 0) {
        tell_call(telling, &call);
    }
}

/* Does a reasoning member say anything? Some servers send the text under two names, one of them perhaps empty. */
static bool says_something(struct span value) {
    return value.len != 0 && !span_is(value, "null") && !span_is(value, "\"\"") && !span_is(value, "[]");
}

static struct message read_message(struct span object) {
    struct message message = {.content = SPAN_EMPTY};
    struct json_scan scan = json_scan_of(object);
    struct span name;
    if (!json_scan_enter(&scan, '{')) {
        return message;
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        if (span_is(name, "reasoning_content") || span_is(name, "reasoning")) {
            message.reasoning = says_something(message.reasoning) ? message.reasoning : value;
            continue;
        }
        struct span *member = span_is(name, "content")             ? &message.content
                              : span_is(name, "reasoning_details") ? &message.details
                              : span_is(name, "refusal")           ? &message.refusal
                              : span_is(name, "tool_calls")        ? &message.tool_calls
                              : span_is(name, "function_call")     ? &message.function_call
                              : span_is(name, "extra_content")     ? &message.extra
                                                                   : NULL;
        if (member != NULL) {
            *member = value;
        }
    }
    return message;
}

static void tell_message(struct telling *telling, struct span object) {
    const struct message message = read_message(object);
    tell_text(telling, ANSWER_PART_REASONING, message.reasoning, 0);
    tell_details(telling, message.details);
    tell_text(telling, ANSWER_PART_TEXT, message.content, 0);
    tell(telling, ANSWER_PART_REFUSAL, -1, inside_of(message.refusal));
    tell(telling, ANSWER_PART_SIGNATURE, -1, signature_of(message.extra));
    tell_calls(telling, message.tool_calls);
    tell_legacy_call(telling, message.function_call);
}

/* wire.md's table; a reason nobody knows is an end like any other. */
static enum answer_finish finish_of(struct span reason, struct span sequence) {
    if (reason.len == 0) {
        return ANSWER_FINISH_NONE;
    }
    if (span_is(reason, "length") || span_is(reason, "model_length") || span_is(reason, "max_tokens")) {
        return ANSWER_FINISH_LENGTH;
    }
    if (span_is(reason, "tool_calls") || span_is(reason, "function_call")) {
        return ANSWER_FINISH_TOOL_CALLS;
    }
    if (span_is(reason, "content_filter")) {
        return ANSWER_FINISH_CONTENT_FILTER;
    }
    return sequence.len != 0 ? ANSWER_FINISH_STOP_SEQUENCE : ANSWER_FINISH_STOP;
}

void openai_tell_choice(const struct answer_sink *sink, struct span choice, int64_t place, bool is_stream) {
    struct telling telling = {.sink = sink, .choice = place};
    struct json_scan scan = json_scan_of(choice);
    struct span name;
    struct span message = SPAN_EMPTY;
    struct span text = SPAN_EMPTY;
    struct span logprobs = SPAN_EMPTY;
    struct span reason = SPAN_EMPTY;
    struct span sequence = SPAN_EMPTY; /* vLLM's stop_reason, SGLang's matched_stop: the stop sequence, when a text */
    CHECK(sink->told != NULL);
    if (!json_scan_enter(&scan, '{')) {
        return;
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        if (span_is(name, is_stream ? "delta" : "message")) {
            message = value;
        } else if (span_is(name, "text")) {
            text = inside_of(value);
        } else if (span_is(name, "index")) {
            telling.choice = read_index(value);
        } else if (span_is(name, "logprobs")) {
            logprobs = value.len != 0 && value.base[0] == '{' ? value : SPAN_EMPTY;
        } else if (span_is(name, "finish_reason")) {
            reason = inside_of(value);
        } else if (span_is(name, "stop_reason") || span_is(name, "matched_stop")) {
            sequence = inside_of(value);
        }
    }
    if (!answer_told_has_room(telling.choice)) {
        return;
    }
    tell_message(&telling, message);
    tell(&telling, ANSWER_PART_TEXT, -1, text);
    tell(&telling, ANSWER_PART_LOGPROBS, -1, logprobs);
    enum answer_finish finish = finish_of(reason, sequence);
    answer_told_finish(sink, telling.choice, finish, finish == ANSWER_FINISH_STOP_SEQUENCE ? sequence : SPAN_EMPTY);
}
