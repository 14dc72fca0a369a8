/* Runs each scenario's actors as coroutines of one thread, which change places only at scheduling points: in every
 * order (with at most so many preemptions), a kill at every point included, then in random orders. Memory is
 * sequentially consistent here; what weaker orders would break is for ThreadSanitizer (threads.c) to see. */
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include "scenario.h"
#include "stepped_atomics.h"

/* Copies shorter than this are of one process's own. */
enum { WHOLE_BYTES = 64 };
enum { STACK_BYTES = 256 << 10, DEPTH_MOST = 200000, RUNS_MOST = 3000000 };

struct choice {
    uint8_t taken;
    uint8_t options;
};

struct actor {
    ucontext_t context;
    char *stack;
    const volatile void *last_look; /* what its last step was about to read; NULL: it was to write */
    bool done;
    bool killed;
    bool waits; /* looked twice at one word and nobody else has moved since */
};

static struct {
    const struct scenario *scenario;
    struct actor actors[ACTORS_MOST];
    struct hot hot[HOT_MOST];
    ucontext_t scheduler;
    int running; /* -1: none, what is called is not stepped */
    int preemptions;
    int kills;
    bool is_random;
    uint64_t random;
    struct choice *way; /* the choices of this order; the first `prefix` of them are given */
    int depth;
    int prefix;
} world;

const bool scenario_may_wait = false;

static uint32_t next_random(void) {
    world.random ^= world.random << 13;
    world.random ^= world.random >> 7;
    world.random ^= world.random << 17;
    return (uint32_t)(world.random >> 16);
}

uint32_t scenario_random(uint32_t below) {
    /* Constant in the exhaustive search: an order must lead to the same steps each time. */
    return world.is_random ? next_random() % below : (uint32_t)(world.running + 1) % below;
}

void scenario_failed(const char *condition, const char *file, int line) {
    (void)fprintf(stderr, "%s: failed: %s (%s:%d)\nchoices:", world.scenario->name, condition, file, line);
    for (int at = 0; at < world.depth; at++) {
        (void)fprintf(stderr, " %d", world.way[at].taken);
    }
    (void)fprintf(stderr, "\n");
    abort();
}

static bool is_hot(const volatile void *word) {
    if (world.running < 0) {
        return false;
    }
    if (world.scenario->heat == NULL) {
        return true;
    }
    uintptr_t at = (uintptr_t)word;
    for (int i = 0; i < HOT_MOST; i++) {
        uintptr_t base = (uintptr_t)world.hot[i].base;
        if (at >= base && at < base + world.hot[i].bytes) {
            return true;
        }
    }
    return false;
}

static void step(const volatile void *word, bool only_reads) {
    if (!is_hot(word)) {
        return;
    }
    struct actor *actor = &world.actors[world.running];
    actor->waits = only_reads && actor->last_look == word;
    actor->last_look = only_reads ? word : NULL;
    (void)swapcontext(&actor->context, &world.scheduler);
}

void explore_step(const volatile void *word) { step(word, false); }

void explore_look(const volatile void *word) { step(word, true); }

bool explore_fails_weakly(void) { return world.running >= 0 && world.is_random && next_random() % 8 == 0; }

#undef memcpy
void *explore_copy(void *to, const void *from, size_t size) {
    size_t half = size < WHOLE_BYTES ? size : size / 16 * 8;
    (void)memcpy(to, from, half);
    if (half < size) {
        explore_step(is_hot(to) ? to : from);
        (void)memcpy((char *)to + half, (const char *)from + half, size - half);
    }
    return to;
}

static void run_actor(void) {
    world.scenario->act(world.running);
    world.actors[world.running].done = true;
    (void)swapcontext(&world.actors[world.running].context, &world.scheduler);
}

static void begin_actor(int number) {
    struct actor *actor = &world.actors[number];
    char *stack = actor->stack;
    *actor = (struct actor){.stack = stack};
    (void)getcontext(&actor->context);
    actor->context.uc_stack.ss_sp = stack;
    actor->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&actor->context, run_actor, 0);
}

static bool can_run(int number) { return !world.actors[number].done && !world.actors[number].killed; }

