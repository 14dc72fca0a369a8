/* shm/heritage.h - all that a forked child receives from the master, in one struct.
 * Used by: the master fills one before each fork; worker_main, ledger_main and admin_main take it and own it then.
 * Descriptors not named here are closed in the child, except the state lock: it stays held while any process of the
 * server lives. */
#ifndef TOLLGATE_SHM_HERITAGE_H
#define TOLLGATE_SHM_HERITAGE_H

#include "shm/shm_map.h"

struct conf;

enum { HERITAGE_LISTENERS_MOST = 64, HERITAGE_SEATS_MOST = 8192, HERITAGE_TICKET_KEY_BYTES = 80 };

/* One listening socket of this child. listen_index points into conf.listens. */
struct heritage_listener {
    int fd;
    int listen_index;
};

struct heritage {
    const struct conf *conf;
    struct shm_map map;
    uint32_t generation;
    uint32_t seat;         /* workers: their row in the segment */
    uint32_t worker_index; /* workers: 0 .. workers - 1 */
    struct heritage_listener
        listeners[HERITAGE_LISTENERS_MOST]; /* workers: one per conf.listens and share; admin: one */
    int listener_count;
    int master_alive_fd; /* read end of a pipe whose write end only the master holds: end of file means it is gone */
    int ready_fd;        /* write one byte when ready to serve */
    int ledger_wake_fd;  /* eventfd: a settled record waits. Workers write, the ledger reads */
    const int *seat_wake_fds; /* an eventfd a seat: something that its worker waits for has happened. Workers write and
                                 read */
    uint32_t seat_wake_count;
    int journal_fd;                        /* workers: the answers that may be asked for again (shm_journal.h) */
    int state_fd;                          /* the state directory */
    uint32_t upstream_rows[SHM_UPSTREAMS]; /* conf.upstreams[i] -> row in the segment */
    unsigned char ticket_key[HERITAGE_TICKET_KEY_BYTES]; /* TLS session tickets, the same in every worker */
};

/* Exit codes of children. 2 means: do not start me again. */
enum { CHILD_EXIT_DONE = 0, CHILD_EXIT_FAILED = 1, CHILD_EXIT_CONFIGURATION = 2 };

#endif
