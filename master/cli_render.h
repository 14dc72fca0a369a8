/* master/cli_render.h - tables and CSV out of JSON answers, by a list of columns.
 * Used by: master/cli_*.c. Ownership: borrows columns and documents. Blocking: never, output goes to a buffer.
 * Table: columns aligned by their widest cell, numbers to the right, money without trailing zeros, "-" for nothing;
 * control characters never reach the terminal. CSV: RFC 4180, the JSON fields' names and values as they are. */
#ifndef TOLLGATE_MASTER_CLI_RENDER_H
#define TOLLGATE_MASTER_CLI_RENDER_H

#include "base/buffer.h"
#include "base/json_read.h"

enum { CLI_COLUMNS_MOST = 40 };

enum cli_column_kind {
    CLI_COLUMN_TEXT,
    CLI_COLUMN_COUNT, /* to the right */
    CLI_COLUMN_MONEY, /* to the right; short in tables */
    CLI_COLUMN_BYTES, /* to the right; KiB, MiB, GiB in tables */
    CLI_COLUMN_SPAN,  /* seconds; "3d4h" in tables */
    CLI_COLUMN_LIST,  /* array or object, joined with commas */
};

struct cli_column {
    const char *field; /* "name", or "budgets.day" for a member of a member; CSV's heading */
    const char *title; /* a table's heading */
    enum cli_column_kind kind;
    bool is_detail; /* left out of tables of many rows; stands in CSV and where one object is shown */
};

/* A table that is printed in one or more pieces. */
struct cli_table {
    const struct cli_column *columns;
    int column_count;
    bool csv;
    bool has_heading; /* written already */
    size_t widths[CLI_COLUMNS_MOST];
    struct buffer cell;
};

void cli_table_init(struct cli_table *table, const struct cli_column *columns, int column_count, bool csv);
void cli_table_fini(struct cli_table *table);

/* Appends the rows of the JSON array (or the one object) `rows`, with the heading before the first piece. `total` (or
 * -1) is an object that gets a last row beginning with "total". */
void cli_table_append(struct cli_table *table, const struct json_doc *doc, int rows, int total, struct buffer *out);

/* Appends one object as lines of "title  value"; in CSV as a heading and a row. */
void cli_render_object(const struct json_doc *doc, int object, const struct cli_column *columns, int column_count,
                       bool csv, struct buffer *out);

/* Appends text with control characters (and what is no UTF-8) replaced, for a terminal. */
void cli_render_safe(struct span text, struct buffer *out);

#endif
