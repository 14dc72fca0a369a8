#include "master/cli_run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/calendar.h"
#include "base/clock.h"
#include "store/damage.h"
#include "store/state_lock.h"

enum { LIST_PAGE = 1000 };

static int refuse_missing_file(const struct cli *cli) {
    const char *path = cli->values[CLI_CONFIG];
    if (path != NULL) {
        return cli_misuse(cli, "%s: there is no such configuration file", path);
    }
    return cli_misuse(cli,
                      "there is no configuration: neither ./tollgate.yaml nor /etc/tollgate/tollgate.yaml exists; name "
                      "one with -c FILE, copy the sample conf/sample.yaml, or try it out with ./dev run");
}

int cli_refuse_findings(const struct cli *cli, const char *path, struct conf_findings *findings) {
    struct buffer text;
    buffer_init(&text, CLI_TEXT_MOST);
    conf_findings_print(findings, &text);
    int status = cli_misuse(cli, "%s is not valid; correct this:", path);
    (void)fputs(buffer_text(&text), stderr);
    buffer_fini(&text);
    conf_findings_free(findings);
    return status;
}

static int use_zone(const struct cli *cli) {
    const char *zone = cli->values[CLI_TZ] != NULL ? cli->values[CLI_TZ] : cli->conf->timezone;
    if (zone != NULL && !calendar_use_zone(zone)) {
        return cli_misuse(cli, "this system knows no time zone \"%s\"; use a name such as Europe/Berlin or UTC", zone);
    }
    return CLI_EXIT_DONE;
}

int cli_load_strictly(struct cli *cli) {
    const char *path = conf_find_file(cli->values[CLI_CONFIG]);
    if (path == NULL) {
        return refuse_missing_file(cli);
    }
    struct conf_findings findings;
    cli->conf = conf_load(path, cli->values[CLI_STATE], &findings);
    if (cli->conf == NULL) {
        return cli_refuse_findings(cli, path, &findings);
    }
    conf_findings_free(&findings);
    return use_zone(cli);
}

int cli_load(struct cli *cli) {
    if (cli->conf != NULL) {
        return CLI_EXIT_DONE;
    }
    const char *path = conf_find_file(cli->values[CLI_CONFIG]);
    if (path == NULL && cli->values[CLI_STATE] == NULL) {
        return refuse_missing_file(cli);
    }
    struct conf_findings findings;
    cli->conf = conf_load_lenient(path, cli->values[CLI_STATE], &findings);
    if (cli->conf == NULL) {
        return cli_refuse_findings(cli, path, &findings);
    }
    cli->finding_count = findings.count;
    conf_findings_free(&findings);
    return use_zone(cli);
}

const char *cli_state_dir(struct cli *cli, int *status) {
    *status = CLI_EXIT_DONE;
    if (cli->values[CLI_STATE] != NULL) {
        return cli->values[CLI_STATE];
    }
    *status = cli_load(cli);
    return *status == CLI_EXIT_DONE ? cli->conf->state_dir : NULL;
}

static void close_client(struct cli *cli) {
    if (cli->client != NULL) {
        client_close(cli->client);
        cli->client = NULL;
    }
}

void cli_close(struct cli *cli) {
    close_client(cli);
    if (cli->ledger != NULL) {
        ledger_close(cli->ledger);
        cli->ledger = NULL;
    }
    if (cli->conf != NULL) {
        conf_free(cli->conf);
        cli->conf = NULL;
    }
    if (cli->answer.base != NULL) {
        explicit_bzero(cli->answer.base, cli->answer.size);
    }
    buffer_fini(&cli->answer);
}

void cli_request_begin(struct cli_request *request, const char *operation) {
    buffer_init(&request->text, CLI_TEXT_MOST);
    request->json = json_writer_on(&request->text);
    json_begin_object(&request->json, NULL);
    json_write_text(&request->json, "op", operation);
}

