/* worker/queue.h - requests over their rate wait for their turn, where their key or tier has a max_wait: first come,
 * first served for each key, over all workers (shm_queue.h holds the places).
 * Used by: the request machine, in ADMIT and QUEUE, and whatever gives room back. Nobody polls: the first of a key
 * sleeps until its buckets have room, the others until they are woken; all look again after a second, in case a wake
 * died with its worker. */
#ifndef TOLLGATE_WORKER_QUEUE_H
#define TOLLGATE_WORKER_QUEUE_H

#include "worker/request.h"

/* How many of its key stand before the request; with none it may take from the limits now. */
int64_t queue_count_before(const struct request *request);

/* After a refusal for a rate: may it wait? Takes a place the first time. False: it may not, or has waited long enough,
 * or cannot succeed in time. */
bool queue_may_wait(struct request *request, const struct verdict *verdict);

/* When to look again: until then it sleeps. */
int64_t queue_next_look_mono_ns(const struct request *request);

/* How long it has waited so far, or did. */
int64_t queue_waited_ns(const struct request *request);

/* Gives its place up, if it has one, and wakes those behind it. */
void queue_leave(struct request *request);

/* Room has come back to a tenant's limits: wakes who waits for it. */
void queue_wake(const struct worker *worker, uint32_t tenant_index);

/* This worker was woken: its waiting requests look again. */
void queue_look_again(struct worker *worker);

#endif
