/* `usage` and `requests`. */
#include <stdio.h>
#include <time.h>

#include "base/calendar.h"
#include "base/clock.h"
#include "master/cli_run.h"
#include "store/report.h"

enum { REQUESTS_PAGE = 1000, FOLLOW_LAST = 10, FOLLOW_POLL_MS = 250, FOLLOW_BATCH_BYTES = 1 << 20, KEY_ID_BYTES = 64 };

/* A filter with the texts that it points to. */
struct filter {
    struct report_filter report;
    char key_id[KEY_ID_BYTES];
    char tag_name[64];
};

/* The id of the key that --key names. */
static int resolve_key(struct cli *cli, char out[static KEY_ID_BYTES]) {
    struct cli_request request;
    struct json_doc doc;
    int result = -1;
    json_doc_init(&doc);
    cli_request_begin(&request, "key.show");
    int status = cli_add_key(cli, &request.json, cli->values[CLI_KEY]);
    cli_add_text(cli, &request.json, CLI_TENANT, "tenant");
    if (status == CLI_EXIT_DONE) {
        status = cli_call(cli, &request, false, &doc, &result);
    } else {
        buffer_fini(&request.text);
    }
    if (status == CLI_EXIT_DONE && !json_string_copy(&doc, json_member(&doc, result, "id"), out, KEY_ID_BYTES)) {
        status = cli_fail(cli, "the ledger's answer names no key; is the server of another version?");
    }
    json_doc_fini(&doc);
    return status;
}

/* An alias stands for the model it leads to. */
static const char *resolve_model(const struct cli *cli, const char *name) {
    int model = name != NULL ? conf_model_index(cli->conf, span_text(name)) : -1;
    int target = model >= 0 && cli->conf->models[model].alias >= 0 ? conf_model_resolve(cli->conf, model) : -1;
    return target >= 0 ? cli->conf->models[target].name : name;
}

static int read_tag(const struct cli *cli, struct filter *filter) {
    if (cli->tag_count == 0) {
        return CLI_EXIT_DONE;
    }
    const char *equals = strchr(cli->tags[0], '=');
    if (cli->tag_count > 1) {
        return cli_misuse(cli, "--tag can be given once here");
    }
    if (equals == NULL || !span_copy(span_of(cli->tags[0], (size_t)(equals - cli->tags[0])), filter->tag_name,
                                     sizeof(filter->tag_name))) {
        return cli_misuse(cli, "--tag must be NAME=VALUE");
    }
    filter->report.tag_name = filter->tag_name;
    filter->report.tag_value = equals + 1;
    return CLI_EXIT_DONE;
}

/* The start of this month, or of the month that --to ends in when that is earlier. */
static int64_t find_month(int64_t to_wall_ns) {
    int64_t now = clock_wall_ns();
    return calendar_floor(to_wall_ns <= now ? to_wall_ns - 1 : now, CALENDAR_MONTH);
}

static int read_times(const struct cli *cli, struct report_filter *report, bool from_month) {
    int status = CLI_EXIT_DONE;
    if (cli_given(cli, CLI_TO)) {
        status = cli_moment(cli, CLI_TO, false, &report->to_wall_ns);
    }
    if (status == CLI_EXIT_DONE && cli_given(cli, CLI_FROM)) {
        status = cli_moment(cli, CLI_FROM, false, &report->from_wall_ns);
    } else if (from_month) {
        report->from_wall_ns = find_month(report->to_wall_ns);
    }
    if (status == CLI_EXIT_DONE && report->from_wall_ns > report->to_wall_ns) {
        status = cli_misuse(cli, "--from is later than --to");
    }
    return status;
}

