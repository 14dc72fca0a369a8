#include "store/kv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KV_READERS_MOST = 1024 };
static const size_t map_bytes_least = (size_t)1 << 20;

struct kv {
    MDB_env *env;
    bool writable;
    size_t map_bytes;
    MDB_dbi tables[KV_TABLES];
};

struct kv_txn {
    struct kv *kv;
    MDB_txn *txn;
    int failure; /* LMDB's or errno's number; 0 while all went well */
};

struct kv_cursor {
    struct kv_txn *owner;
    MDB_cursor *cursor;
};

static const char *const table_names[KV_TABLES] = {
    [KV_META] = "meta",
    [KV_TENANTS] = "tenants",
    [KV_TENANT_NAMES] = "tenant_names",
    [KV_KEYS] = "keys",
    [KV_KEY_IDS] = "key_ids",
    [KV_KEY_NAMES] = "key_names",
    [KV_SECRETS] = "secrets",
    [KV_KEY_SECRETS] = "key_secrets",
    [KV_NAMES] = "names",
    [KV_NAME_NUMBERS] = "name_numbers",
    [KV_PRICES] = "prices",
    [KV_CREDITS] = "credits",
    [KV_RECORDS] = "records",
    [KV_RECORDS_BY_END] = "records_by_end",
    [KV_RECORDS_BY_ID] = "records_by_id",
    [KV_ROLLUPS] = "rollups",
    [KV_SPEND] = "spend",
    [KV_POSITIONS] = "positions",
};

/* LMDB's type has no const; it never writes through it. */
static MDB_val value_of(struct span s) {
    MDB_val value = {.mv_size = s.len};
    memcpy(&value.mv_data, &s.base, sizeof value.mv_data);
    return value;
}

static struct span span_of_value(const MDB_val *v) { return span_of(v->mv_data, v->mv_size); }

static enum kv_status status_of(int failure) {
    switch (failure) {
    case 0:
        return KV_OK;
    case MDB_MAP_FULL:
        return KV_MAP_FULL;
    case ENOSPC:
    case EDQUOT:
        return KV_NO_SPACE;
    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_VERSION_MISMATCH:
    case EACCES:
    case EPERM:
    case EROFS:
        return KV_FOREIGN;
    default:
        return KV_BROKEN;
    }
}

static const char *advice_on(int failure) {
    switch (failure) {
    case ENOENT:
        return " (nothing has been stored here yet; \"tollgate serve\" or \"tollgate tenant create\" makes it)";
    case EACCES:
    case EPERM:
        return " (run as the user the server runs as)";
    case EROFS:
        return " (the file system is read-only)";
    case ENOSPC:
    case EDQUOT:
        return " (the disk is full: make room)";
    case EIO: /* LMDB reports so a write that was cut short, too */
        return " (the disk is full or failing)";
    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_VERSION_MISMATCH:
        return " (not a store this program can read: restore a backup, or move the directory away to start empty)";
    case MDB_READERS_FULL:
        return " (too many reports at once: try again)";
    default:
        return "";
    }
}

static void explain(struct buffer *error, const char *what, const char *path, int failure) {
    buffer_format(error, "%s%s%s: %s%s", what, path != NULL ? " " : "", path != NULL ? path : "", mdb_strerror(failure),
                  advice_on(failure));
}

/* Pages that were allocated last and freed again are never written, so a sound file may be a little shorter than its
 * page count; one that is much shorter was cut off. Reading a missing page is a SIGBUS, so a writer puts zeros there,
 * which LMDB answers with MDB_CORRUPTED, and a reader refuses. fallocate, unlike ftruncate, can't shorten a file that
 * grows. */
static int mend_cut_off_file(struct kv *kv) {
    const uint64_t pages_spare = 64;
    MDB_envinfo info;
    MDB_stat stat_now;
    struct stat file;
    mdb_filehandle_t fd = -1;
    if (mdb_env_info(kv->env, &info) != 0 || mdb_env_stat(kv->env, &stat_now) != 0 ||
        mdb_env_get_fd(kv->env, &fd) != 0 || fstat(fd, &file) != 0) {
        return MDB_INVALID;
    }
    uint64_t pages = (uint64_t)file.st_size / stat_now.ms_psize;
    uint64_t pages_counted = (uint64_t)info.me_last_pgno + 1;
    if (pages >= pages_counted) {
        return 0;
    }
    if (!kv->writable) {
        return pages + pages_spare < pages_counted ? MDB_CORRUPTED : 0;
    }
    return fallocate(fd, 0, (off_t)(pages_counted * stat_now.ms_psize) - 1, 1) == 0 ? 0 : errno;
}

