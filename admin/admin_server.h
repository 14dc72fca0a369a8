/* admin/admin_server.h - the admin address: libh2o's set-up, HTTP/1.1 requests in, answers out.
 * Used by: admin_process.c. libh2o's rules (one send in flight, no touch after the last one, cleaning up in the pool's
 * dispose hook) are kept in admin_server.c.
 * Blocking: never. Handlers that wait run on the lanes of admin_jobs.h; a call that takes longer than its route allows
 * is answered with 503 and its job abandoned. */
#ifndef TOLLGATE_ADMIN_ADMIN_SERVER_H
#define TOLLGATE_ADMIN_ADMIN_SERVER_H

#include "admin/admin_jobs.h"
#include "shm/heritage.h"

struct admin_server;
struct st_h2o_evloop_t;

/* Sets up and starts to accept on the inherited listeners. jobs has the lanes of admin_api.h. */
struct admin_server *server_new(const struct heritage *heritage, struct st_h2o_evloop_t *loop, struct jobs *jobs);

/* Answers calls whose jobs are done. */
void server_collect(struct admin_server *server);

/* Answers calls that are overdue and ends connections whose client takes nothing. Called a few times a second. */
void server_tick(struct admin_server *server);

/* Stops accepting and lets connections end with their request. */
void server_drain(struct admin_server *server);

/* Requests not fully answered yet. */
int server_requests(const struct admin_server *server);

#endif
