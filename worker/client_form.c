#include "worker/client_form.h"

#include "base/json_write.h"
#include "worker/endpoints.h"
#include "worker/messages_error.h"
#include "worker/request.h"
#include "worker/settle.h"

static const char KEEP_ALIVE[] = ": keepalive\n\n";

/* GET /v1/models is asked for by clients of both dialects; Anthropic's say which version of theirs they speak. */
static bool is_anthropic_list(const struct request *request) {
    return request->front != NULL && span_starts_with(request->input.path, "/v1/models") &&
           request->front->driver->header(request->front, "anthropic-version").len != 0;
}

enum client_form client_form_of(const struct request *request) {
    if (request->endpoint == NULL) {
        return span_starts_with(span_text(request->log_path), "/v1/messages") ? CLIENT_MESSAGES : CLIENT_CHAT;
    }
    switch (endpoint_number(request->endpoint)) {
    case SHM_ENDPOINT_MESSAGES:
        return CLIENT_MESSAGES;
    case SHM_ENDPOINT_RESPONSES:
        return CLIENT_RESPONSES;
    case SHM_ENDPOINT_COMPLETIONS:
        return CLIENT_COMPLETIONS;
    case SHM_ENDPOINT_EMBEDDINGS:
        return CLIENT_EMBEDDINGS;
    default:
        return is_anthropic_list(request) ? CLIENT_MESSAGES : CLIENT_CHAT;
    }
}

struct span client_form_heartbeat(enum client_form form) {
    return form == CLIENT_MESSAGES ? SPAN_LITERAL(MESSAGES_PING) : SPAN_LITERAL(KEEP_ALIVE);
}

void client_form_write_error(const struct request *request, int status, struct buffer *out) {
    if (request->form == CLIENT_MESSAGES) {
        messages_error_write(status, verdict_text(&request->verdict), request->id, out);
    } else {
        verdict_write_json(&request->verdict, out);
    }
}

/* Responses' error event is flat (wire.md section 5). */
static void write_responses_error(const struct verdict *verdict, struct buffer *out) {
    struct json_writer writer = json_writer_on(out);
    buffer_append_text(out, "event: error\ndata: ");
    json_begin_object(&writer, NULL);
    json_write_text(&writer, "type", "error");
    json_write_text(&writer, "code", verdict_code(verdict));
    json_write_text(&writer, "message", verdict_text(verdict));
    json_write_null(&writer, "param");
    json_end_object(&writer);
    buffer_append_text(out, "\n\n");
}

void client_form_write_error_event(const struct request *request, struct buffer *out) {
    switch (request->form) {
    case CLIENT_MESSAGES:
        messages_error_write_event(verdict_status(&request->verdict), verdict_text(&request->verdict), request->id,
                                   out);
        break;
    case CLIENT_RESPONSES:
        write_responses_error(&request->verdict, out);
        break;
    default:
        verdict_write_event(&request->verdict, out);
        break;
    }
}

static void write_messages_usage(struct json_writer *writer, const struct token_counts *tokens) {
    json_begin_object(writer, "usage");
    json_write_int(writer, "input_tokens",
                   tokens->input_tokens - tokens->cached_input_tokens - tokens->cache_write_tokens);
    json_write_int(writer, "cache_creation_input_tokens", tokens->cache_write_tokens);
    json_write_int(writer, "cache_read_input_tokens", tokens->cached_input_tokens);
    json_write_int(writer, "output_tokens", tokens->output_tokens);
    json_end_object(writer);
}

/* The open block is closed, so that what came before is a whole message. */
static void write_messages_end(const struct request *request, struct buffer *out) {
    if (request->listener.open_block >= 0) {
        buffer_format(out, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":%lld}\n\n",
                      (long long)request->listener.open_block);
    }
    buffer_append_text(out, "event: message_delta\ndata: ");
    struct json_writer writer = json_writer_on(out);
    json_begin_object(&writer, NULL);
    json_write_text(&writer, "type", "message_delta");
    json_begin_object(&writer, "delta");
    json_write_text(&writer, "stop_reason", "max_tokens");
    json_write_null(&writer, "stop_sequence");
    json_end_object(&writer);
    write_messages_usage(&writer, &request->shared->record.tokens);
    json_end_object(&writer);
    buffer_append_text(out, "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

void client_form_write_end(const struct request *request, struct buffer *out) {
    if (request->form == CLIENT_MESSAGES) {
        write_messages_end(request, out);
        return;
    }
    stream_end_write(out, &request->end, request->chat.include_usage, &request->shared->record.tokens,
                     settle_price_nusd(request));
}
