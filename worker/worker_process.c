#include "worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/calendar.h"
#include "base/clock.h"
#include "base/log.h"
#include "worker/front_listen.h"
#include "worker/journal.h"
#include "worker/worker_state.h"
#include "worker/worker_wake.h"

#define LAST_WORDS_NS (1000 * NS_PER_MS)
/* After a reload a kept connection that is in use is served once more and closed by its answer; one that lies idle is
 * closed, so that it does not meet the old configuration later. */
#define RELOAD_IDLE_NS (20 * NS_PER_MS)
/* One that has said nothing yet is on its way. */
#define RELOAD_SILENT_NS (1000 * NS_PER_MS)

enum { TURN_MOST_MS = 1000, PAUSED_TURN_MS = 5, SCRATCH_BYTES_MOST = 16 << 20 };

#define WORKER_OF(pointer, member) ((struct worker *)(void *)((char *)(pointer)-offsetof(struct worker, member)))

/* While draining: ends connections that nothing runs on. */
static void close_idle(struct worker *worker) {
    if (worker->refusing && worker->requests == NULL) {
        front_close_idle(worker->front, 0, 0);
    } else if (worker->draining && !worker->refusing) {
        front_close_idle(worker->front, RELOAD_IDLE_NS, RELOAD_SILENT_NS);
    }
}

/* The server ends: refuse new work and set a deadline. A reload: only stop accepting, however long the streams last. */
static void begin_drain(struct worker *worker, bool server_ends) {
    if (server_ends && !worker->refusing) {
        worker->refusing = true;
        worker->drain_deadline_mono_ns = clock_mono_ns() + worker->conf->drain_timeout_ms * NS_PER_MS;
    }
    if (worker->draining) {
        return;
    }
    worker->draining = true;
    front_drain(worker->front);
    close_idle(worker);
    /* `tollgate reload` returns once it sees this. */
    atomic_store_explicit(&worker->seat->state, SHM_SEAT_DRAINING, memory_order_release);
    loop_timer_set(worker->loop, &worker->second, clock_mono_ns());
    LOG(LOG_INFO, "worker_draining", log_int("requests", worker->request_count));
}

static void on_signal(struct loop_watch *watch, uint32_t events) {
    struct worker *worker = WORKER_OF(watch, signals);
    struct signalfd_siginfo info;
    (void)events;
    while (read(watch->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        /* SIGUSR1 only ends the wait: the ledger has changed the epoch. */
        if (info.ssi_signo != SIGUSR1) {
            begin_drain(worker, info.ssi_signo == SIGTERM);
        }
    }
}

/* The master is gone: nobody would restart us, so end as on SIGTERM. */
static void on_master_gone(struct loop_watch *watch, uint32_t events) {
    struct worker *worker = WORKER_OF(watch, master_alive);
    (void)events;
    loop_watch_clear(worker->loop, watch);
    begin_drain(worker, true);
}

static void on_second(struct loop_timer *timer) {
    struct worker *worker = WORKER_OF(timer, second);
    int64_t now_mono_ns = clock_mono_ns();
    atomic_store_explicit(&worker->seat->heartbeat_mono_ns, now_mono_ns, memory_order_relaxed);
    journal_keep_up(worker, now_mono_ns);
    close_idle(worker);
    int64_t next_ns = worker->draining ? 100 * NS_PER_MS : NS_PER_S;
    loop_timer_set(worker->loop, timer, now_mono_ns + next_ns);
}

static void on_upstream_connection(void *context) { worker_count(context, SHM_COUNTER_upstream_connections, 1); }

static bool watch_signals(struct worker *worker) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGUSR1);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) {
        return false;
    }
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return fd >= 0 && loop_watch_set(worker->loop, &worker->signals, fd, EPOLLIN);
}

static void read_trusted_proxies(struct worker *worker) {
    const struct conf *conf = worker->conf;
    worker->trusted_proxies = calloc((size_t)conf->trusted_proxy_count + 1, sizeof(*worker->trusted_proxies));
    CHECK(worker->trusted_proxies != NULL);
    for (int i = 0; i < conf->trusted_proxy_count; i++) {
        struct client_network *network = &worker->trusted_proxies[worker->trusted_proxy_count];
        worker->trusted_proxy_count += client_network_parse(span_text(conf->trusted_proxies[i]), network) ? 1 : 0;
    }
}

