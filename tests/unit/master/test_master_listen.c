/* Listening sockets over a reload: shared, grown, handed out, adopted; errors that name the address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "fake_children.h"
#include "master/master_boot.h"
#include "master/master_child.h"
#include "master/master_listen.h"

#define MS INT64_C(1000000)

/* A configuration with one loopback address whose port the kernel chooses. */
static struct conf_listen one_listen = {.address = {.text = (char *)"127.0.0.1:0", .host = (char *)"127.0.0.1"}};

static struct conf conf_with(int workers) {
    struct conf conf = {.listens = &one_listen, .listen_count = 1, .workers = workers};
    conf.admin_address = one_listen.address;
    return conf;
}

static struct master_listen_set open_set(int workers, const struct master_listen_set *old) {
    struct master_listen_set set;
    struct buffer error;
    struct conf conf = conf_with(workers);
    buffer_init(&error, 1024);
    assert_true(master_listen_open(&set, &conf, old, &error));
    assert_true(master_listen_start(&set, &error));
    buffer_fini(&error);
    return set;
}

static int dial(int port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Accepts all that is queued on the set's sockets. */
static int accept_all(const struct master_listen_set *set) {
    int count = 0;
    poll(NULL, 0, 20);
    for (int i = 0; i < set->listeners[0].fd_count; i++) {
        int fd = accept4(set->listeners[0].fds[i], NULL, NULL, SOCK_CLOEXEC);
        while (fd >= 0) {
            count++;
            close(fd);
            fd = accept4(set->listeners[0].fds[i], NULL, NULL, SOCK_CLOEXEC);
        }
    }
    return count;
}

static void test_port_zero_is_one_port_for_all_workers(void **state) {
    (void)state;
    struct master_listen_set set = open_set(4, NULL);
    struct buffer shown;
    char expected[64];
    assert_int_equal(set.listeners[0].fd_count, 4);
    assert_int_not_equal(set.listeners[0].port, 0);
    int clients[32];
    for (int i = 0; i < 32; i++) {
        clients[i] = dial(set.listeners[0].port);
        assert_true(clients[i] >= 0);
    }
    assert_int_equal(accept_all(&set), 32);
    buffer_init(&shown, 64);
    master_listen_print(&set.listeners[0], true, &shown);
    snprintf(expected, sizeof(expected), "https://127.0.0.1:%d", set.listeners[0].port);
    assert_string_equal(buffer_text(&shown), expected);
    buffer_fini(&shown);
    for (int i = 0; i < 32; i++) {
        close(clients[i]);
    }
    master_listen_close(&set);
}

static void test_queued_connection_survives_the_change_of_sets(void **state) {
    (void)state;
    struct master_listen_set old = open_set(3, NULL);
    int clients[24];
    for (int i = 0; i < 24; i++) {
        clients[i] = dial(old.listeners[0].port);
    }
    struct master_listen_set next = open_set(1, &old);
    assert_int_equal(next.listeners[0].port, old.listeners[0].port);
    assert_int_equal(next.listeners[0].fd_count, 3);
    assert_int_equal(next.admin.port, old.admin.port);
    master_listen_close(&old);
    assert_int_equal(accept_all(&next), 24);
    for (int i = 0; i < 24; i++) {
        close(clients[i]);
    }
    master_listen_close(&next);
}

static void test_addresses_with_port_zero_keep_their_ports(void **state) {
    (void)state;
    struct conf_listen listens[2] = {one_listen, one_listen};
    struct conf conf = {.listens = listens, .listen_count = 2, .workers = 2, .admin_address = one_listen.address};
    struct master_listen_set old;
    struct master_listen_set next;
    struct buffer error;
    buffer_init(&error, 1024);
    assert_true(master_listen_open(&old, &conf, NULL, &error));
    assert_int_not_equal(old.listeners[0].port, old.listeners[1].port);
    assert_int_not_equal(old.listeners[0].port, old.admin.port);
    assert_true(master_listen_open(&next, &conf, &old, &error));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(next.listeners[i].port, old.listeners[i].port);
        assert_int_equal(next.listeners[i].fd_count, 2);
    }
    master_listen_close(&next);
    conf.workers = 1;
    assert_true(master_listen_open(&next, &conf, NULL, &error));
    assert_int_equal(master_listen_adopt(&next, &old), 2);
    assert_int_equal(next.listeners[1].fds[1] >= 0, true);
    assert_int_equal(old.listeners[1].fds[1], -1);
    master_listen_close(&next);
    master_listen_close(&old);
    buffer_fini(&error);
}

