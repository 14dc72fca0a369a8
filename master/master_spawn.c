#include "master/master_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "admin/admin.h"
#include "base/calendar.h"
#include "base/clock.h"
#include "master/master_child.h"
#include "master/process_title.h"
#include "store/ledger_process.h"
#include "worker/worker.h"

enum { KEPT_MOST = HERITAGE_LISTENERS_MOST + HERITAGE_SEATS_MOST + 16 };

/* Descriptors that stay open in a child. */
struct kept {
    int fds[KEPT_MOST];
    int count;
};

static void keep(struct kept *kept, int fd) {
    CHECK(kept->count < KEPT_MOST);
    if (fd >= 0) {
        kept->fds[kept->count++] = fd;
    }
}

static int compare_descriptors(const void *a, const void *b) {
    int left = *(const int *)a;
    int right = *(const int *)b;
    return (left > right) - (left < right);
}

static void close_all_but(struct kept *kept) {
    qsort(kept->fds, (size_t)kept->count, sizeof(kept->fds[0]), compare_descriptors);
    unsigned next = STDERR_FILENO + 1;
    for (int i = 0; i < kept->count; i++) {
        unsigned fd = (unsigned)kept->fds[i];
        if (fd > next) {
            close_range(next, fd - 1, 0);
        }
        next = fd >= next ? fd + 1 : next;
    }
    close_range(next, ~0U, 0);
}

static void fill_heritage(struct heritage *heritage, const struct master *master,
                          const struct master_generation *generation, const struct master_child *child) {
    heritage->conf = generation->conf;
    heritage->map = master->map;
    heritage->map.fd = -1;
    heritage->generation = generation->number;
    heritage->seat = child->seat;
    heritage->worker_index = child->worker_index;
    heritage->master_alive_fd = master->alive_fds[0];
    heritage->ledger_wake_fd = master->ledger_wake_fd;
    heritage->seat_wake_fds = master->seat_wake_fds;
    heritage->seat_wake_count = master->seat_wake_count;
    heritage->journal_fd = master->journal_fd;
    heritage->state_fd = master->state_fd;
    memcpy(heritage->upstream_rows, generation->upstream_rows, sizeof(heritage->upstream_rows));
    memcpy(heritage->ticket_key, master->ticket_key, sizeof(heritage->ticket_key));
    if (child->role == ROLE_WORKER) {
        master_listen_share(&generation->listen_set, (int)child->worker_index, generation->worker_count, heritage);
    } else if (child->role == ROLE_ADMIN) {
        heritage->listeners[0] = (struct heritage_listener){generation->listen_set.admin.fds[0], -1};
        heritage->listener_count = 1;
    }
}

static void close_foreign_descriptors(const struct heritage *heritage, enum master_role role, int lock_fd) {
    struct kept kept = {.count = 0};
    keep(&kept, heritage->master_alive_fd);
    keep(&kept, heritage->ready_fd);
    keep(&kept, heritage->ledger_wake_fd);
    keep(&kept, heritage->state_fd);
    keep(&kept, lock_fd);
    if (role == ROLE_WORKER) {
        keep(&kept, heritage->journal_fd);
    }
    for (uint32_t seat = 0; role == ROLE_WORKER && seat < heritage->seat_wake_count; seat++) {
        keep(&kept, heritage->seat_wake_fds[seat]);
    }
    for (int i = 0; i < heritage->listener_count; i++) {
        keep(&kept, heritage->listeners[i].fd);
    }
    close_all_but(&kept);
}

/* Standard input from nowhere; output and errors to the master's relay. */
static bool redirect_standard_streams(int log_fd) {
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool ok = null_fd >= 0 && dup2(null_fd, STDIN_FILENO) >= 0 && dup2(log_fd, STDOUT_FILENO) >= 0 &&
              dup2(log_fd, STDERR_FILENO) >= 0;
    close(null_fd);
    return ok;
}

/* When memory runs out the kernel should take any process before the one that keeps the books. */
static void spare_from_oom_killer(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t written = write(fd, "-900", 4);
        (void)written;
        close(fd);
    }
}

static int run_role(enum master_role role, struct heritage *heritage) {
    switch (role) {
    case ROLE_WORKER:
        return worker_main(heritage);
    case ROLE_LEDGER:
        return ledger_main(heritage);
    case ROLE_ADMIN:
        return admin_main(heritage);
    }
    return CHILD_EXIT_FAILED;
}

/* A child leaves without exit handlers, among them the leak checker's, which is therefore called here. */
_Noreturn static void leave(int status) {
#ifdef __SANITIZE_ADDRESS__
    __lsan_do_leak_check();
#endif
    _exit(status);
}

static void set_up_log(const struct conf *conf, const char *name) {
    log_set_descriptor(STDERR_FILENO);
    log_set_up(conf->log.level, conf->log.format, name);
}

