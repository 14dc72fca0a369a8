/* Who the client is behind proxies: nobody may choose an address that its own connection does not have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/client_address.h"

enum { FIELDS_MOST = 4 };

static struct client_address address_of(const char *text) {
    struct client_address address;
    if (!client_address_parse(span_text(text), &address)) {
        fail_msg("%s is no address", text);
    }
    return address;
}

static void addresses_are_read_and_written(void **state) {
    (void)state;
    static const char *const same[][2] = {{"192.0.2.1", "192.0.2.1"},
                                          {"::ffff:192.0.2.1", "192.0.2.1"},
                                          {"::FFFF:c000:201", "192.0.2.1"},
                                          {"2001:DB8:0:0::1", "2001:db8::1"},
                                          {"::", "::"},
                                          {"::1", "::1"}};
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        char text[CLIENT_ADDRESS_TEXT_BYTES];
        struct client_address address = address_of(same[i][0]);
        client_address_format(&address, text);
        assert_string_equal(text, same[i][1]);
    }
}

static void what_is_no_address_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"",       "1",          "1.2.3",    "1.2.3.4.5",    "1.2.3.256", "01.2.3.4",
                                      "0x7f.1", "localhost",  "1.2.3.4 ", " 1.2.3.4",     "1.2.3.4:",  "1.2.3.4:80",
                                      "[::1]",  "::1%lo",     ":::",      "1::2::3",      "unknown",   "_hidden",
                                      "10.0/8", "1.2.3.4/32", "-",        "::ffff:1.2.3", "12345::",   "g::"};
    struct client_address address;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(client_address_parse(span_text(bad[i]), &address));
    }
    assert_false(client_address_parse(SPAN_LITERAL("1.2.3.4\0x"), &address));
}

static void entries_may_have_ports_and_brackets(void **state) {
    (void)state;
    static const char *const good[][2] = {
        {"192.0.2.1", "192.0.2.1"},       {"192.0.2.1:555", "192.0.2.1"},        {"192.0.2.1:0", "192.0.2.1"},
        {"192.0.2.1:65535", "192.0.2.1"}, {"[2001:db8::1]", "2001:db8::1"},      {"[2001:db8::1]:80", "2001:db8::1"},
        {"2001:db8::1", "2001:db8::1"},   {"[::ffff:192.0.2.1]:8", "192.0.2.1"}, {"::ffff:192.0.2.1", "192.0.2.1"}};
    static const char *const bad[] = {"192.0.2.1:",
                                      "192.0.2.1:65536",
                                      "192.0.2.1:x",
                                      "192.0.2.1:-1",
                                      "192.0.2.1:000080",
                                      "[192.0.2.1]:80",
                                      "[::1",
                                      "::1]",
                                      "[]",
                                      "[]:80",
                                      "[::1]80",
                                      "[::1]:",
                                      "[::1]:65536",
                                      "[[::1]]",
                                      "[::1]:80:80",
                                      "host:80",
                                      ":80",
                                      ":",
                                      "\"192.0.2.1\"",
                                      "for=192.0.2.1",
                                      "192.0.2.1;x",
                                      "[::1%lo]:80"};
    struct client_address address;
    char text[CLIENT_ADDRESS_TEXT_BYTES];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(client_address_parse_entry(span_text(good[i][0]), &address));
        client_address_format(&address, text);
        assert_string_equal(text, good[i][1]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (client_address_parse_entry(span_text(bad[i]), &address)) {
            fail_msg("%s was taken", bad[i]);
        }
    }
}

static bool holds(const char *network, const char *address) {
    struct client_network parsed;
    struct client_address inside = address_of(address);
    assert_true(client_network_parse(span_text(network), &parsed));
    return client_network_holds(&parsed, &inside);
}

static void networks_hold_what_is_inside(void **state) {
    (void)state;
    assert_true(holds("10.0.0.0/8", "10.255.0.1"));
    assert_false(holds("10.0.0.0/8", "11.0.0.0"));
    assert_true(holds("10.1.2.3/8", "10.9.9.9"));
    assert_true(holds("192.0.2.128/25", "192.0.2.200"));
    assert_false(holds("192.0.2.128/25", "192.0.2.127"));
    assert_true(holds("192.0.2.7", "::ffff:192.0.2.7"));
    assert_false(holds("192.0.2.7", "192.0.2.8"));
    assert_true(holds("0.0.0.0/0", "8.8.8.8"));
    assert_false(holds("0.0.0.0/0", "2001:db8::1"));
    assert_true(holds("::ffff:10.0.0.0/104", "10.1.1.1"));
    assert_true(holds("2001:db8::/33", "2001:db8:7fff::1"));
    assert_false(holds("2001:db8::/33", "2001:db8:8000::1"));
    assert_true(holds("::/0", "2001:db8::1"));
    assert_false(holds("::/0", "10.0.0.1"));
    assert_true(holds("::1", "::1"));
}

static void what_is_no_network_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",       "/",      "/8",          "10.0.0.0/",   "10.0.0.0/33",  "10.0.0.0/-1",
        "::/129", "::1/ 8", "10.0.0.0/8x", "10.0.0.0/+8", "10.0.0.0/8/8", "example.com/8"};
    struct client_network network;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(client_network_parse(span_text(bad[i]), &network));
    }
}

struct walk_case {
    const char *what;
    const char *peer;
    const char *fields[FIELDS_MOST]; /* as they stand in the request, first to last */
    const char *client;
};

