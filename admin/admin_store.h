/* admin/admin_store.h - a lane's ways to the books: the store on disk, and the ledger process behind its socket.
 * Used by: handlers on a lane's thread; never on the loop. Blocking: disk, socket.
 * Errors: the call's answer is set and false or NULL returned. */
#ifndef TOLLGATE_ADMIN_ADMIN_STORE_H
#define TOLLGATE_ADMIN_ADMIN_STORE_H

#include "admin/admin_call.h"
#include "base/json_read.h"
#include "store/ledger.h"

/* The store, opened for reading when it is not open yet. Only on the store's lane. NULL with *error set. */
MUST_CHECK struct ledger *store_ledger(struct admin_tools *tools, struct buffer *error);

/* As store_ledger, after the ledger has committed all that is settled. */
MUST_CHECK struct ledger *store_current(struct admin_call *call, struct admin_tools *tools);

/* A read failed: answers, and closes the store, so that the next call opens it afresh. */
void store_failed(struct admin_call *call, struct admin_tools *tools, const struct buffer *error);

/* Runs one operation on the ledger process and parses its answer into doc, whose text is *answer. Returns the value of
 * "result", or -1 with the call's answer set. */
MUST_CHECK int store_operation(struct admin_call *call, const struct admin_tools *tools, struct span request,
                               struct buffer *answer, struct json_doc *doc);

#endif
