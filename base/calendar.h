/* base/calendar.h - wall-clock instants and the borders of hours, days and months in a time zone; RFC 3339 texts;
 * the time arguments of the command line.
 * Used by: ledger, admin, command line; workers for budget windows. Zones are IANA names, read from the system's
 * database; "UTC" always works. One zone is in force per process (calendar_use_zone). */
#ifndef TOLLGATE_BASE_CALENDAR_H
#define TOLLGATE_BASE_CALENDAR_H

#include <stdint.h>

#include "base/check.h"
#include "base/span.h"

enum { RFC3339_BYTES = 40 };

enum calendar_unit { CALENDAR_HOUR, CALENDAR_DAY, CALENDAR_MONTH };

/* Is it the name of a zone this system knows? */
bool calendar_zone_exists(const char *zone);

/* Makes zone the one in force (TZ and tzset). Returns false, changing nothing, when it does not exist. */
MUST_CHECK bool calendar_use_zone(const char *zone);

/* The first instant of the hour, day or month that holds wall_ns, in the zone in force (DST changes included). */
int64_t calendar_floor(int64_t wall_ns, enum calendar_unit unit);

/* The first instant of the next one. */
int64_t calendar_next(int64_t wall_ns, enum calendar_unit unit);

/* Labels of reports, in the zone in force: "2026-11-21T13:00", "2026-11-21", "2026-11". */
void calendar_label(int64_t wall_ns, enum calendar_unit unit, char out[static RFC3339_BYTES]);

/* RFC 3339 with milliseconds and the offset of the zone in force: "2026-11-21T10:00:00.123Z" for UTC. */
void calendar_rfc3339(int64_t wall_ns, char out[static RFC3339_BYTES]);

/* A time argument: "30d", "12h", "90m", "45s" (that long before now), "2026-11-21" (its first instant in the zone in
 * force), "2026-11", or RFC 3339. Returns false for anything else. */
MUST_CHECK bool calendar_parse(struct span text, int64_t now_wall_ns, int64_t *out);

/* As calendar_parse, but durations count forward from now: for --expires. */
MUST_CHECK bool calendar_parse_future(struct span text, int64_t now_wall_ns, int64_t *out);

#endif
