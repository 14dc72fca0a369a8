/* tests/unit/master/fake_children.h - worker_main, ledger_main, admin_main and ledger_recover for tests of the master:
 * small processes that keep the contract of their headers and misbehave when asked. Behaviour asked for by a file in
 * the state directory: "fake-ledger-2", "fake-worker-2", "fake-worker-dies", "fake-worker-slow" (never ready),
 * "fake-recovery-fails". Asked for by a client's line to a worker: "who", "hold" (answer only after a second line),
 * "crash", "exit2", "silent" (no more heartbeats), "log" (writes to stderr and the access log). */
#ifndef TOLLGATE_TESTS_UNIT_MASTER_FAKE_CHILDREN_H
#define TOLLGATE_TESTS_UNIT_MASTER_FAKE_CHILDREN_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/admin.h"
#include "base/clock.h"
#include "conf/conf.h"
#include "store/ledger_process.h"
#include "worker/worker.h"

enum { FAKE_HELD_MOST = 16 };

static volatile sig_atomic_t fake_told_to_end;

static void on_end(int number) { fake_told_to_end = number; }

static void fake_catch_signals(void) {
    const struct sigaction action = {.sa_handler = on_end};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGQUIT, &action, NULL);
}

static bool fake_asked(const struct heritage *heritage, const char *name) {
    char file[64];
    snprintf(file, sizeof(file), "%s.%u", name, heritage->generation);
    return faccessat(heritage->state_fd, file, F_OK, 0) == 0;
}

static bool fake_master_is_gone(int alive_fd) {
    char byte;
    return read(alive_fd, &byte, 1) == 0;
}

static void fake_say_ready(struct heritage *heritage) {
    ssize_t written = write(heritage->ready_fd, "r", 1);
    (void)written;
    close(heritage->ready_fd);
}

struct fake_worker {
    struct heritage *heritage;
    int held[FAKE_HELD_MOST];
    int held_count;
    bool silent;
};

static void fake_answer(const struct fake_worker *worker, int fd) {
    char text[128];
    int len = snprintf(text, sizeof(text), "generation %u worker %u pid %d\n", worker->heritage->generation,
                       worker->heritage->worker_index, (int)getpid());
    ssize_t sent = send(fd, text, (size_t)len, MSG_NOSIGNAL);
    (void)sent;
    close(fd);
}

static void fake_serve(struct fake_worker *worker, int fd) {
    char line[64] = "";
    ssize_t got = recv(fd, line, sizeof(line) - 1, 0);
    if (got > 0 && strncmp(line, "crash", 5) == 0) {
        span_copy(SPAN_LITERAL("my last words"), shm_seat(&worker->heritage->map, worker->heritage->seat)->last_words,
                  SHM_LAST_WORDS_BYTES);
        abort();
    } else if (got > 0 && strncmp(line, "exit2", 5) == 0) {
        _exit(CHILD_EXIT_CONFIGURATION);
    } else if (got > 0 && strncmp(line, "hold", 4) == 0 && worker->held_count < FAKE_HELD_MOST) {
        worker->held[worker->held_count++] = fd;
        return;
    } else if (got > 0 && strncmp(line, "log", 3) == 0) {
        dprintf(STDERR_FILENO, "\001access line of the fake\nother line of the fake\n");
    }
    worker->silent = worker->silent || strncmp(line, "silent", 6) == 0;
    fake_answer(worker, fd);
}

static void fake_answer_held(struct fake_worker *worker) {
    for (int i = 0; i < worker->held_count; i++) {
        char byte;
        if (recv(worker->held[i], &byte, 1, MSG_DONTWAIT) >= 0) {
            fake_answer(worker, worker->held[i]);
            worker->held[i--] = worker->held[--worker->held_count];
        }
    }
}

static void fake_accept_all(struct fake_worker *worker) {
    for (int i = 0; i < worker->heritage->listener_count; i++) {
        int fd = accept4(worker->heritage->listeners[i].fd, NULL, NULL, SOCK_CLOEXEC);
        while (fd >= 0) {
            fake_serve(worker, fd);
            fd = accept4(worker->heritage->listeners[i].fd, NULL, NULL, SOCK_CLOEXEC);
        }
    }
}

int worker_main(struct heritage *heritage) {
    struct fake_worker worker = {.heritage = heritage};
    struct shm_seat_sh *seat = shm_seat(&heritage->map, heritage->seat);
    fake_catch_signals();
    atomic_store(&seat->pid, getpid());
    atomic_store(&seat->state, SHM_SEAT_LIVE);
    if (fake_asked(heritage, "fake-worker-2")) {
        return CHILD_EXIT_CONFIGURATION;
    }
    if (fake_asked(heritage, "fake-worker-dies")) {
        return CHILD_EXIT_FAILED;
    }
    fake_say_ready(heritage);
    while (!fake_told_to_end && !fake_master_is_gone(heritage->master_alive_fd)) {
        if (!worker.silent) {
            atomic_store(&seat->heartbeat_mono_ns, clock_mono_ns());
        }
        fake_accept_all(&worker);
        fake_answer_held(&worker);
        poll(NULL, 0, 5);
    }
    fake_accept_all(&worker);
    for (int i = 0; i < heritage->listener_count; i++) {
        close(heritage->listeners[i].fd);
    }
    while (worker.held_count > 0) {
        fake_answer_held(&worker);
        poll(NULL, 0, 5);
    }
    return CHILD_EXIT_DONE;
}

static void fake_sweep(struct heritage *heritage) {
    for (uint32_t i = 0; i < heritage->map.header->seat_count; i++) {
        struct shm_seat_sh *seat = shm_seat(&heritage->map, i);
        uint32_t dead = SHM_SEAT_DEAD;
        atomic_compare_exchange_strong(&seat->state, &dead, SHM_SEAT_FREE);
    }
}

int ledger_main(struct heritage *heritage) {
    fake_catch_signals();
    if (fake_asked(heritage, "fake-ledger-2")) {
        return CHILD_EXIT_CONFIGURATION;
    }
    atomic_store(&heritage->map.header->ledger_ready, heritage->generation);
    fake_say_ready(heritage);
    while (!fake_told_to_end && !fake_master_is_gone(heritage->master_alive_fd)) {
        fake_sweep(heritage);
        poll(NULL, 0, 5);
    }
    fake_sweep(heritage);
    close(openat(heritage->state_fd, "fake-ledger-left", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    return CHILD_EXIT_DONE;
}

int admin_main(struct heritage *heritage) {
    fake_catch_signals();
    fake_say_ready(heritage);
    while (!fake_told_to_end && !fake_master_is_gone(heritage->master_alive_fd)) {
        poll(NULL, 0, 5);
    }
    return CHILD_EXIT_DONE;
}

bool ledger_recover(const struct conf *conf, struct buffer *error) {
    char path[512];
    snprintf(path, sizeof(path), "%s/fake-recovery-fails", conf->state_dir);
    if (access(path, F_OK) == 0) {
        buffer_append_text(error, "the fake recovery fails");
        return false;
    }
    return true;
}

#endif
