/* store/control.h - the control socket: STATE_DIR/control.sock, one JSON request a line, one JSON answer a line.
 * Used by: the ledger process, inside its poll loop.
 * Nothing here waits: a slow client only fills its own buffers, which are capped; one that makes no progress is closed.
 * The socket is for the state directory's owner alone (mode 0600). */
#ifndef TOLLGATE_STORE_CONTROL_H
#define TOLLGATE_STORE_CONTROL_H

#include <poll.h>

#include "store/operations.h"

enum { CONTROL_CLIENTS_MOST = 64, CONTROL_FDS_MOST = CONTROL_CLIENTS_MOST + 1 };

struct control;

/* Listens. operations outlives it. NULL with *error set. */
MUST_CHECK struct control *control_open(const char *state_dir, struct operations *operations, struct buffer *error);
void control_close(struct control *control);

/* Fills what to poll for; returns how many entries. */
int control_poll_set(struct control *control, struct pollfd fds[static CONTROL_FDS_MOST]);

/* Handles what poll found: the entries of the last control_poll_set. Runs whole requests. */
void control_handle(struct control *control, const struct pollfd *fds, int count);

/* The address of the socket in a state directory, however long its path is; *directory_fd is -1 or to be closed after
 * use. False when the directory can't be opened. */
struct sockaddr_un;
MUST_CHECK bool control_address(const char *state_dir, struct sockaddr_un *out, int *directory_fd);

#endif
