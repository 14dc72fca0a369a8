/* `top`: a live view of the server in the terminal, drawn anew every second. Streams come from the shared segment, the
 * last minute's requests, tokens and money from the ledger. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/calendar.h"
#include "base/clock.h"
#include "master/cli_run.h"
#include "store/report.h"
#include "store/state_lock.h"

/* LINES_FIXED: the heading, the tables' headings and the empty lines. */
enum { REFRESH_MS = 1000, WINDOW_S = 60, ROWS_DEFAULT = 24, COLUMNS_DEFAULT = 80, LINES_FIXED = 7, ROWS_MOST = 256 };

/* What the terminal was before; given back on every way out. */
struct terminal {
    bool is_raw;
    struct termios before;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number) { interrupted = number; }

static void catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
}

/* Keys come one by one, unechoed; the picture is drawn on the terminal's other screen, without a cursor. */
static void enter_terminal(struct terminal *terminal) {
    terminal->is_raw = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &terminal->before) == 0;
    if (terminal->is_raw) {
        struct termios raw = terminal->before;
        raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
        raw.c_cc[VMIN] = 0;
        raw.c_cc[VTIME] = 0;
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    (void)fputs("\033[?1049h\033[?25l", stdout);
}

static void leave_terminal(const struct terminal *terminal) {
    (void)fputs("\033[?25h\033[?1049l", stdout);
    (void)fflush(stdout);
    if (terminal->is_raw) {
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &terminal->before);
    }
}

static struct winsize measure_terminal(void) {
    struct winsize size = {.ws_row = 0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) {
        size = (struct winsize){.ws_row = ROWS_DEFAULT, .ws_col = COLUMNS_DEFAULT};
    }
    return size;
}

/* A tenant or a model. */
struct top_row {
    char name[SHM_MODEL_NAME_BYTES];
    int64_t streams;  /* now */
    int64_t requests; /* of the last minute, as all that follows */
    int64_t tokens;
    int64_t price_nusd;
    int64_t cost_nusd;
};

struct top_rows {
    struct top_row items[ROWS_MOST];
    int count;
};

struct picture {
    struct cli *cli;
    const struct shm_map *map;
    struct top_rows tenants;
    struct top_rows models;
    struct buffer out;
    struct buffer text;
    struct buffer error;
    struct json_doc doc;
};

/* The row of this name, made when it is new; the last row when there are too many names. */
static struct top_row *find_row(struct top_rows *rows, struct span name) {
    for (int i = 0; i < rows->count; i++) {
        if (span_is(name, rows->items[i].name)) {
            return &rows->items[i];
        }
    }
    if (rows->count == ROWS_MOST) {
        (void)span_copy(SPAN_LITERAL("(others)"), rows->items[ROWS_MOST - 1].name, SHM_MODEL_NAME_BYTES);
        return &rows->items[ROWS_MOST - 1];
    }
    struct top_row *row = &rows->items[rows->count++];
    *row = (struct top_row){.streams = 0};
    (void)span_copy(name, row->name, sizeof(row->name));
    return row;
}

/* A text that another process may be writing right now. */
static struct span shared_text(const char *text, size_t room) { return span_of(text, strnlen(text, room)); }

/* Counts what runs now, from the slots of the workers at work. */
static void count_live(struct picture *picture) {
    const struct shm_header_sh *header = picture->map->header;
    for (uint32_t i = 0; i < header->seat_count; i++) {
        uint32_t state = atomic_load(&shm_seat(picture->map, i)->state);
        bool at_work = state == SHM_SEAT_LIVE || state == SHM_SEAT_DRAINING;
        for (uint32_t j = 0; at_work && j < SHM_SLOTS_PER_SEAT; j++) {
            const struct shm_slot_sh *slot = shm_slot(picture->map, i, j);
            if (atomic_load(&slot->state) != SHM_SLOT_LIVE || slot->tenant_index >= header->tenant_capacity) {
                continue;
            }
            const struct shm_tenant_sh *tenant = shm_tenant(picture->map, slot->tenant_index);
            find_row(&picture->tenants, shared_text(tenant->name, SHM_NAME_BYTES))->streams++;
            find_row(&picture->models, shared_text(slot->record.model_served, SHM_MODEL_NAME_BYTES))->streams++;
        }
    }
}

static int64_t read_int(const struct json_doc *doc, int object, const char *field) {
    int64_t value = 0;
    return json_int(doc, json_member(doc, object, field), &value) ? value : 0;
}

static int64_t read_money(const struct json_doc *doc, int object, const char *field) {
    int64_t value = 0;
    return json_money(doc, json_member(doc, object, field), &value) ? value : 0;
}

