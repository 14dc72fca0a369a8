/* Titles in /proc/PID/cmdline, arguments and environment that survive, and no secret left in /proc/PID/environ. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/process_title.h"

enum { FILE_BYTES = 65536 };

static char *arguments_after[3];

static size_t read_own(const char *name, char out[static FILE_BYTES]) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t got = read(fd, out, FILE_BYTES - 1);
    assert_true(got >= 0);
    close(fd);
    out[got] = '\0';
    return (size_t)got;
}

static void test_title_is_shown(void **state) {
    (void)state;
    static char text[FILE_BYTES];
    process_title_set("tollgate: worker 12");
    read_own("cmdline", text);
    assert_string_equal(text, "tollgate: worker 12");
    process_title_set("tollgate: x");
    read_own("cmdline", text);
    assert_string_equal(text, "tollgate: x");
}

static void test_long_title_is_cut(void **state) {
    (void)state;
    static char text[FILE_BYTES];
    static char title[FILE_BYTES];
    memset(title, 'x', sizeof(title) - 1);
    process_title_set(title);
    assert_true(read_own("cmdline", text) < FILE_BYTES);
    assert_int_equal(text[0], 'x');
    assert_string_equal(getenv("TITLE_TEST_SECRET"), "canary-4711");
}

static void test_arguments_and_environment_survive(void **state) {
    (void)state;
    assert_string_equal(arguments_after[1], "first argument");
    assert_string_equal(arguments_after[2], "second");
    assert_string_equal(getenv("TITLE_TEST_SECRET"), "canary-4711");
}

static void test_environment_is_wiped_where_others_read_it(void **state) {
    (void)state;
    static char text[FILE_BYTES];
    size_t len = read_own("environ", text);
    assert_null(memmem(text, len, "canary", 6));
}

/* Only a fresh program has its arguments where the kernel put them: starts itself once more with known ones. */
int main(int argc, char **argv) {
    if (argc != 3) {
        setenv("TITLE_TEST_SECRET", "canary-4711", 1);
        setenv("TZ", "Europe/Berlin", 1);
        execl("/proc/self/exe", "test", "first argument", "second", (char *)NULL);
        return 1;
    }
    process_title_init(argc, argv);
    memcpy(arguments_after, argv, sizeof(arguments_after));
    setenv("TZ", "UTC", 1); /* a leak checker must find the copies afterwards */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_title_is_shown),
        cmocka_unit_test(test_arguments_and_environment_survive),
        cmocka_unit_test(test_environment_is_wiped_where_others_read_it),
        cmocka_unit_test(test_long_title_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
