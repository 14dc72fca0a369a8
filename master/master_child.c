#include "master/master_child.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "master/master_spawn.h"

#define DELAY_FIRST_NS (100 * NS_PER_MS)
#define DELAY_MOST_NS (10 * NS_PER_S)
#define YOUNG_NS (10 * NS_PER_S)
#define HEALTHY_NS (60 * NS_PER_S)
#define SILENCE_MOST_NS (10 * NS_PER_S)
#define START_MOST_NS (60 * NS_PER_S)
#define ABORT_GRACE_NS (2 * NS_PER_S)

static const char *const role_names[] = {"worker", "ledger", "admin"};

void master_child_name(const struct master_child *child, char out[static MASTER_LOG_NAME_BYTES]) {
    if (child->role == ROLE_WORKER) {
        snprintf(out, MASTER_LOG_NAME_BYTES, "worker %u", child->worker_index);
    } else {
        snprintf(out, MASTER_LOG_NAME_BYTES, "%s", role_names[child->role]);
    }
}

int64_t master_child_next_delay(int64_t last_delay_ns, int64_t lived_ns, int64_t first_ns) {
    if (lived_ns >= HEALTHY_NS) {
        return first_ns;
    }
    if (lived_ns >= YOUNG_NS) {
        return last_delay_ns > first_ns ? last_delay_ns : first_ns;
    }
    if (last_delay_ns < DELAY_FIRST_NS) {
        return last_delay_ns < first_ns ? first_ns : DELAY_FIRST_NS;
    }
    return last_delay_ns < DELAY_MOST_NS / 2 ? last_delay_ns * 2 : DELAY_MOST_NS;
}

static void publish_pid(struct master *master, enum master_role role, pid_t pid) {
    if (role == ROLE_LEDGER) {
        atomic_store(&master->map.header->ledger_pid, pid);
    } else if (role == ROLE_ADMIN) {
        atomic_store(&master->map.header->admin_pid, pid);
    }
}

static bool assign_seat(struct master *master, const struct master_generation *generation, struct master_child *child) {
    struct buffer error;
    buffer_init(&error, 1024);
    int seat = shm_seat_assign(&master->map, child->worker_index, generation->number, &error);
    if (seat < 0) {
        LOG(LOG_ERROR, "worker_without_seat", log_int("worker", child->worker_index),
            log_text("reason", buffer_text(&error)));
    }
    buffer_fini(&error);
    child->seat = (uint32_t)seat;
    return seat >= 0;
}

static void free_seat(struct master *master, const struct master_child *child) {
    if (child->role == ROLE_WORKER) {
        atomic_store_explicit(&shm_seat(&master->map, child->seat)->state, SHM_SEAT_DEAD, memory_order_release);
    }
}

