#include "admin/admin_metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "admin/admin_handlers.h"
#include "admin/admin_prometheus.h"
#include "admin/admin_segment.h"
#include "admin/admin_store.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/report_rows.h"

enum { LABELS_BYTES_MOST = 4096, ERROR_BYTES = 4096 };
static const int64_t fresh_ns = 2 * NS_PER_S;       /* a scrape this soon after another gets the same sums */
static const int64_t catch_up_ns = 500 * NS_PER_MS; /* reading old records at a time, so that reports need not wait */
static const int64_t day_ns = 86400 * NS_PER_S;

struct metrics {
    struct report_rows settled; /* (tenant, model, upstream) -> sums of days before settled_to_wall_ns */
    int64_t settled_to_wall_ns;
    struct report_rows failed; /* (tenant, model, upstream, status) -> failed requests among the records read so far */
    uint64_t next_sequence;    /* first record not read */
    struct buffer text;        /* what the last refresh gave */
    int64_t refreshed_mono_ns; /* 0: never */
};

/* One refresh. */
struct refresh {
    struct metrics *metrics;
    struct report_rows *into;
    struct buffer labels;
    int64_t deadline_mono_ns;
    bool failed; /* no room */
};

struct metrics *metrics_new(void) {
    struct metrics *metrics = calloc(1, sizeof(*metrics));
    CHECK(metrics != NULL);
    report_rows_init(&metrics->settled);
    report_rows_init(&metrics->failed);
    buffer_init(&metrics->text, CALL_ANSWER_BYTES_MOST / 2);
    metrics->next_sequence = 1;
    return metrics;
}

void metrics_free(struct metrics *metrics) {
    report_rows_fini(&metrics->settled);
    report_rows_fini(&metrics->failed);
    buffer_fini(&metrics->text);
    free(metrics);
}

/* --- reading the books --- */

static void set_labels(struct refresh *refresh, const char *const *labels, int count) {
    buffer_clear(&refresh->labels);
    for (int i = 0; i < count; i++) {
        buffer_append(&refresh->labels, labels[i], strlen(labels[i]) + 1);
    }
}

static void add(struct refresh *refresh, struct report_rows *rows, const struct report_sums *sums) {
    refresh->failed |= refresh->labels.failed || !report_rows_add(rows, buffer_span(&refresh->labels), sums);
}

/* Visitor of roll-ups. */
static bool on_rollup(void *context, const struct ledger_rollup *rollup) {
    struct refresh *refresh = context;
    const char *const labels[] = {rollup->tenant, rollup->model, rollup->upstream};
    const struct report_sums sums = {.requests = rollup->requests,
                                     .failed = rollup->failed,
                                     .tokens = rollup->tokens,
                                     .price_nusd = rollup->price_nusd,
                                     .cost_nusd = rollup->cost_nusd,
                                     .list_nusd = rollup->list_nusd};
    set_labels(refresh, labels, 3);
    add(refresh, refresh->into, &sums);
    return !refresh->failed;
}

/* Visitor of records. */
static bool on_record(void *context, const struct ledger_record *record) {
    struct refresh *refresh = context;
    const struct shm_usage_record_sh *usage = &record->usage;
    refresh->metrics->next_sequence = record->sequence + 1;
    if (usage->status >= 400 || (usage->flags & SHM_RECORD_ERROR_EVENT) != 0) {
        char status[8];
        const struct report_sums one = {.requests = 1};
        (void)snprintf(status, sizeof(status), "%u", usage->status);
        const char *const labels[] = {record->tenant, usage->model_served, usage->upstream, status};
        set_labels(refresh, labels, 4);
        add(refresh, &refresh->metrics->failed, &one);
    }
    return !refresh->failed && clock_mono_ns() < refresh->deadline_mono_ns;
}

static bool copy_rows(struct refresh *refresh, const struct report_rows *from, struct report_rows *to) {
    for (size_t i = 0; i < from->capacity && !refresh->failed; i++) {
        const struct report_row *row = &from->items[i];
        if (row->labels.base != NULL) {
            refresh->failed = !report_rows_add(to, row->labels, &row->sums);
        }
    }
    return !refresh->failed;
}

