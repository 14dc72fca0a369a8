#include "worker/auth.h"

#include "base/clock.h"
#include "base/key_format.h"
#include "shm/shm_bucket.h"
#include "shm/shm_failures.h"
#include "shm/shm_replays.h"
#include "worker/client_address.h"
#include "worker/endpoints.h"
#include "worker/query.h"
#include "worker/signature.h"
#include "worker/worker_state.h"
#include "worker/ws_handshake.h"

/* A used signature is remembered for this long after it has ceased to be good: the clock may be set back a little. */
enum { REPLAY_MARGIN_S = 30 };

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
    struct span query_key = SPAN_EMPTY;
    (void)query_find(is_open ? request->input.query : SPAN_EMPTY, "api_key", &query_key);
    return (struct auth_sources){
        .authorization = front->driver->header(front, "authorization"),
        .x_api_key = front->driver->header(front, "x-api-key"),
        .api_key = front->driver->header(front, "api-key"),
        .query_key = query_key,
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

/* Counts a wrong key: 401, or 429 when its address has sent too many. A good key never comes here. */
static struct verdict refuse_wrong_key(struct worker *worker, const char *client) {
    int64_t per_minute = worker->conf->request_limits.failed_auth_per_minute;
    int64_t now_mono_ns = clock_mono_ns();
    struct client_address address;
    if (per_minute <= 0 || !client_address_parse(span_text(client), &address)) {
        return verdict_of(ERROR_invalid_api_key);
    }
    _Atomic uint64_t *bucket = shm_failure_bucket(worker->map, address.bytes, now_mono_ns);
    if (shm_bucket_take(bucket, per_minute, 1, now_mono_ns)) {
        return verdict_of(ERROR_invalid_api_key);
    }
    worker_count(worker, SHM_COUNTER_limited_authentication, 1);
    int64_t wait_ms = (shm_bucket_wait_ns(bucket, per_minute, 1, now_mono_ns) + NS_PER_MS - 1) / NS_PER_MS;
    wait_ms = wait_ms > 0 ? wait_ms : 1;
    struct verdict verdict =
        verdict_with(ERROR_rate_limit_exceeded, NULL,
                     "Too many wrong API keys came from your address: %lld a minute are looked at. The next one is in "
                     "%lld.%03llds; a valid key is served at once.",
                     (long long)per_minute, (long long)(wait_ms / 1000), (long long)(wait_ms % 1000));
    verdict.retry_after_ms = wait_ms;
    return verdict;
}

struct verdict auth_peek(struct worker *worker, const struct auth_sources *sources, const char *client) {
    struct span key = SPAN_EMPTY;
    struct verdict verdict = pick_credential(sources, &key);
    bool is_wrong = verdict.kind == ERROR_NONE && find_key(worker, key, clock_wall_ns()) < 0;
    return is_wrong || verdict.kind == ERROR_invalid_api_key ? refuse_wrong_key(worker, client) : verdict;
}

static bool address_allowed(const struct request *request) {
    struct shm_allow_sh allow;
    if (request->key.allow_row == SHM_NO_ROW || !shm_allow_read(request->worker->map, request->key.allow_row, &allow)) {
        return request->key.allow_row == SHM_NO_ROW;
    }
    struct client_address client;
    bool is_known = client_address_parse(span_text(request->client), &client);
    for (uint32_t i = 0; is_known && i < allow.network_count; i++) {
        const char *item = shm_allow_item(&allow, allow.model_count + i);
        struct client_network network;
        if (item != NULL && client_network_parse(span_text(item), &network) &&
            client_network_holds(&network, &client)) {
            return true;
        }
    }
    return allow.network_count == 0;
}

static const char *signature_problem(enum signature_result result) {
    switch (result) {
    case SIGNATURE_ABSENT:
        return "This API key takes signed requests only: send X-Timestamp and X-Signature.";
    case SIGNATURE_OLD:
        return "This API key takes signatures that begin with \"v2=\" only.";
    case SIGNATURE_INCOMPLETE:
        return "A signed request needs both X-Timestamp and X-Signature, once each.";
    case SIGNATURE_MALFORMED:
        return "X-Timestamp must be in Unix seconds, and X-Signature \"v2=\" and 64 hexadecimal digits.";
    case SIGNATURE_STALE:
        return "X-Timestamp is more than 300 seconds from this server's time. Sign the request again.";
    default:
        return "X-Signature does not fit this request. It covers the time, the method, the path with its query, and "
               "the body.";
    }
}

/* A good signature is used up by being checked, whatever becomes of its request. */
static struct verdict use_signature(struct request *request, const struct signature_proof *proof, int64_t now_wall_s) {
    int64_t until_wall_s = proof->timestamp_s + SIGNATURE_WINDOW_S + REPLAY_MARGIN_S;
    switch (shm_replay_claim(request->worker->map, proof->mac, until_wall_s, now_wall_s)) {
    case SHM_REPLAY_FIRST:
        return verdict_of(ERROR_NONE);
    case SHM_REPLAY_AGAIN:
        return verdict_with(ERROR_invalid_signature, NULL, "X-Signature was used before. Sign each request anew.");
    default:
        return verdict_with(ERROR_overloaded, NULL, "Too many signed requests in the last minutes. Try again.");
    }
}

static struct verdict check_signature(struct request *request, struct span key) {
    const struct front *front = request->front;
    const struct signature_claim claim = {.timestamp = front->driver->header(front, "x-timestamp"),
                                          .signature = front->driver->header(front, "x-signature"),
                                          .method = request->input.method,
                                          .target = request->input.target,
                                          .body = request->input.body};
    bool must_sign = (request->key.flags & SHM_KEY_REQUIRES_SIGNATURE) != 0;
    struct signature_proof proof;
    int64_t now_wall_s = clock_wall_ns() / NS_PER_S;
    enum signature_result result =
        front->driver->header_differs(front, "x-timestamp") || front->driver->header_differs(front, "x-signature")
            ? SIGNATURE_INCOMPLETE
            : signature_check(&claim, key, now_wall_s, &proof);
    if (result == SIGNATURE_V2) {
        return use_signature(request, &proof, now_wall_s);
    }
    if (!must_sign && (result == SIGNATURE_ABSENT || result == SIGNATURE_OLD)) {
        return verdict_of(ERROR_NONE);
    }
    return verdict_with(ERROR_invalid_signature, NULL, "%s", signature_problem(result));
}

/* May a key that exists be used now, from where the request comes? */
static struct verdict check_rows(struct request *request, int64_t now_wall_ns) {
    if (now_wall_ns >= request->key.expires_wall_ns) {
        return verdict_of(ERROR_expired_api_key);
    }
    request->has_key = true;
    if (request->key.state == SHM_KEY_DISABLED || request->tenant.state == SHM_KEY_DISABLED) {
        return verdict_of(ERROR_key_disabled);
    }
    return address_allowed(request) ? verdict_of(ERROR_NONE) : verdict_of(ERROR_ip_not_allowed);
}

struct verdict auth_check(struct request *request) {
    struct span key = SPAN_EMPTY;
    const struct auth_sources sources = sources_of(request);
    struct verdict verdict = several_credentials(request->front) ? conflict() : pick_credential(&sources, &key);
    if (verdict.kind == ERROR_invalid_api_key) {
        return refuse_wrong_key(request->worker, request->client);
    }
    if (verdict.kind != ERROR_NONE) {
        return verdict;
    }
    int index = find_key(request->worker, key, request->start_wall_ns);
    if (index < 0 || !shm_key_read(request->worker->map, (uint32_t)index, &request->key) ||
        request->key.state == SHM_KEY_REVOKED ||
        !shm_tenant_read(request->worker->map, request->key.tenant_index, &request->tenant)) {
        return refuse_wrong_key(request->worker, request->client);
    }
    request->key_index = (uint32_t)index;
    verdict = check_rows(request, request->start_wall_ns);
    if (verdict.kind != ERROR_NONE) {
        return verdict;
    }
    return request->input.is_message ? verdict : check_signature(request, key);
}

struct verdict auth_check_again(struct request *request) {
    struct shm_key_sh key;
    struct shm_tenant_sh tenant;
    if (!shm_key_read(request->worker->map, request->key_index, &key) || key.state == SHM_KEY_REVOKED ||
        !shm_tenant_read(request->worker->map, key.tenant_index, &tenant)) {
        return verdict_of(ERROR_invalid_api_key);
    }
    request->key = key;
    request->tenant = tenant;
    return check_rows(request, clock_wall_ns());
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
