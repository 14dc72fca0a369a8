/* Those who wait for a rate (first come, first served, none forgotten), the limits of a key on a model, and what is
 * learned of an upstream's limits. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "scenarios.h"
#include "shm/shm_learned.h"
#include "shm/shm_pair.h"
#include "shm/shm_queue.h"

/* --- the queue --- */

enum { WAITERS = 3, WAITING_TENANT = 1, WAITING_KEY = 5 };

static _Atomic int places[WAITERS]; /* -1: none */
static _Atomic bool leaving[WAITERS];
static _Atomic bool asleep[WAITERS]; /* it was not first */
static _Atomic bool woken[WAITERS];

static struct shm_queue_sh *queue(void) {
    struct shm_queue_sh *queues =
        (struct shm_queue_sh *)(void *)((char *)scenario_map.header + scenario_map.header->queues_offset);
    return &queues[WAITING_TENANT];
}

static void heat_queue(struct hot *hot) {
    hot[0] = (struct hot){queue(), offsetof(struct shm_queue_sh, waiters)};
    hot[1] = (struct hot){queue()->waiters, WAITERS * sizeof(struct shm_waiter_sh)};
}

static void reset_queue(void) {
    memset((void *)queue(), 0, sizeof(struct shm_queue_sh));
    for (int i = 0; i < WAITERS; i++) {
        places[i] = -1;
        leaving[i] = asleep[i] = woken[i] = false;
    }
}

static void wake(void *context, uint32_t seat) {
    (void)context;
    woken[seat] = true;
}

static void leave_and_wake(int actor) {
    leaving[actor] = true;
    shm_queue_leave(&scenario_map, places[actor]);
    places[actor] = -1;
    shm_queue_each(&scenario_map, WAITING_TENANT, wake, NULL);
}

/* Comes, looks whether it is its turn, and leaves if so; else it sleeps until it is woken. */
static void wait_in_line(int actor) {
    bool was_there[WAITERS];
    for (int other = 0; other < WAITERS; other++) {
        was_there[other] = places[other] >= 0;
    }
    places[actor] = shm_queue_join(&scenario_map, WAITING_TENANT, WAITING_KEY, (uint32_t)actor);
    EXPECT(places[actor] >= 0);
    if (!shm_queue_is_first(&scenario_map, places[actor])) {
        asleep[actor] = true;
        return;
    }
    for (int other = 0; other < WAITERS; other++) {
        EXPECT(!was_there[other] || leaving[other]); /* nobody passes who came before */
    }
    leave_and_wake(actor);
}

static void check_queue(const bool *was_killed) {
    bool any_killed = false;
    for (int actor = 0; actor < WAITERS; actor++) {
        any_killed = any_killed || was_killed[actor];
        if (was_killed[actor]) {
            shm_queue_clear_seat(&scenario_map, (uint32_t)actor);
        }
    }
    for (int turn = 0; turn < WAITERS; turn++) {
        for (int actor = 0; actor < WAITERS; actor++) {
            if (asleep[actor] && !was_killed[actor] && shm_queue_is_first(&scenario_map, places[actor])) {
                EXPECT(any_killed || woken[actor]); /* a dead one wakes nobody: then the second's look must do */
                asleep[actor] = false;
                leave_and_wake(actor);
            }
        }
    }
    EXPECT(shm_queue_waiting(&scenario_map) == 0);
    EXPECT(!shm_queue_is_waited_for(&scenario_map, WAITING_TENANT, WAITING_KEY));
    EXPECT(any_killed ? queue()->waiting >= 0 : queue()->waiting == 0);
    for (int i = 0; i < SHM_QUEUE_PLACES; i++) {
        EXPECT(queue()->waiters[i].identity == 0); /* no place is lost */
    }
}

const struct scenario queue_order = {
    .name = "queue: nobody passes who came before, nobody is forgotten",
    .actors = WAITERS,
    .reset = reset_queue,
    .act = wait_in_line,
    .finish = check_queue,
    .heat = heat_queue,
    .preemptions_most = 2,
    .seeds = 5000,
    .thread_rounds = 500,
};

const struct scenario queue_kills = {
    .name = "queue: the dead leave no place behind and hold nobody up",
    .actors = WAITERS,
    .reset = reset_queue,
    .act = wait_in_line,
    .finish = check_queue,
    .heat = heat_queue,
    .preemptions_most = 1,
    .kills_most = 1,
    .killable = 7,
    .seeds = 5000,
    .thread_rounds = 100,
};

/* --- a key on a model --- */

enum { PAIRS = 3, PAIR_ROWS = 4 };

static uint32_t pair_keys[PAIRS]; /* keys whose search begins at one row */
static uint32_t first_row;
static _Atomic uint32_t found_rows[ACTORS_MOST];

static void find_pair_keys(void) {
    int found = 0;
    for (uint32_t key = 1; found < PAIRS; key++) {
        uint32_t row = (uint32_t)hash_fast(SPAN_LITERAL("m"), key) & (SHM_PAIRS - 1);
        if (found == 0 || row == first_row) {
            first_row = row;
            pair_keys[found++] = key;
        }
    }
}

