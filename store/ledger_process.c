#include "store/ledger_process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/commit.h"
#include "store/control.h"
#include "store/damage.h"
#include "store/operations.h"
#include "store/publish.h"
#include "store/reader_watch.h"
#include "store/recompute.h"
#include "store/retention.h"
#include "store/spend.h"
#include "store/sweep.h"

enum {
    GATHER_MS = 10,       /* how long a batch may gather after the first wake */
    FLUSH_MS = 50,        /* how long a record may wait when its wake was lost */
    BATCH_RECORDS = 4096, /* with so many waiting there is nothing to gain by gathering */
    PRUNE_ROWS = 4096,
};
static const int64_t retry_ns = NS_PER_S;
static const int64_t minute_ns = 60 * NS_PER_S;
static const int64_t hour_ns = 3600 * NS_PER_S;
/* How long an ending ledger that can't commit goes on trying; the segment keeps what is left for the next start. */
static const int64_t last_tries_ns = 5 * NS_PER_S;

struct ledger_process {
    struct heritage *heritage;
    struct ledger *ledger;
    struct publisher *publisher;
    struct operations operations;
    struct control *control;
    struct recompute recompute;
    struct reader_watch reader_watch;
    int signal_fd;
    bool ending; /* told to end */
    bool master_gone;
    int64_t ending_since_mono_ns;
    bool refusing; /* the last commit failed */
    int64_t retry_mono_ns;
    int64_t woken_mono_ns; /* first wake since the last commit; 0: none */
    int64_t next_second_mono_ns;
    int64_t next_minute_mono_ns;
    int64_t next_cleaning_mono_ns;
};

enum fd_index { FD_WAKE, FD_SIGNAL, FD_MASTER, FD_CONTROL_FIRST };

/* --- start --- */

static int open_signals(void) {
    sigset_t ends;
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGTERM);
    (void)sigaddset(&ends, SIGQUIT);
    (void)sigprocmask(SIG_BLOCK, &ends, NULL);
    /* SIGXFSZ: a limit on the size of files is a failed commit, not an end. */
    const int ignored[] = {SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE, SIGXFSZ};
    for (size_t at = 0; at < sizeof ignored / sizeof ignored[0]; at++) {
        (void)signal(ignored[at], SIG_IGN);
    }
    return signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC);
}

static int64_t flush(void *context);

/* Opens the books and the socket and publishes. Returns CHILD_EXIT_DONE to go on. */
static int open_books(struct ledger_process *process, struct buffer *error) {
    struct heritage *heritage = process->heritage;
    const struct conf *conf = heritage->conf;
    enum kv_status status = KV_OK;
    process->ledger = ledger_open_sized(conf->state_dir, LEDGER_WRITE, LEDGER_MAP_BYTES, &status, error);
    if (process->ledger == NULL) {
        return status == KV_FOREIGN ? CHILD_EXIT_CONFIGURATION : CHILD_EXIT_FAILED;
    }
    (void)kv_check_readers(process->ledger->kv);
    if (!spend_use_zone(process->ledger, conf->timezone, error) ||
        !commit_forget_others(process->ledger, heritage->map.header->incarnation, error)) {
        return CHILD_EXIT_FAILED;
    }
    recompute_init(&process->recompute, &heritage->map);
    process->publisher = publisher_new(&heritage->map, conf, process->ledger);
    if (!publisher_all(process->publisher, error)) {
        return CHILD_EXIT_CONFIGURATION;
    }
    process->operations = (struct operations){
        .ledger = process->ledger, .conf = conf, .publisher = process->publisher, .flush = flush, .context = process};
    process->control = control_open(conf->state_dir, &process->operations, error);
    return process->control != NULL ? CHILD_EXIT_DONE : CHILD_EXIT_FAILED;
}

static void say_ready(struct ledger_process *process) {
    struct heritage *heritage = process->heritage;
    atomic_store(&heritage->map.header->ledger_heartbeat_mono_ns, clock_mono_ns());
    atomic_store(&heritage->map.header->ledger_ready, heritage->generation);
    if (heritage->ready_fd >= 0) {
        (void)!write(heritage->ready_fd, "r", 1);
        (void)close(heritage->ready_fd);
        heritage->ready_fd = -1;
    }
}

static void close_books(struct ledger_process *process) {
    control_close(process->control);
    publisher_free(process->publisher);
    ledger_close(process->ledger);
    if (process->signal_fd >= 0) {
        (void)close(process->signal_fd);
    }
}

/* --- commit --- */

