/* The request machine: every event in every state ends in DEAD with one record at most and nothing held (I1, I3).
 * The upstream side is replaced by the functions below (they take the place of upstream.o at link time), the front by a
 * struct that notes what it was told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/key_format.h"
#include "shm/shm_queue.h"
#include "worker/queue.h"
#include "worker/settle.h"
#include "worker/worker_state.h"

/* --- the upstream's side --- */

struct upstream_call {
    const struct upstream_receiver *receiver;
    void *context;
};

static struct upstream_call *running;
static int calls_started;
static int calls_running;
static bool let_go;

struct upstream_call *upstream_start(struct upstreams *upstreams, const struct upstream_spec *spec,
                                     const struct upstream_receiver *receiver, void *context) {
    (void)upstreams;
    assert_true(span_starts_with(spec->body, "{"));
    running = calloc(1, sizeof(*running));
    *running = (struct upstream_call){receiver, context};
    calls_started++;
    calls_running++;
    return running;
}

static void drop_call(struct upstream_call *call) {
    assert_ptr_equal(call, running);
    running = NULL;
    calls_running--;
    free(call);
}

void upstream_cancel(struct upstream_call *call) { drop_call(call); }
void upstream_resume(struct upstream_call *call) { assert_ptr_equal(call, running); }
void upstream_let_go(struct upstream_call *call) {
    let_go = true;
    drop_call(call);
}
struct upstreams *upstreams_new(struct loop *loop, void (*on_connection)(void *context), void *context) {
    (void)loop;
    (void)on_connection;
    (void)context;
    return NULL;
}
void upstreams_free(struct upstreams *upstreams) { (void)upstreams; }

/* --- the client's side --- */

static struct fake_front {
    struct front front;
    char authorization[64];
    struct buffer sent;
    int status;
    bool started;
    bool ended;
    bool whole;
    size_t pending;
} client;

static struct span get_header(const struct front *front, const char *name) {
    (void)front;
    return strcmp(name, "authorization") == 0 ? span_text(client.authorization) : SPAN_EMPTY;
}

static bool header_differs(const struct front *front, const char *name) {
    (void)front;
    (void)name;
    return false;
}

static void end_front(struct front *front, bool whole) {
    client.ended = true;
    client.whole = whole;
    front->request->front = NULL;
    front->request = NULL;
}

static void answer_front(struct front *front, const struct reply *reply, struct span body) {
    client.status = reply->status;
    buffer_append_span(&client.sent, body);
    end_front(front, true);
}

static void start_front(struct front *front, const struct reply *reply) {
    (void)front;
    assert_false(client.started);
    client.started = true;
    client.status = reply->status;
}

static void write_front(struct front *front, struct span bytes) {
    (void)front;
    assert_true(client.started && !client.ended);
    buffer_append_span(&client.sent, bytes);
}

static size_t pending_front(const struct front *front) {
    (void)front;
    return client.pending;
}

static const struct front_driver fake_driver = {.header = get_header,
                                                .header_differs = header_differs,
                                                .answer = answer_front,
                                                .start = start_front,
                                                .write = write_front,
                                                .end = end_front,
                                                .pending_bytes = pending_front};

/* --- a worker without sockets --- */

static struct worker worker;
static struct heritage heritage;
static char state_dir[64];
static struct conf *conf;
static struct loop *the_loop; /* one for all tests: loops live as long as their process */

static const char CONFIGURATION[] =
    "state: /tmp\n"
    "upstreams:\n"
    "  one: {dialect: openai, base_url: 'http://127.0.0.1:1/v1', allow_private: true, limits: {concurrent: 3}}\n"
    "  two: {dialect: openai, base_url: 'http://127.0.0.1:2/v1', allow_private: true}\n"
    "models:\n"
    "  m: {price: {input: 1, output: 2}, routes: [{upstream: one}, {upstream: two, priority: 2}]}\n"
    "retry: {attempts: 4, base: 1ms, max: 2ms}\n"
    "breaker: {failures: 1000, window: 10s, cooldown: 1s}\n"
    "log: {access: 'off'}\n";

