/* worker/budget.h - holds money before it is spent: the prompt and a first slice of output before an upstream is
 * called, further slices while the answer streams, the worst case for an answer that does not stream (interface.md
 * section 6). Used by: the request machine, in SEND, for each event, and in SETTLE. The words are shm_balance's, for
 * the key and the tenant, for day, month and in all; prepaid credit is a limit on what the tenant spends in all.
 * Invariant I4: spent + held never passes a budget or credit. */
#ifndef TOLLGATE_WORKER_BUDGET_H
#define TOLLGATE_WORKER_BUDGET_H

#include "worker/request.h"

/* Does anything limit what this request may cost? */
bool budget_applies(const struct request *request);

/* One window's budget, the tighter of key and tenant; credit counts as a limit in all. -1: none. */
struct budget_view {
    int64_t limit_nusd;
    int64_t left_nusd; /* what is neither spent nor held */
};
struct budget_view budget_view_of(const struct request *request, enum shm_window window);

/* The longest answer that the present try may give, for all choices: what is held when it does not stream. */
int64_t budget_worst_case_tokens(const struct request *request);

/* Before a try: makes the hold cover its first slice or worst case at the try's price; sets budget_max_tokens when the
 * answer must be kept shorter than its client asked. Refuses with insufficient_quota. */
struct verdict budget_cover(struct request *request);

/* While it streams: makes the hold cover what was counted so far, topping up slice by slice. False: the money is used
 * up; end the stream. */
MUST_CHECK bool budget_top_up(struct request *request);

/* At the end: turns the hold into spending. Returns the price to be recorded: price_nusd, or less when even the money
 * left now does not cover it. */
int64_t budget_settle(struct request *request, int64_t price_nusd);

#endif
