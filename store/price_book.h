/* store/price_book.h - the price book: for each model, prices and the instants they start to hold.
 * Used by: store/ only, inside a transaction. Of the prices that have begun, the one with the latest start is in force.
 * Rows are never deleted; one set again for the same instant replaces the old. */
#ifndef TOLLGATE_STORE_PRICE_BOOK_H
#define TOLLGATE_STORE_PRICE_BOOK_H

#include "base/money.h"
#include "shm/shm_layout.h"
#include "store/kv.h"

/* Most models the book may name: the published table stays sparse enough to search. */
enum { PRICE_BOOK_MODELS_MOST = SHM_PRICE_ROWS * 3 / 4 };

struct price_book_row {
    char model[SHM_MODEL_NAME_BYTES];
    int64_t from_wall_ns;
    struct price price;
};

bool price_book_store(struct kv_txn *txn, const struct price_book_row *row);

/* Walks all rows by model, then by start. Ends early when visit returns false. */
void price_book_each(struct kv_txn *txn, bool (*visit)(void *context, const struct price_book_row *row), void *context);

/* How many models the book names, and whether this is one of them. */
uint32_t price_book_models(struct kv_txn *txn);
bool price_book_has(struct kv_txn *txn, const char *model);

/* Fills a row to publish: the price in force at an instant and the next to come. False when the book lacks the model.
 */
MUST_CHECK bool price_book_current(struct kv_txn *txn, const char *model, int64_t now_wall_ns,
                                   struct shm_price_sh *out);

#endif