static void test_every_socket_is_some_workers(void **state) {
    (void)state;
    struct master_listen_set set = open_set(5, NULL);
    int seen = 0;
    for (int worker = 0; worker < 2; worker++) {
        struct heritage heritage = {.listener_count = 0};
        master_listen_share(&set, worker, 2, &heritage);
        assert_int_equal(heritage.listener_count, worker == 0 ? 3 : 2);
        for (int i = 0; i < heritage.listener_count; i++) {
            assert_int_equal(heritage.listeners[i].listen_index, 0);
            assert_int_equal(heritage.listeners[i].fd, set.listeners[0].fds[worker + 2 * i]);
        }
        seen += heritage.listener_count;
    }
    assert_int_equal(seen, 5);
    master_listen_abandon(&set, 1, 2);
    struct heritage heritage = {.listener_count = 0};
    master_listen_share(&set, 1, 2, &heritage);
    assert_int_equal(heritage.listener_count, 0);
    for (int i = 0; i < 20; i++) {
        int fd = dial(set.listeners[0].port);
        assert_true(fd >= 0);
        close(fd);
    }
    assert_int_equal(accept_all(&set), 20);
    master_listen_close(&set);
}

static void test_undone_growth_keeps_its_sockets(void **state) {
    (void)state;
    struct master_listen_set old = open_set(1, NULL);
    struct master_listen_set next = open_set(4, &old);
    int clients[24];
    for (int i = 0; i < 24; i++) {
        clients[i] = dial(old.listeners[0].port);
    }
    assert_int_equal(master_listen_adopt(&old, &next), 4);
    master_listen_close(&next);
    assert_int_equal(accept_all(&old), 24);
    for (int i = 0; i < 24; i++) {
        close(clients[i]);
    }
    master_listen_close(&old);
}

static void test_errors_name_address_and_reason(void **state) {
    (void)state;
    struct master_listen_set taken = open_set(1, NULL);
    struct master_listen_set set;
    struct buffer error;
    char expected[128];
    struct conf_listen listen = one_listen;
    struct conf conf = conf_with(1);
    buffer_init(&error, 1024);
    conf.listens = &listen;
    listen.address.port = taken.listeners[0].port;
    snprintf(expected, sizeof(expected),
             "cannot listen on 127.0.0.1:%d: Address already in use; end what listens there or configure another port",
             listen.address.port);
    assert_false(master_listen_open(&set, &conf, NULL, &error));
    assert_string_equal(buffer_text(&error), expected);
    buffer_clear(&error);
    listen.address.host = (char *)"192.0.2.1";
    listen.address.port = 80;
    assert_false(master_listen_open(&set, &conf, NULL, &error));
    assert_string_equal(buffer_text(&error), "cannot listen on 192.0.2.1:80: Cannot assign requested address");
    buffer_clear(&error);
    listen.address.host = (char *)"no-such-host.invalid";
    assert_false(master_listen_open(&set, &conf, NULL, &error));
    assert_non_null(strstr(buffer_text(&error), "cannot listen on no-such-host.invalid:80: no such host"));
    buffer_fini(&error);
    master_listen_close(&taken);
}

static void test_too_many_sockets_a_worker(void **state) {
    (void)state;
    struct master_listen_set old = open_set(HERITAGE_LISTENERS_MOST + 1, NULL);
    struct master_listen_set set;
    struct conf conf = conf_with(1);
    struct buffer error;
    buffer_init(&error, 1024);
    assert_false(master_listen_open(&set, &conf, &old, &error));
    assert_non_null(strstr(buffer_text(&error), "at most 64"));
    buffer_fini(&error);
    master_listen_close(&old);
}

static void test_back_off_doubles_and_is_reset_by_a_healthy_minute(void **state) {
    (void)state;
    int64_t delay = 0;
    const int64_t expected[] = {100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        delay = master_child_next_delay(delay, 5 * MS, 100 * MS);
        assert_int_equal(delay, expected[i] * MS);
    }
    assert_int_equal(master_child_next_delay(delay, 30000 * MS, 100 * MS), 10000 * MS);
    assert_int_equal(master_child_next_delay(delay, 60000 * MS, 100 * MS), 100 * MS);
    assert_int_equal(master_child_next_delay(0, 5 * MS, 0), 100 * MS);
    assert_int_equal(master_child_next_delay(0, 60000 * MS, 0), 0);
}

static void test_seats_leave_room_for_old_generations(void **state) {
    (void)state;
    assert_int_equal(master_boot_seats(1, 1), 16);
    assert_int_equal(master_boot_seats(2, 8), 32);
    assert_int_equal(master_boot_seats(64, 8), 256);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_port_zero_is_one_port_for_all_workers),
        cmocka_unit_test(test_queued_connection_survives_the_change_of_sets),
        cmocka_unit_test(test_addresses_with_port_zero_keep_their_ports),
        cmocka_unit_test(test_every_socket_is_some_workers),
        cmocka_unit_test(test_undone_growth_keeps_its_sockets),
        cmocka_unit_test(test_errors_name_address_and_reason),
        cmocka_unit_test(test_too_many_sockets_a_worker),
        cmocka_unit_test(test_back_off_doubles_and_is_reset_by_a_healthy_minute),
        cmocka_unit_test(test_seats_leave_room_for_old_generations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
