/* What the doors of all workers share: wrong keys by address, used signatures, connections by address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/hash.h"
#include "shm/shm_bucket.h"
#include "shm/shm_connections.h"
#include "shm/shm_failures.h"
#include "shm/shm_replays.h"

#include "segment_testing.h"

#define START_NS (1000 * NS_PER_S)
#define NOW_S INT64_C(1700000000)

struct address {
    unsigned char bytes[16];
};

static struct address ipv4(uint32_t number) {
    struct address address = {.bytes = {[10] = 0xff, [11] = 0xff}};
    for (int i = 0; i < 4; i++) {
        address.bytes[12 + i] = (unsigned char)(number >> (24 - 8 * i));
    }
    return address;
}

static struct address ipv6(uint64_t network, uint64_t host) {
    struct address address;
    memcpy(address.bytes, &network, 8);
    memcpy(address.bytes + 8, &host, 8);
    return address;
}

/* --- wrong keys --- */

static bool fail_once(struct address address, int64_t per_minute, int64_t now_ns) {
    return shm_bucket_take(shm_failure_bucket(&map, address.bytes, now_ns), per_minute, 1, now_ns);
}

static void each_address_has_its_own_failures(void **state) {
    (void)state;
    for (uint32_t number = 0; number < 1000; number++) {
        for (int i = 0; i < 5; i++) {
            assert_true(fail_once(ipv4(number), 5, START_NS));
        }
        assert_false(fail_once(ipv4(number), 5, START_NS));
    }
    assert_true(fail_once(ipv4(7), 5, START_NS + 13 * NS_PER_S));
    assert_false(fail_once(ipv4(7), 5, START_NS + 13 * NS_PER_S));
}

static void an_ipv6_customer_is_one(void **state) {
    (void)state;
    for (uint64_t host = 0; host < 5; host++) {
        assert_true(fail_once(ipv6(0x1234, host), 5, START_NS));
    }
    assert_false(fail_once(ipv6(0x1234, 99), 5, START_NS));
    assert_true(fail_once(ipv6(0x1235, 99), 5, START_NS));
}

/* More addresses than rows, all in use: the late ones share, so none gets more than its number. */
static void a_flood_of_addresses_gives_nobody_more(void **state) {
    (void)state;
    for (uint32_t number = 0; number < 4 * SHM_FAILURE_ROWS; number++) {
        (void)fail_once(ipv4(number), 1, START_NS);
    }
    int refused = 0;
    for (uint32_t number = 0; number < 1000; number++) {
        refused += fail_once(ipv4(UINT32_C(0xf0000000) + number), 1, START_NS) ? 0 : 1;
    }
    assert_true(refused > 900);
    assert_true(fail_once(ipv4(1), 1, START_NS + 61 * NS_PER_S));
    assert_true(fail_once(ipv4(0xf0000001), 1, START_NS + 61 * NS_PER_S));
}

