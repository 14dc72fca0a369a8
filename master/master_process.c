#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "master/master_boot.h"
#include "master/master_child.h"
#include "master/master_notify.h"
#include "master/master_reload.h"
#include "master/master_state.h"

#define TURN_MOST_NS NS_PER_S
#define LOOP_GAP_NS (3 * NS_PER_S)
#define LOG_RETRY_NS (20 * NS_PER_MS)
#define SWEEP_POLL_NS (20 * NS_PER_MS)
#define SWEEP_MOST_NS (15 * NS_PER_S)
#define DRAIN_EXTRA_NS (2 * NS_PER_S)
#define ADMIN_OUT_MOST_NS (5 * NS_PER_S)
#define LEDGER_OUT_MOST_NS (60 * NS_PER_S)
enum { EVENTS_A_TURN = 64, START_DEATHS_MOST = 5 };

static const char *const phase_names[] = {"boot", "starting", "running", "reloading", "draining", "killing", "exit"};

void master_goto(struct master *master, enum master_phase phase, enum master_step step, int64_t timeout_ns) {
    if (phase != master->phase) {
        LOG(LOG_INFO, "master_phase", log_text("from", phase_names[master->phase]), log_text("to", phase_names[phase]));
    }
    LOG(LOG_DEBUG, "master_step", log_text("phase", phase_names[phase]), log_int("step", step));
    master->phase = phase;
    master->step = step;
    master->step_deadline_mono_ns = timeout_ns != 0 ? master->now_mono_ns + timeout_ns : 0;
}

/* The one line that says the server serves. */
static void print_ready(struct master *master) {
    const struct master_generation *generation = master->current;
    const struct conf *conf = generation->conf;
    int shown = 0;
    while (shown < conf->listen_count - 1 && conf->listens[shown].tls) {
        shown++;
    }
    shown = conf->listen_count > 0 && conf->listens[shown].tls ? 0 : shown;
    struct buffer line;
    buffer_init(&line, 4096);
    buffer_append_text(&line, "tollgate: ready: ");
    if (conf->listen_count > 0) {
        master_listen_print(&generation->listen_set.listeners[shown], conf->listens[shown].tls, &line);
    }
    buffer_append_text(&line, " admin ");
    master_listen_print(&generation->listen_set.admin, false, &line);
    buffer_format(&line, " workers %d\n", generation->worker_count);
    master_log_print(&master->log, buffer_span(&line));
    buffer_fini(&line);
}

static void retire_workers(struct master *master, int signal_number, int64_t kill_after_ns) {
    master_child_retire_all(master, ROLE_WORKER, 0, signal_number, kill_after_ns);
}

/* Ends the server, with exit status `status`: workers finish, then admin, then the ledger. */
static void begin_drain(struct master *master, int status) {
    master->exit_status = status;
    atomic_store(&master->map.header->draining, 1);
    master_notify("STOPPING=1");
    int64_t drain_ns = master->current->conf->drain_timeout_ms * NS_PER_MS + DRAIN_EXTRA_NS;
    retire_workers(master, SIGTERM, drain_ns);
    master_reload_abandon(master);
    /* A connection queued on a socket that only we still hold would wait for nobody. */
    master_listen_close(&master->current->listen_set);
    master_goto(master, MASTER_DRAINING, STEP_WORKERS_OUT, 0);
}

static void begin_kill(struct master *master) {
    retire_workers(master, SIGKILL, 0);
    master_child_retire_all(master, ROLE_ADMIN, 0, SIGKILL, 0);
    master_goto(master, MASTER_KILLING, master->step, 0);
}

static bool is_swept(const struct master *master) {
    for (uint32_t i = 0; i < master->map.header->seat_count; i++) {
        const struct shm_seat_sh *seat = shm_seat(&master->map, i);
        if (atomic_load(&seat->state) != SHM_SEAT_FREE ||
            atomic_load(&seat->ring_head) != atomic_load(&seat->ring_tail)) {
            return false;
        }
    }
    return true;
}

static void send_ledger_out(struct master *master) {
    for (struct master_child *child = master->children; child != NULL; child = child->next) {
        if (child->role == ROLE_LEDGER) {
            master_child_retire(master, child, SIGTERM, LEDGER_OUT_MOST_NS);
        }
    }
    master_goto(master, master->phase, STEP_LEDGER_OUT_LAST, 0);
}

static void advance_end(struct master *master) {
    switch (master->step) {
    case STEP_WORKERS_OUT:
        if (master_child_count(master, ROLE_WORKER, 0) == 0) {
            master_child_retire_all(master, ROLE_ADMIN, 0, SIGTERM, ADMIN_OUT_MOST_NS);
            master_goto(master, master->phase, STEP_ADMIN_OUT, 0);
        }
        break;
    case STEP_ADMIN_OUT:
        if (master_child_count(master, ROLE_ADMIN, 0) == 0) {
            master_goto(master, master->phase, STEP_SWEPT, SWEEP_MOST_NS);
        }
        break;
    case STEP_SWEPT:
        if (is_swept(master) || master->ledger.given_up || master_step_is_late(master)) {
            send_ledger_out(master);
        }
        break;
    default:
        if (master_child_count(master, ROLE_LEDGER, 0) == 0) {
            master_goto(master, MASTER_EXIT, STEP_NONE, 0);
        }
    }
}

