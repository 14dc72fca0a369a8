/* shm/shm_balance.h - {spent, held} of one account and window: checked and changed in one 16-byte compare-and-swap.
 * Used by: workers reserve, top up and settle; the ledger sets the words during a pause (store/recompute.h).
 * Units: nano-USD. A limit below 0 is none. Invariant I4: with a limit, spent + held never passes it through these
 * calls. Crash: what a dead worker held stays held until the ledger's next recompute. Blocking: never. */
#ifndef TOLLGATE_SHM_SHM_BALANCE_H
#define TOLLGATE_SHM_SHM_BALANCE_H

#include <stdbool.h>

#include "base/check.h"
#include "shm/shm_layout.h"

/* A private copy of a balance. */
struct balance {
    int64_t spent_nusd;
    int64_t held_nusd;
};

struct balance shm_balance_read(struct shm_balance_sh *balance);

/* Holds `amount` if spent + held + amount stays within the limit. */
MUST_CHECK bool shm_balance_reserve(struct shm_balance_sh *balance, int64_t limit_nusd, int64_t amount_nusd);

/* Gives back what was held without spending it. */
void shm_balance_release(struct shm_balance_sh *balance, int64_t amount_nusd);

/* Turns a hold into spending: held -= held_nusd, spent += spent_nusd, in one step. */
void shm_balance_settle(struct shm_balance_sh *balance, int64_t held_nusd, int64_t spent_nusd);

/* Ledger, during a pause. */
void shm_balance_set(struct shm_balance_sh *balance, int64_t spent_nusd, int64_t held_nusd);

#endif
