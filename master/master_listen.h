/* master/master_listen.h - the listening sockets: one SO_REUSEPORT socket per address and worker, made before fork.
 * Used by: the master only; children get the descriptors in their heritage.
 * Ownership: each set owns its descriptors. While a reload runs, two sets hold descriptors of the same sockets, and a
 * socket lives as long as one of them: connections queued on it wait for whoever accepts next. Blocking: a host name
 * (not an address) is looked up. Errors name the address and the reason. */
#ifndef TOLLGATE_MASTER_MASTER_LISTEN_H
#define TOLLGATE_MASTER_MASTER_LISTEN_H

#include "conf/conf.h"
#include "shm/heritage.h"

struct master_listener {
    char *host;
    int conf_port; /* as configured */
    int port;      /* as bound: another one when 0 was configured */
    int *fds;      /* one a worker; -1: closed because its worker was given up */
    int fd_count;
};

/* The listeners of one configuration: listeners[i] serves conf.listens[i]. */
struct master_listen_set {
    struct master_listener *listeners;
    int count;
    struct master_listener admin;
};

/* Binds what conf asks for, sharing the sockets that `old` (may be NULL) has already. Nobody can connect to a new
 * socket before master_listen_start. On failure the set is empty and *error says which address and why. */
MUST_CHECK bool master_listen_open(struct master_listen_set *set, const struct conf *conf,
                                   const struct master_listen_set *old, struct buffer *error);

/* Lets clients connect. */
MUST_CHECK bool master_listen_start(struct master_listen_set *set, struct buffer *error);

/* Closes the set's descriptors and frees it. */
void master_listen_close(struct master_listen_set *set);

/* Moves the sockets that `from` has more of at the same address into `set`: clients may be queued on them. Returns how
 * many workers it now takes for every socket to have a reader of its own. */
int master_listen_adopt(struct master_listen_set *set, struct master_listen_set *from);

/* Fills in the sockets of worker `worker_index` of `worker_count`: every worker_count-th of each address, so that each
 * socket is some worker's. */
void master_listen_share(const struct master_listen_set *set, int worker_index, int worker_count,
                         struct heritage *heritage);

/* Closes the sockets of a worker that will not be started again, so that the kernel sends its clients to the others. */
void master_listen_abandon(struct master_listen_set *set, int worker_index, int worker_count);

/* Appends "http://127.0.0.1:8080" with the real port. */
void master_listen_print(const struct master_listener *listener, bool tls, struct buffer *out);

#endif