/* Without a server the names of tiers and models are checked against the configuration read here. */
static void warn_of_findings(const struct cli *cli) {
    if (cli->finding_count != 0 && (cli->command->accepts & (CLI_BIT(CLI_TIER) | CLI_BIT(CLI_MODELS))) != 0) {
        (void)fprintf(stderr, "tollgate: warning: %s has %d finding%s; tollgate check -c %s lists them\n",
                      cli->conf->path, cli->finding_count, cli->finding_count == 1 ? "" : "s", cli->conf->path);
    }
}

static int open_client(struct cli *cli, bool make_state) {
    if (cli->client != NULL) {
        return CLI_EXIT_DONE;
    }
    int status = cli_load(cli);
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    struct buffer error;
    buffer_init(&error, CLI_ERROR_MOST);
    cli->client = client_open(cli->conf, make_state, &error);
    if (cli->client == NULL) {
        status = cli_fail(cli, "%s", buffer_text(&error));
    } else if (!client_is_remote(cli->client)) {
        warn_of_findings(cli);
    }
    buffer_fini(&error);
    return status;
}

/* Prints the error of an answer. What the user asked for wrongly is wrong usage; the rest could not be done. */
static int report_refusal(const struct cli *cli, const struct json_doc *doc) {
    char message[CLI_ERROR_MOST / 2];
    int error = json_member(doc, 0, "error");
    if (!json_string_copy(doc, json_member(doc, error, "message"), message, sizeof(message))) {
        (void)span_copy(SPAN_LITERAL("the ledger refused without saying why; see the server's log"), message,
                        sizeof(message));
    }
    return json_string_is(doc, json_member(doc, error, "kind"), "invalid") ? cli_misuse(cli, "%s", message)
                                                                           : cli_fail(cli, "%s", message);
}

int cli_call(struct cli *cli, struct cli_request *request, bool make_state, struct json_doc *doc, int *result) {
    json_end_object(&request->json);
    int status = open_client(cli, make_state);
    if (status == CLI_EXIT_DONE) {
        buffer_clear(&cli->answer);
        bool done = client_call(cli->client, buffer_span(&request->text), &cli->answer);
        if (!json_parse(doc, buffer_span(&cli->answer))) {
            status =
                cli_fail(cli, "the ledger's answer cannot be read (%s); is the server of another version?", doc->error);
        } else if (!done) {
            status = report_refusal(cli, doc);
        } else {
            *result = json_member(doc, 0, "result");
        }
    }
    if (request->text.base != NULL) {
        explicit_bzero(request->text.base, request->text.size);
    }
    buffer_fini(&request->text);
    return status;
}

int cli_open_ledger(struct cli *cli) {
    struct cli_request request;
    struct json_doc doc;
    int result = -1;
    json_doc_init(&doc);
    cli_request_begin(&request, "flush");
    int status = cli_call(cli, &request, false, &doc, &result);
    json_doc_fini(&doc);
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    close_client(cli);
    struct buffer error;
    buffer_init(&error, CLI_ERROR_MOST);
    damage_expect(cli->conf->state_dir);
    cli->ledger = ledger_open(cli->conf->state_dir, LEDGER_READ, &error);
    if (cli->ledger == NULL) {
        status = cli_fail(cli, "%s", buffer_text(&error));
    }
    buffer_fini(&error);
    return status;
}

void cli_add_text(const struct cli *cli, struct json_writer *json, enum cli_option_id option, const char *field) {
    if (cli_given(cli, option)) {
        json_write_text(json, field, cli_is_none(cli, option) ? NULL : cli->values[option]);
    }
}

int64_t cli_count(const struct cli *cli, enum cli_option_id option) {
    int64_t value = 0;
    for (const char *c = cli->values[option]; *c != '\0'; c++) {
        value = value * 10 + (*c - '0'); /* parsing has checked that it fits */
    }
    return value;
}