_Noreturn static void run_child(struct master *master, struct heritage *heritage, const struct master_child *child,
                                int log_fd) {
    char name[MASTER_LOG_NAME_BYTES];
    char title[MASTER_LOG_NAME_BYTES + sizeof("tollgate: ")];
    master_child_name(child, name);
    snprintf(title, sizeof(title), "tollgate: %s", name);
    process_title_set(title);
    master_signal_reset_in_child(&master->signals);
    if (!redirect_standard_streams(log_fd)) {
        _exit(CHILD_EXIT_FAILED);
    }
    set_up_log(heritage->conf, name);
    close_foreign_descriptors(heritage, child->role, master->lock_fd);
    if (child->role == ROLE_LEDGER) {
        spare_from_oom_killer();
    }
    if (!master_user_become(&master->user)) {
        LOG(LOG_ERROR, "child_cannot_drop_privileges", log_text("reason", strerror(errno)));
        _exit(CHILD_EXIT_CONFIGURATION);
    }
    if (heritage->conf->timezone != NULL && !calendar_use_zone(heritage->conf->timezone)) {
        LOG(LOG_WARN, "child_timezone_unknown", log_text("timezone", heritage->conf->timezone));
    }
    leave(run_role(child->role, heritage));
}

static bool open_channels(struct master_child *child, int *ready_write_fd, int *log_write_fd) {
    char name[MASTER_LOG_NAME_BYTES];
    master_child_name(child, name);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        return false;
    }
    child->stream = master_log_stream_open(name, log_write_fd);
    if (child->stream == NULL) {
        int saved_errno = errno;
        close(ends[0]);
        close(ends[1]);
        errno = saved_errno;
        return false;
    }
    child->ready_fd = ends[0];
    *ready_write_fd = ends[1];
    return true;
}

static void close_channels(struct master *master, struct master_child *child) {
    int saved_errno = errno;
    close(child->ready_fd);
    child->ready_fd = -1;
    master_log_stream_close(&master->log, child->stream, master->now_mono_ns);
    child->stream = NULL;
    errno = saved_errno;
}

bool master_spawn(struct master *master, const struct master_generation *generation, struct master_child *child) {
    int log_write_fd = -1;
    struct heritage *heritage = calloc(1, sizeof(*heritage));
    if (heritage == NULL || !open_channels(child, &heritage->ready_fd, &log_write_fd)) {
        free(heritage);
        return false;
    }
    fill_heritage(heritage, master, generation, child);
    child->generation = generation->number;
    child->pid = fork();
    if (child->pid == 0) {
        run_child(master, heritage, child, log_write_fd);
    }
    if (child->pid < 0) {
        close_channels(master, child);
    }
    int saved_errno = errno;
    close(log_write_fd);
    close(heritage->ready_fd);
    explicit_bzero(heritage->ticket_key, sizeof(heritage->ticket_key));
    free(heritage);
    errno = saved_errno;
    return child->pid > 0;
}

_Noreturn static void run_recovery(struct master *master, const struct conf *conf) {
    struct buffer error;
    buffer_init(&error, 4096);
    process_title_set("tollgate: recovery");
    master_signal_reset_in_child(&master->signals);
    if (!master_user_become(&master->user)) {
        fprintf(stderr, "tollgate: recovery: cannot drop privileges: %s\n", strerror(errno));
        _exit(CHILD_EXIT_FAILED);
    }
    if (!ledger_recover(conf, &error)) {
        fprintf(stderr, "tollgate: recovery: %s\n", buffer_text(&error));
        _exit(CHILD_EXIT_FAILED);
    }
    _exit(CHILD_EXIT_DONE);
}

/* Waits for the process; told to end meanwhile, ends it. Its work is done in steps that may be interrupted anywhere. */
static int wait_for(pid_t pid, bool *interrupted) {
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SIGTERM);
    sigaddset(&awaited, SIGINT);
    const struct timespec second = {.tv_sec = 1};
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        int number = sigtimedwait(&awaited, NULL, &second);
        if (number == SIGTERM || number == SIGINT) {
            *interrupted = true;
            kill(pid, SIGTERM);
        }
    }
    return status;
}

bool master_spawn_recovery(struct master *master, const struct conf *conf) {
    bool interrupted = false;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        run_recovery(master, conf);
    }
    if (pid < 0) {
        fprintf(stderr, "tollgate: recovery: cannot fork: %s\n", strerror(errno));
        return false;
    }
    int status = wait_for(pid, &interrupted);
    if (interrupted) {
        master->signals.terminate_count++; /* the wait took the signal */
    }
    if (WIFSIGNALED(status) && !interrupted) {
        fprintf(stderr, "tollgate: recovery: ended by signal %d; the state directory is unchanged, try again\n",
                WTERMSIG(status));
    }
    return !interrupted && WIFEXITED(status) && WEXITSTATUS(status) == CHILD_EXIT_DONE;
}