static int open_environment(struct kv *kv, const char *path, size_t map_bytes) {
    unsigned flags = MDB_NOTLS | (kv->writable ? 0 : MDB_RDONLY);
    int failure = mdb_env_create(&kv->env);
    if (failure != 0) {
        return failure;
    }
    failure = mdb_env_set_maxdbs(kv->env, KV_TABLES + 8);
    failure = failure != 0 ? failure : mdb_env_set_maxreaders(kv->env, KV_READERS_MOST);
    failure = failure != 0 ? failure : mdb_env_set_mapsize(kv->env, map_bytes);
    failure = failure != 0 ? failure : mdb_env_open(kv->env, path, flags, 0600);
    failure = failure != 0 ? failure : mend_cut_off_file(kv);
    if (failure != 0) {
        mdb_env_close(kv->env);
        kv->env = NULL;
    }
    kv->map_bytes = map_bytes;
    return failure;
}

/* Opens with the largest map that can be had, halving from map_bytes. */
static int open_with_some_map(struct kv *kv, const char *path, size_t map_bytes) {
    int failure = open_environment(kv, path, map_bytes);
    while (failure == ENOMEM && map_bytes / 2 >= map_bytes_least) {
        map_bytes /= 2;
        failure = open_environment(kv, path, map_bytes);
    }
    return failure;
}

static int open_tables(struct kv *kv) {
    MDB_txn *txn = NULL;
    int failure = mdb_txn_begin(kv->env, NULL, kv->writable ? 0 : MDB_RDONLY, &txn);
    if (failure != 0) {
        return failure;
    }
    for (int table = 0; table < KV_TABLES && failure == 0; table++) {
        failure = mdb_dbi_open(txn, table_names[table], kv->writable ? MDB_CREATE : 0, &kv->tables[table]);
    }
    if (failure != 0) {
        mdb_txn_abort(txn);
        return failure == MDB_NOTFOUND ? ENOENT : failure;
    }
    return mdb_txn_commit(txn);
}

static size_t map_bytes_for(const char *path, size_t map_bytes) {
    char file[4096];
    struct stat now;
    if (snprintf(file, sizeof file, "%s/data.mdb", path) >= (int)sizeof file || stat(file, &now) != 0) {
        return map_bytes;
    }
    size_t needed = (size_t)now.st_size / map_bytes_least * map_bytes_least * 2;
    return needed > map_bytes ? needed : map_bytes;
}

struct kv *kv_open(const char *path, bool writable, size_t map_bytes, enum kv_status *status, struct buffer *error) {
    struct kv *kv = calloc(1, sizeof *kv);
    CHECK(kv != NULL);
    kv->writable = writable;
    int failure = writable && mkdir(path, 0700) != 0 && errno != EEXIST ? errno : 0;
    failure = failure != 0 ? failure : open_with_some_map(kv, path, map_bytes_for(path, map_bytes));
    failure = failure != 0 ? failure : open_tables(kv);
    *status = status_of(failure);
    if (failure != 0) {
        explain(error, "cannot open the ledger in", path, failure);
        kv_close(kv);
        return NULL;
    }
    return kv;
}

void kv_close(struct kv *kv) {
    if (kv == NULL) {
        return;
    }
    if (kv->env != NULL) {
        mdb_env_close(kv->env);
    }
    free(kv);
}

bool kv_is_current(struct kv *kv, const char *path) {
    char file[4096];
    struct stat named;
    struct stat opened;
    mdb_filehandle_t fd = -1;
    if (snprintf(file, sizeof file, "%s/data.mdb", path) >= (int)sizeof file || stat(file, &named) != 0 ||
        mdb_env_get_fd(kv->env, &fd) != 0 || fstat(fd, &opened) != 0) {
        return true; /* nothing better is there */
    }
    return named.st_ino == opened.st_ino && named.st_dev == opened.st_dev;
}

