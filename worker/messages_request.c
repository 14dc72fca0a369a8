#include "worker/messages_request.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/json_write.h"
#include "base/utf8.h"
#include "worker/estimate.h"
#include "worker/messages_check.h"

enum {
    MESSAGE_TOKENS = 3,
    TOOL_TOKENS = 10,
    IMAGE_TOKENS = 1500,
    DOCUMENT_TOKENS = 4000,
    THINKING_LEAST_TOKENS = 1024
};

/* A piece of the body that is replaced; several are made in the order they stand in. */
struct edit {
    size_t at;
    size_t removes;
    struct span text;
};

enum { EDITS_MOST = 5, NUMBER_BYTES = 24 };

struct plan {
    struct edit edits[EDITS_MOST];
    int count;
    char max_tokens[NUMBER_BYTES];
    char budget[NUMBER_BYTES];
};

static struct chat_member member_of(const struct json_doc *doc, int value) {
    return (struct chat_member){.is_present = value >= 0, .value = json_raw(doc, value)};
}

/* The value that stands at `name`, null too. */
static struct chat_member find_member(const struct json_doc *doc, const char *name) {
    return member_of(doc, json_member(doc, 0, name));
}

static void read_end_user(const struct json_doc *doc, int metadata, struct messages_request *out) {
    int user = json_member(doc, metadata, "user_id");
    struct buffer text;
    buffer_init(&text, json_raw(doc, user).len);
    if (json_string(doc, user, &text)) {
        (void)span_copy(utf8_cut(buffer_span(&text), sizeof(out->end_user) - 1), out->end_user, sizeof(out->end_user));
    }
    buffer_fini(&text);
}

static void add_string(struct estimate *estimate, const struct json_doc *doc, int value) {
    if (json_type_of(doc, value) == JSON_STRING) {
        struct span raw = json_raw(doc, value);
        estimate_add_json(estimate, span_of(raw.base + 1, raw.len - 2));
        estimate_break(estimate);
    }
}

static void add_raw(struct estimate *estimate, const struct json_doc *doc, int value) {
    estimate_add(estimate, json_raw(doc, value));
    estimate_break(estimate);
}

/* A text, or blocks. Returns the tokens of what is no text. A tool's result holds blocks, nothing else does. */
static int64_t add_content(struct estimate *estimate, const struct json_doc *doc, int content, bool is_outer) {
    int64_t flat = 0;
    add_string(estimate, doc, content);
    if (json_type_of(doc, content) != JSON_ARRAY) {
        return 0;
    }
    for (int block = json_first(doc, content); block >= 0; block = json_next(doc, block)) {
        int type = json_member(doc, block, "type");
        int source = json_member(doc, block, "source");
        add_string(estimate, doc, json_member(doc, block, "text"));
        add_string(estimate, doc, json_member(doc, block, "thinking"));
        add_string(estimate, doc, json_member(doc, block, "name"));
        add_raw(estimate, doc, json_member(doc, block, "input"));
        if (json_string_is(doc, json_member(doc, source, "type"), "text")) {
            add_string(estimate, doc, json_member(doc, source, "data"));
        } else if (source >= 0) {
            flat += json_string_is(doc, type, "image") ? IMAGE_TOKENS : DOCUMENT_TOKENS;
        }
        if (is_outer) {
            flat += add_content(estimate, doc, json_member(doc, block, "content"), false);
        }
    }
    return flat;
}

static struct span model_name(const struct json_doc *doc, int model) {
    struct span raw = json_raw(doc, model);
    return json_type_of(doc, model) == JSON_STRING ? span_of(raw.base + 1, raw.len - 2) : SPAN_EMPTY;
}

static int64_t estimate_prompt(const struct json_doc *doc, const int values[static MESSAGES_FIELDS]) {
    struct estimate estimate;
    estimate_init(&estimate, model_name(doc, values[MESSAGES_MODEL]));
    int64_t flat = MESSAGE_TOKENS + add_content(&estimate, doc, values[MESSAGES_SYSTEM], true);
    int messages = values[MESSAGES_MESSAGES];
    for (int message = json_first(doc, messages); message >= 0; message = json_next(doc, message)) {
        flat += MESSAGE_TOKENS + add_content(&estimate, doc, json_member(doc, message, "content"), true);
    }
    flat += (int64_t)json_size(doc, values[MESSAGES_TOOLS]) * TOOL_TOKENS;
    add_raw(&estimate, doc, values[MESSAGES_TOOLS]);
    add_raw(&estimate, doc, json_member(doc, values[MESSAGES_OUTPUT_CONFIG], "format"));
    int64_t tokens = flat + estimate_tokens(&estimate);
    return tokens < INT32_MAX ? tokens : INT32_MAX;
}

