/* Published rows are read whole or not at all; breakers let one probe through; an id is claimed once. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "scenarios.h"
#include "shm/shm_breaker.h"
#include "shm/shm_ids.h"
#include "shm/shm_keys.h"

/* --- a secret whose time is changed while it is looked up --- */

enum { REWRITES = 2, NUMBER = 5 };

static const unsigned char first_hash[SHA256_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 1};
static const unsigned char second_hash[SHA256_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 2}; /* begins at the same row */

static void reset_secrets(void) {
    const struct shm_header_sh *header = scenario_map.header;
    memset((char *)scenario_map.header + header->secrets_offset, 0,
           sizeof(struct shm_secret_sh) * header->secret_capacity);
    EXPECT(shm_secret_publish(&scenario_map, first_hash, NUMBER, 100));
}

static void rewrite_or_find_secret(int actor) {
    for (int round = 1; round <= REWRITES; round++) {
        if (actor == 0) {
            EXPECT(shm_secret_publish(&scenario_map, first_hash, NUMBER, 100 + round));
        } else {
            EXPECT(shm_key_find(&scenario_map, first_hash, 50) == NUMBER);
            EXPECT(shm_key_find(&scenario_map, first_hash, 200) == -1);
        }
    }
}

static void check_secret(const bool *was_killed) {
    (void)was_killed;
    EXPECT(shm_key_find(&scenario_map, first_hash, 99 + REWRITES) == NUMBER);
    EXPECT(shm_key_find(&scenario_map, first_hash, 100 + REWRITES) == -1);
}

const struct scenario secret_rewritten = {
    .name = "a secret is found while it is rewritten",
    .actors = 2,
    .reset = reset_secrets,
    .act = rewrite_or_find_secret,
    .finish = check_secret,
    .preemptions_most = 2,
    .seeds = 5000,
    .thread_rounds = 5000,
};

static void insert_or_find_secret(int actor) {
    if (actor == 0) {
        EXPECT(shm_secret_publish(&scenario_map, second_hash, NUMBER + 1, 100));
    } else {
        int found = shm_key_find(&scenario_map, second_hash, 1);
        EXPECT(found == -1 || found == NUMBER + 1);
        EXPECT(shm_key_find(&scenario_map, first_hash, 1) == NUMBER);
    }
}

/* A writer that was killed left its row unused: the next ledger writes it again. */
static void check_insert(const bool *was_killed) {
    if (was_killed[0]) {
        EXPECT(shm_secret_publish(&scenario_map, second_hash, NUMBER + 1, 100));
    }
    EXPECT(shm_key_find(&scenario_map, second_hash, 1) == NUMBER + 1);
    EXPECT(shm_key_find(&scenario_map, first_hash, 1) == NUMBER);
}

const struct scenario secret_inserted = {
    .name = "a secret is inserted beside another, its writer killed",
    .actors = 2,
    .reset = reset_secrets,
    .act = insert_or_find_secret,
    .finish = check_insert,
    .preemptions_most = 1,
    .kills_most = 1,
    .killable = 1,
    .seeds = 2000,
    .thread_rounds = 5000,
};

/* --- a key's row --- */

static struct shm_key_sh key_row(int64_t number) {
    struct shm_key_sh row = {.state = SHM_KEY_LIVE, .tenant_index = (uint32_t)number, .max_wait_ms = number};
    row.limits = (struct shm_limits_sh){number, number, number, {number, number, number}};
    (void)snprintf(row.name, sizeof(row.name), "%063lld", (long long)number);
    return row;
}

static void publish_key(int64_t number) {
    struct shm_key_sh row = key_row(number);
    shm_key_publish(&scenario_map, 1, &row);
}

static void reset_key(void) {
    memset(shm_key(&scenario_map, 1), 0, sizeof(struct shm_key_sh));
    publish_key(1);
}

static int64_t read_key(void) {
    struct shm_key_sh seen;
    if (!shm_key_read(&scenario_map, 1, &seen)) {
        return 0;
    }
    struct shm_key_sh whole = key_row(seen.max_wait_ms);
    EXPECT(memcmp((char *)&whole + sizeof(uint32_t), (char *)&seen + sizeof(uint32_t),
                  sizeof(whole) - sizeof(uint32_t)) == 0);
    return seen.max_wait_ms;
}

static void rewrite_or_read_key(int actor) {
    int64_t before = 1;
    for (int round = 1; round <= REWRITES; round++) {
        if (actor == 0) {
            publish_key(1 + round);
        } else {
            int64_t seen = read_key();
            EXPECT(seen >= before); /* never absent, whether its writer is slow or dead */
            before = seen;
        }
    }
}

static void check_key(const bool *was_killed) {
    int64_t seen = read_key();
    EXPECT(was_killed[0] ? seen >= 1 : seen == 1 + REWRITES);
    publish_key(9);
    EXPECT(read_key() == 9);
}

const struct scenario key_rewritten = {
    .name = "a key's row is read whole while it is rewritten, its writer killed",
    .actors = 2,
    .reset = reset_key,
    .act = rewrite_or_read_key,
    .finish = check_key,
    .preemptions_most = 1,
    .kills_most = 1,
    .killable = 1,
    .seeds = 2000,
    .thread_rounds = 5000,
};