static void add_settled(struct top_rows *rows, const struct json_doc *doc, int object, const char *name_field) {
    char name[SHM_MODEL_NAME_BYTES];
    if (!json_string_copy(doc, json_member(doc, object, name_field), name, sizeof(name))) {
        return;
    }
    struct top_row *row = find_row(rows, span_text(name));
    row->requests += read_int(doc, object, "requests");
    row->tokens += read_int(doc, object, "input_tokens") + read_int(doc, object, "output_tokens");
    row->price_nusd = money_add(row->price_nusd, read_money(doc, object, "price_usd"));
    row->cost_nusd = money_add(row->cost_nusd, read_money(doc, object, "cost_usd"));
}

/* Adds what the last minute's records say, by tenant or by model. */
static bool count_settled(struct picture *picture, enum report_group_kind kind, struct top_rows *rows) {
    int64_t now = clock_wall_ns();
    struct report_filter filter = {.from_wall_ns = now - WINDOW_S * NS_PER_S, .to_wall_ns = now + 1};
    struct report_group group = {.kind = kind};
    buffer_clear(&picture->text);
    if (!report_usage_json(picture->cli->ledger, &filter, &group, 1, NULL, &picture->text, &picture->error) ||
        !json_parse(&picture->doc, buffer_span(&picture->text))) {
        return false;
    }
    int items = json_member(&picture->doc, 0, "rows");
    for (int row = json_first(&picture->doc, items); row >= 0; row = json_next(&picture->doc, row)) {
        add_settled(rows, &picture->doc, row, kind == REPORT_BY_TENANT ? "tenant" : "model");
    }
    return true;
}

/* For qsort: the most expensive first, then the busiest, then by name. */
static int compare_rows(const void *a, const void *b) {
    const struct top_row *left = a;
    const struct top_row *right = b;
    if (left->price_nusd != right->price_nusd) {
        return left->price_nusd < right->price_nusd ? 1 : -1;
    }
    if (left->streams != right->streams) {
        return left->streams < right->streams ? 1 : -1;
    }
    return strcmp(left->name, right->name);
}

static void write_row(struct json_writer *json, const struct top_row *row) {
    json_begin_object(json, NULL);
    json_write_text(json, "name", row->name);
    json_write_int(json, "streams", row->streams);
    json_write_int(json, "requests", row->requests);
    json_write_int(json, "tokens", row->tokens / WINDOW_S);
    json_write_nusd(json, "price", row->price_nusd);
    json_write_nusd(json, "cost", row->cost_nusd);
    json_end_object(json);
}

/* Draws at most `most` rows as a table. */
static void draw_rows(struct picture *picture, struct top_rows *rows, const char *title, int most) {
    const struct cli_column columns[] = {
        {"name", title, CLI_COLUMN_TEXT, false},
        {"streams", "streams", CLI_COLUMN_COUNT, false},
        {"requests", "requests/min", CLI_COLUMN_COUNT, false},
        {"tokens", "tokens/s", CLI_COLUMN_COUNT, false},
        {"price", "price USD/min", CLI_COLUMN_MONEY, false},
        {"cost", "cost USD/min", CLI_COLUMN_MONEY, false},
    };
    struct cli_table table;
    buffer_clear(&picture->text);
    struct json_writer json = json_writer_on(&picture->text);
    qsort(rows->items, (size_t)rows->count, sizeof(rows->items[0]), compare_rows);
    json_begin_array(&json, NULL);
    for (int i = 0; i < rows->count && i < most; i++) {
        write_row(&json, &rows->items[i]);
    }
    json_end_array(&json);
    cli_table_init(&table, columns, CLI_COUNT_OF(columns), false);
    if (json_parse(&picture->doc, buffer_span(&picture->text))) {
        cli_table_append(&table, &picture->doc, 0, -1, &picture->out);
    }
    cli_table_fini(&table);
}

static void draw_heading(struct picture *picture) {
    const struct shm_header_sh *header = picture->map->header;
    struct top_row sum = {.streams = 0};
    char now[RFC3339_BYTES];
    char price[NUSD_TEXT_BYTES];
    char cost[NUSD_TEXT_BYTES];
    for (int i = 0; i < picture->tenants.count; i++) {
        const struct top_row *row = &picture->tenants.items[i];
        sum.streams += row->streams;
        sum.requests += row->requests;
        sum.tokens += row->tokens;
        sum.price_nusd = money_add(sum.price_nusd, row->price_nusd);
        sum.cost_nusd = money_add(sum.cost_nusd, row->cost_nusd);
    }
    calendar_rfc3339(clock_wall_ns(), now);
    buffer_format(&picture->out, "tollgate %s  %s  master %d%s\n", TOLLGATE_VERSION, now,
                  atomic_load(&header->master_pid), atomic_load(&header->draining) != 0 ? "  draining" : "");
    buffer_format(&picture->out,
                  "%lld streams  %lld requests/min  %lld tokens/s  price %s USD/min  cost %s USD/min\n\n",
                  (long long)sum.streams, (long long)sum.requests, (long long)(sum.tokens / WINDOW_S),
                  money_format_short(sum.price_nusd, price), money_format_short(sum.cost_nusd, cost));
}

