/* A small libh2o server behind the worker's guard, for attacks on the guard alone: guard_server PORT [NAME=VALUE ...].
 * With tls_cert= and tls_key= it speaks TLS on the port; with unguarded=1 the guard is left out. SIGUSR1 drains as the
 * worker does; SIGTERM ends it. Paths: / answers at once; /refused with a 401 of 40 bytes; /later?N after N ms;
 * /stream?N with N events, one each ms; /big?N with N bytes, 16 KiB a time; /length with the body's length; /silent
 * never; /ws echoes; /stats tells numbers. */
#include "worker/front_guard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wslay/wslay.h>

#include <h2o/websocket.h>
#include <openssl/ssl.h>

#include "base/check.h"
#include "base/clock.h"
#include "worker/loop.h"

enum { PIECE_BYTES = 16384 };

static struct loop *the_loop;
static h2o_globalconf_t conf;
static h2o_context_t ctx;
static h2o_accept_ctx_t accept_ctx;
static struct guard_context *guards;
static volatile sig_atomic_t drain_asked;
static volatile sig_atomic_t stop_asked;
static int64_t requests_seen;
static bool unguarded; /* to see that an attack works without the guard */
static int64_t stopped_early;
static char piece[PIECE_BYTES];

/* An answer that is given over time. */
struct answer {
    h2o_generator_t generator;
    h2o_req_t *req;
    struct loop_timer timer;
    int64_t left;
    bool started;
    bool sending;
    bool done;
    bool events; /* one each ms, else as fast as it goes */
};

static void send_text(h2o_req_t *req, int status, const char *text) {
    static h2o_generator_t generator = {NULL, NULL};
    h2o_iovec_t body = h2o_strdup(&req->pool, text, SIZE_MAX);
    req->res.status = status;
    req->res.reason = status == 200 ? "OK" : "Refused";
    req->res.content_length = body.len;
    h2o_start_response(req, &generator);
    h2o_send(req, &body, 1, H2O_SEND_STATE_FINAL);
}

