/* worker/limits.h - takes and returns what a request needs of the rate and concurrency limits of its key, its tenant,
 * its key on its model, and its upstream, in that order; a refusal gives back what was taken.
 * Used by: admit.c, route.c, relay.c, settle.c. The words themselves are shm_bucket's. */
#ifndef TOLLGATE_WORKER_LIMITS_H
#define TOLLGATE_WORKER_LIMITS_H

#include "worker/request.h"

/* What a rate admits a request by: its prompt and a first slice of output, or its own cap when that is less. */
int64_t limits_first_tokens(const struct request *request);

/* Takes requests, tokens and concurrency of key, tenant and model. A verdict names the limit, whose it is and when the
 * same request would pass. */
struct verdict limits_take(struct request *request, int64_t tokens);

/* Takes nothing: is the requests or tokens bucket of key or tenant empty, and may its requests not wait? Then the
 * verdict that a request would get. */
struct verdict limits_peek(const struct request *request);

/* What somebody gets who must not take, because `before` others of its key wait: a verdict that says when the limits
 * would have room for them and for it. */
struct verdict limits_refuse_behind(const struct request *request, int64_t tokens, int64_t before);

/* The same as limits_take for the upstream of the current try: what it is short of, with the wait in *wait_ns. */
enum verdict_shortage limits_take_upstream(struct request *request, int64_t tokens, int64_t *wait_ns);

/* How long the upstream of the current try seems to have no room, by its own headers and 429s; 0: it has. */
int64_t limits_learned_wait_ns(const struct request *request, int64_t tokens);

void limits_return_upstream(struct request *request, bool used);

/* The upstream of the current try has answered: takes in what its headers say of its limits. */
void limits_hear_upstream(const struct request *request);

/* Its 429 says in its body how long it wants to be left alone. */
void limits_block_upstream(const struct request *request, int64_t wait_ms);

/* While it streams: charges what has come beyond what was taken. */
void limits_charge(struct request *request, int64_t used_tokens);

/* Puts the tokens right: `used_tokens` were really used. */
void limits_settle(struct request *request, int64_t used_tokens);

/* Gives all back: nothing was used. */
void limits_return(struct request *request);

/* What rate-limit headers say: the tighter of key and tenant. limit 0: nothing limits. */
struct limits_view {
    int64_t limit;
    int64_t remaining;
    int64_t reset_ns;
};
struct limits_view limits_view_requests(const struct request *request);
struct limits_view limits_view_tokens(const struct request *request);
/* Requests at once; its reset is not known. */
struct limits_view limits_view_concurrent(const struct request *request);

#endif