/* Reads all filters. Without --from: the month's start when from_month, else everything. Without --to: no end. */
static int read_filter(struct cli *cli, struct filter *filter, bool from_month) {
    *filter = (struct filter){.report = {.from_wall_ns = 0, .to_wall_ns = INT64_MAX}};
    filter->report.tenant = cli->values[CLI_TENANT];
    filter->report.model = resolve_model(cli, cli->values[CLI_MODEL]);
    filter->report.upstream = cli->values[CLI_UPSTREAM];
    int status = read_tag(cli, filter);
    if (status == CLI_EXIT_DONE) {
        status = read_times(cli, &filter->report, from_month);
    }
    if (status == CLI_EXIT_DONE && cli_given(cli, CLI_KEY)) {
        status = resolve_key(cli, filter->key_id);
        filter->report.key = filter->key_id;
    }
    return status;
}

static const struct cli_column sum_columns[] = {
    {"requests", "requests", CLI_COLUMN_COUNT, false},
    {"failed", "failed", CLI_COLUMN_COUNT, false},
    {"input_tokens", "input", CLI_COLUMN_COUNT, false},
    {"cached_input_tokens", "cached", CLI_COLUMN_COUNT, false},
    {"cache_write_tokens", "cache write", CLI_COLUMN_COUNT, false},
    {"output_tokens", "output", CLI_COLUMN_COUNT, false},
    {"reasoning_tokens", "reasoning", CLI_COLUMN_COUNT, false},
    {"price_usd", "price USD", CLI_COLUMN_MONEY, false},
    {"cost_usd", "cost USD", CLI_COLUMN_MONEY, false},
    {"list_usd", "list USD", CLI_COLUMN_MONEY, false},
};

/* The columns of a usage report: the groups, then every sum of its total, whose order is that of the documented object.
 */
struct usage_columns {
    struct cli_column items[CLI_COLUMNS_MOST];
    int count;
    struct arena names;
};

static void add_group_column(struct usage_columns *columns, const struct json_doc *doc, int name) {
    char *text = json_string_arena(doc, name, &columns->names);
    if (text != NULL && columns->count < CLI_COLUMNS_MOST) {
        columns->items[columns->count++] = (struct cli_column){text, text, CLI_COLUMN_TEXT, false};
    }
}

