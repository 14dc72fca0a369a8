#include "base/hash.h"

#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <sys/random.h>

#include "base/check.h"

static const char base62_digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static const void *bytes_of(struct span data) { return data.base != NULL ? data.base : ""; }

void hash_sha256(struct span data, unsigned char out[static SHA256_BYTES]) {
    CHECK(SHA256(bytes_of(data), data.len, out) != NULL);
}

void hash_sha256_pieces(const struct span *pieces, size_t count, unsigned char out[static SHA256_BYTES]) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    CHECK(context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1);
    for (size_t i = 0; i < count; i++) {
        CHECK(EVP_DigestUpdate(context, bytes_of(pieces[i]), pieces[i].len) == 1);
    }
    CHECK(EVP_DigestFinal_ex(context, out, NULL) == 1);
    EVP_MD_CTX_free(context);
}

void hash_hmac_sha256(struct span key, struct span data, unsigned char out[static SHA256_BYTES]) {
    CHECK(key.len <= INT_MAX);
    CHECK(HMAC(EVP_sha256(), bytes_of(key), (int)key.len, bytes_of(data), data.len, out, NULL) != NULL);
}

uint32_t hash_crc32(struct span data) {
    /* The remainders of the sixteen possible halves of a byte. */
    static const uint32_t remainders[16] = {0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4,
                                            0x4DB26158, 0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
                                            0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < data.len; i++) {
        crc ^= (unsigned char)data.base[i];
        crc = crc >> 4 ^ remainders[crc & 15];
        crc = crc >> 4 ^ remainders[crc & 15];
    }
    return ~crc;
}

uint64_t hash_fast(struct span data, uint64_t seed) {
    uint64_t hash = UINT64_C(0xCBF29CE484222325) ^ seed;
    for (size_t i = 0; i < data.len; i++) {
        hash = (hash ^ (unsigned char)data.base[i]) * UINT64_C(0x100000001B3);
    }
    hash = (hash ^ hash >> 33) * UINT64_C(0xFF51AFD7ED558CCD);
    hash = (hash ^ hash >> 33) * UINT64_C(0xC4CEB9FE1A85EC53);
    return hash ^ hash >> 33;
}

void hash_hex(const unsigned char *bytes, size_t len, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
}

bool hash_equal(const void *a, const void *b, size_t len) { return len == 0 || CRYPTO_memcmp(a, b, len) == 0; }

void random_bytes(void *out, size_t len) {
    unsigned char *at = out;
    while (len != 0) {
        ssize_t got = getrandom(at, len, 0);
        CHECK(got > 0 || (got < 0 && errno == EINTR));
        if (got > 0) {
            at += got;
            len -= (size_t)got;
        }
    }
}

void random_base62(char *out, size_t count) {
    unsigned char pool[64];
    size_t left = 0;
    for (size_t made = 0; made < count;) {
        if (left == 0) {
            random_bytes(pool, sizeof(pool));
            left = sizeof(pool);
        }
        unsigned char byte = pool[--left];
        if (byte < 62 * 4) { /* the bytes above would favour the first digits */
            out[made++] = base62_digits[byte % 62];
        }
    }
    out[count] = '\0';
    OPENSSL_cleanse(pool, sizeof(pool));
}
