#include "worker/journal_front.h"

#include <stdlib.h>

#include "base/clock.h"
#include "worker/settle.h"
#include "worker/worker_state.h"

enum {
    EVENT_BYTES_MOST = 17 << 20, /* as large as a translation may make one */
    HEADER_BYTES_MOST = 4096,
    BEHIND_BYTES_NOTED = 16 << 10, /* readers so far behind are asked to say when they have gone on */
};

/* What is asked of the client after it may have left: by its answer, and by retries. */
static const char *const kept_names[] = {"origin", "anthropic-version", "anthropic-beta", "openai-beta"};

enum { KEPT_HEADERS = sizeof(kept_names) / sizeof(kept_names[0]) };

struct journal_front {
    struct front front; /* first */
    struct journal *journal;
    struct journal_front *next;
    struct journal_front *previous;
    struct request *request; /* whose answer it is */
    struct request *carrier; /* of the first client; NULL once it has left */
    struct shm_journal_writer writer;
    struct shm_once once;
    struct sse_splitter splitter;
    bool has_ids;
    bool ended;
    struct buffer kept[KEPT_HEADERS];
};

static struct journal_front *front_of(const struct front *front) { return (struct journal_front *)(void *)front; }

static struct front *client_of(const struct journal_front *front) {
    return front->carrier != NULL ? front->carrier->front : NULL;
}

static uint64_t keep_bytes(const struct journal_front *front) {
    return (uint64_t)front->journal->worker->conf->streams.resume_buffer_bytes;
}

static void wake_readers(struct journal_front *front) {
    uint32_t seats[SHM_JOURNAL_READERS];
    int count = shm_journal_take_waiting(&front->journal->shared, &front->writer, seats);
    for (int i = 0; i < count; i++) {
        journal_wake(front->journal, seats[i]);
    }
}

/* --- the front's driver --- */

static struct span get_header(const struct front *front, const char *name) {
    const struct journal_front *journal_front = front_of(front);
    const struct front *client = client_of(journal_front);
    if (client != NULL) {
        return client->driver->header(client, name);
    }
    for (size_t i = 0; i < KEPT_HEADERS; i++) {
        if (strcmp(name, kept_names[i]) == 0) {
            return buffer_span(&journal_front->kept[i]);
        }
    }
    return SPAN_EMPTY;
}

static bool header_differs(const struct front *front, const char *name) {
    const struct front *client = client_of(front_of(front));
    return client != NULL && client->driver->header_differs(client, name);
}

static const char *reply_value(const struct reply *reply, const char *name) {
    for (int i = 0; i < reply->header_count; i++) {
        if (strcmp(reply->headers[i].name, name) == 0) {
            return reply->headers[i].value;
        }
    }
    return NULL;
}

static void note_answer(struct journal_front *front, const struct reply *reply, bool is_whole) {
    shm_journal_answer_is(&front->journal->shared, &front->writer, (uint32_t)reply->status, is_whole,
                          reply_value(reply, "x-tollgate-model"), reply_value(reply, "x-tollgate-upstream"),
                          reply_value(reply, "x-tollgate-cost-usd"));
}

static void start(struct front *front, const struct reply *reply) {
    struct journal_front *journal_front = front_of(front);
    struct front *client = client_of(journal_front);
    note_answer(journal_front, reply, false);
    if (client != NULL) {
        journal_front->carrier->head_sent = true;
        client->driver->start(client, reply);
    }
    wake_readers(journal_front);
}

/* Lines that name an event of the upstream's would win over ours. */
static void append_without_ids(struct buffer *out, struct span raw) {
    while (raw.len != 0) {
        const char *end = memchr(raw.base, '\n', raw.len);
        size_t len = end != NULL ? (size_t)(end - raw.base) + 1 : raw.len;
        struct span line = span_of(raw.base, len);
        bool is_id = span_starts_with(line, "id:") || span_starts_with(line, "id\n") || span_starts_with(line, "id\r");
        if (!is_id) {
            buffer_append_span(out, line);
        }
        raw = span_skip(raw, len);
    }
}

