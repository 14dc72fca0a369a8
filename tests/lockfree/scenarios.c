#include "scenarios.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct shm_map scenario_map;
static char state_dir[64];

const struct scenario *const scenarios[] = {
    &bucket_takes,         &bucket_mixed,     &bucket_windows,      &balance_reserves, &balance_kills,
    &balance_slices,       &secret_rewritten, &secret_inserted,     &key_rewritten,    &breaker_probe,
    &breaker_opens,        &ids_same,         &ids_neighbours,      &ring_hand_over,   &ring_sweep,
    &ring_sweep_published, &queue_order,      &queue_kills,         &pairs_found,      &learned_charges,
    &learned_paces,        &failures_counted, &connections_counted, &replays_claimed};
const int scenario_count = sizeof(scenarios) / sizeof(scenarios[0]);

void scenario_set_up(void) {
    struct buffer error;
    const struct shm_capacity capacity = {.seats = 2, .keys = 16, .tenants = 16};
    buffer_init(&error, 1024);
    (void)snprintf(state_dir, sizeof(state_dir), "/tmp/tollgate-test-XXXXXX");
    EXPECT(mkdtemp(state_dir) != NULL);
    EXPECT(shm_map_create(&scenario_map, state_dir, &capacity, &error));
    EXPECT(shm_seat_assign(&scenario_map, 0, 1, &error) == 0);
    buffer_fini(&error);
}

void scenario_tear_down(void) {
    shm_map_close(&scenario_map);
    shm_map_remove(state_dir);
    (void)rmdir(state_dir);
}
