/* worker/vocabulary.h - the byte-pair vocabularies that were built in, if any: each token's rank by its bytes.
 * Used by: worker/bpe.c; the command line for --version. Pure; the tables lie in the program's read-only data.
 * A table file is a header, an entry a vocabulary, and each one's slots (worker/vocabulary/pack.c writes it). A slot
 * holds 46 bits of a token's hash and 18 bits of rank; a token's home slot is given by the other end of its hash, and
 * it lies there or in the first free slot after it. Two texts of one hash would be taken for one: with 64 bits of hash
 * in use that happens once in some 10^12 look-ups, and costs a miscounted token.
 * Errors: a file whose sizes do not add up has no vocabularies. */
#ifndef TOLLGATE_WORKER_VOCABULARY_H
#define TOLLGATE_WORKER_VOCABULARY_H

#include <stdint.h>

#include "base/span.h"

enum vocabulary_kind { VOCABULARY_O200K, VOCABULARY_CL100K, VOCABULARIES };

enum {
    VOCABULARY_RANK_BITS = 18,
    VOCABULARY_NO_RANK = (1 << VOCABULARY_RANK_BITS) - 1, /* above every rank */
    VOCABULARY_SLOT_BITS_MOST = 20,
    VOCABULARY_TOKEN_BYTES_MOST = 128
};

#define VOCABULARY_MAGIC "TGVOCAB1"
#define VOCABULARY_FREE_SLOT UINT64_MAX

/* The file's layout: this, then at each `offset` 2^slot_bits slots of 64 bits, in the machine's byte order. */
struct vocabulary_header {
    char magic[8];
    uint32_t vocabularies; /* 0, or VOCABULARIES */
    uint32_t file_bytes;
    struct vocabulary_entry {
        uint32_t offset;
        uint32_t slot_bits;
        uint32_t tokens;
        uint32_t longest_bytes; /* of a token */
    } entries[VOCABULARIES];
};

struct vocabulary {
    const uint64_t *slots;
    uint32_t slot_bits;
    uint32_t longest_bytes;
    uint32_t tokens;
};

/* Finds a vocabulary in a table file. False when the file has none, or is not a whole and sound one. */
bool vocabulary_read(struct span file, enum vocabulary_kind kind, struct vocabulary *out);

/* The same for the file in the program. */
bool vocabulary_get(enum vocabulary_kind kind, struct vocabulary *out);

/* "o200k, cl100k", or what is used in their place. */
const char *vocabulary_describe(void);

/* The rank of the token that is exactly these bytes, VOCABULARY_NO_RANK when there is none. */
uint32_t vocabulary_rank(const struct vocabulary *vocabulary, const char *text, size_t len);

static inline uint64_t vocabulary_mix(uint64_t hash) {
    hash = (hash ^ hash >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    return hash ^ hash >> 32;
}

/* A token's hash, the same in file and program. Merging asks for little else, so it reads words, not bytes. */
static inline uint64_t vocabulary_hash(const char *text, size_t len) {
    uint64_t hash = (uint64_t)len * UINT64_C(0x9E3779B97F4A7C15);
    for (; len >= sizeof(uint64_t); text += sizeof(uint64_t), len -= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, text, sizeof(word));
        hash = vocabulary_mix(hash ^ word);
    }
    uint64_t rest = 0;
    for (size_t i = 0; i < len; i++) {
        rest = rest << 8 | (unsigned char)text[i];
    }
    return vocabulary_mix(vocabulary_mix(hash ^ rest));
}

/* Where a hash's token is looked for first, and the bits of its slot beside the rank. */
static inline uint64_t vocabulary_home(uint64_t hash, uint32_t slot_bits) { return hash >> (64 - slot_bits); }
static inline uint64_t vocabulary_tag(uint64_t hash) { return hash << VOCABULARY_RANK_BITS; }

#endif