/* Brings `settled` up to the day before yesterday and fills `all` with everything. */
static bool sum_days(struct refresh *refresh, struct ledger *ledger, struct report_rows *all, struct buffer *error) {
    struct metrics *metrics = refresh->metrics;
    int64_t now_wall_ns = clock_wall_ns();
    int64_t settle_to = now_wall_ns - now_wall_ns % day_ns - day_ns;
    if (settle_to > metrics->settled_to_wall_ns) {
        refresh->into = &metrics->settled;
        if (!ledger_each_day_rollup(ledger, metrics->settled_to_wall_ns, settle_to, on_rollup, refresh, error)) {
            return false;
        }
        metrics->settled_to_wall_ns = settle_to;
    }
    refresh->into = all;
    return copy_rows(refresh, &metrics->settled, all) &&
           ledger_each_day_rollup(ledger, metrics->settled_to_wall_ns, INT64_MAX, on_rollup, refresh, error);
}

/* --- requests by status ---
 * Roll-ups tell how many failed, the records with which status. What failed in records that are gone, or not read yet,
 * is "unknown"; what did not fail was answered with 200. */

static void add_requests(struct refresh *refresh, struct report_rows *requests, struct span names, const char *status,
                         int64_t count) {
    const struct report_sums sums = {.requests = count};
    buffer_clear(&refresh->labels);
    buffer_append_span(&refresh->labels, names);
    buffer_append(&refresh->labels, status, strlen(status) + 1);
    add(refresh, requests, &sums);
}

/* The labels without the last one. */
static struct span without_last(struct span labels) {
    size_t len = labels.len - 1;
    while (len != 0 && labels.base[len - 1] != '\0') {
        len--;
    }
    return span_of(labels.base, len);
}

static void split_requests(struct refresh *refresh, const struct report_rows *all, struct report_rows *requests) {
    const struct report_rows *failed = &refresh->metrics->failed;
    for (size_t i = 0; i < all->count; i++) {
        const struct report_row *row = &all->items[i];
        add_requests(refresh, requests, row->labels, "200", row->sums.requests - row->sums.failed);
        add_requests(refresh, requests, row->labels, "unknown", row->sums.failed);
    }
    for (size_t i = 0; i < failed->capacity; i++) {
        const struct report_row *row = &failed->items[i];
        if (row->labels.base != NULL) {
            refresh->failed |= !report_rows_add(requests, row->labels, &row->sums);
            add_requests(refresh, requests, without_last(row->labels), "unknown", -row->sums.requests);
        }
    }
    report_rows_sort(requests);
}

/* --- writing --- */

static void split_labels(struct span labels, const char *const *names, int count, struct prometheus_label *out) {
    for (int i = 0; i < count; i++) {
        out[i] = (struct prometheus_label){names[i], labels.len != 0 ? labels.base : ""};
        labels = span_skip(labels, strlen(out[i].value) + 1);
    }
}

static void write_requests(const struct report_rows *requests, struct buffer *out) {
    static const char *const names[] = {"tenant", "model", "upstream", "code"};
    struct prometheus_label labels[4];
    prometheus_family(out, "tollgate_requests_total", "counter", "Requests in the ledger, by the status clients saw.");
    for (size_t i = 0; i < requests->count; i++) {
        const struct report_row *row = &requests->items[i];
        if (row->sums.requests > 0) {
            split_labels(row->labels, names, 4, labels);
            prometheus_count(out, "tollgate_requests_total", labels, 4, (uint64_t)row->sums.requests);
        }
    }
}

static void write_tokens(const struct report_rows *models, struct buffer *out) {
    static const char *const names[] = {"tenant", "model"};
    struct prometheus_label labels[3];
    prometheus_family(out, "tollgate_tokens_total", "counter",
                      "Tokens in the ledger. input includes cached_input and cache_write; output includes reasoning.");
    for (size_t i = 0; i < models->count; i++) {
        const struct token_counts *tokens = &models->items[i].sums.tokens;
        const struct {
            const char *type;
            int64_t count;
        } kinds[] = {{"input", tokens->input_tokens},
                     {"cached_input", tokens->cached_input_tokens},
                     {"cache_write", tokens->cache_write_tokens},
                     {"output", tokens->output_tokens},
                     {"reasoning", tokens->reasoning_tokens}};
        split_labels(models->items[i].labels, names, 2, labels);
        for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
            labels[2] = (struct prometheus_label){"type", kinds[kind].type};
            prometheus_count(out, "tollgate_tokens_total", labels, 3, (uint64_t)kinds[kind].count);
        }
    }
}

