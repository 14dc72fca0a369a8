/* worker/upstream.h - one call to an upstream: start it, receive its answer piece by piece, cancel it, hold it back.
 * Used by: the request machine. Two drivers stand behind it: libcurl (upstream_curl.c) and the embedded demo upstream
 * (upstream_demo.c). Nothing here knows dialects, clients or accounts.
 * Callbacks: on_head once, on_bytes any number of times, on_end exactly once and last, unless the call was cancelled.
 * on_head and on_bytes may run inside libcurl: they must not start, cancel or resume calls; defer that. on_end may. */
#ifndef TOLLGATE_WORKER_UPSTREAM_H
#define TOLLGATE_WORKER_UPSTREAM_H

#include "base/span.h"
#include "conf/conf.h"
#include "worker/loop.h"

struct upstreams;     /* a worker's connections to all upstreams */
struct upstream_call; /* one request to one upstream */

enum upstream_content { UPSTREAM_EVENT_STREAM, UPSTREAM_JSON, UPSTREAM_OTHER_CONTENT };

/* What an upstream says of one of its rate limits. limit 0: nothing. */
struct upstream_allowance {
    int64_t limit;
    int64_t remaining;
    int64_t reset_ms; /* until all of it is there again */
};

struct upstream_head {
    int status;
    enum upstream_content content;
    int64_t retry_after_ms; /* -1: none was sent */
    struct upstream_allowance requests;
    struct upstream_allowance tokens;
    bool encoded; /* a content-encoding that stays: gzip and deflate are undone, though identity was asked for */
    bool zipped;  /* one that was undone */
};

enum upstream_result {
    UPSTREAM_ENDED,           /* the HTTP exchange ended as its framing says; what it means is the dialect's to judge */
    UPSTREAM_NOT_REACHED,     /* no connection: refused, unknown host, TLS failure, forbidden address */
    UPSTREAM_CONNECT_EXPIRED, /* no connection in time */
    UPSTREAM_BROKEN,          /* the connection ended too early */
    UPSTREAM_NOT_HTTP,        /* what came is no HTTP answer */
};

struct upstream_receiver {
    void (*on_head)(void *context, const struct upstream_head *head);
    /* Returns false to hold the bytes back: they come again after upstream_resume. */
    bool (*on_bytes)(void *context, struct span bytes);
    void (*on_end)(void *context, enum upstream_result result);
};

struct upstream_spec {
    const struct conf_upstream *upstream;
    struct span path; /* "/chat/completions": joined to the upstream's base URL */
    struct span body; /* JSON; stays the caller's and must live until on_end or cancel */
    bool stream;
    const char *request_id;        /* sent on as x-request-id */
    struct span anthropic_version; /* the client's own; empty: the one this was written for */
    struct span anthropic_beta;    /* features the client asked for; empty: none */
    struct span openai_beta;
};

/* Makes the worker's upstream side. on_connection is told of each new connection. */
struct upstreams *upstreams_new(struct loop *loop, void (*on_connection)(void *context), void *context);

/* Cancels nothing: every call must have ended. */
void upstreams_free(struct upstreams *upstreams);

/* Starts a call. NULL only when memory or descriptors are exhausted; failures to connect come as on_end, never from
 * inside this function. */
MUST_CHECK struct upstream_call *upstream_start(struct upstreams *upstreams, const struct upstream_spec *spec,
                                                const struct upstream_receiver *receiver, void *context);

/* Ends the call without on_end: closes its connection, or its HTTP/2 stream. Not from on_head or on_bytes. */
void upstream_cancel(struct upstream_call *call);

/* Nothing of the call is wanted any more, but its connection is worth keeping: it may end by itself within a second. No
 * callback follows. Allowed anywhere, on_bytes included. */
void upstream_let_go(struct upstream_call *call);

/* Lets bytes come again after on_bytes returned false. Not from on_head or on_bytes. */
void upstream_resume(struct upstream_call *call);

#endif