static void init_worker(struct worker *worker, struct heritage *heritage) {
    worker->heritage = heritage;
    worker->conf = heritage->conf;
    worker->map = &heritage->map;
    worker->seat = shm_seat(&heritage->map, heritage->seat);
    if (!calendar_use_zone(worker->conf->timezone)) {
        LOG(LOG_WARN, "timezone_unknown", log_text("timezone", worker->conf->timezone));
    }
    read_trusted_proxies(worker);
    worker->loop = loop_new();
    worker->upstreams = upstreams_new(worker->loop, on_upstream_connection, worker);
    worker->slots = calloc(1, sizeof(*worker->slots));
    CHECK(worker->slots != NULL);
    shm_slots_init(worker->slots, worker->map, heritage->seat);
    json_doc_init(&worker->scratch);
    buffer_init(&worker->scratch_text, SCRATCH_BYTES_MOST);
    worker->signals = (struct loop_watch){.on_event = on_signal, .fd = -1};
    worker->master_alive = (struct loop_watch){.on_event = on_master_gone, .fd = -1};
    worker->second.on_fire = on_second;
    worker_wake_init(worker);
}

static bool is_finished(const struct worker *worker) {
    return worker->draining && worker->requests == NULL && front_connections(worker->front) == 0;
}

/* Between two turns: acknowledges a pause, or goes on after one. */
static void follow_epoch(struct worker *worker) {
    uint64_t epoch = atomic_load(&worker->map->header->epoch);
    bool paused = epoch % 2 != 0;
    if (paused) {
        atomic_store(&worker->seat->acknowledged_epoch, epoch);
    }
    if (worker->paused && !paused) {
        worker->paused = false;
        for (struct request *request = worker->requests; request != NULL; request = request->next) {
            request_unpark(request);
        }
    }
    worker->paused = paused;
}

/* What a drain's deadline cuts: the clients get their error event, the ledger its records. Then a moment for the bytes
 * to leave. */
static void end_remaining(struct worker *worker) {
    int64_t until_mono_ns = clock_mono_ns() + LAST_WORDS_NS;
    for (struct request *request = worker->requests; request != NULL; request = request->next) {
        request_fail(request,
                     verdict_with(ERROR_overloaded, NULL, "This server is shutting down. Send the request again."));
    }
    do {
        front_close_idle(worker->front, 0, 0);
        loop_run(worker->loop, 10);
        follow_epoch(worker);
    } while ((worker->requests != NULL || front_connections(worker->front) != 0) && clock_mono_ns() < until_mono_ns);
}

static void serve(struct worker *worker) {
    follow_epoch(worker);
    while (!is_finished(worker)) {
        loop_run(worker->loop, worker->paused ? PAUSED_TURN_MS : TURN_MOST_MS);
        follow_epoch(worker);
        if (worker->drain_deadline_mono_ns != 0 && clock_mono_ns() >= worker->drain_deadline_mono_ns) {
            end_remaining(worker);
            return;
        }
    }
}

int worker_main(struct heritage *heritage) {
    static struct worker worker; /* the process's one worker; everything hangs off it */
    struct buffer error;
    (void)signal(SIGPIPE, SIG_IGN);
    init_worker(&worker, heritage);
    buffer_init(&error, 4096);
    worker.front = front_listen(&worker, &error);
    if (worker.front == NULL || !watch_signals(&worker) || !worker_wake_watch(&worker) ||
        !loop_watch_set(worker.loop, &worker.master_alive, heritage->master_alive_fd, EPOLLIN | EPOLLRDHUP)) {
        LOG(LOG_ERROR, "worker_cannot_start", log_text("why", error.len != 0 ? buffer_text(&error) : strerror(errno)));
        return CHILD_EXIT_CONFIGURATION;
    }
    atomic_store(&worker.seat->pid, getpid());
    journal_open(&worker);
    atomic_store(&worker.seat->state, SHM_SEAT_LIVE); /* in one order with the epoch, read next */
    on_second(&worker.second);
    if (write(heritage->ready_fd, "1", 1) != 1) {
        return CHILD_EXIT_FAILED;
    }
    serve(&worker);
    LOG(LOG_INFO, "worker_ended", log_int("requests_left", worker.request_count));
    return CHILD_EXIT_DONE;
}
