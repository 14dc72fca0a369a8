#include "worker/dialect_gemini.h"

#include "worker/answer_told.h"
#include "worker/gemini_logprobs.h"
#include "worker/gemini_usage.h"

/* One chunk or answer being heard. */
struct hearing {
    struct answer_listener *listener;
    const struct json_doc *doc;
    struct answer_event *out;
    const struct answer_sink *sink; /* NULL: nobody wants the parts */
    int64_t choice;                 /* index of the candidate */
    int64_t finish_choice;
    struct buffer made; /* a text that does not stand in the data as it is told */
};

static struct span inside_of(const struct hearing *hearing, int value) {
    struct span raw = json_raw(hearing->doc, value);
    bool is_string = json_type_of(hearing->doc, value) == JSON_STRING;
    return is_string ? span_of(raw.base + 1, raw.len - 2) : SPAN_EMPTY;
}

static bool is_told(const struct hearing *hearing) {
    return hearing->sink != NULL && answer_told_has_room(hearing->choice);
}

static void tell(struct hearing *hearing, enum answer_part_kind kind, int64_t tool, struct span text) {
    if (text.len != 0 && is_told(hearing)) {
        const struct answer_part part = {.kind = kind, .choice = hearing->choice, .tool = tool, .text = text};
        hearing->sink->on_part(hearing->sink->context, &part);
    }
}

/* Puts JSON into the made text as the inside of a string, without the blanks between its values. */
static struct span make_inside(struct hearing *hearing, struct span json) {
    bool is_in_string = false;
    bool is_escaped = false;
    buffer_clear(&hearing->made);
    char *to = buffer_reserve(&hearing->made, json.len * 2);
    size_t count = 0;
    for (size_t i = 0; to != NULL && i < json.len; i++) {
        char byte = json.base[i];
        bool is_blank = byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
        if (is_blank && !is_in_string) {
            continue;
        }
        if (byte == '"' || byte == '\\') {
            to[count++] = '\\';
        }
        to[count++] = byte;
        is_in_string = byte == '"' && !is_escaped ? !is_in_string : is_in_string;
        is_escaped = byte == '\\' && !is_escaped;
    }
    if (to != NULL) {
        buffer_added(&hearing->made, count);
    }
    return buffer_span(&hearing->made);
}

static void hear_call(struct hearing *hearing, int call, struct span signature) {
    const struct json_doc *doc = hearing->doc;
    struct span name = inside_of(hearing, json_member(doc, call, "name"));
    struct span id = inside_of(hearing, json_member(doc, call, "id"));
    int arguments = json_member(doc, call, "args");
    struct span raw = json_type_of(doc, arguments) == JSON_OBJECT ? json_raw(doc, arguments) : SPAN_LITERAL("{}");
    hearing->out->tool_calls++;
    answer_take_text(hearing->listener, hearing->out, hearing->choice, ANSWER_TEXT_TOOL, name);
    answer_take_text(hearing->listener, hearing->out, hearing->choice, ANSWER_TEXT_TOOL, raw);
    if (!is_told(hearing)) {
        return;
    }
    int64_t number = answer_told_begin_call(hearing->sink->told, hearing->choice, -1, id);
    if (number < 0) {
        return;
    }
    const struct answer_part part = {
        .kind = ANSWER_PART_TOOL, .choice = hearing->choice, .tool = number, .id = id, .name = name};
    hearing->sink->on_part(hearing->sink->context, &part);
    tell(hearing, ANSWER_PART_ARGUMENTS, number, make_inside(hearing, raw));
    tell(hearing, ANSWER_PART_SIGNATURE, number, signature);
}

static void hear_part(struct hearing *hearing, int part) {
    const struct json_doc *doc = hearing->doc;
    struct span signature = inside_of(hearing, json_member(doc, part, "thoughtSignature"));
    int call = json_member(doc, part, "functionCall");
    if (json_type_of(doc, call) == JSON_OBJECT) {
        hear_call(hearing, call, signature);
        return;
    }
    struct span text = inside_of(hearing, json_member(doc, part, "text"));
    bool is_thought = json_type_of(doc, json_member(doc, part, "thought")) == JSON_TRUE;
    answer_take_text(hearing->listener, hearing->out, hearing->choice,
                     is_thought ? ANSWER_TEXT_REASONING : ANSWER_TEXT_CONTENT, text);
    tell(hearing, is_thought ? ANSWER_PART_REASONING : ANSWER_PART_TEXT, -1, text);
    tell(hearing, ANSWER_PART_SIGNATURE, -1, signature);
}

