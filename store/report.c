#include "store/report.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "store/report_match.h"

enum { LABELS_MOST = 16 << 10, CURRENCY_FIELD_BYTES = 80 };

/* Hours that cannot be taken from roll-ups whole, in rising order. */
struct cut_hours {
    int64_t *items;
    size_t count;
    size_t capacity;
};

struct usage_run {
    const struct report_filter *filter;
    const struct report_group *groups;
    int group_count;
    bool has_time; /* is any group a time? Then unit is the finest */
    enum calendar_unit unit;
    int64_t from_wall_ns; /* the filter's, within what a wall clock can be */
    int64_t to_wall_ns;
    int64_t oldest_hour_wall_ns; /* of the oldest record still kept */
    struct report_match match;
    struct buffer labels;
    struct report_rows rows;
    struct report_sums total;
    struct cut_hours cut;
    bool too_large;
};

static int64_t floor_hour(int64_t wall_ns) { return wall_ns - wall_ns % REPORT_HOUR_NS; }

static int64_t clamp_wall(int64_t wall_ns) {
    const int64_t most = floor_hour(INT64_MAX) - REPORT_HOUR_NS;
    return wall_ns < 0 ? 0 : wall_ns > most ? most : wall_ns;
}

static void add_item(struct usage_run *run, const struct report_item *item) {
    report_sums_add(&run->total, &item->sums);
    if (run->group_count == 0) {
        return;
    }
    report_match_labels(&run->match, run->groups, run->group_count, item, &run->labels);
    if (run->labels.failed || !report_rows_add(&run->rows, buffer_span(&run->labels), &item->sums)) {
        run->too_large = true;
    }
}

/* Does a border of the filter or of the zone's hours, days or months fall inside this UTC hour? */
static bool is_cut(const struct usage_run *run, int64_t hour_wall_ns) {
    int64_t last = hour_wall_ns + REPORT_HOUR_NS - 1;
    if (hour_wall_ns < run->from_wall_ns || last >= run->to_wall_ns) {
        return true;
    }
    return run->has_time && calendar_floor(hour_wall_ns, run->unit) != calendar_floor(last, run->unit);
}

static bool remember_cut_hour(struct cut_hours *cut, int64_t hour_wall_ns) {
    if (cut->count != 0 && cut->items[cut->count - 1] == hour_wall_ns) {
        return true;
    }
    if (cut->count == cut->capacity) {
        size_t capacity = cut->capacity != 0 ? cut->capacity * 2 : 64;
        int64_t *items = reallocarray(cut->items, capacity, sizeof(*items));
        if (items == NULL) {
            return false;
        }
        cut->items = items;
        cut->capacity = capacity;
    }
    cut->items[cut->count++] = hour_wall_ns;
    return true;
}

/* Visitor of roll-ups. A cut hour waits for its single records, unless retention has removed those: then the whole hour
 * counts where it begins. */
static bool on_rollup(void *context, const struct ledger_rollup *rollup) {
    struct usage_run *run = context;
    struct report_item item = report_item_of_rollup(rollup);
    if (!report_match_item(&run->match, run->filter, &item)) {
        return true;
    }
    if (is_cut(run, rollup->hour_wall_ns)) {
        if (rollup->hour_wall_ns >= run->oldest_hour_wall_ns) {
            run->too_large |= !remember_cut_hour(&run->cut, rollup->hour_wall_ns);
            return !run->too_large;
        }
        if (rollup->hour_wall_ns < run->from_wall_ns) {
            return true;
        }
    }
    add_item(run, &item);
    return !run->too_large;
}

/* Visitor of single records in cut hours. */
static bool on_record(void *context, const struct ledger_record *record) {
    struct usage_run *run = context;
    struct report_item item = report_item_of_record(record);
    if (report_match_item(&run->match, run->filter, &item)) {
        add_item(run, &item);
    }
    return !run->too_large;
}

/* Visitor that stops at the oldest record. */
static bool on_oldest(void *context, const struct ledger_record *record) {
    struct usage_run *run = context;
    run->oldest_hour_wall_ns = floor_hour(record->usage.end_wall_ns);
    return false;
}