static void publish_key(void) {
    unsigned char hash[SHA256_BYTES];
    char key[API_KEY_TEXT_BYTES];
    struct shm_tenant_sh tenant = {.state = SHM_KEY_LIVE, .allow_row = SHM_NO_ROW, .markup = MARKUP_ONE, .name = "t"};
    struct shm_key_sh row = {
        .state = SHM_KEY_LIVE, .allow_row = SHM_NO_ROW, .expires_wall_ns = INT64_MAX, .id = "key_x"};
    row.limits = (struct shm_limits_sh){1000000, 100000000, 5, {-1, -1, -1}};
    tenant.limits = row.limits;
    key_format_make(key);
    hash_sha256(span_text(key), hash);
    assert_true(shm_secret_publish(&heritage.map, hash, 0, INT64_MAX));
    shm_key_publish(&heritage.map, 0, &row);
    shm_tenant_publish(&heritage.map, 0, &tenant);
    (void)snprintf(client.authorization, sizeof(client.authorization), "Bearer %s", key);
}

static int set_up(void **state) {
    (void)state;
    struct buffer error;
    struct conf_findings findings;
    buffer_init(&error, 1024);
    (void)snprintf(state_dir, sizeof(state_dir), "/tmp/tollgate-test-XXXXXX");
    assert_non_null(mkdtemp(state_dir));
    conf = conf_parse(SPAN_LITERAL(CONFIGURATION), "t.yaml", NULL, &findings);
    assert_non_null(conf);
    conf_findings_free(&findings);
    const struct shm_capacity capacity = {.seats = 1, .keys = 16, .tenants = 16};
    assert_true(shm_map_create(&heritage.map, state_dir, &capacity, &error));
    int seat = shm_seat_assign(&heritage.map, 0, 1, &error);
    assert_int_equal(seat, 0);
    heritage.conf = conf;
    heritage.ledger_wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    for (int i = 0; i < conf->upstream_count; i++) {
        heritage.upstream_rows[i] = shm_upstream_claim(&heritage.map, conf->upstreams[i].name);
    }
    worker = (struct worker){.heritage = &heritage, .conf = conf, .map = &heritage.map};
    worker.seat = shm_seat(&heritage.map, 0);
    worker.loop = the_loop;
    worker.slots = calloc(1, sizeof(*worker.slots));
    shm_slots_init(worker.slots, worker.map, 0);
    json_doc_init(&worker.scratch);
    buffer_init(&worker.scratch_text, 1 << 20);
    buffer_init(&client.sent, 1 << 20);
    publish_key();
    buffer_fini(&error);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    free(worker.slots);
    json_doc_fini(&worker.scratch);
    buffer_fini(&worker.scratch_text);
    buffer_fini(&client.sent);
    close(heritage.ledger_wake_fd);
    shm_map_close(&heritage.map);
    shm_map_remove(state_dir);
    conf_free(conf);
    return rmdir(state_dir);
}

/* --- driving one request --- */

static const char STREAM_BODY[] =
    "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
