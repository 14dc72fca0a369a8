#include "worker/upstream.h"

#include <stdlib.h>

#include "worker/upstream_driver.h"

struct upstreams {
    struct loop *loop;
    struct curl_side *curl;
};

struct upstreams *upstreams_new(struct loop *loop, void (*on_connection)(void *context), void *context) {
    struct upstreams *upstreams = calloc(1, sizeof(*upstreams));
    CHECK(upstreams != NULL);
    upstreams->loop = loop;
    upstreams->curl = curl_side_new(loop, on_connection, context);
    return upstreams;
}

void upstreams_free(struct upstreams *upstreams) {
    curl_side_free(upstreams->curl);
    free(upstreams);
}

struct upstream_call *upstream_start(struct upstreams *upstreams, const struct upstream_spec *spec,
                                     const struct upstream_receiver *receiver, void *context) {
    struct upstream_call *call = spec->upstream->dialect == CONF_DIALECT_DEMO ? demo_side_start(upstreams->loop, spec)
                                                                              : curl_side_start(upstreams->curl, spec);
    if (call != NULL) {
        call->receiver = receiver;
        call->context = context;
    }
    return call;
}

static void ignore_head(void *context, const struct upstream_head *head) {
    (void)context;
    (void)head;
}

static bool ignore_bytes(void *context, struct span bytes) {
    (void)context;
    (void)bytes;
    return true;
}

static void ignore_end(void *context, enum upstream_result result) {
    (void)context;
    (void)result;
}

static const struct upstream_receiver nobody = {.on_head = ignore_head, .on_bytes = ignore_bytes, .on_end = ignore_end};

void upstream_let_go(struct upstream_call *call) {
    call->receiver = &nobody;
    call->context = NULL;
    call->driver->let_go(call);
}

void upstream_cancel(struct upstream_call *call) { call->driver->cancel(call); }

void upstream_resume(struct upstream_call *call) { call->driver->resume(call); }
