#include "worker/signature.h"

#include "base/buffer.h"

enum { TIMESTAMP_DIGITS_MOST = 15, OLD_SECRET_BYTES = 256, FRAME_BYTES = 128 };

static bool parse_timestamp(struct span text, int64_t *out) {
    int64_t value = 0;
    if (text.base == NULL || text.len == 0 || text.len > TIMESTAMP_DIGITS_MOST) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] < '0' || text.base[i] > '9') {
            return false;
        }
        value = value * 10 + (text.base[i] - '0');
    }
    *out = value;
    return true;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool parse_mac(struct span hex, unsigned char out[static SHA256_BYTES]) {
    if (hex.len != 2 * SHA256_BYTES) {
        return false;
    }
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        int high = hex_digit(hex.base[2 * i]);
        int low = hex_digit(hex.base[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (unsigned char)(high * 16 + low);
    }
    return true;
}

static bool make_v2(const struct signature_claim *claim, struct span key, unsigned char out[static SHA256_BYTES]) {
    unsigned char digest[SHA256_BYTES];
    char digest_hex[SHA256_HEX_BYTES];
    struct buffer message;
    hash_sha256(claim->body, digest);
    hash_hex(digest, sizeof(digest), digest_hex);
    buffer_init(&message, claim->timestamp.len + claim->method.len + claim->target.len + FRAME_BYTES);
    buffer_append_span(&message, claim->timestamp);
    buffer_append_text(&message, ".");
    buffer_append_span(&message, claim->method);
    buffer_append_text(&message, ".");
    buffer_append_span(&message, claim->target);
    buffer_append_text(&message, ".");
    buffer_append_text(&message, digest_hex);
    bool whole = !message.failed;
    if (whole) {
        hash_hmac_sha256(key, buffer_span(&message), out);
    }
    buffer_fini(&message);
    return whole;
}

static bool make_old(const struct signature_claim *claim, struct span key, unsigned char out[static SHA256_BYTES]) {
    char secret[OLD_SECRET_BYTES];
    size_t len = claim->timestamp.len + key.len;
    if (len > sizeof(secret)) {
        return false;
    }
    memcpy(secret, claim->timestamp.base, claim->timestamp.len);
    memcpy(secret + claim->timestamp.len, key.base, key.len);
    hash_hmac_sha256(span_of(secret, len), SPAN_EMPTY, out);
    explicit_bzero(secret, sizeof(secret));
    return true;
}

enum signature_result signature_check(const struct signature_claim *claim, struct span key, int64_t now_wall_s,
                                      struct signature_proof *proof) {
    unsigned char expected[SHA256_BYTES] = {0};
    if (claim->timestamp.base == NULL && claim->signature.base == NULL) {
        return SIGNATURE_ABSENT;
    }
    if (claim->timestamp.len == 0 || claim->signature.len == 0) {
        return SIGNATURE_INCOMPLETE;
    }
    bool is_v2 = span_starts_with(claim->signature, "v2=");
    struct span hex = span_skip(claim->signature, is_v2 ? 3 : 0);
    if (!parse_timestamp(claim->timestamp, &proof->timestamp_s) || !parse_mac(hex, proof->mac)) {
        return SIGNATURE_MALFORMED;
    }
    if (proof->timestamp_s < now_wall_s - SIGNATURE_WINDOW_S || proof->timestamp_s > now_wall_s + SIGNATURE_WINDOW_S) {
        return SIGNATURE_STALE;
    }
    bool made = key.len != 0 && (is_v2 ? make_v2(claim, key, expected) : make_old(claim, key, expected));
    bool fits = made && hash_equal(expected, proof->mac, sizeof(expected));
    explicit_bzero(expected, sizeof(expected));
    return !fits ? SIGNATURE_MISMATCH : is_v2 ? SIGNATURE_V2 : SIGNATURE_OLD;
}
