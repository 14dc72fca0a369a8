#include "worker/upstream_driver.h"
#include "worker/upstream_headers.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/upstream_address.h"

enum {
    URL_BYTES = 2048,
    HEADER_VALUE_BYTES = 8000,
    KEPT_CONNECTIONS = 2048,
    KEPT_CONNECTION_SECONDS = 55, /* below the usual 60 s of servers, so that we seldom write to a dying connection */
    POOLED_HANDLES = 256,
    HTTP2_CONNECTIONS_A_HOST = 8,
};

#define LINGER_NS (1000 * NS_PER_MS)

struct curl_call {
    struct upstream_call base; /* first */
    struct curl_side *side;
    struct loop_timer linger; /* after let_go: when to cut it */
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    struct span body;
    size_t body_sent;
    struct upstream_head head;
    bool head_told;
    bool paused;
    bool got_bytes;
    bool allow_private;
    char error[CURL_ERROR_SIZE];
};

/* A socket of curl's in our loop. Closed sockets wait on `dead` until no callback can still name them. */
struct socket_watch {
    struct loop_watch watch; /* first */
    struct curl_side *side;
    CURLM *multi;
    struct socket_watch *next_dead;
};

struct multi_timer {
    struct loop_timer timer; /* first */
    struct curl_side *side;
    CURLM *multi;
};

/* HTTP/2 upstreams have a multi of their own, because the cap of connections a host, which they need, holds for a whole
 * multi handle. */
struct curl_side {
    struct loop *loop;
    CURLM *http1;
    CURLM *http2;
    struct multi_timer http1_timer;
    struct multi_timer http2_timer;
    struct loop_task collect; /* reads finished transfers outside curl's callbacks */
    struct loop_task bury;
    struct socket_watch *dead;
    CURL *pool[POOLED_HANDLES];
    int pooled;
    void (*on_connection)(void *context);
    void *context;
};

#define SIDE_OF_TASK(task, member) ((struct curl_side *)(void *)((char *)(task)-offsetof(struct curl_side, member)))

/* --- curl's sockets and timers in our loop --- */

static void act(struct curl_side *side, CURLM *multi, curl_socket_t fd, int mask) {
    int running = 0;
    (void)curl_multi_socket_action(multi, fd, mask, &running);
    loop_defer(side->loop, &side->collect);
}