static void fail_start(struct master *master, int status, const char *reason) {
    LOG(LOG_ERROR, "start_failed", log_text("reason", reason));
    begin_drain(master, status);
}

static void enter_running(struct master *master) {
    atomic_store_explicit(&master->map.header->generation, master->current->number, memory_order_release);
    master_goto(master, MASTER_RUNNING, STEP_NONE, 0);
    print_ready(master);
    master_notify("READY=1");
}

static void advance_start(struct master *master) {
    struct buffer error;
    if (master->ledger.given_up || master_child_any_given_up(master->current)) {
        fail_start(master, CHILD_EXIT_CONFIGURATION, "a process cannot work with this configuration or state");
    } else if (master_child_most_deaths(master, master->current) >= START_DEATHS_MOST) {
        fail_start(master, EXIT_FAILURE, "a process keeps dying");
    } else if (master->step == STEP_LEDGER_IN && master_child_ledger_ready(master)) {
        buffer_init(&error, 4096);
        master_goto(master, MASTER_STARTING, STEP_WORKERS_IN, 0);
        if (!master_listen_start(&master->current->listen_set, &error)) {
            fail_start(master, EXIT_FAILURE, buffer_text(&error));
        }
        buffer_fini(&error);
    } else if (master->step == STEP_WORKERS_IN && master_child_all_ready(master->current)) {
        enter_running(master);
    }
}

static bool has_workers_left(const struct master_generation *generation) {
    for (int i = 0; i < generation->worker_count; i++) {
        if (!generation->workers[i].given_up) {
            return true;
        }
    }
    return false;
}

static void advance_run(struct master *master) {
    if (master->ledger.given_up) {
        LOG(LOG_ERROR, "ledger_unusable", log_text("reason", "without a ledger nothing can be served; ending"));
        begin_drain(master, CHILD_EXIT_CONFIGURATION);
    } else if (!has_workers_left(master->current)) {
        LOG(LOG_ERROR, "no_workers_left", log_text("reason", "every worker refused its configuration; ending"));
        begin_drain(master, CHILD_EXIT_CONFIGURATION);
    }
}

static void advance_phase(struct master *master) {
    switch (master->phase) {
    case MASTER_STARTING:
        advance_start(master);
        break;
    case MASTER_RUNNING:
        advance_run(master);
        break;
    case MASTER_RELOADING:
        master_reload_advance(master);
        break;
    case MASTER_DRAINING:
    case MASTER_KILLING:
        advance_end(master);
        break;
    case MASTER_BOOT:
    case MASTER_EXIT:
        break;
    }
}

/* Starts whom the phase and its step want. The ledger is wanted even while ending, until it is sent out: it commits. */
static void fill_posts(struct master *master) {
    bool ledger_leaves = master->step == STEP_LEDGER_OUT || master->step == STEP_UNDO_LEDGER_OUT ||
                         master->step == STEP_LEDGER_OUT_LAST || master->phase == MASTER_EXIT;
    if (!ledger_leaves) {
        master_child_fill_ledger(master);
    }
    if (!master_is_ending(master) && !(master->phase == MASTER_STARTING && master->step == STEP_LEDGER_IN)) {
        master_child_fill_generation(master, master->current);
    }
    if (master->phase == MASTER_RELOADING && master->step == STEP_WORKERS_IN) {
        master_child_fill_generation(master, master->next);
    }
}

static void obey_signals(struct master *master) {
    if (master->signals.child_ended) {
        master->signals.child_ended = false;
        master_child_reap(master);
    }
    if (master->signals.terminate_count > 0 && !master_is_ending(master)) {
        begin_drain(master, EXIT_SUCCESS);
    }
    if (master->signals.terminate_count > 1 && master->phase == MASTER_DRAINING) {
        begin_kill(master);
    }
    if (master->signals.reload && master->phase == MASTER_RUNNING) {
        master->signals.reload = false;
        master_reload_begin(master);
    }
}

static void obey_log_signals(struct master *master) {
    if (master->signals.reopen) {
        struct buffer error;
        buffer_init(&error, 4096);
        master->signals.reopen = false;
        if (master_log_reopen(&master->log, &error)) {
            LOG(LOG_INFO, "log_reopened");
        } else {
            LOG(LOG_ERROR, "log_not_reopened", log_text("reason", buffer_text(&error)));
        }
        buffer_fini(&error);
    }
    if (master->signals.upgrade) {
        master->signals.upgrade = false;
        LOG(LOG_WARN, "upgrade_refused", log_text("reason", "this version cannot be replaced in place; restart it"));
    }
}