struct kv_txn *kv_begin(struct kv *kv, bool write, struct buffer *error) {
    MDB_txn *txn = NULL;
    int failure = mdb_txn_begin(kv->env, NULL, write ? 0 : MDB_RDONLY, &txn);
    if (failure == MDB_MAP_RESIZED) { /* another process grew the file: take over its size */
        failure = mdb_env_set_mapsize(kv->env, 0);
        failure = failure != 0 ? failure : mdb_txn_begin(kv->env, NULL, write ? 0 : MDB_RDONLY, &txn);
    }
    if (failure != 0) {
        explain(error, "cannot read the ledger", NULL, failure);
        return NULL;
    }
    struct kv_txn *opened = calloc(1, sizeof *opened);
    CHECK(opened != NULL);
    *opened = (struct kv_txn){.kv = kv, .txn = txn};
    return opened;
}

enum kv_status kv_commit(struct kv_txn *txn, struct buffer *error) {
    int failure = txn->failure;
    if (failure != 0) {
        mdb_txn_abort(txn->txn);
    } else {
        failure = mdb_txn_commit(txn->txn);
    }
    free(txn);
    if (failure != 0) {
        explain(error, "cannot write the ledger", NULL, failure);
    }
    return status_of(failure);
}

void kv_abort(struct kv_txn *txn) {
    if (txn != NULL) {
        mdb_txn_abort(txn->txn);
        free(txn);
    }
}

enum kv_status kv_status_of(const struct kv_txn *txn) { return status_of(txn->failure); }

const char *kv_failure_text(const struct kv_txn *txn) { return mdb_strerror(txn->failure); }

const char *kv_failure_advice(const struct kv_txn *txn) { return advice_on(txn->failure); }

/* Notes a failure; a missing key is none. Returns whether the call did what it should. */
static bool settle(struct kv_txn *txn, int result) {
    if (result != 0 && result != MDB_NOTFOUND && txn->failure == 0) {
        txn->failure = result;
    }
    return result == 0;
}

bool kv_get(struct kv_txn *txn, enum kv_table table, struct span key, struct span *value) {
    MDB_val k = value_of(key);
    MDB_val v = {0, NULL};
    if (txn->failure != 0 || !settle(txn, mdb_get(txn->txn, txn->kv->tables[table], &k, &v))) {
        return false;
    }
    *value = span_of_value(&v);
    return true;
}

static bool put(struct kv_txn *txn, enum kv_table table, struct span key, struct span value, unsigned flags) {
    MDB_val k = value_of(key);
    MDB_val v = value_of(value);
    return txn->failure == 0 && settle(txn, mdb_put(txn->txn, txn->kv->tables[table], &k, &v, flags));
}

bool kv_put(struct kv_txn *txn, enum kv_table table, struct span key, struct span value) {
    return put(txn, table, key, value, 0);
}

bool kv_put_new(struct kv_txn *txn, enum kv_table table, struct span key, struct span value, bool *exists) {
    MDB_val k = value_of(key);
    MDB_val v = value_of(value);
    *exists = false;
    if (txn->failure != 0) {
        return false;
    }
    int result = mdb_put(txn->txn, txn->kv->tables[table], &k, &v, MDB_NOOVERWRITE);
    *exists = result == MDB_KEYEXIST;
    return !*exists && settle(txn, result);
}

bool kv_put_last(struct kv_txn *txn, enum kv_table table, struct span key, struct span value) {
    return put(txn, table, key, value, MDB_APPEND);
}

bool kv_delete(struct kv_txn *txn, enum kv_table table, struct span key) {
    MDB_val k = value_of(key);
    return txn->failure == 0 && settle(txn, mdb_del(txn->txn, txn->kv->tables[table], &k, NULL));
}

void kv_delete_all(struct kv_txn *txn, enum kv_table table) {
    if (txn->failure == 0) {
        (void)settle(txn, mdb_drop(txn->txn, txn->kv->tables[table], 0));
    }
}

uint64_t kv_count(struct kv_txn *txn, enum kv_table table) {
    MDB_stat stat_now = {0};
    if (txn->failure != 0 || !settle(txn, mdb_stat(txn->txn, txn->kv->tables[table], &stat_now))) {
        return 0;
    }
    return stat_now.ms_entries;
}

struct kv_cursor *kv_cursor_open(struct kv_txn *txn, enum kv_table table) {
    MDB_cursor *cursor = NULL;
    if (txn->failure != 0 || !settle(txn, mdb_cursor_open(txn->txn, txn->kv->tables[table], &cursor))) {
        return NULL;
    }
    struct kv_cursor *opened = calloc(1, sizeof *opened);
    CHECK(opened != NULL);
    *opened = (struct kv_cursor){.owner = txn, .cursor = cursor};
    return opened;
}

