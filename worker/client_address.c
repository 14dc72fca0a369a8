#include "worker/client_address.h"

#include <arpa/inet.h>

enum { MAPPED_BITS = 96, ADDRESS_BITS = 128, DIGITS_MOST = 5, PORT_MOST = 65535 };

static const unsigned char mapped_prefix[MAPPED_BITS / 8] = {[10] = 0xff, [11] = 0xff};

static bool is_ipv4(const struct client_address *address) {
    return memcmp(address->bytes, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

bool client_address_parse(struct span text, struct client_address *out) {
    char copy[CLIENT_ADDRESS_TEXT_BYTES];
    if (text.len == 0 || memchr(text.base, '\0', text.len) != NULL || !span_copy(text, copy, sizeof(copy))) {
        return false;
    }
    memcpy(out->bytes, mapped_prefix, sizeof(mapped_prefix));
    return inet_pton(AF_INET, copy, out->bytes + sizeof(mapped_prefix)) == 1 ||
           inet_pton(AF_INET6, copy, out->bytes) == 1;
}

/* A number of one to five digits up to `most`. */
static bool parse_number(struct span digits, int most, int *out) {
    int value = 0;
    for (size_t i = 0; i < digits.len; i++) {
        if (i == DIGITS_MOST || digits.base[i] < '0' || digits.base[i] > '9') {
            return false;
        }
        value = value * 10 + (digits.base[i] - '0');
    }
    *out = value;
    return digits.len != 0 && value <= most;
}

static bool is_port(struct span text) {
    int port = 0;
    return text.len == 0 || (text.base[0] == ':' && parse_number(span_skip(text, 1), PORT_MOST, &port));
}

bool client_address_parse_entry(struct span text, struct client_address *out) {
    if (text.len != 0 && text.base[0] == '[') {
        const char *end = memchr(text.base, ']', text.len);
        size_t len = end != NULL ? (size_t)(end - text.base) : 0;
        struct span inside = span_of(text.base + 1, len != 0 ? len - 1 : 0);
        return inside.len != 0 && memchr(inside.base, ':', inside.len) != NULL && is_port(span_skip(text, len + 1)) &&
               client_address_parse(inside, out);
    }
    const char *colon = text.len != 0 ? memchr(text.base, ':', text.len) : NULL;
    bool is_v6 = colon != NULL && memchr(colon + 1, ':', text.len - (size_t)(colon + 1 - text.base)) != NULL;
    if (colon == NULL || is_v6) {
        return client_address_parse(text, out);
    }
    struct span host = span_of(text.base, (size_t)(colon - text.base));
    return is_port(span_skip(text, host.len)) && client_address_parse(host, out);
}

void client_address_format(const struct client_address *address, char out[static CLIENT_ADDRESS_TEXT_BYTES]) {
    const char *done = is_ipv4(address)
                           ? inet_ntop(AF_INET, address->bytes + sizeof(mapped_prefix), out, CLIENT_ADDRESS_TEXT_BYTES)
                           : inet_ntop(AF_INET6, address->bytes, out, CLIENT_ADDRESS_TEXT_BYTES);
    if (done == NULL) {
        out[0] = '\0';
    }
}

bool client_network_parse(struct span text, struct client_network *out) {
    const char *slash = text.len != 0 ? memchr(text.base, '/', text.len) : NULL;
    struct span base = slash != NULL ? span_of(text.base, (size_t)(slash - text.base)) : text;
    if (!client_address_parse(base, &out->base)) {
        return false;
    }
    int offset = memchr(base.base, ':', base.len) == NULL ? MAPPED_BITS : 0;
    out->bits = ADDRESS_BITS;
    if (slash != NULL) {
        if (!parse_number(span_skip(text, base.len + 1), ADDRESS_BITS - offset, &out->bits)) {
            return false;
        }
        out->bits += offset;
    }
    return true;
}

bool client_network_holds(const struct client_network *network, const struct client_address *address) {
    size_t whole = (size_t)network->bits / 8;
    int rest = network->bits % 8;
    if (network->bits < MAPPED_BITS && is_ipv4(address)) {
        return false;
    }
    return memcmp(network->base.bytes, address->bytes, whole) == 0 &&
           (rest == 0 || (network->base.bytes[whole] ^ address->bytes[whole]) >> (8 - rest) == 0);
}

static bool is_trusted(const struct client_walk *walk, const struct client_address *address) {
    for (int i = 0; i < walk->trusted_count; i++) {
        if (client_network_holds(&walk->trusted[i], address)) {
            return true;
        }
    }
    return false;
}

struct client_walk client_walk_begin(const struct client_network *trusted, int trusted_count,
                                     const struct client_address *peer) {
    struct client_walk walk = {.trusted = trusted, .trusted_count = trusted_count, .peer = *peer, .client = *peer};
    walk.is_over = !is_trusted(&walk, peer);
    return walk;
}

static void take_entry(struct client_walk *walk, struct span entry) {
    struct client_address address;
    if (entry.len == 0) {
        return;
    }
    if (!client_address_parse_entry(entry, &address)) {
        walk->client = walk->peer;
        walk->is_over = true;
        return;
    }
    walk->client = address;
    walk->is_over = !is_trusted(walk, &address);
}

void client_walk_field(struct client_walk *walk, struct span field) {
    while (!walk->is_over && field.len != 0) {
        const char *comma = memrchr(field.base, ',', field.len);
        size_t start = comma != NULL ? (size_t)(comma - field.base) + 1 : 0;
        take_entry(walk, span_trim(span_skip(field, start)));
        field.len = comma != NULL ? start - 1 : 0;
    }
}
