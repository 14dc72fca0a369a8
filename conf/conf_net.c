#include "conf/conf_net.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "conf/conf_units.h"

/* Longest host name, and room for any literal address. */
enum { HOST_MOST_BYTES = 253, PORT_MOST = 65535 };

struct range4 {
    uint32_t first;
    int prefix;
};

static const struct range4 private_ranges[] = {{0x00000000, 8},  {0x0A000000, 8},  {0x64400000, 10}, {0x7F000000, 8},
                                               {0xA9FE0000, 16}, {0xAC100000, 12}, {0xC0A80000, 16}};

static bool is_name_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
           c == '_';
}

static bool is_host_name(struct span host) {
    for (size_t i = 0; i < host.len; i++) {
        if (!is_name_character(host.base[i])) {
            return false;
        }
    }
    return host.len != 0 && host.len <= HOST_MOST_BYTES;
}

/* A zero-terminated copy for inet_pton. False for a text that is too long or would end early. */
static bool copy_host(struct span text, char out[static HOST_MOST_BYTES + 1]) {
    return text.len != 0 && memchr(text.base, '\0', text.len) == NULL && span_copy(text, out, HOST_MOST_BYTES + 1);
}

static bool parse_ipv6(struct span text, struct in6_addr *out) {
    char host[HOST_MOST_BYTES + 1];
    return copy_host(text, host) && inet_pton(AF_INET6, host, out) == 1;
}

static bool parse_ipv4(struct span text, struct in_addr *out) {
    char host[HOST_MOST_BYTES + 1];
    return copy_host(text, host) && inet_pton(AF_INET, host, out) == 1;
}

/* As parse_ipv4, and the short, hexadecimal, octal and one-number forms that resolvers take for an address. */
static bool parse_loose_ipv4(struct span text, struct in_addr *out) {
    char host[HOST_MOST_BYTES + 1];
    return is_host_name(text) && copy_host(text, host) && inet_aton(host, out) == 1;
}

static bool parse_port(struct span text, int least, int *out) {
    int64_t port = 0;
    if (text.len > 5 || !conf_units_parse_int(text, &port) || port < least || port > PORT_MOST) {
        return false;
    }
    *out = (int)port;
    return true;
}

/* Splits "host", "host:rest" or "[v6]:rest". has_rest tells whether a colon was there. */
static bool split_host(struct span text, struct span *host, struct span *rest, bool *has_rest) {
    if (text.len == 0) {
        return false;
    }
    bool bracketed = text.base[0] == '[';
    const char *end = memchr(text.base, bracketed ? ']' : ':', text.len);
    if (bracketed && end == NULL) {
        return false;
    }
    size_t host_end = end != NULL ? (size_t)(end - text.base) : text.len;
    struct in6_addr ignored;
    *host = span_of(text.base + (bracketed ? 1 : 0), host_end - (bracketed ? 1 : 0));
    *rest = span_skip(text, host_end + (bracketed ? 1 : 0));
    *has_rest = rest->len != 0;
    if (*has_rest && rest->base[0] != ':') {
        return false;
    }
    *rest = span_skip(*rest, 1);
    return bracketed ? parse_ipv6(*host, &ignored) : is_host_name(*host);
}

bool conf_net_split_address(struct span text, struct span *host, int *port) {
    struct span rest;
    bool has_port = false;
    return split_host(text, host, &rest, &has_port) && has_port && parse_port(rest, 0, port);
}

static char *copy_span(struct span text) {
    char *out = malloc(text.len + 1);
    CHECK(out != NULL);
    (void)span_copy(text, out, text.len + 1);
    return out;
}

bool conf_parse_address(struct span text, struct conf_address *out) {
    struct span host;
    int port = 0;
    if (!conf_net_split_address(text, &host, &port)) {
        return false;
    }
    *out = (struct conf_address){.text = copy_span(text), .host = copy_span(host), .port = port};
    return true;
}

bool conf_net_same_address(const struct conf_address *a, const struct conf_address *b) {
    struct in6_addr a6;
    struct in6_addr b6;
    struct span a_host = span_text(a->host);
    struct span b_host = span_text(b->host);
    if (a->port != b->port || a->port == 0) { /* each 0 becomes a port of its own */
        return false;
    }
    if (parse_ipv6(a_host, &a6) && parse_ipv6(b_host, &b6)) {
        return memcmp(&a6, &b6, sizeof(a6)) == 0;
    }
    return span_is_nocase(a_host, b->host);
}

