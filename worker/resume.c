#include "worker/resume.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/json_write.h"
#include "shm/shm_ids.h"
#include "worker/admit.h"
#include "worker/endpoints.h"
#include "worker/journal_front.h"
#include "worker/journal_reader.h"
#include "worker/query.h"
#include "worker/reply.h"
#include "worker/worker_state.h"

enum { ONCE_KEY_MOST = 255, EVENT_ID_BYTES = SHM_REQUEST_ID_BYTES + 16, NUMBER_BYTES_MOST = 24 };

static const char STREAM_PATH[] = "/v1/streams/";

/* What a request wants of the journal. */
struct wish {
    bool has_ids;
    bool is_once;
    uint64_t tag;
    uint8_t body_hash[SHM_JOURNAL_BODY_HASH_BYTES];
};

static struct span header_of(const struct request *request, const char *name) {
    return request->front->driver->header(request->front, name);
}

static bool is_event_source(const struct request *request) {
    return endpoint_number(request->endpoint) == SHM_ENDPOINT_STREAM;
}

static bool asks_resumable(const struct request *request) {
    struct span asked = span_trim(header_of(request, "x-tollgate-resume"));
    return is_event_source(request) || span_is(asked, "1") || span_is_nocase(asked, "true");
}

/* --- bodies --- */

static struct verdict missing_parameter(const char *name) {
    return verdict_with(ERROR_missing_field, name, "The query has no \"%s\".", name);
}

/* A number of JSON's, as far as this query needs them. */
static bool is_number(struct span text) {
    size_t digits = 0;
    size_t points = 0;
    for (size_t i = 0; i < text.len; i++) {
        digits += text.base[i] >= '0' && text.base[i] <= '9';
        points += text.base[i] == '.';
    }
    bool has_edges = text.len != 0 && text.base[0] != '.' && text.base[text.len - 1] != '.';
    bool leads_with_zero = text.len > 1 && text.base[0] == '0' && text.base[1] != '.';
    return has_edges && !leads_with_zero && points <= 1 && digits + points == text.len && text.len < NUMBER_BYTES_MOST;
}

static void write_message(struct json_writer *writer, const char *role, struct span encoded, struct buffer *text) {
    buffer_clear(text);
    query_decode(encoded, text);
    json_begin_object(writer, NULL);
    json_write_text(writer, "role", role);
    json_write_span(writer, "content", buffer_span(text));
    json_end_object(writer);
}

static struct verdict write_numbers(struct json_writer *writer, struct span query) {
    static const char *const names[] = {"max_tokens", "temperature", "top_p", "seed"};
    struct span value;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!query_find(query, names[i], &value)) {
            continue;
        }
        if (!is_number(value)) {
            return verdict_with(ERROR_invalid_value, names[i], "\"%s\" must be a number.", names[i]);
        }
        json_write_raw(writer, names[i], value);
    }
    return verdict_of(ERROR_NONE);
}

/* What an EventSource, which has no body, cannot ask for in stream_options. */
static struct verdict write_usage_wish(struct json_writer *writer, struct span query) {
    struct span wish;
    if (!query_find(query, "include_usage", &wish) || span_is(wish, "false")) {
        return verdict_of(ERROR_NONE);
    }
    if (!span_is(wish, "true")) {
        return verdict_with(ERROR_invalid_value, "include_usage", "\"include_usage\" must be true or false.");
    }
    json_write_raw(writer, "stream_options", SPAN_LITERAL("{\"include_usage\":true}"));
    return verdict_of(ERROR_NONE);
}

