/* The list of single requests. */
#include "base/json_write.h"
#include "store/report.h"
#include "store/report_match.h"

struct list_run {
    const struct report_filter *filter;
    int64_t left; /* how many may still be written; -1: no limit */
    uint64_t after_sequence;
    int64_t after_end_wall_ns; /* when the record `after_sequence` ended */
    bool passed;               /* the walk is below that record */
    struct report_match match;
    struct json_writer json;
    uint64_t last_sequence;
};

static const char *endpoint_name(uint8_t endpoint) {
    switch (endpoint) {
    case SHM_ENDPOINT_CHAT_COMPLETIONS:
        return "/v1/chat/completions";
    case SHM_ENDPOINT_MESSAGES:
        return "/v1/messages";
    case SHM_ENDPOINT_RESPONSES:
        return "/v1/responses";
    case SHM_ENDPOINT_COMPLETIONS:
        return "/v1/completions";
    case SHM_ENDPOINT_EMBEDDINGS:
        return "/v1/embeddings";
    case SHM_ENDPOINT_WEBSOCKET:
        return "/v1/ws/chat";
    case SHM_ENDPOINT_STREAM:
        return "/v1/stream";
    default:
        return NULL;
    }
}

static void write_instant(struct json_writer *json, const char *name, int64_t wall_ns) {
    char text[RFC3339_BYTES];
    if (wall_ns == 0) {
        json_write_null(json, name);
        return;
    }
    calendar_rfc3339(wall_ns, text);
    json_write_text(json, name, text);
}

static void write_optional(struct json_writer *json, const char *name, const char *text) {
    json_write_text(json, name, text[0] != '\0' ? text : NULL);
}

static void write_counts(struct json_writer *json, const struct shm_usage_record_sh *usage) {
    json_write_int(json, "input_tokens", usage->tokens.input_tokens);
    json_write_int(json, "cached_input_tokens", usage->tokens.cached_input_tokens);
    json_write_int(json, "cache_write_tokens", usage->tokens.cache_write_tokens);
    json_write_int(json, "output_tokens", usage->tokens.output_tokens);
    json_write_int(json, "reasoning_tokens", usage->tokens.reasoning_tokens);
    json_write_bool(json, "estimated", (usage->flags & SHM_RECORD_ESTIMATED) != 0);
    json_write_bool(json, "clamped", (usage->flags & SHM_RECORD_CLAMPED) != 0);
    json_write_int(json, "attempts", usage->attempts);
    json_write_int(json, "wait_ms", usage->wait_ns / NS_PER_MS);
    json_write_nusd(json, "price_usd", usage->price_nusd);
    json_write_nusd(json, "cost_usd", usage->cost_nusd);
    json_write_nusd(json, "list_usd", usage->list_nusd);
}

static void write_record(struct json_writer *json, const struct ledger_record *record) {
    const struct shm_usage_record_sh *usage = &record->usage;
    json_begin_object(json, NULL);
    json_write_text(json, "id", usage->id);
    write_instant(json, "start", usage->start_wall_ns);
    write_instant(json, "first_byte", usage->first_byte_wall_ns);
    write_instant(json, "end", usage->end_wall_ns);
    json_write_text(json, "tenant", record->tenant);
    json_write_text(json, "key", record->key_id);
    json_write_raw(json, "tags", span_text(record->tags != NULL && record->tags[0] != '\0' ? record->tags : "{}"));
    write_optional(json, "user", usage->end_user);
    json_write_text(json, "model", usage->model_asked);
    json_write_text(json, "model_served", usage->model_served);
    json_write_text(json, "upstream", usage->upstream);
    json_write_text(json, "endpoint", endpoint_name(usage->endpoint));
    json_write_bool(json, "stream", (usage->flags & SHM_RECORD_STREAM) != 0);
    json_write_int(json, "status", usage->status);
    write_optional(json, "finish_reason", usage->finish_reason);
    write_counts(json, usage);
    write_optional(json, "client", usage->client);
    json_end_object(json);
}

void report_write_record(struct buffer *out, const struct ledger_record *record) {
    struct json_writer json = json_writer_on(out);
    write_record(&json, record);
}

bool report_filter_matches(const struct report_filter *filter, const struct ledger_record *record) {
    struct report_match match;
    report_match_init(&match);
    struct report_item item = report_item_of_record(record);
    bool matches = item.wall_ns >= filter->from_wall_ns && item.wall_ns < filter->to_wall_ns &&
                   report_match_item(&match, filter, &item);
    report_match_fini(&match);
    return matches;
}

/* Is the record one that an earlier page has shown, or the walk not yet below it? Walks go back in the order of ends;
 * records that ended in the same instant go back by sequence. */
static bool is_above(struct list_run *run, const struct ledger_record *record) {
    if (run->passed) {
        return false;
    }
    if (record->usage.end_wall_ns == run->after_end_wall_ns) {
        return record->sequence >= run->after_sequence;
    }
    run->passed = record->usage.end_wall_ns < run->after_end_wall_ns;
    return !run->passed;
}

static bool on_record(void *context, const struct ledger_record *record) {
    struct list_run *run = context;
    if (run->left == 0) {
        return false;
    }
    struct report_item item = report_item_of_record(record);
    if (item.wall_ns < run->filter->from_wall_ns || item.wall_ns >= run->filter->to_wall_ns || is_above(run, record) ||
        !report_match_item(&run->match, run->filter, &item)) {
        return true;
    }
    write_record(&run->json, record);
    run->last_sequence = record->sequence;
    run->left -= run->left > 0 ? 1 : 0;
    return !run->json.out->failed;
}

/* Visitor that finds when the record after_sequence ended. */
static bool on_after(void *context, const struct ledger_record *record) {
    struct list_run *run = context;
    if (record->sequence == run->after_sequence) {
        run->after_end_wall_ns = record->usage.end_wall_ns;
    }
    return false;
}

static bool walk(struct list_run *run, struct ledger *ledger, const char *id, struct buffer *error) {
    if (id != NULL) {
        return ledger_each_record_with_id(ledger, id, on_record, run, error);
    }
    int64_t to = run->filter->to_wall_ns;
    if (run->after_sequence != 0) {
        if (!ledger_each_record_from(ledger, run->after_sequence, on_after, run, error)) {
            return false;
        }
        /* Gone meanwhile: retention removes the oldest first, so nothing is left below it. */
        to = run->after_end_wall_ns < to ? run->after_end_wall_ns + 1 : to;
    }
    return run->filter->from_wall_ns >= to ||
           ledger_each_record(ledger, run->filter->from_wall_ns, to, true, on_record, run, error);
}

bool report_requests_json(struct ledger *ledger, const struct report_filter *filter, const char *id, int64_t limit,
                          uint64_t after_sequence, uint64_t *last_sequence, struct buffer *out, struct buffer *error) {
    struct list_run run = {
        .filter = filter,
        .left = limit > 0 ? limit : -1,
        .after_sequence = after_sequence,
        .after_end_wall_ns = INT64_MIN,
        .passed = after_sequence == 0,
        .json = json_writer_on(out),
    };
    if (!ledger_pin(ledger, error)) {
        return false;
    }
    report_match_init(&run.match);
    json_begin_array(&run.json, NULL);
    bool done = walk(&run, ledger, id, error);
    json_end_array(&run.json);
    report_match_fini(&run.match);
    ledger_unpin(ledger);
    if (done && out->failed) {
        buffer_append_text(error, "the list does not fit in memory; ask for fewer requests");
        done = false;
    }
    if (last_sequence != NULL) {
        *last_sequence = run.last_sequence;
    }
    return done;
}
