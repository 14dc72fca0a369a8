/* worker/upstream_address.h - is an address one that a public upstream never has?
 * Used by: the curl driver, for each address a name led to. Pure. */
#ifndef TOLLGATE_WORKER_UPSTREAM_ADDRESS_H
#define TOLLGATE_WORKER_UPSTREAM_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

/* Loopback, private, link-local, shared (RFC 6598), multicast, unspecified and reserved networks of IPv4 and IPv6, IPv4
 * written inside IPv6 included; any other family counts as private. */
bool upstream_address_is_private(const struct sockaddr *address);

#endif
