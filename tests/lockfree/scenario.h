/* tests/lockfree/scenario.h - what the two runners share: a scenario is a few actors on one segment, and what must hold
 * after every step and at each end. `explore` runs the actors as coroutines in chosen orders, killing some; `threads`
 * runs them as threads under ThreadSanitizer. */
#ifndef TOLLGATE_TESTS_LOCKFREE_SCENARIO_H
#define TOLLGATE_TESTS_LOCKFREE_SCENARIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/shm_map.h"

enum { ACTORS_MOST = 8, HOT_MOST = 16 };

/* A part of the segment whose accesses are scheduling points. */
struct hot {
    const void *base;
    size_t bytes;
};

struct scenario {
    const char *name;
    int actors;
    void (*reset)(void);
    void (*act)(int actor);
    void (*observe)(void);                  /* after each step of the explorer; NULL: nothing to see */
    void (*finish)(const bool *was_killed); /* one for each actor */
    void (*heat)(struct hot *hot);          /* fills in at most HOT_MOST parts; NULL: every access is one */
    int preemptions_most;                   /* of the exhaustive search; -1: all orders; -2: none, random orders only */
    int kills_most;
    uint32_t killable; /* bit of each actor that may be killed */
    int seeds;         /* random orders */
    int thread_rounds;
};

extern const struct scenario *const scenarios[];
extern const int scenario_count;

/* The segment all of them use. */
extern struct shm_map scenario_map;
void scenario_set_up(void);
void scenario_tear_down(void);

/* A number below `below`, from the order that is being run (explorer) or the thread's own state. */
uint32_t scenario_random(uint32_t below);

/* May an actor wait for another by looping? Threads may; a coroutine's other may be dead. */
extern const bool scenario_may_wait;

/* Says what failed, and in which order of steps, and ends the program. */
_Noreturn void scenario_failed(const char *condition, const char *file, int line);
#define EXPECT(condition) ((condition) ? (void)0 : scenario_failed(#condition, __FILE__, __LINE__))

#endif
