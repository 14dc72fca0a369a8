#include "worker/upstream_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

static bool is_private_v4(uint32_t ip) {
    static const struct {
        uint32_t network;
        int bits;
    } networks[] = {
        {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8}, {0xa9fe0000, 16}, {0xac100000, 12},
        {0xc0000000, 24}, {0xc0a80000, 16}, {0xc6120000, 15}, {0xe0000000, 4}, {0xf0000000, 4},
    };
    for (size_t i = 0; i < sizeof(networks) / sizeof(networks[0]); i++) {
        if ((ip ^ networks[i].network) >> (32 - networks[i].bits) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_private_v6(const struct in6_addr *address) {
    const uint8_t *b = address->s6_addr;
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    if (IN6_IS_ADDR_V4MAPPED(address) || IN6_IS_ADDR_V4COMPAT(address) || memcmp(b, nat64, sizeof(nat64)) == 0) {
        uint32_t v4 = 0;
        memcpy(&v4, b + 12, sizeof(v4));
        return is_private_v4(ntohl(v4));
    }
    if (b[0] == 0x20 && b[1] == 0x02) { /* 6to4 */
        uint32_t v4 = 0;
        memcpy(&v4, b + 2, sizeof(v4));
        return is_private_v4(ntohl(v4));
    }
    /* Global unicast is 2000::/3; everything else is local, unique-local, multicast or reserved. */
    return (b[0] & 0xe0) != 0x20;
}

bool upstream_address_is_private(const struct sockaddr *address) {
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof(v4));
        return is_private_v4(ntohl(v4.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof(v6));
        return is_private_v6(&v6.sin6_addr);
    }
    return true;
}
