/* worker/route.h - which upstream serves next: weights, groups, breakers, retries and fallbacks.
 * Used by: the request machine. Order: the untried routes of the model's groups, then of its fallback models, then
 * again those whose failure may pass; conf.retry.attempts bounds all tries together. */
#ifndef TOLLGATE_WORKER_ROUTE_H
#define TOLLGATE_WORKER_ROUTE_H

#include "worker/request.h"

enum route_choice { ROUTE_CHOSEN, ROUTE_LATER, ROUTE_NONE };

/* Sets request->attempt's model, route and upstream. LATER: wait route_backoff_ns and ask again. NONE: route_verdict.
 */
enum route_choice route_choose(struct request *request);

/* Has the model, or a fallback of it, a route whose upstream can be asked this at all? */
bool route_fits_any(const struct request *request);

/* Why no route is left. */
struct verdict route_verdict(const struct request *request);

int64_t route_backoff_ns(const struct request *request);

/* Tells the upstream's breaker and counters how a try went. */
void route_succeeded(struct request *request);
void route_failed(struct request *request, enum shm_upstream_error error, bool counts_for_breaker);

/* The model a rule model leads to for this request; the model itself otherwise. */
int route_resolve_rules(const struct request *request, int model);

#endif