/* What a finish reason means: wire.md's table. Past 5 Vertex' numbers are meant. */
static const struct reason {
    const char *name;
    enum answer_finish finish;
} reasons[] = {
    {"FINISH_REASON_UNSPECIFIED", ANSWER_FINISH_NONE},
    {"STOP", ANSWER_FINISH_STOP},
    {"MAX_TOKENS", ANSWER_FINISH_LENGTH},
    {"SAFETY", ANSWER_FINISH_CONTENT_FILTER},
    {"RECITATION", ANSWER_FINISH_CONTENT_FILTER},
    {"OTHER", ANSWER_FINISH_STOP},
    {"BLOCKLIST", ANSWER_FINISH_CONTENT_FILTER},
    {"PROHIBITED_CONTENT", ANSWER_FINISH_CONTENT_FILTER},
    {"SPII", ANSWER_FINISH_CONTENT_FILTER},
    {"MALFORMED_FUNCTION_CALL", ANSWER_FINISH_STOP},
    {"MODEL_ARMOR", ANSWER_FINISH_CONTENT_FILTER},
    {"IMAGE_SAFETY", ANSWER_FINISH_CONTENT_FILTER},
    {"IMAGE_PROHIBITED_CONTENT", ANSWER_FINISH_CONTENT_FILTER},
    {"IMAGE_RECITATION", ANSWER_FINISH_CONTENT_FILTER},
    {"LANGUAGE", ANSWER_FINISH_CONTENT_FILTER},
};
enum { REASONS = sizeof(reasons) / sizeof(reasons[0]), NUMBERED_REASONS = 12 };

/* The reason of a name or number; one nobody knows is an end like any other, under its own name. */
static struct reason find_reason(const struct hearing *hearing, int value, char own_name[static ANSWER_FINISH_BYTES]) {
    int64_t number = 0;
    if (json_int(hearing->doc, value, &number) && number >= 0 && number < NUMBERED_REASONS) {
        return reasons[number];
    }
    for (int i = 0; i < REASONS; i++) {
        if (json_string_is(hearing->doc, value, reasons[i].name)) {
            return reasons[i];
        }
    }
    bool is_string = json_type_of(hearing->doc, value) == JSON_STRING;
    struct span text = is_string ? inside_of(hearing, value) : json_raw(hearing->doc, value);
    (void)span_copy(text, own_name, ANSWER_FINISH_BYTES);
    return (struct reason){own_name, text.len != 0 ? ANSWER_FINISH_STOP : ANSWER_FINISH_NONE};
}

/* Keeps a finish reason: the event's is choice 0's where several have one, the sink's each choice's last. */
static void take_finish(struct hearing *hearing, struct reason reason) {
    struct answer_event *out = hearing->out;
    if (reason.finish == ANSWER_FINISH_NONE) {
        return;
    }
    if (!out->has_finish || hearing->choice <= hearing->finish_choice) {
        out->has_finish = true;
        hearing->finish_choice = hearing->choice;
        (void)span_copy(span_text(reason.name), out->finish_reason, sizeof(out->finish_reason));
    }
    if (is_told(hearing)) {
        hearing->sink->told->finish[hearing->choice] = (uint8_t)reason.finish;
    }
}

static void hear_logprobs(struct hearing *hearing, int result) {
    if (is_told(hearing) && json_type_of(hearing->doc, result) == JSON_OBJECT) {
        buffer_clear(&hearing->made);
        if (gemini_logprobs_write(hearing->doc, result, &hearing->made)) {
            tell(hearing, ANSWER_PART_LOGPROBS, -1, buffer_span(&hearing->made));
        }
    }
}

static void hear_candidate(struct hearing *hearing, int candidate) {
    const struct json_doc *doc = hearing->doc;
    char own_name[ANSWER_FINISH_BYTES];
    int64_t index = 0;
    hearing->choice = hearing->out->choice_count++;
    if (json_int(doc, json_member(doc, candidate, "index"), &index) && index >= 0) {
        hearing->choice = index;
    }
    int parts = json_member(doc, json_member(doc, candidate, "content"), "parts");
    if (json_type_of(doc, parts) == JSON_ARRAY) {
        for (int part = json_first(doc, parts); part >= 0; part = json_next(doc, part)) {
            hear_part(hearing, part);
        }
    }
    hear_logprobs(hearing, json_member(doc, candidate, "logprobsResult"));
    int reason = json_member(doc, candidate, "finishReason");
    if (json_type_of(doc, reason) == JSON_STRING || json_type_of(doc, reason) == JSON_NUMBER) {
        take_finish(hearing, find_reason(hearing, reason, own_name));
    }
}

