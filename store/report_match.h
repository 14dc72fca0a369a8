/* store/report_match.h - what the usage report and the list of requests share: filters, groups and labels.
 * Used by: store/report*.c. Lives in: heap of the caller. Ownership: a matcher keeps the last tags it parsed, until
 * report_match_fini. Blocking: never. */
#ifndef TOLLGATE_STORE_REPORT_MATCH_H
#define TOLLGATE_STORE_REPORT_MATCH_H

#include "base/calendar.h"
#include "base/clock.h"
#include "base/json_read.h"
#include "store/report.h"
#include "store/report_rows.h"

#define REPORT_HOUR_NS (INT64_C(3600) * NS_PER_S)

/* What a roll-up and a record have in common. */
struct report_item {
    int64_t wall_ns; /* the instant its time labels come from */
    const char *tenant;
    const char *key_id;
    const char *model;
    const char *upstream;
    const char *tags;
    struct report_sums sums;
};

/* Reads tags and remembers the last ones, since neighbours mostly have the same. */
struct report_match {
    struct buffer tags_text;
    struct json_doc tags;
    bool tags_valid;
};

void report_match_init(struct report_match *match);
void report_match_fini(struct report_match *match);

struct report_item report_item_of_record(const struct ledger_record *record);
struct report_item report_item_of_rollup(const struct ledger_rollup *rollup);

/* Do the item's names and tags pass the filter? Its time is not looked at. */
bool report_match_item(struct report_match *match, const struct report_filter *filter, const struct report_item *item);

/* Writes the item's labels for these groups into out (cleared first), each followed by a zero byte. */
void report_match_labels(struct report_match *match, const struct report_group *groups, int group_count,
                         const struct report_item *item, struct buffer *out);

/* Appends the name of a group as reports and `--by` have it: "day", "tag:team". */
void report_group_name(const struct report_group *group, struct buffer *out);

/* The finest unit of time among the groups. False when none is a time. */
bool report_groups_finest(const struct report_group *groups, int group_count, enum calendar_unit *unit);

#endif
