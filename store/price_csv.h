/* store/price_csv.h - the CSV form of the price book: model,input,output,cached_input,cache_write,from.
 * Used by: store/ only. Pure functions over one text. The header line is required; columns may stand in any order, and
 * the last three may be missing or empty. Lines may end in CR LF; empty lines are skipped; fields may be quoted. */
#ifndef TOLLGATE_STORE_PRICE_CSV_H
#define TOLLGATE_STORE_PRICE_CSV_H

#include "base/buffer.h"
#include "store/price_book.h"

/* Is every line good? When not, appends "line 3: what is wrong; ..." for the first bad ones. */
MUST_CHECK bool price_csv_check(struct span csv, int64_t now_wall_ns, struct buffer *errors);

/* Visits each row of a checked text. Returns false when a visit did, or when the text is bad after all. */
MUST_CHECK bool price_csv_each(struct span csv, int64_t now_wall_ns,
                               bool (*visit)(void *context, const struct price_book_row *row), void *context);

#endif