static void append_event(struct journal_front *front, struct buffer *out, struct span raw) {
    if (!front->has_ids) {
        buffer_append_span(out, raw);
        return;
    }
    buffer_format(out, "id: %s:%u\n", front->request->id, front->writer.count + 1);
    if (span_starts_with(raw, "data:")) {
        buffer_append_span(out, raw);
    } else {
        append_without_ids(out, raw);
    }
}

/* A browser that is cut off before the first event comes back by itself, and must not ask anew: it is told where it is
 * as soon as it is told anything. */
static void append_comment(struct journal_front *front, struct buffer *out, struct span raw) {
    if (front->has_ids && front->writer.count == 0) {
        buffer_format(out, "id: %s:0\n", front->request->id);
    }
    buffer_append_span(out, raw);
}

/* Comments go to whoever is there; what an event is, is kept. */
static void write_bytes(struct front *front, struct span bytes) {
    struct journal_front *journal_front = front_of(front);
    struct buffer *out = &journal_front->journal->piece;
    struct sse_event event;
    buffer_clear(out);
    while (sse_next(&journal_front->splitter, &bytes, &event) == SSE_EVENT) {
        size_t before = out->len;
        if (!event.has_data) {
            append_comment(journal_front, out, event.raw);
            continue;
        }
        append_event(journal_front, out, event.raw);
        shm_journal_append(&journal_front->journal->shared, &journal_front->writer, span_skip(buffer_span(out), before),
                           keep_bytes(journal_front));
    }
    struct front *client = client_of(journal_front);
    if (client != NULL && out->len != 0) {
        client->driver->write(client, buffer_span(out));
    }
    wake_readers(journal_front);
}

static void cut_links(struct journal_front *front) {
    front->request->front = NULL;
    front->front.request = NULL;
    front->ended = true;
}

static void end_journal(struct journal_front *front, bool is_broken) {
    struct token_counts tokens;
    int64_t owed_nusd = settle_owed(front->request, &tokens);
    int64_t window_ns = front->journal->worker->conf->streams.resume_window_ms * NS_PER_MS;
    shm_journal_owes(&front->journal->shared, &front->writer, &tokens, owed_nusd);
    shm_journal_end(&front->journal->shared, &front->writer, is_broken, clock_mono_ns() + window_ns);
    wake_readers(front);
}

static void end_stream(struct front *front, bool whole) {
    struct journal_front *journal_front = front_of(front);
    struct front *client = client_of(journal_front);
    end_journal(journal_front, !whole);
    if (client != NULL) {
        client->driver->end(client, whole);
        request_post(journal_front->carrier, REQUEST_settle);
    }
    cut_links(journal_front);
}

static void answer(struct front *front, const struct reply *reply, struct span body) {
    struct journal_front *journal_front = front_of(front);
    struct front *client = client_of(journal_front);
    note_answer(journal_front, reply, true);
    shm_journal_append(&journal_front->journal->shared, &journal_front->writer, body, keep_bytes(journal_front));
    end_journal(journal_front, false);
    if (client != NULL) {
        client->driver->answer(client, reply, body);
        request_post(journal_front->carrier, REQUEST_settle);
    }
    cut_links(journal_front);
}

static size_t pending_bytes(const struct front *front) {
    struct journal_front *journal_front = front_of(front);
    struct shm_journal *shared = &journal_front->journal->shared;
    const struct front *client = client_of(journal_front);
    size_t pending = client != NULL ? client->driver->pending_bytes(client) : 0;
    uint64_t behind = shm_journal_behind_bytes(shared, &journal_front->writer, false);
    if (behind >= BEHIND_BYTES_NOTED) {
        behind = shm_journal_behind_bytes(shared, &journal_front->writer, true);
    }
    return behind > pending ? (size_t)behind : pending;
}

