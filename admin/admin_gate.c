#include "admin/admin_gate.h"

#include <arpa/inet.h>

#include "base/hash.h"

/* The host without its port. */
static struct span strip_port(struct span host) {
    const char *end = host.len != 0 && host.base[0] == '[' ? memchr(host.base, ']', host.len) : NULL;
    size_t from = end != NULL ? (size_t)(end - host.base) : 0;
    const char *colon = host.len != 0 ? memchr(host.base + from, ':', host.len - from) : NULL;
    return colon != NULL ? span_of(host.base, (size_t)(colon - host.base)) : host;
}

bool gate_is_loopback(struct span host) {
    char text[INET_ADDRSTRLEN];
    struct in_addr address;
    struct span name = strip_port(host);
    if (span_is_nocase(name, "localhost") || span_is(name, "[::1]")) {
        return true;
    }
    return span_copy(name, text, sizeof(text)) && inet_pton(AF_INET, text, &address) == 1 &&
           ntohl(address.s_addr) >> 24 == 127;
}

/* The page itself asks from "http://" and the very host it was loaded from. */
static bool is_own_origin(struct span origin, struct span host) {
    return span_starts_with(origin, "http://") && span_equals(span_skip(origin, strlen("http://")), host);
}

/* Both are hashed first, so that neither content nor length shows in the time taken. */
static bool is_token(struct span given, const char *token) {
    unsigned char given_hash[SHA256_BYTES];
    unsigned char token_hash[SHA256_BYTES];
    hash_sha256(given, given_hash);
    hash_sha256(span_text(token), token_hash);
    return hash_equal(given_hash, token_hash, SHA256_BYTES);
}

static enum gate_verdict judge_token(const char *token, struct span authorization) {
    struct span scheme = span_of(authorization.base, authorization.len < 7 ? authorization.len : 7);
    if (!span_is_nocase(scheme, "bearer ")) {
        return GATE_NO_TOKEN;
    }
    return is_token(span_trim(span_skip(authorization, 7)), token) ? GATE_OPEN : GATE_WRONG_TOKEN;
}

enum gate_verdict gate_judge(const char *token, bool is_public, struct span authorization, struct span host,
                             struct span origin) {
    if (token != NULL) {
        return is_public ? GATE_OPEN : judge_token(token, authorization);
    }
    if (!gate_is_loopback(host)) {
        return GATE_FOREIGN_HOST;
    }
    return origin.len == 0 || is_own_origin(origin, host) ? GATE_OPEN : GATE_FOREIGN_ORIGIN;
}
