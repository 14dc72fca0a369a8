/* shm/shm_journal.h - the answers that may be asked for again: what was sent of each resumable stream, for as long as
 * it can be resumed, and the whole answers of idempotent requests.
 * Lives in: an anonymous memory file of its own (shm_journal_make), which the master makes before any fork and only
 * workers map. Prompts and answers never touch a disk; the mapping stays out of core dumps.
 * A stream is a log of records, each with its number, in blocks of fixed size; past what it may keep its oldest records
 * go. Memory is bounded by the number of blocks; a stream that finds no block forgets all it had and goes on.
 * Used by: workers. A stream has one writer, the worker that runs its request, and readers in any worker; a reader is
 * told when what it read was replaced under its hands (SHM_JOURNAL_LOST), never given it.
 * Crash: every word has one writer or changes in one atomic step. A stream whose owner is dead is found by
 * shm_journal_sweep, or by whoever looks it up, and given back. Blocking: never, but for madvise on freed blocks.
 * Ownership: struct shm_journal and the writers and cursors are private to a process. */
#ifndef TOLLGATE_SHM_SHM_JOURNAL_H
#define TOLLGATE_SHM_SHM_JOURNAL_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/money.h"
#include "shm/shm_layout.h"

enum {
    SHM_JOURNAL_BLOCK_BYTES = 16 << 10,
    SHM_JOURNAL_READERS = 8, /* of one stream, at once, that read from the memory */
    SHM_JOURNAL_BODY_HASH_BYTES = 16,
    SHM_JOURNAL_NO_READER = -1,
};
#define SHM_JOURNAL_NO_BLOCK UINT32_MAX
#define SHM_JOURNAL_NO_ROW UINT32_MAX

struct shm_journal_header_sh;
struct shm_journal_block_sh;
struct shm_journal_stream_sh;
struct shm_once_sh;

/* A process's view. */
struct shm_journal {
    struct shm_journal_header_sh *header; /* NULL: there is no journal */
    size_t bytes;
    _Atomic uint64_t *words; /* a stream's state, owner and generation: a row of each table is one stream */
    _Atomic uint64_t *names; /* hash of key and request id */
    struct shm_journal_stream_sh *streams;
    struct shm_journal_block_sh *block_rows;
    char *blocks;
    struct shm_once_sh *once; /* shm_once.h */
    int32_t pid;              /* ours */
    uint32_t hint;            /* where to look for a free block first */
    /* Does the process live that owns rows under this pid? */
    bool (*is_alive)(const void *context, int32_t pid);
    const void *context;
};

/* Says which stream, and which of those that had the row. 0 rows of no stream. */
struct shm_journal_id {
    uint32_t row; /* SHM_JOURNAL_NO_ROW: none */
    uint32_t generation;
};

/* What a stream is when it begins. */
struct shm_journal_begin {
    const char *request_id;
    uint32_t key_index;
    uint32_t seat;
    bool has_ids;  /* its events carry ids: it may be resumed */
    uint32_t form; /* the client's dialect, as its worker numbers them */
    uint8_t body_hash[SHM_JOURNAL_BODY_HASH_BYTES];
};

struct shm_journal_writer {
    struct shm_journal_id id;
    uint64_t head;
    uint32_t last_block;
    uint32_t count; /* records appended */
};

/* Where a reader is. */
struct shm_journal_cursor {
    struct shm_journal_id id;
    uint64_t position;
    uint32_t number; /* of the last record it has */
    int slot;        /* its place among the stream's readers, or SHM_JOURNAL_NO_READER */
    uint32_t block;  /* where it read last */
};

/* How an answer is: copied out whole. */
struct shm_journal_answer {
    uint32_t status;   /* 0: nothing has been answered yet */
    bool is_whole;     /* one record: the body of an answer that is no stream */
    bool is_broken;    /* the stream ended so that it shall look broken */
    bool is_cancelled; /* because one of its clients cancelled it */
    bool has_ids;
    uint32_t form;
    char request_id[SHM_REQUEST_ID_BYTES];
    char model[SHM_MODEL_NAME_BYTES];
    char upstream[SHM_NAME_BYTES];
    char cost[32];
    struct token_counts tokens; /* of a stream that has ended: what it is billed for, and that price */
    int64_t cost_nusd;
};

enum shm_journal_state { SHM_JOURNAL_GONE, SHM_JOURNAL_RUNNING, SHM_JOURNAL_ENDED, SHM_JOURNAL_DEAD };
enum shm_journal_read { SHM_JOURNAL_SOME, SHM_JOURNAL_NOTHING, SHM_JOURNAL_LOST };

/* --- the memory file --- */

/* Master: makes an empty journal of memory_bytes of answers beside its tables. Returns its descriptor, or -1 with errno
 * set. */
MUST_CHECK int shm_journal_make(int64_t memory_bytes);

/* Worker: maps it. False: errno says why. `is_alive` is asked about other processes' pids. */
MUST_CHECK bool shm_journal_open(struct shm_journal *journal, int fd, int32_t pid,
                                 bool (*is_alive)(const void *context, int32_t pid), const void *context);
void shm_journal_close(struct shm_journal *journal);

/* Bytes of answers held now, over all streams. */
uint64_t shm_journal_used_bytes(const struct shm_journal *journal);

/* --- writing --- */

