#include "master/master_boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "master/master_generation.h"
#include "master/master_spawn.h"
#include "master/process_title.h"
#include "shm/shm_journal.h"
#include "shm/shm_replays.h"
#include "store/state_lock.h"

enum { SEATS_LEAST = 16, SEATS_A_CORE = 4, LOCK_POLL_MS = 50, LOCK_EXTRA_MS = 10000 };

static bool refuse(const char *what, const char *why) {
    fprintf(stderr, "tollgate: %s: %s\n", what, why);
    return false;
}

uint32_t master_boot_seats(int workers, long cores) {
    int64_t seats = SEATS_LEAST;
    seats = cores * SEATS_A_CORE > seats ? cores * SEATS_A_CORE : seats;
    seats = (int64_t)workers * SEATS_A_CORE > seats ? (int64_t)workers * SEATS_A_CORE : seats;
    return (uint32_t)seats;
}

/* Nothing opened later may land on descriptors 0 to 2. */
static bool fill_standard_descriptors(void) {
    int fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO) {
        fd = open("/dev/null", O_RDWR);
    }
    if (fd > STDERR_FILENO) {
        close(fd);
    }
    return fd >= 0;
}

static void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void sleep_ms(int64_t duration_ms) {
    const struct timespec duration = {.tv_nsec = duration_ms * NS_PER_MS};
    nanosleep(&duration, NULL);
}

static bool is_dead(pid_t pid) { return pid > 0 && kill(pid, 0) != 0 && errno == ESRCH; }

/* The children of a master that was killed hold the lock until their last record is in the store: waits for them, for
 * as long as they may drain. */
static enum state_lock_result wait_for_orphans(struct master *master, const struct conf *conf, pid_t holder,
                                               struct buffer *error) {
    enum state_lock_result result = STATE_BUSY;
    fprintf(stderr, "tollgate: state directory %s: waiting for the processes that server %d left when it was killed\n",
            conf->state_dir, (int)holder);
    for (int64_t left_ms = conf->drain_timeout_ms + LOCK_EXTRA_MS; left_ms > 0 && result == STATE_BUSY;
         left_ms -= LOCK_POLL_MS) {
        sleep_ms(LOCK_POLL_MS);
        master_signal_read(&master->signals);
        if (master->signals.terminate_count > 0) {
            return STATE_BUSY;
        }
        result = state_lock_take(conf->state_dir, true, &master->lock_fd, &holder, error);
    }
    return result;
}

static bool lock_state(struct master *master, const struct conf *conf) {
    struct buffer error;
    buffer_init(&error, 4096);
    pid_t holder = 0;
    enum state_lock_result result = state_lock_take(conf->state_dir, true, &master->lock_fd, &holder, &error);
    if (result == STATE_BUSY && is_dead(holder)) {
        result = wait_for_orphans(master, conf, holder, &error);
    }
    if (result == STATE_BUSY) {
        fprintf(stderr,
                "tollgate: state directory %s: in use by the server with pid %d; stop that one first, or give this one "
                "another directory with --state\n",
                conf->state_dir, (int)holder);
    } else if (result == STATE_LOCK_FAILED) {
        fprintf(stderr, "tollgate: %s\n", buffer_text(&error));
    }
    buffer_fini(&error);
    return result == STATE_LOCKED;
}

