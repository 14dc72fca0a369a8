/* X-Forwarded-For: whatever a client writes, what the proxy adds to the right of it decides, and the outcome is an
 * address that reads back as itself. */
#include "base/check.h"
#include "fuzz.h"
#include "worker/client_address.h"

static struct client_network trusted[2];

static struct client_address read_address(const char *text) {
    struct client_address address;
    CHECK(client_address_parse(span_text(text), &address));
    return address;
}

static void expect_readable(const struct client_address *address) {
    char text[CLIENT_ADDRESS_TEXT_BYTES];
    client_address_format(address, text);
    struct client_address again = read_address(text);
    CHECK(memcmp(&again, address, sizeof(again)) == 0);
}

static bool is_trusted(const struct client_address *address) {
    return client_network_holds(&trusted[0], address) || client_network_holds(&trusted[1], address);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct span input = fuzz_span(data, size);
    struct client_address parsed;
    struct client_network network;
    const struct client_address peer = read_address("10.0.0.1");
    const struct client_address real = read_address("198.51.100.1");
    CHECK(client_network_parse(SPAN_LITERAL("10.0.0.0/8"), &trusted[0]));
    CHECK(client_network_parse(SPAN_LITERAL("2001:db8::/32"), &trusted[1]));
    struct client_walk walk = client_walk_begin(trusted, 2, &peer);
    client_walk_field(&walk, input);
    expect_readable(&walk.client);
    CHECK(walk.is_over || is_trusted(&walk.client));
    struct client_walk proxied = client_walk_begin(trusted, 2, &peer);
    client_walk_field(&proxied, SPAN_LITERAL("198.51.100.1, [2001:db8::7]:80"));
    client_walk_field(&proxied, input);
    CHECK(memcmp(&proxied.client, &real, sizeof(real)) == 0);
    if (client_address_parse_entry(input, &parsed)) {
        expect_readable(&parsed);
    }
    if (client_network_parse(input, &network)) {
        CHECK(network.bits >= 0 && network.bits <= 128);
        (void)client_network_holds(&network, &peer);
    }
    return 0;
}
