/* Slots and rings: the hand-over, and that a SIGKILL at any moment loses or doubles nothing (invariant I1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/shm_slot.h"

#include "segment_testing.h"

static void settle_one(struct shm_slots *slots, uint64_t number) {
    int slot = shm_slot_take(slots);
    assert_true(slot >= 0);
    struct shm_slot_sh *shared = shm_slot(slots->map, slots->seat, (uint32_t)slot);
    shared->record.attempts = 1;
    shared->record.price_nusd = (int64_t)number;
    shm_slot_go_live(slots, slot);
    shm_slot_settle(slots, slot);
}

static void settled_record_reaches_the_ring(void **state) {
    (void)state;
    struct shm_slots *slots = calloc(1, sizeof(*slots));
    uint64_t tail = 0;
    uint64_t head = 0;
    uint32_t seat = assign_seat();
    shm_slots_init(slots, &map, seat);
    settle_one(slots, 7);
    shm_ring_bounds(&map, seat, &tail, &head);
    assert_int_equal(head - tail, 1);
    assert_int_equal(shm_ring_entry(&map, seat, tail)->price_nusd, 7);
    assert_int_equal(slots->reserved_entries, 0);
    free(slots);
}

static void request_that_reached_no_upstream_leaves_no_record(void **state) {
    (void)state;
    struct shm_slots *slots = calloc(1, sizeof(*slots));
    uint64_t tail = 0;
    uint64_t head = 0;
    uint32_t seat = assign_seat();
    shm_slots_init(slots, &map, seat);
    int slot = shm_slot_take(slots);
    shm_slot_go_live(slots, slot);
    shm_slot_settle(slots, slot);
    shm_ring_bounds(&map, seat, &tail, &head);
    assert_int_equal(head, tail);
    assert_int_equal(slots->free_count, SHM_SLOTS_PER_SEAT);
    free(slots);
}

static void full_ring_refuses_and_recovers(void **state) {
    (void)state;
    struct shm_slots *slots = calloc(1, sizeof(*slots));
    uint64_t tail = 0;
    uint64_t head = 0;
    uint32_t seat = assign_seat();
    shm_slots_init(slots, &map, seat);
    for (uint64_t i = 0; i < SHM_RING_ENTRIES; i++) {
        settle_one(slots, i);
    }
    assert_int_equal(shm_slot_take(slots), -1);
    shm_ring_bounds(&map, seat, &tail, &head);
    shm_ring_release(&map, seat, tail + 1);
    int slot = shm_slot_take(slots);
    assert_true(slot >= 0);
    assert_int_equal(shm_slot_take(slots), -1);
    shm_slot_drop(slots, slot);
    assert_true(shm_slot_take(slots) >= 0);
    free(slots);
}

static void every_slot_can_be_live_and_settle(void **state) {
    (void)state;
    struct shm_slots *slots = calloc(1, sizeof(*slots));
    static int taken[SHM_SLOTS_PER_SEAT];
    uint64_t tail = 0;
    uint64_t head = 0;
    uint32_t seat = assign_seat();
    shm_slots_init(slots, &map, seat);
    for (int i = 0; i < SHM_SLOTS_PER_SEAT; i++) {
        taken[i] = shm_slot_take(slots);
        assert_true(taken[i] >= 0);
        shm_slot(&map, seat, (uint32_t)taken[i])->record.attempts = 1;
        shm_slot_go_live(slots, taken[i]);
    }
    assert_int_equal(shm_slot_take(slots), -1);
    for (int i = 0; i < SHM_SLOTS_PER_SEAT; i++) {
        shm_slot_settle(slots, taken[i]);
    }
    shm_ring_bounds(&map, seat, &tail, &head);
    assert_int_equal(head - tail, SHM_SLOTS_PER_SEAT);
    free(slots);
}

/* What the killed worker tells its parent about itself: kept outside the segment. */
struct progress {
    _Atomic uint64_t begun;   /* requests that went live */
    _Atomic uint64_t settled; /* requests whose settle returned */
};

/* Settles numbered requests, several live at a time, until killed. */
static void work_until_killed(uint32_t seat, struct progress *progress) {
    enum { LIVE = 5 };
    struct shm_slots *slots = calloc(1, sizeof(*slots));
    shm_slots_init(slots, &map, seat);
    for (;;) {
        int taken[LIVE];
        for (int i = 0; i < LIVE; i++) {
            taken[i] = shm_slot_take(slots);
            if (taken[i] < 0) {
                pause();
            }
            struct shm_slot_sh *slot = shm_slot(&map, seat, (uint32_t)taken[i]);
            slot->record.attempts = 1;
            slot->record.price_nusd = (int64_t)atomic_load(&progress->begun);
            shm_slot_go_live(slots, taken[i]);
            atomic_fetch_add(&progress->begun, 1);
        }
        for (int i = 0; i < LIVE; i++) {
            shm_slot_settle(slots, taken[i]);
            atomic_fetch_add(&progress->settled, 1);
        }
    }
}

static void mark_aborted(void *context, struct shm_slot_sh *slot) {
    (void)context;
    slot->record.flags |= SHM_RECORD_ABORTED;
}

static void drain_ring(uint32_t seat, unsigned char *seen, uint64_t most) {
    uint64_t tail = 0;
    uint64_t head = 0;
    shm_ring_bounds(&map, seat, &tail, &head);
    for (; tail < head; tail++) {
        uint64_t number = (uint64_t)shm_ring_entry(&map, seat, tail)->price_nusd;
        assert_true(number < most);
        seen[number]++;
    }
    shm_ring_release(&map, seat, head);
}

/* I1: kill the worker at a random moment; sweep, sometimes twice as a killed ledger would; every request that went live
 * is in the ring exactly once. */
static void I1_sigkill_anywhere_leaves_each_request_exactly_once(void **state) {
    (void)state;
    enum { ROUNDS = 200, MOST = 1 << 20 };
    unsigned char *seen = calloc(MOST, 1);
    struct progress *progress = (void *)((char *)map.header + map.header->prices_offset); /* unused here, shared */
    srand(1);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t seat = assign_seat();
        memset(progress, 0, sizeof(*progress));
        memset(seen, 0, MOST);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            work_until_killed(seat, progress);
        }
        int64_t until = clock_mono_ns() + (int64_t)(rand() % 3000) * 1000;
        while (clock_mono_ns() < until || atomic_load(&progress->begun) == 0) {
            drain_ring(seat, seen, MOST);
        }
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        atomic_store(&shm_seat(&map, seat)->state, SHM_SEAT_DEAD);
        (void)shm_slots_sweep(&map, seat, mark_aborted, NULL);
        assert_int_equal(shm_slots_sweep(&map, seat, mark_aborted, NULL), 0);
        drain_ring(seat, seen, MOST);
        uint64_t begun = atomic_load(&progress->begun);
        for (uint64_t i = 0; i < begun; i++) {
            assert_int_equal(seen[i], 1);
        }
        /* The kill may fall between going live and being counted as begun. */
        assert_true(seen[begun] <= 1);
        assert_int_equal(seen[begun + 1], 0);
        atomic_store(&shm_seat(&map, seat)->state, SHM_SEAT_FREE);
    }
    free(seen);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(settled_record_reaches_the_ring, set_up, tear_down),
        cmocka_unit_test_setup_teardown(request_that_reached_no_upstream_leaves_no_record, set_up, tear_down),
        cmocka_unit_test_setup_teardown(full_ring_refuses_and_recovers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_slot_can_be_live_and_settle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(I1_sigkill_anywhere_leaves_each_request_exactly_once, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