static void send_piece(struct answer *answer) {
    bool events = answer->events;
    int64_t most = events ? 1 : PIECE_BYTES;
    int64_t count = answer->left < most ? answer->left : most;
    h2o_iovec_t body = {events ? (char *)(uintptr_t) "data: x\n\n" : piece, events ? 9 : (size_t)count};
    answer->left -= count;
    bool last = answer->left == 0;
    if (!answer->started) {
        answer->started = true;
        answer->req->res.status = 200;
        answer->req->res.reason = "OK";
        h2o_start_response(answer->req, &answer->generator);
    }
    answer->done = last;
    answer->sending = true;
    h2o_send(answer->req, &body, 1, last ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

/* loop_timer.on_fire */
static void on_due(struct loop_timer *timer) {
    struct answer *answer = H2O_STRUCT_FROM_MEMBER(struct answer, timer, timer);
    if (!answer->sending) {
        send_piece(answer);
    }
}

/* h2o_generator_t.proceed */
static void on_proceed(h2o_generator_t *generator, h2o_req_t *req) {
    (void)req;
    struct answer *answer = H2O_STRUCT_FROM_MEMBER(struct answer, generator, generator);
    answer->sending = false;
    if (answer->done) {
        return;
    }
    if (answer->events) {
        loop_timer_set(the_loop, &answer->timer, clock_mono_ns() + NS_PER_MS);
    } else {
        send_piece(answer);
    }
}

static void on_dispose(void *data) {
    struct answer *answer = data;
    stopped_early += answer->done ? 0 : 1;
    loop_timer_clear(the_loop, &answer->timer);
}

static void begin_answer(h2o_req_t *req, int64_t count, bool events, int64_t delay_ms) {
    struct answer *answer = h2o_mem_alloc_shared(&req->pool, sizeof(*answer), on_dispose);
    memset(answer, 0, sizeof(*answer));
    answer->generator.proceed = on_proceed;
    answer->req = req;
    answer->left = count;
    answer->events = events;
    answer->timer.on_fire = on_due;
    if (delay_ms >= 0) {
        loop_timer_set(the_loop, &answer->timer, clock_mono_ns() + delay_ms * NS_PER_MS);
    }
}

static void send_stats(h2o_req_t *req) {
    char text[512];
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file != NULL) {
        if (fscanf(file, "%*d %ld", &pages) != 1) {
            pages = 0;
        }
        fclose(file);
    }
    snprintf(
        text, sizeof(text),
        "{\"requests\":%ld,\"early\":%ld,\"rss\":%ld,\"connections\":%ld,\"address\":%ld,\"request\":%ld,\"flood\":%ld,"
        "\"protocol\":%ld,\"timeout\":%ld,\"stall\":%ld,\"lifetime\":%ld,\"asked\":%ld}",
        (long)requests_seen, (long)stopped_early, pages * sysconf(_SC_PAGESIZE),
        (long)guard_context_connections(guards), (long)guard_context_cuts(guards, GUARD_CUT_ADDRESS),
        (long)guard_context_cuts(guards, GUARD_CUT_REQUEST), (long)guard_context_cuts(guards, GUARD_CUT_FLOOD),
        (long)guard_context_cuts(guards, GUARD_CUT_PROTOCOL), (long)guard_context_cuts(guards, GUARD_CUT_TIMEOUT),
        (long)guard_context_cuts(guards, GUARD_CUT_STALL), (long)guard_context_cuts(guards, GUARD_CUT_LIFETIME),
        (long)guard_context_cuts(guards, GUARD_CUT_ASKED));
    send_text(req, 200, text);
}

/* h2o_websocket_msg_callback */
static void on_message(h2o_websocket_conn_t *conn, const struct wslay_event_on_msg_recv_arg *arg) {
    if (arg == NULL) {
        h2o_websocket_close(conn);
        return;
    }
    if (!wslay_is_ctrl_frame(arg->opcode)) {
        struct wslay_event_msg message = {arg->opcode, arg->msg, arg->msg_length};
        wslay_event_queue_msg(conn->ws_ctx, &message);
    }
}

static void serve_websocket(h2o_req_t *req) {
    const char *key;
    if (h2o_is_websocket_handshake(req, &key) != 0 || key == NULL) {
        send_text(req, 400, "no handshake");
        return;
    }
    h2o_upgrade_to_websocket(req, key, NULL, on_message);
}

static bool path_is(const h2o_req_t *req, const char *path) {
    size_t len = req->query_at == SIZE_MAX ? req->path.len : req->query_at;
    return len == strlen(path) && memcmp(req->path.base, path, len) == 0;
}

static int64_t query_number(const h2o_req_t *req) {
    char digits[24] = "0";
    if (req->query_at != SIZE_MAX) {
        (void)span_copy(span_of(req->path.base + req->query_at + 1, req->path.len - req->query_at - 1), digits,
                        sizeof(digits));
    }
    return strtoll(digits, NULL, 10);
}

/* h2o_handler_t.on_req */
static int on_request(h2o_handler_t *handler, h2o_req_t *req) {
    (void)handler;
    requests_seen++;
    struct guard *guard = guard_of(req->conn->callbacks->get_socket(req->conn));
    CHECK(unguarded || guard != NULL);
    if (guard != NULL && guard_is_expiring(guard)) {
        req->http1_is_persistent = 0;
    }
    if (path_is(req, "/refused")) {
        send_text(req, 401, "0123456789012345678901234567890123456789");
    } else if (path_is(req, "/later")) {
        begin_answer(req, 1, true, query_number(req));
    } else if (path_is(req, "/stream")) {
        begin_answer(req, query_number(req), true, 1);
    } else if (path_is(req, "/big")) {
        begin_answer(req, query_number(req), false, 0);
    } else if (path_is(req, "/silent")) {
        begin_answer(req, 1, true, -1);
    } else if (path_is(req, "/ws")) {
        serve_websocket(req);
    } else if (path_is(req, "/stats")) {
        send_stats(req);
    } else {
        char text[64];
        snprintf(text, sizeof(text), "%.*s %zu", (int)req->method.len, req->method.base, req->entity.len);
        send_text(req, 200, text);
    }
    return 0;
}

static void on_signal(int number) {
    if (number == SIGUSR1) {
        drain_asked = 1;
    } else {
        stop_asked = 1;
    }
}

/* h2o_socket_cb of the listener */
static void on_accept(h2o_socket_t *listener, const char *err) {
    if (err != NULL) {
        return;
    }
    h2o_socket_t *sock = h2o_evloop_socket_accept(listener);
    if (sock != NULL && unguarded) {
        h2o_accept(&accept_ctx, sock);
    } else if (sock != NULL) {
        (void)guard_accept(guards, &accept_ctx, sock);
    }
}

static void listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 1024) != 0) {
        fprintf(stderr, "guard_server: port %d: %s\n", port, strerror(errno));
        exit(2);
    }
    h2o_socket_t *listener = h2o_evloop_socket_create(loop_h2o(the_loop), fd, H2O_SOCKET_FLAG_DONT_READ);
    h2o_socket_read_start(listener, on_accept);
}