static void note_commit_failed(struct ledger_process *process, const struct buffer *error) {
    struct shm_header_sh *header = process->heritage->map.header;
    if (!process->refusing) {
        LOG(LOG_ERROR, "ledger_cannot_commit", log_text("why", buffer_text(error)),
            log_text("effect", "new requests are refused, nothing is lost; trying again every second"));
    }
    process->refusing = true;
    atomic_store(&header->ledger_refuses, 1);
    process->retry_mono_ns = clock_mono_ns() + retry_ns;
}

static void note_commit_worked(struct ledger_process *process) {
    if (process->refusing) {
        LOG(LOG_INFO, "ledger_commits_again");
        process->refusing = false;
    }
    if (atomic_load(&process->heritage->map.header->ledger_refuses) != 0) {
        atomic_store(&process->heritage->map.header->ledger_refuses, 0);
    }
}

static bool commit(struct ledger_process *process) {
    struct buffer error;
    buffer_init(&error, 4096);
    process->woken_mono_ns = 0;
    int64_t committed =
        commit_rings(process->ledger, &process->heritage->map, publisher_spend, process->publisher, &error);
    if (committed < 0) {
        note_commit_failed(process, &error);
    } else {
        note_commit_worked(process);
    }
    buffer_fini(&error);
    return committed >= 0;
}

/* The operations' flush: everything that was settled when it was called. */
static int64_t flush(void *context) {
    struct ledger_process *process = context;
    if (sweep_has_dead(&process->heritage->map)) {
        (void)sweep_dead_seats(&process->heritage->map);
        recompute_want(&process->recompute);
    }
    return commit(process) ? (int64_t)commit_pending(&process->heritage->map) : -1;
}

/* For the recompute: nothing settled may be left uncommitted. */
static bool commit_all(void *context) {
    struct ledger_process *process = context;
    while (commit_pending(&process->heritage->map) != 0) {
        if (!commit(process)) {
            return false;
        }
    }
    return true;
}

static void commit_when_due(struct ledger_process *process) {
    int64_t now_mono_ns = clock_mono_ns();
    uint64_t pending = commit_pending(&process->heritage->map);
    if (process->refusing && now_mono_ns < process->retry_mono_ns) {
        return;
    }
    bool gathering = process->woken_mono_ns != 0 && now_mono_ns < process->woken_mono_ns + GATHER_MS * NS_PER_MS;
    if (process->refusing || (pending != 0 && (pending >= BATCH_RECORDS || !gathering || process->ending))) {
        (void)commit(process);
    }
}

/* --- now and then --- */

static void log_failure(const char *what, const struct buffer *error) {
    LOG(LOG_ERROR, "ledger_upkeep_failed", log_text("what", what), log_text("why", buffer_text(error)));
}

/* One small batch, so that commits never wait long. Returns whether there is more to do. */
static bool clean_a_little(struct ledger_process *process) {
    struct buffer error;
    int64_t now_wall_ns = clock_wall_ns();
    int64_t kept_ms = process->heritage->conf->requests_retention_ms;
    int deleted = 0;
    buffer_init(&error, 4096);
    if (kept_ms > 0 && kept_ms < now_wall_ns / NS_PER_MS) {
        deleted = retention_delete(process->ledger, now_wall_ns - kept_ms * NS_PER_MS, RETENTION_BATCH, &error);
    }
    if (deleted == 0) {
        deleted = spend_prune(process->ledger, now_wall_ns, PRUNE_ROWS, &error);
    }
    if (deleted < 0) {
        log_failure("retention", &error);
    }
    buffer_fini(&error);
    return deleted > 0;
}

/* Each second; slots of readers that died are looked for each minute. */
static void look_after_readers(struct ledger_process *process, int64_t now_mono_ns) {
    struct kv *kv = process->ledger->kv;
    if (kv == NULL) {
        return;
    }
    (void)reader_watch_step(&process->reader_watch, kv, now_mono_ns, READER_GROWTH_BYTES);
    if (now_mono_ns >= process->next_minute_mono_ns) {
        process->next_minute_mono_ns = now_mono_ns + minute_ns;
        int freed = kv_check_readers(kv);
        if (freed != 0) {
            LOG(LOG_INFO, "dead_readers_freed", log_int("count", freed));
        }
    }
}

