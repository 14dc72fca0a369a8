/* The master with fake children: start, respawn, reload, drain, and what it refuses. Real forks, sockets and signals.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fake_children.h"
#include "master/master.h"
#include "master/process_title.h"

enum { WAIT_MS = 15000, POLL_MS = 10, TEXT_BYTES = 32768 };

/* A server under test in a directory of its own: conf.yaml, state/, out (its stdout), err, access.log. */
struct server {
    char dir[128];
    int port;
    int admin_port;
    pid_t pid;
};

static char *path_in(const struct server *server, const char *name) {
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", server->dir, name);
    return path;
}

static int listen_somewhere(int *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 && listen(fd, 1) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static int free_port(void) {
    int port = 0;
    close(listen_somewhere(&port));
    return port;
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Writes conf.yaml with that many workers; `more` are further top-level lines. */
static void configure(const struct server *server, int workers, const char *more) {
    char text[2048];
    snprintf(text, sizeof(text),
             "listen: [{address: \"127.0.0.1:%d\"}]\nadmin: {address: \"127.0.0.1:%d\"}\nworkers: %d\nstate: %s\n"
             "upstreams:\n  demo: {dialect: demo}\nmodels:\n  demo:\n    price: {input: 1, output: 2}\n"
             "    routes: [{upstream: demo}]\nlog: {access: %s, format: text, level: debug}\n%s",
             server->port, server->admin_port, workers, path_in(server, "state"), path_in(server, "access.log"), more);
    write_file(path_in(server, "conf.yaml"), text);
}

static void make_server(struct server *server) {
    *server = (struct server){.port = free_port(), .admin_port = free_port()};
    snprintf(server->dir, sizeof(server->dir), "%s/tollgate-master-XXXXXX",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(server->dir));
    assert_int_equal(mkdir(path_in(server, "state"), 0700), 0);
}

static void ask(const struct server *server, const char *name) {
    char path[64];
    snprintf(path, sizeof(path), "state/%s", name);
    write_file(path_in(server, path), "");
}

static void run_server(const struct server *server) {
    struct conf_findings findings = {0};
    char *config_path = path_in(server, "conf.yaml");
    struct conf *conf = conf_load(config_path, NULL, &findings);
    if (conf == NULL) {
        _exit(99);
    }
    int out = open(path_in(server, "out"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    int err = open(path_in(server, "err"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    const struct master_options options = {strdup(config_path), NULL};
    _exit(master_serve(conf, &options));
}

static void start(struct server *server) {
    server->pid = fork();
    if (server->pid == 0) {
        run_server(server);
    }
    assert_true(server->pid > 0);
}

static const char *content(const struct server *server, const char *name) {
    static char text[TEXT_BYTES];
    int fd = open(path_in(server, name), O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
    text[got > 0 ? got : 0] = '\0';
    if (fd >= 0) {
        close(fd);
    }
    return text;
}

/* A file of /proc/PID. */
static const char *of_process(pid_t pid, const char *name) {
    struct server process = {.port = 0};
    snprintf(process.dir, sizeof(process.dir), "/proc/%d", (int)pid);
    return content(&process, name);
}

static int count_in(const struct server *server, const char *name, const char *needle) {
    int count = 0;
    for (const char *at = strstr(content(server, name), needle); at != NULL; at = strstr(at + 1, needle)) {
        count++;
    }
    return count;
}

/* Waits until `needle` stands `count` times in the file. */
static void await(const struct server *server, const char *name, const char *needle, int count) {
    for (int waited_ms = 0; waited_ms < WAIT_MS; waited_ms += POLL_MS) {
        if (count_in(server, name, needle) >= count) {
            return;
        }
        poll(NULL, 0, POLL_MS);
    }
    fprintf(stderr, "%s\n", content(server, "err"));
    fail_msg("no \"%s\" (%d times) in %s", needle, count, name);
}

static void await_ready(const struct server *server) { await(server, "out", "tollgate: ready:", 1); }

/* Waits for the server's end. Returns its exit status, or -1 when a signal ended it or it lives on. */
static int await_end(const struct server *server) {
    for (int waited_ms = 0; waited_ms < WAIT_MS; waited_ms += POLL_MS) {
        int status = 0;
        if (waitpid(server->pid, &status, WNOHANG) == server->pid) {
            return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        }
        poll(NULL, 0, POLL_MS);
    }
    kill(server->pid, SIGKILL);
    fprintf(stderr, "%s\n", content(server, "err"));
    fail_msg("the server does not end");
    return -1;
}

static int stop(const struct server *server) {
    kill(server->pid, SIGTERM);
    return await_end(server);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk) {
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static void clean(const struct server *server) { nftw(server->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS); }

static int dial(const struct server *server) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)server->port)};
    const struct timeval patience = {.tv_sec = WAIT_MS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return fd;
}

struct answer {
    unsigned generation;
    unsigned worker;
    int pid;
};

static bool read_answer(int fd, struct answer *answer) {
    char text[128] = "";
    ssize_t got = recv(fd, text, sizeof(text) - 1, MSG_WAITALL);
    close(fd);
    return got > 0 &&
           sscanf(text, "generation %u worker %u pid %d", &answer->generation, &answer->worker, &answer->pid) == 3;
}

/* Connects and sends a line. */
static int begin(const struct server *server, const char *line) {
    int fd = dial(server);
    assert_true(fd >= 0);
    assert_int_equal(send(fd, line, strlen(line), MSG_NOSIGNAL), (ssize_t)strlen(line));
    return fd;
}

static struct answer call(const struct server *server, const char *line) {
    struct answer answer = {0};
    assert_true(read_answer(begin(server, line), &answer));
    return answer;
}

/* As many calls as it takes to have met every worker surely enough; each must be answered. */
static unsigned workers_met(const struct server *server) {
    unsigned met = 0;
    for (int i = 0; i < 60; i++) {
        met |= 1U << call(server, "who").worker;
    }
    return met;
}

static bool exists(const struct server *server, const char *name) { return access(path_in(server, name), F_OK) == 0; }

static void test_ready_line_titles_and_clean_end(void **state) {
    (void)state;
    struct server server;
    char expected[256];
    make_server(&server);
    configure(&server, 2, "");
    start(&server);
    await_ready(&server);
    snprintf(expected, sizeof(expected), "tollgate: ready: http://127.0.0.1:%d admin http://127.0.0.1:%d workers 2\n",
             server.port, server.admin_port);
    assert_string_equal(content(&server, "out"), expected);
    assert_int_equal(workers_met(&server), 3);
    struct answer answer = call(&server, "who");
    snprintf(expected, sizeof(expected), "tollgate: worker %u", answer.worker);
    assert_string_equal(of_process(answer.pid, "cmdline"), expected);
    assert_string_equal(of_process(server.pid, "cmdline"), "tollgate: master");
    assert_non_null(strstr(of_process(answer.pid, "limits"), "Max core file size        0"));
    assert_true(exists(&server, "state/segment"));
    assert_int_equal(stop(&server), 0);
    assert_true(exists(&server, "state/fake-ledger-left"));
    assert_false(exists(&server, "state/segment"));
    assert_int_equal(dial(&server), -1);
    clean(&server);
}

static void test_second_server_on_one_state_is_refused(void **state) {
    (void)state;
    struct server server;
    char expected[256];
    make_server(&server);
    configure(&server, 1, "");
    start(&server);
    await_ready(&server);
    struct server second = server;
    start(&second);
    assert_int_equal(await_end(&second), 1);
    snprintf(expected, sizeof(expected), "tollgate: state directory %s: in use by the server with pid %d",
             path_in(&server, "state"), (int)server.pid);
    await(&server, "err", expected, 1);
    assert_int_equal(call(&server, "who").generation, 1);
    assert_int_equal(stop(&server), 0);
    clean(&server);
}

static void test_taken_port_is_named(void **state) {
    (void)state;
    struct server server;
    char expected[256];
    make_server(&server);
    int taken_fd = listen_somewhere(&server.port);
    configure(&server, 2, "");
    start(&server);
    assert_int_equal(await_end(&server), 1);
    snprintf(expected, sizeof(expected), "tollgate: cannot listen on 127.0.0.1:%d: Address already in use",
             server.port);
    await(&server, "err", expected, 1);
    close(taken_fd);
    clean(&server);
}

/* Another server's sockets can be shared, but must not be. */
static void test_port_of_another_server_is_not_shared(void **state) {
    (void)state;
    struct server first;
    struct server second;
    make_server(&first);
    configure(&first, 1, "");
    start(&first);
    await_ready(&first);
    make_server(&second);
    second.port = first.port;
    configure(&second, 1, "");
    start(&second);
    assert_int_equal(await_end(&second), 1);
    await(&second, "err", "Address already in use", 1);
    assert_int_equal(stop(&first), 0);
    clean(&first);
    clean(&second);
}

static void test_crashed_worker_is_replaced_and_its_socket_kept(void **state) {
    (void)state;
    struct server server;
    make_server(&server);
    configure(&server, 1, "");
    start(&server);
    await_ready(&server);
    struct answer before = call(&server, "who");
    close(begin(&server, "crash"));
    /* This one is queued on the dead worker's socket until the next worker accepts it. */
    struct answer after = call(&server, "who");
    assert_int_not_equal(before.pid, after.pid);
    await(&server, "err", "my last words", 1);
    assert_int_equal(stop(&server), 0);
    clean(&server);
}

static void test_worker_that_exits_2_is_not_replaced(void **state) {
    (void)state;
    struct server server;
    make_server(&server);
    configure(&server, 2, "");
    start(&server);
    await_ready(&server);
    close(begin(&server, "exit2"));
    await(&server, "err", "child_given_up", 1);
    unsigned met = workers_met(&server);
    assert_true(met == 1 || met == 2);
    close(begin(&server, "exit2"));
    assert_int_equal(await_end(&server), 2);
    clean(&server);
}

static void test_start_fails_when_a_child_exits_2(void **state) {
    (void)state;
    const char *const who[] = {"fake-ledger-2.1", "fake-worker-2.1"};
    for (size_t i = 0; i < 2; i++) {
        struct server server;
        make_server(&server);
        configure(&server, 2, "");
        ask(&server, who[i]);
        start(&server);
        assert_int_equal(await_end(&server), 2);
        assert_string_equal(content(&server, "out"), "");
        clean(&server);
    }
}

static void test_start_fails_when_workers_keep_dying(void **state) {
    (void)state;
    struct server server;
    make_server(&server);
    configure(&server, 1, "");
    ask(&server, "fake-worker-dies.1");
    start(&server);
    assert_int_equal(await_end(&server), 1);
    await(&server, "err", "start_failed", 1);
    clean(&server);
}

static void test_start_fails_when_recovery_fails(void **state) {
    (void)state;
    struct server server;
    make_server(&server);
    configure(&server, 1, "");
    ask(&server, "fake-recovery-fails");
    start(&server);
    assert_int_equal(await_end(&server), 1);
    await(&server, "err", "tollgate: recovery: the fake recovery fails", 1);
    clean(&server);
}

static void test_drain_lets_held_connections_end(void **state) {
    (void)state;
    struct server server;
    struct answer answer;
    make_server(&server);
    configure(&server, 2, "");
    start(&server);
    await_ready(&server);
    int held = begin(&server, "hold");
    poll(NULL, 0, 100);
    kill(server.pid, SIGTERM);
    await(&server, "err", "to=draining", 1);
    for (int fd = dial(&server); fd >= 0; fd = dial(&server)) {
        close(fd);
        poll(NULL, 0, POLL_MS);
    }
    assert_int_equal(waitpid(server.pid, NULL, WNOHANG), 0);
    assert_int_equal(send(held, "x", 1, 0), 1);
    assert_true(read_answer(held, &answer));
    assert_int_equal(await_end(&server), 0);
    clean(&server);
}

static void test_drain_has_a_deadline_and_second_signal_ends_at_once(void **state) {
    (void)state;
    for (int second_signal = 0; second_signal < 2; second_signal++) {
        struct server server;
        make_server(&server);
        configure(&server, 1, second_signal ? "drain_timeout: 600s\n" : "drain_timeout: 100ms\n");
        start(&server);
        await_ready(&server);
        int held = begin(&server, "hold");
        poll(NULL, 0, 100);
        kill(server.pid, SIGTERM);
        await(&server, "err", "to=draining", 1);
        if (second_signal) {
            kill(server.pid, SIGINT);
        }
        assert_int_equal(await_end(&server), 0);
        assert_true(exists(&server, "state/fake-ledger-left"));
        assert_false(exists(&server, "state/segment"));
        close(held);
        clean(&server);
    }
}

static void reload(const struct server *server) { kill(server->pid, SIGHUP); }

static void test_reload_changes_worker_count_without_losing_a_connection(void **state) {
    (void)state;
    const int counts[] = {2, 4, 1, 3};
    struct server server;
    struct answer answer;
    make_server(&server);
    configure(&server, counts[0], "");
    start(&server);
    await_ready(&server);
    for (int i = 1; i < 4; i++) {
        int held = begin(&server, "hold");
        poll(NULL, 0, 100);
        configure(&server, counts[i], "");
        reload(&server);
        while (count_in(&server, "err", "reload_done") < i) {
            struct answer during = call(&server, "who");
            assert_true(during.generation == (unsigned)i || during.generation == (unsigned)i + 1);
        }
        poll(NULL, 0, 100);
        for (int j = 0; j < 60; j++) {
            struct answer after = call(&server, "who");
            assert_int_equal(after.generation, i + 1);
            assert_true(after.worker < (unsigned)counts[i]);
        }
        assert_int_equal(send(held, "x", 1, 0), 1);
        assert_true(read_answer(held, &answer));
        assert_int_equal(answer.generation, i);
    }
    assert_int_equal(stop(&server), 0);
    clean(&server);
}

static void test_reload_of_a_bad_file_changes_nothing(void **state) {
    (void)state;
    struct server server;
    make_server(&server);
    configure(&server, 1, "");
    start(&server);
    await_ready(&server);
    struct answer before = call(&server, "who");
    configure(&server, 1, "nonsense: 5\n");
    reload(&server);
    await(&server, "err", "reload_failed", 1);
    await(&server, "err", "nonsense", 1);
    assert_int_equal(call(&server, "who").pid, before.pid);
    assert_int_equal(stop(&server), 0);
    clean(&server);
}

static void test_reload_to_a_taken_address_changes_nothing(void **state) {
    (void)state;
    struct server server;
    make_server(&server);
    configure(&server, 1, "");
    start(&server);
    await_ready(&server);
    struct answer before = call(&server, "who");
    struct server wanted = server;
    int taken_fd = listen_somewhere(&wanted.port);
    configure(&wanted, 2, "");
    reload(&server);
    await(&server, "err", "reload_failed", 1);
    await(&server, "err", "Address already in use", 1);
    assert_int_equal(call(&server, "who").pid, before.pid);
    close(taken_fd);
    reload(&server);
    await(&server, "err", "reload_done", 1);
    assert_int_equal(call(&wanted, "who").worker < 2, 1);
    assert_int_equal(stop(&server), 0);
    clean(&server);
}

static void test_reload_whose_children_fail_is_undone(void **state) {
    (void)state;
    struct server server;
    make_server(&server);
    configure(&server, 1, "");
    ask(&server, "fake-ledger-2.2");
    ask(&server, "fake-worker-2.3");
    start(&server);
    await_ready(&server);
    struct answer before = call(&server, "who");
    reload(&server);
    await(&server, "err", "reload_failed", 1);
    configure(&server, 3, "");
    reload(&server);
    await(&server, "err", "reload_failed", 2);
    /* The wider reload had let clients queue on new sockets: they have readers now, and nobody waits in vain. */
    bool met_before = false;
    for (int i = 0; i < 60; i++) {
        struct answer after = call(&server, "who");
        assert_int_equal(after.generation, 1);
        met_before = met_before || after.pid == before.pid;
    }
    assert_true(met_before);
    assert_int_equal(stop(&server), 0);
    clean(&server);
}

static void test_reload_is_refused_without_seats(void **state) {
    (void)state;
    struct server server;
    make_server(&server);
    configure(&server, 1, "");
    start(&server);
    await_ready(&server);
    configure(&server, 200, "");
    reload(&server);
    await(&server, "err", "seats are free", 1);
    assert_int_equal(call(&server, "who").generation, 1);
    assert_int_equal(stop(&server), 0);
    clean(&server);
}

static void test_log_lines_are_parted_and_reopened(void **state) {
    (void)state;
    struct server server;
    make_server(&server);
    configure(&server, 1, "");
    start(&server);
    await_ready(&server);
    call(&server, "log");
    await(&server, "access.log", "access line of the fake\n", 1);
    await(&server, "err", "other line of the fake\n", 1);
    assert_int_equal(count_in(&server, "err", "access line"), 0);
    assert_int_equal(count_in(&server, "access.log", "\001"), 0);
    rename(path_in(&server, "access.log"), path_in(&server, "access.old"));
    kill(server.pid, SIGUSR1);
    await(&server, "err", "log_reopened", 1);
    call(&server, "log");
    await(&server, "access.log", "access line of the fake\n", 1);
    assert_int_equal(count_in(&server, "access.old", "access line"), 1);
    assert_int_equal(stop(&server), 0);
    clean(&server);
}

static void test_silent_worker_is_replaced(void **state) {
    (void)state;
    struct server server;
    make_server(&server);
    configure(&server, 1, "");
    start(&server);
    await_ready(&server);
    struct answer before = call(&server, "silent");
    await(&server, "err", "worker_hung", 1);
    assert_int_not_equal(call(&server, "who").pid, before.pid);
    assert_int_equal(stop(&server), 0);
    clean(&server);
}

static void test_binary_upgrade_signal_does_no_harm(void **state) {
    (void)state;
    struct server server;
    make_server(&server);
    configure(&server, 1, "");
    start(&server);
    await_ready(&server);
    kill(server.pid, SIGUSR2);
    await(&server, "err", "upgrade_refused", 1);
    assert_int_equal(call(&server, "who").generation, 1);
    assert_int_equal(stop(&server), 0);
    clean(&server);
}

/* A killed master leaves workers that finish what they have; only then does the next server begin. */
static void test_next_server_waits_for_the_orphans_of_a_killed_one(void **state) {
    (void)state;
    struct server server;
    struct answer answer;
    make_server(&server);
    configure(&server, 1, "");
    start(&server);
    await_ready(&server);
    int held = begin(&server, "hold");
    poll(NULL, 0, 100);
    kill(server.pid, SIGKILL);
    assert_int_equal(await_end(&server), -1);
    struct server next = server;
    start(&next);
    await(&server, "err", "waiting for the processes that server", 1);
    assert_int_equal(waitpid(next.pid, NULL, WNOHANG), 0);
    assert_int_equal(send(held, "x", 1, 0), 1);
    assert_true(read_answer(held, &answer));
    await(&server, "out", "tollgate: ready:", 2);
    assert_int_equal(stop(&next), 0);
    clean(&server);
}

static void test_root_becomes_the_configured_user(void **state) {
    (void)state;
    struct server server;
    struct stat status;
    const struct passwd *nobody = getpwnam("nobody");
    if (geteuid() != 0 || nobody == NULL) {
        skip();
        return;
    }
    make_server(&server);
    assert_int_equal(chmod(server.dir, 0755), 0);
    configure(&server, 1, "user: nobody\n");
    start(&server);
    await_ready(&server);
    char expected[64];
    snprintf(expected, sizeof(expected), "\nUid:\t%u\t%u\t%u\t%u\n", nobody->pw_uid, nobody->pw_uid, nobody->pw_uid,
             nobody->pw_uid);
    const char *text = of_process(call(&server, "who").pid, "status");
    assert_non_null(strstr(text, expected));
    assert_non_null(strstr(text, "\nNoNewPrivs:\t1\n"));
    assert_int_equal(stat(path_in(&server, "state"), &status), 0);
    assert_int_equal(status.st_uid, nobody->pw_uid);
    assert_int_equal(stat(path_in(&server, "state/segment"), &status), 0);
    assert_int_equal(status.st_uid, nobody->pw_uid);
    assert_int_equal(stop(&server), 0);
    assert_int_equal(stat(path_in(&server, "state/fake-ledger-left"), &status), 0);
    assert_int_equal(status.st_uid, nobody->pw_uid);
    clean(&server);
}

int main(int argc, char **argv) {
    process_title_init(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ready_line_titles_and_clean_end),
        cmocka_unit_test(test_second_server_on_one_state_is_refused),
        cmocka_unit_test(test_taken_port_is_named),
        cmocka_unit_test(test_port_of_another_server_is_not_shared),
        cmocka_unit_test(test_crashed_worker_is_replaced_and_its_socket_kept),
        cmocka_unit_test(test_worker_that_exits_2_is_not_replaced),
        cmocka_unit_test(test_start_fails_when_a_child_exits_2),
        cmocka_unit_test(test_start_fails_when_workers_keep_dying),
        cmocka_unit_test(test_start_fails_when_recovery_fails),
        cmocka_unit_test(test_drain_lets_held_connections_end),
        cmocka_unit_test(test_drain_has_a_deadline_and_second_signal_ends_at_once),
        cmocka_unit_test(test_reload_changes_worker_count_without_losing_a_connection),
        cmocka_unit_test(test_reload_of_a_bad_file_changes_nothing),
        cmocka_unit_test(test_reload_to_a_taken_address_changes_nothing),
        cmocka_unit_test(test_reload_whose_children_fail_is_undone),
        cmocka_unit_test(test_reload_is_refused_without_seats),
        cmocka_unit_test(test_log_lines_are_parted_and_reopened),
        cmocka_unit_test(test_silent_worker_is_replaced),
        cmocka_unit_test(test_binary_upgrade_signal_does_no_harm),
        cmocka_unit_test(test_next_server_waits_for_the_orphans_of_a_killed_one),
        cmocka_unit_test(test_root_becomes_the_configured_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
