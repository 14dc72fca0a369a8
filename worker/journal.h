/* worker/journal.h - this worker's part in the resume journal (shm/shm_journal.h): the answers it writes
 * (journal_front.h) and those it reads (journal_reader.h), and how workers hear of each other's progress.
 * Used by: the worker. Nothing here polls: whoever waits is woken through its seat's eventfd. Ownership: the worker's
 * one struct journal lives as long as the process; fronts and readers are linked into it by their requests. */
#ifndef TOLLGATE_WORKER_JOURNAL_H
#define TOLLGATE_WORKER_JOURNAL_H

#include "base/buffer.h"
#include "shm/shm_journal.h"
#include "worker/loop.h"

struct request;
struct worker;
struct journal_front;
struct journal_reader;

struct journal {
    struct worker *worker;
    struct shm_journal shared;
    struct journal_front *fronts;
    struct journal_reader *readers;
    struct buffer piece;       /* events on their way in or out, for whoever is at work */
    struct loop_task progress; /* a stream of this worker's own has gone on */
};

/* Maps the journal and sets worker->journal; without one (logged) nothing can be resumed. */
void journal_open(struct worker *worker);

/* Something was published, or readers have gone on: every reader and every writer that waits looks. */
void journal_go_on(struct worker *worker);

/* Once a second: what is over is given back, and what depends on a dead worker ends. */
void journal_keep_up(struct worker *worker, int64_t now_mono_ns);

/* The stream whose first client the request carries, or that it reads; row SHM_JOURNAL_NO_ROW: none. */
struct shm_journal_id journal_stream_of(const struct request *request);

/* Ends that stream for all its clients, whichever worker runs it: they hear of it as of any end. */
void journal_cancel_stream_of(const struct request *request);

/* Makes the worker of that seat go on, ourselves at the end of this turn. */
void journal_wake(struct journal *journal, uint32_t seat);

#endif
