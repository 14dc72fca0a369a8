/* `serve`, `check`, `reference`, `reload`, `drain`, `stop`. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "master/cli_run.h"
#include "master/master.h"
#include "store/state_lock.h"

enum { RELOAD_TIMEOUT_S = 60, OLD_WORKERS_MOST_S = 5, POLL_MS = 20, NOTE_EVERY_S = 10 };

int cli_serve(struct cli *cli) {
    int status = cli_load_strictly(cli);
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    struct master_options options = {conf_find_file(cli->values[CLI_CONFIG]), cli->values[CLI_STATE]};
    struct conf *conf = cli->conf;
    cli->conf = NULL; /* the master owns it from here on */
    return master_serve(conf, &options);
}

int cli_check(struct cli *cli) {
    const char *path = conf_find_file(cli->values[CLI_CONFIG]);
    if (path == NULL) {
        return cli_load_strictly(cli); /* says what is missing */
    }
    struct conf_findings findings = {.count = 0};
    struct buffer out;
    buffer_init(&out, CLI_TEXT_MOST);
    cli->conf = conf_load(path, cli->values[CLI_STATE], &findings);
    if (cli->conf != NULL) {
        buffer_format(&out, "%s: ok\n", path);
    } else {
        conf_findings_print(&findings, &out);
    }
    bool printed = cli_print(cli, buffer_span(&out));
    buffer_fini(&out);
    conf_findings_free(&findings);
    return cli->conf == NULL ? CLI_EXIT_USAGE : printed ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
}

int cli_reference(struct cli *cli) {
    struct buffer out;
    buffer_init(&out, CLI_TEXT_MOST);
    conf_reference(&out);
    bool printed = cli_print(cli, buffer_span(&out));
    buffer_fini(&out);
    return printed ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
}

static void sleep_a_little(void) {
    const struct timespec pause = {.tv_nsec = POLL_MS * NS_PER_MS};
    (void)nanosleep(&pause, NULL);
}

static int send_signal(const struct cli *cli, int32_t master_pid, int number) {
    if (kill(master_pid, number) == 0) {
        return CLI_EXIT_DONE;
    }
    if (errno == EPERM) {
        return cli_fail(cli, "process %d belongs to another user; run this as root or as that user", (int)master_pid);
    }
    return cli_fail(cli, "process %d: %m", (int)master_pid);
}

/* Does a worker of an earlier configuration still take connections? */
static bool is_old_one_serving(const struct shm_map *map) {
    uint32_t generation = atomic_load(&map->header->generation);
    for (uint32_t i = 0; i < map->header->seat_count; i++) {
        const struct shm_seat_sh *seat = shm_seat(map, i);
        if (atomic_load(&seat->state) == SHM_SEAT_LIVE && seat->generation < generation) {
            return true;
        }
    }
    return false;
}

/* The old workers were told just before; what this command promises holds once they have heard it. */
static void await_old_workers(const struct shm_map *map) {
    int64_t deadline_ns = clock_mono_ns() + OLD_WORKERS_MOST_S * NS_PER_S;
    while (is_old_one_serving(map) && clock_mono_ns() < deadline_ns) {
        sleep_a_little();
    }
}

/* Waits until the master has finished a reload after `before` of them. */
static int await_reload(const struct cli *cli, const struct shm_map *map, const char *state_dir, uint32_t before) {
    int64_t deadline_ns = clock_mono_ns() + RELOAD_TIMEOUT_S * NS_PER_S;
    while (atomic_load(&map->header->reload_attempts) == before) {
        if (state_lock_holder(state_dir) == 0) {
            return cli_fail(cli, "the server has ended meanwhile; its log says why");
        }
        if (clock_mono_ns() > deadline_ns) {
            return cli_fail(cli, "the server has not finished within %d s; its log says what it waits for",
                            RELOAD_TIMEOUT_S);
        }
        sleep_a_little();
    }
    if (atomic_load(&map->header->reload_failed) == 0) {
        await_old_workers(map);
        return cli_print(cli, SPAN_LITERAL("reloaded\n")) ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
    }
    char report[SHM_REPORT_BYTES + 1];
    (void)span_copy(span_of(map->header->reload_report, strnlen(map->header->reload_report, SHM_REPORT_BYTES)), report,
                    sizeof(report));
    size_t len = strlen(report);
    while (len != 0 && report[len - 1] == '\n') {
        report[--len] = '\0';
    }
    return cli_misuse(cli, "the server kept its old configuration:\n%s", len != 0 ? report : "its log says why");
}

/* A file with findings is refused here. Variables and secrets that only the server has are the server's business. */
static int load_for_reload(struct cli *cli) {
    int status = cli_load(cli);
    if (status != CLI_EXIT_DONE || cli->finding_count == 0) {
        return status;
    }
    conf_free(cli->conf);
    cli->conf = NULL;
    return cli_load_strictly(cli);
}

int cli_reload(struct cli *cli) {
    struct shm_map map;
    int32_t master_pid = 0;
    int status = load_for_reload(cli);
    if (status == CLI_EXIT_DONE) {
        status = cli_attach_server(cli, &map, &master_pid);
    }
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    uint32_t before = atomic_load(&map.header->reload_attempts);
    status = send_signal(cli, master_pid, SIGHUP);
    if (status == CLI_EXIT_DONE) {
        status = await_reload(cli, &map, cli->conf->state_dir, before);
    }
    shm_map_close(&map);
    return status;
}

static uint64_t count_streams(const struct shm_map *map) {
    uint64_t streams = 0;
    for (uint32_t i = 0; i < map->header->seat_count; i++) {
        const struct shm_seat_sh *seat = shm_seat(map, i);
        uint32_t state = atomic_load(&seat->state);
        streams += state == SHM_SEAT_LIVE || state == SHM_SEAT_DRAINING ? atomic_load(&seat->streams) : 0;
    }
    return streams;
}

/* Tells the master to end and waits until it has let go of the state directory. */
static int end_server(struct cli *cli, int number) {
    struct shm_map map;
    int32_t master_pid = 0;
    int status = cli_attach_server(cli, &map, &master_pid);
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    const char *state_dir = cli_state_dir(cli, &status);
    status = send_signal(cli, master_pid, number);
    int64_t note_ns = clock_mono_ns() + NOTE_EVERY_S * NS_PER_S;
    while (status == CLI_EXIT_DONE && state_lock_holder(state_dir) != 0) {
        if (clock_mono_ns() > note_ns) {
            (void)fprintf(stderr, "tollgate: %s: waiting for %llu streams to end\n", cli->command->name,
                          (unsigned long long)count_streams(&map));
            note_ns += NOTE_EVERY_S * NS_PER_S;
        }
        sleep_a_little();
    }
    shm_map_close(&map);
    return status;
}

int cli_drain(struct cli *cli) { return end_server(cli, SIGTERM); }

int cli_stop(struct cli *cli) { return end_server(cli, SIGINT); }
