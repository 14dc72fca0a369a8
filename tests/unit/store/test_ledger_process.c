/* The ledger process as the master runs it: ready, operations over its socket, commits, sweeps of dead workers, its
 * end, kills at any moment, and recovery of what a dead server left. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "store_testing.h"

#include "shm/shm_balance.h"
#include "shm/shm_keys.h"
#include "store/client.h"
#include "store/commit.h"
#include "store/control.h"
#include "store/ledger_process.h"
#include "store/state_lock.h"

static char state_dir[TEST_STATE_BYTES];
static struct conf *conf;
static struct heritage heritage;
static struct shm_slots slots;
static int alive_fds[2];
static int lock_fd;
static pid_t ledger_pid;
static struct buffer error;

/* Starts the ledger in a child and waits until it is ready. */
static void start_ledger(void) {
    int ready[2];
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    heritage.ready_fd = ready[1];
    heritage.generation++;
    ledger_pid = fork();
    if (ledger_pid == 0) {
        (void)close(alive_fds[1]);
        (void)close(ready[0]);
        (void)close(lock_fd);
        _exit(ledger_main(&heritage));
    }
    (void)close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    assert_int_equal(atomic_load(&heritage.map.header->ledger_ready), heritage.generation);
}

static int wait_for_ledger(void) {
    int status = 0;
    assert_int_equal(waitpid(ledger_pid, &status, 0), ledger_pid);
    ledger_pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int set_up(void **state) {
    (void)state;
    pid_t holder = 0;
    buffer_init(&error, 4096);
    make_state(state_dir);
    conf = make_conf(state_dir);
    heritage = (struct heritage){.conf = conf, .ledger_wake_fd = eventfd(0, EFD_NONBLOCK), .state_fd = -1};
    assert_int_equal(state_lock_take(state_dir, false, &lock_fd, &holder, &error), STATE_LOCKED);
    make_segment(&heritage.map, state_dir, 3);
    assert_int_equal(pipe(alive_fds), 0);
    heritage.master_alive_fd = alive_fds[0];
    int seat = shm_seat_assign(&heritage.map, 0, 1, &error);
    assert_true(seat >= 0);
    shm_slots_init(&slots, &heritage.map, (uint32_t)seat);
    atomic_store(&shm_seat(&heritage.map, slots.seat)->pid, getpid());
    atomic_store(&shm_seat(&heritage.map, slots.seat)->state, SHM_SEAT_LIVE);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    if (ledger_pid != 0) {
        (void)kill(ledger_pid, SIGKILL);
        (void)wait_for_ledger();
    }
    (void)close(alive_fds[0]);
    (void)close(alive_fds[1]);
    (void)close(heritage.ledger_wake_fd);
    shm_map_close(&heritage.map);
    state_lock_release(state_dir, lock_fd);
    conf_free(conf);
    buffer_fini(&error);
    remove_state(state_dir);
    return 0;
}

static void settle(const char *id) {
    struct shm_usage_record_sh usage = make_usage(id, 0, 0, clock_wall_ns());
    uint64_t one = 1;
    int slot = shm_slot_take(&slots);
    assert_true(slot >= 0);
    shm_slot(slots.map, slots.seat, (uint32_t)slot)->record = usage;
    shm_slot_go_live(&slots, slot);
    shm_slot_settle(&slots, slot);
    assert_int_equal(write(heritage.ledger_wake_fd, &one, sizeof one), sizeof one);
}

static void nap(int64_t ms) {
    (void)nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static void wait_until_empty(void) {
    for (int tries = 0; commit_pending(&heritage.map) != 0; tries++) {
        assert_true(tries < 500);
        nap(10);
    }
}

/* Calls through the socket. */
static void call(struct client *client, const char *request, struct answer *answer) {
    buffer_init(&answer->text, 1 << 22);
    json_doc_init(&answer->doc);
    answer->ok = client_call(client, span_text(request), &answer->text);
    assert_true(json_parse(&answer->doc, buffer_span(&answer->text)));
}

static void call_ok(struct client *client, const char *request) {
    struct answer answer;
    call(client, request, &answer);
    if (!answer.ok) {
        fail_msg("%s: %s", request, buffer_text(&answer.text));
    }
    answer_fini(&answer);
}

static void assert_books(uint64_t records) {
    struct ledger *ledger = ledger_open(state_dir, LEDGER_READ, &error);
    if (ledger == NULL) {
        fail_msg("%s", buffer_text(&error));
    }
    assert_sound(ledger, records);
    ledger_close(ledger);
}

static void test_serves(void **state) {
    (void)state;
    struct answer answer;
    struct shm_tenant_sh tenant;
    start_ledger();
    struct client *client = client_open(conf, false, &error);
    assert_non_null(client);
    assert_true(client_is_remote(client));
    call_ok(client, "{\"op\":\"tenant.create\",\n \"name\":\"acme\"}");
    assert_true(shm_tenant_read(&heritage.map, 0, &tenant)); /* before the answer came */
    call_ok(client, "{\"op\":\"key.create\",\"tenant\":\"acme\"}");
    call(client, "{\"op\":\"tenant.create\",\"name\":\"acme\"}", &answer);
    assert_false(answer.ok);
    answer_fini(&answer);
    settle("one");
    call(client, "{\"op\":\"flush\"}", &answer);
    assert_raw(&answer, "lag_records", "0");
    answer_fini(&answer);
    assert_int_equal(commit_pending(&heritage.map), 0);
    assert_int_equal(shm_key_account(&heritage.map, 0)->spend_nusd[SHM_WINDOW_DAY], 64000);
    settle("two");
    wait_until_empty();                           /* by itself */
    call(client, "{\"op\":\"verify\"}", &answer); /* beside the server */
    assert_raw(&answer, "records", "2");
    assert_raw(&answer, "problems", "[]");
    answer_fini(&answer);
    call_ok(client, "{\"op\":\"compact\"}");
    call(client, "{\"op\":\"verify\"}", &answer);
    assert_raw(&answer, "records", "2");
    assert_raw(&answer, "problems", "[]");
    answer_fini(&answer);
    assert_true(atomic_load(&heritage.map.header->ledger_heartbeat_mono_ns) > clock_mono_ns() - 5 * NS_PER_S);
    settle("three");
    assert_int_equal(kill(ledger_pid, SIGTERM), 0);
    assert_int_equal(wait_for_ledger(), CHILD_EXIT_DONE);
    assert_int_equal(commit_pending(&heritage.map), 0);
    start_ledger();
    call_ok(client, "{\"op\":\"tenant.show\",\"name\":\"acme\"}"); /* the connection went with the first ledger */
    client_close(client);
    assert_int_equal(kill(ledger_pid, SIGQUIT), 0);
    assert_int_equal(wait_for_ledger(), CHILD_EXIT_DONE);
    assert_books(3);
}

/* I1: a request of a worker that died becomes a record, and only one. */
static void test_I1_dead_worker(void **state) {
    (void)state;
    start_ledger();
    for (int at = 0; at < 5; at++) {
        int slot = shm_slot_take(&slots);
        struct shm_slot_sh *shared = shm_slot(slots.map, slots.seat, (uint32_t)slot);
        char id[16];
        (void)snprintf(id, sizeof id, "live%d", at);
        shared->record = make_usage(id, 0, 0, 0);
        shared->record.status = 0;
        shared->record.flags |= at == 0 ? SHM_RECORD_ESTIMATED : 0U; /* the others' upstreams had reported */
        shared->record.price_nusd = 0;
        shared->record.attempts = at == 4 ? 0 : 1; /* the last never reached an upstream */
        shared->held_nusd = at == 1 ? 50000 : 0;   /* of a budget, which caps the price */
        shm_slot_go_live(&slots, slot);
    }
    const struct shm_key_sh key = {.state = SHM_KEY_LIVE, .allow_row = SHM_NO_ROW};
    const struct shm_tenant_sh tenant = {.state = SHM_KEY_LIVE, .allow_row = SHM_NO_ROW};
    shm_key_publish(&heritage.map, 0, &key);
    shm_tenant_publish(&heritage.map, 0, &tenant);
    /* I3: gauges and holds that nobody owns any more are gone after the recompute, whatever they had become. */
    atomic_store(&shm_key_account(&heritage.map, 0)->in_flight, 6);
    atomic_store(&shm_tenant_account(&heritage.map, 0)->in_flight, 2);
    assert_true(shm_balance_reserve(&shm_key_account(&heritage.map, 0)->balances[SHM_WINDOW_DAY], -1, 12345));
    atomic_store(&shm_seat(&heritage.map, slots.seat)->state, SHM_SEAT_DEAD);
    for (int tries = 0; atomic_load(&shm_seat(&heritage.map, slots.seat)->state) != SHM_SEAT_FREE; tries++) {
        assert_true(tries < 500);
        nap(10);
    }
    wait_until_empty();
    for (int tries = 0; atomic_load(&heritage.map.header->epoch) % 2 != 0 ||
                        atomic_load(&shm_key_account(&heritage.map, 0)->in_flight) != 0;
         tries++) {
        assert_true(tries < 500);
        nap(10);
    }
    struct shm_account_sh *account = shm_key_account(&heritage.map, 0);
    struct balance day = shm_balance_read(&account->balances[SHM_WINDOW_DAY]);
    assert_int_equal(shm_tenant_account(&heritage.map, 0)->in_flight, 0);
    assert_int_equal(day.held_nusd, 0);
    assert_int_equal(day.spent_nusd, account->spend_nusd[SHM_WINDOW_DAY]);
    assert_true(day.spent_nusd > 0);
    assert_books(4);
    struct ledger *ledger = ledger_open(state_dir, LEDGER_READ, &error);
    struct kv_txn *txn = ledger_begin_read(ledger, &error);
    const unsigned char *chain = NULL;
    struct span bytes = SPAN_EMPTY;
    struct record record;
    assert_true(ledger_record_bytes(txn, 1, &chain, &bytes));
    assert_true(record_unpack(bytes, &record));
    assert_int_equal(record.usage.status, 500);
    assert_int_equal(record.usage.price_nusd, 64000);
    assert_true((record.usage.flags & SHM_RECORD_ABORTED) != 0 && (record.usage.flags & SHM_RECORD_ESTIMATED) != 0);
    assert_true(record.usage.end_wall_ns > clock_wall_ns() - 60 * NS_PER_S);
    assert_true(ledger_record_bytes(txn, 2, &chain, &bytes));
    assert_true(record_unpack(bytes, &record));
    assert_int_equal(record.usage.status, 200);
    assert_true((record.usage.flags & SHM_RECORD_ABORTED) != 0 && (record.usage.flags & SHM_RECORD_ESTIMATED) == 0);
    assert_int_equal(record.usage.price_nusd, 50000);
    assert_true((record.usage.flags & SHM_RECORD_CAPPED) != 0);
    ledger_end_read(ledger, txn);
    ledger_close(ledger);
}

static void test_master_gone(void **state) {
    (void)state;
    start_ledger();
    settle("one");
    int slot = shm_slot_take(&slots);
    shm_slot(slots.map, slots.seat, (uint32_t)slot)->record = make_usage("live", 0, 0, 0);
    shm_slot_go_live(&slots, slot);
    pid_t worker = fork();
    if (worker == 0) {
        (void)close(alive_fds[1]);
        nap(300);
        _exit(0);
    }
    atomic_store(&shm_seat(&heritage.map, slots.seat)->pid, worker); /* stays a zombie: nobody reaps it */
    (void)close(alive_fds[1]);
    alive_fds[1] = -1;
    nap(100);
    assert_int_equal(waitpid(ledger_pid, NULL, WNOHANG), 0); /* a worker lives still */
    assert_int_equal(wait_for_ledger(), CHILD_EXIT_DONE);
    assert_int_equal(waitpid(worker, NULL, 0), worker);
    assert_books(2);
}

/* Killed and started again at random moments while records come in: each is there once. */
static void test_I1_ledger_killed(void **state) {
    (void)state;
    unsigned seed = 3;
    int count = 0;
    for (int round = 0; round < 25; round++) {
        start_ledger();
        int64_t until_mono_ns = clock_mono_ns() + (rand_r(&seed) % 40) * NS_PER_MS;
        while (clock_mono_ns() < until_mono_ns) {
            char id[32];
            (void)snprintf(id, sizeof id, "r%d", count++);
            settle(id);
            nap(rand_r(&seed) % 2);
        }
        assert_int_equal(kill(ledger_pid, SIGKILL), 0);
        assert_int_equal(wait_for_ledger(), -SIGKILL);
    }
    start_ledger();
    wait_until_empty();
    assert_books((uint64_t)count);
}

/* Everybody died: the next command finds what the segment holds. */
static void test_I1_recovery(void **state) {
    (void)state;
    struct answer answer;
    start_ledger();
    settle("one");
    wait_until_empty();
    assert_int_equal(kill(ledger_pid, SIGKILL), 0);
    (void)wait_for_ledger();
    settle("two");
    int slot = shm_slot_take(&slots);
    shm_slot(slots.map, slots.seat, (uint32_t)slot)->record = make_usage("live", 0, 0, 0);
    shm_slot_go_live(&slots, slot);
    state_lock_release(state_dir, lock_fd);
    lock_fd = -1;
    atomic_store(&shm_seat(&heritage.map, slots.seat)->pid, 0);
    struct client *client = client_open(conf, false, &error);
    if (client == NULL) {
        fail_msg("%s", buffer_text(&error));
    }
    assert_false(client_is_remote(client));
    call(client, "{\"op\":\"verify\"}", &answer);
    assert_raw(&answer, "records", "3");
    assert_raw(&answer, "problems", "[]");
    answer_fini(&answer);
    call_ok(client, "{\"op\":\"tenant.create\",\"name\":\"acme\"}"); /* without a server */
    call_ok(client, "{\"op\":\"key.create\",\"tenant\":\"acme\"}");
    client_close(client);
    struct shm_map gone;
    assert_int_equal(shm_map_attach(&gone, state_dir, false, &error), SHM_ATTACH_NONE);
    buffer_clear(&error);
    assert_true(ledger_recover(conf, &error)); /* nothing to do */
    assert_books(3);
}

/* I1: killed between the commit and the release of the rings: the records are in the books and in the ring. Recovery
 * (M1 of the model) takes the ring back, bills nothing twice and succeeds at once. */
static void test_I1_recovery_of_committed_records(void **state) {
    (void)state;
    struct shm_seat_sh *seat = shm_seat(&heritage.map, slots.seat);
    start_ledger();
    settle("one");
    settle("two");
    wait_until_empty();
    assert_int_equal(kill(ledger_pid, SIGKILL), 0);
    (void)wait_for_ledger();
    atomic_store(&seat->ring_tail, atomic_load(&seat->ring_tail) - 2);
    atomic_store(&seat->pid, 0);
    state_lock_release(state_dir, lock_fd);
    lock_fd = -1;
    if (!ledger_recover(conf, &error)) {
        fail_msg("%s", buffer_text(&error));
    }
    assert_books(2);
}

static void wait_until_refusing(uint32_t refuses) {
    for (int tries = 0; atomic_load(&heritage.map.header->ledger_refuses) != refuses; tries++) {
        assert_true(tries < 500);
        nap(10);
    }
}

/* The books can't be written: nothing is lost, nothing new is admitted, and it recovers when the cause is gone. */
static void test_cannot_commit(void **state) {
    (void)state;
    struct rlimit before;
    struct answer answer;
    start_ledger();
    struct client *client = client_open(conf, false, &error);
    settle("one");
    wait_until_empty();
    assert_int_equal(prlimit(ledger_pid, RLIMIT_FSIZE, NULL, &before), 0);
    const struct rlimit nothing = {.rlim_cur = 100, .rlim_max = before.rlim_max};
    assert_int_equal(prlimit(ledger_pid, RLIMIT_FSIZE, &nothing, NULL), 0);
    for (int at = 0; at < 50; at++) {
        char id[16];
        (void)snprintf(id, sizeof id, "more%d", at);
        settle(id);
    }
    wait_until_refusing(1);
    nap(1500); /* it tries again and fails again */
    assert_int_equal(atomic_load(&heritage.map.header->ledger_refuses), 1);
    assert_int_equal(commit_pending(&heritage.map), 50);
    call(client, "{\"op\":\"flush\"}", &answer);
    assert_false(answer.ok);
    answer_fini(&answer);
    call(client, "{\"op\":\"tenant.create\",\"name\":\"acme\"}", &answer);
    assert_false(answer.ok);
    answer_fini(&answer);
    assert_int_equal(prlimit(ledger_pid, RLIMIT_FSIZE, &before, NULL), 0);
    wait_until_refusing(0);
    wait_until_empty();
    call_ok(client, "{\"op\":\"tenant.create\",\"name\":\"acme\"}");
    client_close(client);
    assert_books(51);
}

/* Books that are damaged end the ledger for good, and lose nothing of the segment. */
static void test_damaged_books(void **state) {
    (void)state;
    char path[128];
    start_ledger();
    settle("one");
    wait_until_empty();
    assert_int_equal(kill(ledger_pid, SIGKILL), 0);
    (void)wait_for_ledger();
    (void)snprintf(path, sizeof path, "%s/ledger/data.mdb", state_dir);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    static char kept[1 << 20];
    size_t len = fread(kept, 1, sizeof kept, file);
    (void)fclose(file);
    assert_true(len < sizeof kept);
    assert_int_equal(truncate(path, 100), 0);
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    heritage.ready_fd = ready[1];
    ledger_pid = fork();
    if (ledger_pid == 0) {
        _exit(ledger_main(&heritage));
    }
    assert_int_equal(wait_for_ledger(), CHILD_EXIT_CONFIGURATION); /* do not start me again */
    (void)close(ready[0]);
    (void)close(ready[1]);
    file = fopen(path, "wb");
    assert_int_equal(fwrite(kept, 1, len, file), len);
    (void)fclose(file);
    settle("two");
    start_ledger();
    wait_until_empty();
    assert_int_equal(atomic_load(&heritage.map.header->ledger_refuses), 0);
    assert_books(2);
}

static int connect_raw(void) {
    struct sockaddr_un address;
    int directory_fd = -1;
    assert_true(control_address(state_dir, &address, &directory_fd));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Clients that send garbage, half a request, far too much, or never read: the others go on. */
static void test_hostile_clients(void **state) {
    (void)state;
    enum { HOSTILE = 80 };
    int fds[HOSTILE];
    char text[4096];
    start_ledger();
    for (int at = 0; at < HOSTILE; at++) {
        fds[at] = connect_raw();
        memset(text, at % 256, sizeof text);
        text[sizeof text - 1] = at % 3 == 0 ? '\n' : 'x';
        (void)send(fds[at], text, sizeof text, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    struct client *client = NULL;
    for (int tries = 0; client == NULL && tries < 10; tries++) {
        for (int at = tries * 8; at < tries * 8 + 8; at++) {
            (void)close(fds[at]);
        }
        client = client_connect(state_dir, &error);
        struct answer answer;
        if (client != NULL) {
            call(client, "{\"op\":\"tenant.list\"}", &answer);
            if (!answer.ok) {
                client_close(client);
                client = NULL;
            }
            answer_fini(&answer);
        }
        for (int at = tries * 8; at < tries * 8 + 8; at++) {
            fds[at] = -1;
        }
    }
    assert_non_null(client);
    int flood = connect_raw();
    memset(text, ' ', sizeof text);
    ssize_t sent = 1;
    int64_t all = 0;
    while (sent > 0 && all < (INT64_C(16) << 20)) {
        sent = send(flood, text, sizeof text, MSG_NOSIGNAL);
        all += sent;
    }
    assert_true(all < (INT64_C(16) << 20)); /* cut off */
    (void)close(flood);
    call_ok(client, "{\"op\":\"tenant.create\",\"name\":\"acme\"}");
    client_close(client);
    for (int at = 0; at < HOSTILE; at++) {
        if (fds[at] >= 0) {
            (void)close(fds[at]);
        }
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
    (void)signal(SIGUSR1, SIG_IGN); /* this process plays a worker, and the ledger wakes workers with it */
    const struct CMUnitTest tests[] = {
        TEST(test_serves),           TEST(test_I1_dead_worker), TEST(test_master_gone),
        TEST(test_I1_ledger_killed), TEST(test_I1_recovery),    TEST(test_I1_recovery_of_committed_records),
        TEST(test_cannot_commit),    TEST(test_damaged_books),  TEST(test_hostile_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
