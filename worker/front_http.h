/* worker/front_http.h - HTTP/1.1 and HTTP/2 clients: turns libh2o's requests into ours and writes their answers.
 * Used by: front_listen.c registers the handler. All of libh2o's generator rules (libraries.md, "Response side") are
 * kept here: one send in flight, no touch after the last one, all cleaning up in the pool's dispose hook. */
#ifndef TOLLGATE_WORKER_FRONT_HTTP_H
#define TOLLGATE_WORKER_FRONT_HTTP_H

struct worker;
struct st_h2o_pathconf_t;

/* Sends every request below this path to the request machine. */
void front_http_register(struct st_h2o_pathconf_t *path, struct worker *worker);

#endif