/* GET /v1/stream?model=&prompt=: the chat completion it stands for. */
static struct verdict write_query_body(struct request *request) {
    struct span query = request->input.query;
    struct span model;
    struct span prompt;
    struct span system;
    if (!query_find(query, "model", &model) || model.len == 0) {
        return missing_parameter("model");
    }
    if (!query_find(query, "prompt", &prompt) || prompt.len == 0) {
        return missing_parameter("prompt");
    }
    struct buffer text;
    buffer_init(&text, query.len + 1);
    struct json_writer writer = json_writer_on(&request->own_body);
    json_begin_object(&writer, NULL);
    query_decode(model, &text);
    json_write_span(&writer, "model", buffer_span(&text));
    json_begin_array(&writer, "messages");
    if (query_find(query, "system", &system) && system.len != 0) {
        write_message(&writer, "system", system, &text);
    }
    write_message(&writer, "user", prompt, &text);
    json_end_array(&writer);
    json_write_bool(&writer, "stream", true);
    struct verdict verdict = write_numbers(&writer, query);
    if (verdict.kind == ERROR_NONE) {
        verdict = write_usage_wish(&writer, query);
    }
    json_end_object(&writer);
    buffer_fini(&text);
    return verdict;
}

struct verdict resume_keep_body(struct request *request) {
    if (request->own_body.len != 0) {
        return verdict_of(ERROR_NONE);
    }
    struct verdict verdict = verdict_of(ERROR_NONE);
    if (is_event_source(request)) {
        verdict = write_query_body(request);
    } else if (asks_resumable(request) || header_of(request, "idempotency-key").base != NULL) {
        buffer_append_span(&request->own_body, request->input.body);
    } else {
        return verdict;
    }
    if (request->own_body.failed) {
        return verdict_of(ERROR_body_too_large);
    }
    request->input.body = buffer_span(&request->own_body);
    return verdict;
}

/* --- repeats of a request --- */

static struct verdict conflict(const char *why, const char *request_id) {
    struct verdict verdict =
        verdict_with(ERROR_idempotency_conflict, "Idempotency-Key",
                     "This Idempotency-Key was used by request %s%s. Use a new key for a new request.",
                     request_id[0] != '\0' ? request_id : "before", why);
    verdict.do_not_retry = true;
    return verdict;
}

/* Joins the request that holds the entry, or says what stands in the way. */
static struct verdict join(struct request *request, const struct shm_once_found *found, const struct wish *wish) {
    struct shm_journal *shared = &request->worker->journal->shared;
    if (memcmp(found->body_hash, wish->body_hash, sizeof(wish->body_hash)) != 0) {
        return conflict(" with another body", found->request_id);
    }
    struct verdict gone = conflict(", whose answer is not kept any more", found->request_id);
    if (!shm_journal_is_of(shared, found->stream, request->key_index, wish->body_hash) ||
        shm_journal_has_expired(shared, found->stream, clock_mono_ns()) ||
        shm_journal_state_of(shared, found->stream) == SHM_JOURNAL_DEAD) {
        return gone;
    }
    struct verdict verdict = journal_reader_attach(request, found->stream, 0, &gone);
    if (verdict.kind == ERROR_NONE) {
        memcpy(request->id, found->request_id, sizeof(request->id));
        request->id_from_client = false;
        worker_count(request->worker, SHM_COUNTER_answers_repeated, 1);
    }
    return verdict;
}

static struct verdict read_wish(struct request *request, struct wish *wish) {
    unsigned char hash[SHA256_BYTES];
    const char kind[] = {(char)endpoint_number(request->endpoint), request->stream ? 1 : 0};
    const struct span pieces[] = {span_of(kind, sizeof(kind)), request->input.body};
    struct span key = is_event_source(request) ? SPAN_EMPTY : header_of(request, "idempotency-key");
    *wish = (struct wish){.has_ids = request->stream && asks_resumable(request), .is_once = key.base != NULL};
    if (!wish->is_once) {
        return verdict_of(ERROR_NONE);
    }
    if (request->front->driver->header_differs(request->front, "idempotency-key") || key.len == 0 ||
        key.len > ONCE_KEY_MOST) {
        return verdict_with(ERROR_invalid_value, "Idempotency-Key",
                            "An Idempotency-Key has 1 to %d characters, and a request has one.", ONCE_KEY_MOST);
    }
    wish->tag = shm_once_tag(request->key_index, key);
    hash_sha256_pieces(pieces, 2, hash);
    memcpy(wish->body_hash, hash, sizeof(wish->body_hash));
    return verdict_of(ERROR_NONE);
}

