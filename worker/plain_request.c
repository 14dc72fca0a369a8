#include "worker/plain_request.h"

#include "worker/chat_check.h"
#include "worker/chat_splice.h"
#include "worker/field_read.h"
#include "worker/plain_check.h"
#include "worker/plain_estimate.h"

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* How many answers may be generated; best_of counts those that the client never sees. */
static bool read_choices(const struct json_doc *doc, const int values[static PLAIN_FIELDS], struct chat_request *out,
                         struct chat_verdict *verdict) {
    int64_t wanted = larger(field_read_count(doc, values[PLAIN_N]), 1);
    int64_t best_of = field_read_count(doc, values[PLAIN_BEST_OF]);
    if (best_of != 0 && best_of < wanted) {
        return chat_refuse(verdict, "invalid_value", "best_of", "'best_of' must not be less than 'n'.");
    }
    out->choices = larger(wanted, best_of);
    if (out->form == CLIENT_COMPLETIONS) {
        out->choices *= plain_check_count(doc, values[PLAIN_INPUT]);
    }
    return true;
}

static void read_cap(const struct json_doc *doc, int value, struct chat_request *out) {
    bool is_zero = json_type_of(doc, value) == JSON_NUMBER && field_read_count(doc, value) == 0;
    out->max_tokens_member = field_read_member(doc, value);
    out->max_tokens_value = field_read_count(doc, value);
    out->max_tokens = is_zero || out->form == CLIENT_EMBEDDINGS ? 1 : out->max_tokens_value;
}

static bool is_given(const struct json_doc *doc, int value) {
    enum json_type type = json_type_of(doc, value);
    return type != JSON_ABSENT && type != JSON_NULL;
}

static void read_rest(const struct json_doc *doc, const int values[static PLAIN_FIELDS], struct chat_request *out) {
    out->has_tools = json_size(doc, values[PLAIN_TOOLS]) > 0;
    out->is_bound = is_given(doc, values[PLAIN_PREVIOUS]) || is_given(doc, values[PLAIN_CONVERSATION]);
    field_read_end_user(doc, values[PLAIN_USER], values[PLAIN_SAFETY_IDENTIFIER], values[PLAIN_METADATA], out);
    out->prompt_tokens = plain_estimate(doc, out->form, values, span_text(out->model));
    out->prompt_tokenizer = tokenizer_of(span_text(out->model));
}

bool plain_request_read(struct json_doc *doc, struct span body, enum client_form form, struct chat_request *out,
                        struct chat_verdict *verdict) {
    int values[PLAIN_FIELDS];
    CHECK(form != CLIENT_CHAT);
    if (!field_read_open(doc, body, out, verdict) || !plain_check_fields(doc, 0, form, values, verdict) ||
        !field_read_model(doc, values[PLAIN_MODEL], out, verdict)) {
        return false;
    }
    out->form = form;
    if (!read_choices(doc, values, out, verdict) ||
        (form == CLIENT_COMPLETIONS && !field_read_stream_options(doc, values[PLAIN_STREAM_OPTIONS], out, verdict))) {
        return false;
    }
    field_read_stream(doc, values[PLAIN_STREAM], out);
    read_cap(doc, values[PLAIN_CAP], out);
    read_rest(doc, values, out);
    return true;
}

static void splice_cap(struct json_splice *splice, const struct chat_request *request, int64_t most) {
    if (most <= 0) {
        return;
    }
    if (request->max_tokens != 0) {
        chat_splice_lower_cap(splice, &request->max_tokens_member, request->max_tokens_value, most);
    } else {
        chat_splice_set_cap(splice, &request->max_tokens_member,
                            request->form == CLIENT_RESPONSES ? "max_output_tokens" : "max_tokens", most);
    }
}

bool plain_request_rewrite(const struct chat_request *request, const struct chat_rewrite *rewrite, struct buffer *out) {
    struct json_splice splice;
    json_splice_init(&splice, request->body, request->end_at);
    chat_splice_model(&splice, request, rewrite->model);
    if (request->form != CLIENT_EMBEDDINGS) {
        chat_splice_stream(&splice, request, rewrite->stream);
        splice_cap(&splice, request, rewrite->max_tokens);
    }
    if (request->form == CLIENT_COMPLETIONS && rewrite->stream) {
        chat_splice_usage(&splice, request);
    }
    bool is_written = json_splice_write(&splice, out);
    json_splice_fini(&splice);
    return is_written;
}
