#include "worker/answer.h"

void answer_listener_init(struct answer_listener *listener) {
    *listener = (struct answer_listener){.last_choice = -1, .open_block = -1};
}

void answer_listener_expect(struct answer_listener *listener, struct span model) {
    estimate_init(&listener->output, model);
}

/* How many bytes the inside of a JSON string has once unescaped. */
static int64_t unescaped_bytes(struct span inside) {
    size_t bytes = inside.len;
    const char *end = inside.base + inside.len;
    const char *at = inside.base;
    while (at != end && (at = memchr(at, '\\', (size_t)(end - at))) != NULL && end - at >= 2) {
        bool is_unicode = at[1] == 'u' && end - at >= 6;
        /* \uXXXX stands for one to three bytes; a pair of them for four. */
        bool is_ascii = is_unicode && at[2] == '0' && at[3] == '0' && at[4] < '8';
        bool is_short = is_unicode && at[2] == '0' && at[3] < '8';
        bool is_surrogate = is_unicode && (at[2] | 0x20) == 'd' && at[3] >= '8';
        bytes -= is_ascii ? 5 : is_short || is_surrogate ? 4 : is_unicode ? 3 : 1;
        at += is_unicode ? 6 : 2;
    }
    return (int64_t)bytes;
}

void answer_take_text(struct answer_listener *listener, struct answer_event *event, int64_t choice,
                      enum answer_text kind, struct span inside) {
    if (inside.len == 0) {
        return;
    }
    if (listener->last_choice != choice || listener->last_text != (uint8_t)kind) {
        estimate_break(&listener->output);
        listener->last_choice = choice;
        listener->last_text = (uint8_t)kind;
    }
    event->text_bytes[kind] += unescaped_bytes(inside);
    estimate_add_json(&listener->output, inside);
}

void answer_remember(struct answer_listener *listener, struct answer_event *event) {
    int64_t text_bytes = 0;
    int64_t heard_bytes = 0;
    for (int kind = 0; kind < ANSWER_TEXT_KINDS; kind++) {
        heard_bytes += listener->text_bytes[kind];
        text_bytes += event->text_bytes[kind];
        listener->text_bytes[kind] += event->text_bytes[kind];
    }
    event->is_first_text = text_bytes != 0 && heard_bytes == 0;
    listener->text_events += text_bytes != 0;
    listener->tool_calls += event->tool_calls;
    if (event->has_usage) {
        usage_merge(&listener->usage, &event->usage);
        listener->has_usage = true;
    }
    if (event->has_finish) {
        estimate_break(&listener->output);
        listener->has_finish = true;
        memcpy(listener->finish_reason, event->finish_reason, sizeof(listener->finish_reason));
    }
    listener->is_error |= event->is_error;
}

int64_t answer_output_estimate(const struct answer_listener *listener) {
    int64_t tokens = estimate_tokens(&listener->output);
    int64_t events = listener->text_events;
    /* Servers that stream token by token send as many events as tokens: somewhat above the estimate, they are the
     * better count. */
    if (!estimate_is_exact(&listener->output) && events > tokens && events * 3 <= tokens * 4) {
        tokens = events;
    }
    const int64_t *bytes = listener->text_bytes;
    tokens += estimate_framing(&listener->output, (bytes[ANSWER_TEXT_CONTENT] | bytes[ANSWER_TEXT_REFUSAL]) != 0,
                               bytes[ANSWER_TEXT_REASONING] != 0, listener->tool_calls);
    int64_t reported = listener->usage.clamped ? 0 : listener->usage.tokens.output_tokens;
    return tokens > reported ? tokens : reported;
}
