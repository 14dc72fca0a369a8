/* tests/unit/shm/segment_testing.h - a real segment in a directory of its own for each test of shm/. Include after
 * cmocka.h; `map` is the segment, set_up and tear_down are cmocka's. */
#ifndef TOLLGATE_TESTS_UNIT_SHM_SEGMENT_TESTING_H
#define TOLLGATE_TESTS_UNIT_SHM_SEGMENT_TESTING_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/shm_map.h"

static char state_dir[64];
static struct shm_map map;

static int set_up(void **state) {
    (void)state;
    struct buffer error;
    buffer_init(&error, 1024);
    (void)snprintf(state_dir, sizeof(state_dir), "/tmp/tollgate-test-XXXXXX");
    assert_non_null(mkdtemp(state_dir));
    const struct shm_capacity capacity = {.seats = 2, .keys = 64, .tenants = 16};
    assert_true(shm_map_create(&map, state_dir, &capacity, &error));
    buffer_fini(&error);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    shm_map_close(&map);
    shm_map_remove(state_dir);
    return rmdir(state_dir);
}

static inline uint32_t assign_seat(void) {
    struct buffer error;
    buffer_init(&error, 1024);
    int seat = shm_seat_assign(&map, 0, 1, &error);
    assert_true(seat >= 0);
    buffer_fini(&error);
    return (uint32_t)seat;
}

#endif