/* 10.0.0.0/8, 2001:db8:10::/48 and 127.0.0.1 are trusted. */
static const struct walk_case walks[] = {
    {"no header", "10.0.0.1", {NULL}, "10.0.0.1"},
    {"an untrusted peer's header", "203.0.113.9", {"198.51.100.1"}, "203.0.113.9"},
    {"one hop", "10.0.0.1", {"198.51.100.1"}, "198.51.100.1"},
    {"two trusted hops", "10.0.0.1", {"198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
    {"what a client wrote itself", "10.0.0.1", {"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
    {"a trusted address that a client wrote", "10.0.0.1", {"10.0.0.7, 198.51.100.1"}, "198.51.100.1"},
    {"a client's own header before the proxy's", "10.0.0.1", {"1.1.1.1", "198.51.100.1"}, "198.51.100.1"},
    {"headers are joined in order", "10.0.0.1", {"198.51.100.1", "10.0.0.3", "10.0.0.2"}, "198.51.100.1"},
    {"no spaces", "10.0.0.1", {"1.1.1.1,198.51.100.1,10.0.0.2"}, "198.51.100.1"},
    {"ports and brackets", "10.0.0.1", {"[2001:db8::5]:1234, 10.0.0.2:99"}, "2001:db8::5"},
    {"IPv6 proxies", "2001:db8:10::1", {"2001:db8:11::1, 2001:db8:10::2"}, "2001:db8:11::1"},
    {"mapped peer", "::ffff:10.0.0.1", {"198.51.100.1"}, "198.51.100.1"},
    {"mapped entries", "10.0.0.1", {"198.51.100.1, ::ffff:10.0.0.2"}, "198.51.100.1"},
    {"a mapped client", "10.0.0.1", {"::ffff:198.51.100.1"}, "198.51.100.1"},
    {"only trusted ones: the left-most", "10.0.0.1", {"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
    {"rubbish at the right", "10.0.0.1", {"198.51.100.1, rubbish"}, "10.0.0.1"},
    {"rubbish behind a trusted one", "10.0.0.1", {"198.51.100.1, rubbish, 10.0.0.2"}, "10.0.0.1"},
    {"rubbish left of the client", "10.0.0.1", {"rubbish, 198.51.100.1"}, "198.51.100.1"},
    {"unknown", "10.0.0.1", {"unknown"}, "10.0.0.1"},
    {"empty entries", "10.0.0.1", {",, 198.51.100.1,, 10.0.0.2 ,"}, "198.51.100.1"},
    {"an empty header", "10.0.0.1", {"198.51.100.1", ""}, "198.51.100.1"},
    {"a space inside", "10.0.0.1", {"198.51.100.1 198.51.100.2"}, "10.0.0.1"},
};

static void the_walk_ends_at_the_first_that_is_not_trusted(void **state) {
    (void)state;
    struct client_network trusted[3];
    assert_true(client_network_parse(SPAN_LITERAL("10.0.0.0/8"), &trusted[0]));
    assert_true(client_network_parse(SPAN_LITERAL("2001:db8:10::/48"), &trusted[1]));
    assert_true(client_network_parse(SPAN_LITERAL("127.0.0.1"), &trusted[2]));
    for (size_t i = 0; i < sizeof(walks) / sizeof(walks[0]); i++) {
        char text[CLIENT_ADDRESS_TEXT_BYTES];
        struct client_address peer = address_of(walks[i].peer);
        struct client_walk walk = client_walk_begin(trusted, 3, &peer);
        for (size_t field = FIELDS_MOST; field-- > 0;) {
            client_walk_field(&walk, span_text(walks[i].fields[field]));
        }
        client_address_format(&walk.client, text);
        if (strcmp(text, walks[i].client) != 0) {
            fail_msg("%s: %s instead of %s", walks[i].what, text, walks[i].client);
        }
    }
}

static void nobody_is_trusted_by_default(void **state) {
    (void)state;
    struct client_address peer = address_of("127.0.0.1");
    struct client_walk walk = client_walk_begin(NULL, 0, &peer);
    assert_true(walk.is_over);
    client_walk_field(&walk, SPAN_LITERAL("198.51.100.1"));
    assert_memory_equal(&walk.client, &peer, sizeof(peer));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_and_written),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(entries_may_have_ports_and_brackets),
        cmocka_unit_test(networks_hold_what_is_inside),
        cmocka_unit_test(what_is_no_network_is_refused),
        cmocka_unit_test(the_walk_ends_at_the_first_that_is_not_trusted),
        cmocka_unit_test(nobody_is_trusted_by_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
