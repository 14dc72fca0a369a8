/* master/master_user.h - who the children run as, and what they must not be able to do.
 * Used by: the master finds the user once at start; children drop to it right after fork.
 * Started as anything but root nothing changes hands. Started as root, children run as conf.user, else as the owner of
 * the state directory (which may be root). */
#ifndef TOLLGATE_MASTER_MASTER_USER_H
#define TOLLGATE_MASTER_MASTER_USER_H

#include <sys/types.h>

#include "conf/conf.h"

struct master_user {
    bool changes; /* false: children stay who the master is */
    uid_t uid;
    gid_t gid;
    char *name; /* NULL when the system knows no name for uid */
};

/* Finds the user. state_fd is the state directory. False with *error set, as for a user that does not exist. Blocking:
 * reads the user database. */
MUST_CHECK bool master_user_find(struct master_user *user, const struct conf *conf, int state_fd, struct buffer *error);

void master_user_fini(struct master_user *user);

/* Gives the state directory and the files in it that root owns to the user. Follows no links; a directory of somebody
 * else, or one of root's that others may look into, is refused. */
MUST_CHECK bool master_user_own_state(const struct master_user *user, int state_fd, struct buffer *error);

/* In a child: becomes the user for good; no core dumps, no new privileges. False with errno set. */
MUST_CHECK bool master_user_become(const struct master_user *user);

/* No core dumps of this process, and none of its memory for others: it holds keys and prompts. */
void master_user_hide_memory(void);

#endif
