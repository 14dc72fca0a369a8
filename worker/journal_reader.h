/* worker/journal_reader.h - a client that gets an answer out of the journal: one that came back to its stream, or whose
 * Idempotency-Key names a request that runs or has ended. The answer may be another worker's.
 * Used by: resume.c attaches one to a request, whose front then gets the answer from it; the request machine (FOLLOW)
 * and journal.c make it go on. Any front will do: it needs only front_driver.
 * A reader takes no slot, no limit and no record: its stream's own request is the one that is billed.
 * Ownership: belongs to its request and dies with it. */
#ifndef TOLLGATE_WORKER_JOURNAL_READER_H
#define TOLLGATE_WORKER_JOURNAL_READER_H

#include "worker/journal.h"
#include "worker/request.h"

/* Makes the request a reader of `stream`, from behind event `after` on. `missing` is what its client is told when the
 * answer turns out to be gone. The verdict is ERROR_NONE (the request goes to FOLLOW next), or why not. */
struct verdict journal_reader_attach(struct request *request, struct shm_journal_id stream, uint32_t after,
                                     const struct verdict *missing);

/* Lets a reader just attached have the events before as well, as far as they are kept. */
void journal_reader_rewind(struct request *request);

struct shm_journal_id journal_reader_stream(const struct journal_reader *reader);

/* Sends what there is and the client has room for. The request may be posted to SETTLE or FAIL by it. */
void journal_reader_go_on(struct request *request);
void journal_reader_go_on_all(struct journal *journal);

/* The request ends. */
void journal_reader_close(struct request *request);

#endif