void cli_add_count(const struct cli *cli, struct json_writer *json, enum cli_option_id option, const char *field) {
    if (!cli_given(cli, option)) {
        return;
    }
    if (cli_is_none(cli, option)) {
        json_write_null(json, field);
        return;
    }
    json_write_int(json, field, cli_count(cli, option));
}

void cli_add_amount(const struct cli *cli, struct json_writer *json, enum cli_option_id option, const char *field) {
    int64_t value = 0;
    if (!cli_given(cli, option)) {
        return;
    }
    if (cli_is_none(cli, option) || !money_parse(span_text(cli->values[option]), &value)) {
        json_write_null(json, field);
        return;
    }
    json_write_nusd(json, field, value);
}

void cli_add_list(const struct cli *cli, struct json_writer *json, enum cli_option_id option, const char *field) {
    if (!cli_given(cli, option)) {
        return;
    }
    if (cli_is_none(cli, option)) {
        json_write_null(json, field);
        return;
    }
    json_begin_array(json, field);
    for (const char *at = cli->values[option]; *at != '\0';) {
        size_t len = strcspn(at, ",");
        struct span item = span_trim(span_of(at, len));
        if (item.len != 0) {
            json_write_span(json, NULL, item);
        }
        at += len + (at[len] == ',' ? 1 : 0);
    }
    json_end_array(json);
}

int cli_moment(const struct cli *cli, enum cli_option_id option, bool future, int64_t *wall_ns) {
    struct span text = span_text(cli->values[option]);
    int64_t now = clock_wall_ns();
    if (future ? calendar_parse_future(text, now, wall_ns) : calendar_parse(text, now, wall_ns)) {
        return CLI_EXIT_DONE;
    }
    return cli_misuse(cli, "--%s: \"%.80s\" is no time; use 30d, 12h, 2026-11-21 or 2026-11-21T10:00:00Z",
                      cli_options[option].name, cli->values[option]);
}

int cli_add_moment(const struct cli *cli, struct json_writer *json, enum cli_option_id option, const char *field,
                   bool future) {
    char text[RFC3339_BYTES];
    int64_t wall_ns = 0;
    if (!cli_given(cli, option)) {
        return CLI_EXIT_DONE;
    }
    if (cli_is_none(cli, option)) {
        json_write_null(json, field);
        return CLI_EXIT_DONE;
    }
    int status = cli_moment(cli, option, future, &wall_ns);
    if (status == CLI_EXIT_DONE) {
        calendar_rfc3339(wall_ns, text);
        json_write_text(json, field, text);
    }
    return status;
}

bool cli_print(const struct cli *cli, struct span text) {
    size_t written = text.len != 0 ? fwrite(text.base, 1, text.len, stdout) : 0;
    if (written != text.len || fflush(stdout) != 0) {
        (void)cli_fail(cli, "standard output: %m");
        return false;
    }
    return true;
}

int cli_print_object(const struct cli *cli, const struct json_doc *doc, int object, const struct cli_column *columns,
                     int column_count) {
    struct buffer out;
    buffer_init(&out, CLI_TEXT_MOST);
    if (cli->format == CLI_JSON_TEXT) {
        buffer_append_span(&out, json_raw(doc, object));
        buffer_append_byte(&out, '\n');
    } else {
        cli_render_object(doc, object, columns, column_count, cli->format == CLI_CSV, &out);
    }
    bool printed = cli_print(cli, buffer_span(&out));
    buffer_fini(&out);
    return printed ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
}

/* A list while it is asked for and printed. */
struct list {
    struct cli *cli;
    const char *operation;
    bool paged;
    void (*add_arguments)(const struct cli *cli, struct json_writer *json);
    struct cli_table table;
    struct buffer out;
    struct buffer after; /* the last row's id, or its name where rows have no id: the next page goes on behind it */
    struct json_doc doc;
    bool has_rows;
};

