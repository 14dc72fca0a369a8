/* conf/conf_units.h - the written forms of durations and sizes, and plain integers.
 * Used by: the configuration parser and the reference page. Reading durations and sizes is in conf.h. */
#ifndef TOLLGATE_CONF_CONF_UNITS_H
#define TOLLGATE_CONF_CONF_UNITS_H

#include <stdint.h>

#include "base/check.h"
#include "base/span.h"

enum conf_unit { CONF_UNIT_NONE, CONF_UNIT_COUNT, CONF_UNIT_ITEMS, CONF_UNIT_MS, CONF_UNIT_BYTES, CONF_UNIT_NUSD };

enum { CONF_UNIT_TEXT_BYTES = 40 };

/* A decimal integer of digits, with a leading '-' or without. False for anything else or past int64_t. */
MUST_CHECK bool conf_units_parse_int(struct span text, int64_t *out);

/* Writes a value as a user would: 90000 ms is "90s", 1048576 bytes "1MiB", money "0.50". Returns out. */
char *conf_units_format(enum conf_unit unit, int64_t value, char out[static CONF_UNIT_TEXT_BYTES]);

#endif
