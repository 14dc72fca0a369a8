/* worker/field_check.h - checks the members of a request's JSON object against a table of documented fields.
 * Used by: the readers of bodies in OpenAI's form (chat_check, plain_check). Pure. Fields that no table names pass
 * unlooked-at: upstreams have many of their own.
 * Errors: a verdict that names the field and what it must be; never the value. */
#ifndef TOLLGATE_WORKER_FIELD_CHECK_H
#define TOLLGATE_WORKER_FIELD_CHECK_H

#include "worker/chat_request.h"

#define FIELD_INT32_TOP 2147483647.0
#define FIELD_INT53_TOP 9007199254740991.0

/* What a field's value must be. null passes for all but the required ones: it means "not given". */
enum field_kind {
    FIELD_BOOL,
    FIELD_INT,
    FIELD_NUMBER,
    FIELD_STRING,
    FIELD_OBJECT,
    FIELD_ARRAY,
    FIELD_STOP,   /* a string, or an array of at most max of them */
    FIELD_CHOICE, /* a string or an object */
    FIELD_TYPED,  /* an object with a string `type` */
    FIELD_OTHER,  /* the table's own check decides, of null too */
    FIELD_REQUIRED_STRING,
    FIELD_REQUIRED_ARRAY
};

struct field_rule {
    const char *name; /* NULL: a gap, for a field that this kind of body does not have */
    enum field_kind kind;
    bool is_single; /* decides routing or money: may not stand twice */
    double min;
    double max;
};

/* Checks a value of kind FIELD_OTHER. False with the verdict set. */
typedef bool field_check_fn(const struct json_doc *doc, int value, const struct field_rule *rule,
                            struct chat_verdict *verdict);

struct field_table {
    const struct field_rule *rules;
    int rule_count;              /* at most 64 */
    int kept;                    /* the caller wants the values of so many, the first ones */
    int required;                /* so many, the first ones, must be there */
    field_check_fn *check_other; /* NULL when no rule is FIELD_OTHER */
};

/* Checks the members of the object `root`; values[i] becomes the value of the field of rule i for the first
 * table->kept, -1 when absent. False with *verdict set. */
MUST_CHECK bool field_check(const struct json_doc *doc, int root, const struct field_table *table, int *values,
                            struct chat_verdict *verdict);

/* Refuses a value: 400 invalid_value, "'PARAM' must be MUST_BE.". Returns false. */
bool field_refuse(struct chat_verdict *verdict, const char *param, const char *must_be);

/* Finds the one member `name` of an object; *value is -1 when it is absent. False when it stands twice. */
MUST_CHECK bool field_find_single(const struct json_doc *doc, int object, const char *name, int *value);

#endif
