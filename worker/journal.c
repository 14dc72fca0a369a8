#include "worker/journal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "worker/journal_front.h"
#include "worker/journal_reader.h"
#include "worker/worker_state.h"
#include "worker/worker_wake.h"

enum { PIECE_BYTES_MOST = 80 << 20 };

#define JOURNAL_OF(pointer, member) ((struct journal *)(void *)((char *)(pointer)-offsetof(struct journal, member)))

/* The master marks a seat when it has reaped its worker. */
static bool is_alive(const void *context, int32_t pid) {
    const struct shm_map *map = context;
    for (uint32_t i = 0; i < map->header->seat_count; i++) {
        const struct shm_seat_sh *seat = shm_seat(map, i);
        if (atomic_load(&seat->pid) == pid) {
            uint32_t state = atomic_load(&seat->state);
            return state == SHM_SEAT_ASSIGNED || state == SHM_SEAT_LIVE || state == SHM_SEAT_DRAINING;
        }
    }
    return false;
}

static void on_progress(struct loop_task *task) { journal_go_on(JOURNAL_OF(task, progress)->worker); }

void journal_open(struct worker *worker) {
    struct journal *journal = calloc(1, sizeof(*journal));
    CHECK(journal != NULL);
    if (!shm_journal_open(&journal->shared, worker->heritage->journal_fd, getpid(), is_alive, worker->map)) {
        LOG(LOG_ERROR, "journal_unusable", log_text("why", strerror(errno)));
        free(journal);
        return;
    }
    journal->worker = worker;
    journal->progress.run = on_progress;
    buffer_init(&journal->piece, PIECE_BYTES_MOST);
    worker->journal = journal;
}

void journal_go_on(struct worker *worker) {
    if (worker->journal != NULL) {
        journal_reader_go_on_all(worker->journal);
        journal_front_go_on_all(worker->journal);
    }
}

void journal_keep_up(struct worker *worker, int64_t now_mono_ns) {
    if (worker->journal != NULL) {
        journal_go_on(worker);
        shm_journal_sweep(&worker->journal->shared, now_mono_ns);
    }
}

struct shm_journal_id journal_stream_of(const struct request *request) {
    const struct shm_journal_id none = {SHM_JOURNAL_NO_ROW, 0};
    return request->fed_by != NULL   ? journal_front_stream(request->fed_by)
           : request->reader != NULL ? journal_reader_stream(request->reader)
                                     : none;
}

void journal_cancel_stream_of(const struct request *request) {
    struct journal *journal = request->worker->journal;
    struct shm_journal_id stream = journal_stream_of(request);
    if (stream.row != SHM_JOURNAL_NO_ROW) {
        shm_journal_cancel(&journal->shared, stream);
        journal_wake(journal, shm_journal_seat_of(&journal->shared, stream));
    }
}

void journal_wake(struct journal *journal, uint32_t seat) {
    if (seat == journal->worker->heritage->seat) {
        loop_defer(journal->worker->loop, &journal->progress);
    } else {
        worker_wake_seat(journal->worker, seat);
    }
}
