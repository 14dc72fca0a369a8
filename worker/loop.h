/* worker/loop.h - descriptors, timers and end-of-turn work on top of h2o's event loop.
 * Used by: the worker, in its one thread. libh2o watches client sockets itself; everything else (curl's sockets, client
 * sockets watched for a hang-up, signals, the master's pipe) hangs on one epoll of our own, which is one read-only
 * socket in h2o's loop (see libraries.md: h2o timers know only fixed durations and its sockets close what they watch).
 * Ownership: watches and timers are embedded in their users, who must take them off before freeing them.
 * Order in a turn: socket callbacks, timers that are due, then deferred work until none is left, all of it inside
 * h2o_evloop_run, where libh2o may be called (see come_soon in loop.c). */
#ifndef TOLLGATE_WORKER_LOOP_H
#define TOLLGATE_WORKER_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct st_h2o_evloop_t;

struct loop_watch {
    void (*on_event)(struct loop_watch *watch, uint32_t epoll_events);
    int fd;
};

struct loop_timer {
    void (*on_fire)(struct loop_timer *timer);
    int64_t deadline_mono_ns;
    size_t heap_place; /* 0: not set */
};

/* Work to be done once at the end of the turn. */
struct loop_task {
    void (*run)(struct loop_task *task);
    struct loop_task *next;
    bool queued;
};

/* Creates the loop and its epoll. Call after fork. Aborts when the system refuses. */
struct loop *loop_new(void);

/* h2o's side, for h2o_context_init. */
struct st_h2o_evloop_t *loop_h2o(struct loop *loop);

/* One turn: waits for an event or the next timer, at most most_ms. */
void loop_run(struct loop *loop, int most_ms);

/* Starts watching fd (level-triggered) or changes what is watched for. False: the kernel refused. */
bool loop_watch_set(struct loop *loop, struct loop_watch *watch, int fd, uint32_t epoll_events);
/* Stops; events already fetched in this turn are not delivered. */
void loop_watch_clear(struct loop *loop, struct loop_watch *watch);

void loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t deadline_mono_ns);
void loop_timer_clear(struct loop *loop, struct loop_timer *timer);

/* Queues the task unless it is queued already. Tasks may queue tasks, themselves included. */
void loop_defer(struct loop *loop, struct loop_task *task);
/* Takes a queued task off again. */
void loop_task_cancel(struct loop *loop, struct loop_task *task);

#endif
