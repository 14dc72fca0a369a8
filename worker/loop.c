#include <h2o.h>

#include "worker/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/check.h"
#include "base/clock.h"

enum { EVENTS_A_WAIT = 256, HEAP_FIRST = 256 };

struct loop {
    h2o_evloop_t *h2o;
    h2o_socket_t *epoll_socket;
    int epoll_fd;
    struct epoll_event events[EVENTS_A_WAIT];
    int event_count;          /* of the batch being delivered */
    struct loop_timer **heap; /* a binary heap by deadline; heap[0] is not used */
    size_t heap_count;
    size_t heap_size;
    struct loop_task *first_task;
    struct loop_task **last_task;
    h2o_timeout_t soon; /* of 0 ms: how timers and tasks get their turn inside h2o_evloop_run */
    h2o_timeout_entry_t soon_entry;
};

#define LOOP_OF_ENTRY(entry) ((struct loop *)(void *)((char *)(entry)-offsetof(struct loop, soon_entry)))

static void run_tasks(struct loop *loop) {
    while (loop->first_task != NULL) {
        struct loop_task *task = loop->first_task;
        loop->first_task = task->next;
        if (loop->first_task == NULL) {
            loop->last_task = &loop->first_task;
        }
        task->queued = false;
        task->next = NULL;
        task->run(task);
    }
}

static void deliver_events(struct loop *loop) {
    loop->event_count = epoll_wait(loop->epoll_fd, loop->events, EVENTS_A_WAIT, 0);
    for (int i = 0; i < loop->event_count; i++) {
        struct loop_watch *watch = loop->events[i].data.ptr;
        if (watch != NULL) {
            watch->on_event(watch, loop->events[i].events);
        }
    }
    loop->event_count = 0;
}

/* h2o's read callback of the epoll's own descriptor. Deferred work runs here as well as after the turn, so that what
 * upstreams sent leaves in this turn. */
static void on_epoll_readable(h2o_socket_t *socket, const char *error) {
    CHECK(error == NULL);
    struct loop *loop = socket->data;
    deliver_events(loop);
    run_tasks(loop);
}

static void fire_timers(struct loop *loop) {
    int64_t now_mono_ns = clock_mono_ns();
    while (loop->heap_count != 0 && loop->heap[1]->deadline_mono_ns <= now_mono_ns) {
        struct loop_timer *timer = loop->heap[1];
        loop_timer_clear(loop, timer);
        timer->on_fire(timer);
    }
}

/* h2o_timeout_cb */
static void on_soon(h2o_timeout_entry_t *entry) {
    struct loop *loop = LOOP_OF_ENTRY(entry);
    fire_timers(loop);
    run_tasks(loop);
}

struct loop *loop_new(void) {
    struct loop *loop = calloc(1, sizeof(*loop));
    CHECK(loop != NULL);
    loop->h2o = h2o_evloop_create();
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    CHECK(loop->epoll_fd >= 0);
    loop->heap_size = HEAP_FIRST;
    loop->heap = calloc(loop->heap_size, sizeof(*loop->heap));
    CHECK(loop->heap != NULL);
    loop->last_task = &loop->first_task;
    h2o_timeout_init(loop->h2o, &loop->soon, 0);
    loop->soon_entry.cb = on_soon;
    loop->epoll_socket = h2o_evloop_socket_create(loop->h2o, loop->epoll_fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->epoll_socket->data = loop;
    h2o_socket_read_start(loop->epoll_socket, on_epoll_readable);
    return loop;
}

h2o_evloop_t *loop_h2o(struct loop *loop) { return loop->h2o; }

static bool is_timer_due(const struct loop *loop) {
    return loop->heap_count != 0 && loop->heap[1]->deadline_mono_ns <= clock_mono_ns();
}

static int wait_ms(const struct loop *loop, int most_ms) {
    if (loop->heap_count == 0) {
        return most_ms;
    }
    int64_t left_ns = loop->heap[1]->deadline_mono_ns - clock_mono_ns();
    if (left_ns <= 0) {
        return 0;
    }
    int64_t left_ms = (left_ns + NS_PER_MS - 1) / NS_PER_MS;
    return left_ms < most_ms ? (int)left_ms : most_ms;
}

/* Whoever calls into libh2o must do so inside h2o_evloop_run: a write begun between two runs may leave its socket
 * polled for writing with no write in hand, and libh2o 2.2.5 aborts when it becomes writable. So timers and tasks run
 * from a timeout of libh2o's. Linked anew each time, because its clock is the wall clock and may have stepped back. */
static void come_soon(struct loop *loop) {
    h2o_timeout_unlink(&loop->soon_entry);
    h2o_timeout_link(loop->h2o, &loop->soon, &loop->soon_entry);
}

void loop_run(struct loop *loop, int most_ms) {
    if (loop->first_task != NULL || is_timer_due(loop)) {
        come_soon(loop);
    }
    (void)h2o_evloop_run(loop->h2o, wait_ms(loop, most_ms));
}

bool loop_watch_set(struct loop *loop, struct loop_watch *watch, int fd, uint32_t epoll_events) {
    struct epoll_event event = {.events = epoll_events, .data = {.ptr = watch}};
    if (watch->fd == fd) {
        return epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0;
    }
    CHECK(watch->fd == -1);
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        return false;
    }
    watch->fd = fd;
    return true;
}

