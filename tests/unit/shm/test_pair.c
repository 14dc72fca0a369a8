#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "segment_testing.h"
#include "shm/shm_pair.h"

static void a_pair_keeps_its_row(void **state) {
    (void)state;
    uint32_t row = shm_pair_find(&map, 1, "model");
    assert_int_not_equal(row, SHM_NO_ROW);
    assert_int_equal(shm_pair_find(&map, 1, "model"), row);
    assert_int_not_equal(shm_pair_find(&map, 2, "model"), row);
    assert_int_not_equal(shm_pair_find(&map, 1, "other"), row);
}

static void idle_pairs_are_freed_and_used_ones_stay(void **state) {
    (void)state;
    uint32_t held = shm_pair_find(&map, 7, "held");
    uint32_t recent = shm_pair_find(&map, 7, "recent");
    uint32_t idle = shm_pair_find(&map, 7, "idle");
    atomic_store(&shm_pair(&map, held)->in_flight, 1);
    atomic_store(&shm_pair(&map, recent)->request_bucket_ns, 1001);
    atomic_store(&shm_pair(&map, idle)->token_bucket_ns, 1000);
    shm_pair_free_idle(&map, 1000);
    assert_int_not_equal(atomic_load(&shm_pair(&map, held)->identity), 0);
    assert_int_not_equal(atomic_load(&shm_pair(&map, recent)->identity), 0);
    assert_int_equal(atomic_load(&shm_pair(&map, idle)->identity), 0);
    assert_int_equal(shm_pair_find(&map, 7, "held"), held);
    shm_pair_reset_gauges(&map);
    assert_int_equal(atomic_load(&shm_pair(&map, held)->in_flight), 0);
}

static void a_full_table_asks_to_be_cleaned(void **state) {
    (void)state;
    uint32_t row = 0;
    for (uint32_t key = 0; row != SHM_NO_ROW; key++) {
        assert_true(key < 2 * SHM_PAIRS);
        row = shm_pair_find(&map, key, "model");
    }
    assert_int_equal(atomic_load(&map.header->pairs_full), 1);
    shm_pair_reset_gauges(&map);
    shm_pair_free_idle(&map, 1);
    assert_int_equal(atomic_load(&map.header->pairs_full), 0);
    assert_int_not_equal(shm_pair_find(&map, 1, "model"), SHM_NO_ROW);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pair_keeps_its_row),
        cmocka_unit_test(idle_pairs_are_freed_and_used_ones_stay),
        cmocka_unit_test(a_full_table_asks_to_be_cleaned),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
