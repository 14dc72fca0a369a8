/* `status`: what the shared segment says about the server that runs. */
#include <inttypes.h>

#include "master/cli_run.h"
#include "shm/shm_status.h"

static void append_section(const struct cli *cli, const struct json_doc *doc, const char *member,
                           const struct cli_column *columns, int column_count, struct buffer *out) {
    struct cli_table table;
    cli_table_init(&table, columns, column_count, cli->format == CLI_CSV);
    cli_table_append(&table, doc, json_member(doc, 0, member), -1, out);
    cli_table_fini(&table);
}

/* The processes on one line, then the workers, then the upstreams. CSV: the workers' table, a blank line, the
 * upstreams'. */
static void append_tables(const struct cli *cli, const struct json_doc *doc, const struct shm_map *map,
                          struct buffer *out) {
    static const struct cli_column workers[] = {
        {"pid", "worker", CLI_COLUMN_COUNT, false},         {"uptime_s", "uptime", CLI_COLUMN_SPAN, false},
        {"streams", "streams", CLI_COLUMN_COUNT, false},    {"requests", "requests", CLI_COLUMN_COUNT, false},
        {"rss_bytes", "resident", CLI_COLUMN_BYTES, false},
    };
    static const struct cli_column upstreams[] = {
        {"name", "upstream", CLI_COLUMN_TEXT, false},
        {"state", "state", CLI_COLUMN_TEXT, false},
        {"errors", "errors", CLI_COLUMN_COUNT, false},
    };
    if (cli->format == CLI_TABLE) {
        buffer_format(out, "tollgate %s  master %d  ledger %d (%" PRIu64 " records behind)  admin %d%s\n\n",
                      TOLLGATE_VERSION, atomic_load(&map->header->master_pid), atomic_load(&map->header->ledger_pid),
                      shm_status_ledger_lag(map), atomic_load(&map->header->admin_pid),
                      atomic_load(&map->header->draining) != 0 ? "  draining" : "");
    }
    append_section(cli, doc, "workers", workers, CLI_COUNT_OF(workers), out);
    buffer_append_text(out, cli->format == CLI_CSV ? "\r\n" : "\n");
    append_section(cli, doc, "upstreams", upstreams, CLI_COUNT_OF(upstreams), out);
}

int cli_status(struct cli *cli) {
    struct shm_map map;
    struct json_doc doc;
    struct buffer text;
    struct buffer out;
    int32_t master_pid = 0;
    int status = cli_attach_server(cli, &map, &master_pid);
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    buffer_init(&text, CLI_TEXT_MOST);
    buffer_init(&out, CLI_TEXT_MOST);
    json_doc_init(&doc);
    shm_status_write(&text, &map);
    if (cli->format == CLI_JSON_TEXT) {
        buffer_append_span(&out, buffer_span(&text));
        buffer_append_byte(&out, '\n');
    } else if (json_parse(&doc, buffer_span(&text))) {
        append_tables(cli, &doc, &map, &out);
    }
    status = cli_print(cli, buffer_span(&out)) ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
    json_doc_fini(&doc);
    buffer_fini(&out);
    buffer_fini(&text);
    shm_map_close(&map);
    return status;
}
