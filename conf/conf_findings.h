/* conf/conf_findings.h - gathering what is wrong with a file, and the words for it.
 * Used by: the configuration parser only. Findings are kept sorted by place and own their texts (heap). */
#ifndef TOLLGATE_CONF_CONF_FINDINGS_H
#define TOLLGATE_CONF_CONF_FINDINGS_H

#include "base/check.h"
#include "conf/conf.h"

/* More are not kept: nobody reads them. */
enum { CONF_FINDINGS_MOST = 1000, CONF_QUOTE_BYTES = 104 };

/* Adds one finding in its place. Equal places keep the order of adding. */
void conf_findings_add(struct conf_findings *findings, int line, int column, const char *format, ...) PRINTF_LIKE(4, 5);

/* A part of the file fit for one line of a terminal: without control characters and cut when long. Returns out. */
char *conf_findings_clean(struct span text, char out[static CONF_QUOTE_BYTES]);

/* Looks for the known name that `wanted` was meant to be. Start with {.wanted = ...}, offer each name; best is NULL
 * when none is close. */
struct conf_suggestion {
    struct span wanted;
    const char *best;
    int distance;
};

void conf_suggestion_offer(struct conf_suggestion *suggestion, const char *name);

#endif
