#include "worker/chat_chunk.h"

#include <stdio.h>

#include "base/json_write.h"
#include "worker/json_scan.h"

/* Nothing that could end the event's line, or the text. */
static bool is_plain(struct span value) {
    for (size_t i = 0; i < value.len; i++) {
        if ((unsigned char)value.base[i] < ' ') {
            return false;
        }
    }
    return value.len != 0;
}

void chat_chunk_keep_member(char *head, size_t size, struct span name, struct span value) {
    size_t used = strlen(head);
    if (is_plain(value) && name.len + value.len + 4 < size - used) {
        (void)snprintf(head + used, size - used, "\"%.*s\":%.*s,", SPAN_ARGUMENTS(name), SPAN_ARGUMENTS(value));
    }
}

void chat_chunk_note_head(struct span data, char out[static CHAT_CHUNK_HEAD_BYTES]) {
    struct json_scan scan = json_scan_of(data);
    struct span name;
    out[0] = '\0';
    if (!json_scan_enter(&scan, '{')) {
        return;
    }
    while (json_scan_member(&scan, &name)) {
        struct span value = json_scan_skip(&scan);
        bool wanted = span_is(name, "id") || span_is(name, "created") || span_is(name, "model");
        if (wanted && !scan.bad) {
            chat_chunk_keep_member(out, CHAT_CHUNK_HEAD_BYTES, name, value);
        }
    }
}

static void begin_chunk(struct buffer *out, const char *head) {
    buffer_append_text(out, "data: {\"object\":\"chat.completion.chunk\",");
    buffer_append_text(out, head);
}

void chat_chunk_write_usage(struct buffer *out, const struct token_counts *tokens, int64_t cost_nusd) {
    struct json_writer writer = json_writer_on(out);
    json_begin_object(&writer, NULL);
    json_write_int(&writer, "prompt_tokens", tokens->input_tokens);
    json_write_int(&writer, "completion_tokens", tokens->output_tokens);
    json_write_int(&writer, "total_tokens", tokens->input_tokens + tokens->output_tokens);
    json_begin_object(&writer, "prompt_tokens_details");
    json_write_int(&writer, "cached_tokens", tokens->cached_input_tokens);
    if (tokens->cache_write_tokens != 0) {
        json_write_int(&writer, "cache_write_tokens", tokens->cache_write_tokens);
    }
    json_end_object(&writer);
    json_begin_object(&writer, "completion_tokens_details");
    json_write_int(&writer, "reasoning_tokens", tokens->reasoning_tokens);
    json_end_object(&writer);
    if (cost_nusd >= 0) {
        json_write_nusd(&writer, "cost", cost_nusd);
    }
    json_end_object(&writer);
}

void chat_chunk_write_end(struct buffer *out, const char *head, const char *finish_reason, bool with_usage,
                          const struct token_counts *tokens, int64_t cost_nusd) {
    begin_chunk(out, head);
    buffer_append_text(out, "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":");
    json_quote(out, span_text(finish_reason));
    buffer_append_text(out, "}]}\n\n");
    if (with_usage) {
        begin_chunk(out, head);
        buffer_append_text(out, "\"choices\":[],\"usage\":");
        chat_chunk_write_usage(out, tokens, cost_nusd);
        buffer_append_text(out, "}\n\n");
    }
    buffer_append_text(out, "data: [DONE]\n\n");
}
