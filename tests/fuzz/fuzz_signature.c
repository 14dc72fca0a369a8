/* Signed requests: timestamp, signature, method, target and body, a line each, the body to the end. What comes is never
 * taken for good; the true signature of the same request is, and with any bit changed it is not. */
#include <stdio.h>

#include "base/check.h"
#include "fuzz.h"
#include "worker/signature.h"

enum { SIGNED_BYTES = 80, MESSAGE_BYTES = 1 << 17 };

static const struct span key = {"sk-tg-fuzz", 10};
static const int64_t NOW_S = 1790000000;

static struct span take_line(struct span *rest) {
    const char *end = rest->len != 0 ? memchr(rest->base, '\n', rest->len) : NULL;
    struct span line = span_of(rest->base, end != NULL ? (size_t)(end - rest->base) : rest->len);
    *rest = span_skip(*rest, line.len + 1);
    return line;
}

static void sign(const struct signature_claim *claim, char out[static SIGNED_BYTES]) {
    static char message[MESSAGE_BYTES];
    unsigned char digest[SHA256_BYTES];
    char hex[SHA256_HEX_BYTES];
    hash_sha256(claim->body, digest);
    hash_hex(digest, sizeof(digest), hex);
    int len = snprintf(message, sizeof(message), "%.*s.", SPAN_ARGUMENTS(claim->timestamp));
    memcpy(message + len, claim->method.base, claim->method.len);
    len += (int)claim->method.len;
    message[len++] = '.';
    memcpy(message + len, claim->target.base, claim->target.len);
    len += (int)claim->target.len;
    len += snprintf(message + len, sizeof(message) - (size_t)len, ".%s", hex);
    hash_hmac_sha256(key, span_of(message, (size_t)len), digest);
    hash_hex(digest, sizeof(digest), hex);
    (void)snprintf(out, SIGNED_BYTES, "v2=%s", hex);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct span rest = fuzz_span(data, size);
    struct signature_proof proof;
    char text[SIGNED_BYTES];
    if (size == 0 || size > MESSAGE_BYTES / 2) {
        return 0;
    }
    unsigned choice = data[size - 1];
    struct signature_claim claim = {.timestamp = take_line(&rest)};
    claim.signature = take_line(&rest);
    claim.method = take_line(&rest);
    claim.target = take_line(&rest);
    claim.body = rest;
    enum signature_result result = signature_check(&claim, key, NOW_S, &proof);
    CHECK(result != SIGNATURE_V2 && result != SIGNATURE_OLD);
    claim.timestamp = SPAN_LITERAL("1790000299");
    if (claim.method.base == NULL || claim.target.base == NULL || claim.body.base == NULL) {
        return 0;
    }
    sign(&claim, text);
    claim.signature = span_text(text);
    CHECK(signature_check(&claim, key, NOW_S, &proof) == SIGNATURE_V2 && proof.timestamp_s == NOW_S + 299);
    CHECK(signature_check(&claim, key, NOW_S - 2, &proof) == SIGNATURE_STALE);
    text[3 + choice % 64] = text[3 + choice % 64] == '0' ? '1' : '0';
    CHECK(signature_check(&claim, key, NOW_S, &proof) == SIGNATURE_MISMATCH);
    return 0;
}
