/* shm/shm_connections.h - how many connections each client address has open, over all workers.
 * Used by: workers count their own; the master clears a seat's table before it gives the seat to a new worker.
 * Each seat has a table of its own, which only its worker writes; an address has the sum over all seats. What a dead
 * worker had counted therefore goes with its seat's state, and nobody has to put anything right.
 * A row is one word: fingerprint and count. An address that finds no row (thousands of others near it) is not counted
 * here. Blocking: never, but for a few hundred nanoseconds when two workers want the last place at one moment. */
#ifndef TOLLGATE_SHM_SHM_CONNECTIONS_H
#define TOLLGATE_SHM_SHM_CONNECTIONS_H

#include "shm/shm_map.h"

/* The seat's worker: counts a connection of the address (in IPv6 form) unless all workers together have `most` of it
 * (0: no limit). False: refused, nothing counted. Never admits more than `most`. */
MUST_CHECK bool shm_connection_take(const struct shm_map *map, uint32_t seat, const unsigned char address[static 16],
                                    int64_t most);

/* The seat's worker: one that was taken has closed. */
void shm_connection_return(const struct shm_map *map, uint32_t seat, const unsigned char address[static 16]);

/* Connections of the address in all workers. */
int64_t shm_connection_count(const struct shm_map *map, const unsigned char address[static 16]);

/* Master, while the seat is FREE: forgets what its last worker had counted. */
void shm_connections_clear(const struct shm_map *map, uint32_t seat);

#endif
