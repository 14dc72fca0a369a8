#include <h2o.h>

#include "worker/front_listen.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "shm/shm_connections.h"
#include "worker/auth.h"
#include "worker/front_guard.h"
#include "worker/front_http.h"
#include "worker/front_websocket.h"
#include "worker/reply.h"
#include "worker/worker_state.h"

enum { ACCEPTS_A_TURN = 16, UNPROVEN_BODY_BYTES = 64 << 10 };

struct listener {
    struct front_side *front;
    h2o_socket_t *socket; /* NULL once draining */
    h2o_accept_ctx_t accept;
};

struct front_side {
    struct worker *worker;
    h2o_globalconf_t global;
    h2o_context_t context;
    struct guard_context *guard;
    struct verdict refusal_verdict; /* of the latest body that was refused */
    struct guard_refusal refusal;
    struct listener listeners[HERITAGE_LISTENERS_MOST];
    int listener_count;
};

/* --- TLS --- */

static const char *tls_problem(void) {
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason != NULL ? reason : "unknown error";
}

/* Sessions must resume on every worker of this listener and on no other listener: the ticket keys are the master's, the
 * session context is the listener's own. No early data: a POST must not be replayable. */
static bool share_tickets(SSL_CTX *tls, const struct heritage *heritage, int listen_index) {
    unsigned char context[SHA256_BYTES];
    unsigned char keys[HERITAGE_TICKET_KEY_BYTES];
    const struct span pieces[] = {SPAN_LITERAL("tollgate listener"),
                                  {(const char *)&listen_index, sizeof(listen_index)}};
    hash_sha256_pieces(pieces, 2, context);
    memcpy(keys, heritage->ticket_key, sizeof(keys));
    bool good = SSL_CTX_set_session_id_context(tls, context, SSL_MAX_SID_CTX_LENGTH) == 1 &&
                SSL_CTX_set_tlsext_ticket_keys(tls, keys, sizeof(keys)) == 1;
    explicit_bzero(keys, sizeof(keys));
    return good && SSL_CTX_set_max_early_data(tls, 0) == 1;
}

