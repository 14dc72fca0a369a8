/* store/report.h - the usage report and the list of single requests, out of roll-ups and records.
 * Used by: admin process and command line, on a ledger opened for reading. Blocking: disk.
 * Filters match names; NULL means any. Grouping and labels follow interface.md sections 2 and 8 in the zone in force.
 */
#ifndef TOLLGATE_STORE_REPORT_H
#define TOLLGATE_STORE_REPORT_H

#include "base/buffer.h"
#include "store/ledger.h"

enum { REPORT_GROUPS_MOST = 8 };

struct report_filter {
    int64_t from_wall_ns; /* inclusive */
    int64_t to_wall_ns;   /* exclusive */
    const char *tenant;
    const char *key; /* key id */
    const char *model;
    const char *upstream;
    const char *tag_name; /* with tag_value */
    const char *tag_value;
};

enum report_group_kind {
    REPORT_BY_HOUR,
    REPORT_BY_DAY,
    REPORT_BY_MONTH,
    REPORT_BY_TENANT,
    REPORT_BY_KEY,
    REPORT_BY_MODEL,
    REPORT_BY_UPSTREAM,
    REPORT_BY_TAG
};

struct report_group {
    enum report_group_kind kind;
    char tag[64];
};

/* Parses "day,model,tag:team" into groups. Returns the count or -1 with *error naming the bad word and the good ones.
 */
int report_parse_groups(struct span text, struct report_group groups[static REPORT_GROUPS_MOST], struct buffer *error);

/* Second display currency; code NULL for none. */
struct report_currency {
    const char *code;
    int64_t per_usd_billionths;
};

/* Appends the usage object of interface.md section 7 (rows sorted by their labels, then the total). */
MUST_CHECK bool report_usage_json(struct ledger *ledger, const struct report_filter *filter,
                                  const struct report_group *groups, int group_count,
                                  const struct report_currency *currency, struct buffer *out, struct buffer *error);

/* Appends a JSON array of requests as interface.md section 8 has them, newest first, at most `limit` (0: all).
 * after_sequence (0: none) continues below that record; *last_sequence receives the sequence of the last one written.
 */
MUST_CHECK bool report_requests_json(struct ledger *ledger, const struct report_filter *filter, const char *id,
                                     int64_t limit, uint64_t after_sequence, uint64_t *last_sequence,
                                     struct buffer *out, struct buffer *error);

/* Does the record pass the filter, its time included? */
bool report_filter_matches(const struct report_filter *filter, const struct ledger_record *record);

/* Appends one record as a JSON object. */
void report_write_record(struct buffer *out, const struct ledger_record *record);

#endif
