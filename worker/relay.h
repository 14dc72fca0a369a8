/* worker/relay.h - sends a request upstream and passes the answer on, listening to it.
 * Used by: the request machine. Bytes of a stream pass through untouched; each event is counted in the slot before it
 * is handed to the front. */
#ifndef TOLLGATE_WORKER_RELAY_H
#define TOLLGATE_WORKER_RELAY_H

#include "worker/request.h"

/* Once after admission: listener, splitter, heartbeat. */
void relay_begin(struct request *request);

/* Starts the current try. */
struct verdict relay_send(struct request *request);

/* An upstream that sends nothing for its idle timeout has failed. */
void relay_extend_deadline(struct request *request);
void relay_on_timeout(struct request *request);

/* Sends a keep-alive comment when the stream was silent for conf.streams.heartbeat. */
void relay_heartbeat(struct request *request);

/* The client takes bytes again. */
void relay_resume(struct request *request);

/* May the upstream be read on without the client (on_disconnect: drain)? */
bool relay_may_orphan(const struct request *request);
void relay_orphan_begin(struct request *request);

/* Ends a running call. */
void relay_stop(struct request *request);

/* The current try has failed: ends its call and gives its upstream's limits back. */
void relay_end_try(struct request *request);
void relay_free(struct request *request);

#endif
