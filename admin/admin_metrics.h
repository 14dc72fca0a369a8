/* admin/admin_metrics.h - what GET /metrics keeps between two scrapes.
 * Used by: the store's lane alone. Sums of days that are over are read from the books once; each refresh reads the last
 * days' roll-ups and the records committed since the one before, so that a scrape costs the same however long the
 * history. Blocking: disk. */
#ifndef TOLLGATE_ADMIN_ADMIN_METRICS_H
#define TOLLGATE_ADMIN_ADMIN_METRICS_H

struct metrics;

struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics);

#endif
