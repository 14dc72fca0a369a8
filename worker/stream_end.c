#include "worker/stream_end.h"

#include "base/json_write.h"
#include "worker/json_scan.h"

enum { SEQUENCE_DIGITS_MOST = 15 };

_Static_assert((int)STREAM_END_HEAD_BYTES >= (int)CHAT_CHUNK_HEAD_BYTES, "a chunk's head fits");

void stream_end_init(struct stream_end *end, enum client_form form) {
    *end = (struct stream_end){.form = form, .sequence_number = -1};
}

/* ---- what came before ---- */

/* A response object: its id, created_at and model. */
static void note_response(struct stream_end *end, struct span object) {
    struct json_scan scan = json_scan_of(object);
    struct span name;
    if (end->head[0] != '\0' || !json_scan_enter(&scan, '{')) {
        return;
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        bool is_wanted = span_is(name, "id") || span_is(name, "created_at") || span_is(name, "model");
        if (is_wanted && !scan.bad) {
            chat_chunk_keep_member(end->head, sizeof(end->head), name, value);
        }
    }
}

static void note_sequence(struct stream_end *end, struct span number) {
    int64_t value = 0;
    if (number.len == 0 || number.len > SEQUENCE_DIGITS_MOST) {
        return;
    }
    for (size_t i = 0; i < number.len; i++) {
        if (number.base[i] < '0' || number.base[i] > '9') {
            return;
        }
        value = value * 10 + (number.base[i] - '0');
    }
    end->sequence_number = value > end->sequence_number ? value : end->sequence_number;
}

static void note_responses_event(struct stream_end *end, struct span data) {
    struct json_scan scan = json_scan_of(data);
    struct span name;
    if (!json_scan_enter(&scan, '{')) {
        return;
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        if (scan.bad) {
            return;
        }
        if (span_is(name, "response")) {
            note_response(end, value);
        } else if (span_is(name, "sequence_number")) {
            note_sequence(end, value);
        }
    }
}

void stream_end_note(struct stream_end *end, struct span name, struct span data) {
    if (end->form == CLIENT_RESPONSES) {
        end->has_names |= name.len != 0;
        note_responses_event(end, data);
    } else if (end->head[0] == '\0') {
        chat_chunk_note_head(data, end->head);
    }
}

/* ---- the end ---- */

static void begin_completions_chunk(struct buffer *out, const struct stream_end *end) {
    buffer_append_text(out, "data: {\"object\":\"text_completion\",");
    buffer_append_text(out, end->head);
}

static void write_completions_end(struct buffer *out, const struct stream_end *end, bool with_usage,
                                  const struct token_counts *tokens, int64_t cost_nusd) {
    begin_completions_chunk(out, end);
    buffer_append_text(out,
                       "\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\"}]}\n\n");
    if (with_usage) {
        begin_completions_chunk(out, end);
        buffer_append_text(out, "\"choices\":[],\"usage\":");
        chat_chunk_write_usage(out, tokens, cost_nusd);
        buffer_append_text(out, "}\n\n");
    }
    buffer_append_text(out, "data: [DONE]\n\n");
}

static void write_responses_usage(struct buffer *out, const struct token_counts *tokens) {
    struct json_writer writer = json_writer_on(out);
    json_begin_object(&writer, NULL);
    json_write_int(&writer, "input_tokens", tokens->input_tokens);
    json_begin_object(&writer, "input_tokens_details");
    json_write_int(&writer, "cached_tokens", tokens->cached_input_tokens);
    if (tokens->cache_write_tokens != 0) {
        json_write_int(&writer, "cache_write_tokens", tokens->cache_write_tokens);
    }
    json_end_object(&writer);
    json_write_int(&writer, "output_tokens", tokens->output_tokens);
    json_begin_object(&writer, "output_tokens_details");
    json_write_int(&writer, "reasoning_tokens", tokens->reasoning_tokens);
    json_end_object(&writer);
    json_write_int(&writer, "total_tokens", tokens->input_tokens + tokens->output_tokens);
    json_end_object(&writer);
}

/* The output is not repeated, as the upstream would: the client has it, and the relay keeps no answers. */
static void write_responses_end(struct buffer *out, const struct stream_end *end, const struct token_counts *tokens) {
    if (end->has_names) {
        buffer_append_text(out, "event: response.incomplete\n");
    }
    buffer_format(out, "data: {\"type\":\"response.incomplete\",\"sequence_number\":%lld,\"response\":{",
                  (long long)end->sequence_number + 1);
    buffer_append_text(out, end->head);
    buffer_append_text(out, "\"object\":\"response\",\"status\":\"incomplete\",\"error\":null,"
                            "\"incomplete_details\":{\"reason\":\"max_output_tokens\"},\"output\":[],\"usage\":");
    write_responses_usage(out, tokens);
    buffer_append_text(out, "}}\n\n");
}

void stream_end_write(struct buffer *out, const struct stream_end *end, bool with_usage,
                      const struct token_counts *tokens, int64_t cost_nusd) {
    switch (end->form) {
    case CLIENT_RESPONSES:
        write_responses_end(out, end, tokens);
        break;
    case CLIENT_COMPLETIONS:
        write_completions_end(out, end, with_usage, tokens, cost_nusd);
        break;
    default:
        chat_chunk_write_end(out, end->head, "length", with_usage, tokens, cost_nusd);
    }
}
