/* store/verify.h - the proof of the books: folds every kept record again and compares all that is derived from them.
 * Used by: the command line (operation verify), in its own process, on one snapshot; tests.
 * Finds changed, missing and repeated records, index rows, roll-ups, spend, credit and names that do not fit.
 * After retention only what lies wholly in the time still kept is compared; totals of spend include what was archived.
 * Puts in force the zone the books were kept in. Blocking: disk, for as long as the books are big. */
#ifndef TOLLGATE_STORE_VERIFY_H
#define TOLLGATE_STORE_VERIFY_H

#include "base/json_write.h"
#include "store/ledger_private.h"

enum { VERIFY_PROBLEMS_SHOWN = 100 };

/* Writes each problem as a text of the array begun in `problems`. Returns how many there are, or -1 with *error set
 * when the books can't be read. */
int64_t verify_books(struct ledger *ledger, struct json_writer *problems, uint64_t *records, struct buffer *error);

#endif