static void failures_of_several_workers_are_summed(void **state) {
    (void)state;
    enum { WORKERS = 8, EACH = 1000, PER_MINUTE = 300 };
    _Atomic uint32_t *taken = mmap(NULL, sizeof(*taken), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            for (int round = 0; round < EACH; round++) {
                atomic_fetch_add(taken, fail_once(ipv4(42), PER_MINUTE, START_NS) ? 1 : 0);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(waitpid(children[i], NULL, 0), children[i]);
    }
    assert_int_equal(atomic_load(taken), PER_MINUTE);
    munmap(taken, sizeof(*taken));
}

/* --- signatures --- */

static enum shm_replay claim_number(uint64_t number, int64_t until_s, int64_t now_s) {
    unsigned char mac[SHA256_BYTES];
    hash_sha256(span_of((const char *)&number, sizeof(number)), mac);
    return shm_replay_claim(&map, mac, until_s, now_s);
}

static void a_signature_is_good_once(void **state) {
    (void)state;
    for (uint64_t number = 0; number < 20000; number++) {
        assert_int_equal(claim_number(number, NOW_S + 300, NOW_S), SHM_REPLAY_FIRST);
    }
    for (uint64_t number = 0; number < 20000; number++) {
        assert_int_equal(claim_number(number, NOW_S + 300, NOW_S + 300), SHM_REPLAY_AGAIN);
    }
    assert_int_equal(claim_number(1, NOW_S + 300, NOW_S + 301), SHM_REPLAY_FULL);
}

static void a_full_table_lets_nothing_through_twice_and_empties_in_time(void **state) {
    (void)state;
    uint64_t number = 0;
    uint64_t taken = 0;
    for (; number < 2 * SHM_REPLAY_ROWS; number++) {
        taken += claim_number(number, NOW_S + 300, NOW_S) == SHM_REPLAY_FIRST ? 1 : 0;
    }
    assert_true(taken > SHM_REPLAY_ROWS / 10 * 9 && taken <= SHM_REPLAY_ROWS);
    for (uint64_t i = 0; i < 100000; i++) {
        assert_int_not_equal(claim_number(i, NOW_S + 300, NOW_S), SHM_REPLAY_FIRST);
    }
    assert_int_equal(claim_number(number, NOW_S + 601, NOW_S + 301), SHM_REPLAY_FIRST);
}

static void of_several_workers_one_may_use_a_signature(void **state) {
    (void)state;
    enum { WORKERS = 4, SIGNATURES = 50000 };
    _Atomic uint8_t *used = mmap(NULL, SIGNATURES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            for (uint64_t number = 0; number < SIGNATURES; number++) {
                if (claim_number(number, NOW_S + 300, NOW_S) == SHM_REPLAY_FIRST) {
                    atomic_fetch_add(&used[number], 1);
                }
            }
            _exit(0);
        }
    }
    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(waitpid(children[i], NULL, 0), children[i]);
    }
    for (int number = 0; number < SIGNATURES; number++) {
        assert_int_equal(atomic_load(&used[number]), 1);
    }
    munmap((void *)used, SIGNATURES);
}

static void used_signatures_outlive_the_segment(void **state) {
    (void)state;
    char path[128];
    assert_int_equal(claim_number(1, NOW_S + 300, NOW_S), SHM_REPLAY_FIRST);
    assert_int_equal(claim_number(2, NOW_S + 10, NOW_S), SHM_REPLAY_FIRST);
    assert_true(shm_replays_save(&map, state_dir, NOW_S + 20));
    struct buffer error;
    const struct shm_capacity capacity = {.seats = 2, .keys = 64, .tenants = 16};
    buffer_init(&error, 1024);
    shm_map_close(&map);
    shm_map_remove(state_dir);
    assert_true(shm_map_create(&map, state_dir, &capacity, &error));
    buffer_fini(&error);
    shm_replays_load(&map, state_dir, NOW_S + 20);
    assert_int_equal(claim_number(1, NOW_S + 300, NOW_S + 20), SHM_REPLAY_AGAIN);
    assert_int_equal(claim_number(2, NOW_S + 320, NOW_S + 20), SHM_REPLAY_FIRST);
    (void)snprintf(path, sizeof(path), "%s/signatures", state_dir);
    assert_int_not_equal(access(path, F_OK), 0);
    shm_replays_load(&map, state_dir, NOW_S + 20);
}

/* A file that says nonsense changes nothing but rows it may change. */
static void a_damaged_file_of_signatures_is_harmless(void **state) {
    (void)state;
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/signatures", state_dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < 1001; i++) {
        assert_int_equal(fputc(0xff, file), 0xff);
    }
    assert_int_equal(fclose(file), 0);
    shm_replays_load(&map, state_dir, NOW_S);
    assert_int_equal(claim_number(1, NOW_S + 300, NOW_S), SHM_REPLAY_FIRST);
    assert_false(shm_replays_save(&map, "/nowhere/at/all", NOW_S));
}

/* --- connections --- */

static void the_limit_is_over_all_workers(void **state) {
    (void)state;
    uint32_t one = assign_seat();
    uint32_t two = assign_seat();
    struct address address = ipv4(1);
    assert_true(shm_connection_take(&map, one, address.bytes, 3));
    assert_true(shm_connection_take(&map, two, address.bytes, 3));
    assert_true(shm_connection_take(&map, two, address.bytes, 3));
    assert_false(shm_connection_take(&map, one, address.bytes, 3));
    assert_false(shm_connection_take(&map, two, address.bytes, 3));
    assert_true(shm_connection_take(&map, one, ipv4(2).bytes, 3));
    assert_int_equal(shm_connection_count(&map, address.bytes), 3);
    shm_connection_return(&map, two, address.bytes);
    assert_true(shm_connection_take(&map, one, address.bytes, 3));
    assert_false(shm_connection_take(&map, one, address.bytes, 3));
    assert_true(shm_connection_take(&map, one, address.bytes, 0));
    assert_int_equal(shm_connection_count(&map, address.bytes), 4);
}

