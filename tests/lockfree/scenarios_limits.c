/* Buckets and balances: never over the limit (I4, I5), nothing lost, whoever is killed. */
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "scenarios.h"
#include "shm/shm_balance.h"
#include "shm/shm_bucket.h"

#define START_NS (INT64_C(1000) * NS_PER_S)
#define MINUTE_NS (60 * NS_PER_S)

static struct shm_account_sh *account(void) { return shm_key_account(&scenario_map, 0); }

static _Atomic uint64_t *bucket(void) { return &account()->request_bucket_ns; }

/* What the actors did, each in its own cell. */
static int64_t taken[ACTORS_MOST];
static bool granted[ACTORS_MOST];

static void reset_account(void) {
    memset(account(), 0, sizeof(struct shm_account_sh));
    memset(taken, 0, sizeof(taken));
    memset(granted, 0, sizeof(granted));
}

static int count_granted(int actors) {
    int count = 0;
    for (int actor = 0; actor < actors; actor++) {
        count += granted[actor] ? 1 : 0;
    }
    return count;
}

/* --- three want what two can have --- */

enum { TAKERS = 3, TAKERS_RATE = 6 };

static void reset_takes(void) {
    reset_account();
    shm_bucket_charge(bucket(), TAKERS_RATE, TAKERS_RATE - 2, START_NS);
}

static void take_one(int actor) { granted[actor] = shm_bucket_take(bucket(), TAKERS_RATE, 1, START_NS); }

static void check_takes(const bool *was_killed) {
    (void)was_killed;
    EXPECT(count_granted(TAKERS) == 2);
    EXPECT(shm_bucket_left(bucket(), TAKERS_RATE, START_NS) == 0);
}

const struct scenario bucket_takes = {
    .name = "I5: three takers of two permits",
    .actors = TAKERS,
    .reset = reset_takes,
    .act = take_one,
    .finish = check_takes,
    .preemptions_most = -1,
    .seeds = 2000,
    .thread_rounds = 2000,
};

/* --- takes, charges and returns: the word is their sum --- */

enum { MIXED_RATE = 60, MIXED_ACTORS = 4, MIXED_USED = 30 };

static void reset_mixed(void) {
    reset_account();
    shm_bucket_charge(bucket(), MIXED_RATE, MIXED_USED, START_NS);
}

static void take_and_correct(int actor) {
    int64_t permits = 8 + actor;
    if (!shm_bucket_take(bucket(), MIXED_RATE, permits, START_NS)) {
        return;
    }
    taken[actor] = permits;
    if (actor % 2 == 0) {
        shm_bucket_return(bucket(), MIXED_RATE, permits - 1, START_NS);
        taken[actor] = 1;
    } else {
        shm_bucket_charge(bucket(), MIXED_RATE, 5, START_NS);
        taken[actor] += 5;
    }
}

static void check_mixed(const bool *was_killed) {
    int64_t used = MIXED_USED;
    (void)was_killed;
    for (int actor = 0; actor < MIXED_ACTORS; actor++) {
        used += taken[actor];
    }
    EXPECT(shm_bucket_full_in_ns(bucket(), START_NS) == used * (MINUTE_NS / MIXED_RATE));
}

const struct scenario bucket_mixed = {
    .name = "bucket: takes, charges and returns add up",
    .actors = MIXED_ACTORS,
    .reset = reset_mixed,
    .act = take_and_correct,
    .finish = check_mixed,
    .preemptions_most = 2,
    .seeds = 20000,
    .thread_rounds = 5000,
};

/* --- a clock that goes on: no window of any length admits more than capacity and refill --- */

enum { WINDOW_ACTORS = 4, WINDOW_TAKES = 40, WINDOW_RATE = 10 };

static _Atomic int64_t clock_ns;
static int64_t admitted_at_ns[WINDOW_ACTORS * WINDOW_TAKES];
static _Atomic int admitted;

static void reset_windows(void) {
    reset_account();
    atomic_store(&clock_ns, START_NS);
    atomic_store(&admitted, 0);
}

static void take_while_time_passes(int actor) {
    (void)actor;
    for (int round = 0; round < WINDOW_TAKES; round++) {
        /* The clock is read before the take, as in the worker: it may be old by then. */
        int64_t now_ns = atomic_fetch_add(&clock_ns, scenario_random(2 * NS_PER_S));
        if (shm_bucket_take(bucket(), WINDOW_RATE, 1, now_ns)) {
            admitted_at_ns[atomic_fetch_add(&admitted, 1)] = now_ns;
        }
    }
}

