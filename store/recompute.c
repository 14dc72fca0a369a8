#include "store/recompute.h"

#include <signal.h>

#include "base/clock.h"
#include "base/log.h"
#include "shm/shm_balance.h"
#include "shm/shm_pair.h"

static const int64_t retry_ns = NS_PER_S;
static const int64_t slow_ns = NS_PER_S / 10;
/* How long to wait for all workers before giving up for a while. */
static const int64_t patience_ns = NS_PER_S;

void recompute_init(struct recompute *recompute, const struct shm_map *map) {
    *recompute = (struct recompute){.map = map, .wanted = true};
}

void recompute_want(struct recompute *recompute) { recompute->wanted = true; }

static bool is_serving(uint32_t state) { return state == SHM_SEAT_LIVE || state == SHM_SEAT_DRAINING; }

/* Their loops may sleep; the signal ends their wait. */
static void wake_workers(const struct shm_map *map) {
    for (uint32_t index = 0; index < map->header->seat_count; index++) {
        const struct shm_seat_sh *seat = shm_seat(map, index);
        pid_t pid = atomic_load(&seat->pid);
        if (is_serving(atomic_load(&seat->state)) && pid > 0) {
            (void)kill(pid, SIGUSR1);
        }
    }
}

static void begin_pause(struct recompute *recompute) {
    struct shm_header_sh *header = recompute->map->header;
    atomic_store(&header->epoch, atomic_load(&header->epoch) | 1);
    recompute->pausing = true;
    recompute->since_mono_ns = clock_mono_ns();
    wake_workers(recompute->map);
}

static void end_pause(struct recompute *recompute) {
    struct shm_header_sh *header = recompute->map->header;
    atomic_store(&header->epoch, atomic_load(&header->epoch) + 1);
    recompute->pausing = false;
    wake_workers(recompute->map);
}

/* A seat that is DEAD must be swept first: its live slots are records then. */
static bool all_acknowledged(const struct shm_map *map) {
    uint64_t epoch = atomic_load(&map->header->epoch);
    for (uint32_t index = 0; index < map->header->seat_count; index++) {
        const struct shm_seat_sh *seat = shm_seat(map, index);
        uint32_t state = atomic_load(&seat->state);
        if (state == SHM_SEAT_DEAD || (is_serving(state) && atomic_load(&seat->acknowledged_epoch) != epoch)) {
            return false;
        }
    }
    return true;
}

static void reset_account(struct shm_account_sh *account) {
    atomic_store(&account->in_flight, 0);
    for (int window = 0; window < SHM_WINDOWS; window++) {
        shm_balance_set(&account->balances[window], atomic_load(&account->spend_nusd[window]), 0);
    }
}

/* Rows are used from 0 on without gaps. */
static void reset_accounts(const struct shm_map *map) {
    for (uint32_t key = 0; key < map->header->key_capacity && atomic_load(&shm_key(map, key)->version) != 0; key++) {
        reset_account(shm_key_account(map, key));
    }
    for (uint32_t id = 0; id < map->header->tenant_capacity && atomic_load(&shm_tenant(map, id)->version) != 0; id++) {
        reset_account(shm_tenant_account(map, id));
    }
    for (uint32_t row = 0; row < SHM_UPSTREAMS && shm_upstream(map, row)->name[0] != '\0'; row++) {
        atomic_store(&shm_upstream(map, row)->in_flight, 0);
    }
    shm_pair_reset_gauges(map);
}

static void add_to_account(struct shm_account_sh *account, const struct shm_slot_sh *slot) {
    atomic_fetch_add(&account->in_flight, 1);
    for (int window = 0; window < SHM_WINDOWS; window++) {
        (void)!shm_balance_reserve(&account->balances[window], -1, slot->held_nusd);
    }
}

static void add_slot(const struct shm_map *map, const struct shm_slot_sh *slot) {
    if (slot->key_index < map->header->key_capacity) {
        add_to_account(shm_key_account(map, slot->key_index), slot);
    }
    if (slot->tenant_index < map->header->tenant_capacity) {
        add_to_account(shm_tenant_account(map, slot->tenant_index), slot);
    }
    if (slot->upstream_row < SHM_UPSTREAMS) {
        atomic_fetch_add(&shm_upstream(map, slot->upstream_row)->in_flight, 1);
    }
    if (slot->pair_row < SHM_PAIRS) {
        atomic_fetch_add(&shm_pair(map, slot->pair_row)->in_flight, 1);
    }
}

/* A worker that dies now has acknowledged: nothing of it is half done, and its slots hold until they are swept. */
static void add_live_slots(const struct shm_map *map) {
    for (uint32_t seat = 0; seat < map->header->seat_count; seat++) {
        if (atomic_load(&shm_seat(map, seat)->state) == SHM_SEAT_FREE) {
            continue;
        }
        for (uint32_t index = 0; index < SHM_SLOTS_PER_SEAT; index++) {
            const struct shm_slot_sh *slot = shm_slot(map, seat, index);
            if (atomic_load_explicit(&slot->state, memory_order_acquire) == SHM_SLOT_LIVE) {
                add_slot(map, slot);
            }
        }
    }
}

void recompute_step(struct recompute *recompute, bool (*commit_all)(void *context), void *context) {
    if (!recompute->wanted || clock_mono_ns() < recompute->not_before_mono_ns) {
        return;
    }
    if (!recompute->pausing) {
        begin_pause(recompute);
    }
    if (!all_acknowledged(recompute->map)) {
        if (clock_mono_ns() > recompute->since_mono_ns + patience_ns) {
            /* A worker hangs. The master will kill it; until then the others go on with what they know. */
            recompute->not_before_mono_ns = clock_mono_ns() + retry_ns;
            end_pause(recompute);
        }
        return;
    }
    if (!commit_all(context)) {
        /* The ledger refuses admissions while it cannot commit, so nothing is overspent meanwhile. */
        recompute->not_before_mono_ns = clock_mono_ns() + retry_ns;
        end_pause(recompute);
        return;
    }
    recompute->wanted = false;
    reset_accounts(recompute->map);
    add_live_slots(recompute->map);
    shm_pair_free_idle(recompute->map, clock_mono_ns());
    end_pause(recompute);
    int64_t took_ns = clock_mono_ns() - recompute->since_mono_ns;
    LOG(took_ns > slow_ns ? LOG_WARN : LOG_DEBUG, "balances_recomputed", log_int("took_us", took_ns / NS_PER_US));
}
