/* worker/guard_address.h - how many connections each client address has open.
 * Used by: the worker (front_guard.c). Pure apart from its memory. Blocking: never.
 * Addresses: IPv4 and IPv6 in full; an IPv4 address seen through an IPv6 socket is the same. No other family counts.
 * Ownership: guard_address_new / guard_address_free; an entry lives as long as a connection is counted in it. */
#ifndef TOLLGATE_WORKER_GUARD_ADDRESS_H
#define TOLLGATE_WORKER_GUARD_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/check.h"

struct guard_address_table;

struct guard_address {
    uint8_t bytes[16]; /* IPv6 form; all zero: not counted */
};

struct guard_address_table *guard_address_new(void);
void guard_address_free(struct guard_address_table *table);

/* The key of a peer. */
struct guard_address guard_address_of(const struct sockaddr *peer, socklen_t len);

/* Counts one connection more unless the address has `most` already (0: no limit). False: refused, nothing counted. */
MUST_CHECK bool guard_address_take(struct guard_address_table *table, struct guard_address address, int64_t most);

/* Takes back one that was taken. */
void guard_address_return(struct guard_address_table *table, struct guard_address address);

/* Connections counted for the address. */
int64_t guard_address_count(const struct guard_address_table *table, struct guard_address address);

#endif
