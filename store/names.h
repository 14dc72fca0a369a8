/* store/names.h - texts that records repeat (models, upstreams, tag sets), kept once under a number.
 * Used by: store/ only. Numbers are dense from 0; number 0 is the empty text. They never change or go, so the private
 * copy in memory stays right for ever and only needs what was added since. Ownership: texts belong to struct names and
 * live as long as it does. */
#ifndef TOLLGATE_STORE_NAMES_H
#define TOLLGATE_STORE_NAMES_H

#include "store/kv.h"

enum { NAME_BYTES_MOST = 16384 };

struct names {
    char **texts;
    uint32_t count;
    uint32_t capacity;
    uint32_t *slots; /* open addressing: number + 1 of a text, 0 for none */
    uint32_t slot_count;
};

void names_init(struct names *names);
void names_fini(struct names *names);

/* The text of a number; "" when there is none. */
const char *names_text(struct names *names, struct kv_txn *txn, uint32_t number);

/* The number of a text, storing it when it is new (then txn must be a writer). Returns false when txn failed. */
MUST_CHECK bool names_number(struct names *names, struct kv_txn *txn, struct span text, uint32_t *number);

/* Forgets numbers from `count` on: their transaction did not commit. */
void names_forget(struct names *names, uint32_t count);

/* The key under which KV_NAME_NUMBERS holds a text's number: 16 bytes. */
enum { NAME_DIGEST_BYTES = 16 };
void names_digest(struct span text, unsigned char out[static NAME_DIGEST_BYTES]);

#endif
