/* store/state_lock.h - one server (or one offline command) a state directory.
 * Used by: the master for its life; commands that write without a server for their run.
 * STATE_DIR/lock is held with a lock of its open file description: it lasts until every copy of the descriptor, over
 * forks, is closed. STATE_DIR/tollgate.pid names the holder for messages. Directories are made 0700. */
#ifndef TOLLGATE_STORE_STATE_LOCK_H
#define TOLLGATE_STORE_STATE_LOCK_H

#include <sys/types.h>

#include "base/buffer.h"

enum state_lock_result { STATE_LOCKED, STATE_BUSY, STATE_LOCK_FAILED };

/* Takes the lock without waiting and writes the pid. BUSY: *holder is the pid in the file (0 when unknown). FAILED:
 * *error says why (missing directory and make_dir false, permissions, read-only). On LOCKED *lock_fd stays open until
 * released. */
MUST_CHECK enum state_lock_result state_lock_take(const char *state_dir, bool make_dir, int *lock_fd, pid_t *holder,
                                                  struct buffer *error);
void state_lock_release(const char *state_dir, int lock_fd);

/* Pid of the server that holds the lock, or 0 when nobody does. */
pid_t state_lock_holder(const char *state_dir);

/* Root makes files for the user the server runs as: gives STATE_DIR/name, when it exists, to the owner of STATE_DIR.
 * Does nothing for other users. */
void state_hand_over(const char *state_dir, const char *name);

#endif