static int compare_hours(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

/* Counts the cut hours' single records, one walk for each unbroken run of hours. */
static bool count_cut_hours(struct usage_run *run, struct ledger *ledger, struct buffer *error) {
    const struct cut_hours *cut = &run->cut;
    if (cut->count != 0) {
        qsort(cut->items, cut->count, sizeof(*cut->items), compare_hours);
    }
    for (size_t i = 0; i < cut->count;) {
        int64_t from = cut->items[i];
        int64_t to = from + REPORT_HOUR_NS;
        while (i < cut->count && cut->items[i] <= to) {
            to = cut->items[i++] + REPORT_HOUR_NS;
        }
        from = from > run->from_wall_ns ? from : run->from_wall_ns;
        to = to < run->to_wall_ns ? to : run->to_wall_ns;
        if (from < to && !ledger_each_record(ledger, from, to, false, on_record, run, error)) {
            return false;
        }
    }
    return true;
}

static bool count_all(struct usage_run *run, struct ledger *ledger, struct buffer *error) {
    if (run->from_wall_ns >= run->to_wall_ns) {
        return true;
    }
    int64_t last = clamp_wall(INT64_MAX);
    int64_t to_hour = floor_hour(run->to_wall_ns + REPORT_HOUR_NS - 1);
    if (!ledger_each_record(ledger, 0, last, false, on_oldest, run, error) ||
        !ledger_each_rollup(ledger, floor_hour(run->from_wall_ns), to_hour, on_rollup, run, error) ||
        !count_cut_hours(run, ledger, error)) {
        return false;
    }
    if (run->too_large) {
        buffer_append_text(error,
                           "the report has too many rows; narrow it with --from, --to or a filter, or group by less");
    }
    return !run->too_large;
}

/* USD into the second currency, rounded half up, saturating. */
static int64_t in_currency(int64_t nusd, const struct report_currency *currency) {
    const __int128 one = NUSD_PER_USD;
    __int128 product = (__int128)nusd * currency->per_usd_billionths;
    __int128 rounded = (product + (product < 0 ? -one / 2 : one / 2)) / one;
    return rounded > INT64_MAX ? INT64_MAX : rounded < INT64_MIN ? INT64_MIN : (int64_t)rounded;
}

static void write_currency(struct json_writer *json, const char *kind, int64_t nusd,
                           const struct report_currency *currency) {
    char name[CURRENCY_FIELD_BYTES];
    (void)snprintf(name, sizeof(name), "%s_%s", kind, currency->code);
    for (char *c = name; *c != '\0'; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
    }
    json_write_nusd(json, name, in_currency(nusd, currency));
}

static void write_sums(struct json_writer *json, const struct report_sums *sums,
                       const struct report_currency *currency) {
    json_write_int(json, "requests", sums->requests);
    json_write_int(json, "failed", sums->failed);
    json_write_int(json, "input_tokens", sums->tokens.input_tokens);
    json_write_int(json, "cached_input_tokens", sums->tokens.cached_input_tokens);
    json_write_int(json, "cache_write_tokens", sums->tokens.cache_write_tokens);
    json_write_int(json, "output_tokens", sums->tokens.output_tokens);
    json_write_int(json, "reasoning_tokens", sums->tokens.reasoning_tokens);
    json_write_nusd(json, "price_usd", sums->price_nusd);
    json_write_nusd(json, "cost_usd", sums->cost_nusd);
    json_write_nusd(json, "list_usd", sums->list_nusd);
    if (currency != NULL && currency->code != NULL) {
        write_currency(json, "price", sums->price_nusd, currency);
        write_currency(json, "cost", sums->cost_nusd, currency);
        write_currency(json, "list", sums->list_nusd, currency);
    }
}

static void write_row(struct json_writer *json, const struct usage_run *run, const struct report_row *row,
                      struct buffer *name, const struct report_currency *currency) {
    json_begin_object(json, NULL);
    struct span rest = row->labels;
    for (int i = 0; i < run->group_count; i++) {
        struct span label = span_text(rest.base);
        rest = span_skip(rest, label.len + 1);
        buffer_clear(name);
        report_group_name(&run->groups[i], name);
        json_write_span(json, buffer_text(name), label);
    }
    write_sums(json, &row->sums, currency);
    json_end_object(json);
}

static void write_report(const struct usage_run *run, const struct report_currency *currency, struct buffer *out) {
    char instant[RFC3339_BYTES];
    struct buffer name;
    buffer_init(&name, LABELS_MOST);
    struct json_writer json = json_writer_on(out);
    json_begin_object(&json, NULL);
    json_write_text(&json, "object", "usage");
    calendar_rfc3339(run->from_wall_ns, instant);
    json_write_text(&json, "from", instant);
    calendar_rfc3339(run->to_wall_ns, instant);
    json_write_text(&json, "to", instant);
    json_begin_array(&json, "by");
    for (int i = 0; i < run->group_count; i++) {
        buffer_clear(&name);
        report_group_name(&run->groups[i], &name);
        json_write_text(&json, NULL, buffer_text(&name));
    }
    json_end_array(&json);
    json_begin_array(&json, "rows");
    for (size_t i = 0; i < run->rows.count; i++) {
        write_row(&json, run, &run->rows.items[i], &name, currency);
    }
    json_end_array(&json);
    json_begin_object(&json, "total");
    write_sums(&json, &run->total, currency);
    json_end_object(&json);
    json_end_object(&json);
    buffer_fini(&name);
}

bool report_usage_json(struct ledger *ledger, const struct report_filter *filter, const struct report_group *groups,
                       int group_count, const struct report_currency *currency, struct buffer *out,
                       struct buffer *error) {
    struct usage_run run = {
        .filter = filter,
        .groups = groups,
        .group_count = group_count,
        .from_wall_ns = clamp_wall(filter->from_wall_ns),
        .to_wall_ns = clamp_wall(filter->to_wall_ns),
        .oldest_hour_wall_ns = INT64_MAX,
    };
    run.has_time = report_groups_finest(groups, group_count, &run.unit);
    if (!ledger_pin(ledger, error)) {
        return false;
    }
    report_match_init(&run.match);
    buffer_init(&run.labels, LABELS_MOST);
    report_rows_init(&run.rows);
    bool done = count_all(&run, ledger, error);
    if (done) {
        report_rows_sort(&run.rows);
        write_report(&run, currency, out);
        done = !out->failed;
        if (!done) {
            buffer_append_text(error, "the report does not fit in memory; narrow it with --from, --to or a filter");
        }
    }
    free(run.cut.items);
    report_rows_fini(&run.rows);
    buffer_fini(&run.labels);
    report_match_fini(&run.match);
    ledger_unpin(ledger);
    return done;
}