static int64_t price_of(const struct report_sums *sums) { return sums->price_nusd; }
static int64_t cost_of(const struct report_sums *sums) { return sums->cost_nusd; }

/* The sum over everything, and beside it by tenant and model. */
static void write_money(const struct report_rows *models, const char *total_name, const char *tenant_name,
                        const char *help, int64_t (*read)(const struct report_sums *sums), struct buffer *out) {
    static const char *const names[] = {"tenant", "model"};
    struct prometheus_label labels[2];
    int64_t total_nusd = 0;
    prometheus_family(out, tenant_name, "counter", help);
    for (size_t i = 0; i < models->count; i++) {
        split_labels(models->items[i].labels, names, 2, labels);
        prometheus_nusd(out, tenant_name, labels, 2, read(&models->items[i].sums));
        total_nusd = money_add(total_nusd, read(&models->items[i].sums));
    }
    prometheus_family(out, total_name, "counter", help);
    prometheus_nusd(out, total_name, NULL, 0, total_nusd);
}

static void write_all(struct refresh *refresh, struct report_rows *all) {
    struct report_rows requests;
    struct report_rows models;
    struct buffer *out = &refresh->metrics->text;
    report_rows_init(&requests);
    report_rows_init(&models);
    report_rows_sort(all);
    for (size_t i = 0; i < all->count; i++) {
        refresh->failed |= !report_rows_add(&models, without_last(all->items[i].labels), &all->items[i].sums);
    }
    report_rows_sort(&models);
    split_requests(refresh, all, &requests);
    buffer_clear(out);
    write_requests(&requests, out);
    write_tokens(&models, out);
    write_money(&models, "tollgate_price_usd_total", "tollgate_tenant_price_usd_total", "What tenants owe, in USD.",
                price_of, out);
    write_money(&models, "tollgate_cost_usd_total", "tollgate_tenant_cost_usd_total", "What upstreams charge, in USD.",
                cost_of, out);
    report_rows_fini(&requests);
    report_rows_fini(&models);
}

/* A walk broke off: nobody knows how much of it was added. */
static void forget_settled(struct metrics *metrics) {
    report_rows_fini(&metrics->settled);
    report_rows_init(&metrics->settled);
    metrics->settled_to_wall_ns = 0;
}

static bool refresh_sums(struct metrics *metrics, struct ledger *ledger, struct buffer *error) {
    struct refresh refresh = {.metrics = metrics, .deadline_mono_ns = clock_mono_ns() + catch_up_ns};
    struct report_rows all;
    report_rows_init(&all);
    buffer_init(&refresh.labels, LABELS_BYTES_MOST);
    bool read = ledger_pin(ledger, error);
    if (read) {
        read = sum_days(&refresh, ledger, &all, error) &&
               ledger_each_record_from(ledger, metrics->next_sequence, on_record, &refresh, error);
        ledger_unpin(ledger);
    }
    if (read) {
        write_all(&refresh, &all);
        metrics->refreshed_mono_ns = clock_mono_ns();
    } else {
        forget_settled(metrics);
    }
    report_rows_fini(&all);
    buffer_fini(&refresh.labels);
    if (refresh.failed) {
        buffer_append_text(error, "there are too many tenants, models and upstreams to sum");
    }
    return read && !refresh.failed;
}

/* Without the books the rest is still worth a scrape: the sums stay as they were. */
void admin_metrics(struct admin_call *call, struct admin_tools *tools) {
    struct metrics *metrics = tools->metrics;
    struct buffer error;
    buffer_init(&error, ERROR_BYTES);
    if (metrics->refreshed_mono_ns == 0 || clock_mono_ns() - metrics->refreshed_mono_ns > fresh_ns) {
        struct ledger *ledger = store_ledger(tools, &error);
        if (ledger == NULL || !refresh_sums(metrics, ledger, &error)) {
            store_failed(call, tools, &error);
            buffer_clear(&call->answer);
            call->extra_header = NULL;
        }
    }
    buffer_fini(&error);
    buffer_append_span(&call->answer, buffer_span(&metrics->text));
    segment_write_metrics(tools->map, &call->answer);
    call_done(call, 200);
    if (call->status == 200) {
        call->content_type = "text/plain; version=0.0.4; charset=utf-8";
    }
}
