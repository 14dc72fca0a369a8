#include "worker/chat_request.h"

#include "worker/chat_check.h"
#include "worker/chat_splice.h"
#include "worker/estimate.h"

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

/* Lowers each cap that is given and too high; adds one when none is given. */
static void splice_caps(struct json_splice *splice, const struct chat_request *request,
                        const struct chat_rewrite *rewrite) {
    int64_t most = rewrite->max_tokens;
    const struct chat_member *shorter = &request->max_tokens_member;
    const struct chat_member *longer = &request->max_completion_tokens_member;
    if (most <= 0) {
        return;
    }
    if (request->max_tokens != 0) {
        chat_splice_lower_cap(splice, shorter, request->max_tokens_value, most);
        chat_splice_lower_cap(splice, longer, request->max_completion_tokens_value, most);
    } else if (rewrite->wants_max_completion_tokens) {
        chat_splice_set_cap(splice, longer, "max_completion_tokens", most);
    } else {
        chat_splice_set_cap(splice, shorter, "max_tokens", most);
    }
}

bool chat_request_rewrite(const struct chat_request *request, const struct chat_rewrite *rewrite, struct buffer *out) {
    struct json_splice splice;
    json_splice_init(&splice, request->body, request->end_at);
    chat_splice_model(&splice, request, rewrite->model);
    chat_splice_stream(&splice, request, rewrite->stream);
    if (rewrite->stream) {
        chat_splice_usage(&splice, request);
    }
    splice_caps(&splice, request, rewrite);
    bool is_written = json_splice_write(&splice, out);
    json_splice_fini(&splice);
    return is_written;
}