static const struct front_driver journal_driver = {.header = get_header,
                                                   .header_differs = header_differs,
                                                   .answer = answer,
                                                   .start = start,
                                                   .write = write_bytes,
                                                   .end = end_stream,
                                                   .pending_bytes = pending_bytes};

/* --- life --- */

static void link_front(struct journal_front *front) {
    front->next = front->journal->fronts;
    if (front->next != NULL) {
        front->next->previous = front;
    }
    front->journal->fronts = front;
}

static void unlink_front(struct journal_front *front) {
    *(front->previous != NULL ? &front->previous->next : &front->journal->fronts) = front->next;
    if (front->next != NULL) {
        front->next->previous = front->previous;
    }
}

static void keep_headers(struct journal_front *front, const struct front *client) {
    for (size_t i = 0; i < KEPT_HEADERS; i++) {
        struct span value = client->driver->header(client, kept_names[i]);
        buffer_init(&front->kept[i], HEADER_BYTES_MOST);
        if (value.len != 0) {
            buffer_append_span(&front->kept[i], value);
        }
    }
}

bool journal_front_take(struct request *request, const struct shm_journal_writer *writer, bool has_ids,
                        struct shm_once once) {
    struct journal_front *front = calloc(1, sizeof(*front));
    struct request *carrier = front != NULL ? request_split(request) : NULL;
    if (carrier == NULL) {
        free(front);
        return false;
    }
    front->front = (struct front){.driver = &journal_driver, .request = request};
    front->journal = request->worker->journal;
    front->request = request;
    front->carrier = carrier;
    front->writer = *writer;
    front->once = once;
    front->has_ids = has_ids;
    sse_init(&front->splitter, EVENT_BYTES_MOST);
    keep_headers(front, carrier->front);
    carrier->fed_by = front;
    request->front = &front->front;
    request->journal = front;
    link_front(front);
    return true;
}

void journal_front_admitted(struct request *request) {
    const struct journal_front *front = request->journal;
    struct front *client = front != NULL && front->has_ids ? client_of(front) : NULL;
    if (client != NULL && client->driver->on_resumable != NULL) {
        client->driver->on_resumable(client);
    }
}

struct shm_journal_id journal_front_stream(const struct journal_front *front) {
    return front->writer.id;
}

void journal_front_settled(struct request *request, bool is_billed) {
    struct journal_front *front = request->journal;
    if (front != NULL && !is_billed) {
        shm_journal_expire(&front->journal->shared, &front->writer);
        shm_once_release(&front->journal->shared, front->once, front->writer.id);
    }
}

void journal_front_close(struct request *request) {
    struct journal_front *front = request->journal;
    if (front == NULL) {
        return;
    }
    if (!front->ended) {
        end_stream(&front->front, false);
    }
    if (front->carrier != NULL) {
        front->carrier->fed_by = NULL;
    }
    request->journal = NULL;
    unlink_front(front);
    sse_fini(&front->splitter);
    for (size_t i = 0; i < KEPT_HEADERS; i++) {
        buffer_fini(&front->kept[i]);
    }
    free(front);
}

void journal_front_leave(struct request *carrier) {
    struct journal_front *front = carrier->fed_by;
    if (front != NULL) {
        carrier->fed_by = NULL;
        front->carrier = NULL;
        journal_front_drained(front);
    }
}

void journal_front_drained(struct journal_front *front) {
    if (!front->ended) {
        request_drained(front->request);
    }
}

/* Its clients want no more of it. They learn so before the request is settled, which is when it is known what was used.
 */
static void cancel(struct journal_front *front) {
    request_cancel(front->request);
    end_stream(&front->front, false);
}

void journal_front_go_on_all(struct journal *journal) {
    for (struct journal_front *front = journal->fronts; front != NULL; front = front->next) {
        if (!front->ended && shm_journal_is_cancelled(&journal->shared, front->writer.id)) {
            cancel(front);
        }
        journal_front_drained(front);
    }
}
