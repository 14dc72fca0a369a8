/* `verify`, `backup`, `compact`. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "master/cli_run.h"

static int print_verdict(const struct cli *cli, const struct json_doc *doc, int result) {
    static const struct cli_column columns[] = {
        {"records", "records", CLI_COLUMN_COUNT, false},
        {"problem_count", "differences", CLI_COLUMN_COUNT, false},
        {"problems", "problems", CLI_COLUMN_LIST, false},
    };
    int problems = json_member(doc, result, "problems");
    int64_t count = json_size(doc, problems);
    (void)!json_int(doc, json_member(doc, result, "problem_count"), &count); /* the list itself ends at some length */
    int found = count == 0 ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
    if (cli->format != CLI_TABLE) {
        int status = cli_print_object(cli, doc, result, columns, CLI_COUNT_OF(columns));
        return status != CLI_EXIT_DONE ? status : found;
    }
    struct buffer out;
    buffer_init(&out, CLI_TEXT_MOST);
    for (int problem = json_first(doc, problems); problem >= 0; problem = json_next(doc, problem)) {
        struct buffer text;
        buffer_init(&text, CLI_ERROR_MOST);
        if (json_string(doc, problem, &text)) {
            cli_render_safe(buffer_span(&text), &out);
        }
        buffer_append_byte(&out, '\n');
        buffer_fini(&text);
    }
    struct span records = json_raw(doc, json_member(doc, result, "records"));
    buffer_format(&out, "%.*s records, ", SPAN_ARGUMENTS(records));
    if (count == 0) {
        buffer_append_text(&out, "every roll-up and balance agrees\n");
    } else {
        buffer_format(&out, "%lld differences\n", (long long)count);
    }
    bool printed = cli_print(cli, buffer_span(&out));
    buffer_fini(&out);
    return printed ? found : CLI_EXIT_FAILED;
}

int cli_verify(struct cli *cli) {
    struct cli_request request;
    struct json_doc doc;
    int result = -1;
    json_doc_init(&doc);
    cli_request_begin(&request, "verify");
    int status = cli_call(cli, &request, false, &doc, &result);
    if (status == CLI_EXIT_DONE) {
        status = print_verdict(cli, &doc, result);
    }
    json_doc_fini(&doc);
    return status;
}

/* Runs an operation whose result people need not read: they get one line. */
static int run_plain(struct cli *cli, struct cli_request *request, const char *line, const char *subject) {
    struct json_doc doc;
    int result = -1;
    json_doc_init(&doc);
    int status = cli_call(cli, request, false, &doc, &result);
    if (status == CLI_EXIT_DONE) {
        struct buffer out;
        buffer_init(&out, CLI_ERROR_MOST);
        if (cli->format == CLI_JSON_TEXT) {
            buffer_append_span(&out, json_raw(&doc, result));
        } else {
            buffer_format(&out, "%s%s", line, subject);
        }
        buffer_append_byte(&out, '\n');
        status = cli_print(cli, buffer_span(&out)) ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
        buffer_fini(&out);
    }
    json_doc_fini(&doc);
    return status;
}

/* The server has another working directory: what is relative to ours is made absolute. NULL when that fails. */
static char *make_absolute(const char *path) {
    char *directory = path[0] == '/' ? NULL : getcwd(NULL, 0);
    char *out = NULL;
    if (path[0] == '/') {
        out = strdup(path);
    } else if (directory == NULL || asprintf(&out, "%s/%s", directory, path) < 0) {
        out = NULL;
    }
    free(directory);
    return out;
}

int cli_backup(struct cli *cli) {
    struct cli_request request;
    char *directory = make_absolute(cli->operands[0]);
    if (directory == NULL) {
        return cli_fail(cli, "%s: %m", cli->operands[0]);
    }
    cli_request_begin(&request, "backup");
    json_write_text(&request.json, "dir", directory);
    int status = run_plain(cli, &request, "copied the store to ", directory);
    free(directory);
    return status;
}

int cli_compact(struct cli *cli) {
    struct cli_request request;
    cli_request_begin(&request, "compact");
    return run_plain(cli, &request, "compacted the store", "");
}