/* Makes the whole picture; rows: how many lines there are for it. */
static bool draw(struct picture *picture, int rows) {
    int tables = rows > LINES_FIXED + 2 ? (rows - LINES_FIXED) / 2 : 1;
    picture->tenants.count = 0;
    picture->models.count = 0;
    buffer_clear(&picture->out);
    buffer_clear(&picture->error);
    count_live(picture);
    if (!count_settled(picture, REPORT_BY_TENANT, &picture->tenants) ||
        !count_settled(picture, REPORT_BY_MODEL, &picture->models)) {
        return false;
    }
    draw_heading(picture);
    draw_rows(picture, &picture->tenants, "tenant", tables);
    buffer_append_byte(&picture->out, '\n');
    draw_rows(picture, &picture->models, "model", tables);
    return true;
}

/* How many bytes of a line fit into so many columns. */
static size_t fit(struct span line, int columns) {
    for (size_t i = 0; i < line.len; i++) {
        bool begins_character = ((unsigned char)line.base[i] & 0xC0) != 0x80;
        if (begins_character && columns-- == 0) {
            return i;
        }
    }
    return line.len;
}

/* Puts the picture on the terminal: every line cut to its width, the rest of it cleared. */
static void show(const struct buffer *out, int columns) {
    struct span rest = buffer_span(out);
    (void)fputs("\033[H", stdout);
    while (rest.len != 0) {
        const char *end = memchr(rest.base, '\n', rest.len);
        size_t len = end != NULL ? (size_t)(end - rest.base) : rest.len;
        (void)fwrite(rest.base, 1, fit(span_of(rest.base, len), columns), stdout);
        (void)fputs("\033[K\r\n", stdout);
        rest = span_skip(rest, len + 1);
    }
    (void)fputs("\033[J", stdout);
    (void)fflush(stdout);
}

/* Waits for the next picture. Returns false when q was typed, or a signal came. */
static bool await_next(const struct terminal *terminal) {
    struct pollfd typed = {.fd = terminal->is_raw ? STDIN_FILENO : -1, .events = POLLIN};
    int64_t end_ns = clock_mono_ns() + REFRESH_MS * NS_PER_MS;
    for (int64_t left_ms = REFRESH_MS; left_ms > 0; left_ms = (end_ns - clock_mono_ns()) / NS_PER_MS) {
        char key = 0;
        int count = poll(&typed, 1, (int)left_ms);
        if (interrupted != 0) {
            return false;
        }
        if (count > 0 && (read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q')) {
            return false;
        }
    }
    return true;
}

static int run_live(struct picture *picture, const char *state_dir) {
    struct terminal terminal = {.is_raw = false};
    bool drawn = true;
    bool has_ended = false;
    catch_signals();
    enter_terminal(&terminal);
    do {
        struct winsize size = measure_terminal();
        drawn = draw(picture, size.ws_row);
        if (drawn) {
            show(&picture->out, size.ws_col);
        }
        has_ended = state_lock_holder(state_dir) == 0;
    } while (drawn && !has_ended && ferror(stdout) == 0 && await_next(&terminal));
    leave_terminal(&terminal);
    if (!drawn) {
        return cli_fail(picture->cli, "%s", buffer_text(&picture->error));
    }
    return has_ended ? cli_fail(picture->cli, "the server has ended") : CLI_EXIT_DONE;
}

static int run_once(struct picture *picture) {
    if (!draw(picture, ROWS_MOST * 2)) {
        return cli_fail(picture->cli, "%s", buffer_text(&picture->error));
    }
    return cli_print(picture->cli, buffer_span(&picture->out)) ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
}

static int run_top(struct cli *cli, const struct shm_map *map) {
    struct picture *picture = calloc(1, sizeof(*picture));
    CHECK(picture != NULL);
    *picture = (struct picture){.cli = cli, .map = map};
    buffer_init(&picture->out, CLI_TEXT_MOST);
    buffer_init(&picture->text, CLI_TEXT_MOST);
    buffer_init(&picture->error, CLI_ERROR_MOST);
    json_doc_init(&picture->doc);
    bool once = (cli_given(cli, CLI_ONCE) && strcmp(cli->values[CLI_ONCE], "no") != 0) || isatty(STDOUT_FILENO) == 0;
    int status = once ? run_once(picture) : run_live(picture, cli->conf->state_dir);
    json_doc_fini(&picture->doc);
    buffer_fini(&picture->error);
    buffer_fini(&picture->text);
    buffer_fini(&picture->out);
    free(picture);
    return status;
}

int cli_top(struct cli *cli) {
    struct shm_map map;
    int32_t master_pid = 0;
    int status = cli_load(cli);
    if (status == CLI_EXIT_DONE) {
        status = cli_attach_server(cli, &map, &master_pid);
    }
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    status = cli_open_ledger(cli);
    if (status == CLI_EXIT_DONE) {
        status = run_top(cli, &map);
    }
    shm_map_close(&map);
    return status;
}