static void upkeep(struct ledger_process *process) {
    int64_t now_mono_ns = clock_mono_ns();
    struct shm_map *map = &process->heritage->map;
    atomic_store(&map->header->ledger_heartbeat_mono_ns, now_mono_ns);
    if (sweep_has_dead(map)) {
        (void)sweep_dead_seats(map);
        process->woken_mono_ns = 0;
        recompute_want(&process->recompute);
    }
    if (atomic_load(&map->header->pairs_full) != 0) {
        recompute_want(&process->recompute);
    }
    if (now_mono_ns >= process->next_second_mono_ns) {
        process->next_second_mono_ns = now_mono_ns + NS_PER_S;
        if (publisher_tick(process->publisher, clock_wall_ns())) {
            recompute_want(&process->recompute);
        }
        look_after_readers(process, now_mono_ns);
    }
    if (now_mono_ns >= process->next_cleaning_mono_ns && !process->refusing && !process->ending) {
        process->next_cleaning_mono_ns = clean_a_little(process) ? 0 : now_mono_ns + hour_ns;
    }
}

/* --- loop --- */

static void read_wakes(struct ledger_process *process) {
    uint64_t count = 0;
    (void)!read(process->heritage->ledger_wake_fd, &count, sizeof count);
    if (process->woken_mono_ns == 0) {
        process->woken_mono_ns = clock_mono_ns();
    }
}

static void start_ending(struct ledger_process *process) {
    if (!process->ending) {
        process->ending = true;
        process->ending_since_mono_ns = clock_mono_ns();
    }
}

static int poll_timeout_ms(const struct ledger_process *process) {
    if (process->ending || process->next_cleaning_mono_ns == 0 || process->recompute.pausing) {
        return process->refusing ? FLUSH_MS : 1;
    }
    return process->woken_mono_ns != 0 ? GATHER_MS : FLUSH_MS;
}

static void wait_and_handle(struct ledger_process *process) {
    struct pollfd fds[FD_CONTROL_FIRST + CONTROL_FDS_MOST];
    fds[FD_WAKE] = (struct pollfd){.fd = process->heritage->ledger_wake_fd, .events = POLLIN};
    fds[FD_SIGNAL] = (struct pollfd){.fd = process->signal_fd, .events = POLLIN};
    fds[FD_MASTER] =
        (struct pollfd){.fd = process->master_gone ? -1 : process->heritage->master_alive_fd, .events = POLLIN};
    int control_count = control_poll_set(process->control, fds + FD_CONTROL_FIRST);
    int ready = poll(fds, (nfds_t)FD_CONTROL_FIRST + (nfds_t)control_count, poll_timeout_ms(process));
    if (ready <= 0) {
        return;
    }
    if (fds[FD_WAKE].revents != 0) {
        read_wakes(process);
    }
    if (fds[FD_SIGNAL].revents != 0) {
        struct signalfd_siginfo got;
        (void)!read(process->signal_fd, &got, sizeof got);
        start_ending(process);
    }
    if (fds[FD_MASTER].revents != 0) {
        LOG(LOG_WARN, "master_gone", log_text("effect", "the ledger ends when the workers have"));
        process->master_gone = true;
    }
    control_handle(process->control, fds + FD_CONTROL_FIRST, control_count);
}

/* May it leave? *code is set then. */
static bool is_over(struct ledger_process *process, int *code) {
    const struct shm_map *map = &process->heritage->map;
    if (process->master_gone && !process->ending && sweep_mark_gone(map) == 0) {
        start_ending(process);
    }
    if (!process->ending) {
        return false;
    }
    bool empty = commit_pending(map) == 0;
    bool gave_up = process->refusing && clock_mono_ns() > process->ending_since_mono_ns + last_tries_ns;
    if (!empty && gave_up) {
        LOG(LOG_ERROR, "ledger_ends_behind", log_int("records_left_in_segment", (int64_t)commit_pending(map)));
    }
    *code = empty ? CHILD_EXIT_DONE : CHILD_EXIT_FAILED;
    return empty || gave_up;
}

static int serve(struct ledger_process *process) {
    int code = CHILD_EXIT_DONE;
    while (!is_over(process, &code)) {
        wait_and_handle(process);
        upkeep(process);
        commit_when_due(process);
        recompute_step(&process->recompute, commit_all, process);
    }
    return code;
}

int ledger_main(struct heritage *heritage) {
    struct ledger_process process = {.heritage = heritage, .signal_fd = open_signals()};
    struct buffer error;
    log_set_up(heritage->conf->log.level, heritage->conf->log.format, "ledger");
    buffer_init(&error, 4096);
    damage_expect(heritage->conf->state_dir);
    int code = process.signal_fd >= 0 ? open_books(&process, &error) : CHILD_EXIT_FAILED;
    damage_forget();
    if (code != CHILD_EXIT_DONE) {
        LOG(LOG_ERROR, "ledger_cannot_start", log_text("why", buffer_text(&error)));
    } else {
        say_ready(&process);
        code = serve(&process);
    }
    buffer_fini(&error);
    close_books(&process);
    return code;
}
