/* Usage and costs as OpenAI's organization endpoints give them: tenants are projects, keys are API keys. */
#include <stdio.h>

#include "admin/admin_buckets.h"
#include "admin/admin_handlers.h"
#include "admin/admin_store.h"
#include "base/clock.h"
#include "base/json_write.h"
#include "store/report_rows.h"

enum { ERROR_BYTES = 4096, LABELS_BYTES_MOST = 4096 };
static const int64_t hour_ns = 3600 * NS_PER_S;

/* A report while it is summed. Row labels: the bucket's first second in 16 digits, project, key, model; what is not
 * grouped by is empty. */
struct bucket_run {
    const struct buckets *buckets;
    struct report_rows rows;
    struct buffer labels;
    bool too_large;
};

static bool passes(const struct buckets *buckets, const char *tenant, const char *key_id, const char *model) {
    return bucket_filter_matches(&buckets->projects, tenant) && bucket_filter_matches(&buckets->keys, key_id) &&
           bucket_filter_matches(&buckets->models, model);
}

static void append_label(struct buffer *labels, const char *text) { buffer_append(labels, text, strlen(text) + 1); }

static bool add(struct bucket_run *run, int64_t wall_ns, const char *tenant, const char *key_id, const char *model,
                const struct report_sums *sums) {
    const struct buckets *buckets = run->buckets;
    char start[32];
    if (!passes(buckets, tenant, key_id, model)) {
        return true;
    }
    (void)snprintf(start, sizeof(start), "%016lld", (long long)buckets_start(buckets, wall_ns / NS_PER_S));
    buffer_clear(&run->labels);
    append_label(&run->labels, start);
    append_label(&run->labels, buckets->by_project ? tenant : "");
    append_label(&run->labels, buckets->by_key ? key_id : "");
    append_label(&run->labels, buckets->by_model ? model : "");
    run->too_large = run->labels.failed || !report_rows_add(&run->rows, buffer_span(&run->labels), sums);
    return !run->too_large;
}

/* Visitor of roll-ups. */
static bool on_rollup(void *context, const struct ledger_rollup *rollup) {
    const struct report_sums sums = {.requests = rollup->requests,
                                     .failed = rollup->failed,
                                     .tokens = rollup->tokens,
                                     .price_nusd = rollup->price_nusd,
                                     .cost_nusd = rollup->cost_nusd,
                                     .list_nusd = rollup->list_nusd};
    return add(context, rollup->hour_wall_ns, rollup->tenant, rollup->key_id, rollup->model, &sums);
}

/* Visitor of records. */
static bool on_record(void *context, const struct ledger_record *record) {
    const struct shm_usage_record_sh *usage = &record->usage;
    const struct report_sums sums = {.requests = 1,
                                     .tokens = usage->tokens,
                                     .price_nusd = usage->price_nusd,
                                     .cost_nusd = usage->cost_nusd,
                                     .list_nusd = usage->list_nusd};
    return add(context, usage->end_wall_ns, record->tenant, record->key_id, usage->model_served, &sums);
}

static bool walk_records(struct bucket_run *run, struct ledger *ledger, int64_t from_wall_ns, int64_t to_wall_ns,
                         struct buffer *error) {
    return from_wall_ns >= to_wall_ns ||
           ledger_each_record(ledger, from_wall_ns, to_wall_ns, false, on_record, run, error);
}

/* Whole hours come from the roll-ups, what is cut at either end from single records; minutes from records alone. */
static bool walk(struct bucket_run *run, struct ledger *ledger, struct buffer *error) {
    int64_t from = run->buckets->from_s * NS_PER_S;
    int64_t to = run->buckets->to_s * NS_PER_S;
    int64_t first_hour = from + (hour_ns - from % hour_ns) % hour_ns;
    int64_t last_hour = to - to % hour_ns;
    if (run->buckets->width_s * NS_PER_S < hour_ns || first_hour >= last_hour) {
        return walk_records(run, ledger, from, to, error);
    }
    return walk_records(run, ledger, from, first_hour, error) &&
           ledger_each_rollup(ledger, first_hour, last_hour, on_rollup, run, error) &&
           walk_records(run, ledger, last_hour, to, error);
}

/* --- writing --- */

struct row_names {
    const char *project; /* NULL: not grouped by */
    const char *key;
    const char *model;
};

static struct row_names names_of(const struct buckets *buckets, const struct report_row *row) {
    const char *project = row->labels.base + strlen(row->labels.base) + 1;
    const char *key = project + strlen(project) + 1;
    const char *model = key + strlen(key) + 1;
    return (struct row_names){buckets->by_project ? project : NULL, buckets->by_key ? key : NULL,
                              buckets->by_model ? model : NULL};
}

