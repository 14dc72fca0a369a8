#include "store/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/state_lock.h"

#define COPY_NAME "ledger.compact"

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

static void remove_books(const char *state_dir, const char *dir) {
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    char path[PATH_BYTES];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        int len = snprintf(path, sizeof path, "%s/%s/%s", state_dir, dir, files[i]);
        if (len > 0 && len < PATH_BYTES) {
            (void)unlink(path);
        }
    }
    int len = snprintf(path, sizeof path, "%s/%s", state_dir, dir);
    if (len > 0 && len < PATH_BYTES) {
        (void)rmdir(path);
    }
}

/* Opening it once makes its lock file, with the owner it is to have, before anybody else can. */
static bool try_copy(struct ledger *ledger, const char *copy, struct buffer *error) {
    enum kv_status status = KV_OK;
    struct kv *kv = kv_open(copy, true, ledger->map_bytes, &status, error);
    if (kv == NULL) {
        return false;
    }
    kv_close(kv);
    state_hand_over(ledger->state_dir, COPY_NAME);
    state_hand_over(ledger->state_dir, COPY_NAME "/data.mdb");
    state_hand_over(ledger->state_dir, COPY_NAME "/lock.mdb");
    return true;
}

static bool make_copy(struct ledger *ledger, const char *copy, struct buffer *error) {
    remove_books(ledger->state_dir, COPY_NAME); /* one that a crash left */
    if (mkdir(copy, 0700) != 0) {
        return fail(error, "cannot make", copy);
    }
    return kv_copy(ledger->kv, copy, error) && try_copy(ledger, copy, error);
}

/* Readers that have the old books open go on with a snapshot and a lock file of their own, now without a name. */
static bool exchange(const struct ledger *ledger, const char *books, const char *copy, struct buffer *error) {
    if (renameat2(AT_FDCWD, copy, AT_FDCWD, books, RENAME_EXCHANGE) == 0) {
        return sync_directory(ledger->state_dir, error);
    }
    if (errno == EINVAL) {
        buffer_format(error, "the file system of %s cannot exchange two directories, which compacting needs",
                      ledger->state_dir);
        return false;
    }
    return fail(error, "cannot rename", copy);
}

bool backup_compact(struct ledger *ledger, int64_t *before_bytes, int64_t *after_bytes, struct buffer *error) {
    char books[PATH_BYTES];
    char data[PATH_BYTES];
    char copy[PATH_BYTES];
    if (!join(ledger->state_dir, "ledger", books, error) || !join(books, "data.mdb", data, error) ||
        !join(ledger->state_dir, COPY_NAME, copy, error)) {
        return false;
    }
    *before_bytes = file_bytes(data);
    bool done = ledger->kv != NULL || ledger_reopen(ledger, error);
    done = done && make_copy(ledger, copy, error);
    if (done) {
        kv_close(ledger->kv);
        ledger->kv = NULL;
        done = exchange(ledger, books, copy, error);
        done = ledger_reopen(ledger, error) && done;
    }
    remove_books(ledger->state_dir, COPY_NAME);
    *after_bytes = file_bytes(data);
    return done;
}
