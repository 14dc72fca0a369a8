/* tests/lockfree/scenarios.h - the scenarios by file, for the one table of them in scenarios.c. */
#ifndef TOLLGATE_TESTS_LOCKFREE_SCENARIOS_H
#define TOLLGATE_TESTS_LOCKFREE_SCENARIOS_H

#include "scenario.h"

extern const struct scenario bucket_takes, bucket_mixed, bucket_windows;
extern const struct scenario balance_reserves, balance_kills, balance_slices;
extern const struct scenario secret_rewritten, secret_inserted, key_rewritten;
extern const struct scenario breaker_probe, breaker_opens;
extern const struct scenario ids_same, ids_neighbours;
extern const struct scenario ring_hand_over, ring_sweep, ring_sweep_published;
extern const struct scenario queue_order, queue_kills, pairs_found, learned_charges, learned_paces;
extern const struct scenario failures_counted, connections_counted, replays_claimed;

#endif
