/* store/operations.h - the operations of client.h: checks a request, does it in one transaction, publishes what
 * changed, and answers. Used by: the ledger process for its control socket; the client when no server runs. Ownership:
 * the struct is the caller's; everything it points to outlives it. Blocking: disk. Crash: an operation is in the books
 * whole or not at all; what was not published the next ledger publishes. */
#ifndef TOLLGATE_STORE_OPERATIONS_H
#define TOLLGATE_STORE_OPERATIONS_H

#include "conf/conf.h"
#include "store/ledger_private.h"
#include "store/publish.h"

enum { OPERATION_REQUEST_BYTES_MOST = 4 << 20, OPERATION_ANSWER_BYTES_MOST = 32 << 20 };

struct operations {
    struct ledger *ledger;
    const struct conf *conf;
    struct publisher *publisher; /* NULL: no server runs */
    /* Commits what the rings hold; returns the records that still wait, or -1 when the ledger can't commit. NULL: none.
     */
    int64_t (*flush)(void *context);
    void *context;
};

/* Runs one request and appends the whole JSON answer. Returns its "ok". */
bool operations_run(struct operations *operations, struct span request, struct buffer *answer);

/* Appends the answer of a failure; field may be NULL. */
void operations_write_failure(struct buffer *answer, const char *kind, const char *field, const char *message);

#endif