static void a_dead_seat_counts_no_longer(void **state) {
    (void)state;
    uint32_t one = assign_seat();
    uint32_t two = assign_seat();
    struct address address = ipv4(1);
    for (int i = 0; i < 3; i++) {
        assert_true(shm_connection_take(&map, one, address.bytes, 3));
    }
    assert_false(shm_connection_take(&map, two, address.bytes, 3));
    atomic_store(&shm_seat(&map, one)->state, SHM_SEAT_DEAD);
    assert_true(shm_connection_take(&map, two, address.bytes, 3));
    atomic_store(&shm_seat(&map, one)->state, SHM_SEAT_FREE);
    assert_int_equal(assign_seat(), one);
    assert_int_equal(shm_connection_count(&map, address.bytes), 1);
}

/* Rows are found again after neighbours have come and gone. */
static void many_addresses_come_and_go(void **state) {
    (void)state;
    enum { ADDRESSES = 4000 };
    uint32_t seat = assign_seat();
    for (uint32_t i = 0; i < ADDRESSES; i++) {
        assert_true(shm_connection_take(&map, seat, ipv4(i).bytes, 2));
    }
    for (uint32_t i = 0; i < ADDRESSES; i += 2) {
        shm_connection_return(&map, seat, ipv4(i).bytes);
    }
    for (uint32_t i = 0; i < ADDRESSES; i++) {
        assert_int_equal(shm_connection_count(&map, ipv4(i).bytes), i % 2);
    }
    for (uint32_t i = 1; i < ADDRESSES; i += 2) {
        shm_connection_return(&map, seat, ipv4(i).bytes);
        assert_int_equal(shm_connection_count(&map, ipv4(i).bytes), 0);
    }
}

/* More addresses than rows: those without a row are let in; what the table holds stays right. */
static void a_full_table_lets_in(void **state) {
    (void)state;
    uint32_t seat = assign_seat();
    for (uint32_t i = 0; i < 2 * SHM_CONNECTION_ROWS; i++) {
        assert_true(shm_connection_take(&map, seat, ipv4(i).bytes, 1));
    }
    for (uint32_t i = 0; i < 2 * SHM_CONNECTION_ROWS; i++) {
        assert_true(shm_connection_count(&map, ipv4(i).bytes) <= 1);
        shm_connection_return(&map, seat, ipv4(i).bytes);
    }
    for (uint32_t i = 0; i < 2 * SHM_CONNECTION_ROWS; i++) {
        assert_int_equal(shm_connection_count(&map, ipv4(i).bytes), 0);
    }
}

static void hammer(uint32_t seat, int64_t most, _Atomic int64_t *open, _Atomic int64_t *highest) {
    struct address address = ipv4(9);
    for (int round = 0; round < 20000; round++) {
        if (shm_connection_take(&map, seat, address.bytes, most)) {
            int64_t now_open = atomic_fetch_add(open, 1) + 1;
            if (now_open > atomic_load(highest)) {
                atomic_store(highest, now_open);
            }
            atomic_fetch_sub(open, 1);
            shm_connection_return(&map, seat, address.bytes);
        }
    }
}

static void two_workers_at_one_moment_never_pass_the_limit(void **state) {
    (void)state;
    enum { MOST = 1 };
    _Atomic int64_t *shared =
        mmap(NULL, 2 * sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint32_t seats[] = {assign_seat(), assign_seat()};
    pid_t child = fork();
    assert_true(child >= 0);
    hammer(seats[child == 0], MOST, &shared[0], &shared[1]);
    if (child == 0) {
        _exit(0);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(atomic_load(&shared[1]), MOST);
    assert_int_equal(shm_connection_count(&map, ipv4(9).bytes), 0);
    munmap((void *)shared, 2 * sizeof(*shared));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_address_has_its_own_failures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_ipv6_customer_is_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flood_of_addresses_gives_nobody_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_of_several_workers_are_summed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_signature_is_good_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_table_lets_nothing_through_twice_and_empties_in_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(of_several_workers_one_may_use_a_signature, set_up, tear_down),
        cmocka_unit_test_setup_teardown(used_signatures_outlive_the_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_file_of_signatures_is_harmless, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_limit_is_over_all_workers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_dead_seat_counts_no_longer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_addresses_come_and_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_table_lets_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_workers_at_one_moment_never_pass_the_limit, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
