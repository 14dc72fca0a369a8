#include "worker/chat_splice.h"

void chat_splice_model(struct json_splice *splice, const struct chat_request *request, const char *model) {
    if (model != NULL && strcmp(model, request->model) != 0) {
        json_splice_replace_text(splice, request->model_member.value, model);
    }
}

void chat_splice_stream(struct json_splice *splice, const struct chat_request *request, bool stream) {
    struct span json = stream ? SPAN_LITERAL("true") : SPAN_LITERAL("false");
    if (request->stream == stream) {
        return;
    }
    if (request->stream_member.is_present) {
        json_splice_replace(splice, request->stream_member.value, json);
    } else {
        json_splice_add(splice, "stream", json);
    }
}

static bool is_empty_object(struct span object) {
    bool is_empty = true;
    for (size_t i = 1; i + 1 < object.len; i++) {
        is_empty &= memchr(" \t\r\n", object.base[i], 4) != NULL;
    }
    return is_empty;
}

void chat_splice_usage(struct json_splice *splice, const struct chat_request *request) {
    struct span options = request->stream_options_member.value;
    if (request->include_usage) {
        return;
    }
    if (request->include_usage_member.is_present) {
        json_splice_replace(splice, request->include_usage_member.value, SPAN_LITERAL("true"));
    } else if (!request->stream_options_member.is_present) {
        json_splice_add(splice, "stream_options", SPAN_LITERAL("{\"include_usage\":true}"));
    } else if (options.base[0] != '{') {
        json_splice_replace(splice, options, SPAN_LITERAL("{\"include_usage\":true}"));
    } else {
        json_splice_replace(splice, span_of(options.base + 1, 0),
                            is_empty_object(options) ? SPAN_LITERAL("\"include_usage\":true")
                                                     : SPAN_LITERAL("\"include_usage\":true,"));
    }
}

void chat_splice_lower_cap(struct json_splice *splice, const struct chat_member *member, int64_t value, int64_t most) {
    if (value > most) {
        json_splice_replace_int(splice, member->value, most);
    }
}

void chat_splice_set_cap(struct json_splice *splice, const struct chat_member *member, const char *name, int64_t most) {
    if (member->is_present) {
        json_splice_replace_int(splice, member->value, most);
    } else {
        json_splice_add_int(splice, name, most);
    }
}
