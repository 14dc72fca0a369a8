#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>

#include "store/ledger_private.h"
#include "store/reader_watch.h"
#include "store_testing.h"

static char state_dir[TEST_STATE_BYTES];
static struct buffer error;
static struct ledger *ledger;

static int set_up(void **state) {
    (void)state;
    make_state(state_dir);
    buffer_init(&error, 4096);
    ledger = open_ledger(state_dir, (size_t)1 << 28);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    ledger_close(ledger);
    buffer_fini(&error);
    remove_state(state_dir);
    return 0;
}

/* A report that is stopped while it reads. */
static pid_t start_stopped_reader(void) {
    pid_t pid = fork();
    if (pid == 0) {
        struct buffer why;
        buffer_init(&why, 4096);
        struct ledger *reader = ledger_open(state_dir, LEDGER_READ, &why);
        if (reader != NULL && ledger_pin(reader, &why)) {
            (void)raise(SIGSTOP);
        }
        _exit(1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    return pid;
}

/* Commits that each free as many pages as they take. */
static void write_again_and_again(int times) {
    static char text[64 << 10];
    for (int at = 0; at < times; at++) {
        struct kv_txn *txn = ledger_begin_write(ledger, &error);
        assert_non_null(txn);
        memset(text, 'a' + at % 20, sizeof text);
        assert_true(kv_put(txn, KV_NAMES, SPAN_LITERAL("a long text"), span_of(text, sizeof text)));
        assert_int_equal(ledger_end_write(ledger, txn, &error), KV_OK);
    }
}

static void test_a_stopped_reader_is_ended(void **state) {
    (void)state;
    const uint64_t growth_bytes = UINT64_C(4) << 20;
    struct reader_watch watch = {.reader.pid = 0};
    struct kv_reader oldest;
    int status = 0;
    int64_t now_ns = 0;
    write_again_and_again(5);
    assert_false(kv_oldest_reader(ledger->kv, &oldest));
    assert_false(reader_watch_step(&watch, ledger->kv, now_ns, growth_bytes));
    pid_t reader = start_stopped_reader();
    assert_true(kv_oldest_reader(ledger->kv, &oldest));
    assert_int_equal(oldest.pid, reader);
    assert_false(reader_watch_step(&watch, ledger->kv, now_ns, growth_bytes));
    uint64_t before_bytes = kv_used_bytes(ledger->kv);
    int steps = 0;
    while (!reader_watch_step(&watch, ledger->kv, now_ns += NS_PER_S, growth_bytes)) {
        assert_true(++steps < 500);
        write_again_and_again(1);
    }
    assert_true(steps > 50); /* not before the file had grown */
    assert_int_equal(waitpid(reader, &status, 0), reader);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_true(kv_used_bytes(ledger->kv) < before_bytes + growth_bytes + (1 << 20));
    assert_false(reader_watch_step(&watch, ledger->kv, now_ns, growth_bytes));
    assert_false(kv_oldest_reader(ledger->kv, &oldest));
    uint64_t after_bytes = kv_used_bytes(ledger->kv);
    write_again_and_again(100);
    assert_true(kv_used_bytes(ledger->kv) < after_bytes + (1 << 20));
}

static void test_a_reader_that_harms_nobody_goes_on(void **state) {
    (void)state;
    struct reader_watch watch = {.reader.pid = 0};
    pid_t reader = start_stopped_reader();
    for (int64_t minute = 0; minute < 600; minute++) {
        assert_false(reader_watch_step(&watch, ledger->kv, minute * 60 * NS_PER_S, 4096));
    }
    assert_true(watch.warned);
    assert_int_equal(kill(reader, SIGKILL), 0);
    assert_int_equal(waitpid(reader, NULL, 0), reader);
    (void)kv_check_readers(ledger->kv);
    assert_false(reader_watch_step(&watch, ledger->kv, 0, 4096));
    assert_int_equal(watch.reader.pid, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_stopped_reader_is_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_reader_that_harms_nobody_goes_on, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
