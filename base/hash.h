/* base/hash.h - digests, checksums, hexadecimal and random bytes (OpenSSL and getrandom underneath).
 * Used by: every process. None of these block after boot; none fail except by aborting. */
#ifndef TOLLGATE_BASE_HASH_H
#define TOLLGATE_BASE_HASH_H

#include <stdint.h>

#include "base/span.h"

enum { SHA256_BYTES = 32, SHA256_HEX_BYTES = 65 };

void hash_sha256(struct span data, unsigned char out[static SHA256_BYTES]);

/* SHA-256 over several pieces in order. */
void hash_sha256_pieces(const struct span *pieces, size_t count, unsigned char out[static SHA256_BYTES]);

void hash_hmac_sha256(struct span key, struct span data, unsigned char out[static SHA256_BYTES]);

/* CRC-32 as in ISO 3309 and zlib (polynomial 0xEDB88320). */
uint32_t hash_crc32(struct span data);

/* A fast 64-bit hash for tables (FNV-1a with a final mix); not for secrets. */
uint64_t hash_fast(struct span data, uint64_t seed);

/* Lower-case hexadecimal, zero-terminated: out holds 2 * len + 1 bytes. */
void hash_hex(const unsigned char *bytes, size_t len, char *out);

/* Constant-time comparison of two secrets of one length. */
bool hash_equal(const void *a, const void *b, size_t len);

/* Fills out from getrandom. */
void random_bytes(void *out, size_t len);

/* Writes `count` random base62 characters (0-9A-Za-z, unbiased) and a terminating zero. */
void random_base62(char *out, size_t count);

#endif
