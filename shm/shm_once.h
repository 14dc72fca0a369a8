/* shm/shm_once.h - which Idempotency-Keys were used, and by which request: a table in the journal's memory file.
 * Used by: workers. One 16-byte compare-and-swap claims an entry, so of two first requests in two workers exactly one
 * runs. An entry is kept for SHM_ONCE_KEPT_NS from its request's begin; when its neighbourhood is full of younger ones
 * the oldest goes. A request that cost nothing gives its entry back.
 * Lost with the memory file: when the server is started anew. Blocking: never. */
#ifndef TOLLGATE_SHM_SHM_ONCE_H
#define TOLLGATE_SHM_SHM_ONCE_H

#include "shm/shm_journal.h"

enum {
    SHM_ONCE_ENTRIES = 1 << 18, /* a power of two */
    SHM_ONCE_NEIGHBOURS = 32,
};
#define SHM_ONCE_KEPT_NS (INT64_C(24) * 3600 * 1000000000)

/* A claimed entry, for its holder. */
struct shm_once {
    uint64_t tag; /* 0: nothing is held */
    uint32_t entry;
};

enum shm_once_result {
    SHM_ONCE_FREE,    /* find: nobody holds it */
    SHM_ONCE_CLAIMED, /* claim: this request runs */
    SHM_ONCE_HELD,    /* another request holds it: *found says which */
    SHM_ONCE_BUSY,    /* claim: others are fighting for it; try again */
};

/* Who holds an entry. */
struct shm_once_found {
    struct shm_once once;
    struct shm_journal_id stream; /* its answer, which may be gone by now */
    uint8_t body_hash[SHM_JOURNAL_BODY_HASH_BYTES];
    char request_id[SHM_REQUEST_ID_BYTES]; /* may be empty: its process died on the way */
};

/* The tag of an Idempotency-Key of one API key. */
uint64_t shm_once_tag(uint32_t key_index, struct span text);

/* Looks without claiming. */
enum shm_once_result shm_once_find(struct shm_journal *journal, uint64_t tag, int64_t now_mono_ns,
                                   struct shm_once_found *found);

/* Claims the entry for the stream, which has been begun. */
enum shm_once_result shm_once_claim(struct shm_journal *journal, uint64_t tag, struct shm_journal_id stream,
                                    int64_t now_mono_ns, struct shm_once_found *found);

/* Gives the entry back if `stream` still holds it: a repeat may run. */
void shm_once_release(struct shm_journal *journal, struct shm_once once, struct shm_journal_id stream);

#endif
