/* A worker hands records over, the ledger takes them, either is killed: each request that went live is one record (I1).
 */
#include <stdatomic.h>
#include <string.h>

#include "scenarios.h"
#include "shm/shm_slot.h"

enum { SEAT = 0, REQUESTS = 3, WORKER = 0, LEDGER = 1 };

static struct shm_slots slots;
static bool went_live[REQUESTS];
static int seen[REQUESTS];
static uint64_t committed;  /* the ledger's position on disk */
static _Atomic int settled; /* lets the ledger's thread end */

static void reset_seat(void) {
    struct shm_seat_sh *seat = shm_seat(&scenario_map, SEAT);
    atomic_store(&seat->ring_head, 0);
    atomic_store(&seat->ring_tail, 0);
    for (uint32_t slot = 0; slot < REQUESTS; slot++) {
        memset(shm_slot(&scenario_map, SEAT, slot), 0, sizeof(struct shm_slot_sh));
        memset(shm_ring_entry(&scenario_map, SEAT, slot), 0, sizeof(struct shm_usage_record_sh));
    }
    memset(went_live, 0, sizeof(went_live));
    memset(seen, 0, sizeof(seen));
    committed = 0;
    atomic_store(&settled, 0);
    shm_slots_init(&slots, &scenario_map, SEAT);
}

static void heat_seat(struct hot *hot) {
    struct shm_seat_sh *seat = shm_seat(&scenario_map, SEAT);
    hot[0] = (struct hot){&seat->ring_head, sizeof(seat->ring_head)};
    hot[1] = (struct hot){&seat->ring_tail, sizeof(seat->ring_tail)};
    hot[2] = (struct hot){shm_slot(&scenario_map, SEAT, 0), REQUESTS * sizeof(struct shm_slot_sh)};
    hot[3] = (struct hot){shm_ring_entry(&scenario_map, SEAT, 0), REQUESTS * sizeof(struct shm_usage_record_sh)};
}

/* A record whose halves both tell which request it is. */
static int take_live(int number) {
    int slot = shm_slot_take(&slots);
    EXPECT(slot >= 0);
    struct shm_usage_record_sh *record = &shm_slot(&scenario_map, SEAT, (uint32_t)slot)->record;
    record->attempts = 1;
    record->start_wall_ns = number + 1;
    record->reserved_[1] = number + 1;
    shm_slot_go_live(&slots, slot);
    went_live[number] = true;
    return slot;
}

/* One pass of the ledger: reads what is there, commits records and position in one step, then gives the room back. */
static void drain(void) {
    uint64_t tail = 0;
    uint64_t head = 0;
    int found[REQUESTS] = {0};
    shm_ring_bounds(&scenario_map, SEAT, &tail, &head);
    for (uint64_t position = tail > committed ? tail : committed; position < head; position++) {
        struct shm_usage_record_sh record;
        memcpy(&record, shm_ring_entry(&scenario_map, SEAT, position), sizeof(record));
        EXPECT(record.start_wall_ns >= 1 && record.start_wall_ns <= REQUESTS);
        EXPECT(record.start_wall_ns == record.reserved_[1]);
        found[record.start_wall_ns - 1]++;
    }
    for (int number = 0; number < REQUESTS; number++) {
        seen[number] += found[number];
    }
    committed = head;
    shm_ring_release(&scenario_map, SEAT, head);
}

/* Without waiting the ledger does two passes and ends; what it left is for the end. */
static void drain_until_settled(void) {
    int passes = 0;
    do {
        drain();
        passes++;
    } while (scenario_may_wait ? atomic_load(&settled) < REQUESTS : passes < 2);
}

static void work_or_drain(int actor) {
    if (actor == LEDGER) {
        drain_until_settled();
        return;
    }
    for (int number = 0; number < REQUESTS; number++) {
        shm_slot_settle(&slots, take_live(number));
        atomic_fetch_add(&settled, 1);
    }
}

static void note_swept(void *context, struct shm_slot_sh *slot) {
    (void)context;
    EXPECT(slot->record.start_wall_ns == slot->record.reserved_[1]);
}

static void check_records(const bool *was_killed) {
    (void)was_killed;
    (void)shm_slots_sweep(&scenario_map, SEAT, note_swept, NULL);
    drain();
    for (int number = 0; number < REQUESTS; number++) {
        /* Killed between going live and noting it: a record too. */
        EXPECT(seen[number] == 1 || (seen[number] == 0 && !went_live[number]));
    }
}

const struct scenario ring_hand_over = {
    .name = "I1: records handed over, worker or ledger killed",
    .actors = 2,
    .reset = reset_seat,
    .act = work_or_drain,
    .finish = check_records,
    .heat = heat_seat,
    .preemptions_most = 2,
    .kills_most = 2,
    .killable = 3,
    .seeds = 2000,
    .thread_rounds = 3000,
};

/* --- the sweep itself is killed, and done again --- */

/* Three that are live; the first was being handed over, its record published or not. */
static void reset_dead_seat(bool published) {
    reset_seat();
    for (int number = 0; number < REQUESTS; number++) {
        struct shm_slot_sh *slot = shm_slot(&scenario_map, SEAT, (uint32_t)take_live(number));
        if (number == 0) {
            slot->ring_position = 0;
            atomic_store(&slot->state, SHM_SLOT_SETTLING);
            *shm_ring_entry(&scenario_map, SEAT, 0) = slot->record;
            atomic_store(&shm_seat(&scenario_map, SEAT)->ring_head, published ? 1 : 0);
        }
    }
}

static void reset_before_head(void) { reset_dead_seat(false); }

static void reset_after_head(void) { reset_dead_seat(true); }

static void sweep(int actor) {
    (void)actor;
    (void)shm_slots_sweep(&scenario_map, SEAT, note_swept, NULL);
}

const struct scenario ring_sweep = {
    .name = "I1: the sweep is killed and done again",
    .actors = 1,
    .reset = reset_before_head,
    .act = sweep,
    .finish = check_records,
    .heat = heat_seat,
    .preemptions_most = -1,
    .kills_most = 1,
    .killable = 1,
    .seeds = 200,
    .thread_rounds = 20,
};

const struct scenario ring_sweep_published = {
    .name = "I1: the sweep after a head that moved is killed and done again",
    .actors = 1,
    .reset = reset_after_head,
    .act = sweep,
    .finish = check_records,
    .heat = heat_seat,
    .preemptions_most = -1,
    .kills_most = 1,
    .killable = 1,
    .seeds = 200,
    .thread_rounds = 20,
};
