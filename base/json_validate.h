/* base/json_validate.h - is a text JSON (RFC 8259), and how many tokens will it have?
 * Used by: json_read.c only, before jsmn sees the text. One pass, no allocation; linear in the text. */
#ifndef TOLLGATE_BASE_JSON_VALIDATE_H
#define TOLLGATE_BASE_JSON_VALIDATE_H

#include "base/check.h"
#include "base/span.h"

struct json_findings {
    int tokens;        /* values and member names */
    const char *error; /* NULL, or what is wrong, without any of the text */
    size_t error_at;   /* and the byte where */
};

/* Checks grammar, depth, number of tokens, UTF-8, escapes, numbers and that there is one root. */
MUST_CHECK bool json_validate(struct span text, struct json_findings *findings);

#endif
