/* store/report_rows.h - the rows of a usage report while they are summed: one row a distinct set of labels.
 * Used by: store/report.c and the admin process. Lives in: heap and an arena with a cap, so that a report with absurdly
 * many rows is refused rather than exhausting the machine.
 * Ownership: labels belong to the rows until report_rows_fini. Blocking: never. */
#ifndef TOLLGATE_STORE_REPORT_ROWS_H
#define TOLLGATE_STORE_REPORT_ROWS_H

#include "base/arena.h"
#include "base/money.h"

struct report_sums {
    int64_t requests;
    int64_t failed;
    struct token_counts tokens;
    int64_t price_nusd;
    int64_t cost_nusd;
    int64_t list_nusd;
};

struct report_row {
    struct span labels; /* each label followed by a zero byte, in the order of the groups */
    uint64_t hash;
    struct report_sums sums;
};

struct report_rows {
    struct arena arena;
    struct report_row *items;
    size_t count;
    size_t capacity; /* a power of two, or 0; the table is open-addressed until it is sorted */
};

void report_rows_init(struct report_rows *rows);
void report_rows_fini(struct report_rows *rows);

/* Adds sums to the row with these labels, making it when it is new. False when the report has become too large. */
MUST_CHECK bool report_rows_add(struct report_rows *rows, struct span labels, const struct report_sums *sums);

/* Sorts the rows by their labels and packs them into items[0 .. count). Nothing may be added afterwards. */
void report_rows_sort(struct report_rows *rows);

/* Adds `more` to `sums`, saturating. */
void report_sums_add(struct report_sums *sums, const struct report_sums *more);

#endif