/* Who may go on: the one that ran last first. A number above ACTORS_MOST means: kill that actor. */
static int list_options(int last, int options[static 2 * ACTORS_MOST]) {
    int count = 0;
    bool others = false;
    for (int number = 0; number < world.scenario->actors; number++) {
        others = others || (number != last && can_run(number));
    }
    bool last_runs = last >= 0 && can_run(last);
    bool last_waits = last_runs && world.actors[last].waits && others;
    if (last_runs && !last_waits) {
        options[count++] = last;
    }
    bool may_preempt =
        world.is_random || world.scenario->preemptions_most < 0 || world.preemptions < world.scenario->preemptions_most;
    if (!last_runs || last_waits || may_preempt) {
        for (int number = 0; number < world.scenario->actors; number++) {
            if (number != last && can_run(number)) {
                options[count++] = number;
            }
        }
    }
    if (last_runs && world.kills < world.scenario->kills_most && (world.scenario->killable >> last & 1) != 0) {
        options[count++] = ACTORS_MOST + last;
    }
    return count;
}

static int choose(int count) {
    if (world.is_random) {
        return (int)(next_random() % (uint32_t)count);
    }
    if (world.depth == DEPTH_MOST) {
        scenario_failed("an order ends", __FILE__, __LINE__);
    }
    struct choice *choice = &world.way[world.depth++];
    if (world.depth > world.prefix) {
        *choice = (struct choice){.taken = 0, .options = (uint8_t)count};
    }
    return choice->taken;
}

/* Lets one actor do one step, or kills it. Returns who it was. */
static int advance(int last, const int *options, int chosen) {
    int number = options[chosen] % ACTORS_MOST;
    if (options[chosen] >= ACTORS_MOST) {
        world.actors[number].killed = true;
        world.kills++;
        return number;
    }
    world.preemptions += last >= 0 && number != last && can_run(last) && !world.actors[last].waits ? 1 : 0;
    world.running = number;
    (void)swapcontext(&world.scheduler, &world.actors[number].context);
    world.running = -1;
    return number;
}

static void run_once(const struct scenario *scenario) {
    int options[2 * ACTORS_MOST];
    int count = 0;
    int last = -1;
    bool was_killed[ACTORS_MOST] = {false};
    world.depth = world.preemptions = world.kills = 0;
    world.running = -1;
    scenario->reset();
    for (int number = 0; number < scenario->actors; number++) {
        begin_actor(number);
    }
    while ((count = list_options(last, options)) != 0) {
        last = advance(last, options, count > 1 ? choose(count) : 0);
        if (scenario->observe != NULL) {
            scenario->observe();
        }
    }
    for (int number = 0; number < scenario->actors; number++) {
        was_killed[number] = world.actors[number].killed;
    }
    scenario->finish(was_killed);
}

/* The next order: the last choice that has another option takes it. False: there is none. */
static bool turn(void) {
    int at = world.depth;
    while (at > 0 && world.way[at - 1].taken + 1 == world.way[at - 1].options) {
        at--;
    }
    if (at == 0) {
        return false;
    }
    world.way[at - 1].taken++;
    world.prefix = at;
    return true;
}

static int run_exhaustively(const struct scenario *scenario) {
    int runs = 0;
    world.is_random = false;
    world.prefix = 0;
    if (scenario->preemptions_most == -2) {
        return 0;
    }
    do {
        run_once(scenario);
        runs++;
    } while (runs < RUNS_MOST && turn());
    EXPECT(runs < RUNS_MOST);
    return runs;
}

static void run_randomly(const struct scenario *scenario) {
    world.is_random = true;
    for (int seed = 1; seed <= scenario->seeds; seed++) {
        world.random = (uint64_t)seed * UINT64_C(0x9e3779b97f4a7c15);
        run_once(scenario);
    }
}

int main(void) {
    world.way = calloc(DEPTH_MOST, sizeof(*world.way));
    world.running = -1;
    scenario_set_up();
    for (int number = 0; number < ACTORS_MOST; number++) {
        world.actors[number].stack = malloc(STACK_BYTES);
    }
    for (int at = 0; at < scenario_count; at++) {
        world.scenario = scenarios[at];
        memset(world.hot, 0, sizeof(world.hot));
        if (world.scenario->heat != NULL) {
            world.scenario->heat(world.hot);
        }
        int runs = run_exhaustively(scenarios[at]);
        run_randomly(scenarios[at]);
        (void)printf("%s: %d orders of the search, %d random\n", scenarios[at]->name, runs, scenarios[at]->seeds);
        (void)fflush(stdout);
    }
    scenario_tear_down();
    for (int number = 0; number < ACTORS_MOST; number++) {
        free(world.actors[number].stack);
    }
    free(world.way);
    return 0;
}
