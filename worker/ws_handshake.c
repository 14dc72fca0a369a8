#include "worker/ws_handshake.h"

#include "base/clock.h"
#include "worker/budget.h"
#include "worker/limits.h"
#include "worker/query.h"
#include "worker/reply.h"
#include "worker/worker_state.h"
#include "worker/ws_message.h"

enum { HANDSHAKE_KEY_BYTES = 24 };

/* --- subprotocols --- */

/* Takes the next of the comma-separated protocols off *rest; false when there is none. */
static bool next_protocol(struct span *rest, struct span *protocol) {
    if (rest->len == 0) {
        return false;
    }
    const char *comma = memchr(rest->base, ',', rest->len);
    size_t len = comma != NULL ? (size_t)(comma - rest->base) : rest->len;
    *protocol = span_trim(span_of(rest->base, len));
    *rest = span_skip(*rest, comma != NULL ? len + 1 : len);
    return true;
}

static struct span key_in(struct span protocol) {
    static const char *const prefixes[] = {"tollgate.", "openai-insecure-api-key."};
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        if (span_starts_with(protocol, prefixes[i])) {
            return span_skip(protocol, strlen(prefixes[i]));
        }
    }
    return SPAN_EMPTY;
}

struct span ws_handshake_key(struct span protocols) {
    struct span protocol;
    while (next_protocol(&protocols, &protocol)) {
        struct span key = key_in(protocol);
        if (key.len != 0) {
            return key;
        }
    }
    return SPAN_EMPTY;
}

struct span ws_handshake_protocol(struct span protocols) {
    bool has_key = ws_handshake_key(protocols).len != 0;
    struct span first = SPAN_EMPTY;
    struct span protocol;
    while (next_protocol(&protocols, &protocol)) {
        if (span_is(protocol, "tollgate")) {
            return protocol;
        }
        if (first.len == 0 && key_in(protocol).len == 0) {
            first = protocol;
        }
    }
    /* A browser that offered protocols insists on one. */
    return has_key ? first : SPAN_EMPTY;
}

/* --- the checks --- */

static struct span header_of(const struct request *request, const char *name) {
    return request->front->driver->header(request->front, name);
}

/* Pages of other sites run in the browsers of people who hold keys. Programs send no Origin. */
static struct verdict check_origin(const struct request *request) {
    const struct conf *conf = request->worker->conf;
    struct span origin = header_of(request, "origin");
    if (origin.len == 0) {
        return verdict_of(ERROR_NONE);
    }
    for (int i = 0; i < conf->cors_origin_count; i++) {
        if (strcmp(conf->cors_origins[i], "*") == 0 || span_is(origin, conf->cors_origins[i])) {
            return verdict_of(ERROR_NONE);
        }
    }
    return verdict_of(ERROR_origin_not_allowed);
}

/* 16 bytes in base64. */
static bool is_handshake_key(struct span key) {
    if (key.len != HANDSHAKE_KEY_BYTES || memcmp(key.base + HANDSHAKE_KEY_BYTES - 2, "==", 2) != 0) {
        return false;
    }
    for (size_t i = 0; i < HANDSHAKE_KEY_BYTES - 2; i++) {
        char c = key.base[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/')) {
            return false;
        }
    }
    return true;
}

static struct verdict check_handshake(const struct request *request) {
    const struct front_driver *driver = request->front->driver;
    if (driver->asks_websocket == NULL || !driver->asks_websocket(request->front)) {
        return verdict_with(ERROR_upgrade_required, NULL,
                            "This is a WebSocket. Open it over HTTP/1.1 with GET, \"Connection: Upgrade\" and "
                            "\"Upgrade: websocket\".");
    }
    if (!span_is(header_of(request, "sec-websocket-version"), "13")) {
        return verdict_of(ERROR_upgrade_required);
    }
    if (!is_handshake_key(header_of(request, "sec-websocket-key"))) {
        return verdict_with(ERROR_invalid_value, "sec-websocket-key",
                            "The handshake's Sec-WebSocket-Key must be 16 bytes in base64.");
    }
    return verdict_of(ERROR_NONE);
}

static struct verdict check_server(const struct worker *worker) {
    bool takes_work = !worker->draining && !worker->refusing && atomic_load(&worker->map->header->draining) == 0;
    return takes_work ? verdict_of(ERROR_NONE)
                      : verdict_with(ERROR_overloaded, NULL, "This server takes no new connections. Connect again.");
}

bool ws_handshake_asks_resume(const struct request *request) {
    struct span value;
    return span_is(span_trim(header_of(request, "x-tollgate-resume")), "1") ||
           (query_find(request->input.query, "resume", &value) && span_is(value, "1"));
}

/* A key with nothing left opens no socket, but for coming back to what it has paid for. */
static struct verdict check_means(struct request *request) {
    if (ws_handshake_asks_resume(request)) {
        return verdict_of(ERROR_NONE);
    }
    struct verdict verdict = limits_peek(request);
    return verdict.kind == ERROR_NONE ? budget_peek(request) : verdict;
}

static struct verdict upgrade(struct request *request, enum ws_form form) {
    struct verdict verdict = check_origin(request);
    if (verdict.kind == ERROR_NONE) {
        verdict = check_handshake(request);
    }
    if (verdict.kind == ERROR_NONE) {
        verdict = check_server(request->worker);
    }
    if (verdict.kind == ERROR_NONE) {
        verdict = check_means(request);
    }
    if (verdict.kind != ERROR_NONE) {
        return verdict;
    }
    struct reply reply;
    struct span protocol = ws_handshake_protocol(header_of(request, "sec-websocket-protocol"));
    reply_begin(request, &reply, 101);
    if (protocol.len != 0) {
        reply_add(&reply, "sec-websocket-protocol", arena_copy_text(&request->arena, protocol));
    }
    return verdict_of(request->front->driver->upgrade(request->front, &reply, form) ? ERROR_NONE : ERROR_overloaded);
}

struct verdict ws_handshake_chat(struct request *request) {
    struct span dialect = SPAN_EMPTY;
    if (!query_find(request->input.query, "dialect", &dialect) || span_is(dialect, "content")) {
        return upgrade(request, WS_FORM_CONTENT);
    }
    if (span_is(dialect, "stream")) {
        return upgrade(request, WS_FORM_STREAM);
    }
    return verdict_with(ERROR_invalid_value, "dialect", "'dialect' must be content or stream.");
}

struct verdict ws_handshake_stream(struct request *request) {
    return upgrade(request, WS_FORM_CHUNKS);
}
