#include "worker/queue.h"

#include "base/clock.h"
#include "shm/shm_queue.h"
#include "worker/worker_state.h"
#include "worker/worker_wake.h"

#define LOOK_AGAIN_NS NS_PER_S

int64_t queue_count_before(const struct request *request) {
    if (request->queue.place < 0 && request->key.max_wait_ms <= 0) {
        return 0;
    }
    return shm_queue_count_before(request->worker->map, request->key.tenant_index, request->key_index,
                                  request->queue.place);
}

static bool take_place(struct request *request) {
    struct worker *worker = request->worker;
    request->queue.place =
        shm_queue_join(worker->map, request->key.tenant_index, request->key_index, worker->heritage->seat);
    request->queue.since_mono_ns = clock_mono_ns();
    return request->queue.place >= 0;
}

bool queue_may_wait(struct request *request, const struct verdict *verdict) {
    int64_t now_mono_ns = clock_mono_ns();
    int64_t max_wait_ns = request->key.max_wait_ms * NS_PER_MS;
    if (max_wait_ns <= 0 || (request->queue.place < 0 && !take_place(request))) {
        return false;
    }
    int64_t left_ns = request->queue.since_mono_ns + max_wait_ns - now_mono_ns;
    int64_t room_ns = verdict->retry_after_ms * NS_PER_MS;
    request->queue.room_mono_ns = now_mono_ns + room_ns;
    bool is_first = shm_queue_is_first(request->worker->map, request->queue.place);
    return left_ns > 0 && (!is_first || verdict->shortage == SHORT_OF_CONCURRENT || room_ns <= left_ns);
}

int64_t queue_next_look_mono_ns(const struct request *request) {
    int64_t until = request->queue.since_mono_ns + request->key.max_wait_ms * NS_PER_MS;
    int64_t look = clock_mono_ns() + LOOK_AGAIN_NS;
    if (shm_queue_is_first(request->worker->map, request->queue.place) && request->queue.room_mono_ns < look) {
        look = request->queue.room_mono_ns;
    }
    return look < until ? look : until;
}

int64_t queue_waited_ns(const struct request *request) {
    const struct request_queueing *queue = &request->queue;
    return queue->place >= 0 ? clock_mono_ns() - queue->since_mono_ns : queue->waited_ns;
}

static void wake_one(void *context, uint32_t seat) { worker_wake_seat(context, seat); }

void queue_wake(const struct worker *worker, uint32_t tenant_index) {
    shm_queue_each(worker->map, tenant_index, wake_one, (void *)worker);
}

void queue_leave(struct request *request) {
    if (request->queue.place >= 0) {
        request->queue.waited_ns = queue_waited_ns(request);
        shm_queue_leave(request->worker->map, request->queue.place);
        request->queue.place = -1;
        queue_wake(request->worker, request->key.tenant_index);
    }
}

void queue_look_again(struct worker *worker) {
    for (struct request *request = worker->requests; request != NULL; request = request->next) {
        if (request->state == REQUEST_queue) {
            request_post(request, REQUEST_admit);
        }
    }
}
