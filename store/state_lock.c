#include "store/state_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static bool path_in(const char *state_dir, const char *name, char out[static PATH_BYTES]) {
    int len = snprintf(out, PATH_BYTES, "%s/%s", state_dir, name);
    return len > 0 && len < PATH_BYTES;
}

/* mkdir for a path and the parents it lacks. */
static bool make_directories(const char *path) {
    char part[PATH_BYTES];
    if (!span_copy(span_text(path), part, sizeof part)) {
        errno = ENAMETOOLONG;
        return false;
    }
    for (char *at = part; *at != '\0';) {
        at += strspn(at, "/");
        at += strcspn(at, "/");
        char kept = *at;
        *at = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            return false;
        }
        *at = kept;
    }
    return true;
}

static struct flock whole_file(void) { return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET}; }

static pid_t read_pid(const char *state_dir) {
    char path[PATH_BYTES];
    char text[32];
    if (!path_in(state_dir, "tollgate.pid", path)) {
        return 0;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) {
        (void)close(fd);
    }
    if (len <= 0) {
        return 0;
    }
    text[len] = '\0';
    long pid = strtol(text, NULL, 10);
    return pid > 0 && pid <= INT32_MAX ? (pid_t)pid : 0;
}

static void write_pid(const char *state_dir) {
    char path[PATH_BYTES];
    char text[32];
    if (!path_in(state_dir, "tollgate.pid", path)) {
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return;
    }
    int len = snprintf(text, sizeof text, "%" PRId32 "\n", (int32_t)getpid());
    if (pwrite(fd, text, (size_t)len, 0) == len) {
        (void)!ftruncate(fd, len);
    }
    (void)close(fd);
    state_hand_over(state_dir, "tollgate.pid");
}

static enum state_lock_result explain(const char *state_dir, const char *what, struct buffer *error) {
    buffer_format(error, "%s %s: %s", what, state_dir, strerror(errno));
    if (errno == ENOENT) {
        buffer_append_text(error, " (\"tollgate serve\" or \"tollgate tenant create\" makes it)");
    } else if (errno == EACCES || errno == EPERM) {
        buffer_append_text(error, " (run as the user the server runs as)");
    }
    return STATE_LOCK_FAILED;
}

enum state_lock_result state_lock_take(const char *state_dir, bool make_dir, int *lock_fd, pid_t *holder,
                                       struct buffer *error) {
    char path[PATH_BYTES];
    struct flock lock = whole_file();
    *holder = 0;
    *lock_fd = -1;
    if (make_dir && !make_directories(state_dir)) {
        return explain(state_dir, "cannot make the state directory", error);
    }
    errno = ENAMETOOLONG;
    int fd = path_in(state_dir, "lock", path) ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0) {
        return explain(state_dir, "cannot use the state directory", error);
    }
    state_hand_over(state_dir, "lock");
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
        write_pid(state_dir);
        *lock_fd = fd;
        return STATE_LOCKED;
    }
    bool busy = errno == EAGAIN || errno == EACCES;
    enum state_lock_result result = busy ? STATE_BUSY : explain(state_dir, "cannot lock the state directory", error);
    (void)close(fd);
    *holder = busy ? read_pid(state_dir) : 0;
    return result;
}

void state_lock_release(const char *state_dir, int lock_fd) {
    char path[PATH_BYTES];
    if (lock_fd < 0) {
        return;
    }
    if (path_in(state_dir, "tollgate.pid", path) && read_pid(state_dir) == getpid()) {
        (void)unlink(path);
    }
    (void)close(lock_fd);
}

pid_t state_lock_holder(const char *state_dir) {
    char path[PATH_BYTES];
    struct flock lock = whole_file();
    int fd = path_in(state_dir, "lock", path) ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) {
        return 0;
    }
    bool held = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    (void)close(fd);
    return held ? read_pid(state_dir) : 0;
}

void state_hand_over(const char *state_dir, const char *name) {
    char path[PATH_BYTES];
    struct stat owner;
    if (geteuid() == 0 && stat(state_dir, &owner) == 0 && owner.st_uid != 0 && path_in(state_dir, name, path)) {
        (void)!lchown(path, owner.st_uid, owner.st_gid);
    }
}
