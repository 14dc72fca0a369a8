/* worker/upstream_driver.h - what upstream.c shares with its two drivers.
 * Used by: upstream.c, upstream_curl.c, upstream_demo.c only. */
#ifndef TOLLGATE_WORKER_UPSTREAM_DRIVER_H
#define TOLLGATE_WORKER_UPSTREAM_DRIVER_H

#include "worker/upstream.h"

struct upstream_driver {
    void (*cancel)(struct upstream_call *call);
    void (*resume)(struct upstream_call *call);
    void (*let_go)(struct upstream_call *call); /* the receiver is already one that ignores everything */
};

/* The head of every driver's own call struct. */
struct upstream_call {
    const struct upstream_driver *driver;
    const struct upstream_receiver *receiver;
    void *context;
};

struct curl_side;
struct curl_side *curl_side_new(struct loop *loop, void (*on_connection)(void *context), void *context);
void curl_side_free(struct curl_side *side);
struct upstream_call *curl_side_start(struct curl_side *side, const struct upstream_spec *spec);

struct upstream_call *demo_side_start(struct loop *loop, const struct upstream_spec *spec);

#endif
