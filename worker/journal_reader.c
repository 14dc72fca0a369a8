#include "worker/journal_reader.h"

#include <stdlib.h>

#include "base/clock.h"
#include "worker/reply.h"
#include "worker/worker_state.h"

enum { PIECE_BYTES = 32 << 10, PENDING_BYTES_HIGH = 64 << 10 };

struct journal_reader {
    struct journal_reader *next;
    struct journal_reader *previous;
    struct journal *journal;
    struct request *request;
    struct shm_journal_cursor cursor;
    struct verdict missing;
    bool has_written;
};

static const char FOLLOWING[] = ": keepalive\n\n";

struct verdict journal_reader_attach(struct request *request, struct shm_journal_id stream, uint32_t after,
                                     const struct verdict *missing) {
    struct journal *journal = request->worker->journal;
    struct journal_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return verdict_of(ERROR_overloaded);
    }
    enum shm_journal_attach result =
        shm_journal_attach(&journal->shared, stream, after, journal->worker->heritage->seat, &reader->cursor);
    if (result != SHM_JOURNAL_ATTACHED) {
        free(reader);
        return result == SHM_JOURNAL_TOO_MANY
                   ? verdict_with(ERROR_overloaded, NULL, "Too many clients read this answer already. Try again later.")
                   : *missing;
    }
    reader->journal = journal;
    reader->request = request;
    reader->missing = *missing;
    reader->next = journal->readers;
    if (reader->next != NULL) {
        reader->next->previous = reader;
    }
    journal->readers = reader;
    request->reader = reader;
    return verdict_of(ERROR_NONE);
}

void journal_reader_rewind(struct request *request) {
    shm_journal_rewind(&request->reader->journal->shared, &request->reader->cursor);
}

struct shm_journal_id journal_reader_stream(const struct journal_reader *reader) {
    return reader->cursor.id;
}

void journal_reader_close(struct request *request) {
    struct journal_reader *reader = request->reader;
    if (reader == NULL) {
        return;
    }
    struct journal *journal = reader->journal;
    uint32_t writer_seat = shm_journal_seat_of(&journal->shared, reader->cursor.id);
    if (shm_journal_detach(&journal->shared, &reader->cursor)) {
        journal_wake(journal, writer_seat);
    }
    *(reader->previous != NULL ? &reader->previous->next : &journal->readers) = reader->next;
    if (reader->next != NULL) {
        reader->next->previous = reader->previous;
    }
    request->reader = NULL;
    free(reader);
}

/* --- sending --- */

static void give_up(struct journal_reader *reader, enum shm_journal_state state) {
    if (state == SHM_JOURNAL_DEAD || reader->request->head_sent) {
        request_fail(reader->request,
                     verdict_with(ERROR_overloaded, NULL,
                                  "The answer was cut off inside the service and cannot be given any further."));
    } else {
        request_fail(reader->request, reader->missing);
    }
}

static enum shm_journal_read read_piece(struct journal_reader *reader) {
    struct journal *journal = reader->journal;
    bool wake_writer = false;
    buffer_clear(&journal->piece);
    enum shm_journal_read result =
        shm_journal_read(&journal->shared, &reader->cursor, &journal->piece, PIECE_BYTES, &wake_writer);
    if (wake_writer) {
        journal_wake(journal, shm_journal_seat_of(&journal->shared, reader->cursor.id));
    }
    return result;
}

static void give_whole(struct journal_reader *reader, const struct shm_journal_answer *answer) {
    struct request *request = reader->request;
    struct reply reply;
    if (read_piece(reader) != SHM_JOURNAL_SOME) {
        give_up(reader, SHM_JOURNAL_GONE);
        return;
    }
    reply_begin(request, &reply, (int)answer->status);
    reply_add(&reply, "content-type", "application/json");
    reply_add(&reply, "x-tollgate-model", answer->model[0] != '\0' ? answer->model : NULL);
    reply_add(&reply, "x-tollgate-upstream", answer->upstream[0] != '\0' ? answer->upstream : NULL);
    reply_add(&reply, "x-tollgate-cost-usd", answer->cost[0] != '\0' ? answer->cost : NULL);
    request->front->driver->answer(request->front, &reply, buffer_span(&reader->journal->piece));
    request_post(request, REQUEST_settle);
}

