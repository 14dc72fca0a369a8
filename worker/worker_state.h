/* worker/worker_state.h - all of a worker's state, in one struct.
 * Used by: worker/ only. One thread, no locks. */
#ifndef TOLLGATE_WORKER_WORKER_STATE_H
#define TOLLGATE_WORKER_WORKER_STATE_H

#include "base/json_read.h"
#include "conf/conf.h"
#include "shm/heritage.h"
#include "shm/shm_slot.h"
#include "worker/client_address.h"
#include "worker/loop.h"
#include "worker/request.h"
#include "worker/upstream.h"

struct front_side;
struct websocket;
struct journal;

struct worker {
    struct heritage *heritage;
    const struct conf *conf;
    struct shm_map *map;
    struct shm_seat_sh *seat;
    struct loop *loop;
    struct upstreams *upstreams;
    struct client_network *trusted_proxies; /* conf.trusted_proxies, read */
    int trusted_proxy_count;
    struct front_side *front; /* listeners, TLS, h2o (front_listen.c) */
    struct shm_slots *slots;
    struct journal *journal; /* answers that may be asked for again; NULL: none are kept (journal.h) */
    struct json_doc scratch; /* for whoever parses JSON in this turn */
    struct buffer scratch_text;
    struct websocket *websockets; /* open ones (front_websocket.c) */
    struct request *requests;     /* live ones */
    int64_t request_count;
    bool draining; /* accepts no connections; those it has are served and closed */
    bool paused;   /* the ledger recomputes: nothing that changes balances may happen (store/recompute.h) */
    bool refusing; /* the server ends: no new requests either */
    int64_t drain_deadline_mono_ns; /* 0: none */
    struct loop_watch signals;
    struct loop_watch master_alive;
    struct loop_watch wake;   /* another worker says that something we wait for has happened (worker_wake.h) */
    struct loop_timer second; /* heartbeat in the seat and other upkeep */
};

static inline void worker_count(struct worker *worker, enum shm_counter counter, uint64_t add) {
    shm_count(worker->seat, counter, add);
}

#endif
