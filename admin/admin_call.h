/* admin/admin_call.h - one request to the admin address and its answer, apart from HTTP.
 * Used by: admin_server.c makes one a request; the handlers of the routing table read the request and fill the answer,
 * on the loop or on a lane's thread.
 * Ownership: the request's texts are copies in the call's arena, so that a call may outlive its connection. call_free
 * wipes them: bodies and answers may hold a new key.
 * Errors: the answer of a failure has OpenAI's form (interface.md section 4). */
#ifndef TOLLGATE_ADMIN_ADMIN_CALL_H
#define TOLLGATE_ADMIN_ADMIN_CALL_H

#include "admin/admin_jobs.h"
#include "admin/admin_query.h"
#include "base/buffer.h"
#include "conf/conf.h"
#include "shm/shm_map.h"

enum { CALL_BODY_BYTES_MOST = 1 << 20, CALL_ANSWER_BYTES_MOST = 64 << 20, CALL_PATH_BYTES_MOST = 1024 };

struct route;

struct admin_call {
    struct job job;
    struct arena arena;
    const char *method;
    const char *path;
    struct span body;
    struct query query;
    const struct route *route;
    const char *item; /* what the path names: a tenant, a key, a request; NULL when it names none */

    int status;
    const char *content_type;
    const char *extra_header; /* one more header of the answer, or NULL */
    const char *extra_value;
    bool reaches_out;  /* a page whose scripts talk to the relay's public address, which is another origin */
    struct span fixed; /* an answer that needs no copy; used when its base is set */
    struct buffer answer;
    void *waiting; /* the exchange that waits for the answer; NULL when none does. The loop's alone */
};

/* What handlers need. One a lane, and one of the loop: a handler uses only the one it is given. */
struct admin_tools {
    const struct conf *conf;
    const struct shm_map *map;
    struct ledger *ledger; /* opened when first needed, by the lane of the store alone */
    struct metrics *metrics;
};

typedef void (*admin_call_fn)(struct admin_call *call, struct admin_tools *tools);

/* A call with copies of these. body is at most CALL_BODY_BYTES_MOST. NULL: no memory. */
MUST_CHECK struct admin_call *call_new(struct span method, struct span path, struct span body);
void call_free(struct admin_call *call);

/* Forgets what was answered so far and answers with an error. param may be NULL. */
void call_fail(struct admin_call *call, int status, const char *type, const char *code, const char *param,
               const char *format, ...) PRINTF_LIKE(6, 7);

/* The usual ones. */
void call_fail_invalid(struct admin_call *call, const char *param, const char *format, ...) PRINTF_LIKE(3, 4);
void call_fail_not_found(struct admin_call *call, const char *message);
void call_fail_unavailable(struct admin_call *call, const char *message);

/* The answer is JSON in call->answer. Turns into an error when it did not fit. */
void call_done(struct admin_call *call, int status);

#endif
