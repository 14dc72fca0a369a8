/* Rings into the books: every record once, whoever is killed when; ids used twice; a map that is too small; a full
 * ring. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "store_testing.h"

#include "store/commit.h"
#include "store/spend.h"

static char state_dir[TEST_STATE_BYTES];
#define NOON (INT64_C(1790000000) * NS_PER_S)

static int set_up(void **state) {
    (void)state;
    make_state(state_dir);
    assert_true(calendar_use_zone("UTC"));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    remove_state(state_dir);
    return 0;
}

/* Publishes one record as a worker does. */
static void settle(struct shm_slots *slots, const struct shm_usage_record_sh *usage) {
    int slot = shm_slot_take(slots);
    assert_true(slot >= 0);
    shm_slot(slots->map, slots->seat, (uint32_t)slot)->record = *usage;
    shm_slot_go_live(slots, slot);
    shm_slot_settle(slots, slot);
}

static void settle_many(struct shm_slots *slots, const char *prefix, int count) {
    for (int at = 0; at < count; at++) {
        char id[SHM_REQUEST_ID_BYTES];
        (void)snprintf(id, sizeof id, "%s%d", prefix, at);
        struct shm_usage_record_sh usage = make_usage(id, (uint32_t)at % 3, (uint32_t)at % 7, NOON + at * NS_PER_S);
        settle(slots, &usage);
    }
}

static void take_seat(struct shm_map *map, struct shm_slots *slots) {
    struct buffer error;
    buffer_init(&error, 1024);
    int seat = shm_seat_assign(map, 0, 1, &error);
    assert_true(seat >= 0);
    shm_slots_init(slots, map, (uint32_t)seat);
    buffer_fini(&error);
}

static int64_t commit_now(struct ledger *ledger, const struct shm_map *map) {
    struct buffer error;
    buffer_init(&error, 1024);
    int64_t committed = commit_rings(ledger, map, NULL, NULL, &error);
    if (committed < 0) {
        fail_msg("%s", buffer_text(&error));
    }
    buffer_fini(&error);
    return committed;
}

static bool count_record(void *context, const struct ledger_record *record) {
    (void)record;
    (*(int *)context)++;
    return true;
}

static int count_with_id(struct ledger *ledger, const char *id) {
    struct buffer error;
    int count = 0;
    buffer_init(&error, 1024);
    assert_true(ledger_each_record_with_id(ledger, id, count_record, &count, &error));
    buffer_fini(&error);
    return count;
}

static void test_commit_and_sums(void **state) {
    (void)state;
    struct shm_map map;
    struct shm_slots *slots = calloc(2, sizeof *slots);
    make_segment(&map, state_dir, 3);
    take_seat(&map, &slots[0]);
    take_seat(&map, &slots[1]);
    struct ledger *ledger = open_ledger(state_dir, 1 << 26);
    assert_int_equal(commit_now(ledger, &map), 0);
    settle_many(&slots[0], "a", 100);
    settle_many(&slots[1], "b", 50);
    assert_int_equal(commit_pending(&map), 150);
    assert_int_equal(commit_now(ledger, &map), 150);
    assert_int_equal(commit_pending(&map), 0);
    assert_int_equal(map.header->records_committed, 150);
    settle_many(&slots[0], "c", 10);
    assert_int_equal(commit_now(ledger, &map), 10);
    assert_sound(ledger, 160);
    assert_int_equal(count_with_id(ledger, "a99"), 1);
    assert_int_equal(count_with_id(ledger, "a100"), 0);

    struct spend_windows windows;
    struct buffer error;
    int64_t spent_nusd[SHM_WINDOWS];
    buffer_init(&error, 1024);
    spend_windows_at(NOON, &windows);
    struct kv_txn *txn = ledger_begin_read(ledger, &error);
    spend_load(txn, FOLD_TENANT, 0, &windows, spent_nusd);
    /* 34 of a, 17 of b, 4 of c; 60 plain x 0.5 + 40 cached x 0.1 + 20 output x 1.5 USD a million = 64,000 nUSD each */
    assert_int_equal(spent_nusd[SHM_WINDOW_TOTAL], 55 * 64000);
    assert_int_equal(spent_nusd[SHM_WINDOW_DAY], 55 * 64000);
    ledger_end_read(ledger, txn);
    buffer_fini(&error);
    ledger_close(ledger);
    shm_map_close(&map);
    free(slots);
}

static void test_ids_used_twice(void **state) {
    (void)state;
    struct shm_map map;
    struct shm_slots *slots = calloc(1, sizeof *slots);
    make_segment(&map, state_dir, 1);
    take_seat(&map, slots);
    struct ledger *ledger = open_ledger(state_dir, 1 << 26);
    struct shm_usage_record_sh usage = make_usage("same", 0, 0, NOON);
    settle(slots, &usage);
    settle(slots, &usage); /* in one batch */
    assert_int_equal(commit_now(ledger, &map), 2);
    settle(slots, &usage); /* in another */
    usage.tenant_id = 1;   /* another tenant may use it too */
    settle(slots, &usage);
    usage.id[0] = '\0';
    settle(slots, &usage);
    assert_int_equal(commit_now(ledger, &map), 3);
    assert_int_equal(count_with_id(ledger, "same"), 2);
    assert_sound(ledger, 5);
    ledger_close(ledger);
    shm_map_close(&map);
    free(slots);
}

