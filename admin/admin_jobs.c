#include "admin/admin_jobs.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct job_list {
    struct job *first;
    struct job **last;
    int count;
};

struct lane {
    struct jobs *jobs;
    void *context;
    pthread_t thread;
    pthread_cond_t wake;
    struct job_list waiting;
};

struct jobs {
    pthread_mutex_t lock; /* over all lists; held for a few instructions only */
    struct lane lanes[JOB_LANES_MOST];
    int lane_count;
    struct job_list done;
    int event_fd;
    bool ending;
};

static void list_init(struct job_list *list) { *list = (struct job_list){.last = &list->first}; }

static void list_add(struct job_list *list, struct job *job) {
    job->next = NULL;
    *list->last = job;
    list->last = &job->next;
    list->count++;
}

static struct job *list_take(struct job_list *list) {
    struct job *job = list->first;
    if (job == NULL) {
        return NULL;
    }
    list->first = job->next;
    list->count--;
    if (list->first == NULL) {
        list->last = &list->first;
    }
    job->next = NULL;
    return job;
}

static void wake_loop(const struct jobs *jobs) {
    const uint64_t one = 1;
    ssize_t written = write(jobs->event_fd, &one, sizeof(one));
    (void)written; /* refused only when the count is full: then the loop is awake anyway */
}

/* The next job of the lane, or NULL when the threads shall end. Called with the lock held. */
static struct job *wait_for_job(struct lane *lane) {
    while (!lane->jobs->ending && lane->waiting.first == NULL) {
        (void)pthread_cond_wait(&lane->wake, &lane->jobs->lock);
    }
    return lane->jobs->ending ? NULL : list_take(&lane->waiting);
}

static void *run_lane(void *argument) {
    struct lane *lane = argument;
    struct jobs *jobs = lane->jobs;
    (void)pthread_mutex_lock(&jobs->lock);
    for (struct job *job = wait_for_job(lane); job != NULL; job = wait_for_job(lane)) {
        (void)pthread_mutex_unlock(&jobs->lock);
        atomic_store(&job->begun, true);
        if (!atomic_load(&job->abandoned)) {
            job->run(job, lane->context);
        }
        (void)pthread_mutex_lock(&jobs->lock);
        list_add(&jobs->done, job);
        wake_loop(jobs);
    }
    (void)pthread_mutex_unlock(&jobs->lock);
    return NULL;
}

static bool start_lane(struct jobs *jobs, void *context) {
    struct lane *lane = &jobs->lanes[jobs->lane_count];
    lane->jobs = jobs;
    lane->context = context;
    list_init(&lane->waiting);
    (void)pthread_cond_init(&lane->wake, NULL);
    if (pthread_create(&lane->thread, NULL, run_lane, lane) != 0) {
        (void)pthread_cond_destroy(&lane->wake);
        return false;
    }
    jobs->lane_count++;
    return true;
}

struct jobs *jobs_new(void *const *contexts, int lane_count) {
    sigset_t all;
    sigset_t before;
    CHECK(lane_count <= JOB_LANES_MOST);
    struct jobs *jobs = calloc(1, sizeof(*jobs));
    CHECK(jobs != NULL);
    (void)pthread_mutex_init(&jobs->lock, NULL);
    list_init(&jobs->done);
    jobs->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    bool works = jobs->event_fd >= 0;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    for (int i = 0; i < lane_count && works; i++) {
        works = start_lane(jobs, contexts[i]);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!works) {
        jobs_free(jobs);
        return NULL;
    }
    return jobs;
}

int jobs_descriptor(const struct jobs *jobs) { return jobs->event_fd; }

bool jobs_submit(struct jobs *jobs, int lane, struct job *job) {
    CHECK(lane >= 0 && lane < jobs->lane_count);
    struct lane *to = &jobs->lanes[lane];
    (void)pthread_mutex_lock(&jobs->lock);
    bool room = to->waiting.count < JOBS_WAITING_MOST;
    if (room) {
        list_add(&to->waiting, job);
        (void)pthread_cond_signal(&to->wake);
    }
    (void)pthread_mutex_unlock(&jobs->lock);
    return room;
}

struct job *jobs_take_done(struct jobs *jobs) {
    uint64_t count = 0;
    ssize_t got = read(jobs->event_fd, &count, sizeof(count));
    (void)got; /* nothing to read is no news; the list tells */
    (void)pthread_mutex_lock(&jobs->lock);
    struct job *job = list_take(&jobs->done);
    (void)pthread_mutex_unlock(&jobs->lock);
    return job;
}

void jobs_abandon(struct job *job) { atomic_store(&job->abandoned, true); }

void jobs_free(struct jobs *jobs) {
    (void)pthread_mutex_lock(&jobs->lock);
    jobs->ending = true;
    for (int i = 0; i < jobs->lane_count; i++) {
        (void)pthread_cond_signal(&jobs->lanes[i].wake);
    }
    (void)pthread_mutex_unlock(&jobs->lock);
    for (int i = 0; i < jobs->lane_count; i++) {
        (void)pthread_join(jobs->lanes[i].thread, NULL);
        (void)pthread_cond_destroy(&jobs->lanes[i].wake);
    }
    (void)pthread_mutex_destroy(&jobs->lock);
    if (jobs->event_fd >= 0) {
        (void)close(jobs->event_fd);
    }
    free(jobs);
}