/* Reads all flags in one fixed order and goes as far as it can without waiting. */
static void advance(struct master *master) {
    enum master_phase phase;
    enum master_step step;
    obey_signals(master);
    obey_log_signals(master);
    master_child_watch(master);
    do {
        phase = master->phase;
        step = master->step;
        fill_posts(master);
        advance_phase(master);
    } while (phase != master->phase || step != master->step);
}

/* Once a second: what was dropped or held back, and a sign of life to systemd. */
static void tick(struct master *master) {
    if (master->now_mono_ns - master->ticked_mono_ns < NS_PER_S) {
        return;
    }
    master->ticked_mono_ns = master->now_mono_ns;
    int64_t dropped = master_log_take_dropped(&master->log);
    if (dropped > 0) {
        LOG(LOG_WARN, "log_lines_dropped", log_int("lines", dropped));
    }
    for (struct master_child *child = master->children; child != NULL; child = child->next) {
        if (child->stream->capped_lines > 0) {
            LOG(LOG_WARN, "log_lines_capped", log_text("child", child->stream->name),
                log_int("lines", child->stream->capped_lines));
            child->stream->capped_lines = 0;
        }
    }
    int64_t watchdog_ns = master_notify_watchdog_ns();
    if (watchdog_ns > 0 && master->now_mono_ns - master->notified_mono_ns >= watchdog_ns / 2) {
        master->notified_mono_ns = master->now_mono_ns;
        master_notify("WATCHDOG=1");
    }
}

static void read_stream(struct master *master, struct master_log_stream *stream) {
    if (!master_log_stream_read(&master->log, stream, master->now_mono_ns)) {
        (void)epoll_ctl(master->epoll_fd, EPOLL_CTL_DEL, stream->fd, NULL);
    }
}

static void on_descriptor(struct master *master, int fd) {
    if (fd == master->signals.fd) {
        master_signal_read(&master->signals);
    } else if (fd == master->own_stream->fd) {
        read_stream(master, master->own_stream);
    }
    for (struct master_child *child = master->children; child != NULL; child = child->next) {
        if (fd == child->ready_fd) {
            master_child_on_ready(master, child);
        } else if (fd == child->stream->fd) {
            read_stream(master, child->stream);
        }
    }
}

static int turn_timeout_ms(const struct master *master, bool log_pending) {
    int64_t wake_mono_ns = master_child_next_wake(master);
    int64_t wait_ns = wake_mono_ns == INT64_MAX ? TURN_MOST_NS : wake_mono_ns - clock_mono_ns();
    wait_ns = wait_ns > TURN_MOST_NS ? TURN_MOST_NS : wait_ns;
    wait_ns = log_pending && wait_ns > LOG_RETRY_NS ? LOG_RETRY_NS : wait_ns;
    wait_ns = master->step == STEP_SWEPT && wait_ns > SWEEP_POLL_NS ? SWEEP_POLL_NS : wait_ns;
    return wait_ns <= 0 ? 0 : (int)(wait_ns / NS_PER_MS) + 1;
}

/* When we were stopped ourselves, or starved, the silence of the others proves nothing. */
static void forgive_gap(struct master *master, int64_t before_mono_ns) {
    if (master->now_mono_ns - before_mono_ns < LOOP_GAP_NS) {
        return;
    }
    for (struct master_child *child = master->children; child != NULL; child = child->next) {
        child->watched_from_mono_ns = master->now_mono_ns;
    }
}

static void run_loop(struct master *master) {
    struct epoll_event events[EVENTS_A_TURN];
    while (master->phase != MASTER_EXIT) {
        advance(master);
        tick(master);
        bool log_pending = master_log_flush(&master->log);
        if (master->phase == MASTER_EXIT) {
            break;
        }
        int count = epoll_wait(master->epoll_fd, events, EVENTS_A_TURN, turn_timeout_ms(master, log_pending));
        int64_t before_mono_ns = master->now_mono_ns;
        master->now_mono_ns = clock_mono_ns();
        forgive_gap(master, before_mono_ns);
        for (int i = 0; i < count; i++) {
            on_descriptor(master, events[i].data.fd);
        }
    }
}

int master_serve(struct conf *conf, const struct master_options *options) {
    struct master *master = calloc(1, sizeof(*master));
    CHECK(master != NULL);
    int status = EXIT_FAILURE;
    bool remove_segment = false;
    if (master_boot(master, conf, options)) {
        LOG(LOG_INFO, "master_started", log_text("version", TOLLGATE_VERSION), log_int("pid", getpid()),
            log_int("workers", conf->workers));
        master_goto(master, MASTER_STARTING, STEP_LEDGER_IN, 0);
        run_loop(master);
        remove_segment = master->ledger_ended_well && is_swept(master);
        status = master->exit_status;
        LOG(LOG_INFO, "master_ended", log_int("status", status), log_int("segment_kept", !remove_segment));
    } else if (master->signals.terminate_count > 0) {
        status = EXIT_SUCCESS;
    }
    master_boot_undo(master, remove_segment);
    free(master);
    return status;
}
