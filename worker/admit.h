/* worker/admit.h - reads a relayed request, finds its model, takes its limits and its slot.
 * Used by: the request machine (ADMIT). After success the slot is LIVE: the request will be settled, whoever dies. */
#ifndef TOLLGATE_WORKER_ADMIT_H
#define TOLLGATE_WORKER_ADMIT_H

#include "worker/request.h"

/* Verdict ERROR_NONE: admitted, request->slot is set; or request->reader is: it gets another request's answer and has
 * taken nothing. Otherwise nothing is held. */
struct verdict admit_request(struct request *request);

/* Takes the client's own id for this request alone; one that its tenant has used before is replaced. */
void admit_claim_id(struct request *request);

/* May this key be served by a model, as far as prices go? A key with a budget needs one that has a price. */
bool admit_may_price(const struct request *request, int model);

/* Fills the record's served model, prices and costs for the route of the current try. */
void admit_price_route(struct request *request);

#endif
