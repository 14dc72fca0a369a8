/* admin/admin_query.h - the query of a request's target: percent-decoded names and values.
 * Used by: the admin process's loop, for every request. Pure.
 * Ownership: texts live in the arena handed in. */
#ifndef TOLLGATE_ADMIN_ADMIN_QUERY_H
#define TOLLGATE_ADMIN_ADMIN_QUERY_H

#include <stdint.h>

#include "base/arena.h"

enum { QUERY_FIELDS_MOST = 64 };

struct query_field {
    const char *name;
    const char *value; /* "" when the field has none */
};

struct query {
    struct query_field fields[QUERY_FIELDS_MOST];
    int count;
};

/* Reads "a=1&b=x%20y". False: too many fields, a broken escape, an embedded zero byte, or no memory. */
MUST_CHECK bool query_parse(struct span text, struct arena *arena, struct query *out);

/* The first value of a field, or NULL when it is absent. */
const char *query_get(const struct query *query, const char *name);

/* The first field whose name is not among `names` (separated by spaces), or that is given twice; NULL when all is well.
 */
const char *query_unexpected(const struct query *query, const char *names);

/* A whole number written in digits alone. */
MUST_CHECK bool query_int(const char *text, int64_t *out);

#endif