static void on_socket_event(struct loop_watch *watch, uint32_t events) {
    struct socket_watch *socket = (struct socket_watch *)(void *)watch;
    int mask = ((events & EPOLLIN) != 0 ? CURL_CSELECT_IN : 0) | ((events & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
               ((events & (EPOLLERR | EPOLLHUP)) != 0 ? CURL_CSELECT_ERR : 0);
    act(socket->side, socket->multi, watch->fd, mask);
}

static void bury_dead(struct loop_task *task) {
    struct curl_side *side = SIDE_OF_TASK(task, bury);
    while (side->dead != NULL) {
        struct socket_watch *socket = side->dead;
        side->dead = socket->next_dead;
        free(socket);
    }
}

/* CURLMOPT_SOCKETFUNCTION */
static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *multi_timer, void *socket_pointer) {
    (void)easy;
    struct multi_timer *owner = multi_timer;
    struct curl_side *side = owner->side;
    struct socket_watch *socket = socket_pointer;
    if (what == CURL_POLL_REMOVE) {
        if (socket != NULL) {
            loop_watch_clear(side->loop, &socket->watch);
            (void)curl_multi_assign(owner->multi, fd, NULL);
            socket->next_dead = side->dead;
            side->dead = socket;
            loop_defer(side->loop, &side->bury);
        }
        return 0;
    }
    if (socket == NULL) {
        socket = calloc(1, sizeof(*socket));
        CHECK(socket != NULL);
        socket->watch = (struct loop_watch){.on_event = on_socket_event, .fd = -1};
        socket->side = side;
        socket->multi = owner->multi;
        (void)curl_multi_assign(owner->multi, fd, socket);
    }
    uint32_t events =
        ((what & CURL_POLL_IN) != 0 ? (uint32_t)EPOLLIN : 0) | ((what & CURL_POLL_OUT) != 0 ? (uint32_t)EPOLLOUT : 0);
    (void)loop_watch_set(side->loop, &socket->watch, fd, events);
    return 0;
}

static void on_timer(struct loop_timer *timer) {
    struct multi_timer *owner = (struct multi_timer *)(void *)timer;
    act(owner->side, owner->multi, CURL_SOCKET_TIMEOUT, 0);
}

/* CURLMOPT_TIMERFUNCTION */
static int on_curl_timer(CURLM *multi, long timeout_ms, void *multi_timer) {
    (void)multi;
    struct multi_timer *owner = multi_timer;
    if (timeout_ms < 0) {
        loop_timer_clear(owner->side->loop, &owner->timer);
    } else {
        loop_timer_set(owner->side->loop, &owner->timer, clock_mono_ns() + (int64_t)timeout_ms * NS_PER_MS);
    }
    return 0;
}

/* --- what comes from the upstream --- */

static void tell_head(struct curl_call *call) {
    if (!call->head_told) {
        call->head_told = true;
        call->base.receiver->on_head(call->base.context, &call->head);
    }
}

/* CURLOPT_HEADERFUNCTION: one line a call; several heads when 1xx come first; trailers after the body. */
static size_t on_header(char *bytes, size_t size, size_t count, void *context) {
    struct curl_call *call = context;
    struct span line = span_of(bytes, size * count);
    while (line.len != 0 && (line.base[line.len - 1] == '\n' || line.base[line.len - 1] == '\r')) {
        line.len--;
    }
    call->got_bytes = true;
    if (call->head_told) {
        return size * count;
    }
    if (span_starts_with(line, "HTTP/")) {
        call->head = UPSTREAM_HEAD_EMPTY;
        return size * count;
    }
    if (line.len == 0) {
        long status = 0;
        (void)curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        call->head.status = (int)status;
        if (status >= 200) {
            tell_head(call);
        }
        return size * count;
    }
    upstream_headers_read(&call->head, line);
    if (call->head.encoded) {
        curl_easy_setopt(call->easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    }
    return size * count;
}

/* CURLOPT_WRITEFUNCTION */
static size_t on_body(char *bytes, size_t size, size_t count, void *context) {
    struct curl_call *call = context;
    if (call->base.receiver->on_bytes(call->base.context, span_of(bytes, size * count))) {
        return size * count;
    }
    call->paused = true;
    return CURL_WRITEFUNC_PAUSE;
}

/* CURLOPT_READFUNCTION. There is no seek function on purpose: when a kept connection dies before the answer began, curl
 * cannot send the body a second time on its own; whether to try again is the request machine's decision. */
static size_t on_read(char *to, size_t size, size_t count, void *context) {
    struct curl_call *call = context;
    size_t left = call->body.len - call->body_sent;
    size_t n = left < size * count ? left : size * count;
    if (n != 0) {
        memcpy(to, call->body.base + call->body_sent, n);
        call->body_sent += n;
    }
    return n;
}

/* CURLOPT_OPENSOCKETFUNCTION: the last look at where a name led (SSRF through configuration or DNS). */
static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address) {
    struct curl_call *call = context;
    if (purpose != CURLSOCKTYPE_IPCXN || (!call->allow_private && upstream_address_is_private(&address->addr))) {
        return CURL_SOCKET_BAD;
    }
    if (call->side->on_connection != NULL) {
        call->side->on_connection(call->side->context);
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* --- calls --- */

static CURL *borrow_easy(struct curl_side *side) {
    return side->pooled != 0 ? side->pool[--side->pooled] : curl_easy_init();
}

static void return_easy(struct curl_side *side, CURL *easy) {
    if (side->pooled < POOLED_HANDLES) {
        curl_easy_reset(easy);
        side->pool[side->pooled++] = easy;
    } else {
        curl_easy_cleanup(easy);
    }
}

static void free_call(struct curl_call *call) {
    loop_timer_clear(call->side->loop, &call->linger);
    (void)curl_multi_remove_handle(call->multi, call->easy);
    curl_slist_free_all(call->headers);
    return_easy(call->side, call->easy);
    free(call);
}

static void cancel_call(struct upstream_call *base) { free_call((struct curl_call *)(void *)base); }

static void resume_call(struct upstream_call *base) {
    struct curl_call *call = (struct curl_call *)(void *)base;
    if (call->paused) {
        call->paused = false;
        (void)curl_easy_pause(call->easy, CURLPAUSE_CONT);
        loop_defer(call->side->loop, &call->side->collect);
    }
}

static void on_linger_over(struct loop_timer *timer) {
    free_call((struct curl_call *)(void *)((char *)timer - offsetof(struct curl_call, linger)));
}

/* The request's body, which the call borrowed, is gone from now on; it was sent long before an answer ended. */
static void let_call_go(struct upstream_call *base) {
    struct curl_call *call = (struct curl_call *)(void *)base;
    call->body.len = call->body_sent;
    call->linger.on_fire = on_linger_over;
    loop_timer_set(call->side->loop, &call->linger, clock_mono_ns() + LINGER_NS);
}

static const struct upstream_driver curl_driver = {.cancel = cancel_call, .resume = resume_call, .let_go = let_call_go};

static enum upstream_result result_of(const struct curl_call *call, CURLcode code) {
    switch (code) {
    case CURLE_OK:
        return call->head_told ? UPSTREAM_ENDED : UPSTREAM_NOT_HTTP;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_URL_MALFORMAT:
        return UPSTREAM_NOT_REACHED;
    case CURLE_OPERATION_TIMEDOUT:
        return UPSTREAM_CONNECT_EXPIRED;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_OUT_OF_MEMORY:
        return UPSTREAM_NOT_HTTP;
    default:
        /* Part of a head is no HTTP answer; nothing at all, or a head with part of its body, is a broken connection. */
        return call->head_told || !call->got_bytes ? UPSTREAM_BROKEN : UPSTREAM_NOT_HTTP;
    }
}

static void collect_from(CURLM *multi) {
    int left = 0;
    CURLMsg *message = NULL;
    while ((message = curl_multi_info_read(multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        char *private_pointer = NULL;
        CURLcode code = message->data.result;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private_pointer);
        struct curl_call *call = (struct curl_call *)(void *)private_pointer;
        enum upstream_result result = result_of(call, code);
        const struct upstream_receiver *receiver = call->base.receiver;
        void *context = call->base.context;
        if (code != CURLE_OK) {
            LOG(LOG_DEBUG, "upstream_transfer_failed", log_text("why", curl_easy_strerror(code)));
        }
        free_call(call);
        receiver->on_end(context, result);
    }
}

static void collect_finished(struct loop_task *task) {
    struct curl_side *side = SIDE_OF_TASK(task, collect);
    collect_from(side->http1);
    collect_from(side->http2);
}

static bool add_header(struct curl_call *call, const char *name, const char *value) {
    char line[URL_BYTES * 4];
    int len = snprintf(line, sizeof(line), "%s: %s", name, value);
    struct curl_slist *longer = len > 0 && (size_t)len < sizeof(line) ? curl_slist_append(call->headers, line) : NULL;
    explicit_bzero(line, sizeof(line));
    if (longer == NULL) {
        return false;
    }
    call->headers = longer;
    return true;
}

static bool add_span(struct curl_call *call, const char *name, struct span value) {
    char text[HEADER_VALUE_BYTES];
    return value.len == 0 || (span_copy(value, text, sizeof(text)) && add_header(call, name, text));
}

/* Each dialect has its own place for the key (wire.md section 13). */
static bool set_credential(struct curl_call *call, const struct conf_upstream *upstream) {
    if (upstream->api_key == NULL) {
        return true;
    }
    if (upstream->dialect == CONF_DIALECT_ANTHROPIC) {
        return add_header(call, "X-Api-Key", upstream->api_key);
    }
    if (upstream->dialect == CONF_DIALECT_GEMINI) {
        return add_header(call, "X-Goog-Api-Key", upstream->api_key);
    }
    char bearer[URL_BYTES * 2];
    int len = snprintf(bearer, sizeof(bearer), "Bearer %s", upstream->api_key);
    bool good = len > 0 && (size_t)len < sizeof(bearer) && add_header(call, "Authorization", bearer);
    explicit_bzero(bearer, sizeof(bearer));
    return good;
}

static bool set_dialect_headers(struct curl_call *call, const struct upstream_spec *spec) {
    switch (spec->upstream->dialect) {
    case CONF_DIALECT_ANTHROPIC:
        return add_span(call, "Anthropic-Version",
                        spec->anthropic_version.len != 0 ? spec->anthropic_version : SPAN_LITERAL("2023-06-01")) &&
               add_span(call, "Anthropic-Beta", spec->anthropic_beta);
    case CONF_DIALECT_OPENAI:
        return add_span(call, "OpenAI-Beta", spec->openai_beta);
    default:
        return true;
    }
}

/* The header list is an allow-list: nothing of the client's passes but what is named here. */
static bool set_headers(struct curl_call *call, const struct upstream_spec *spec) {
    const struct conf_upstream *upstream = spec->upstream;
    bool good = add_header(call, "Content-Type", "application/json") &&
                add_header(call, "Accept-Encoding", "identity") &&
                add_header(call, "Accept", spec->stream ? "text/event-stream" : "application/json") &&
                add_header(call, "User-Agent", "tollgate/" TOLLGATE_VERSION) &&
                (spec->request_id == NULL || add_header(call, "X-Request-Id", spec->request_id));
    struct curl_slist *no_expect = good ? curl_slist_append(call->headers, "Expect:") : NULL;
    if (no_expect == NULL) {
        return false;
    }
    call->headers = no_expect;
    good = set_credential(call, upstream) && set_dialect_headers(call, spec);
    for (int i = 0; good && i < upstream->header_count; i++) {
        good = add_header(call, upstream->headers[i].name, upstream->headers[i].value);
    }
    return good;
}

static void set_options(struct curl_call *call, const struct upstream_spec *spec, const char *url) {
    const struct conf_upstream *upstream = spec->upstream;
    CURL *easy = call->easy;
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    /* Undoes encodings; what is asked for is identity all the same (set_headers). */
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
    curl_easy_setopt(easy, CURLOPT_PROXY, upstream->proxy != NULL ? upstream->proxy : "");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                     upstream->http_version == 2 ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PIPEWAIT, upstream->http_version == 2 ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)upstream->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)KEPT_CONNECTION_SECONDS);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (upstream->ca_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, upstream->ca_file);
    }
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)spec->body.len);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, call);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, call);
}

