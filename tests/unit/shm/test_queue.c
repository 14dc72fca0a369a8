#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "segment_testing.h"
#include "shm/shm_queue.h"

static void the_first_to_come_stands_first(void **state) {
    (void)state;
    int a = shm_queue_join(&map, 1, 10, 0);
    int b = shm_queue_join(&map, 1, 10, 1);
    int other = shm_queue_join(&map, 1, 11, 1);
    assert_true(a >= 0 && b >= 0 && other >= 0);
    assert_true(shm_queue_is_first(&map, a));
    assert_false(shm_queue_is_first(&map, b));
    assert_true(shm_queue_is_first(&map, other));
    assert_true(shm_queue_is_waited_for(&map, 1, 10));
    assert_false(shm_queue_is_waited_for(&map, 1, 12));
    shm_queue_leave(&map, a);
    assert_true(shm_queue_is_first(&map, b));
    shm_queue_leave(&map, b);
    shm_queue_leave(&map, other);
    assert_false(shm_queue_is_waited_for(&map, 1, 10));
    assert_int_equal(shm_queue_waiting(&map), 0);
}

static void a_reused_place_stands_last(void **state) {
    (void)state;
    int a = shm_queue_join(&map, 1, 10, 0);
    int b = shm_queue_join(&map, 1, 10, 0);
    shm_queue_leave(&map, a);
    int again = shm_queue_join(&map, 1, 10, 0);
    assert_int_equal(again, a);
    assert_true(shm_queue_is_first(&map, b));
    assert_false(shm_queue_is_first(&map, again));
    shm_queue_leave(&map, again);
    shm_queue_leave(&map, b);
}

static void a_full_queue_takes_nobody(void **state) {
    (void)state;
    for (int i = 0; i < SHM_QUEUE_PLACES; i++) {
        assert_true(shm_queue_join(&map, 1, (uint32_t)i, 3) >= 0);
    }
    assert_int_equal(shm_queue_join(&map, 1, 999, 3), -1);
    assert_int_equal(shm_queue_join(&map, 1 + SHM_QUEUES, 999, 3), -1); /* shares the queue */
    assert_true(shm_queue_join(&map, 2, 999, 3) >= 0);
    shm_queue_clear_seat(&map, 3);
    assert_int_equal(shm_queue_waiting(&map), 0);
    assert_true(shm_queue_join(&map, 1, 999, 3) >= 0);
    shm_queue_clear_seat(&map, 3);
}

static void count_seat(void *context, uint32_t seat) { ((int *)context)[seat]++; }

static void a_dead_seat_loses_its_places_only(void **state) {
    (void)state;
    int seats[4] = {0};
    (void)!shm_queue_join(&map, 1, 10, 2);
    int survivor = shm_queue_join(&map, 1, 10, 3);
    (void)!shm_queue_join(&map, 1, 10, 2);
    shm_queue_each(&map, 1, count_seat, seats);
    assert_int_equal(seats[2], 1); /* it has two places there */
    assert_int_equal(seats[3], 1);
    shm_queue_clear_seat(&map, 2);
    assert_int_equal(shm_queue_waiting(&map), 1);
    assert_true(shm_queue_is_first(&map, survivor));
    shm_queue_leave(&map, survivor);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_to_come_stands_first),
        cmocka_unit_test(a_reused_place_stands_last),
        cmocka_unit_test(a_full_queue_takes_nobody),
        cmocka_unit_test(a_dead_seat_loses_its_places_only),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
