#include <errno.h>
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "conf/conf.h"
#include "shm/shm_replays.h"
#include "store/commit.h"
#include "store/damage.h"
#include "store/ledger_process.h"
#include "store/spend.h"
#include "store/sweep.h"

static const int64_t patience_ns = 10 * NS_PER_S;

/* A process of the dead server that has not ended yet, or 0. */
static pid_t find_survivor(const struct shm_map *map) {
    for (uint32_t index = 0; index < map->header->seat_count; index++) {
        pid_t pid = atomic_load(&shm_seat(map, index)->pid);
        if (atomic_load(&shm_seat(map, index)->state) != SHM_SEAT_FREE && sweep_is_ours(pid)) {
            return pid;
        }
    }
    pid_t ledger_pid = atomic_load(&map->header->ledger_pid);
    return sweep_is_ours(ledger_pid) ? ledger_pid : 0;
}

/* Its workers notice that their master is gone, and end. */
static bool wait_for_survivors(const struct shm_map *map, struct buffer *error) {
    int64_t until_mono_ns = clock_mono_ns() + patience_ns;
    pid_t pid = find_survivor(map);
    while (pid != 0 && clock_mono_ns() < until_mono_ns) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 50 * NS_PER_MS}, NULL);
        pid = find_survivor(map);
    }
    if (pid != 0) {
        buffer_format(error, "process %d of the server that ran here before has not ended: wait for it or end it",
                      (int)pid);
    }
    return pid == 0;
}

static bool commit_everything(const struct conf *conf, const struct shm_map *map, struct buffer *error) {
    damage_expect(conf->state_dir);
    struct ledger *ledger = ledger_open(conf->state_dir, LEDGER_WRITE, error);
    if (ledger == NULL) {
        damage_forget();
        return false;
    }
    bool done = spend_use_zone(ledger, conf->timezone, error);
    int64_t records = 0;
    uint64_t pending = commit_pending(map);
    while (done && pending != 0) {
        /* 0 when the records were committed before and only their places in the rings were not given back. */
        int64_t committed = commit_rings(ledger, map, NULL, NULL, error);
        uint64_t left = commit_pending(map);
        done = committed >= 0 && left < pending;
        records += committed;
        pending = left;
    }
    done = done && commit_forget_others(ledger, 0, error);
    ledger_close(ledger);
    damage_forget();
    if (done && records != 0) {
        LOG(LOG_WARN, "segment_recovered", log_int("records", records));
    }
    return done;
}

static bool recover_attached(const struct conf *conf, struct shm_map *map, struct buffer *error) {
    if (!wait_for_survivors(map, error)) {
        return false;
    }
    sweep_mark_all(map);
    (void)sweep_dead_seats(map);
    if (!shm_replays_save(map, conf->state_dir, clock_wall_ns() / NS_PER_S)) {
        LOG(LOG_WARN, "signatures_lost_at_recovery", log_text("why", strerror(errno)));
    }
    return commit_everything(conf, map, error);
}

bool ledger_recover(const struct conf *conf, struct buffer *error) {
    struct shm_map map;
    bool done = false;
    switch (shm_map_attach(&map, conf->state_dir, true, error)) {
    case SHM_ATTACH_NONE:
        buffer_clear(error);
        return true;
    case SHM_ATTACHED:
        done = recover_attached(conf, &map, error);
        shm_map_close(&map);
        break;
    case SHM_ATTACH_OTHER_BOOT:
        buffer_clear(error);
        LOG(LOG_WARN, "segment_discarded",
            log_text("why", "the machine was restarted: requests of its last moments may be missing"));
        done = true;
        break;
    case SHM_ATTACH_OTHER_LAYOUT:
        buffer_clear(error);
        buffer_format(
            error,
            "%s/segment was left by another version of tollgate: start that version once more so that it brings in "
            "the requests it holds, or remove the file and lose them",
            conf->state_dir);
        break;
    case SHM_ATTACH_FAILED:
        break;
    }
    if (done) {
        shm_map_remove(conf->state_dir);
    }
    return done;
}