static struct curl_call *new_call(struct curl_side *side, const struct upstream_spec *spec) {
    struct curl_call *call = calloc(1, sizeof(*call));
    CURL *easy = call != NULL ? borrow_easy(side) : NULL;
    if (easy == NULL) {
        free(call);
        return NULL;
    }
    call->base.driver = &curl_driver;
    call->side = side;
    call->multi = spec->upstream->http_version == 2 ? side->http2 : side->http1;
    call->easy = easy;
    call->body = spec->body;
    call->head = UPSTREAM_HEAD_EMPTY;
    call->allow_private = spec->upstream->allow_private;
    return call;
}

struct upstream_call *curl_side_start(struct curl_side *side, const struct upstream_spec *spec) {
    char url[URL_BYTES];
    int len = snprintf(url, sizeof(url), "%s%.*s", spec->upstream->base_url, SPAN_ARGUMENTS(spec->path));
    struct curl_call *call = len > 0 && (size_t)len < sizeof(url) ? new_call(side, spec) : NULL;
    if (call == NULL) {
        return NULL;
    }
    bool good = set_headers(call, spec);
    if (good) {
        set_options(call, spec, url);
        good = curl_multi_add_handle(call->multi, call->easy) == CURLM_OK;
    }
    if (!good) {
        curl_slist_free_all(call->headers);
        return_easy(side, call->easy);
        free(call);
        return NULL;
    }
    return &call->base;
}

