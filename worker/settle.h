/* worker/settle.h - the one place where a request ends in the books: final counts, price, record, access line.
 * Used by: the request machine (SETTLE). */
#ifndef TOLLGATE_WORKER_SETTLE_H
#define TOLLGATE_WORKER_SETTLE_H

#include "worker/request.h"

/* Settles the slot if there is one, gives limits back or puts them right, writes the access line. */
void settle_request(struct request *request);

/* Writes what is known so far into the slot's record: called before bytes leave, so that a killed worker's requests are
 * billed for what their clients received. */
void settle_count(struct request *request);

/* Price in nano-USD of what was counted so far, with the tenant's markup. */
int64_t settle_price_nusd(const struct request *request);

/* What the request would be billed if it ended now: its tokens into *tokens, and returns their price. */
int64_t settle_owed(struct request *request, struct token_counts *tokens);

#endif
