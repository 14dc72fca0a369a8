/* store/record.h - one ledger record: the struct of the ring, the bytes on disk, and its link in the hash chain.
 * Used by: store/ only. Pure functions. The bytes begin with a version; a reader refuses versions it does not know.
 * Model, upstream and tag texts stand in the bytes as numbers (see names.h). */
#ifndef TOLLGATE_STORE_RECORD_H
#define TOLLGATE_STORE_RECORD_H

#include "base/buffer.h"
#include "base/hash.h"
#include "shm/shm_layout.h"

enum record_text { RECORD_MODEL_ASKED, RECORD_MODEL_SERVED, RECORD_UPSTREAM, RECORD_TAGS, RECORD_TEXTS };

/* Room for any packed record. */
enum { RECORD_BYTES_MOST = 1024 };

/* A record as it stands in the ledger. usage's model and upstream texts are empty after record_unpack: see texts. */
struct record {
    struct shm_usage_record_sh usage;
    uint32_t texts[RECORD_TEXTS]; /* name numbers */
};

/* Brings what a worker handed over into bounds: texts end, counts and money lie in their ranges. What had to be changed
 * among the counts is flagged SHM_RECORD_CLAMPED. */
void record_clamp(struct shm_usage_record_sh *usage);

/* Appends the record's bytes. */
void record_pack(const struct record *record, struct buffer *out);

/* Reads them back. False when they are damaged or of an unknown version. */
MUST_CHECK bool record_unpack(struct span bytes, struct record *record);

/* The record's link: SHA-256 over the link before it, the record's bytes, and the texts its numbers stand for. */
void record_chain(const unsigned char before[static SHA256_BYTES], struct span bytes,
                  const struct span texts[static RECORD_TEXTS], unsigned char out[static SHA256_BYTES]);

#endif