static void send_head(struct journal_reader *reader, const struct shm_journal_answer *answer) {
    struct request *request = reader->request;
    int64_t heartbeat_ns = request->worker->conf->streams.heartbeat_ms * NS_PER_MS;
    reply_start_stream_of(request, answer->model[0] != '\0' ? answer->model : NULL,
                          answer->upstream[0] != '\0' ? answer->upstream : NULL);
    request->last_write_mono_ns = clock_mono_ns();
    loop_timer_set(request->worker->loop, &request->heartbeat, request->last_write_mono_ns + heartbeat_ns);
}

static void write_client(struct journal_reader *reader, struct span bytes) {
    struct request *request = reader->request;
    request->front->driver->write(request->front, bytes);
    request->last_write_mono_ns = clock_mono_ns();
    reader->has_written = true;
}

static void end_stream(struct request *request, bool is_broken) {
    request->front->driver->end(request->front, !is_broken);
    request_post(request, REQUEST_settle);
}

/* One piece of a stream. False: there is nothing to do until somebody says so. */
static bool send_piece(struct journal_reader *reader, const struct shm_journal_answer *answer,
                       enum shm_journal_state state) {
    struct request *request = reader->request;
    if (!request->head_sent) {
        send_head(reader, answer);
    }
    if (request->front->driver->pending_bytes(request->front) > PENDING_BYTES_HIGH) {
        return false;
    }
    switch (read_piece(reader)) {
    case SHM_JOURNAL_SOME:
        write_client(reader, buffer_span(&reader->journal->piece));
        return true;
    case SHM_JOURNAL_NOTHING:
        if (state == SHM_JOURNAL_ENDED) {
            end_stream(request, answer->is_broken);
        } else if (!reader->has_written) {
            write_client(reader, SPAN_LITERAL(FOLLOWING)); /* takes the head along: the client learns that it is back */
        }
        return false;
    default:
        give_up(reader, SHM_JOURNAL_GONE);
        return false;
    }
}

/* Looks once. False: there was nothing to do. */
static bool step(struct journal_reader *reader) {
    struct shm_journal *shared = &reader->journal->shared;
    struct shm_journal_answer answer;
    enum shm_journal_state state = shm_journal_state_of(shared, reader->cursor.id);
    if (state == SHM_JOURNAL_GONE || state == SHM_JOURNAL_DEAD ||
        !shm_journal_answer_of(shared, reader->cursor.id, &answer)) {
        give_up(reader, state);
        return false;
    }
    if (answer.status == 0 || (answer.is_whole && state != SHM_JOURNAL_ENDED)) {
        return false;
    }
    if (answer.is_whole) {
        give_whole(reader, &answer);
        return false;
    }
    return send_piece(reader, &answer, state);
}

static bool may_go_on(const struct request *request) {
    return request->state == REQUEST_follow && request->front != NULL && !request_is_posted(request);
}

/* After the note that it waits a reader looks once more: what came in between would not wake it. */
void journal_reader_go_on(struct request *request) {
    struct journal_reader *reader = request->reader;
    bool noted = false;
    while (reader != NULL && may_go_on(request)) {
        if (step(reader)) {
            noted = false;
            continue;
        }
        if (noted) {
            return;
        }
        shm_journal_wait(&reader->journal->shared, &reader->cursor);
        noted = true;
    }
}

void journal_reader_go_on_all(struct journal *journal) {
    for (struct journal_reader *reader = journal->readers; reader != NULL; reader = reader->next) {
        journal_reader_go_on(reader->request);
    }
}