static const char WHOLE_BODY[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
static const char DELTA[] = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n";
static const char FINISH[] = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
static const char ANSWER[] = "{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"yes\"},"
                             "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1,"
                             "\"total_tokens\":10}}";

static struct request *begin(const char *body) {
    const struct request_input input = {.method = SPAN_LITERAL("POST"),
                                        .path = SPAN_LITERAL("/v1/chat/completions"),
                                        .body = span_text(body),
                                        .client = "127.0.0.1"};
    client.front = (struct front){.driver = &fake_driver};
    client.started = client.ended = client.whole = false;
    client.status = 0;
    client.pending = 0;
    buffer_clear(&client.sent);
    calls_started = 0;
    let_go = false;
    struct request *request = request_new(&worker, &client.front, &input);
    assert_non_null(request);
    return request;
}

static void turn(void) { loop_run(worker.loop, 0); }

static void head(int status, enum upstream_content content) {
    const struct upstream_head told = {.status = status, .content = content, .retry_after_ms = -1};
    running->receiver->on_head(running->context, &told);
}

static void bytes(const char *text) { assert_true(running->receiver->on_bytes(running->context, span_text(text))); }

static void end(enum upstream_result result) {
    struct upstream_call *call = running;
    running = NULL;
    calls_running--;
    call->receiver->on_end(call->context, result);
    free(call);
}

static uint64_t records(void) {
    uint64_t tail = 0;
    uint64_t ring_head = 0;
    shm_ring_bounds(worker.map, 0, &tail, &ring_head);
    return ring_head - tail;
}

static const struct shm_usage_record_sh *last_record(void) {
    uint64_t tail = 0;
    uint64_t ring_head = 0;
    shm_ring_bounds(worker.map, 0, &tail, &ring_head);
    return shm_ring_entry(worker.map, 0, ring_head - 1);
}

/* Runs turns until no request is left; then nothing may be held. */
static void expect_dead(uint64_t expected_records) {
    int64_t until = clock_mono_ns() + 5 * NS_PER_S;
    while (worker.requests != NULL && clock_mono_ns() < until) {
        loop_run(worker.loop, 1);
    }
    assert_null(worker.requests);
    assert_null(client.front.request);
    assert_int_equal(calls_running, 0);
    assert_int_equal(worker.request_count, 0);
    assert_int_equal(worker.slots->free_count, SHM_SLOTS_PER_SEAT);
    assert_int_equal(worker.slots->reserved_entries, 0);
    assert_int_equal(shm_key_account(worker.map, 0)->in_flight, 0);
    assert_int_equal(shm_tenant_account(worker.map, 0)->in_flight, 0);
    for (int i = 0; i < conf->upstream_count; i++) {
        assert_int_equal(shm_upstream(worker.map, heritage.upstream_rows[i])->in_flight, 0);
    }
    assert_int_equal(records(), expected_records);
}

static void stream_completes(void **state) {
    (void)state;
    begin(STREAM_BODY);
    turn();
    head(200, UPSTREAM_EVENT_STREAM);
    bytes(DELTA);
    bytes(FINISH);
    bytes("data: [DONE]\n\n");
    assert_true(let_go);
    expect_dead(1);
    assert_true(client.ended && client.whole && client.status == 200);
    assert_non_null(strstr(buffer_text(&client.sent), "[DONE]"));
    assert_int_equal(last_record()->status, 200);
    assert_string_equal(last_record()->finish_reason, "stop");
    assert_true(last_record()->tokens.output_tokens >= 1);
    assert_true(last_record()->price_nusd > 0);
}

static void answer_is_counted_by_its_usage(void **state) {
    (void)state;
    begin(WHOLE_BODY);
    turn();
    head(200, UPSTREAM_JSON);
    bytes(ANSWER);
    end(UPSTREAM_ENDED);
    expect_dead(1);
    assert_int_equal(last_record()->tokens.input_tokens, 9);
    assert_int_equal(last_record()->tokens.output_tokens, 1);
    assert_int_equal(last_record()->flags & SHM_RECORD_ESTIMATED, 0);
    assert_int_equal(last_record()->price_nusd, 9 * 1000 + 1 * 2000);
}

static void refused_request_leaves_no_trace(void **state) {
    (void)state;
    begin("{\"model\":\"m\"}");
    expect_dead(0);
    assert_int_equal(client.status, 400);
    begin("{\"model\":\"nope\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    expect_dead(0);
    assert_int_equal(client.status, 404);
    assert_int_equal(calls_started, 0);
}

/* A failed try frees its upstream for others while the next one runs (the gauge of `one` allows three). */
static void retries_go_on_and_give_limits_back(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++) {
        begin(STREAM_BODY);
        turn();
        head(500, UPSTREAM_JSON);
        end(UPSTREAM_ENDED);
        turn();
        assert_int_equal(calls_started, 2);
        assert_int_equal(shm_upstream(worker.map, heritage.upstream_rows[0])->in_flight, 0);
        head(200, UPSTREAM_EVENT_STREAM);
        bytes(DELTA);
        bytes("data: [DONE]\n\n");
        expect_dead((uint64_t)i + 1);
        assert_int_equal(last_record()->attempts, 2);
        assert_string_equal(last_record()->upstream, "two");
    }
}

static void every_try_failing_is_told_and_costs_nothing(void **state) {
    (void)state;
    begin(WHOLE_BODY);
    for (int i = 0; i < 4; i++) {
        int64_t until = clock_mono_ns() + 5 * NS_PER_S;
        while (running == NULL && clock_mono_ns() < until) {
            loop_run(worker.loop, 1);
        }
        head(500, UPSTREAM_JSON);
        end(UPSTREAM_ENDED);
    }
    expect_dead(1);
    assert_int_equal(client.status, 502);
    assert_int_equal(last_record()->attempts, 4);
    assert_int_equal(last_record()->price_nusd, 0);
    assert_int_equal(last_record()->tokens.input_tokens, 0);
}

static void broken_stream_never_looks_complete(void **state) {
    (void)state;
    static const enum upstream_result results[] = {UPSTREAM_BROKEN, UPSTREAM_ENDED, UPSTREAM_NOT_HTTP};
    for (uint64_t i = 0; i < 3; i++) {
        begin(STREAM_BODY);
        turn();
        head(200, UPSTREAM_EVENT_STREAM);
        bytes(DELTA);
        end(results[i]);
        expect_dead(i + 1);
        assert_null(strstr(buffer_text(&client.sent), "[DONE]"));
        assert_non_null(strstr(buffer_text(&client.sent), "upstream_invalid_response"));
        assert_int_not_equal(last_record()->flags & SHM_RECORD_ERROR_EVENT, 0);
        assert_true(last_record()->price_nusd > 0);
    }
}

/* Whoever leaves may have the stream read on for the books; whoever cancels wants it to end. */
static void a_cancelled_stream_is_not_drained(void **state) {
    (void)state;
    conf->streams.on_disconnect = CONF_DISCONNECT_DRAIN;
    for (int cancels = 0; cancels < 2; cancels++) {
        struct request *request = begin(STREAM_BODY);
        turn();
        head(200, UPSTREAM_EVENT_STREAM);
        bytes(DELTA);
        struct token_counts owed;
        if (cancels != 0) {
            request_cancel(request);
            assert_true(settle_owed(request, &owed) > 0 && owed.output_tokens > 0);
        } else {
            request_client_gone(request);
        }
        turn();
        assert_int_equal(calls_running, 1 - cancels);
        if (cancels == 0) {
            end(UPSTREAM_BROKEN);
        }
        expect_dead((uint64_t)cancels + 1);
        assert_int_not_equal(last_record()->flags & SHM_RECORD_CLIENT_LEFT, 0);
    }
    assert_string_equal(last_record()->finish_reason, "cancelled");
}

/* --- every event in every waiting state --- */

enum event {
    EVENT_CLIENT_GONE,
    EVENT_CANCEL,
    EVENT_TIMEOUT,
    EVENT_HEAD_GOOD,
    EVENT_HEAD_BAD,
    EVENT_BYTES,
    EVENT_GARBAGE,
    EVENT_ERROR_EVENT,
    EVENT_END,
    EVENT_BROKEN,
    EVENT_DRAINED,
    EVENT_HEARTBEAT,
    EVENT_SHUTDOWN,
    EVENTS
};

static void fire(struct loop_timer *timer) {
    if (timer->heap_place != 0) {
        loop_timer_clear(worker.loop, timer);
        timer->on_fire(timer);
    }
}

/* Delivers an event if whoever causes it is there. */
static void deliver(struct request *request, enum event event) {
    bool client_there = client.front.request != NULL;
    switch (event) {
    case EVENT_CLIENT_GONE:
        if (client_there) {
            request_client_gone(request);
        }
        return;
    case EVENT_CANCEL:
        if (client_there) {
            request_cancel(request);
            assert_int_not_equal(request->posted, REQUEST_orphan);
        }
        return;
    case EVENT_DRAINED:
        if (client_there) {
            request_drained(request);
        }
        return;
    case EVENT_TIMEOUT:
        fire(&request->deadline);
        return;
    case EVENT_HEARTBEAT:
        fire(&request->heartbeat);
        return;
    case EVENT_SHUTDOWN:
        request_fail(request, verdict_of(ERROR_overloaded));
        return;
    default:
        break;
    }
    if (running == NULL) {
        return;
    }
    if (event == EVENT_HEAD_GOOD || event == EVENT_HEAD_BAD) {
        if (request->attempt.head.status == 0) {
            head(event == EVENT_HEAD_GOOD ? 200 : 503,
                 EVENT_HEAD_GOOD == event ? UPSTREAM_EVENT_STREAM : UPSTREAM_JSON);
        }
        return;
    }
    if (event == EVENT_END || event == EVENT_BROKEN) {
        end(event == EVENT_END ? UPSTREAM_ENDED : UPSTREAM_BROKEN);
        return;
    }
    if (request->attempt.head.status != 0) {
        bytes(event == EVENT_BYTES     ? DELTA
              : event == EVENT_GARBAGE ? "data: {oops\n\n"
                                       : "data: {\"error\":{\"message\":\"x\"}}\n\n");
    }
}

/* Brings a fresh request into one of the states in which it waits. */
static struct request *request_in(int place) {
    struct request *request = begin(STREAM_BODY);
    turn();
    if (place >= 1) {
        head(200, UPSTREAM_EVENT_STREAM);
    }
    if (place >= 2) {
        bytes(DELTA);
    }
    return request;
}

static void every_pair_of_events_in_every_state_ends_dead(void **state) {
    (void)state;
    static const enum conf_on_disconnect modes[] = {CONF_DISCONNECT_CANCEL, CONF_DISCONNECT_DRAIN};
    for (int mode = 0; mode < 2; mode++) {
        conf->streams.on_disconnect = modes[mode];
        for (int place = 0; place < 3; place++) {
            for (int first = 0; first < EVENTS; first++) {
                for (int second = 0; second < EVENTS; second++) {
                    for (int turns = 0; turns < 2; turns++) {
                        struct request *request = request_in(place);
                        deliver(request, (enum event)first);
                        if (turns == 1) {
                            turn();
                        }
                        if (worker.requests != NULL) {
                            deliver(request, (enum event)second);
                            turn();
                        }
                        if (worker.requests != NULL) {
                            deliver(request, EVENT_SHUTDOWN);
                        }
                        expect_dead(1);
                        shm_ring_release(worker.map, 0, shm_seat(worker.map, 0)->ring_head);
                    }
                }
            }
        }
    }
}

/* --- the same where requests wait before anything is sent: for a gauge, for the ledger, for another try --- */

enum waiting { IN_QUEUE, PARKED_IN_ADMIT, PARKED_IN_QUEUE, PARKED_IN_SEND, PARKED_IN_SETTLE, IN_BACKOFF, WAITINGS };

enum happening {
    HAPPENS_NOTHING,
    HAPPENS_CLIENT_GONE,
    HAPPENS_CANCEL,
    HAPPENS_TIMEOUT,
    HAPPENS_WAKE,
    HAPPENS_PAUSE,
    HAPPENS_GO_ON,
    HAPPENS_ROOM,
    HAPPENS_REVOKED,
    HAPPENS_NO_WAITING,
    HAPPENS_SHUTDOWN,
    HAPPENINGS
};

static void set_key(enum shm_key_state key_state, int64_t max_wait_ms, int64_t concurrent) {
    struct shm_key_sh row;
    assert_true(shm_key_read(worker.map, 0, &row));
    row.state = key_state;
    row.max_wait_ms = max_wait_ms;
    row.limits.concurrent = concurrent;
    row.limits.requests_per_minute = 100; /* so slow that nothing fills by itself within the test */
    row.limits.tokens_per_minute = 200000;
    shm_key_publish(worker.map, 0, &row);
}

static void go_on(void) {
    worker.paused = false;
    for (struct request *request = worker.requests; request != NULL; request = request->next) {
        request_unpark(request);
    }
}

/* One is in flight elsewhere; the key allows one. */
static void use_up_gauge(bool used) { atomic_store(&shm_key_account(worker.map, 0)->in_flight, used ? 1 : 0); }

static void happen(struct request *request, enum happening happening) {
    switch (happening) {
    case HAPPENS_CLIENT_GONE:
        deliver(request, EVENT_CLIENT_GONE);
        break;
    case HAPPENS_CANCEL:
        deliver(request, EVENT_CANCEL);
        break;
    case HAPPENS_TIMEOUT:
        deliver(request, EVENT_TIMEOUT);
        break;
    case HAPPENS_WAKE:
        queue_look_again(&worker);
        break;
    case HAPPENS_PAUSE:
        worker.paused = true;
        break;
    case HAPPENS_GO_ON:
        go_on();
        break;
    case HAPPENS_ROOM:
        set_key(SHM_KEY_LIVE, 60000, 5);
        queue_look_again(&worker);
        break;
    case HAPPENS_REVOKED:
        set_key(SHM_KEY_REVOKED, 60000, 1);
        queue_look_again(&worker);
        break;
    case HAPPENS_NO_WAITING:
        set_key(SHM_KEY_LIVE, 0, 1);
        queue_look_again(&worker);
        break;
    case HAPPENS_SHUTDOWN:
        deliver(request, EVENT_SHUTDOWN);
        break;
    default:
        break;
    }
}

static struct request *request_waiting(enum waiting place) {
    bool queues = place == IN_QUEUE || place == PARKED_IN_QUEUE;
    set_key(SHM_KEY_LIVE, 60000, queues ? 1 : 5);
    use_up_gauge(queues);
    worker.paused = place == PARKED_IN_ADMIT;
    struct request *request = begin(place == PARKED_IN_SETTLE ? WHOLE_BODY : STREAM_BODY);
    turn();
    if (queues) {
        assert_int_equal(request->state, REQUEST_queue);
        assert_int_equal(shm_queue_waiting(worker.map), 1);
    }
    worker.paused |= place == PARKED_IN_QUEUE || place == PARKED_IN_SEND || place == PARKED_IN_SETTLE;
    if (place == PARKED_IN_QUEUE) {
        queue_look_again(&worker);
    } else if (place == PARKED_IN_SEND || place == IN_BACKOFF) {
        end(UPSTREAM_NOT_REACHED);
    } else if (place == PARKED_IN_SETTLE) {
        request_fail(request, verdict_of(ERROR_overloaded));
    }
    turn();
    return request;
}

/* Everything that came back must be there: the refused and the failed cost nothing. */
static void expect_full_buckets(enum waiting place, enum happening first, enum happening second) {
    const struct shm_account_sh *accounts[] = {shm_key_account(worker.map, 0), shm_tenant_account(worker.map, 0)};
    for (int i = 0; i < 2; i++) {
        if ((int64_t)accounts[i]->request_bucket_ns > clock_mono_ns()) {
            print_error("place %d, %d then %d: a request was kept\n", place, first, second);
        }
        assert_true((int64_t)accounts[i]->request_bucket_ns <= clock_mono_ns());
        assert_true((int64_t)accounts[i]->token_bucket_ns <= clock_mono_ns());
        assert_int_equal(accounts[i]->balances[SHM_WINDOW_TOTAL].held_nusd, 0);
    }
}

static void expect_all_given_back(enum waiting place, enum happening first, enum happening second) {
    int64_t until = clock_mono_ns() + 5 * NS_PER_S;
    go_on();
    for (int shut = 0; worker.requests != NULL && clock_mono_ns() < until; shut++) {
        if (running != NULL) {
            end(UPSTREAM_NOT_REACHED); /* no try is ever taken by its upstream */
        } else if (shut > 20) {
            deliver(worker.requests, EVENT_SHUTDOWN);
        }
        loop_run(worker.loop, 1);
    }
    if (worker.requests != NULL) {
        print_error("place %d, %d then %d: still in %s\n", place, first, second,
                    request_state_name(worker.requests->state));
    }
    bool queues = place == IN_QUEUE || place == PARKED_IN_QUEUE;
    assert_int_equal(shm_key_account(worker.map, 0)->in_flight, queues ? 1 : 0);
    use_up_gauge(false);
    expect_dead(records());
    assert_int_equal(shm_queue_waiting(worker.map), 0);
    shm_ring_release(worker.map, 0, shm_seat(worker.map, 0)->ring_head);
}

/* What a client leaves behind at an upstream is billed. */
static bool leaves_upstream(enum happening happening) {
    return running != NULL && (happening == HAPPENS_CLIENT_GONE || happening == HAPPENS_CANCEL);
}

static void who_waits_gives_all_back_whatever_happens(void **state) {
    (void)state;
    for (int place = 0; place < WAITINGS; place++) {
        for (int first = 0; first < HAPPENINGS; first++) {
            for (int second = 0; second < HAPPENINGS; second++) {
                for (int turns = 0; turns < 2; turns++) {
                    struct request *request = request_waiting((enum waiting)place);
                    bool is_billed = leaves_upstream((enum happening)first);
                    happen(request, (enum happening)first);
                    if (turns == 1) {
                        turn();
                    }
                    is_billed |= leaves_upstream((enum happening)second);
                    if (worker.requests != NULL) {
                        happen(request, (enum happening)second);
                        turn();
                    }
                    expect_all_given_back((enum waiting)place, (enum happening)first, (enum happening)second);
                    if (!is_billed) {
                        expect_full_buckets((enum waiting)place, (enum happening)first, (enum happening)second);
                    }
                    shm_key_account(worker.map, 0)->request_bucket_ns = 0;
                    shm_key_account(worker.map, 0)->token_bucket_ns = 0;
                    shm_tenant_account(worker.map, 0)->request_bucket_ns = 0;
                    shm_tenant_account(worker.map, 0)->token_bucket_ns = 0;
                }
            }
        }
    }
}

static void who_waits_is_refused_once_its_key_is_revoked(void **state) {
    (void)state;
    static const enum shm_key_state states[] = {SHM_KEY_REVOKED, SHM_KEY_DISABLED};
    static const int statuses[] = {401, 403};
    for (int i = 0; i < 2; i++) {
        (void)request_waiting(IN_QUEUE);
        use_up_gauge(false);
        set_key(states[i], 60000, 1);
        queue_look_again(&worker);
        expect_dead(0);
        assert_int_equal(client.status, statuses[i]);
        assert_int_equal(calls_started, 0);
    }
}

int main(void) {
    the_loop = loop_new();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stream_completes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answer_is_counted_by_its_usage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cancelled_stream_is_not_drained, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refused_request_leaves_no_trace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(retries_go_on_and_give_limits_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_try_failing_is_told_and_costs_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(broken_stream_never_looks_complete, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_pair_of_events_in_every_state_ends_dead, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_waits_gives_all_back_whatever_happens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_waits_is_refused_once_its_key_is_revoked, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
