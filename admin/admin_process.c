#include <h2o.h>

#include "admin/admin.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "admin/admin_api.h"
#include "admin/admin_metrics.h"
#include "admin/admin_server.h"
#include "base/clock.h"
#include "base/log.h"

enum { TURN_MOST_MS = 250, DRAIN_MOST_MS = 35000, WATCHES = 3 };

/* The process's one set of everything. */
struct admin {
    h2o_evloop_t *loop;
    struct jobs *jobs;
    struct admin_server *server;
    h2o_socket_t *watches[WATCHES]; /* else only the kernel knows them, which leak checkers do not ask */
    int watch_count;
    struct admin_tools lanes[LANES];
    int64_t drain_deadline_mono_ns; /* 0: not draining */
};

static void begin_drain(struct admin *admin) {
    if (admin->drain_deadline_mono_ns == 0) {
        admin->drain_deadline_mono_ns = clock_mono_ns() + DRAIN_MOST_MS * NS_PER_MS;
        server_drain(admin->server);
    }
}

/* h2o's read callback of the signal descriptor. */
static void on_signal(h2o_socket_t *socket, const char *error) {
    struct signalfd_siginfo info;
    (void)error;
    while (read(h2o_socket_get_fd(socket), &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        begin_drain(socket->data);
    }
}

/* h2o's read callback of the master's pipe: nothing is ever written there, so it is the end of file. */
static void on_master_gone(h2o_socket_t *socket, const char *error) {
    (void)error;
    h2o_socket_read_stop(socket);
    begin_drain(socket->data);
}

/* h2o's read callback of the jobs' descriptor. */
static void on_jobs(h2o_socket_t *socket, const char *error) {
    struct admin *admin = socket->data;
    (void)error;
    server_collect(admin->server);
}

static void watch(struct admin *admin, int fd, h2o_socket_cb on_readable) {
    CHECK(admin->watch_count < WATCHES);
    h2o_socket_t *socket = h2o_evloop_socket_create(admin->loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    admin->watches[admin->watch_count++] = socket;
    socket->data = admin;
    h2o_socket_read_start(socket, on_readable);
}

static bool watch_signals(struct admin *admin) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGQUIT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) {
        return false;
    }
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd >= 0) {
        watch(admin, fd, on_signal);
    }
    return fd >= 0;
}

static bool start_jobs(struct admin *admin, const struct heritage *heritage) {
    void *contexts[LANES];
    for (int lane = 0; lane < LANES; lane++) {
        admin->lanes[lane] = (struct admin_tools){.conf = heritage->conf, .map = &heritage->map};
        contexts[lane] = &admin->lanes[lane];
    }
    admin->lanes[LANE_STORE].metrics = metrics_new();
    admin->jobs = jobs_new(contexts, LANES);
    return admin->jobs != NULL;
}

static void serve(struct admin *admin) {
    while (admin->drain_deadline_mono_ns == 0 ||
           (server_requests(admin->server) != 0 && clock_mono_ns() < admin->drain_deadline_mono_ns)) {
        (void)h2o_evloop_run(admin->loop, TURN_MOST_MS);
        server_tick(admin->server);
        h2o_timeout__do_post_callback(admin->loop); /* libh2o wants writes completed before it looks at sockets again */
    }
}

int admin_main(struct heritage *heritage) {
    static struct admin admin; /* the threads may outlive this function, which ends the process */
    (void)signal(SIGPIPE, SIG_IGN);
    admin.loop = h2o_evloop_create();
    if (!watch_signals(&admin) || !start_jobs(&admin, heritage)) {
        LOG(LOG_ERROR, "admin_cannot_start", log_text("why", strerror(errno)));
        return CHILD_EXIT_FAILED;
    }
    watch(&admin, jobs_descriptor(admin.jobs), on_jobs);
    watch(&admin, heritage->master_alive_fd, on_master_gone);
    admin.server = server_new(heritage, admin.loop, admin.jobs);
    if (write(heritage->ready_fd, "1", 1) != 1) {
        return CHILD_EXIT_FAILED;
    }
    serve(&admin);
    LOG(LOG_INFO, "admin_ended", log_int("requests_left", server_requests(admin.server)));
    return CHILD_EXIT_DONE;
}