/* Begins a stream. False: the table is full around this id; serve the request without. */
MUST_CHECK bool shm_journal_begin(struct shm_journal *journal, const struct shm_journal_begin *begin,
                                  struct shm_journal_writer *writer);

/* Appends one record and publishes it; then drops the oldest records past keep_bytes that no reader waits for. */
void shm_journal_append(struct shm_journal *journal, struct shm_journal_writer *writer, struct span bytes,
                        uint64_t keep_bytes);

/* Says how the answer is; readers see it once its status is there. Texts may be NULL. */
void shm_journal_answer_is(struct shm_journal *journal, const struct shm_journal_writer *writer, uint32_t status,
                           bool is_whole, const char *model, const char *upstream, const char *cost);

/* What a stream is billed for; to be said before its end. */
void shm_journal_owes(struct shm_journal *journal, const struct shm_journal_writer *writer,
                      const struct token_counts *tokens, int64_t cost_nusd);

/* Nothing will be added; from expires_mono_ns on nobody can come back to it. */
void shm_journal_end(struct shm_journal *journal, const struct shm_journal_writer *writer, bool is_broken,
                     int64_t expires_mono_ns);

/* Nobody can come back to it from now on. */
void shm_journal_expire(struct shm_journal *journal, const struct shm_journal_writer *writer);

/* Gives a stream that nobody shall find back at once. */
void shm_journal_drop(struct shm_journal *journal, const struct shm_journal_writer *writer);

/* How far the slowest attached reader is behind, in bytes. With will_wait the readers that make progress are asked to
 * wake the writer (shm_journal_read's `wake_writer`). */
uint64_t shm_journal_behind_bytes(struct shm_journal *journal, const struct shm_journal_writer *writer, bool will_wait);

/* The seats whose readers wait for what was just published; each is named once a wait. Returns how many. */
int shm_journal_take_waiting(struct shm_journal *journal, const struct shm_journal_writer *writer,
                             uint32_t seats[static SHM_JOURNAL_READERS]);

/* --- finding and reading --- */

/* The stream of this key with this request id that has not expired. row SHM_JOURNAL_NO_ROW: there is none. */
struct shm_journal_id shm_journal_find(struct shm_journal *journal, uint32_t key_index, struct span request_id,
                                       int64_t now_mono_ns);

enum shm_journal_state shm_journal_state_of(const struct shm_journal *journal, struct shm_journal_id id);
bool shm_journal_has_expired(const struct shm_journal *journal, struct shm_journal_id id, int64_t now_mono_ns);
bool shm_journal_is_of(const struct shm_journal *journal, struct shm_journal_id id, uint32_t key_index,
                       const uint8_t body_hash[static SHM_JOURNAL_BODY_HASH_BYTES]);

/* Copies how the answer is. False: the stream is gone. */
MUST_CHECK bool shm_journal_answer_of(const struct shm_journal *journal, struct shm_journal_id id,
                                      struct shm_journal_answer *out);

/* Any process: nobody wants more of the stream, if it still runs. Its writer finds that when it is woken. */
void shm_journal_cancel(struct shm_journal *journal, struct shm_journal_id id);
bool shm_journal_is_cancelled(const struct shm_journal *journal, struct shm_journal_id id);

/* How many records it has had so far. */
uint32_t shm_journal_count(const struct shm_journal *journal, struct shm_journal_id id);

/* Which seat writes it; valid while it runs. */
uint32_t shm_journal_seat_of(const struct shm_journal *journal, struct shm_journal_id id);

enum shm_journal_attach { SHM_JOURNAL_ATTACHED, SHM_JOURNAL_TOO_OLD, SHM_JOURNAL_NOT_YET, SHM_JOURNAL_TOO_MANY };

/* Takes a reader's place behind record `after`. TOO_OLD: what follows is not kept any more, or the stream is gone;
 * NOT_YET: there was no such record; TOO_MANY: other readers have all places. */
MUST_CHECK enum shm_journal_attach shm_journal_attach(struct shm_journal *journal, struct shm_journal_id id,
                                                      uint32_t after, uint32_t seat, struct shm_journal_cursor *cursor);

/* Sets a reader that has read nothing yet back to the oldest record that is kept. */
void shm_journal_rewind(const struct shm_journal *journal, struct shm_journal_cursor *cursor);

/* Appends the next records to out, as many as fit into about_bytes but at least one. NOTHING: the reader has all there
 * is. LOST: the stream or its place in it is gone. *wake_writer: the
 * writer waits for readers to go on. */
enum shm_journal_read shm_journal_read(struct shm_journal *journal, struct shm_journal_cursor *cursor,
                                       struct buffer *out, size_t about_bytes, bool *wake_writer);

/* Notes that the reader waits: its seat will be named when something is published (shm_journal_take_waiting). Look once
 * more after it. */
void shm_journal_wait(struct shm_journal *journal, const struct shm_journal_cursor *cursor);

/* Gives the reader's place back. True: the writer waits for readers to go on. */
bool shm_journal_detach(struct shm_journal *journal, struct shm_journal_cursor *cursor);

/* --- upkeep --- */

/* Gives back the streams whose time is over and those whose owner died. Any worker, about once a second. */
void shm_journal_sweep(struct shm_journal *journal, int64_t now_mono_ns);

#endif