static void watch_descriptor(const struct master *master, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    CHECK(epoll_ctl(master->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
}

static void postpone(struct master *master, struct master_post *post) {
    post->delay_ns = master_child_next_delay(post->delay_ns, 0, DELAY_FIRST_NS);
    post->respawn_at_mono_ns = master->now_mono_ns + post->delay_ns;
}

/* Starts a child in the post. On failure the post stays empty for a while. */
static void fill_post(struct master *master, struct master_generation *generation, struct master_post *post,
                      enum master_role role, uint32_t worker_index) {
    struct master_child *child = calloc(1, sizeof(*child));
    CHECK(child != NULL);
    *child = (struct master_child){.role = role, .worker_index = worker_index, .ready_fd = -1};
    if (role == ROLE_WORKER && !assign_seat(master, generation, child)) {
        postpone(master, post);
        free(child);
        return;
    }
    if (!master_spawn(master, generation, child)) {
        LOG(LOG_ERROR, "child_not_started", log_text("role", role_names[role]), log_text("reason", strerror(errno)));
        free_seat(master, child);
        postpone(master, post);
        free(child);
        return;
    }
    child->started_mono_ns = master->now_mono_ns;
    child->watched_from_mono_ns = master->now_mono_ns;
    watch_descriptor(master, child->ready_fd);
    watch_descriptor(master, child->stream->fd);
    child->next = master->children;
    master->children = child;
    post->child = child;
    publish_pid(master, role, child->pid);
    LOG(LOG_INFO, "child_started", log_text("child", child->stream->name), log_int("pid", child->pid),
        log_int("generation", child->generation));
}

static bool may_fill(const struct master *master, const struct master_post *post) {
    return post->child == NULL && !post->given_up && master->now_mono_ns >= post->respawn_at_mono_ns;
}

void master_child_fill_ledger(struct master *master) {
    if (may_fill(master, &master->ledger) && master_child_count(master, ROLE_LEDGER, 0) == 0) {
        fill_post(master, master->ledger_generation, &master->ledger, ROLE_LEDGER, 0);
    }
}

void master_child_fill_generation(struct master *master, struct master_generation *generation) {
    for (int i = 0; i < generation->worker_count; i++) {
        struct master_post *post = &generation->workers[i];
        if (may_fill(master, post)) {
            fill_post(master, generation, post, ROLE_WORKER, (uint32_t)i);
            if (post->child != NULL && post->deaths > 0) {
                atomic_fetch_add(&master->map.header->worker_restarts, 1);
            }
        }
    }
    if (may_fill(master, &generation->admin)) {
        fill_post(master, generation, &generation->admin, ROLE_ADMIN, 0);
    }
}

static struct master_post *find_post_in(struct master_generation *generation, const struct master_child *child) {
    for (int i = 0; generation != NULL && i < generation->worker_count; i++) {
        if (generation->workers[i].child == child) {
            return &generation->workers[i];
        }
    }
    return generation != NULL && generation->admin.child == child ? &generation->admin : NULL;
}

static struct master_post *find_post(struct master *master, const struct master_child *child) {
    if (master->ledger.child == child) {
        return &master->ledger;
    }
    struct master_post *post = find_post_in(master->current, child);
    return post != NULL ? post : find_post_in(master->next, child);
}

static bool ended_well(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == CHILD_EXIT_DONE; }

static void write_obituary(const struct master *master, const struct master_child *child, int status) {
    struct span last_words = SPAN_EMPTY;
    if (child->role == ROLE_WORKER) {
        const struct shm_seat_sh *seat = shm_seat(&master->map, child->seat);
        last_words = span_of(seat->last_words, strnlen(seat->last_words, sizeof(seat->last_words)));
    }
    bool expected = child->retiring && (ended_well(status) || child->kill_at_mono_ns == INT64_MAX);
    LOG(expected ? LOG_INFO : LOG_ERROR, "child_ended", log_text("child", child->stream->name),
        log_int("pid", child->pid), log_int("generation", child->generation),
        WIFSIGNALED(status) ? log_int("signal", WTERMSIG(status)) : log_int("exit_code", WEXITSTATUS(status)),
        log_int("lived_ms", (master->now_mono_ns - child->started_mono_ns) / NS_PER_MS),
        log_span("last_words", last_words));
}

/* A worker that must not be started again: its clients go to the others. */
static void give_up_worker(struct master *master, const struct master_child *child) {
    struct master_generation *generation = master->current;
    if (master->phase == MASTER_RUNNING && generation != NULL && generation->number == child->generation) {
        master_listen_abandon(&generation->listen_set, (int)child->worker_index, generation->worker_count);
    }
}

static void vacate_post(struct master *master, struct master_post *post, const struct master_child *child, int status) {
    int64_t lived_ns = master->now_mono_ns - child->started_mono_ns;
    int64_t first_ns = child->role == ROLE_LEDGER && post->deaths == 0 ? 0 : DELAY_FIRST_NS;
    post->child = NULL;
    post->deaths++;
    post->delay_ns = master_child_next_delay(post->delay_ns, lived_ns, first_ns);
    post->respawn_at_mono_ns = master->now_mono_ns + post->delay_ns;
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_EXIT_CONFIGURATION) {
        post->given_up = true;
        LOG(LOG_ERROR, "child_given_up", log_text("child", child->stream->name),
            log_text("reason", "it found its configuration or its data unusable; see the lines before"));
        if (child->role == ROLE_WORKER) {
            give_up_worker(master, child);
        }
    }
}

static void unlink_child(struct master *master, const struct master_child *child) {
    struct master_child **link = &master->children;
    while (*link != child) {
        link = &(*link)->next;
    }
    *link = child->next;
}

static void bury(struct master *master, struct master_child *child, int status) {
    write_obituary(master, child, status);
    struct master_post *post = find_post(master, child);
    if (post != NULL) {
        vacate_post(master, post, child, status);
    }
    free_seat(master, child);
    if (child->role == ROLE_LEDGER) {
        master->ledger_ended_well = ended_well(status);
        publish_pid(master, ROLE_LEDGER, 0);
    }
    if (child->ready_fd >= 0) {
        close(child->ready_fd);
    }
    unlink_child(master, child);
    master_log_stream_close(&master->log, child->stream, master->now_mono_ns);
    free(child);
}

static struct master_child *find_child(const struct master *master, pid_t pid) {
    struct master_child *child = master->children;
    while (child != NULL && child->pid != pid) {
        child = child->next;
    }
    return child;
}

void master_child_reap(struct master *master) {
    int status = 0;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    while (pid > 0) {
        struct master_child *child = find_child(master, pid);
        if (child != NULL) {
            bury(master, child, status);
        }
        pid = waitpid(-1, &status, WNOHANG);
    }
}

void master_child_retire(struct master *master, struct master_child *child, int signal_number, int64_t kill_after_ns) {
    struct master_post *post = find_post(master, child);
    if (post != NULL) {
        post->child = NULL;
    }
    child->retiring = true;
    kill(child->pid, signal_number);
    if (signal_number == SIGKILL) {
        child->kill_at_mono_ns = INT64_MAX;
    } else if (kill_after_ns != 0) {
        child->kill_at_mono_ns = master->now_mono_ns + kill_after_ns;
    }
}

void master_child_retire_all(struct master *master, enum master_role role, uint32_t generation, int signal_number,
                             int64_t kill_after_ns) {
    for (struct master_child *child = master->children; child != NULL; child = child->next) {
        if (child->role == role && (generation == 0 || child->generation == generation)) {
            master_child_retire(master, child, child->ready ? signal_number : SIGKILL, kill_after_ns);
        }
    }
}

int master_child_count(const struct master *master, enum master_role role, uint32_t generation) {
    int count = 0;
    for (const struct master_child *child = master->children; child != NULL; child = child->next) {
        count += child->role == role && (generation == 0 || child->generation == generation);
    }
    return count;
}

static bool is_ready(const struct master_post *post) { return post->child != NULL && post->child->ready; }

bool master_child_all_ready(const struct master_generation *generation) {
    for (int i = 0; i < generation->worker_count; i++) {
        if (!generation->workers[i].given_up && !is_ready(&generation->workers[i])) {
            return false;
        }
    }
    return generation->admin.given_up || is_ready(&generation->admin);
}

bool master_child_ledger_ready(const struct master *master) {
    return is_ready(&master->ledger) &&
           atomic_load(&master->map.header->ledger_ready) == master->ledger_generation->number;
}

bool master_child_any_given_up(const struct master_generation *generation) {
    for (int i = 0; i < generation->worker_count; i++) {
        if (generation->workers[i].given_up) {
            return true;
        }
    }
    return generation->admin.given_up;
}

int master_child_most_deaths(const struct master *master, const struct master_generation *generation) {
    int most = master->ledger.deaths > generation->admin.deaths ? master->ledger.deaths : generation->admin.deaths;
    for (int i = 0; i < generation->worker_count; i++) {
        most = generation->workers[i].deaths > most ? generation->workers[i].deaths : most;
    }
    return most;
}

/* How long the child has shown no sign of life. */
static int64_t silence_of(const struct master *master, const struct master_child *child) {
    int64_t heard_mono_ns = atomic_load(&shm_seat(&master->map, child->seat)->heartbeat_mono_ns);
    if (heard_mono_ns < child->watched_from_mono_ns) {
        heard_mono_ns = child->watched_from_mono_ns;
    }
    return master->now_mono_ns - heard_mono_ns;
}

static void watch_worker(struct master *master, struct master_child *child) {
    int64_t silence_ns = silence_of(master, child);
    if (child->aborted || silence_ns < (child->ready ? SILENCE_MOST_NS : START_MOST_NS)) {
        return;
    }
    LOG(LOG_ERROR, "worker_hung", log_text("child", child->stream->name), log_int("pid", child->pid),
        log_int("silent_ms", silence_ns / NS_PER_MS));
    child->aborted = true;
    child->kill_at_mono_ns = master->now_mono_ns + ABORT_GRACE_NS;
    kill(child->pid, SIGABRT);
}

void master_child_watch(struct master *master) {
    for (struct master_child *child = master->children; child != NULL; child = child->next) {
        if (child->kill_at_mono_ns != 0 && master->now_mono_ns >= child->kill_at_mono_ns) {
            LOG(LOG_WARN, "child_killed", log_text("child", child->stream->name), log_int("pid", child->pid));
            child->kill_at_mono_ns = INT64_MAX;
            kill(child->pid, SIGKILL);
        }
        if (child->role == ROLE_WORKER && !master->watchdog_off) {
            watch_worker(master, child);
        }
    }
}

void master_child_on_ready(struct master *master, struct master_child *child) {
    char byte;
    ssize_t got = read(child->ready_fd, &byte, 1);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    close(child->ready_fd);
    child->ready_fd = -1;
    child->ready = got == 1;
    child->watched_from_mono_ns = master->now_mono_ns;
    if (child->ready) {
        LOG(LOG_INFO, "child_ready", log_text("child", child->stream->name), log_int("pid", child->pid));
    }
}

/* The earlier of both, leaving out what is already due: it was looked at this turn and waits for something else. */
static int64_t sooner(const struct master *master, int64_t wake_mono_ns, int64_t at_mono_ns) {
    return at_mono_ns > master->now_mono_ns && at_mono_ns < wake_mono_ns ? at_mono_ns : wake_mono_ns;
}

static int64_t post_wake(const struct master *master, const struct master_post *post, int64_t wake_mono_ns) {
    bool waits = post->child == NULL && !post->given_up;
    return waits ? sooner(master, wake_mono_ns, post->respawn_at_mono_ns) : wake_mono_ns;
}

static int64_t generation_wake(const struct master *master, const struct master_generation *generation,
                               int64_t wake_mono_ns) {
    if (generation == NULL) {
        return wake_mono_ns;
    }
    for (int i = 0; i < generation->worker_count; i++) {
        wake_mono_ns = post_wake(master, &generation->workers[i], wake_mono_ns);
    }
    return post_wake(master, &generation->admin, wake_mono_ns);
}

int64_t master_child_next_wake(const struct master *master) {
    int64_t wake_mono_ns = post_wake(master, &master->ledger, INT64_MAX);
    wake_mono_ns = generation_wake(master, master->current, wake_mono_ns);
    wake_mono_ns = generation_wake(master, master->next, wake_mono_ns);
    for (const struct master_child *child = master->children; child != NULL; child = child->next) {
        wake_mono_ns = sooner(master, wake_mono_ns, child->kill_at_mono_ns);
    }
    return wake_mono_ns;
}