/* --- the first request --- */

/* Claims the Idempotency-Key for the stream just begun. Another worker may have been quicker. */
static struct verdict claim(struct request *request, const struct wish *wish, const struct shm_journal_writer *writer,
                            struct shm_once *once) {
    struct shm_once_found found;
    switch (shm_once_claim(&request->worker->journal->shared, wish->tag, writer->id, clock_mono_ns(), &found)) {
    case SHM_ONCE_CLAIMED:
        *once = found.once;
        return verdict_of(ERROR_NONE);
    case SHM_ONCE_HELD:
        return join(request, &found, wish);
    default:
        return verdict_with(ERROR_overloaded, NULL, "Another request with this Idempotency-Key is just beginning.");
    }
}

/* What a request that repeats another took for itself it gives back. */
static void forget_id(struct request *request, const char *id) {
    if (request->id_claimed) {
        shm_id_forget(request->worker->map, request->key.tenant_index, id);
        request->id_claimed = false;
    }
}

static struct verdict begin_journal(struct request *request, const struct wish *wish) {
    struct shm_journal *shared = &request->worker->journal->shared;
    struct shm_journal_begin begin = {.request_id = request->id,
                                      .key_index = request->key_index,
                                      .seat = request->worker->heritage->seat,
                                      .has_ids = wish->has_ids,
                                      .form = request->form};
    struct shm_journal_writer writer;
    struct shm_once once = {.tag = 0};
    char own_id[SHM_REQUEST_ID_BYTES];
    admit_claim_id(request);
    memcpy(own_id, request->id, sizeof(own_id));
    memcpy(begin.body_hash, wish->body_hash, sizeof(begin.body_hash));
    if (!shm_journal_begin(shared, &begin, &writer)) {
        return wish->is_once ? verdict_of(ERROR_overloaded) : verdict_of(ERROR_NONE);
    }
    struct verdict verdict = wish->is_once ? claim(request, wish, &writer, &once) : verdict_of(ERROR_NONE);
    bool runs = verdict.kind == ERROR_NONE && request->reader == NULL;
    if (runs && !journal_front_take(request, &writer, wish->has_ids, once)) {
        shm_once_release(shared, once, writer.id);
        verdict = verdict_of(ERROR_overloaded);
        runs = false;
    }
    if (!runs) {
        shm_journal_drop(shared, &writer);
        forget_id(request, own_id);
    }
    return verdict;
}

struct verdict resume_begin(struct request *request) {
    struct wish wish;
    if (request->journal != NULL || request->reader != NULL) {
        return verdict_of(ERROR_NONE);
    }
    struct verdict verdict = read_wish(request, &wish);
    if (verdict.kind != ERROR_NONE || (!wish.has_ids && !wish.is_once) || request->worker->journal == NULL) {
        return verdict;
    }
    struct shm_once_found found;
    if (wish.is_once &&
        shm_once_find(&request->worker->journal->shared, wish.tag, clock_mono_ns(), &found) == SHM_ONCE_HELD) {
        return join(request, &found, &wish);
    }
    return begin_journal(request, &wish);
}

/* --- coming back --- */

bool resume_is_asked(const struct request *request) {
    struct span value;
    return header_of(request, "last-event-id").len != 0 || query_find(request->input.query, "last_event_id", &value);
}

/* Digits alone, up to what an event's number can be. */
static bool read_number(struct span text, uint32_t *out) {
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] < '0' || text.base[i] > '9' || value > UINT32_MAX) {
            return false;
        }
        value = value * 10 + (uint64_t)(text.base[i] - '0');
    }
    *out = (uint32_t)value;
    return text.len != 0 && value <= UINT32_MAX;
}

/* REQUEST_ID:N. */
static bool read_event_id(struct span text, struct span *request_id, uint32_t *number) {
    const char *colon = text.len != 0 ? memrchr(text.base, ':', text.len) : NULL;
    if (colon == NULL) {
        return false;
    }
    *request_id = span_of(text.base, (size_t)(colon - text.base));
    return request_id->len != 0 && read_number(span_skip(text, request_id->len + 1), number);
}

