/* What guards the doors: wrong keys of an address, its connections, and signatures that are good once. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "scenarios.h"
#include "shm/shm_bucket.h"
#include "shm/shm_connections.h"
#include "shm/shm_failures.h"
#include "shm/shm_replays.h"

enum { ADDRESS_BYTES = 16 };

#define DOOR_NOW_NS (INT64_C(1000) * NS_PER_S)

/* --- wrong keys --- */

enum { FAILERS = 3, FAILURES_A_MINUTE = 60 };

static _Atomic(_Atomic uint64_t *) buckets[FAILERS];

static const unsigned char failing_address[ADDRESS_BYTES] = {[10] = 0xff, 0xff, 192, 0, 2, 7};

static struct shm_failure_sh *own_row; /* the first that the address looks at */

static void reset_failures(void) {
    if (own_row == NULL) {
        _Atomic uint64_t *bucket = shm_failure_bucket(&scenario_map, failing_address, DOOR_NOW_NS);
        own_row = (struct shm_failure_sh *)(void *)((char *)bucket - offsetof(struct shm_failure_sh, bucket_ns));
    }
    memset((void *)own_row, 0, sizeof(*own_row));
    for (int actor = 0; actor < FAILERS; actor++) {
        buckets[actor] = NULL;
    }
}

static void fail_once(int actor) {
    buckets[actor] = shm_failure_bucket(&scenario_map, failing_address, DOOR_NOW_NS);
    EXPECT(shm_bucket_take(buckets[actor], FAILURES_A_MINUTE, 1, DOOR_NOW_NS));
}

static void check_failures(const bool *was_killed) {
    const _Atomic uint64_t *own = shm_failure_bucket(&scenario_map, failing_address, DOOR_NOW_NS);
    int64_t least = 0;
    for (int actor = 0; actor < FAILERS; actor++) {
        EXPECT(was_killed[actor] || buckets[actor] == own);
        least += was_killed[actor] ? 0 : 1;
    }
    int64_t used = FAILURES_A_MINUTE - shm_bucket_left(own, FAILURES_A_MINUTE, DOOR_NOW_NS);
    EXPECT(used >= least && used <= FAILERS);
}

const struct scenario failures_counted = {
    .name = "wrong keys of one address are counted in one bucket",
    .actors = FAILERS,
    .reset = reset_failures,
    .act = fail_once,
    .finish = check_failures,
    .preemptions_most = 1,
    .kills_most = 1,
    .killable = 7,
    .seeds = 2000,
    .thread_rounds = 1000,
};

/* --- connections --- */

enum { SEATS = 2, CONNECTIONS_MOST = 2, CONNECTIONS_EACH = 2 };

static const unsigned char busy_address[ADDRESS_BYTES] = {[10] = 0xff, 0xff, 192, 0, 2, 9};
static _Atomic int admitted[SEATS];

static void reset_connections(void) {
    for (uint32_t seat = 0; seat < SEATS; seat++) {
        atomic_store(&shm_seat(&scenario_map, seat)->state, SHM_SEAT_LIVE);
        shm_connections_clear(&scenario_map, seat);
        admitted[seat] = 0;
    }
}

static void connect_and_close(int actor) {
    for (int i = 0; i < CONNECTIONS_EACH; i++) {
        if (shm_connection_take(&scenario_map, (uint32_t)actor, busy_address, CONNECTIONS_MOST)) {
            admitted[actor]++;
        }
    }
    if (admitted[actor] > 0) {
        admitted[actor]--;
        shm_connection_return(&scenario_map, (uint32_t)actor, busy_address);
    }
}

static void watch_connections(void) { EXPECT(admitted[0] + admitted[1] <= CONNECTIONS_MOST); }

static void check_connections(const bool *was_killed) {
    int left = 0;
    for (uint32_t seat = 0; seat < SEATS; seat++) {
        if (was_killed[seat]) {
            atomic_store(&shm_seat(&scenario_map, seat)->state, SHM_SEAT_DEAD);
        }
        left += was_killed[seat] ? 0 : admitted[seat];
    }
    EXPECT(shm_connection_count(&scenario_map, busy_address) == left);
    for (uint32_t seat = 0; seat < SEATS; seat++) {
        atomic_store(&shm_seat(&scenario_map, seat)->state, seat == 0 ? SHM_SEAT_ASSIGNED : SHM_SEAT_FREE);
        shm_connections_clear(&scenario_map, seat);
    }
}

const struct scenario connections_counted = {
    .name = "connections: never more than an address may have, the dead's are free",
    .actors = SEATS,
    .reset = reset_connections,
    .act = connect_and_close,
    .observe = watch_connections,
    .finish = check_connections,
    .preemptions_most = 1,
    .kills_most = 1,
    .killable = 3,
    .seeds = 1000,
    .thread_rounds = 300,
};

/* --- signatures --- */

enum { CLAIMERS = 3, NOW_S = 5000, UNTIL_S = 5300, SIGNATURE_BYTES = 32, REPLAY_ROWS_NEAR = 3 };

static const unsigned char signature[SIGNATURE_BYTES] = {1, 2, 3, 4, 40};
static const unsigned char neighbour[SIGNATURE_BYTES] = {9, 9, 9, 9, 40}; /* begins at the same row */
static _Atomic int answers[CLAIMERS];

static _Atomic uint64_t *replay_rows(void) {
    return (_Atomic uint64_t *)(void *)((char *)scenario_map.header + scenario_map.header->replays_offset) + 40;
}

static void heat_replays(struct hot *hot) { hot[0] = (struct hot){replay_rows(), REPLAY_ROWS_NEAR * sizeof(uint64_t)}; }

/* A neighbour's row is free for some and not yet for others: their clocks differ by a second. */
static void reset_replays(void) {
    for (int row = 0; row < REPLAY_ROWS_NEAR; row++) {
        atomic_store(replay_rows() + row, 0);
    }
    EXPECT(shm_replay_claim(&scenario_map, neighbour, NOW_S, NOW_S) == SHM_REPLAY_FIRST);
    for (int actor = 0; actor < CLAIMERS; actor++) {
        answers[actor] = -1;
    }
}

static void claim_signature(int actor) {
    answers[actor] = (int)shm_replay_claim(&scenario_map, signature, UNTIL_S, NOW_S + actor % 2);
}

static void check_replays(const bool *was_killed) {
    int first = 0;
    (void)was_killed;
    for (int actor = 0; actor < CLAIMERS; actor++) {
        first += answers[actor] == SHM_REPLAY_FIRST ? 1 : 0;
    }
    EXPECT(first <= 1);
    EXPECT(was_killed[0] || was_killed[1] || was_killed[2] ||
           shm_replay_claim(&scenario_map, signature, UNTIL_S, NOW_S + 1) == SHM_REPLAY_AGAIN);
    EXPECT(first == 0 || shm_replay_claim(&scenario_map, signature, UNTIL_S, NOW_S + 1) == SHM_REPLAY_AGAIN);
}

const struct scenario replays_claimed = {
    .name = "a signature is good once, whoever is killed",
    .actors = CLAIMERS,
    .reset = reset_replays,
    .act = claim_signature,
    .finish = check_replays,
    .heat = heat_replays,
    .preemptions_most = 2,
    .kills_most = 1,
    .killable = 7,
    .seeds = 2000,
    .thread_rounds = 2000,
};
