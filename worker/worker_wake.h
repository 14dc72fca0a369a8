/* worker/worker_wake.h - how workers tell each other that something has happened in what they share.
 * Used by: the worker. Each seat has an eventfd, made by the master; the
 * word behind it is never the message, only the reason to look. Waking a seat that nobody holds does nothing. */
#ifndef TOLLGATE_WORKER_WORKER_WAKE_H
#define TOLLGATE_WORKER_WORKER_WAKE_H

#include <stdbool.h>
#include <stdint.h>

struct worker;

void worker_wake_init(struct worker *worker);

/* Starts to listen. False: the kernel refused. */
bool worker_wake_watch(struct worker *worker);

/* Makes the worker of that seat look at what it waits for; its own too, in a later turn. */
void worker_wake_seat(const struct worker *worker, uint32_t seat);

#endif