static void check_windows(const bool *was_killed) {
    int total = atomic_load(&admitted);
    int64_t interval_ns = MINUTE_NS / WINDOW_RATE;
    (void)was_killed;
    EXPECT(total >= WINDOW_RATE);
    for (int first = 0; first < total; first++) {
        for (int last = 0; last < total; last++) {
            int64_t from_ns = admitted_at_ns[first];
            int64_t to_ns = admitted_at_ns[last];
            int inside = 0;
            for (int at = 0; at < total && from_ns <= to_ns; at++) {
                inside += admitted_at_ns[at] >= from_ns && admitted_at_ns[at] <= to_ns ? 1 : 0;
            }
            EXPECT(from_ns > to_ns || inside <= WINDOW_RATE + (to_ns - from_ns) / interval_ns);
        }
    }
}

const struct scenario bucket_windows = {
    .name = "I5: no window admits more than capacity and refill",
    .actors = WINDOW_ACTORS,
    .reset = reset_windows,
    .act = take_while_time_passes,
    .finish = check_windows,
    .preemptions_most = -2,
    .seeds = 500,
    .thread_rounds = 200,
};

/* --- money --- */

enum { SPENDERS = 3, HOLD_NUSD = 10, PRICE_NUSD = 7, BUDGET_NUSD = 2 * HOLD_NUSD };

static struct shm_balance_sh *balance(void) { return &account()->balances[SHM_WINDOW_TOTAL]; }

static void watch_budget(void) {
    EXPECT(balance()->held_nusd >= 0 && balance()->spent_nusd >= 0);
    EXPECT(balance()->held_nusd + balance()->spent_nusd <= BUDGET_NUSD);
}

static void reserve_and_settle(int actor) {
    if (shm_balance_reserve(balance(), BUDGET_NUSD, HOLD_NUSD)) {
        shm_balance_settle(balance(), HOLD_NUSD, PRICE_NUSD);
        granted[actor] = true;
    }
}

static void check_reserves(const bool *was_killed) {
    struct balance end = shm_balance_read(balance());
    (void)was_killed;
    EXPECT(count_granted(SPENDERS) >= BUDGET_NUSD / HOLD_NUSD - 1 && end.held_nusd == 0);
    EXPECT(end.spent_nusd == count_granted(SPENDERS) * PRICE_NUSD);
}

const struct scenario balance_reserves = {
    .name = "I4: three spenders of money for two",
    .actors = SPENDERS,
    .reset = reset_account,
    .act = reserve_and_settle,
    .observe = watch_budget,
    .finish = check_reserves,
    .preemptions_most = 3,
    .seeds = 2000,
    .thread_rounds = 2000,
};

/* Killed anywhere: what a dead one holds stays held until the ledger sets the balance from its books. */
static void check_kills(const bool *was_killed) {
    struct balance end = shm_balance_read(balance());
    int killed = 0;
    for (int actor = 0; actor < SPENDERS; actor++) {
        killed += was_killed[actor] ? 1 : 0;
    }
    EXPECT(end.held_nusd % HOLD_NUSD == 0 && end.held_nusd <= killed * HOLD_NUSD);
    EXPECT(end.spent_nusd % PRICE_NUSD == 0 && end.spent_nusd >= count_granted(SPENDERS) * PRICE_NUSD);
    shm_balance_set(balance(), end.spent_nusd, 0);
    EXPECT(shm_balance_reserve(balance(), BUDGET_NUSD, BUDGET_NUSD - end.spent_nusd));
}

const struct scenario balance_kills = {
    .name = "I3, I4: spenders that are killed",
    .actors = SPENDERS,
    .reset = reset_account,
    .act = reserve_and_settle,
    .observe = watch_budget,
    .finish = check_kills,
    .preemptions_most = 2,
    .kills_most = 2,
    .killable = 7,
    .seeds = 20000,
    .thread_rounds = 500,
};

enum { SLICERS = 4, SLICE_NUSD = 3 };

/* A stream: a first slice, more of them while there is money, a price of at most what is held, the rest given back. */
static void spend_by_slices(int actor) {
    int64_t held_nusd = 0;
    for (int slice = 0; slice < 3 && shm_balance_reserve(balance(), BUDGET_NUSD, SLICE_NUSD); slice++) {
        held_nusd += SLICE_NUSD;
    }
    int64_t price_nusd = (int64_t)scenario_random((uint32_t)held_nusd + 1);
    shm_balance_settle(balance(), price_nusd, price_nusd);
    shm_balance_release(balance(), held_nusd - price_nusd);
    taken[actor] = price_nusd;
}

static void check_slices(const bool *was_killed) {
    struct balance end = shm_balance_read(balance());
    (void)was_killed;
    EXPECT(end.held_nusd == 0 && end.spent_nusd == taken[0] + taken[1] + taken[2] + taken[3]);
}

const struct scenario balance_slices = {
    .name = "I3, I4: money taken slice by slice",
    .actors = SLICERS,
    .reset = reset_account,
    .act = spend_by_slices,
    .observe = watch_budget,
    .finish = check_slices,
    .preemptions_most = 2,
    .seeds = 20000,
    .thread_rounds = 5000,
};