static bool open_state(struct master *master, const struct conf *conf, struct buffer *error) {
    master->state_fd = open(conf->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (master->state_fd < 0) {
        buffer_format(error, "state directory %s: %s", conf->state_dir, strerror(errno));
        return false;
    }
    return master_user_find(&master->user, conf, master->state_fd, error) &&
           master_user_own_state(&master->user, master->state_fd, error);
}

static bool make_segment(struct master *master, const struct conf *conf, struct buffer *error) {
    const struct shm_capacity capacity = {
        .seats = master_boot_seats(conf->workers, sysconf(_SC_NPROCESSORS_ONLN)),
        .keys = (uint32_t)conf->capacity.keys,
        .tenants = (uint32_t)conf->capacity.tenants,
    };
    if (!shm_map_create(&master->map, conf->state_dir, &capacity, error) ||
        !master_user_own_state(&master->user, master->state_fd, error)) {
        return false;
    }
    shm_replays_load(&master->map, conf->state_dir, clock_wall_ns() / NS_PER_S);
    atomic_store(&master->map.header->master_pid, getpid());
    return true;
}

/* An eventfd a seat, by which workers tell each other that there is something to look at. */
static bool open_seat_wakes(struct master *master, struct buffer *error) {
    uint32_t count = master->map.header->seat_count;
    CHECK(count <= HERITAGE_SEATS_MOST);
    master->seat_wake_fds = calloc(count, sizeof(*master->seat_wake_fds));
    CHECK(master->seat_wake_fds != NULL);
    for (; master->seat_wake_count < count; master->seat_wake_count++) {
        int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (fd < 0) {
            buffer_format(error, "start: cannot make %u descriptors: %s; raise the limit of open files", count,
                          strerror(errno));
            return false;
        }
        master->seat_wake_fds[master->seat_wake_count] = fd;
    }
    return true;
}

static bool make_journal(struct master *master, const struct conf *conf, struct buffer *error) {
    master->journal_fd = shm_journal_make(conf->streams.resume_memory_bytes);
    if (master->journal_fd < 0) {
        buffer_format(error, "streams.resume_memory: cannot make a memory file: %s", strerror(errno));
    }
    return master->journal_fd >= 0;
}

static bool watch(const struct master *master, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(master->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool open_channels(struct master *master) {
    random_bytes(master->ticket_key, sizeof(master->ticket_key));
    master->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    master->ledger_wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    master->own_stream = master_log_stream_open("master", &master->own_log_fd);
    return master->epoll_fd >= 0 && master->ledger_wake_fd >= 0 && master->own_stream != NULL &&
           pipe2(master->alive_fds, O_CLOEXEC | O_NONBLOCK) == 0 && watch(master, master->signals.fd) &&
           watch(master, master->own_stream->fd);
}

static bool open_log(struct master *master, const struct conf *conf, struct buffer *error) {
    if (!master_log_open(&master->log, conf->log.access, error)) {
        return false;
    }
    log_set_descriptor(master->own_log_fd);
    log_set_up(conf->log.level, conf->log.format, "master");
    return true;
}

/* What stands between the lock and the first child. Errors go to *error, except those of the recovery. */
static bool make_all(struct master *master, struct conf *conf, struct buffer *error) {
    struct master_generation *generation = master_generation_new(master, conf, NULL, error);
    if (generation == NULL) {
        return false;
    }
    master->current = generation;
    master->ledger_generation = generation;
    if (!open_state(master, conf, error) || !master_spawn_recovery(master, conf)) {
        return false;
    }
    if (!open_channels(master)) {
        buffer_format(error, "start: %s", strerror(errno));
        return false;
    }
    return make_segment(master, conf, error) && open_seat_wakes(master, error) && make_journal(master, conf, error) &&
           master_generation_claim(master, generation, error) && open_log(master, conf, error);
}

static void preset(struct master *master, const struct master_options *options, const char *state_dir) {
    *master = (struct master){.phase = MASTER_BOOT,
                              .options = *options,
                              .signals.fd = -1,
                              .own_log_fd = -1,
                              .map.fd = -1,
                              .lock_fd = -1,
                              .state_fd = -1,
                              .epoll_fd = -1,
                              .alive_fds = {-1, -1},
                              .ledger_wake_fd = -1,
                              .journal_fd = -1,
                              .watchdog_off = getenv("TOLLGATE_NO_WATCHDOG") != NULL,
                              .now_mono_ns = clock_mono_ns()};
    master->log.output.fd = -1;
    master->log.errors.fd = -1;
    master->log.file.fd = -1;
    master->state_dir = strdup(state_dir);
    CHECK(master->state_dir != NULL);
    buffer_init(&master->reload_error, SHM_REPORT_BYTES);
}

bool master_boot(struct master *master, struct conf *conf, const struct master_options *options) {
    preset(master, options, conf->state_dir);
    umask(0077);
    raise_descriptor_limit();
    master_user_hide_memory();
    if (!fill_standard_descriptors() || !master_signal_open(&master->signals)) {
        conf_free(conf);
        return refuse("start", strerror(errno));
    }
    process_title_set("tollgate: master");
    if (!lock_state(master, conf)) {
        conf_free(conf);
        return false;
    }
    struct buffer error;
    buffer_init(&error, 4096);
    bool ok = make_all(master, conf, &error);
    if (!ok && error.len != 0) {
        fprintf(stderr, "tollgate: %s\n", buffer_text(&error));
    }
    buffer_fini(&error);
    return ok;
}

static void close_descriptor(int fd) {
    if (fd >= 0) {
        close(fd);
    }
}

static void close_log(struct master *master) {
    log_set_descriptor(STDERR_FILENO);
    if (master->own_stream != NULL) {
        close(master->own_log_fd);
        master_log_stream_close(&master->log, master->own_stream, clock_mono_ns());
    }
    master_log_close(&master->log);
}

void master_boot_undo(struct master *master, bool remove_segment) {
    if (master->map.header != NULL && remove_segment &&
        !shm_replays_save(&master->map, master->state_dir, clock_wall_ns() / NS_PER_S)) {
        LOG(LOG_WARN, "signatures_forgotten", log_text("why", strerror(errno)));
    }
    close_log(master);
    if (master->map.header != NULL) {
        shm_map_close(&master->map);
    }
    if (remove_segment) {
        shm_map_remove(master->state_dir);
    }
    close_descriptor(master->alive_fds[0]);
    close_descriptor(master->alive_fds[1]);
    close_descriptor(master->ledger_wake_fd);
    for (uint32_t seat = 0; seat < master->seat_wake_count; seat++) {
        close_descriptor(master->seat_wake_fds[seat]);
    }
    free(master->seat_wake_fds);
    close_descriptor(master->journal_fd);
    close_descriptor(master->epoll_fd);
    close_descriptor(master->state_fd);
    if (master->lock_fd >= 0) {
        state_lock_release(master->state_dir, master->lock_fd);
    }
    free(master->state_dir);
    master_user_fini(&master->user);
    master_generation_free(master->current);
    buffer_fini(&master->reload_error);
    explicit_bzero(master->ticket_key, sizeof(master->ticket_key));
    if (master->signals.fd >= 0) {
        master_signal_close(&master->signals);
    }
}