/* A prompt that was blocked has no candidates. */
static void hear_feedback(struct hearing *hearing, int feedback) {
    char name[ANSWER_FINISH_BYTES] = "SAFETY";
    int reason = json_member(hearing->doc, feedback, "blockReason");
    bool is_string = json_type_of(hearing->doc, reason) == JSON_STRING;
    if (is_string) {
        (void)span_copy(inside_of(hearing, reason), name, sizeof(name));
    }
    if ((is_string || json_type_of(hearing->doc, reason) == JSON_NUMBER) && name[0] != '\0') {
        hearing->choice = 0;
        take_finish(hearing, (struct reason){name, ANSWER_FINISH_CONTENT_FILTER});
    }
}

static bool is_real(enum json_type type) { return type != JSON_ABSENT && type != JSON_NULL && type != JSON_FALSE; }

/* Is there a member that only Gemini's chunks have? An empty object says nothing, which every dialect may. */
static bool is_chunk(const struct json_doc *doc) {
    static const char *const names[] = {"candidates",   "promptFeedback", "usageMetadata",
                                        "modelVersion", "responseId",     "error"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (json_member(doc, 0, names[i]) >= 0) {
            return true;
        }
    }
    return json_size(doc, 0) == 0;
}

/* An error body is an object or, from streaming endpoints, an array of one. */
static int find_error(const struct json_doc *doc) {
    int object = json_type_of(doc, 0) == JSON_ARRAY && json_size(doc, 0) == 1 ? json_first(doc, 0) : 0;
    int error = json_member(doc, object, "error");
    return is_real(json_type_of(doc, error)) ? error : -1;
}

static void hear_chunk(struct hearing *hearing) {
    const struct json_doc *doc = hearing->doc;
    struct answer_event *out = hearing->out;
    int candidates = json_member(doc, 0, "candidates");
    int feedback = json_member(doc, 0, "promptFeedback");
    out->has_choices = candidates >= 0 || feedback >= 0;
    if (json_type_of(doc, candidates) == JSON_ARRAY) {
        for (int candidate = json_first(doc, candidates); candidate >= 0; candidate = json_next(doc, candidate)) {
            hear_candidate(hearing, candidate);
        }
    }
    hear_feedback(hearing, feedback);
    int usage = json_member(doc, 0, "usageMetadata");
    out->has_usage = gemini_usage_read(doc, usage, &out->usage);
    out->usage_raw = out->has_usage ? json_raw(doc, usage) : SPAN_EMPTY;
    out->is_usage_only = out->has_usage && !out->has_choices;
}

/* Hears one JSON text. An invalid one leaves no trace but is_invalid. */
static void hear_text(struct answer_listener *listener, struct json_doc *scratch, struct span text,
                      struct answer_event *out, const struct answer_sink *sink) {
    CHECK(sink == NULL || sink->told != NULL);
    if (!json_parse(scratch, text)) {
        out->is_invalid = true;
        return;
    }
    int error = find_error(scratch);
    if (error >= 0) {
        out->is_error = true;
        out->error_raw = json_raw(scratch, error);
        answer_remember(listener, out);
        return;
    }
    if (json_type_of(scratch, 0) != JSON_OBJECT || !is_chunk(scratch)) {
        out->is_invalid = true;
        return;
    }
    struct hearing hearing = {.listener = listener, .doc = scratch, .out = out, .sink = sink};
    /* Logprobs may grow to OpenAI's longer names. */
    buffer_init(&hearing.made, text.len * 8 + 256);
    hear_chunk(&hearing);
    buffer_fini(&hearing.made);
    answer_remember(listener, out);
}

void gemini_hear_event(struct answer_listener *listener, struct json_doc *scratch, struct span name, struct span data,
                       struct answer_event *out, const struct answer_sink *sink) {
    *out = (struct answer_event){0};
    if (name.len != 0) {
        out->is_invalid = true; /* Anthropic's events have names, Gemini's none */
        out->is_error = span_is(name, "error");
        listener->is_error |= out->is_error;
        return;
    }
    struct span text = span_trim(data);
    if (text.len != 0) {
        hear_text(listener, scratch, text, out, sink);
    }
}

