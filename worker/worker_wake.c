#include "worker/worker_wake.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "worker/journal.h"
#include "worker/queue.h"
#include "worker/worker_state.h"

static void on_wake(struct loop_watch *watch, uint32_t events) {
    struct worker *worker = (struct worker *)(void *)((char *)watch - offsetof(struct worker, wake));
    uint64_t count = 0;
    (void)events;
    (void)!read(watch->fd, &count, sizeof(count));
    queue_look_again(worker);
    journal_go_on(worker);
}

void worker_wake_init(struct worker *worker) { worker->wake = (struct loop_watch){.on_event = on_wake, .fd = -1}; }

bool worker_wake_watch(struct worker *worker) {
    const struct heritage *heritage = worker->heritage;
    CHECK(heritage->seat < heritage->seat_wake_count);
    return loop_watch_set(worker->loop, &worker->wake, heritage->seat_wake_fds[heritage->seat], EPOLLIN);
}

void worker_wake_seat(const struct worker *worker, uint32_t seat) {
    uint64_t one = 1;
    if (seat < worker->heritage->seat_wake_count) {
        (void)!write(worker->heritage->seat_wake_fds[seat], &one, sizeof(one));
    }
}