/* --- breakers --- */

#define NOW_NS (INT64_C(1000) * NS_PER_S)
enum { CALLERS = 3 };

static bool answers[ACTORS_MOST];

static struct shm_upstream_sh *upstream(void) { return shm_upstream(&scenario_map, 0); }

static void reset_upstream(void) {
    memset(upstream(), 0, sizeof(struct shm_upstream_sh));
    memset(answers, 0, sizeof(answers));
}

static int count_answers(void) {
    int count = 0;
    for (int actor = 0; actor < CALLERS; actor++) {
        count += answers[actor] ? 1 : 0;
    }
    return count;
}

static void reset_open_breaker(void) {
    reset_upstream();
    EXPECT(shm_breaker_failed(upstream(), 1, NS_PER_S, NS_PER_S, NOW_NS - NS_PER_S));
}

static void ask_breaker(int actor) { answers[actor] = shm_breaker_allows(upstream(), NS_PER_S, NOW_NS); }

static void check_probe(const bool *was_killed) {
    (void)was_killed;
    EXPECT(count_answers() == 1);
}

const struct scenario breaker_probe = {
    .name = "a breaker lets one probe through",
    .actors = CALLERS,
    .reset = reset_open_breaker,
    .act = ask_breaker,
    .finish = check_probe,
    .preemptions_most = -1,
    .seeds = 2000,
    .thread_rounds = 2000,
};

static void fail_upstream(int actor) { answers[actor] = shm_breaker_failed(upstream(), 2, NS_PER_S, NS_PER_S, NOW_NS); }

static void check_opened(const bool *was_killed) {
    (void)was_killed;
    EXPECT(count_answers() == 1);
    EXPECT(!shm_breaker_allows(upstream(), NS_PER_S, NOW_NS));
}

const struct scenario breaker_opens = {
    .name = "one of the failures opens the breaker",
    .actors = CALLERS,
    .reset = reset_upstream,
    .act = fail_upstream,
    .finish = check_opened,
    .preemptions_most = 3,
    .seeds = 2000,
    .thread_rounds = 2000,
};

/* --- ids --- */

enum { TENANT = 3, ID_BYTES = 24, NEIGHBOURS = 3 };

static char neighbours[NEIGHBOURS][ID_BYTES]; /* ids whose search begins at one cell */

static void find_neighbours(void) {
    uint64_t cell = 0;
    int found = 0;
    for (uint32_t number = 0; found < NEIGHBOURS; number++) {
        char id[ID_BYTES];
        (void)snprintf(id, sizeof(id), "id-%u", number);
        uint64_t begins = hash_fast(span_text(id), TENANT) & (SHM_IDS - 1);
        if (found == 0 || begins == cell) {
            cell = begins;
            (void)snprintf(neighbours[found++], ID_BYTES, "%s", id);
        }
    }
}

static void reset_ids(void) {
    if (neighbours[0][0] == '\0') {
        find_neighbours();
    }
    for (int at = 0; at < NEIGHBOURS; at++) {
        shm_id_forget(&scenario_map, TENANT, neighbours[at]);
        shm_id_forget(&scenario_map, TENANT, neighbours[at]); /* a broken table may hold it twice */
    }
    memset(answers, 0, sizeof(answers));
}

static void claim_same(int actor) { answers[actor] = shm_id_claim(&scenario_map, TENANT, neighbours[0]); }

static void check_same(const bool *was_killed) {
    (void)was_killed;
    EXPECT(count_answers() == 1);
    EXPECT(!shm_id_claim(&scenario_map, TENANT, neighbours[0]));
}

const struct scenario ids_same = {
    .name = "an id is claimed once",
    .actors = CALLERS,
    .reset = reset_ids,
    .act = claim_same,
    .finish = check_same,
    .preemptions_most = 2,
    .seeds = 2000,
    .thread_rounds = 2000,
};

/* The first gives its id back, which frees the cell where the others' search begins. */
static void reset_neighbours(void) {
    reset_ids();
    EXPECT(shm_id_claim(&scenario_map, TENANT, neighbours[1]));
}

static void claim_beside(int actor) {
    if (actor == 0) {
        shm_id_forget(&scenario_map, TENANT, neighbours[1]);
    } else {
        answers[actor] = shm_id_claim(&scenario_map, TENANT, neighbours[0]);
    }
}

static void check_beside(const bool *was_killed) {
    (void)was_killed;
    EXPECT(count_answers() <= 1);
    EXPECT(shm_id_claim(&scenario_map, TENANT, neighbours[2]));
    EXPECT(count_answers() == 0 || !shm_id_claim(&scenario_map, TENANT, neighbours[0]));
}

const struct scenario ids_neighbours = {
    .name = "an id is claimed once, though a neighbour leaves",
    .actors = 3,
    .reset = reset_neighbours,
    .act = claim_beside,
    .finish = check_beside,
    .preemptions_most = 2,
    .seeds = 5000,
    .thread_rounds = 3000,
};
