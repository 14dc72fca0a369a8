/* The relay of log lines: parting, cutting, capping, and targets that do not keep up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "master/master_log.h"

enum { OUT_BYTES = 1 << 21 };

/* A relay whose stdout and stderr are pipes of the test, with one stream into it. */
struct fixture {
    struct master_log log;
    struct master_log_stream *stream;
    int write_fd;
    int out_fd; /* read ends */
    int err_fd;
    int saved_out;
    int saved_err;
};

static int replace_with_pipe(int fd) {
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(dup2(ends[1], fd), fd);
    close(ends[1]);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    return ends[0];
}

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct buffer error;
    buffer_init(&error, 1024);
    fflush(NULL);
    fixture->saved_out = dup(STDOUT_FILENO);
    fixture->saved_err = dup(STDERR_FILENO);
    fixture->out_fd = replace_with_pipe(STDOUT_FILENO);
    fixture->err_fd = replace_with_pipe(STDERR_FILENO);
    bool opened = master_log_open(&fixture->log, "stdout", &error);
    fixture->stream = master_log_stream_open("worker 0", &fixture->write_fd);
    *state = fixture;
    return opened && fixture->stream != NULL ? 0 : -1;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    close(fixture->write_fd);
    master_log_stream_close(&fixture->log, fixture->stream, 0);
    master_log_close(&fixture->log);
    dup2(fixture->saved_out, STDOUT_FILENO);
    dup2(fixture->saved_err, STDERR_FILENO);
    close(fixture->saved_out);
    close(fixture->saved_err);
    close(fixture->out_fd);
    close(fixture->err_fd);
    free(fixture);
    return 0;
}

