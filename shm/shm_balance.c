#include "shm/shm_balance.h"

#include "base/money.h"

/* gcc inlines cmpxchg16b for this builtin, but calls libatomic for the C11 forms (libraries.md). */
typedef unsigned __int128 pair_type;

union pair {
    struct balance balance;
    pair_type word;
};

static union pair load(struct shm_balance_sh *balance) {
    union pair seen;
    /* There is no plain 16-byte load: a swap of nothing by nothing reads both halves in one step. */
    seen.word = __sync_val_compare_and_swap((pair_type *)(void *)balance, 0, 0);
    return seen;
}

static bool swap(struct shm_balance_sh *balance, union pair *seen, struct balance next) {
    const union pair wanted = {.balance = next};
    pair_type before = __sync_val_compare_and_swap((pair_type *)(void *)balance, seen->word, wanted.word);
    bool done = before == seen->word;
    seen->word = before;
    return done;
}

struct balance shm_balance_read(struct shm_balance_sh *balance) {
    return load(balance).balance;
}

bool shm_balance_reserve(struct shm_balance_sh *balance, int64_t limit_nusd, int64_t amount_nusd) {
    union pair seen = load(balance);
    for (;;) {
        struct balance next = seen.balance;
        next.held_nusd = money_add(next.held_nusd, amount_nusd);
        if (limit_nusd >= 0 && money_add(next.spent_nusd, next.held_nusd) > limit_nusd) {
            return false;
        }
        if (swap(balance, &seen, next)) {
            return true;
        }
    }
}

void shm_balance_settle(struct shm_balance_sh *balance, int64_t held_nusd, int64_t spent_nusd) {
    union pair seen = load(balance);
    struct balance next;
    do {
        next = seen.balance;
        next.spent_nusd = money_add(next.spent_nusd, spent_nusd);
        next.held_nusd -= held_nusd;
    } while (!swap(balance, &seen, next));
}

void shm_balance_release(struct shm_balance_sh *balance, int64_t amount_nusd) {
    shm_balance_settle(balance, amount_nusd, 0);
}

void shm_balance_set(struct shm_balance_sh *balance, int64_t spent_nusd, int64_t held_nusd) {
    union pair seen = load(balance);
    while (!swap(balance, &seen, (struct balance){spent_nusd, held_nusd})) {
    }
}
