#include "master/master_user.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static bool take_entry(struct master_user *user, const struct passwd *entry) {
    *user = (struct master_user){true, entry->pw_uid, entry->pw_gid, strdup(entry->pw_name)};
    return user->name != NULL;
}

static bool find_owner(struct master_user *user, int state_fd, struct buffer *error) {
    struct stat status;
    if (fstat(state_fd, &status) != 0) {
        buffer_format(error, "state directory: %m");
        return false;
    }
    const struct passwd *entry = getpwuid(status.st_uid);
    if (entry != NULL) {
        return take_entry(user, entry);
    }
    *user = (struct master_user){true, status.st_uid, status.st_gid, NULL};
    return true;
}

bool master_user_find(struct master_user *user, const struct conf *conf, int state_fd, struct buffer *error) {
    *user = (struct master_user){0};
    if (geteuid() != 0) {
        return true;
    }
    if (conf->user == NULL) {
        if (!find_owner(user, state_fd, error)) {
            return false;
        }
    } else {
        const struct passwd *entry = getpwnam(conf->user);
        if (entry == NULL || !take_entry(user, entry)) {
            buffer_format(error, "user %s: there is no such user; create it or change `user` in the configuration",
                          conf->user);
            return false;
        }
    }
    user->changes = user->uid != 0;
    return true;
}

void master_user_fini(struct master_user *user) {
    free(user->name);
    *user = (struct master_user){0};
}

/* Gives one entry away unless it is a link, a link's other name, or another's already. */
static bool own_entry(const struct master_user *user, int dir_fd, const char *name) {
    int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT;
    }
    struct stat status;
    bool ok = fstat(fd, &status) == 0;
    bool is_own_directory = strcmp(name, ".") == 0;
    if (ok && status.st_uid == 0 && (is_own_directory || (S_ISREG(status.st_mode) && status.st_nlink == 1))) {
        ok = fchownat(fd, "", user->uid, user->gid, AT_EMPTY_PATH) == 0;
    }
    close(fd);
    return ok;
}

static bool own_entries(const struct master_user *user, int dir_fd) {
    int list_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = list_fd >= 0 ? fdopendir(list_fd) : NULL;
    if (list == NULL) {
        return false;
    }
    bool ok = true;
    for (struct dirent *entry = readdir(list); ok && entry != NULL; entry = readdir(list)) {
        if (strcmp(entry->d_name, "..") != 0) {
            ok = own_entry(user, dir_fd, entry->d_name);
        }
    }
    closedir(list);
    return ok;
}

/* A directory that is not the user's yet is handed over only when it is as we make them: root's, and closed to others.
 * A `state: /var` by mistake must not give /var away. */
static bool may_own(const struct master_user *user, const struct stat *status, struct buffer *error) {
    if (status->st_uid == user->uid || (status->st_uid == 0 && (status->st_mode & (S_IRWXG | S_IRWXO)) == 0)) {
        return true;
    }
    buffer_format(error, "state directory: belongs to user id %u, not to %s; chown it, or change `user` or `state`",
                  (unsigned)status->st_uid, user->name != NULL ? user->name : "its user");
    return false;
}

bool master_user_own_state(const struct master_user *user, int state_fd, struct buffer *error) {
    struct stat status;
    if (!user->changes) {
        return true;
    }
    if (fstat(state_fd, &status) == 0) {
        if (!may_own(user, &status, error)) {
            return false;
        }
        if (own_entries(user, state_fd)) {
            return true;
        }
    }
    buffer_format(error, "state directory: cannot give it to user id %u: %m", (unsigned)user->uid);
    return false;
}

void master_user_hide_memory(void) {
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* The leak checker attaches to its own process, which this forbids. */
    prctl(PR_SET_DUMPABLE, 0);
#endif
}

bool master_user_become(const struct master_user *user) {
    if (user->changes) {
        bool has_groups = user->name != NULL ? initgroups(user->name, user->gid) == 0 : setgroups(0, NULL) == 0;
        if (!has_groups || setresgid(user->gid, user->gid, user->gid) != 0 ||
            setresuid(user->uid, user->uid, user->uid) != 0) {
            return false;
        }
    }
    master_user_hide_memory();
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}
