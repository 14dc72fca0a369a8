/* worker/client_address.h - addresses and networks as bytes, and who a client is when it comes through proxies.
 * Used by: the worker (front_http.c, auth.c). Pure: nothing is resolved, nothing kept.
 * A client is its TCP peer, unless the peer is one of the configuration's trusted_proxies. Then the entries of all its
 * X-Forwarded-For headers are walked from the right: the first that is no trusted proxy itself is the client. What
 * stands left of it was written by whoever pleased, and is not looked at. When every entry is a trusted proxy it is the
 * left-most of them. An entry that is no address ends the walk, and the client is the peer: a proxy that passes rubbish
 * on is not believed at all. Empty entries are passed over. */
#ifndef TOLLGATE_WORKER_CLIENT_ADDRESS_H
#define TOLLGATE_WORKER_CLIENT_ADDRESS_H

#include <stdint.h>

#include "base/span.h"

enum { CLIENT_ADDRESS_TEXT_BYTES = 48 };

struct client_address {
    unsigned char bytes[16]; /* IPv6 form; IPv4 as ::ffff:a.b.c.d */
};

struct client_network {
    struct client_address base;
    int bits; /* of the IPv6 form */
};

/* Reads "192.0.2.1" or "2001:db8::1"; a mapped address is the IPv4 one. False: it is neither. */
bool client_address_parse(struct span text, struct client_address *out);

/* As client_address_parse, and with a port: "192.0.2.1:80", "[2001:db8::1]:80", "[2001:db8::1]". */
bool client_address_parse_entry(struct span text, struct client_address *out);

/* Writes the address in its usual form, zero-terminated. */
void client_address_format(const struct client_address *address, char out[static CLIENT_ADDRESS_TEXT_BYTES]);

/* Reads "10.0.0.0/8", "2001:db8::/32" or a single address. */
bool client_network_parse(struct span text, struct client_network *out);

/* Is the address inside? An IPv4 address is inside no network of IPv6 addresses, "::/0" neither. */
bool client_network_holds(const struct client_network *network, const struct client_address *address);

/* A walk over the X-Forwarded-For headers of one request, from the last header to the first. */
struct client_walk {
    const struct client_network *trusted;
    int trusted_count;
    struct client_address peer;
    struct client_address client; /* the answer so far */
    bool is_over;                 /* further headers change nothing */
};

/* Begins at the peer; `trusted` must outlive the walk. */
struct client_walk client_walk_begin(const struct client_network *trusted, int trusted_count,
                                     const struct client_address *peer);

/* Takes the next header's value in. */
void client_walk_field(struct client_walk *walk, struct span field);

#endif