/* --- the worker's curl side --- */

static CURLM *new_multi(struct curl_side *side, struct multi_timer *timer) {
    CURLM *multi = curl_multi_init();
    CHECK(multi != NULL);
    *timer = (struct multi_timer){.timer = {.on_fire = on_timer}, .side = side, .multi = multi};
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, timer);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)KEPT_CONNECTIONS);
    return multi;
}

struct curl_side *curl_side_new(struct loop *loop, void (*on_connection)(void *context), void *context) {
    CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    struct curl_side *side = calloc(1, sizeof(*side));
    CHECK(side != NULL);
    side->loop = loop;
    side->collect.run = collect_finished;
    side->bury.run = bury_dead;
    side->on_connection = on_connection;
    side->context = context;
    side->http1 = new_multi(side, &side->http1_timer);
    side->http2 = new_multi(side, &side->http2_timer);
    curl_multi_setopt(side->http2, CURLMOPT_MAX_HOST_CONNECTIONS, (long)HTTP2_CONNECTIONS_A_HOST);
    curl_multi_setopt(side->http2, CURLMOPT_MAX_CONCURRENT_STREAMS, 1000L);
    return side;
}

void curl_side_free(struct curl_side *side) {
    for (int i = 0; i < side->pooled; i++) {
        curl_easy_cleanup(side->pool[i]);
    }
    (void)curl_multi_cleanup(side->http1);
    (void)curl_multi_cleanup(side->http2);
    loop_timer_clear(side->loop, &side->http1_timer.timer);
    loop_timer_clear(side->loop, &side->http2_timer.timer);
    loop_task_cancel(side->loop, &side->collect);
    loop_task_cancel(side->loop, &side->bury);
    bury_dead(&side->bury);
    free(side);
}
