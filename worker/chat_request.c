#include "worker/chat_request.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/json_write.h"
#include "worker/chat_check.h"
#include "worker/estimate.h"

/* A piece of the body that is replaced; several are made in the order they stand in. */
struct edit {
    size_t at;
    size_t removes;
    struct span text;
};

enum { EDITS_MOST = 6, NUMBER_BYTES = 24, ADDED_BYTES = 256 };

struct plan {
    struct edit edits[EDITS_MOST];
    int count;
    char number[NUMBER_BYTES];
    struct buffer model; /* the upstream's name, quoted */
    struct buffer added; /* new members for the end of the object */
};

static struct chat_member member_of(const struct json_doc *doc, int value) {
    return (struct chat_member){.is_present = value >= 0, .value = json_raw(doc, value)};
}

/* Copies a string's text, cut at a character border; "" when the value is no string. */
static void copy_cut(const struct json_doc *doc, int value, char *out, size_t size) {
    struct buffer text;
    buffer_init(&text, json_raw(doc, value).len);
    out[0] = '\0';
    if (json_string(doc, value, &text)) {
        size_t len = text.len < size - 1 ? text.len : size - 1;
        while (len != 0 && len < text.len && ((unsigned char)text.base[len] & 0xC0U) == 0x80U) {
            len--;
        }
        (void)span_copy(span_of(text.base, len), out, size);
    }
    buffer_fini(&text);
}

/* The value of a count that was checked before; 0 when absent or null. */
static int64_t read_count(const struct json_doc *doc, int value) {
    int64_t number = 0;
    return json_int(doc, value, &number) ? number : 0;
}

static void read_caps(const struct json_doc *doc, const int values[static CHAT_FIELDS], struct chat_request *out) {
    out->max_tokens_value = read_count(doc, values[CHAT_MAX_TOKENS]);
    out->max_completion_tokens_value = read_count(doc, values[CHAT_MAX_COMPLETION_TOKENS]);
    int64_t first = out->max_tokens_value;
    int64_t second = out->max_completion_tokens_value;
    out->max_tokens = first == 0 || (second != 0 && second < first) ? second : first;
    out->max_tokens_member = member_of(doc, values[CHAT_MAX_TOKENS]);
    out->max_completion_tokens_member = member_of(doc, values[CHAT_MAX_COMPLETION_TOKENS]);
}

static bool read_model(const struct json_doc *doc, int value, struct chat_request *out, struct chat_verdict *verdict) {
    out->model_member = member_of(doc, value);
    if (json_string_copy(doc, value, out->model, sizeof(out->model))) {
        return true;
    }
    bool is_right =
        chat_refuse(verdict, "model_not_found", "model", "No model has a name like that; GET /v1/models lists them.");
    verdict->status = 404;
    return is_right;
}

static void read_stream(const struct json_doc *doc, const int values[static CHAT_FIELDS], int include_usage,
                        struct chat_request *out) {
    out->stream = json_type_of(doc, values[CHAT_STREAM]) == JSON_TRUE;
    out->stream_member = member_of(doc, values[CHAT_STREAM]);
    out->stream_options_member = member_of(doc, values[CHAT_STREAM_OPTIONS]);
    out->include_usage_member = member_of(doc, include_usage);
    out->include_usage = json_type_of(doc, include_usage) == JSON_TRUE;
}

static void read_rest(const struct json_doc *doc, const int values[static CHAT_FIELDS], struct chat_request *out) {
    int64_t choices = read_count(doc, values[CHAT_N]);
    out->choices = choices != 0 ? choices : 1;
    out->has_tools = json_size(doc, values[CHAT_TOOLS]) > 0 || json_size(doc, values[CHAT_FUNCTIONS]) > 0;
    int user = values[CHAT_USER];
    if (json_type_of(doc, user) != JSON_STRING) {
        user = json_member(doc, values[CHAT_METADATA], "user_id");
    }
    copy_cut(doc, user, out->end_user, sizeof(out->end_user));
    out->prompt_tokens = estimate_chat_prompt(doc, 0);
    out->prompt_tokenizer = tokenizer_of(span_text(out->model));
    struct span root = json_raw(doc, 0);
    out->end_at = (size_t)(root.base - out->body.base) + root.len - 1;
}

bool chat_request_read(struct json_doc *doc, struct span body, struct chat_request *out, struct chat_verdict *verdict) {
    int values[CHAT_FIELDS];
    int include_usage = -1;
    *verdict = (struct chat_verdict){0};
    *out = (struct chat_request){.body = body};
    if (!json_parse(doc, body)) {
        return chat_refuse(verdict, "invalid_json", "", "The body is not valid JSON: %s (at byte %zu).", doc->error,
                           doc->error_at);
    }
    if (json_type_of(doc, 0) != JSON_OBJECT) {
        return chat_refuse(verdict, "invalid_json", "", "The body must be a JSON object.");
    }
    if (!chat_check_fields(doc, 0, values, verdict) ||
        !chat_check_messages(doc, values[CHAT_MESSAGES], &out->message_count, verdict) ||
        !chat_check_stream_options(doc, values[CHAT_STREAM_OPTIONS], &include_usage, verdict) ||
        !read_model(doc, values[CHAT_MODEL], out, verdict)) {
        return false;
    }
    read_caps(doc, values, out);
    read_stream(doc, values, include_usage, out);
    read_rest(doc, values, out);
    return true;
}