static void test_replay_after_lost_release(void **state) {
    (void)state;
    struct shm_map map;
    struct shm_slots *slots = calloc(1, sizeof *slots);
    make_segment(&map, state_dir, 1);
    take_seat(&map, slots);
    struct ledger *ledger = open_ledger(state_dir, 1 << 26);
    settle_many(slots, "a", 20);
    assert_int_equal(commit_now(ledger, &map), 20);
    /* As if the ledger had died between its commit and the release of the ring. */
    shm_ring_release(&map, slots->seat, 0);
    assert_int_equal(commit_pending(&map), 20);
    assert_int_equal(commit_now(ledger, &map), 0);
    assert_int_equal(commit_pending(&map), 0);
    shm_ring_release(&map, slots->seat, 5);
    settle_many(slots, "b", 3);
    assert_int_equal(commit_now(ledger, &map), 3);
    assert_sound(ledger, 23);
    ledger_close(ledger);
    shm_map_close(&map);
    free(slots);
}

static void test_map_grows(void **state) {
    (void)state;
    struct shm_map map;
    struct shm_slots *slots = calloc(1, sizeof *slots);
    make_segment(&map, state_dir, 1);
    take_seat(&map, slots);
    struct ledger *ledger = open_ledger(state_dir, 1 << 20);
    for (int round = 0; round < 6; round++) {
        char prefix[16];
        (void)snprintf(prefix, sizeof prefix, "r%d-", round);
        settle_many(slots, prefix, 4000);
        assert_int_equal(commit_now(ledger, &map), 4000);
    }
    assert_true(kv_used_bytes(ledger->kv) > 1 << 20);
    assert_sound(ledger, 24000);
    ledger_close(ledger);
    shm_map_close(&map);
    free(slots);
}

/* The child commits without end and is killed at any instruction; whatever it had done, each record is there once. */
static void commit_until_killed(const struct shm_map *map) {
    struct ledger *ledger = open_ledger(state_dir, 1 << 26);
    struct buffer error;
    buffer_init(&error, 1024);
    for (;;) {
        (void)commit_rings(ledger, map, NULL, NULL, &error);
    }
}

static void test_I2_killed_at_any_moment(void **state) {
    (void)state;
    enum { ROUNDS = 60, RECORDS = 200 };
    struct shm_map map;
    struct shm_slots *slots = calloc(1, sizeof *slots);
    unsigned seed = 7;
    make_segment(&map, state_dir, 1);
    take_seat(&map, slots);
    for (int round = 0; round < ROUNDS; round++) {
        char prefix[16];
        pid_t child = fork();
        if (child == 0) {
            commit_until_killed(&map);
        }
        (void)snprintf(prefix, sizeof prefix, "k%d-", round);
        settle_many(slots, prefix, RECORDS);
        (void)nanosleep(&(struct timespec){.tv_nsec = rand_r(&seed) % 12000000}, NULL);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
    }
    struct ledger *ledger = open_ledger(state_dir, 1 << 26);
    (void)commit_now(ledger, &map);
    assert_int_equal(commit_pending(&map), 0);
    assert_sound(ledger, ROUNDS * RECORDS);
    assert_int_equal(count_with_id(ledger, "k0-0"), 1);
    assert_int_equal(count_with_id(ledger, "k59-199"), 1);
    ledger_close(ledger);
    shm_map_close(&map);
    free(slots);
}

static void test_zone_change(void **state) {
    (void)state;
    struct ledger *ledger = open_ledger(state_dir, 1 << 26);
    struct buffer error;
    struct spend_windows windows;
    int64_t spent_nusd[SHM_WINDOWS];
    int64_t now_wall_ns = clock_wall_ns();
    buffer_init(&error, 1024);
    assert_true(spend_use_zone(ledger, "UTC", &error));
    struct shm_usage_record_sh usage = make_usage("z", 0, 0, now_wall_ns);
    assert_true(commit_records(ledger, &usage, 1, &error));
    assert_true(spend_use_zone(ledger, "Asia/Kathmandu", &error));
    assert_sound(ledger, 1);
    spend_windows_at(now_wall_ns, &windows);
    struct kv_txn *txn = ledger_begin_read(ledger, &error);
    spend_load(txn, FOLD_KEY, 0, &windows, spent_nusd);
    ledger_end_read(ledger, txn);
    assert_int_equal(spent_nusd[SHM_WINDOW_DAY], 64000);
    assert_int_equal(spent_nusd[SHM_WINDOW_TOTAL], 64000);
    assert_false(spend_use_zone(ledger, "Nowhere/AtAll", &error));
    assert_true(spend_use_zone(ledger, "UTC", &error));
    buffer_fini(&error);
    ledger_close(ledger);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_commit_and_sums, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ids_used_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_replay_after_lost_release, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_map_grows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_I2_killed_at_any_moment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_zone_change, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
