#include "store/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "shm/shm_queue.h"
#include "shm/shm_slot.h"
#include "store/record.h"

enum { STATUS_ANSWERED = 200, STATUS_WORKER_DIED = 500 };

/* What a budget does not cover is not owed: the hold caps the price, and so does one that the worker had settled. A
 * request without a budget holds nothing. */
static int64_t price_of(const struct shm_slot_sh *slot) {
    const struct shm_usage_record_sh *usage = &slot->record;
    int64_t price_nusd = money_of_tokens(&usage->price, &usage->tokens, usage->markup);
    int64_t most_nusd = slot->held_nusd > 0 ? slot->held_nusd : usage->price_nusd;
    return most_nusd > 0 && most_nusd < price_nusd ? most_nusd : price_nusd;
}

/* Ends a record from what its worker had counted. Doing it twice changes nothing but the end. What the slot held of
 * budgets and gauges the recompute that follows gives back. Counts that are the upstream's own stay so: then the whole
 * answer had come, and its end was on the way to the client. */
static void finish_record(void *context, struct shm_slot_sh *slot) {
    struct shm_usage_record_sh *usage = &slot->record;
    (void)context;
    usage->end_wall_ns = clock_wall_ns();
    usage->flags |= SHM_RECORD_ABORTED;
    if (usage->status == 0) {
        usage->status = (usage->flags & SHM_RECORD_ESTIMATED) != 0 ? STATUS_WORKER_DIED : STATUS_ANSWERED;
    }
    record_clamp(usage);
    int64_t price_nusd = price_of(slot);
    if (price_nusd < money_of_tokens(&usage->price, &usage->tokens, usage->markup)) {
        usage->flags |= SHM_RECORD_CAPPED;
    }
    usage->price_nusd = price_nusd;
    usage->cost_nusd = money_of_tokens(&usage->cost, &usage->tokens, MARKUP_ONE);
    usage->list_nusd = money_of_tokens(&usage->list_price, &usage->tokens, MARKUP_ONE);
}

bool sweep_has_dead(const struct shm_map *map) {
    for (uint32_t index = 0; index < map->header->seat_count; index++) {
        if (atomic_load(&shm_seat(map, index)->state) == SHM_SEAT_DEAD) {
            return true;
        }
    }
    return false;
}

uint32_t sweep_dead_seats(const struct shm_map *map) {
    uint32_t published = 0;
    for (uint32_t index = 0; index < map->header->seat_count; index++) {
        struct shm_seat_sh *seat = shm_seat(map, index);
        if (atomic_load(&seat->state) != SHM_SEAT_DEAD) {
            continue;
        }
        uint32_t records = shm_slots_sweep(map, index, finish_record, NULL);
        LOG(records != 0 ? LOG_WARN : LOG_INFO, "seat_swept", log_int("seat", index),
            log_int("aborted_requests", records));
        published += records;
        shm_queue_clear_seat(map, index);
        atomic_store(&seat->streams, 0);
        atomic_store(&seat->pid, 0);
        atomic_store(&seat->state, SHM_SEAT_FREE);
    }
    return published;
}

static bool is_zombie(pid_t pid) {
    char path[64];
    char text[512];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) {
        (void)close(fd);
    }
    if (len <= 0) {
        return false;
    }
    text[len] = '\0';
    const char *name_end = strrchr(text, ')'); /* the name before it may hold anything */
    return name_end != NULL && name_end[1] == ' ' && (name_end[2] == 'Z' || name_end[2] == 'X');
}

bool sweep_is_gone(pid_t pid) { return pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH) || is_zombie(pid); }

static bool read_name(const char *path, char out[static 64]) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, out, 63);
    if (fd >= 0) {
        (void)close(fd);
    }
    out[len > 0 ? len : 0] = '\0';
    return len > 0;
}

bool sweep_is_ours(pid_t pid) {
    char path[64];
    char name[64];
    char own[64];
    if (sweep_is_gone(pid) || pid == getpid()) {
        return false;
    }
    (void)snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    return read_name(path, name) && (span_starts_with(span_text(name), "tollgate") ||
                                     (read_name("/proc/self/comm", own) && strcmp(name, own) == 0));
}

uint32_t sweep_mark_gone(const struct shm_map *map) {
    uint32_t left = 0;
    for (uint32_t index = 0; index < map->header->seat_count; index++) {
        struct shm_seat_sh *seat = shm_seat(map, index);
        uint32_t state = atomic_load(&seat->state);
        if (state == SHM_SEAT_FREE) {
            continue;
        }
        left++;
        if (state != SHM_SEAT_DEAD && sweep_is_gone(atomic_load(&seat->pid))) {
            atomic_store(&seat->state, SHM_SEAT_DEAD);
        }
    }
    return left;
}

void sweep_mark_all(const struct shm_map *map) {
    for (uint32_t index = 0; index < map->header->seat_count; index++) {
        struct shm_seat_sh *seat = shm_seat(map, index);
        if (atomic_load(&seat->state) != SHM_SEAT_FREE) {
            atomic_store(&seat->state, SHM_SEAT_DEAD);
        }
    }
}
