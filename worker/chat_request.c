#include "worker/chat_request.h"

#include "worker/chat_check.h"
#include "worker/chat_splice.h"
#include "worker/estimate.h"
#include "worker/field_read.h"

static void read_caps(const struct json_doc *doc, const int values[static CHAT_FIELDS], struct chat_request *out) {
    out->max_tokens_value = field_read_count(doc, values[CHAT_MAX_TOKENS]);
    out->max_completion_tokens_value = field_read_count(doc, values[CHAT_MAX_COMPLETION_TOKENS]);
    int64_t first = out->max_tokens_value;
    int64_t second = out->max_completion_tokens_value;
    out->max_tokens = first == 0 || (second != 0 && second < first) ? second : first;
    out->max_tokens_member = field_read_member(doc, values[CHAT_MAX_TOKENS]);
    out->max_completion_tokens_member = field_read_member(doc, values[CHAT_MAX_COMPLETION_TOKENS]);
}

static void read_rest(const struct json_doc *doc, const int values[static CHAT_FIELDS], struct chat_request *out) {
    int64_t choices = field_read_count(doc, values[CHAT_N]);
    out->choices = choices != 0 ? choices : 1;
    out->has_tools = json_size(doc, values[CHAT_TOOLS]) > 0 || json_size(doc, values[CHAT_FUNCTIONS]) > 0;
    field_read_end_user(doc, values[CHAT_USER], -1, values[CHAT_METADATA], out);
    out->prompt_tokens = estimate_chat_prompt(doc, 0);
    out->prompt_tokenizer = tokenizer_of(span_text(out->model));
}

bool chat_request_read(struct json_doc *doc, struct span body, struct chat_request *out, struct chat_verdict *verdict) {
    int values[CHAT_FIELDS];
    if (!field_read_open(doc, body, out, verdict) || !chat_check_fields(doc, 0, values, verdict) ||
        !chat_check_messages(doc, values[CHAT_MESSAGES], &out->message_count, verdict) ||
        !field_read_stream_options(doc, values[CHAT_STREAM_OPTIONS], out, verdict) ||
        !field_read_model(doc, values[CHAT_MODEL], out, verdict)) {
        return false;
    }
    read_caps(doc, values, out);
    field_read_stream(doc, values[CHAT_STREAM], out);
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
