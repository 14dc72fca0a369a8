#include "worker/auth.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/key_format.h"
#include "worker/endpoints.h"
#include "worker/worker_state.h"
#include "worker/ws_handshake.h"

static struct span query_parameter(struct span query, const char *name) {
    size_t name_len = strlen(name);
    while (query.len != 0) {
        const char *and = memchr(query.base, '&', query.len);
        size_t len = and != NULL ? (size_t)(and-query.base) : query.len;
        if (len > name_len && query.base[name_len] == '=' && memcmp(query.base, name, name_len) == 0) {
            return span_of(query.base + name_len + 1, len - name_len - 1);
        }
        query = span_skip(query, and != NULL ? len + 1 : len);
    }
    return SPAN_EMPTY;
}

static struct span bearer(struct span value) {
    value = span_trim(value);
    if (value.len > 7 && strncasecmp(value.base, "bearer ", 7) == 0) {
        return span_trim(span_skip(value, 7));
    }
    return SPAN_EMPTY;
}

static struct verdict conflict(void) {
    return verdict_with(ERROR_invalid_value, "authorization",
                        "Several different API keys were sent. Send one key in one header.");
}

static bool several_credentials(const struct front *front) {
    return front->driver->header_differs(front, "authorization") || front->driver->header_differs(front, "x-api-key") ||
           front->driver->header_differs(front, "api-key");
}

/* All places a key may stand in; two different ones on one request are an error. */
static struct verdict pick_credential(const struct auth_sources *sources, struct span *key) {
    const struct span found[] = {bearer(sources->authorization), span_trim(sources->x_api_key),
                                 span_trim(sources->api_key), sources->query_key, sources->protocol_key};
    *key = SPAN_EMPTY;
    for (size_t i = 0; i < sizeof(found) / sizeof(found[0]); i++) {
        if (found[i].len == 0) {
            continue;
        }
        if (key->len != 0 && !span_equals(*key, found[i])) {
            return conflict();
        }
        *key = found[i];
    }
    if (key->len != 0) {
        return verdict_of(ERROR_NONE);
    }
    return verdict_of(sources->authorization.len != 0 ? ERROR_invalid_api_key : ERROR_missing_api_key);
}

static struct auth_sources sources_of(const struct request *request) {
    const struct front *front = request->front;
    bool is_open = endpoint_takes_query_key(request->endpoint);
    return (struct auth_sources){
        .authorization = front->driver->header(front, "authorization"),
        .x_api_key = front->driver->header(front, "x-api-key"),
        .api_key = front->driver->header(front, "api-key"),
        .query_key = is_open ? query_parameter(request->input.query, "api_key") : SPAN_EMPTY,
        .protocol_key = is_open ? ws_handshake_key(front->driver->header(front, "sec-websocket-protocol")) : SPAN_EMPTY,
    };
}

static int find_key(const struct worker *worker, struct span key, int64_t now_wall_ns) {
    unsigned char hash[SHA256_BYTES];
    if (!key_format_valid(key)) {
        return -1;
    }
    hash_sha256(key, hash);
    int index = shm_key_find(worker->map, hash, now_wall_ns);
    explicit_bzero(hash, sizeof(hash));
    return index;
}

struct verdict auth_peek(const struct worker *worker, const struct auth_sources *sources) {
    struct span key = SPAN_EMPTY;
    struct verdict verdict = pick_credential(sources, &key);
    if (verdict.kind == ERROR_NONE && find_key(worker, key, clock_wall_ns()) < 0) {
        verdict = verdict_of(ERROR_invalid_api_key);
    }
    return verdict;
}

static bool address_allowed(const struct request *request) {
    struct shm_allow_sh allow;
    if (request->key.allow_row == SHM_NO_ROW || !shm_allow_read(request->worker->map, request->key.allow_row, &allow)) {
        return request->key.allow_row == SHM_NO_ROW;
    }
    for (uint32_t i = 0; i < allow.network_count; i++) {
        const char *network = shm_allow_item(&allow, allow.model_count + i);
        if (network != NULL && auth_network_holds(network, request->client)) {
            return true;
        }
    }
    return allow.network_count == 0;
}