static void add_sum_column(struct usage_columns *columns, const struct json_doc *doc, int name) {
    struct cli_column column = {.kind = CLI_COLUMN_MONEY}; /* what is not in the list is the second currency */
    for (int i = 0; i < CLI_COUNT_OF(sum_columns); i++) {
        if (json_string_is(doc, name, sum_columns[i].field)) {
            column = sum_columns[i];
        }
    }
    if (column.field == NULL) {
        char *field = json_string_arena(doc, name, &columns->names);
        char *title = field != NULL ? arena_copy_text(&columns->names, span_text(field)) : NULL;
        if (title == NULL) {
            return;
        }
        char *line = strchr(title, '_');
        for (char *c = line; c != NULL && *c != '\0'; c++) {
            *c = (char)(*c == '_' ? ' ' : *c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
        }
        column.field = field;
        column.title = title;
    }
    if (columns->count < CLI_COLUMNS_MOST) {
        columns->items[columns->count++] = column;
    }
}

static void find_columns(struct usage_columns *columns, const struct json_doc *doc) {
    *columns = (struct usage_columns){.count = 0};
    arena_init(&columns->names, CLI_ERROR_MOST);
    int by = json_member(doc, 0, "by");
    for (int name = json_first(doc, by); name >= 0; name = json_next(doc, name)) {
        add_group_column(columns, doc, name);
    }
    int total = json_member(doc, 0, "total");
    for (int name = json_first(doc, total); name >= 0; name = json_next(doc, name)) {
        add_sum_column(columns, doc, name);
    }
}

static int print_usage(const struct cli *cli, struct buffer *report) {
    if (cli->format == CLI_JSON_TEXT) {
        buffer_append_byte(report, '\n');
        return cli_print(cli, buffer_span(report)) ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
    }
    struct json_doc doc;
    json_doc_init(&doc);
    if (!json_parse(&doc, buffer_span(report))) {
        int status =
            cli_fail(cli, "the report is too large to print as a table (%s); use --json or group by less", doc.error);
        json_doc_fini(&doc);
        return status;
    }
    struct usage_columns columns;
    struct cli_table table;
    struct buffer out;
    find_columns(&columns, &doc);
    buffer_init(&out, CLI_TEXT_MOST);
    cli_table_init(&table, columns.items, columns.count, cli->format == CLI_CSV);
    cli_table_append(&table, &doc, json_member(&doc, 0, "rows"), json_member(&doc, 0, "total"), &out);
    bool printed = cli_print(cli, buffer_span(&out));
    cli_table_fini(&table);
    buffer_fini(&out);
    arena_fini(&columns.names);
    json_doc_fini(&doc);
    return printed ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
}

static int run_usage(struct cli *cli, const struct report_filter *filter, const struct report_group *groups,
                     int group_count) {
    struct report_currency currency = {cli->conf->currency_code, cli->conf->currency_per_usd_billionths};
    struct buffer report;
    struct buffer error;
    buffer_init(&report, CLI_TEXT_MOST);
    buffer_init(&error, CLI_ERROR_MOST);
    int status = report_usage_json(cli->ledger, filter, groups, group_count, &currency, &report, &error)
                     ? print_usage(cli, &report)
                     : cli_fail(cli, "%s", buffer_text(&error));
    buffer_fini(&error);
    buffer_fini(&report);
    return status;
}

static int read_groups(const struct cli *cli, struct report_group groups[static REPORT_GROUPS_MOST], int *count) {
    struct buffer error;
    int status = CLI_EXIT_DONE;
    buffer_init(&error, CLI_ERROR_MOST);
    const char *by = cli_given(cli, CLI_BY) ? cli->values[CLI_BY] : "day";
    *count = report_parse_groups(span_text(by), groups, &error);
    if (*count < 0) {
        status = cli_misuse(cli, "--by: %s", buffer_text(&error));
    }
    buffer_fini(&error);
    return status;
}

int cli_usage(struct cli *cli) {
    struct report_group groups[REPORT_GROUPS_MOST];
    struct filter filter;
    int group_count = 0;
    int status = cli_load(cli);
    if (status == CLI_EXIT_DONE) {
        status = read_groups(cli, groups, &group_count);
    }
    if (status == CLI_EXIT_DONE) {
        status = read_filter(cli, &filter, true);
    }
    if (status == CLI_EXIT_DONE) {
        status = cli_open_ledger(cli);
    }
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    if (!cli_given(cli, CLI_TO)) {
        filter.report.to_wall_ns = clock_wall_ns() + 1;
    }
    return run_usage(cli, &filter.report, groups, group_count);
}

static const struct cli_column request_columns[] = {
    {"id", "id", CLI_COLUMN_TEXT, false},
    {"start", "start", CLI_COLUMN_TEXT, true},
    {"first_byte", "first byte", CLI_COLUMN_TEXT, true},
    {"end", "end", CLI_COLUMN_TEXT, false},
    {"tenant", "tenant", CLI_COLUMN_TEXT, false},
    {"key", "key", CLI_COLUMN_TEXT, false},
    {"tags", "tags", CLI_COLUMN_LIST, true},
    {"user", "user", CLI_COLUMN_TEXT, true},
    {"model", "model", CLI_COLUMN_TEXT, true},
    {"model_served", "model served", CLI_COLUMN_TEXT, false},
    {"upstream", "upstream", CLI_COLUMN_TEXT, false},
    {"endpoint", "endpoint", CLI_COLUMN_TEXT, false},
    {"stream", "stream", CLI_COLUMN_TEXT, false},
    {"status", "status", CLI_COLUMN_COUNT, false},
    {"finish_reason", "finish", CLI_COLUMN_TEXT, false},
    {"input_tokens", "input", CLI_COLUMN_COUNT, false},
    {"cached_input_tokens", "cached", CLI_COLUMN_COUNT, true},
    {"cache_write_tokens", "cache write", CLI_COLUMN_COUNT, true},
    {"output_tokens", "output", CLI_COLUMN_COUNT, false},
    {"reasoning_tokens", "reasoning", CLI_COLUMN_COUNT, true},
    {"estimated", "estimated", CLI_COLUMN_TEXT, false},
    {"attempts", "attempts", CLI_COLUMN_COUNT, true},
    {"price_usd", "price USD", CLI_COLUMN_MONEY, false},
    {"cost_usd", "cost USD", CLI_COLUMN_MONEY, false},
    {"list_usd", "list USD", CLI_COLUMN_MONEY, true},
    {"client", "client", CLI_COLUMN_TEXT, true},
};

/* A list of requests while it is printed, page after page. */
struct request_list {
    struct cli *cli;
    const struct report_filter *filter;
    struct cli_table table;
    struct json_doc doc;
    struct buffer out;
    struct buffer text;
    uint64_t next_sequence; /* --follow: the next record to look at */
    int64_t printed;
};

/* Adds one page (a JSON array) to what is printed. Returns how many rows it has, or -1 with why on stderr. */
static int add_page(struct request_list *list, struct span page) {
    if (!json_parse(&list->doc, page)) {
        (void)cli_fail(list->cli, "a page of requests cannot be printed (%s); tell the developers", list->doc.error);
        return -1;
    }
    int count = json_size(&list->doc, 0);
    buffer_clear(&list->out);
    if (count == 0 && cli_given(list->cli, CLI_ID)) {
        return 0; /* an error follows instead of an empty table */
    }
    if (list->cli->format != CLI_JSON_TEXT) {
        cli_table_append(&list->table, &list->doc, 0, -1, &list->out);
    } else if (count != 0) {
        buffer_append_text(&list->out, list->printed != 0 ? "," : "[");
        buffer_append(&list->out, page.base + 1, page.len - 2); /* without its brackets */
    }
    list->printed += count;
    return cli_print(list->cli, buffer_span(&list->out)) ? count : -1;
}

/* Prints at most `left` (0: all) requests, newest first. */
static int print_pages(struct request_list *list, const char *id, int64_t left) {
    struct buffer error;
    int status = CLI_EXIT_DONE;
    uint64_t after = 0;
    buffer_init(&error, CLI_ERROR_MOST);
    bool limited = left != 0;
    bool more = true;
    while (more && status == CLI_EXIT_DONE) {
        int64_t limit = limited && left < REQUESTS_PAGE ? left : REQUESTS_PAGE;
        buffer_clear(&list->text);
        if (!report_requests_json(list->cli->ledger, list->filter, id, id != NULL ? 0 : limit, after, &after,
                                  &list->text, &error)) {
            status = cli_fail(list->cli, "%s", buffer_text(&error));
            break;
        }
        int count = add_page(list, buffer_span(&list->text));
        left -= count;
        more = id == NULL && count == limit && (!limited || left > 0);
        status = count < 0 ? CLI_EXIT_FAILED : CLI_EXIT_DONE;
    }
    buffer_fini(&error);
    return status;
}

static int print_requests(struct request_list *list) {
    struct cli *cli = list->cli;
    const char *id = cli->values[CLI_ID];
    int64_t last = cli_given(cli, CLI_LAST) ? cli_count(cli, CLI_LAST) : 0;
    int status = CLI_EXIT_DONE;
    if (!cli_given(cli, CLI_LAST) || last != 0) {
        status = print_pages(list, id, last);
    }
    if (status == CLI_EXIT_DONE && cli->format == CLI_JSON_TEXT) {
        status = cli_print(cli, span_text(list->printed != 0 ? "]\n" : "[]\n")) ? status : CLI_EXIT_FAILED;
    }
    if (status == CLI_EXIT_DONE && id != NULL && list->printed == 0) {
        status = cli_fail(cli,
                          "there is no request %s; it may still run, be older than retention, or have been refused "
                          "before it reached an upstream",
                          id);
    }
    return status;
}

/* Adds one record to what is printed: a row, or a JSON object on a line of its own. */
static void add_record(struct request_list *list, const struct ledger_record *record) {
    buffer_clear(&list->text);
    report_write_record(&list->text, record);
    if (list->cli->format == CLI_JSON_TEXT) {
        buffer_append_span(&list->out, buffer_span(&list->text));
        buffer_append_byte(&list->out, '\n');
    } else if (json_parse(&list->doc, buffer_span(&list->text))) {
        cli_table_append(&list->table, &list->doc, 0, -1, &list->out);
    }
    list->printed++;
}

/* Visitor of --follow. Printing waits until the walk, which holds a snapshot of the store, is over. */
static bool on_record(void *context, const struct ledger_record *record) {
    struct request_list *list = context;
    list->next_sequence = record->sequence + 1;
    if (report_filter_matches(list->filter, record)) {
        add_record(list, record);
    }
    return list->out.len < FOLLOW_BATCH_BYTES;
}

/* Visitor that counts back to where --follow begins: the sequence of the oldest of the last N that match. */
struct follow_start {
    const struct report_filter *filter;
    int64_t left;
    uint64_t sequence;
    uint64_t newest;
};

static bool on_earlier(void *context, const struct ledger_record *record) {
    struct follow_start *start = context;
    start->newest = record->sequence > start->newest ? record->sequence : start->newest;
    if (start->left > 0 && report_filter_matches(start->filter, record)) {
        start->left--;
        start->sequence =
            start->sequence == 0 || record->sequence < start->sequence ? record->sequence : start->sequence;
    }
    return start->left > 0;
}

static bool find_follow_start(struct request_list *list, struct buffer *error) {
    struct cli *cli = list->cli;
    int64_t last = cli_given(cli, CLI_LAST) ? cli_count(cli, CLI_LAST) : FOLLOW_LAST;
    struct follow_start start = {.filter = list->filter, .left = last};
    if (!ledger_each_record(cli->ledger, list->filter->from_wall_ns, INT64_MAX, true, on_earlier, &start, error)) {
        return false;
    }
    list->next_sequence = start.sequence != 0 ? start.sequence : start.newest + 1;
    return true;
}

static int follow(struct request_list *list) {
    const struct timespec pause = {.tv_nsec = FOLLOW_POLL_MS * NS_PER_MS};
    struct buffer error;
    buffer_init(&error, CLI_ERROR_MOST);
    bool works = find_follow_start(list, &error);
    while (works && ferror(stdout) == 0) {
        buffer_clear(&list->out);
        works = ledger_each_record_from(list->cli->ledger, list->next_sequence, on_record, list, &error);
        if (list->out.len != 0) {
            (void)cli_print(list->cli, buffer_span(&list->out));
        }
        if (list->out.len < FOLLOW_BATCH_BYTES) {
            (void)nanosleep(&pause, NULL);
        }
    }
    int status = works ? CLI_EXIT_FAILED : cli_fail(list->cli, "%s", buffer_text(&error));
    buffer_fini(&error);
    return status;
}

int cli_requests(struct cli *cli) {
    struct filter filter;
    bool follows = cli_given(cli, CLI_FOLLOW) && strcmp(cli->values[CLI_FOLLOW], "no") != 0;
    int status = cli_load(cli);
    if (status == CLI_EXIT_DONE && follows && (cli_given(cli, CLI_ID) || cli_given(cli, CLI_TO))) {
        status = cli_misuse(cli, "--follow goes with neither --id nor --to");
    }
    if (status == CLI_EXIT_DONE) {
        status = read_filter(cli, &filter, false);
    }
    if (status == CLI_EXIT_DONE) {
        status = cli_open_ledger(cli);
    }
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    struct request_list list = {.cli = cli, .filter = &filter.report};
    cli_table_init(&list.table, request_columns, CLI_COUNT_OF(request_columns), cli->format == CLI_CSV);
    json_doc_init(&list.doc);
    buffer_init(&list.out, CLI_TEXT_MOST);
    buffer_init(&list.text, CLI_TEXT_MOST);
    status = follows ? follow(&list) : print_requests(&list);
    buffer_fini(&list.text);
    buffer_fini(&list.out);
    json_doc_fini(&list.doc);
    cli_table_fini(&list.table);
    return status;
}
