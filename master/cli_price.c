/* `price ...`. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "master/cli_run.h"

enum { IMPORT_MOST_BYTES = 64 << 20, READ_BYTES = 65536 };

static const struct cli_column price_columns[] = {
    {"model", "model", CLI_COLUMN_TEXT, false},
    {"input", "input", CLI_COLUMN_MONEY, false},
    {"output", "output", CLI_COLUMN_MONEY, false},
    {"cached_input", "cached input", CLI_COLUMN_MONEY, false},
    {"cache_write", "cache write", CLI_COLUMN_MONEY, false},
    {"from", "from", CLI_COLUMN_TEXT, false},
    {"source", "source", CLI_COLUMN_TEXT, false},
};

int cli_price_list(struct cli *cli) {
    return cli_print_list(cli, "price.list", false, NULL, price_columns, CLI_COUNT_OF(price_columns));
}

static int run_price(struct cli *cli, struct cli_request *request, const struct cli_column *columns, int column_count) {
    struct json_doc doc;
    int result = -1;
    json_doc_init(&doc);
    int status = cli_call(cli, request, true, &doc, &result);
    if (status == CLI_EXIT_DONE) {
        status = cli_print_object(cli, &doc, result, columns, column_count);
    }
    json_doc_fini(&doc);
    return status;
}

int cli_price_set(struct cli *cli) {
    struct cli_request request;
    int status = cli_load(cli);
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    cli_request_begin(&request, "price.set");
    json_write_text(&request.json, "model", cli->operands[0]);
    cli_add_amount(cli, &request.json, CLI_INPUT, "input");
    cli_add_amount(cli, &request.json, CLI_OUTPUT, "output");
    cli_add_amount(cli, &request.json, CLI_CACHED_INPUT, "cached_input");
    cli_add_amount(cli, &request.json, CLI_CACHE_WRITE, "cache_write");
    status = cli_add_moment(cli, &request.json, CLI_FROM, "from", false);
    if (status != CLI_EXIT_DONE) {
        buffer_fini(&request.text);
        return status;
    }
    return run_price(cli, &request, price_columns, CLI_COUNT_OF(price_columns));
}

/* Reads a whole file, or stdin for "-". */
static int read_file(const struct cli *cli, const char *path, struct buffer *out) {
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return cli_fail(cli, "%s: %m", path);
    }
    int status = CLI_EXIT_DONE;
    ssize_t count = 1;
    while (count > 0 && status == CLI_EXIT_DONE) {
        char *to = buffer_reserve(out, READ_BYTES);
        if (to == NULL) {
            status = cli_fail(cli, "%s: larger than %d MiB; import it in parts", path, IMPORT_MOST_BYTES >> 20);
            break;
        }
        count = read(fd, to, READ_BYTES);
        if (count > 0) {
            buffer_added(out, (size_t)count);
        } else if (count < 0 && errno != EINTR) {
            status = cli_fail(cli, "%s: %m", path);
        } else if (count < 0) {
            count = 1;
        }
    }
    if (!is_stdin) {
        (void)close(fd);
    }
    return status;
}

int cli_price_import(struct cli *cli) {
    static const struct cli_column columns[] = {
        {"imported", "prices set", CLI_COLUMN_COUNT, false},
        {"not_configured", "models the configuration lacks", CLI_COLUMN_LIST, false},
    };
    struct cli_request request;
    struct buffer file;
    buffer_init(&file, IMPORT_MOST_BYTES);
    int status = read_file(cli, cli->operands[0], &file);
    if (status == CLI_EXIT_DONE) {
        cli_request_begin(&request, "price.import");
        json_write_span(&request.json, "csv", buffer_span(&file));
        status = run_price(cli, &request, columns, CLI_COUNT_OF(columns));
    }
    buffer_fini(&file);
    return status;
}