static void set_limit(struct guard_limits *limits, const char *name, int64_t value) {
    const struct {
        const char *name;
        int64_t *place;
    } numbers[] = {{"header_timeout_ms", &limits->header_timeout_ms},
                   {"body_timeout_ms", &limits->body_timeout_ms},
                   {"body_rate_bytes", &limits->body_rate_bytes},
                   {"idle_timeout_ms", &limits->idle_timeout_ms},
                   {"write_timeout_ms", &limits->write_timeout_ms},
                   {"connection_lifetime_ms", &limits->connection_lifetime_ms},
                   {"connections_per_address", &limits->connections_per_address},
                   {"unproven_body_bytes", &limits->unproven_body_bytes}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(numbers[i].name, name) == 0) {
            *numbers[i].place = value;
            return;
        }
    }
    fprintf(stderr, "guard_server: no limit %s\n", name);
    exit(2);
}

static void load_tls(const char *certificate, const char *key) {
    SSL_CTX *ssl = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(ssl, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "guard_server: cannot load the certificate or its key\n");
        exit(2);
    }
    h2o_ssl_register_alpn_protocols(ssl, h2o_alpn_protocols);
    accept_ctx.ssl_ctx = ssl;
}

static void read_options(struct guard_limits *limits, int count, char **options) {
    const char *certificate = NULL;
    for (int i = 0; i < count; i++) {
        char *value = strchr(options[i], '=');
        CHECK(value != NULL);
        *value++ = '\0';
        if (strcmp(options[i], "tls_cert") == 0) {
            certificate = value;
        } else if (strcmp(options[i], "tls_key") == 0) {
            load_tls(certificate, value);
        } else if (strcmp(options[i], "unguarded") == 0) {
            unguarded = true;
        } else {
            set_limit(limits, options[i], strtoll(value, NULL, 10));
        }
    }
}

/* guard_hooks.may_gather: a key is shown by any Authorization header. */
static const struct guard_refusal *may_gather(void *data, h2o_req_t *req) {
    static const struct guard_refusal refusal = {401, "authentication_error", "missing_api_key",
                                                 "No API key was sent."};
    (void)data;
    return h2o_find_header(&req->headers, H2O_TOKEN_AUTHORIZATION, -1) != -1 ? NULL : &refusal;
}

static void make_request_id(void *data, char *out, size_t size) {
    (void)data;
    (void)span_copy(SPAN_LITERAL("req_guard"), out, size);
}

static void set_up(struct guard_limits *limits) {
    h2o_config_init(&conf);
    conf.server_name = (h2o_iovec_t){NULL, 0};
    conf.max_request_entity_size = 20 * 1024 * 1024;
    guard_configure(&conf, limits);
    h2o_hostconf_t *host = h2o_config_register_host(&conf, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    h2o_handler_t *handler = h2o_create_handler(path, sizeof(*handler));
    handler->on_req = on_request;
    guard_watch_path(path);
    the_loop = loop_new();
    h2o_context_init(&ctx, loop_h2o(the_loop), &conf);
    accept_ctx.ctx = &ctx;
    accept_ctx.hosts = conf.hosts;
    struct guard_hooks hooks = {.may_gather = may_gather, .make_request_id = make_request_id};
    guards = guard_context_new(the_loop, &ctx, limits, &hooks);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: guard_server PORT [NAME=VALUE ...]\n");
        return 2;
    }
    struct guard_limits limits = guard_limits_default();
    read_options(&limits, argc - 2, argv + 2);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, on_signal);
    signal(SIGTERM, on_signal);
    set_up(&limits);
    listen_on((int)strtol(argv[1], NULL, 10));
    printf("ready\n");
    fflush(stdout);
    while (!stop_asked) {
        loop_run(the_loop, 100);
        if (drain_asked) {
            drain_asked = 0;
            guard_context_drain(guards);
            h2o_context_request_shutdown(&ctx);
        }
    }
    _exit(0);
}