void gemini_hear_answer(struct answer_listener *listener, struct json_doc *scratch, struct span body,
                        struct answer_event *out, const struct answer_sink *sink) {
    *out = (struct answer_event){0};
    hear_text(listener, scratch, body, out, sink);
    if (!out->is_invalid && !out->is_error && sink != NULL) {
        gemini_hear_end(listener, sink);
    }
}

void gemini_hear_end(struct answer_listener *listener, const struct answer_sink *sink) {
    if (sink == NULL || listener->is_error) {
        return;
    }
    struct answer_told *told = sink->told;
    for (int64_t choice = 0; choice < ANSWER_CHOICES_MOST; choice++) {
        enum answer_finish finish = (enum answer_finish)told->finish[choice];
        bool is_call = finish == ANSWER_FINISH_STOP && told->tools[choice] != 0;
        answer_told_finish(sink, choice, is_call ? ANSWER_FINISH_TOOL_CALLS : finish, SPAN_EMPTY);
    }
}

/* --- refusals --- */

static bool has_text(struct span text, const char *part) {
    return text.len != 0 && memmem(text.base, text.len, part, strlen(part)) != NULL;
}

/* "48s" or "34.4s" in milliseconds, rounded up; 0 for anything else. A day at most. */
static int64_t read_delay(struct span text) {
    const int64_t most_ms = INT64_C(86400000);
    int64_t ns = 0;
    int64_t unit = INT64_C(1000000000);
    bool is_fraction = false;
    if (text.len < 2 || text.base[text.len - 1] != 's') {
        return 0;
    }
    for (size_t i = 0; i + 1 < text.len; i++) {
        char c = text.base[i];
        if (c == '.' && !is_fraction) {
            is_fraction = true;
        } else if (c < '0' || c > '9') {
            return 0;
        } else if (is_fraction) {
            unit /= 10;
            ns += (c - '0') * unit;
        } else if (ns < most_ms * 1000000) {
            ns = ns * 10 + (c - '0') * unit;
        }
    }
    int64_t ms = (ns + 999999) / 1000000;
    return ms < most_ms ? ms : most_ms;
}

static void judge_detail(const struct json_doc *doc, int detail, struct answer_refusal *out) {
    static const char *const reasons_of_account[] = {
        "API_KEY_",         "ACCESS_TOKEN_",     "ACCOUNT_STATE_INVALID", "CREDENTIALS_MISSING",
        "BILLING_DISABLED", "IAM_PERMISSION_DE", "SERVICE_DISABLED",      "CONSUMER_",
        "SESSION_COOKIE_",
    };
    struct span reason = json_raw(doc, json_member(doc, detail, "reason"));
    for (size_t i = 0; i < sizeof(reasons_of_account) / sizeof(reasons_of_account[0]); i++) {
        out->is_credentials |= span_starts_with(span_skip(reason, 1), reasons_of_account[i]);
    }
    int delay = json_member(doc, detail, "retryDelay");
    struct span raw = json_raw(doc, delay);
    if (json_type_of(doc, delay) == JSON_STRING) {
        out->retry_after_ms = read_delay(span_of(raw.base + 1, raw.len - 2));
    }
}

void gemini_judge_refusal(struct json_doc *scratch, struct span body, struct answer_refusal *out) {
    *out = (struct answer_refusal){0};
    int error = json_parse(scratch, body) ? find_error(scratch) : -1;
    if (json_type_of(scratch, error) != JSON_OBJECT) {
        return;
    }
    int status = json_member(scratch, error, "status");
    struct span message = json_raw(scratch, json_member(scratch, error, "message"));
    int64_t code = 0;
    bool has_code = json_int(scratch, json_member(scratch, error, "code"), &code);
    out->is_credentials = json_string_is(scratch, status, "UNAUTHENTICATED") ||
                          json_string_is(scratch, status, "PERMISSION_DENIED") ||
                          json_string_is(scratch, status, "FAILED_PRECONDITION") ||
                          has_text(message, "API key not valid") || has_text(message, "API key expired");
    out->is_overloaded = json_string_is(scratch, status, "UNAVAILABLE") || (has_code && code == 503);
    bool may_be_length = !has_code || code == 400 || code == 413;
    out->is_context_length =
        may_be_length && (has_text(message, "exceeds the maximum number of tokens") ||
                          has_text(message, "input token count") || has_text(message, "input context is too long"));
    int details = json_member(scratch, error, "details");
    if (json_type_of(scratch, details) == JSON_ARRAY) {
        for (int detail = json_first(scratch, details); detail >= 0; detail = json_next(scratch, detail)) {
            judge_detail(scratch, detail, out);
        }
    }
}
