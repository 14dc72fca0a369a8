/* One holder a state directory, known by name; the lock goes with its holder however that ends. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store_testing.h"

#include "store/state_lock.h"

static char state_dir[TEST_STATE_BYTES];

static int set_up(void **state) {
    (void)state;
    make_state(state_dir);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    remove_state(state_dir);
    return 0;
}

static enum state_lock_result take(const char *dir, bool make_dir, int *fd, pid_t *holder) {
    struct buffer error;
    buffer_init(&error, 1024);
    enum state_lock_result result = state_lock_take(dir, make_dir, fd, holder, &error);
    assert_int_equal(result == STATE_LOCK_FAILED, error.len != 0);
    buffer_fini(&error);
    return result;
}

static void test_one_holder(void **state) {
    (void)state;
    int first = -1;
    int second = -1;
    pid_t holder = 0;
    assert_int_equal(state_lock_holder(state_dir), 0);
    assert_int_equal(take(state_dir, false, &first, &holder), STATE_LOCKED);
    assert_int_equal(state_lock_holder(state_dir), getpid());
    assert_int_equal(take(state_dir, false, &second, &holder), STATE_BUSY);
    assert_int_equal(holder, getpid());
    assert_int_equal(second, -1);
    state_lock_release(state_dir, first);
    assert_int_equal(state_lock_holder(state_dir), 0);
    assert_int_equal(take(state_dir, false, &second, &holder), STATE_LOCKED);
    state_lock_release(state_dir, second);
}

static void test_killed_holder(void **state) {
    (void)state;
    int ready[2];
    int fd = -1;
    pid_t holder = 0;
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        (void)!take(state_dir, false, &fd, &holder);
        (void)!write(ready[1], "r", 1);
        (void)pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(state_lock_holder(state_dir), child);
    assert_int_equal(take(state_dir, false, &fd, &holder), STATE_BUSY);
    assert_int_equal(holder, child);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(state_lock_holder(state_dir), 0);
    assert_int_equal(take(state_dir, false, &fd, &holder), STATE_LOCKED);
    state_lock_release(state_dir, fd);
    (void)close(ready[0]);
    (void)close(ready[1]);
}

static void test_directories(void **state) {
    (void)state;
    char deep[128];
    struct stat made;
    int fd = -1;
    pid_t holder = 0;
    (void)snprintf(deep, sizeof deep, "%s/a/b/c", state_dir);
    assert_int_equal(take(deep, false, &fd, &holder), STATE_LOCK_FAILED);
    assert_int_equal(take(deep, true, &fd, &holder), STATE_LOCKED);
    assert_int_equal(stat(deep, &made), 0);
    assert_int_equal(made.st_mode & 0777, 0700);
    state_lock_release(deep, fd);
    assert_int_equal(take("/proc/nowhere", true, &fd, &holder), STATE_LOCK_FAILED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_holder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed_holder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_directories, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