static void write_usage(struct json_writer *json, const struct row_names *names, const struct report_sums *sums) {
    json_begin_object(json, NULL);
    json_write_text(json, "object", "organization.usage.completions.result");
    json_write_int(json, "input_tokens", sums->tokens.input_tokens);
    json_write_int(json, "output_tokens", sums->tokens.output_tokens);
    json_write_int(json, "input_cached_tokens", sums->tokens.cached_input_tokens);
    json_write_int(json, "input_audio_tokens", 0);
    json_write_int(json, "output_audio_tokens", 0);
    json_write_int(json, "num_model_requests", sums->requests);
    json_write_text(json, "project_id", names->project);
    json_write_null(json, "user_id");
    json_write_text(json, "api_key_id", names->key);
    json_write_text(json, "model", names->model);
    json_write_null(json, "batch");
    json_write_null(json, "service_tier");
    json_end_object(json);
}

static void write_amount(struct json_writer *json, const char *name, int64_t nusd) {
    json_begin_object(json, name);
    json_write_nusd(json, "value", nusd);
    json_write_text(json, "currency", "usd");
    json_end_object(json);
}

/* `amount` is what upstreams charge us; `price`, which OpenAI does not have, is what tenants owe. */
static void write_cost(struct json_writer *json, const struct row_names *names, const struct report_sums *sums) {
    json_begin_object(json, NULL);
    json_write_text(json, "object", "organization.costs.result");
    write_amount(json, "amount", sums->cost_nusd);
    write_amount(json, "price", sums->price_nusd);
    json_write_text(json, "line_item", names->model);
    json_write_text(json, "project_id", names->project);
    json_write_text(json, "api_key_id", names->key);
    json_end_object(json);
}

/* Writes the bucket that begins at start_s with its rows, which follow row number `at`. Returns the next row's number.
 */
static size_t write_bucket(struct json_writer *json, const struct bucket_run *run, enum bucket_kind kind,
                           int64_t start_s, size_t at) {
    char start[32];
    int64_t end_s = buckets_end(run->buckets, start_s);
    (void)snprintf(start, sizeof(start), "%016lld", (long long)start_s);
    json_begin_object(json, NULL);
    json_write_text(json, "object", "bucket");
    json_write_int(json, "start_time", start_s);
    json_write_int(json, "end_time", end_s);
    json_begin_array(json, "results");
    for (; at < run->rows.count && strcmp(run->rows.items[at].labels.base, start) == 0; at++) {
        const struct report_row *row = &run->rows.items[at];
        struct row_names names = names_of(run->buckets, row);
        if (kind == BUCKETS_OF_USAGE) {
            write_usage(json, &names, &row->sums);
        } else {
            write_cost(json, &names, &row->sums);
        }
    }
    json_end_array(json);
    json_end_object(json);
    return at;
}

static void write_page(struct buffer *out, struct bucket_run *run, enum bucket_kind kind) {
    const struct buckets *buckets = run->buckets;
    struct json_writer json = json_writer_on(out);
    char next[32];
    size_t at = 0;
    report_rows_sort(&run->rows);
    json_begin_object(&json, NULL);
    json_write_text(&json, "object", "page");
    json_begin_array(&json, "data");
    for (int64_t start_s = buckets->from_s; start_s < buckets->to_s; start_s = buckets_end(buckets, start_s)) {
        at = write_bucket(&json, run, kind, start_s, at);
    }
    json_end_array(&json);
    json_write_bool(&json, "has_more", buckets->has_more);
    (void)snprintf(next, sizeof(next), "page_%lld", (long long)buckets->to_s);
    json_write_text(&json, "next_page", buckets->has_more ? next : NULL);
    json_end_object(&json);
}

static void report(struct admin_call *call, struct admin_tools *tools, const struct buckets *buckets,
                   enum bucket_kind kind) {
    struct bucket_run run = {.buckets = buckets};
    struct buffer error;
    struct ledger *ledger = store_current(call, tools);
    if (ledger == NULL) {
        return;
    }
    report_rows_init(&run.rows);
    buffer_init(&run.labels, LABELS_BYTES_MOST);
    buffer_init(&error, ERROR_BYTES);
    bool read = ledger_pin(ledger, &error);
    if (read) {
        read = walk(&run, ledger, &error);
        ledger_unpin(ledger);
    }
    if (!read) {
        store_failed(call, tools, &error);
    } else if (run.too_large) {
        call_fail_invalid(call, "group_by", "The answer has too many rows: group by less, or ask for fewer buckets.");
    } else {
        write_page(&call->answer, &run, kind);
        call_done(call, 200);
    }
    buffer_fini(&error);
    buffer_fini(&run.labels);
    report_rows_fini(&run.rows);
}

static void answer(struct admin_call *call, struct admin_tools *tools, enum bucket_kind kind) {
    struct buckets buckets;
    struct buffer error;
    const char *param = NULL;
    buffer_init(&error, ERROR_BYTES);
    bool good = buckets_parse(&call->query, kind, clock_wall_ns() / NS_PER_S, &call->arena, &buckets, &param, &error);
    if (!good) {
        call_fail_invalid(call, param, "%s.", buffer_text(&error));
    }
    buffer_fini(&error);
    if (good) {
        report(call, tools, &buckets, kind);
    }
}

void admin_openai_usage(struct admin_call *call, struct admin_tools *tools) { answer(call, tools, BUCKETS_OF_USAGE); }

void admin_openai_costs(struct admin_call *call, struct admin_tools *tools) { answer(call, tools, BUCKETS_OF_COSTS); }