void loop_watch_clear(struct loop *loop, struct loop_watch *watch) {
    if (watch->fd == -1) {
        return;
    }
    /* Fails when the descriptor was closed before; closing took it off the epoll. */
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->fd = -1;
    for (int i = 0; i < loop->event_count; i++) {
        if (loop->events[i].data.ptr == watch) {
            loop->events[i].data.ptr = NULL;
        }
    }
}

static void put_at(struct loop *loop, struct loop_timer *timer, size_t place) {
    loop->heap[place] = timer;
    timer->heap_place = place;
}

static void sift_up(struct loop *loop, struct loop_timer *timer, size_t place) {
    while (place > 1 && loop->heap[place / 2]->deadline_mono_ns > timer->deadline_mono_ns) {
        put_at(loop, loop->heap[place / 2], place);
        place /= 2;
    }
    put_at(loop, timer, place);
}

static void sift_down(struct loop *loop, struct loop_timer *timer, size_t place) {
    for (;;) {
        size_t child = place * 2;
        if (child > loop->heap_count) {
            break;
        }
        if (child < loop->heap_count && loop->heap[child + 1]->deadline_mono_ns < loop->heap[child]->deadline_mono_ns) {
            child++;
        }
        if (loop->heap[child]->deadline_mono_ns >= timer->deadline_mono_ns) {
            break;
        }
        put_at(loop, loop->heap[child], place);
        place = child;
    }
    put_at(loop, timer, place);
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t deadline_mono_ns) {
    loop_timer_clear(loop, timer);
    timer->deadline_mono_ns = deadline_mono_ns;
    if (loop->heap_count + 2 > loop->heap_size) {
        loop->heap_size *= 2;
        loop->heap = reallocarray(loop->heap, loop->heap_size, sizeof(*loop->heap));
        CHECK(loop->heap != NULL);
    }
    sift_up(loop, timer, ++loop->heap_count);
}

void loop_timer_clear(struct loop *loop, struct loop_timer *timer) {
    size_t place = timer->heap_place;
    if (place == 0) {
        return;
    }
    timer->heap_place = 0;
    struct loop_timer *last = loop->heap[loop->heap_count--];
    if (last == timer) {
        return;
    }
    sift_up(loop, last, place);
    sift_down(loop, last, last->heap_place);
}

void loop_defer(struct loop *loop, struct loop_task *task) {
    if (task->queued) {
        return;
    }
    task->queued = true;
    task->next = NULL;
    *loop->last_task = task;
    loop->last_task = &task->next;
    if (!h2o_timeout_is_linked(&loop->soon_entry)) {
        h2o_timeout_link(loop->h2o, &loop->soon, &loop->soon_entry);
    }
}

void loop_task_cancel(struct loop *loop, struct loop_task *task) {
    if (!task->queued) {
        return;
    }
    struct loop_task **at = &loop->first_task;
    while (*at != task) {
        at = &(*at)->next;
    }
    *at = task->next;
    if (loop->last_task == &task->next) {
        loop->last_task = at;
    }
    task->queued = false;
    task->next = NULL;
}
