#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "admin/admin_jobs.h"

#include <poll.h>
#include <semaphore.h>

enum { NUMBERS = 200 };

struct count_job {
    struct job job; /* first */
    int number;
    bool ran;
};

struct lane {
    sem_t gate;
    bool has_gate;
    int order[NUMBERS];
    int count;
};

static void on_run(struct job *job, void *context) {
    struct lane *lane = context;
    struct count_job *mine = (struct count_job *)(void *)job;
    if (lane->has_gate) {
        (void)sem_wait(&lane->gate);
    }
    mine->ran = true;
    lane->order[lane->count++] = mine->number;
}

/* Waits for one job to come back. */
static struct count_job *take(struct jobs *jobs) {
    struct job *job = jobs_take_done(jobs);
    while (job == NULL) {
        struct pollfd readable = {.fd = jobs_descriptor(jobs), .events = POLLIN};
        assert_int_equal(poll(&readable, 1, 10000), 1);
        job = jobs_take_done(jobs);
    }
    return (struct count_job *)(void *)job;
}

static void wait_until_begun(struct count_job *job) {
    while (!atomic_load(&job->job.begun)) {
        (void)poll(NULL, 0, 1);
    }
}

static void test_a_lane_keeps_the_order(void **state) {
    static struct lane lanes[2];
    static struct count_job mine[NUMBERS];
    void *contexts[] = {&lanes[0], &lanes[1]};
    struct jobs *jobs = jobs_new(contexts, 2);
    (void)state;
    assert_non_null(jobs);
    for (int i = 0; i < NUMBERS; i++) {
        mine[i] = (struct count_job){.job = {.run = on_run}, .number = i};
        assert_true(jobs_submit(jobs, i % 2, &mine[i].job));
    }
    for (int i = 0; i < NUMBERS; i++) {
        assert_true(take(jobs)->ran);
    }
    assert_null(jobs_take_done(jobs));
    for (int i = 0; i < NUMBERS / 2; i++) {
        assert_int_equal(lanes[0].order[i], 2 * i);
        assert_int_equal(lanes[1].order[i], 2 * i + 1);
    }
    jobs_free(jobs);
}

static void test_what_is_abandoned_before_it_began_never_runs(void **state) {
    struct lane lane = {.has_gate = true};
    void *contexts[] = {&lane};
    struct count_job begun = {.job = {.run = on_run}, .number = 1};
    struct count_job waiting = {.job = {.run = on_run}, .number = 2};
    (void)state;
    (void)sem_init(&lane.gate, 0, 0);
    struct jobs *jobs = jobs_new(contexts, 1);
    assert_true(jobs_submit(jobs, 0, &begun.job));
    assert_true(jobs_submit(jobs, 0, &waiting.job));
    wait_until_begun(&begun);
    jobs_abandon(&begun.job);
    jobs_abandon(&waiting.job);
    (void)sem_post(&lane.gate);
    assert_ptr_equal(take(jobs), &begun);
    assert_ptr_equal(take(jobs), &waiting);
    assert_true(begun.ran);
    assert_false(waiting.ran);
    jobs_free(jobs);
    (void)sem_destroy(&lane.gate);
}

static void test_a_full_lane_refuses(void **state) {
    static struct count_job mine[JOBS_WAITING_MOST + 2];
    static struct lane lane;
    void *contexts[] = {&lane};
    (void)state;
    lane = (struct lane){.has_gate = true};
    (void)sem_init(&lane.gate, 0, 0);
    struct jobs *jobs = jobs_new(contexts, 1);
    for (int i = 0; i < JOBS_WAITING_MOST + 2; i++) {
        mine[i] = (struct count_job){.job = {.run = on_run}};
    }
    assert_true(jobs_submit(jobs, 0, &mine[0].job));
    wait_until_begun(&mine[0]);
    for (int i = 1; i <= JOBS_WAITING_MOST; i++) {
        assert_true(jobs_submit(jobs, 0, &mine[i].job));
        jobs_abandon(&mine[i].job);
    }
    assert_false(jobs_submit(jobs, 0, &mine[JOBS_WAITING_MOST + 1].job));
    (void)sem_post(&lane.gate);
    for (int i = 0; i <= JOBS_WAITING_MOST; i++) {
        (void)take(jobs);
    }
    jobs_free(jobs);
    (void)sem_destroy(&lane.gate);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_lane_keeps_the_order),
        cmocka_unit_test(test_what_is_abandoned_before_it_began_never_runs),
        cmocka_unit_test(test_a_full_lane_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