static struct shm_pair_sh *pair_row(uint32_t step) {
    return shm_pair(&scenario_map, (first_row + step) & (SHM_PAIRS - 1));
}

static void heat_pairs(struct hot *hot) {
    if (pair_keys[0] == 0) {
        find_pair_keys();
    }
    for (uint32_t step = 0; step < PAIR_ROWS; step++) {
        hot[step] = (struct hot){pair_row(step), sizeof(struct shm_pair_sh)};
    }
}

static void reset_pairs(void) {
    if (pair_keys[0] == 0) {
        find_pair_keys();
    }
    for (uint32_t step = 0; step < PAIR_ROWS; step++) {
        memset((void *)pair_row(step), 0, sizeof(struct shm_pair_sh));
    }
    for (int actor = 0; actor < ACTORS_MOST; actor++) {
        found_rows[actor] = SHM_NO_ROW;
    }
}

/* Two want the first pair, the others want neighbours. */
static uint32_t key_of_actor(int actor) { return pair_keys[actor == 0 ? 0 : actor - 1]; }

static void find_pair_row(int actor) {
    uint32_t row = shm_pair_find(&scenario_map, key_of_actor(actor), "m");
    found_rows[actor] = row;
    EXPECT(row != SHM_NO_ROW && shm_pair_find(&scenario_map, key_of_actor(actor), "m") == row);
}

static void check_pairs(const bool *was_killed) {
    for (int actor = 0; actor < PAIRS + 1; actor++) {
        uint32_t row = shm_pair_find(&scenario_map, key_of_actor(actor), "m");
        EXPECT(was_killed[actor] || row == found_rows[actor]);
        for (int other = 0; other < actor; other++) {
            bool same = key_of_actor(other) == key_of_actor(actor);
            EXPECT((shm_pair_find(&scenario_map, key_of_actor(other), "m") == row) == same);
        }
    }
}

const struct scenario pairs_found = {
    .name = "pairs: all agree on a pair's row, whoever is killed",
    .actors = PAIRS + 1,
    .reset = reset_pairs,
    .act = find_pair_row,
    .finish = check_pairs,
    .heat = heat_pairs,
    .preemptions_most = 1,
    .kills_most = 1,
    .killable = 15,
    .seeds = 1000,
    .thread_rounds = 300,
};

/* --- what is learned --- */

#define LEARNED_NOW_NS (INT64_C(1000) * NS_PER_S)
enum { LEARNED_LIMIT = 100 };

static struct shm_learned_sh *learned(void) { return &shm_upstream(&scenario_map, 0)->learned_requests; }

static int64_t learned_level(void) { return ((int64_t)learned()->bucket_ns - LEARNED_NOW_NS) / NS_PER_S; }

static void reset_learned(void) {
    memset((void *)learned(), 0, sizeof(struct shm_learned_sh));
    shm_learned_hear(learned(), LEARNED_LIMIT, LEARNED_LIMIT - 10, 10 * NS_PER_S, LEARNED_NOW_NS);
}

static void charge_learned(int actor) {
    shm_learned_charge(learned(), actor + 1, LEARNED_NOW_NS);
    shm_learned_charge(learned(), actor == 2 ? -3 : 1, LEARNED_NOW_NS);
}

static void check_charges(const bool *was_killed) {
    (void)was_killed;
    EXPECT(learned_level() == 10 + 1 + 2 + 3 + 1 + 1 - 3);
}

const struct scenario learned_charges = {
    .name = "learned: what is sent and what is not after all add up",
    .actors = 3,
    .reset = reset_learned,
    .act = charge_learned,
    .finish = check_charges,
    .preemptions_most = 2,
    .seeds = 2000,
    .thread_rounds = 2000,
};

/* One hears of another pace while others send: whatever the order, and though it is killed between two of its words,
 * the guess stays between nothing used and all used. */
static void hear_or_send(int actor) {
    if (actor == 0) {
        shm_learned_hear(learned(), LEARNED_LIMIT, LEARNED_LIMIT - 12, 24 * NS_PER_S, LEARNED_NOW_NS);
    } else {
        shm_learned_charge(learned(), 200, LEARNED_NOW_NS);
        (void)shm_learned_wait_ns(learned(), 1, LEARNED_NOW_NS);
        shm_learned_charge(learned(), -1, LEARNED_NOW_NS);
    }
}

static void check_guess(const bool *was_killed) {
    (void)was_killed;
    EXPECT(learned_level() >= 0 && learned_level() <= 2 * LEARNED_LIMIT);
    EXPECT(shm_learned_wait_ns(learned(), 1, LEARNED_NOW_NS) <= 2 * LEARNED_LIMIT * NS_PER_S);
    EXPECT(shm_learned_wait_ns(learned(), 1, LEARNED_NOW_NS + 2 * LEARNED_LIMIT * NS_PER_S) == 0);
}

const struct scenario learned_paces = {
    .name = "learned: a new pace while others send, its bringer killed",
    .actors = 3,
    .reset = reset_learned,
    .act = hear_or_send,
    .finish = check_guess,
    .preemptions_most = 1,
    .kills_most = 1,
    .killable = 7,
    .seeds = 5000,
    .thread_rounds = 2000,
};
