#include "store/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/state_lock.h"

enum { PATH_BYTES = 4096 };

static bool fail(struct buffer *error, const char *what, const char *path) {
    buffer_format(error, "%s %s: %s", what, path, strerror(errno));
    return false;
}

static bool join(const char *dir, const char *name, char out[static PATH_BYTES], struct buffer *error) {
    int len = snprintf(out, PATH_BYTES, "%s/%s", dir, name);
    if (len > 0 && len < PATH_BYTES) {
        return true;
    }
    errno = ENAMETOOLONG;
    return fail(error, "cannot use", dir);
}

static bool sync_directory(const char *path, struct buffer *error) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    if (!synced) {
        (void)fail(error, "cannot sync", path);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return synced;
}

/* Makes the directory, or sees that it is empty. */
static bool settle_directory(const char *dir, struct buffer *error) {
    if (mkdir(dir, 0700) == 0) {
        return true;
    }
    DIR *listing = errno == EEXIST ? opendir(dir) : NULL;
    if (listing == NULL) {
        return fail(error, "cannot make", dir);
    }
    const struct dirent *entry = readdir(listing);
    while (entry != NULL && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)) {
        entry = readdir(listing);
    }
    if (entry != NULL) {
        buffer_format(error, "%s is not empty: name a new directory", dir);
    }
    (void)closedir(listing);
    return entry == NULL;
}

bool backup_to(struct ledger *ledger, const char *dir, struct buffer *error) {
    char making[PATH_BYTES];
    char made[PATH_BYTES];
    if (!settle_directory(dir, error) || !join(dir, "ledger.new", making, error) || !join(dir, "ledger", made, error)) {
        return false;
    }
    if (mkdir(making, 0700) != 0) {
        return fail(error, "cannot make", making);
    }
    if (!kv_copy(ledger->kv, making, error)) {
        return false;
    }
    return (rename(making, made) == 0 || fail(error, "cannot rename", making)) && sync_directory(dir, error);
}

static int64_t file_bytes(const char *path) {
    struct stat now;
    return stat(path, &now) == 0 ? (int64_t)now.st_size : 0;
}

static void remove_copy(const char *dir, const char *file) {
    (void)unlink(file);
    (void)rmdir(dir);
}

bool backup_compact(struct ledger *ledger, int64_t *before_bytes, int64_t *after_bytes, struct buffer *error) {
    char data[PATH_BYTES];
    char copy_dir[PATH_BYTES];
    char copy[PATH_BYTES];
    if (!join(ledger->state_dir, "ledger/data.mdb", data, error) ||
        !join(ledger->state_dir, "ledger.compact", copy_dir, error) || !join(copy_dir, "data.mdb", copy, error)) {
        return false;
    }
    remove_copy(copy_dir, copy); /* one that a crash left */
    if (mkdir(copy_dir, 0700) != 0) {
        return fail(error, "cannot make", copy_dir);
    }
    *before_bytes = file_bytes(data);
    if (!kv_copy(ledger->kv, copy_dir, error)) {
        remove_copy(copy_dir, copy);
        return false;
    }
    kv_close(ledger->kv);
    ledger->kv = NULL;
    bool moved = rename(copy, data) == 0 || fail(error, "cannot rename", copy);
    remove_copy(copy_dir, copy);
    state_hand_over(ledger->state_dir, "ledger/data.mdb");
    *after_bytes = file_bytes(data);
    return ledger_reopen(ledger, error) && moved && sync_directory(ledger->state_dir, error);
}
