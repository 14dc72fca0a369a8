/* store/kv.h - the ordered key-value store under the books: transactions, tables, cursors.
 * Used by: store/ only. Implemented by kv_lmdb.c, the only file that includes lmdb.h.
 * One environment a process; open it after fork. One write transaction at a time, over all processes.
 * Ownership: spans that a get or a cursor returns point into the file and hold until the transaction ends or is written
 * to. Errors: a transaction remembers its first failure; gets then find nothing, puts return false, and kv_commit says
 * what it was. So a chain of calls needs one look at the end. Blocking: disk. Crash: a transaction is in the file whole
 * or not at all. */
#ifndef TOLLGATE_STORE_KV_H
#define TOLLGATE_STORE_KV_H

#include <stdint.h>

#include "base/buffer.h"

enum kv_table {
    KV_META,           /* see ledger_private.h */
    KV_TENANTS,        /* tenant id -> tenant */
    KV_TENANT_NAMES,   /* name -> tenant id */
    KV_KEYS,           /* key number -> key */
    KV_KEY_IDS,        /* key id -> key number */
    KV_KEY_NAMES,      /* name, 0, key number -> tenant id */
    KV_SECRETS,        /* SHA-256 of a secret -> key number, valid until */
    KV_KEY_SECRETS,    /* key number, SHA-256 -> nothing */
    KV_NAMES,          /* name number -> text and a zero */
    KV_NAME_NUMBERS,   /* first half of the text's SHA-256 -> name number */
    KV_PRICES,         /* model, 0, from -> price */
    KV_CREDITS,        /* tenant id, ref -> amount, when */
    KV_RECORDS,        /* sequence -> chain, record */
    KV_RECORDS_BY_END, /* end, sequence -> nothing */
    KV_RECORDS_BY_ID,  /* id, 0, tenant id -> sequence */
    KV_ROLLUPS,        /* see fold.h */
    KV_SPEND,          /* see fold.h */
    KV_POSITIONS,      /* segment incarnation, seat -> ring position */
    KV_TABLES
};

enum kv_status {
    KV_OK,
    KV_MAP_FULL, /* the map is too small: kv_grow and do it again */
    KV_NO_SPACE, /* the disk is full: nothing was written, try again later */
    KV_FOREIGN,  /* damaged, or not a store of this program and its version, or not ours to use */
    KV_BROKEN    /* anything else: close, open again, go on from what is stored */
};

enum { KV_KEY_MOST = 511 };

struct kv;
struct kv_txn;
struct kv_cursor;

struct kv_pair {
    struct span key;
    struct span value;
};

/* Opens (when writable: makes) the store in directory `path`. map_bytes is the size of the sparse map to start with;
 * less is taken when it can't be had. NULL with *status and *error set. */
MUST_CHECK struct kv *kv_open(const char *path, bool writable, size_t map_bytes, enum kv_status *status,
                              struct buffer *error);
void kv_close(struct kv *kv);

/* Is the file that is open still the one in directory `path`? Another takes its place when the books are compacted. */
bool kv_is_current(struct kv *kv, const char *path);

/* Begins a transaction. A reader sees one snapshot until it ends. NULL with *error set. */
MUST_CHECK struct kv_txn *kv_begin(struct kv *kv, bool write, struct buffer *error);

/* Ends the transaction. On anything but KV_OK nothing of it is stored and *error says why. */
MUST_CHECK enum kv_status kv_commit(struct kv_txn *txn, struct buffer *error);
void kv_abort(struct kv_txn *txn);

/* The first failure in this transaction so far, its text, and what to do about it: in brackets after a blank, or "". */
enum kv_status kv_status_of(const struct kv_txn *txn);
const char *kv_failure_text(const struct kv_txn *txn);
const char *kv_failure_advice(const struct kv_txn *txn);

/* False when there is no such key (or the transaction has failed). */
bool kv_get(struct kv_txn *txn, enum kv_table table, struct span key, struct span *value);
bool kv_put(struct kv_txn *txn, enum kv_table table, struct span key, struct span value);
/* As kv_put for a key that must not be there yet: *exists tells when it is, and nothing is changed. */
bool kv_put_new(struct kv_txn *txn, enum kv_table table, struct span key, struct span value, bool *exists);
/* As kv_put for a key above all others in the table: faster, and fails the transaction when it is not. */
bool kv_put_last(struct kv_txn *txn, enum kv_table table, struct span key, struct span value);
/* False when there was no such key. */
bool kv_delete(struct kv_txn *txn, enum kv_table table, struct span key);
void kv_delete_all(struct kv_txn *txn, enum kv_table table);
uint64_t kv_count(struct kv_txn *txn, enum kv_table table);

/* Cursors end before their transaction. NULL when the transaction has failed; the calls below accept that. */
MUST_CHECK struct kv_cursor *kv_cursor_open(struct kv_txn *txn, enum kv_table table);
void kv_cursor_close(struct kv_cursor *cursor);
/* Each returns false at the table's end. seek goes to the first key >= `key`. */
bool kv_cursor_seek(struct kv_cursor *cursor, struct span key, struct kv_pair *pair);
bool kv_cursor_first(struct kv_cursor *cursor, struct kv_pair *pair);
bool kv_cursor_last(struct kv_cursor *cursor, struct kv_pair *pair);
bool kv_cursor_next(struct kv_cursor *cursor, struct kv_pair *pair);
bool kv_cursor_previous(struct kv_cursor *cursor, struct kv_pair *pair);
/* Deletes the pair the cursor is on; kv_cursor_next then gives the one after it. */
bool kv_cursor_delete(struct kv_cursor *cursor);

/* Doubles the map. Only while this process has no transaction open. */
MUST_CHECK bool kv_grow(struct kv *kv, struct buffer *error);

/* Writes a compact copy of one snapshot to directory `path`, which exists and is empty, and syncs it. */
MUST_CHECK bool kv_copy(struct kv *kv, const char *path, struct buffer *error);

/* Frees the reader slots of processes that died. Returns how many. */
int kv_check_readers(struct kv *kv);

/* The reader with the oldest snapshot, of another process. Pages that were freed after it can't be used again while it
 * lasts. */
struct kv_reader {
    int pid;
    uint64_t snapshot; /* rises with each commit */
};
/* False when no other process reads. */
bool kv_oldest_reader(struct kv *kv, struct kv_reader *oldest);

/* Bytes of the file in use. */
uint64_t kv_used_bytes(struct kv *kv);

#endif