static void read_rest(const struct json_doc *doc, const int values[static MESSAGES_FIELDS],
                      struct messages_request *out) {
    out->stream = json_type_of(doc, values[MESSAGES_STREAM]) == JSON_TRUE;
    out->stream_member = find_member(doc, "stream");
    out->model_member = member_of(doc, values[MESSAGES_MODEL]);
    out->max_tokens_member = member_of(doc, values[MESSAGES_MAX_TOKENS]);
    out->max_tokens = json_int(doc, values[MESSAGES_MAX_TOKENS], &out->max_tokens) ? out->max_tokens : 0;
    int budget = json_member(doc, values[MESSAGES_THINKING], "budget_tokens");
    out->thinking_member = member_of(doc, values[MESSAGES_THINKING]);
    out->budget_member = member_of(doc, budget);
    if (!json_int(doc, budget, &out->thinking_budget_tokens)) {
        out->thinking_budget_tokens = 0;
    }
    out->has_tools = json_size(doc, values[MESSAGES_TOOLS]) > 0;
    out->prompt_tokens = estimate_prompt(doc, values);
    read_end_user(doc, values[MESSAGES_METADATA], out);
    struct span root = json_raw(doc, 0);
    out->end_at = (size_t)(root.base - out->body.base) + root.len - 1;
}

bool messages_request_read(struct json_doc *doc, struct span body, bool is_count, struct messages_request *out,
                           struct chat_verdict *verdict) {
    int values[MESSAGES_FIELDS];
    struct messages_check check = {.doc = doc, .verdict = verdict, .is_count = is_count};
    *verdict = (struct chat_verdict){0};
    *out = (struct messages_request){.body = body};
    if (!json_parse(doc, body)) {
        return chat_refuse(verdict, "invalid_json", "", "The body is not valid JSON: %s (at byte %zu).", doc->error,
                           doc->error_at);
    }
    if (json_type_of(doc, 0) != JSON_OBJECT) {
        return chat_refuse(verdict, "invalid_json", "", "The body must be a JSON object.");
    }
    if (!messages_check_fields(&check, 0, values) || !messages_check_content(&check, values)) {
        return false;
    }
    if (!json_string_copy(doc, values[MESSAGES_MODEL], out->model, sizeof(out->model))) {
        bool is_right = chat_refuse(verdict, "model_not_found", "model",
                                    "No model has a name like that; GET /v1/models lists them.");
        verdict->status = 404;
        return is_right;
    }
    read_rest(doc, values, out);
    out->message_count = check.message_count;
    (void)span_copy(span_text(check.unmapped), out->unmapped_param, sizeof(out->unmapped_param));
    return true;
}

static void plan_edit(struct plan *plan, const struct messages_request *request, struct span replaced,
                      struct span text) {
    CHECK(plan->count < EDITS_MOST);
    size_t at = (size_t)(replaced.base - request->body.base);
    int place = plan->count++;
    for (; place > 0 && plan->edits[place - 1].at > at; place--) {
        plan->edits[place] = plan->edits[place - 1];
    }
    plan->edits[place] = (struct edit){.at = at, .removes = replaced.len, .text = text};
}

static void plan_stream(struct plan *plan, const struct messages_request *request, bool stream) {
    if (request->stream == stream) {
        return;
    }
    if (request->stream_member.is_present) {
        plan_edit(plan, request, request->stream_member.value, stream ? SPAN_LITERAL("true") : SPAN_LITERAL("false"));
    } else {
        plan_edit(plan, request, span_of(request->body.base + request->end_at, 0), SPAN_LITERAL(",\"stream\":true"));
    }
}

static struct span write_number(int64_t number, char out[static NUMBER_BYTES]) {
    int len = snprintf(out, NUMBER_BYTES, "%" PRId64, number);
    return span_of(out, (size_t)len);
}

static void plan_cap(struct plan *plan, const struct messages_request *request, int64_t max_tokens) {
    if (max_tokens <= 0 || request->max_tokens <= max_tokens) {
        return;
    }
    plan_edit(plan, request, request->max_tokens_member.value, write_number(max_tokens, plan->max_tokens));
    if (request->thinking_budget_tokens < max_tokens) {
        return;
    }
    if (max_tokens > THINKING_LEAST_TOKENS) {
        plan_edit(plan, request, request->budget_member.value, write_number(max_tokens - 1, plan->budget));
    } else {
        plan_edit(plan, request, request->thinking_member.value, SPAN_LITERAL("{\"type\":\"disabled\"}"));
    }
}

/* Copies the body with the planned edits made. */
static bool write_plan(const struct plan *plan, struct span body, struct buffer *out) {
    size_t at = 0;
    for (int i = 0; i < plan->count; i++) {
        const struct edit *edit = &plan->edits[i];
        buffer_append(out, body.base + at, edit->at - at);
        buffer_append_span(out, edit->text);
        at = edit->at + edit->removes;
    }
    buffer_append_span(out, span_skip(body, at));
    return !out->failed;
}

bool messages_request_rewrite(const struct messages_request *request, const struct chat_rewrite *rewrite,
                              struct buffer *out) {
    struct plan plan = {.count = 0};
    struct buffer model;
    /* A quoted name is at most six times its length, and two quotes. */
    buffer_init(&model, rewrite->model != NULL ? strlen(rewrite->model) * 6 + 2 : 0);
    if (rewrite->model != NULL && strcmp(rewrite->model, request->model) != 0) {
        json_quote(&model, span_text(rewrite->model));
        plan_edit(&plan, request, request->model_member.value, buffer_span(&model));
    }
    plan_stream(&plan, request, rewrite->stream);
    plan_cap(&plan, request, rewrite->max_tokens);
    bool is_written = !model.failed && write_plan(&plan, request->body, out);
    buffer_fini(&model);
    return is_written;
}
