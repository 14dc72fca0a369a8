/* shm/shm_journal_layout.h - the structs inside the journal's memory file (shm_journal.h), their writers and asserts.
 * Used by: shm/ only. Fixed-width integers, byte arrays and indices; no pointers. */
#ifndef TOLLGATE_SHM_SHM_JOURNAL_LAYOUT_H
#define TOLLGATE_SHM_SHM_JOURNAL_LAYOUT_H

#include "shm/shm_journal.h"

#define SHM_JOURNAL_MAGIC UINT64_C(0x6a6f75726e616c31) /* "journal1" */

enum {
    SHM_JOURNAL_ROWS_LEAST = 4096,
    SHM_JOURNAL_NEIGHBOURS = 64, /* rows in which a stream's may be */
};

/* States inside a row's word. FREE: nobody's. MAKING, FREEING: of the process in the word, for a moment. LIVE: its
 * writer's. ENDED: nobody writes. */
enum shm_journal_row_state {
    SHM_JOURNAL_ROW_FREE,
    SHM_JOURNAL_ROW_MAKING,
    SHM_JOURNAL_ROW_LIVE,
    SHM_JOURNAL_ROW_ENDED,
    SHM_JOURNAL_ROW_FREEING,
};

struct shm_journal_header_sh {
    uint64_t magic;
    uint64_t bytes;
    uint32_t row_count; /* a power of two */
    uint32_t block_count;
    uint32_t once_count; /* a power of two */
    uint32_t reserved0_;
    uint64_t words_offset, names_offset, streams_offset, block_rows_offset, once_offset, blocks_offset;
};

/* Whose a block is. Claimed by a compare-and-swap of `owner` from 0; freed by its stream's writer, or by whoever frees
 * the stream. */
struct shm_journal_block_sh {
    _Atomic uint32_t owner; /* row + 1; 0: free */
    _Atomic uint32_t next;  /* the stream's next block */
    _Atomic uint64_t index; /* which part of the stream's log it holds, in blocks */
};
static_assert(sizeof(struct shm_journal_block_sh) == 16, "layout");

/* Writer: the reader's process, from a compare-and-swap of `pid` from 0 on; `waits` is taken back by the writer. */
struct shm_journal_reader_sh {
    _Atomic int32_t pid; /* 0: free */
    _Atomic uint32_t seat;
    _Atomic uint32_t waits;
    uint32_t reserved0_;
    _Atomic uint64_t position;
};
static_assert(sizeof(struct shm_journal_reader_sh) == 24, "layout");

/* Writer: the stream's owner; readers only their own row of readers[], held_back and is_cancelled. */
struct shm_journal_stream_sh {
    _Atomic uint64_t head;   /* bytes of the log published */
    _Atomic uint64_t oldest; /* where the oldest record stands that is kept */
    _Atomic uint32_t count;  /* records published */
    _Atomic uint32_t first_block;
    _Atomic uint32_t status; /* of the answer; 0: none yet */
    _Atomic uint32_t is_whole;
    _Atomic uint32_t is_broken;
    _Atomic uint32_t held_back; /* the writer waits for readers */
    _Atomic int64_t expires_mono_ns;
    uint32_t key_index;
    uint32_t seat;
    uint32_t has_ids;
    uint32_t form;
    uint8_t body_hash[SHM_JOURNAL_BODY_HASH_BYTES];
    char request_id[SHM_REQUEST_ID_BYTES];
    char model[SHM_MODEL_NAME_BYTES];
    char upstream[SHM_NAME_BYTES];
    char cost[32];
    struct shm_journal_reader_sh readers[SHM_JOURNAL_READERS];
    struct token_counts tokens; /* before the row's word says ENDED */
    int64_t cost_nusd;
    _Atomic uint32_t is_cancelled; /* somebody wants no more of it */
    uint32_t reserved0_;
    int64_t reserved_[6];
};
static_assert(sizeof(struct shm_journal_stream_sh) == 640, "layout");

/* What stands before each record in the log. */
struct shm_journal_record_sh {
    uint32_t bytes;
    uint32_t number;
};
static_assert(sizeof(struct shm_journal_record_sh) == 8, "layout");

/* A row's word: state (8 bits), pid (24 bits: Linux has none larger than 2^22), generation (32 bits). */
static inline uint64_t shm_journal_word(enum shm_journal_row_state state, int32_t pid, uint32_t generation) {
    return (uint64_t)state << 56 | (uint64_t)((uint32_t)pid & UINT32_C(0xffffff)) << 32 | generation;
}
static inline enum shm_journal_row_state shm_journal_word_state(uint64_t word) {
    return (enum shm_journal_row_state)(word >> 56);
}
static inline int32_t shm_journal_word_pid(uint64_t word) { return (int32_t)(word >> 32 & UINT32_C(0xffffff)); }
static inline uint32_t shm_journal_word_generation(uint64_t word) { return (uint32_t)word; }

/* Once-entries, see shm_once.h. {tag, row} change together. */
struct shm_once_sh {
    _Alignas(16) uint64_t tag; /* of key and Idempotency-Key; 0: never used */
    uint64_t holder;           /* generation and row + 1 of the first request's answer; 0: nobody holds the entry */
    _Atomic int64_t begun_mono_ns;
    uint8_t body_hash[SHM_JOURNAL_BODY_HASH_BYTES];
    char request_id[SHM_REQUEST_ID_BYTES];
    int64_t reserved_[2];
};
static_assert(sizeof(struct shm_once_sh) == 128, "layout");

/* shm_journal_log.c: gives back every block of a row: along its chain, or, when its writer died, wherever it is. */
void shm_journal_free_blocks(struct shm_journal *journal, uint32_t row, bool chain_is_whole);

/* The stream's details if it is there: LIVE or ENDED in this generation; else NULL. */
struct shm_journal_stream_sh *shm_journal_stream(const struct shm_journal *journal, struct shm_journal_id id);

#endif
