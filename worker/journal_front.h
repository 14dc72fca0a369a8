/* worker/journal_front.h - a front that keeps an answer instead of sending it: the request of a resumable stream, or of
 * one with an Idempotency-Key, writes to it and never sees its client leave.
 * Used by: resume.c puts it between a request and its client; the request machine drives it as any front. Its first
 * client, carried by a request in FOLLOW (request_split), is fed directly, with its own back-pressure; whoever comes
 * later reads from the journal (journal_reader.h), in any worker, and holds the upstream back all the same. A client
 * that is away holds nothing back.
 * Ownership: belongs to the request whose `journal` it is; dies with it. The events stay, for resume_window. */
#ifndef TOLLGATE_WORKER_JOURNAL_FRONT_H
#define TOLLGATE_WORKER_JOURNAL_FRONT_H

#include "shm/shm_once.h"
#include "worker/journal.h"
#include "worker/request.h"

/* Puts a journal front between a request and its client. The stream has been begun as `writer`; with has_ids every
 * event gets its id. False: no memory, nothing has changed. */
MUST_CHECK bool journal_front_take(struct request *request, const struct shm_journal_writer *writer, bool has_ids,
                                   struct shm_once once);

/* The request is admitted: a client that will get event ids is told that its answer can be resumed. */
void journal_front_admitted(struct request *request);

struct shm_journal_id journal_front_stream(const struct journal_front *front);

/* The request is settled. What nobody is billed for cannot be asked for again, and its Idempotency-Key may be used. */
void journal_front_settled(struct request *request, bool is_billed);

/* The end of a request's life: its answer, if it has not ended, is broken off. */
void journal_front_close(struct request *request);

/* The carrier of the first client ends. */
void journal_front_leave(struct request *carrier);

/* The first client has taken what was written. */
void journal_front_drained(struct journal_front *front);

/* Readers have gone on, or want no more: requests that hold their upstream back look again, cancelled ones end. */
void journal_front_go_on_all(struct journal *journal);

#endif
