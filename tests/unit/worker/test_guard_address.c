#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "worker/guard_address.h"

static struct guard_address ipv4(uint32_t number) {
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_addr = {htonl(number)}};
    return guard_address_of((struct sockaddr *)&peer, sizeof(peer));
}

static struct guard_address ipv6(const char *text) {
    struct sockaddr_in6 peer = {.sin6_family = AF_INET6};
    assert_int_equal(inet_pton(AF_INET6, text, &peer.sin6_addr), 1);
    return guard_address_of((struct sockaddr *)&peer, sizeof(peer));
}

static void test_limit(void **state) {
    (void)state;
    struct guard_address_table *table = guard_address_new();
    for (int i = 0; i < 3; i++) {
        assert_true(guard_address_take(table, ipv4(1), 3));
    }
    assert_false(guard_address_take(table, ipv4(1), 3));
    assert_true(guard_address_take(table, ipv4(2), 3));
    assert_true(guard_address_take(table, ipv6("2001:db8::1"), 1));
    assert_false(guard_address_take(table, ipv6("2001:db8::1"), 1));
    assert_true(guard_address_take(table, ipv6("2001:db8::2"), 1));
    assert_int_equal(guard_address_count(table, ipv4(1)), 3);
    guard_address_return(table, ipv4(1));
    assert_true(guard_address_take(table, ipv4(1), 3));
    assert_true(guard_address_take(table, ipv4(1), 0));
    guard_address_free(table);
}

static void test_mapped_addresses_are_the_same(void **state) {
    (void)state;
    struct guard_address_table *table = guard_address_new();
    assert_true(guard_address_take(table, ipv4(0x0a000001), 1));
    assert_false(guard_address_take(table, ipv6("::ffff:10.0.0.1"), 1));
    guard_address_free(table);
}

static void test_other_families_are_not_counted(void **state) {
    (void)state;
    struct guard_address_table *table = guard_address_new();
    struct sockaddr_un peer = {.sun_family = AF_UNIX};
    struct guard_address address = guard_address_of((struct sockaddr *)&peer, sizeof(peer));
    for (int i = 0; i < 10; i++) {
        assert_true(guard_address_take(table, address, 1));
    }
    guard_address_return(table, address);
    struct sockaddr_in cut = {.sin_family = AF_INET, .sin_addr = {1}};
    address = guard_address_of((struct sockaddr *)&cut, 4);
    assert_true(guard_address_take(table, address, 1));
    assert_true(guard_address_take(table, address, 1));
    guard_address_free(table);
}

static void test_many(void **state) {
    (void)state;
    struct guard_address_table *table = guard_address_new();
    for (uint32_t i = 1; i <= 50000; i++) {
        assert_true(guard_address_take(table, ipv4(i), 1));
    }
    for (uint32_t i = 1; i <= 50000; i++) {
        assert_false(guard_address_take(table, ipv4(i), 1));
        guard_address_return(table, ipv4(i));
        assert_int_equal(guard_address_count(table, ipv4(i)), 0);
    }
    guard_address_free(table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_mapped_addresses_are_the_same),
        cmocka_unit_test(test_other_families_are_not_counted),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
