/* worker/verdict.h - why a request is refused or has failed, and how that is told to its client.
 * Used by: the worker. Pure. A verdict is the only way to the FAIL state; its texts hold nothing an upstream sent. */
#ifndef TOLLGATE_WORKER_VERDICT_H
#define TOLLGATE_WORKER_VERDICT_H

#include <stdint.h>

#include "base/buffer.h"

enum error_kind {
    ERROR_NONE,
#define ERROR(name, status, type, code, text) ERROR_##name,
#include "worker/errors.def"
#undef ERROR
    ERROR_KINDS
};

/* Which limit refused. */
enum verdict_shortage { SHORT_OF_NOTHING, SHORT_OF_CONCURRENT, SHORT_OF_REQUESTS, SHORT_OF_TOKENS };

enum { VERDICT_PARAM_BYTES = 64, VERDICT_MESSAGE_BYTES = 320 };

struct verdict {
    enum error_kind kind;
    char param[VERDICT_PARAM_BYTES];     /* "" writes null */
    char message[VERDICT_MESSAGE_BYTES]; /* "" uses the kind's own text */
    int64_t retry_after_ms;              /* 0: none */
    enum verdict_shortage shortage;      /* of a rate_limit_exceeded that is a tenant's own */
    bool do_not_retry;                   /* x-should-retry: false */
};

/* A verdict with the kind's own text. */
struct verdict verdict_of(enum error_kind kind);

/* A verdict with a message of its own and the field it is about (NULL: none). */
struct verdict verdict_with(enum error_kind kind, const char *param, const char *format, ...) PRINTF_LIKE(3, 4);

int verdict_status(const struct verdict *verdict);
const char *verdict_code(const struct verdict *verdict);
const char *verdict_type(const struct verdict *verdict);
/* Its own message, or its kind's. */
const char *verdict_text(const struct verdict *verdict);

/* Appends {"error": {"message", "type", "code", "param"}} . */
void verdict_write_json(const struct verdict *verdict, struct buffer *out);

/* Appends the error as a server-sent event of the chat dialect. */
void verdict_write_event(const struct verdict *verdict, struct buffer *out);

#endif
