/* `status`: what the shared segment says about the server that runs. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "master/cli_run.h"
#include "shm/shm_breaker.h"

/* Resident bytes of a process; 0 when it is gone. */
static int64_t resident_bytes(int32_t pid) {
    char path[64];
    char text[128];
    (void)snprintf(path, sizeof(path), "/proc/%d/statm", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t len = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    text[len > 0 ? len : 0] = '\0';
    int64_t pages = 0;
    return sscanf(text, "%*d %" SCNd64, &pages) == 1 ? pages * sysconf(_SC_PAGESIZE) : 0;
}

static bool is_at_work(const struct shm_seat_sh *seat) {
    uint32_t state = atomic_load(&seat->state);
    return state == SHM_SEAT_LIVE || state == SHM_SEAT_DRAINING;
}

static uint64_t ledger_lag(const struct shm_map *map) {
    uint64_t lag = 0;
    for (uint32_t i = 0; i < map->header->seat_count; i++) {
        const struct shm_seat_sh *seat = shm_seat(map, i);
        uint64_t tail = atomic_load(&seat->ring_tail);
        uint64_t head = atomic_load(&seat->ring_head);
        lag += head > tail ? head - tail : 0;
    }
    return lag;
}

static void write_workers(struct json_writer *json, const struct shm_map *map) {
    int64_t now = clock_wall_ns();
    json_begin_array(json, "workers");
    for (uint32_t i = 0; i < map->header->seat_count; i++) {
        const struct shm_seat_sh *seat = shm_seat(map, i);
        if (!is_at_work(seat)) {
            continue;
        }
        int32_t pid = atomic_load(&seat->pid);
        int64_t uptime_ns = now - seat->started_wall_ns;
        json_begin_object(json, NULL);
        json_write_int(json, "pid", pid);
        json_write_int(json, "uptime_s", uptime_ns > 0 ? uptime_ns / NS_PER_S : 0);
        json_write_int(json, "streams", (int64_t)atomic_load(&seat->streams));
        json_write_int(json, "requests", (int64_t)atomic_load(&seat->counters[SHM_COUNTER_requests]));
        json_write_int(json, "rss_bytes", resident_bytes(pid));
        json_end_object(json);
    }
    json_end_array(json);
}

static void write_upstreams(struct json_writer *json, const struct shm_map *map) {
    json_begin_array(json, "upstreams");
    for (uint32_t i = 0; i < SHM_UPSTREAMS; i++) {
        const struct shm_upstream_sh *upstream = shm_upstream(map, i);
        if (upstream->name[0] == '\0') {
            continue;
        }
        uint64_t errors = 0;
        for (int kind = 0; kind < SHM_UPSTREAM_ERRORS; kind++) {
            errors += atomic_load(&upstream->errors[kind]);
        }
        json_begin_object(json, NULL);
        json_write_text(json, "name", upstream->name);
        json_write_text(json, "state", shm_breaker_state(upstream, clock_mono_ns()));
        json_write_int(json, "errors", (int64_t)errors);
        json_end_object(json);
    }
    json_end_array(json);
}

static void write_status(struct buffer *out, const struct shm_map *map, int32_t master_pid) {
    struct json_writer json = json_writer_on(out);
    json_begin_object(&json, NULL);
    json_write_text(&json, "version", TOLLGATE_VERSION);
    json_begin_object(&json, "master");
    json_write_int(&json, "pid", master_pid);
    json_end_object(&json);
    json_begin_object(&json, "ledger");
    json_write_int(&json, "pid", atomic_load(&map->header->ledger_pid));
    json_write_int(&json, "lag_records", (int64_t)ledger_lag(map));
    json_end_object(&json);
    json_begin_object(&json, "admin");
    json_write_int(&json, "pid", atomic_load(&map->header->admin_pid));
    json_end_object(&json);
    write_workers(&json, map);
    write_upstreams(&json, map);
    json_end_object(&json);
}

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
                      ledger_lag(map), atomic_load(&map->header->admin_pid),
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
    write_status(&text, &map, master_pid);
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