static SSL_CTX *new_tls(const struct heritage *heritage, int listen_index, struct buffer *error) {
    const struct conf_listen *listen = &heritage->conf->listens[listen_index];
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    CHECK(tls != NULL);
    (void)SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    (void)SSL_CTX_set_options(tls, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_cipher_list(tls, "ECDHE+AESGCM:ECDHE+CHACHA20");
    if (SSL_CTX_use_certificate_chain_file(tls, listen->certificate) != 1) {
        buffer_format(error, "%s: cannot use the certificate: %s", listen->certificate, tls_problem());
    } else if (SSL_CTX_use_PrivateKey_file(tls, listen->key, SSL_FILETYPE_PEM) != 1 ||
               SSL_CTX_check_private_key(tls) != 1) {
        buffer_format(error, "%s: cannot use the private key: %s", listen->key, tls_problem());
    } else if (!share_tickets(tls, heritage, listen_index)) {
        buffer_format(error, "%s: cannot set up TLS sessions: %s", listen->certificate, tls_problem());
    } else {
        h2o_ssl_register_alpn_protocols(tls, h2o_alpn_protocols);
        return tls;
    }
    SSL_CTX_free(tls);
    return NULL;
}

/* --- libh2o and the guard --- */

static struct guard_limits guard_limits_of(const struct conf *conf) {
    struct guard_limits limits = guard_limits_default();
    limits.header_timeout_ms = conf->request_limits.header_timeout_ms;
    limits.body_timeout_ms = conf->request_limits.body_timeout_ms;
    limits.body_rate_bytes = conf->request_limits.body_rate_bytes;
    limits.idle_timeout_ms = conf->request_limits.idle_timeout_ms;
    limits.write_timeout_ms = conf->request_limits.write_timeout_ms;
    limits.connection_lifetime_ms = conf->request_limits.connection_lifetime_ms;
    limits.connections_per_address = conf->request_limits.connections_per_address;
    limits.unproven_body_bytes = UNPROVEN_BODY_BYTES;
    limits.body_bytes = conf->request_limits.body_bytes;
    limits.http2.bodies_bytes = (uint64_t)conf->request_limits.bodies_per_connection_bytes;
    return limits;
}

static struct span header_of(const h2o_req_t *req, const char *name) {
    ssize_t at = h2o_find_header_by_str(&req->headers, name, strlen(name), -1);
    return at < 0 ? SPAN_EMPTY : span_of(req->headers.entries[at].value.base, req->headers.entries[at].value.len);
}

/* guard_hooks.may_connect: the address's connections to all workers. */
static bool may_connect(void *data, const uint8_t address[static 16]) {
    const struct worker *worker = ((struct front_side *)data)->worker;
    return shm_connection_take(worker->map, worker->heritage->seat, address,
                               worker->conf->request_limits.connections_per_address);
}

/* guard_hooks.disconnected */
static void on_disconnected(void *data, const uint8_t address[static 16]) {
    const struct worker *worker = ((struct front_side *)data)->worker;
    shm_connection_return(worker->map, worker->heritage->seat, address);
}

/* A body without a valid key is not gathered far. A wrong key counts here: HTTP/1 goes no further, and an HTTP/2 stream
 * may be reset, which tells its client as much as an answer. When its handler runs after all it has counted twice. */
static const struct guard_refusal *may_gather(void *data, h2o_req_t *req) {
    struct front_side *front = data;
    const struct auth_sources sources = {.authorization = header_of(req, "authorization"),
                                         .x_api_key = header_of(req, "x-api-key"),
                                         .api_key = header_of(req, "api-key")};
    char client[CLIENT_ADDRESS_TEXT_BYTES];
    front_http_client(front->worker, req, client);
    front->refusal_verdict = auth_peek(front->worker, &sources, client);
    if (front->refusal_verdict.kind == ERROR_NONE) {
        return NULL;
    }
    front->refusal = (struct guard_refusal){.status = verdict_status(&front->refusal_verdict),
                                            .type = verdict_type(&front->refusal_verdict),
                                            .code = verdict_code(&front->refusal_verdict),
                                            .message = verdict_text(&front->refusal_verdict)};
    return &front->refusal;
}

static void make_request_id(void *data, char *out, size_t size) {
    (void)data;
    CHECK(size >= SHM_REQUEST_ID_BYTES);
    reply_make_id(out);
}

static void on_cut(void *data, enum guard_cut cut) {
    struct front_side *front = data;
    if (cut != GUARD_CUT_ASKED && cut != GUARD_CUT_LIFETIME) {
        worker_count(front->worker, SHM_COUNTER_connections_refused, 1);
    }
}

static void configure_h2o(struct front_side *front) {
    struct worker *worker = front->worker;
    const struct guard_limits limits = guard_limits_of(worker->conf);
    const struct guard_hooks hooks = {.data = front,
                                      .may_gather = may_gather,
                                      .may_connect = may_connect,
                                      .disconnected = on_disconnected,
                                      .make_request_id = make_request_id,
                                      .on_cut = on_cut};
    h2o_config_init(&front->global);
    front->global.server_name = h2o_iovec_init(H2O_STRLIT("tollgate"));
    /* The guard bounds bodies, so that the answer is ours. */
    front->global.max_request_entity_size = SIZE_MAX / 2;
    front->global.http2.latency_optimization.min_rtt = UINT_MAX;
    h2o_socket_buffer_mmap_settings.threshold = SIZE_MAX; /* bodies never go to a file (I9) */
    guard_configure(&front->global, &limits);
    h2o_hostconf_t *host = h2o_config_register_host(&front->global, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    front_http_register(path, worker);
    guard_watch_path(path);
    guard_watch_path(&host->fallback_path);
    h2o_context_init(&front->context, loop_h2o(worker->loop), &front->global);
    front->guard = guard_context_new(worker->loop, &front->context, &limits, &hooks);
}

/* --- accepting --- */

static void on_acceptable(h2o_socket_t *socket, const char *error) {
    struct listener *listener = socket->data;
    if (error != NULL) {
        return;
    }
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        h2o_socket_t *client = h2o_evloop_socket_accept(socket);
        if (client == NULL) {
            return;
        }
        worker_count(listener->front->worker, SHM_COUNTER_connections_accepted, 1);
        (void)guard_accept(listener->front->guard, &listener->accept, client);
    }
}

static bool add_listener(struct front_side *front, const struct heritage_listener *from, struct buffer *error) {
    struct listener *listener = &front->listeners[front->listener_count];
    listener->front = front;
    listener->accept = (h2o_accept_ctx_t){.ctx = &front->context, .hosts = front->global.hosts};
    if (front->worker->conf->listens[from->listen_index].tls) {
        listener->accept.ssl_ctx = new_tls(front->worker->heritage, from->listen_index, error);
        if (listener->accept.ssl_ctx == NULL) {
            return false;
        }
    }
    listener->socket = h2o_evloop_socket_create(loop_h2o(front->worker->loop), from->fd, H2O_SOCKET_FLAG_DONT_READ);
    listener->socket->data = listener;
    h2o_socket_read_start(listener->socket, on_acceptable);
    front->listener_count++;
    return true;
}

struct front_side *front_listen(struct worker *worker, struct buffer *error) {
    struct front_side *front = calloc(1, sizeof(*front));
    CHECK(front != NULL);
    front->worker = worker;
    configure_h2o(front);
    for (int i = 0; i < worker->heritage->listener_count; i++) {
        if (!add_listener(front, &worker->heritage->listeners[i], error)) {
            free(front);
            return NULL;
        }
    }
    return front;
}

void front_drain(struct front_side *front) {
    for (int i = 0; i < front->listener_count; i++) {
        if (front->listeners[i].socket != NULL) {
            h2o_socket_read_stop(front->listeners[i].socket);
            h2o_socket_close(front->listeners[i].socket);
            front->listeners[i].socket = NULL;
        }
    }
    guard_context_drain(front->guard);
    h2o_context_request_shutdown(&front->context);
    front_websocket_drain(front->worker);
}

int64_t front_connections(const struct front_side *front) { return guard_context_connections(front->guard); }

void front_close_idle(struct front_side *front, int64_t least_idle_ns, int64_t least_silent_ns) {
    guard_close_idle(front->guard, least_idle_ns, least_silent_ns);
}
