#include "worker/settle.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "shm/shm_ids.h"
#include "worker/budget.h"
#include "worker/endpoints.h"
#include "worker/journal_front.h"
#include "worker/limits.h"
#include "worker/queue.h"
#include "worker/worker_state.h"

enum { CLIENT_CLOSED_REQUEST = 499, ACCESS_LINE_BYTES = 4096, PLAUSIBLE_TOKENS_MOST = 20000000 };
/* The master sends lines that begin with this byte to the access log. */
static const char ACCESS_MARK = 1;

/* Is what the upstream reported its last word? Mid-stream reports are only a lower bound. */
static bool usage_is_final(const struct request *request) {
    const struct answer_listener *listener = &request->listener;
    return listener->has_usage && listener->usage.has_input && (listener->usage.has_output || !request->stream) &&
           (!request->stream || listener->is_done || listener->has_finish);
}

/* Counts that no model can have are not believed: our own estimate stands in their place, flagged. */
static bool is_plausible(const struct token_counts *counts) {
    return counts->input_tokens <= PLAUSIBLE_TOKENS_MOST && counts->output_tokens <= PLAUSIBLE_TOKENS_MOST;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

void settle_count(struct request *request) {
    struct shm_usage_record_sh *record = &request->shared->record;
    const struct answer_listener *listener = &request->listener;
    struct token_counts counts = {.input_tokens = request->chat.prompt_tokens};
    bool believed = listener->has_usage && is_plausible(&listener->usage.tokens);
    if (believed && listener->usage.has_input) {
        counts = listener->usage.tokens;
    } else if (believed) {
        counts.output_tokens = listener->usage.tokens.output_tokens;
        counts.reasoning_tokens = listener->usage.tokens.reasoning_tokens;
    }
    bool is_final = believed && usage_is_final(request);
    if (!is_final) {
        counts.output_tokens = larger(counts.output_tokens, answer_output_estimate(listener));
    }
    record->tokens = counts;
    record->first_byte_wall_ns = request->first_byte_wall_ns;
    record->flags =
        is_final ? record->flags & ~(uint32_t)SHM_RECORD_ESTIMATED : record->flags | (uint32_t)SHM_RECORD_ESTIMATED;
    if (listener->has_finish && record->finish_reason[0] == '\0') {
        (void)span_copy(span_text(listener->finish_reason), record->finish_reason, sizeof(record->finish_reason));
    }
    if (listener->usage.clamped || listener->usage.contradicts || (listener->has_usage && !believed)) {
        record->flags |= SHM_RECORD_CLAMPED;
    }
}

int64_t settle_price_nusd(const struct request *request) {
    const struct shm_usage_record_sh *record = &request->shared->record;
    return money_of_tokens(&record->price, &record->tokens, record->markup);
}

/* What an upstream failed to deliver costs nothing. What a client left behind does: the upstream had taken the prompt.
 */
static bool is_billed(const struct request *request) { return request->served || request->left_upstream_working; }

int64_t settle_owed(struct request *request, struct token_counts *tokens) {
    *tokens = (struct token_counts){0};
    if (request->shared == NULL || request->attempts == 0 || !is_billed(request)) {
        return 0;
    }
    settle_count(request);
    *tokens = request->shared->record.tokens;
    return settle_price_nusd(request);
}

/* Once a request, at its end: an operator should know that an upstream's counts are not to be trusted. */
static void log_impossible_usage(const struct request *request) {
    const struct shm_usage_record_sh *record = &request->shared->record;
    if ((record->flags & SHM_RECORD_CLAMPED) != 0) {
        LOG(LOG_WARN, "usage_impossible", log_text("upstream", record->upstream), log_text("id", record->id),
            log_int("input_tokens", record->tokens.input_tokens),
            log_int("output_tokens", record->tokens.output_tokens));
    }
}

static void finish_record(struct request *request) {
    struct shm_usage_record_sh *record = &request->shared->record;
    record->end_wall_ns = clock_wall_ns();
    record->status = (uint16_t)(request->final_status != 0 ? request->final_status : CLIENT_CLOSED_REQUEST);
    if (is_billed(request)) {
        settle_count(request);
    } else {
        record->tokens = (struct token_counts){0};
        record->flags &= ~(uint32_t)SHM_RECORD_ESTIMATED;
    }
    record->flags |= (request->client_left ? (uint32_t)SHM_RECORD_CLIENT_LEFT : 0) |
                     (request->error_event_sent ? (uint32_t)SHM_RECORD_ERROR_EVENT : 0);
    const char *reason = request->budget_ended ? "length" : request->listener.finish_reason;
    if (request->client_left && !request->listener.has_finish) {
        reason = "cancelled";
    }
    (void)span_copy(span_text(is_billed(request) ? reason : ""), record->finish_reason, sizeof(record->finish_reason));
    int64_t price_nusd = settle_price_nusd(request);
    record->price_nusd = budget_settle(request, price_nusd);
    record->flags |= record->price_nusd < price_nusd ? (uint32_t)SHM_RECORD_CAPPED : 0;
    record->cost_nusd = money_of_tokens(&record->cost, &record->tokens, MARKUP_ONE);
    record->list_nusd = money_of_tokens(&record->list_price, &record->tokens, MARKUP_ONE);
}

static int64_t elapsed_us(int64_t from_ns, int64_t to_ns) {
    return from_ns != 0 && to_ns > from_ns ? (to_ns - from_ns) / NS_PER_US : 0;
}

static void write_access_line(const struct request *request, const struct shm_usage_record_sh *record) {
    if (strcmp(request->worker->conf->log.access, "off") == 0) {
        return;
    }
    int status = request->final_status != 0 ? request->final_status : CLIENT_CLOSED_REQUEST;
    const struct token_counts none = {0};
    const struct token_counts *tokens = record != NULL ? &record->tokens : &none;
    const struct log_field fields[] = {
        log_text("id", request->id),
        log_text("client", request->client),
        log_text("path", request->log_path),
        log_int("status", status),
        log_text("tenant", request->has_key ? request->tenant.name : ""),
        log_text("key", request->has_key ? request->key.id : ""),
        log_text("model", request->model_name),
        log_text("upstream", record != NULL ? record->upstream : ""),
        log_int("attempts", request->attempts),
        log_int("input_tokens", tokens->input_tokens),
        log_int("output_tokens", tokens->output_tokens),
        log_nusd("price_usd", record != NULL ? record->price_nusd : 0),
        log_int("duration_us", elapsed_us(request->state_mono_ns[REQUEST_body], clock_mono_ns())),
        log_text("error", request->verdict.kind != ERROR_NONE ? verdict_code(&request->verdict) : ""),
    };
    struct buffer line;
    buffer_init(&line, ACCESS_LINE_BYTES);
    buffer_append_byte(&line, ACCESS_MARK);
    log_render(&line, LOG_INFO, "request", fields, sizeof(fields) / sizeof(fields[0]));
    if (!line.failed && write(STDERR_FILENO, line.base, line.len) < 0) {
        worker_count(request->worker, SHM_COUNTER_log_lines_dropped, 1);
    }
    buffer_fini(&line);
}

/* Time the relay itself took before the upstream was called, for the overhead histogram. */
static void record_overhead(struct request *request) {
    if (request->state_mono_ns[REQUEST_send] != 0) {
        shm_histogram_add(&request->worker->seat->relay_overhead, request->state_mono_ns[REQUEST_send] -
                                                                      request->state_mono_ns[REQUEST_body] -
                                                                      request->queue.waited_ns);
    }
}

void settle_request(struct request *request) {
    struct worker *worker = request->worker;
    if (request->slot < 0) {
        journal_front_settled(request, false);
        if (request->id_claimed) {
            shm_id_forget(worker->map, request->key.tenant_index, request->id);
        }
        if (!request->is_carrier) {
            write_access_line(request, NULL);
        }
        return;
    }
    finish_record(request);
    log_impossible_usage(request);
    const struct shm_usage_record_sh *record = &request->shared->record;
    if (request->attempts > 0 && is_billed(request)) {
        limits_settle(request, money_add(record->tokens.input_tokens, record->tokens.output_tokens));
    } else {
        limits_return(request);
    }
    queue_wake(worker, request->key.tenant_index);
    if (request->attempts == 0 && request->id_from_client) {
        shm_id_forget(worker->map, request->key.tenant_index, request->id);
    }
    journal_front_settled(request, request->attempts > 0 && is_billed(request));
    record_overhead(request);
    write_access_line(request, record);
    shm_slot_settle(worker->slots, request->slot);
    request->slot = -1;
    request->shared = NULL;
    uint64_t one = 1;
    ssize_t written = write(worker->heritage->ledger_wake_fd, &one, sizeof(one));
    (void)written; /* a full counter means that the ledger is being woken already */
}