static struct verdict bad_event_id(const struct request *request) {
    if (request->input.is_message) {
        return verdict_with(ERROR_invalid_value, "after", "'after' must be the n of a message of this stream, or 0.");
    }
    return verdict_with(ERROR_invalid_value, "Last-Event-ID",
                        "Last-Event-ID must be the id of an event of this stream: REQUEST_ID:N.");
}

struct verdict resume_follow(struct request *request, struct span request_id, uint32_t after, bool *is_over) {
    struct journal *journal = request->worker->journal;
    const struct verdict missing = verdict_of(ERROR_stream_not_found);
    struct shm_journal_answer answer;
    *is_over = false;
    if (journal == NULL) {
        return missing;
    }
    struct shm_journal_id stream = shm_journal_find(&journal->shared, request->key_index, request_id, clock_mono_ns());
    if (!shm_journal_answer_of(&journal->shared, stream, &answer) || !answer.has_ids) {
        return missing;
    }
    if (request->input.is_message && answer.form != CLIENT_CHAT) {
        return verdict_with(ERROR_invalid_value, "id",
                            "This stream is no chat completion's. Resume it with GET /v1/streams/{id}.");
    }
    bool has_ended = shm_journal_state_of(&journal->shared, stream) == SHM_JOURNAL_ENDED;
    uint32_t count = shm_journal_count(&journal->shared, stream);
    if (after > count) {
        return bad_event_id(request);
    }
    (void)span_copy(request_id, request->id, sizeof(request->id));
    request->id_from_client = false;
    request->form = (enum client_form)answer.form;
    if (has_ended && after == count && !request->input.is_message) {
        *is_over = true;
        return verdict_of(ERROR_NONE);
    }
    worker_count(request->worker, SHM_COUNTER_streams_resumed, 1);
    struct verdict verdict = journal_reader_attach(request, stream, after, &missing);
    if (verdict.kind == ERROR_NONE && request->input.is_message) {
        journal_reader_rewind(request); /* what ends it repeats what earlier events said */
    }
    return verdict;
}

/* Where the client says it was: in the header, or, from pages that cannot set one, in the query. */
static struct span last_event_of(struct request *request, char room[static EVENT_ID_BYTES]) {
    struct span last = span_trim(header_of(request, "last-event-id"));
    struct span value;
    if (last.len == 0 && query_find(request->input.query, "last_event_id", &value)) {
        struct buffer text;
        buffer_init(&text, EVENT_ID_BYTES);
        query_decode(value, &text);
        (void)span_copy(text.failed ? SPAN_LITERAL("?") : buffer_span(&text), room, EVENT_ID_BYTES);
        buffer_fini(&text);
        last = span_text(room);
    }
    return last;
}

struct verdict resume_answer(struct request *request) {
    char room[EVENT_ID_BYTES];
    struct span last = last_event_of(request, room);
    struct span path_id = span_starts_with(request->input.path, STREAM_PATH)
                              ? span_skip(request->input.path, sizeof(STREAM_PATH) - 1)
                              : SPAN_EMPTY;
    struct span request_id = path_id;
    uint32_t after = 0;
    bool is_over = false;
    bool has_number = path_id.len != 0 && read_number(last, &after);
    if (request->input.is_http10) {
        return verdict_with(ERROR_invalid_value, NULL,
                            "Streams need HTTP/1.1 or HTTP/2; this request came by HTTP/1.0.");
    }
    if (last.len != 0 && !has_number && !read_event_id(last, &request_id, &after)) {
        return bad_event_id(request);
    }
    if (path_id.len != 0 && !span_equals(request_id, path_id)) {
        return bad_event_id(request);
    }
    struct verdict verdict = resume_follow(request, request_id, after, &is_over);
    if (verdict.kind == ERROR_NONE && is_over) {
        reply_empty(request, 204);
    }
    return verdict;
}
