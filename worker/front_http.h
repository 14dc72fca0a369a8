/* worker/front_http.h - HTTP/1.1 and HTTP/2 clients: turns libh2o's requests into ours and writes their answers.
 * Used by: front_listen.c registers the handler. All of libh2o's generator rules (libraries.md, "Response side") are
 * kept here: one send in flight, no touch after the last one, all cleaning up in the pool's dispose hook. */
#ifndef TOLLGATE_WORKER_FRONT_HTTP_H
#define TOLLGATE_WORKER_FRONT_HTTP_H

#include "worker/client_address.h"

struct worker;
struct st_h2o_pathconf_t;
struct st_h2o_req_t;

/* Sends every request below this path to the request machine. */
void front_http_register(struct st_h2o_pathconf_t *path, struct worker *worker);

/* The address of a request's client, without port: its TCP peer, or whom a trusted proxy forwards for
 * (client_address.h). Empty when the peer has no IP address. */
void front_http_client(const struct worker *worker, struct st_h2o_req_t *req,
                       char out[static CLIENT_ADDRESS_TEXT_BYTES]);

#endif