static const char *check_url_characters(struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] <= 0x20 || text.base[i] > 0x7e || text.base[i] == '\\') {
            return "has a character that no URL has";
        }
        if (text.base[i] == '?') {
            return "has a query; write the URL up to the '?'";
        }
        if (text.base[i] == '#') {
            return "has a fragment; write the URL up to the '#'";
        }
    }
    return NULL;
}

const char *conf_net_split_url(struct span text, struct conf_url *out) {
    const char *problem = check_url_characters(text);
    if (problem != NULL) {
        return problem;
    }
    const char *colon = text.len != 0 ? memmem(text.base, text.len, "://", 3) : NULL;
    if (colon == NULL || colon == text.base) {
        return "has no scheme; write it like https://api.example.com/v1";
    }
    out->scheme = span_of(text.base, (size_t)(colon - text.base));
    struct span rest = span_skip(text, out->scheme.len + 3);
    const char *slash = memchr(rest.base, '/', rest.len);
    struct span authority = slash != NULL ? span_of(rest.base, (size_t)(slash - rest.base)) : rest;
    out->path = span_skip(rest, authority.len);
    if (memchr(authority.base, '@', authority.len) != NULL) {
        return "has credentials in it; put the secret where it belongs, in api_key or headers";
    }
    struct span port_text;
    bool has_port = false;
    int port = 0;
    if (!split_host(authority, &out->host, &port_text, &has_port) || (has_port && !parse_port(port_text, 1, &port))) {
        return "has no valid host and port; write it like https://api.example.com:8443/v1";
    }
    return NULL;
}

static bool is_private_ipv4(uint32_t address) {
    for (size_t i = 0; i < sizeof(private_ranges) / sizeof(private_ranges[0]); i++) {
        if ((address ^ private_ranges[i].first) >> (32 - private_ranges[i].prefix) == 0) {
            return true;
        }
    }
    return false;
}

static uint32_t ipv4_inside(const struct in6_addr *address) {
    uint32_t inside = 0;
    memcpy(&inside, address->s6_addr + 12, sizeof(inside));
    return ntohl(inside);
}

static bool is_private_ipv6(const struct in6_addr *address) {
    static const unsigned char nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    bool carries_ipv4 = IN6_IS_ADDR_V4MAPPED(address) || IN6_IS_ADDR_V4COMPAT(address) ||
                        memcmp(address->s6_addr, nat64, sizeof(nat64)) == 0;
    if (carries_ipv4) {
        return is_private_ipv4(ipv4_inside(address));
    }
    return IN6_IS_ADDR_LOOPBACK(address) || IN6_IS_ADDR_UNSPECIFIED(address) || (address->s6_addr[0] & 0xfe) == 0xfc ||
           IN6_IS_ADDR_LINKLOCAL(address) || IN6_IS_ADDR_SITELOCAL(address);
}

static struct span without_last_dot(struct span host) {
    return host.len > 1 && host.base[host.len - 1] == '.' ? span_of(host.base, host.len - 1) : host;
}

static bool is_localhost_name(struct span host) {
    const char *suffix = ".localhost";
    size_t suffix_len = strlen(suffix);
    return span_is_nocase(host, "localhost") || span_is_nocase(host, "localhost.localdomain") ||
           (host.len > suffix_len && span_is_nocase(span_skip(host, host.len - suffix_len), suffix));
}

bool conf_net_is_private(struct span host) {
    struct in6_addr v6;
    struct in_addr v4;
    struct span name = without_last_dot(host);
    if (parse_ipv6(name, &v6)) {
        return is_private_ipv6(&v6);
    }
    if (parse_loose_ipv4(name, &v4)) {
        return is_private_ipv4(ntohl(v4.s_addr));
    }
    return is_localhost_name(name);
}

bool conf_net_is_loopback(struct span host) {
    struct in6_addr v6;
    struct in_addr v4;
    if (parse_ipv6(host, &v6)) {
        return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && ipv4_inside(&v6) >> 24 == 127);
    }
    if (parse_ipv4(host, &v4)) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    return is_localhost_name(host);
}

bool conf_net_is_cidr(struct span text) {
    const char *slash = text.len != 0 ? memchr(text.base, '/', text.len) : NULL;
    struct span address = slash != NULL ? span_of(text.base, (size_t)(slash - text.base)) : text;
    struct in6_addr v6;
    struct in_addr v4;
    bool is_v6 = parse_ipv6(address, &v6);
    if (!is_v6 && !parse_ipv4(address, &v4)) {
        return false;
    }
    int64_t prefix = 0;
    struct span digits = span_skip(text, address.len + 1);
    return slash == NULL || (digits.len <= 3 && digits.len != 0 && digits.base[0] != '-' &&
                             conf_units_parse_int(digits, &prefix) && prefix <= (is_v6 ? 128 : 32));
}
