/* Runs each scenario's actors as threads, again and again; built with ThreadSanitizer, which sees what no order of
 * steps shows: accesses that nothing orders. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "scenario.h"

const bool scenario_may_wait = true;

static const struct scenario *scenario;
static pthread_barrier_t barrier;
static _Thread_local uint64_t thread_random;

uint32_t scenario_random(uint32_t below) {
    thread_random = thread_random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(thread_random >> 33) % below;
}

void scenario_failed(const char *condition, const char *file, int line) {
    (void)fprintf(stderr, "%s: failed: %s (%s:%d)\n", scenario->name, condition, file, line);
    abort();
}

static void *run_actor(void *argument) {
    int number = (int)(intptr_t)argument;
    thread_random = (uint64_t)number;
    for (int round = 0; round < scenario->thread_rounds; round++) {
        (void)pthread_barrier_wait(&barrier); /* it is reset */
        scenario->act(number);
        (void)pthread_barrier_wait(&barrier); /* all have ended */
    }
    return NULL;
}

static void run_scenario(void) {
    static const bool nobody[ACTORS_MOST];
    pthread_t threads[ACTORS_MOST];
    (void)pthread_barrier_init(&barrier, NULL, (unsigned)scenario->actors + 1);
    for (int number = 0; number < scenario->actors; number++) {
        EXPECT(pthread_create(&threads[number], NULL, run_actor, (void *)(intptr_t)number) == 0);
    }
    for (int round = 0; round < scenario->thread_rounds; round++) {
        scenario->reset();
        (void)pthread_barrier_wait(&barrier);
        (void)pthread_barrier_wait(&barrier);
        scenario->finish(nobody);
    }
    for (int number = 0; number < scenario->actors; number++) {
        EXPECT(pthread_join(threads[number], NULL) == 0);
    }
    (void)pthread_barrier_destroy(&barrier);
}

int main(void) {
    scenario_set_up();
    for (int at = 0; at < scenario_count; at++) {
        scenario = scenarios[at];
        run_scenario();
        (void)printf("%s: %d rounds\n", scenario->name, scenario->thread_rounds);
        (void)fflush(stdout);
    }
    scenario_tear_down();
    return 0;
}