static void add_rows(struct list *list, int rows) {
    bool json = list->cli->format == CLI_JSON_TEXT;
    const struct json_doc *doc = &list->doc;
    if (!json) {
        cli_table_append(&list->table, doc, rows, -1, &list->out);
    }
    for (int row = json_first(doc, rows); row >= 0; row = json_next(doc, row)) {
        if (json) {
            buffer_append_text(&list->out, list->has_rows ? "," : "[");
            buffer_append_span(&list->out, json_raw(doc, row));
        }
        list->has_rows = true;
        int id = json_member(doc, row, "id");
        buffer_clear(&list->after);
        (void)!json_string(doc, id >= 0 ? id : json_member(doc, row, "name"), &list->after);
    }
}

/* Asks for the next page and prints it. *more: another one follows. */
static int print_page(struct list *list, bool *more) {
    struct cli_request request;
    int result = -1;
    cli_request_begin(&request, list->operation);
    if (list->add_arguments != NULL) {
        list->add_arguments(list->cli, &request.json);
    }
    if (list->paged) {
        json_write_int(&request.json, "limit", LIST_PAGE);
    }
    if (list->paged && list->after.len != 0) {
        json_write_span(&request.json, "after", buffer_span(&list->after));
    }
    int status = cli_call(list->cli, &request, false, &list->doc, &result);
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    buffer_clear(&list->out);
    add_rows(list, json_member(&list->doc, result, "data"));
    *more = list->after.len != 0 && json_type_of(&list->doc, json_member(&list->doc, result, "has_more")) == JSON_TRUE;
    return cli_print(list->cli, buffer_span(&list->out)) ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
}

int cli_print_list(struct cli *cli, const char *operation, bool paged,
                   void (*add_arguments)(const struct cli *cli, struct json_writer *json),
                   const struct cli_column *columns, int column_count) {
    struct list list = {.cli = cli, .operation = operation, .paged = paged, .add_arguments = add_arguments};
    cli_table_init(&list.table, columns, column_count, cli->format == CLI_CSV);
    buffer_init(&list.out, CLI_TEXT_MOST);
    buffer_init(&list.after, CLI_ERROR_MOST);
    json_doc_init(&list.doc);
    int status = CLI_EXIT_DONE;
    for (bool more = true; more && status == CLI_EXIT_DONE;) {
        status = print_page(&list, &more);
    }
    if (status == CLI_EXIT_DONE && cli->format == CLI_JSON_TEXT) {
        status = cli_print(cli, span_text(list.has_rows ? "]\n" : "[]\n")) ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
    }
    json_doc_fini(&list.doc);
    buffer_fini(&list.after);
    buffer_fini(&list.out);
    cli_table_fini(&list.table);
    return status;
}

int cli_attach_server(struct cli *cli, struct shm_map *map, int32_t *master_pid) {
    int status = CLI_EXIT_DONE;
    const char *state_dir = cli_state_dir(cli, &status);
    if (state_dir == NULL) {
        return status;
    }
    pid_t holder = state_lock_holder(state_dir);
    if (holder == 0) {
        return cli_fail(cli, "no server runs on %s; start one with tollgate serve", state_dir);
    }
    struct buffer error;
    buffer_init(&error, CLI_ERROR_MOST);
    enum shm_attach attached = shm_map_attach(map, state_dir, false, &error);
    if (attached == SHM_ATTACHED) {
        *master_pid = atomic_load(&map->header->master_pid);
        if (*master_pid > 0 && (kill(*master_pid, 0) == 0 || errno == EPERM)) {
            buffer_fini(&error);
            return CLI_EXIT_DONE;
        }
        shm_map_close(map);
    }
    if (attached == SHM_ATTACH_OTHER_LAYOUT || attached == SHM_ATTACH_FAILED) {
        status = cli_fail(cli, "the server %d on %s cannot be looked at: %s", (int)holder, state_dir,
                          error.len != 0 ? buffer_text(&error) : "it is of another version");
    } else {
        status = cli_fail(cli, "process %d holds %s, but no server is up there yet; try again in a moment", (int)holder,
                          state_dir);
    }
    buffer_fini(&error);
    return status;
}
