/* worker/signature.h - signed requests: X-Timestamp and X-Signature (interface.md sections 4 and 8).
 * Used by: auth.c. Pure. Comparisons take the same time whatever differs; what is made of the key is wiped.
 *   "v2=" + hex HMAC-SHA256(key, TIMESTAMP "." METHOD "." TARGET "." hex SHA-256(body))   is good once
 *   hex HMAC-SHA256(TIMESTAMP KEY, "")                                                    the older form
 * TIMESTAMP is the header's text: decimal Unix seconds. TARGET is the request target as it was sent, query included.
 * A signature is used once when shm_replays.h has not seen its code before: that is the caller's part. */
#ifndef TOLLGATE_WORKER_SIGNATURE_H
#define TOLLGATE_WORKER_SIGNATURE_H

#include "base/hash.h"

enum { SIGNATURE_WINDOW_S = 300 };

enum signature_result {
    SIGNATURE_ABSENT,     /* neither header is there */
    SIGNATURE_V2,         /* good */
    SIGNATURE_OLD,        /* good, in the older form */
    SIGNATURE_INCOMPLETE, /* one header without the other */
    SIGNATURE_MALFORMED,  /* not a number of seconds, or in neither form */
    SIGNATURE_STALE,      /* further than SIGNATURE_WINDOW_S from now, into the past or the future */
    SIGNATURE_MISMATCH    /* made of something else than this request */
};

/* What came. A header that is absent has base NULL; one that is there and empty has not. */
struct signature_claim {
    struct span timestamp;
    struct span signature;
    struct span method;
    struct span target;
    struct span body;
};

/* What a good signature says. */
struct signature_proof {
    unsigned char mac[SHA256_BYTES];
    int64_t timestamp_s;
};

/* Checks a claim against the key that the request carries. Fills *proof when the result is V2 or OLD. */
enum signature_result signature_check(const struct signature_claim *claim, struct span key, int64_t now_wall_s,
                                      struct signature_proof *proof);

#endif
