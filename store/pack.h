/* store/pack.h - values and keys as bytes. Values: LEB128 integers (zigzag when signed) and texts with their length,
 * read back with one sticky failure. Keys: big-endian fields, so that byte order is the order wanted. Used by: store/
 * only. Errors: a key never passes KV_KEY_MOST (that is a programming error); a value that ends early or holds a number
 * too large sets unpack.failed, and everything read after that is 0. */
#ifndef TOLLGATE_STORE_PACK_H
#define TOLLGATE_STORE_PACK_H

#include <stdint.h>

#include "base/buffer.h"
#include "store/kv.h"

struct pack_key {
    unsigned char bytes[KV_KEY_MOST];
    size_t len;
};

static inline struct span pack_key_span(const struct pack_key *key) {
    return span_of((const char *)key->bytes, key->len);
}

static inline void pack_key_bytes(struct pack_key *key, const void *bytes, size_t len) {
    CHECK(len <= sizeof key->bytes - key->len);
    if (len != 0) {
        memcpy(key->bytes + key->len, bytes, len);
    }
    key->len += len;
}

static inline void pack_key_u8(struct pack_key *key, uint8_t value) { pack_key_bytes(key, &value, 1); }

static inline void pack_key_u32(struct pack_key *key, uint32_t value) {
    uint32_t big = __builtin_bswap32(value);
    pack_key_bytes(key, &big, sizeof big);
}

static inline void pack_key_u64(struct pack_key *key, uint64_t value) {
    uint64_t big = __builtin_bswap64(value);
    pack_key_bytes(key, &big, sizeof big);
}

/* Signed, in numerical order: the sign bit is turned over. */
static inline void pack_key_i64(struct pack_key *key, int64_t value) {
    pack_key_u64(key, (uint64_t)value ^ (UINT64_C(1) << 63));
}

/* A text with its end, so that no text is a prefix of another. */
static inline void pack_key_text(struct pack_key *key, struct span text) {
    pack_key_bytes(key, text.base, text.len);
    pack_key_u8(key, 0);
}

static inline uint32_t unpack_be32(const void *at) {
    uint32_t big = 0;
    memcpy(&big, at, sizeof big);
    return __builtin_bswap32(big);
}

static inline uint64_t unpack_be64(const void *at) {
    uint64_t big = 0;
    memcpy(&big, at, sizeof big);
    return __builtin_bswap64(big);
}

static inline int64_t unpack_bei64(const void *at) { return (int64_t)(unpack_be64(at) ^ (UINT64_C(1) << 63)); }

static inline void pack_u64(struct buffer *out, uint64_t value) {
    unsigned char bytes[10];
    size_t len = 0;
    while (value >= 0x80) {
        bytes[len++] = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    bytes[len++] = (unsigned char)value;
    buffer_append(out, bytes, len);
}

static inline void pack_i64(struct buffer *out, int64_t value) {
    pack_u64(out, ((uint64_t)value << 1) ^ (uint64_t)(value >> 63));
}

static inline void pack_text(struct buffer *out, struct span text) {
    pack_u64(out, text.len);
    buffer_append_span(out, text);
}

struct unpack {
    const unsigned char *at;
    const unsigned char *end;
    bool failed;
};

static inline struct unpack unpack_of(struct span bytes) {
    const unsigned char *at = (const unsigned char *)bytes.base;
    return (struct unpack){.at = at, .end = bytes.len != 0 ? at + bytes.len : at, .failed = false};
}

static inline uint64_t unpack_u64(struct unpack *in) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && in->at != in->end && !in->failed; shift += 7) {
        uint64_t low = *in->at & 0x7fU;
        bool last = *in->at++ < 0x80;
        if (low << shift >> shift != low) {
            break;
        }
        value |= low << shift;
        if (last) {
            return value;
        }
    }
    in->failed = true;
    return 0;
}

/* As unpack_u64 for a number that is at most `most`. */
static inline uint64_t unpack_up_to(struct unpack *in, uint64_t most) {
    uint64_t value = unpack_u64(in);
    if (value > most) {
        in->failed = true;
        return 0;
    }
    return value;
}

static inline uint32_t unpack_u32(struct unpack *in) { return (uint32_t)unpack_up_to(in, UINT32_MAX); }

static inline int64_t unpack_i64(struct unpack *in) {
    uint64_t value = unpack_u64(in);
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

static inline struct span unpack_span(struct unpack *in) {
    uint64_t len = unpack_u64(in);
    if (in->failed || len > (uint64_t)(in->end - in->at)) {
        in->failed = true;
        return SPAN_EMPTY;
    }
    struct span text = span_of((const char *)in->at, (size_t)len);
    in->at += len;
    return text;
}

/* A text into out[size], zero-terminated; one that does not fit, or has a zero byte in it, is a failure. */
static inline void unpack_text(struct unpack *in, char *out, size_t size) {
    struct span text = unpack_span(in);
    bool has_zero = text.len != 0 && memchr(text.base, '\0', text.len) != NULL;
    if (!span_copy(text, out, size) || has_zero) {
        in->failed = true;
    }
}

#endif
