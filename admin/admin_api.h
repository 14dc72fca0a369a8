/* admin/admin_api.h - which paths the admin address has, and who answers them.
 * Used by: admin_server.c for every request, on the loop. */
#ifndef TOLLGATE_ADMIN_ADMIN_API_H
#define TOLLGATE_ADMIN_ADMIN_API_H

#include "admin/admin_call.h"

/* Where a handler runs. Each lane is a thread, see admin_jobs.h. */
enum admin_lane {
    LANE_OPERATIONS, /* asks the ledger over its socket */
    LANE_STORE,      /* reads the books on disk */
    LANES,
    LANE_NONE = LANES /* on the loop: must not wait for anything */
};

enum route_access {
    ACCESS_TOKEN,
    ACCESS_PAGE,  /* the console's own files: no token */
    ACCESS_ANYONE /* health checks */
};

struct route {
    const char *method;
    const char *pattern; /* '*' stands for one part of the path, the call's item */
    enum route_access access;
    enum admin_lane lane;
    admin_call_fn run;
    const char *queries;   /* names of query fields it takes, separated by spaces; NULL: any */
    const char *operation; /* handlers that ask the ledger: the operation and the argument that the item is */
    const char *item_argument;
    int timeout_ms;
};

/* Finds the route of method and path, sets call->route and call->item. NULL with the answer set: there is no such path,
 * or it does not take the method. HEAD is answered as GET. */
const struct route *api_find(struct admin_call *call);

/* Checks the parts of a request that are the same for all routes: query fields, content type, body. content_type is the
 * header as sent. False with the answer set. */
MUST_CHECK bool api_check(struct admin_call *call, struct span query, struct span content_type);

/* Does the pattern fit? *item receives the part that '*' stands for, empty without one. */
bool api_pattern_fits(const char *pattern, struct span path, struct span *item);

#endif