static void plan_edit(struct plan *plan, const struct chat_request *request, struct span replaced, struct span text) {
    CHECK(plan->count < EDITS_MOST);
    size_t at = (size_t)(replaced.base - request->body.base);
    int place = plan->count++;
    for (; place > 0 && plan->edits[place - 1].at > at; place--) {
        plan->edits[place] = plan->edits[place - 1];
    }
    plan->edits[place] = (struct edit){.at = at, .removes = replaced.len, .text = text};
}

static void plan_model(struct plan *plan, const struct chat_request *request, const char *model) {
    if (model == NULL || strcmp(model, request->model) == 0) {
        return;
    }
    json_quote(&plan->model, span_text(model));
    plan_edit(plan, request, request->model_member.value, buffer_span(&plan->model));
}

static void plan_stream(struct plan *plan, const struct chat_request *request, bool stream) {
    if (request->stream == stream) {
        return;
    }
    struct span text = stream ? SPAN_LITERAL("true") : SPAN_LITERAL("false");
    if (request->stream_member.is_present) {
        plan_edit(plan, request, request->stream_member.value, text);
    } else {
        buffer_append_text(&plan->added, ",\"stream\":true");
    }
}

/* Makes stream_options.include_usage true, whatever of it is there already. */
static void plan_usage(struct plan *plan, const struct chat_request *request) {
    struct span options = request->stream_options_member.value;
    if (request->include_usage) {
        return;
    }
    if (request->include_usage_member.is_present) {
        plan_edit(plan, request, request->include_usage_member.value, SPAN_LITERAL("true"));
    } else if (!request->stream_options_member.is_present) {
        buffer_append_text(&plan->added, ",\"stream_options\":{\"include_usage\":true}");
    } else if (options.base[0] != '{') {
        plan_edit(plan, request, options, SPAN_LITERAL("{\"include_usage\":true}"));
    } else {
        bool is_empty = true;
        for (size_t i = 1; i + 1 < options.len; i++) {
            is_empty &= memchr(" \t\r\n", options.base[i], 4) != NULL;
        }
        plan_edit(plan, request, span_of(options.base + 1, 0),
                  is_empty ? SPAN_LITERAL("\"include_usage\":true") : SPAN_LITERAL("\"include_usage\":true,"));
    }
}

/* Lowers each cap that is given and too high; adds one when none is given. */
static void plan_cap(struct plan *plan, const struct chat_request *request, const struct chat_rewrite *rewrite) {
    if (rewrite->max_tokens <= 0) {
        return;
    }
    int len = snprintf(plan->number, sizeof(plan->number), "%" PRId64, rewrite->max_tokens);
    struct span number = span_of(plan->number, (size_t)len);
    if (request->max_tokens_value > rewrite->max_tokens) {
        plan_edit(plan, request, request->max_tokens_member.value, number);
    }
    if (request->max_completion_tokens_value > rewrite->max_tokens) {
        plan_edit(plan, request, request->max_completion_tokens_member.value, number);
    }
    if (request->max_tokens != 0) {
        return;
    }
    bool is_long_name = rewrite->wants_max_completion_tokens;
    const struct chat_member *given =
        is_long_name ? &request->max_completion_tokens_member : &request->max_tokens_member;
    if (given->is_present) {
        plan_edit(plan, request, given->value, number);
    } else {
        buffer_format(&plan->added, ",\"%s\":%s", is_long_name ? "max_completion_tokens" : "max_tokens", plan->number);
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

bool chat_request_rewrite(const struct chat_request *request, const struct chat_rewrite *rewrite, struct buffer *out) {
    struct plan plan = {.count = 0};
    /* A quoted name is at most six times its length, and two quotes. */
    buffer_init(&plan.model, rewrite->model != NULL ? strlen(rewrite->model) * 6 + 2 : 0);
    buffer_init(&plan.added, ADDED_BYTES);
    plan_model(&plan, request, rewrite->model);
    plan_stream(&plan, request, rewrite->stream);
    if (rewrite->stream) {
        plan_usage(&plan, request);
    }
    plan_cap(&plan, request, rewrite);
    if (plan.added.len != 0) {
        plan_edit(&plan, request, span_of(request->body.base + request->end_at, 0), buffer_span(&plan.added));
    }
    CHECK(!plan.added.failed);
    bool is_written = !plan.model.failed && write_plan(&plan, request->body, out);
    buffer_fini(&plan.model);
    buffer_fini(&plan.added);
    return is_written;
}