void kv_cursor_close(struct kv_cursor *cursor) {
    if (cursor != NULL) {
        mdb_cursor_close(cursor->cursor);
        free(cursor);
    }
}

static bool move(struct kv_cursor *cursor, struct span key, MDB_cursor_op op, struct kv_pair *pair) {
    MDB_val k = value_of(key);
    MDB_val v = {0, NULL};
    if (cursor == NULL || cursor->owner->failure != 0 ||
        !settle(cursor->owner, mdb_cursor_get(cursor->cursor, &k, &v, op))) {
        return false;
    }
    *pair = (struct kv_pair){span_of_value(&k), span_of_value(&v)};
    return true;
}

bool kv_cursor_seek(struct kv_cursor *cursor, struct span key, struct kv_pair *pair) {
    return move(cursor, key, MDB_SET_RANGE, pair);
}

bool kv_cursor_first(struct kv_cursor *cursor, struct kv_pair *pair) {
    return move(cursor, SPAN_EMPTY, MDB_FIRST, pair);
}

bool kv_cursor_last(struct kv_cursor *cursor, struct kv_pair *pair) { return move(cursor, SPAN_EMPTY, MDB_LAST, pair); }

bool kv_cursor_next(struct kv_cursor *cursor, struct kv_pair *pair) { return move(cursor, SPAN_EMPTY, MDB_NEXT, pair); }

bool kv_cursor_previous(struct kv_cursor *cursor, struct kv_pair *pair) {
    return move(cursor, SPAN_EMPTY, MDB_PREV, pair);
}

bool kv_cursor_delete(struct kv_cursor *cursor) {
    return cursor != NULL && cursor->owner->failure == 0 && settle(cursor->owner, mdb_cursor_del(cursor->cursor, 0));
}

bool kv_grow(struct kv *kv, struct buffer *error) {
    size_t more = kv->map_bytes;
    int failure = __builtin_mul_overflow(more, (size_t)2, &more) ? ENOMEM : mdb_env_set_mapsize(kv->env, more);
    if (failure != 0) {
        explain(error, "cannot grow the ledger's map", NULL, failure);
        return false;
    }
    kv->map_bytes = more;
    return true;
}

static int sync_path(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    int failure = fsync(fd) != 0 ? errno : 0;
    (void)close(fd);
    return failure;
}

bool kv_copy(struct kv *kv, const char *path, struct buffer *error) {
    char file[4096];
    int failure = mdb_env_copy2(kv->env, path, MDB_CP_COMPACT);
    if (failure == 0 && snprintf(file, sizeof file, "%s/data.mdb", path) >= (int)sizeof file) {
        failure = ENAMETOOLONG;
    }
    failure = failure != 0 ? failure : sync_path(file, O_RDONLY);
    failure = failure != 0 ? failure : sync_path(path, O_RDONLY | O_DIRECTORY);
    if (failure != 0) {
        explain(error, "cannot copy the ledger to", path, failure);
    }
    return failure == 0;
}

int kv_check_readers(struct kv *kv) {
    int freed = 0;
    return mdb_reader_check(kv->env, &freed) == 0 ? freed : 0;
}

struct reader_search {
    struct kv_reader *oldest;
    bool found;
};

/* One line of LMDB's list: process, thread, and the snapshot, or "-" between two of them. */
static int visit_reader(const char *line, void *context) {
    struct reader_search *search = context;
    int pid = 0;
    uint64_t snapshot = 0;
    if (sscanf(line, "%d %*x %" SCNu64, &pid, &snapshot) == 2 && pid > 1 && pid != getpid() &&
        (!search->found || snapshot < search->oldest->snapshot)) {
        *search->oldest = (struct kv_reader){.pid = pid, .snapshot = snapshot};
        search->found = true;
    }
    return 0;
}

bool kv_oldest_reader(struct kv *kv, struct kv_reader *oldest) {
    struct reader_search search = {.oldest = oldest};
    return mdb_reader_list(kv->env, visit_reader, &search) >= 0 && search.found;
}

uint64_t kv_used_bytes(struct kv *kv) {
    MDB_envinfo info;
    MDB_stat stat_now;
    if (mdb_env_info(kv->env, &info) != 0 || mdb_env_stat(kv->env, &stat_now) != 0) {
        return 0;
    }
    return ((uint64_t)info.me_last_pgno + 1) * stat_now.ms_psize;
}