struct verdict auth_check(struct request *request) {
    struct span key = SPAN_EMPTY;
    const struct auth_sources sources = sources_of(request);
    struct verdict verdict = several_credentials(request->front) ? conflict() : pick_credential(&sources, &key);
    if (verdict.kind != ERROR_NONE) {
        return verdict;
    }
    int index = find_key(request->worker, key, request->start_wall_ns);
    if (index < 0 || !shm_key_read(request->worker->map, (uint32_t)index, &request->key) ||
        request->key.state == SHM_KEY_REVOKED ||
        !shm_tenant_read(request->worker->map, request->key.tenant_index, &request->tenant)) {
        return verdict_of(ERROR_invalid_api_key);
    }
    request->key_index = (uint32_t)index;
    if (request->start_wall_ns >= request->key.expires_wall_ns) {
        return verdict_of(ERROR_expired_api_key);
    }
    request->has_key = true;
    if (request->key.state == SHM_KEY_DISABLED || request->tenant.state == SHM_KEY_DISABLED) {
        return verdict_of(ERROR_key_disabled);
    }
    if (!address_allowed(request)) {
        return verdict_of(ERROR_ip_not_allowed);
    }
    if ((request->key.flags & SHM_KEY_REQUIRES_SIGNATURE) != 0 && !request->input.is_message) {
        return verdict_of(ERROR_invalid_signature);
    }
    return verdict_of(ERROR_NONE);
}

/* An item of an allow-list may be a model or an alias of one. */
static bool allow_holds(const struct request *request, uint32_t row, int model) {
    const struct conf *conf = request->worker->conf;
    struct shm_allow_sh allow;
    if (row == SHM_NO_ROW) {
        return true;
    }
    if (!shm_allow_read(request->worker->map, row, &allow)) {
        return false;
    }
    for (uint32_t i = 0; i < allow.model_count; i++) {
        const char *item = shm_allow_item(&allow, i);
        int index = item != NULL ? conf_model_index(conf, span_text(item)) : -1;
        if (index >= 0 && (index == model || conf_model_resolve(conf, index) == model)) {
            return true;
        }
    }
    return allow.model_count == 0;
}

bool auth_allows_model(const struct request *request, int model) {
    return allow_holds(request, request->key.allow_row, model) &&
           allow_holds(request, request->tenant.allow_row, model);
}

/* The address as 16 bytes, IPv4 as ::ffff:a.b.c.d. */
static bool parse_address(const char *text, unsigned char out[static 16]) {
    struct in_addr v4;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        memset(out, 0, 10);
        out[10] = out[11] = 0xff;
        memcpy(out + 12, &v4, 4);
        return true;
    }
    return inet_pton(AF_INET6, text, out) == 1;
}

bool auth_network_holds(const char *network, const char *address) {
    char base[64];
    const char *slash = strchr(network, '/');
    size_t len = slash != NULL ? (size_t)(slash - network) : strlen(network);
    unsigned char net[16];
    unsigned char ip[16];
    if (!span_copy(span_of(network, len), base, sizeof(base)) || !parse_address(base, net) ||
        !parse_address(address, ip)) {
        return false;
    }
    bool is_v4 = strchr(base, ':') == NULL;
    long bits = slash != NULL ? strtol(slash + 1, NULL, 10) + (is_v4 ? 96 : 0) : 128;
    if (bits < 0 || bits > 128) {
        return false;
    }
    size_t whole = (size_t)bits / 8;
    int rest = (int)(bits % 8);
    return memcmp(net, ip, whole) == 0 && (rest == 0 || (net[whole] ^ ip[whole]) >> (8 - rest) == 0);
}