static void say(const struct fixture *fixture, const char *text) {
    assert_int_equal(write(fixture->write_fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void relay_at(struct fixture *fixture, int64_t now_mono_ns) {
    assert_true(master_log_stream_read(&fixture->log, fixture->stream, now_mono_ns));
    master_log_flush(&fixture->log);
}

/* All that can be read from fd now. */
static const char *take(int fd) {
    static char text[OUT_BYTES];
    size_t len = 0;
    for (;;) {
        ssize_t got = read(fd, text + len, sizeof(text) - 1 - len);
        if (got <= 0) {
            break;
        }
        len += (size_t)got;
    }
    text[len] = '\0';
    return text;
}

static int64_t lines_of(const char *text) {
    int64_t lines = 0;
    for (; *text != '\0'; text++) {
        lines += *text == '\n';
    }
    return lines;
}

static void test_lines_are_parted_by_their_mark(void **state) {
    struct fixture *fixture = *state;
    say(fixture, "one\n\001two\nthr");
    relay_at(fixture, 1);
    assert_string_equal(take(fixture->out_fd), "two\n");
    assert_string_equal(take(fixture->err_fd), "one\n");
    say(fixture, "ee\n\n\001\n");
    relay_at(fixture, 2);
    assert_string_equal(take(fixture->err_fd), "three\n\n");
    assert_string_equal(take(fixture->out_fd), "\n");
}

static void test_unfinished_line_of_the_dead_is_passed_on(void **state) {
    struct fixture *fixture = *state;
    say(fixture, "check failed: x");
    close(fixture->write_fd);
    master_log_stream_close(&fixture->log, fixture->stream, 1);
    master_log_flush(&fixture->log);
    assert_string_equal(take(fixture->err_fd), "check failed: x\n");
    fixture->stream = master_log_stream_open("worker 0", &fixture->write_fd);
    assert_non_null(fixture->stream);
}

static void test_long_line_is_cut_and_the_next_is_whole(void **state) {
    struct fixture *fixture = *state;
    static char line[3 * MASTER_LOG_LINE_BYTES];
    memset(line, 'x', sizeof(line) - 1);
    say(fixture, line);
    say(fixture, "\nnext\n");
    relay_at(fixture, 1);
    const char *text = take(fixture->err_fd);
    assert_int_equal(lines_of(text), 2);
    assert_int_equal(strcspn(text, "\n"), MASTER_LOG_LINE_BYTES);
    assert_string_equal(text + MASTER_LOG_LINE_BYTES, "\nnext\n");
}

static void test_flood_of_other_lines_is_capped_but_not_access_lines(void **state) {
    struct fixture *fixture = *state;
    for (int i = 0; i < MASTER_LOG_LINES_PER_SECOND + 500; i++) {
        say(fixture, "flood\n");
        say(fixture, "\001a\n");
        if (i % 100 == 0) {
            relay_at(fixture, 1 + i);
        }
    }
    relay_at(fixture, NS_PER_S / 2);
    assert_int_equal(lines_of(take(fixture->err_fd)), MASTER_LOG_LINES_PER_SECOND);
    assert_int_equal(lines_of(take(fixture->out_fd)), MASTER_LOG_LINES_PER_SECOND + 500);
    assert_int_equal(fixture->stream->capped_lines, 500);
    say(fixture, "a second later\n");
    relay_at(fixture, 2 * NS_PER_S);
    assert_string_equal(take(fixture->err_fd), "a second later\n");
}

static void test_target_that_does_not_keep_up_gets_whole_lines_and_never_blocks(void **state) {
    struct fixture *fixture = *state;
    const int64_t sent = 60000; /* 100 bytes each: far more than pipe and memory hold */
    char line[102];
    memset(line, 'y', sizeof(line));
    line[0] = '\001';
    memcpy(line + 100, "\n", 2);
    for (int64_t i = 0; i < sent; i++) {
        say(fixture, line);
        if (i % 500 == 0) {
            relay_at(fixture, i);
        }
    }
    relay_at(fixture, sent);
    int64_t arrived = 0;
    bool left = true;
    while (left) {
        const char *text = take(fixture->out_fd);
        for (const char *at = text; *at != '\0'; at = strchr(at, '\n') + 1) {
            assert_int_equal(strcspn(at, "\n"), 99);
            arrived++;
        }
        left = master_log_flush(&fixture->log);
    }
    arrived += lines_of(take(fixture->out_fd));
    int64_t dropped = master_log_take_dropped(&fixture->log);
    assert_true(dropped > 0 && arrived > 0);
    assert_int_equal(arrived + dropped, sent);
    assert_int_equal(master_log_take_dropped(&fixture->log), 0);
}

static void test_reader_that_left_costs_lines_only(void **state) {
    struct fixture *fixture = *state;
    close(fixture->out_fd);
    fixture->out_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    say(fixture, "\001one\n\001two\n");
    relay_at(fixture, 1);
    assert_int_equal(master_log_take_dropped(&fixture->log), 2);
}

static void test_access_log_to_a_file_that_cannot_be_opened(void **state) {
    struct fixture *fixture = *state;
    struct buffer error;
    buffer_init(&error, 1024);
    assert_false(master_log_set_access(&fixture->log, "/nonexistent/access.log", &error));
    assert_string_equal(buffer_text(&error), "access log /nonexistent/access.log: No such file or directory");
    buffer_fini(&error);
    say(fixture, "\001still to stdout\n");
    relay_at(fixture, 1);
    assert_string_equal(take(fixture->out_fd), "still to stdout\n");
    assert_true(master_log_set_access(&fixture->log, "off", &error));
    say(fixture, "\001nowhere\n");
    relay_at(fixture, 2);
    assert_string_equal(take(fixture->out_fd), "");
}

/* journald hands out a socket as stdout and stderr. */
static void test_socket_as_target(void **state) {
    (void)state;
    int ends[2];
    struct master_log log;
    struct buffer error;
    buffer_init(&error, 1024);
    fflush(NULL);
    int saved_out = dup(STDOUT_FILENO);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    dup2(ends[1], STDOUT_FILENO);
    bool opened = master_log_open(&log, "stdout", &error);
    master_log_print(&log, SPAN_LITERAL("tollgate: ready\n"));
    master_log_flush(&log);
    master_log_close(&log);
    dup2(saved_out, STDOUT_FILENO);
    close(saved_out);
    assert_true(opened);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    assert_string_equal(take(ends[0]), "tollgate: ready\n");
    close(ends[0]);
    close(ends[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines_are_parted_by_their_mark, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unfinished_line_of_the_dead_is_passed_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_line_is_cut_and_the_next_is_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flood_of_other_lines_is_capped_but_not_access_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_target_that_does_not_keep_up_gets_whole_lines_and_never_blocks, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_reader_that_left_costs_lines_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_access_log_to_a_file_that_cannot_be_opened, set_up, tear_down),
        cmocka_unit_test(test_socket_as_target),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
