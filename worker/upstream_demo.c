#include <stdlib.h>

#include "base/clock.h"
#include "base/json_write.h"
#include "worker/demo_answer.h"
#include "worker/upstream_driver.h"

/* A believable provider: a short think, then about 50 tokens a second. */
#define THINK_NS (150 * NS_PER_MS)
#define TOKEN_NS (20 * NS_PER_MS)
#define WHOLE_ANSWER_MOST_NS (1000 * NS_PER_MS)

enum { DEMO_ANSWER_BYTES_MOST = 8 << 20 };

struct demo_call {
    struct upstream_call base; /* first */
    struct loop *loop;
    struct loop_timer timer; /* the next piece */
    struct demo_answer answer;
    struct buffer piece; /* made but not yet taken by the receiver */
    int64_t next_mono_ns;
    const char *refusal; /* why the body was no chat request; NULL: it was */
    bool stream;
    bool head_told;
    bool paused;
};

#define CALL_OF_TIMER(timer) ((struct demo_call *)(void *)((char *)(timer)-offsetof(struct demo_call, timer)))

static void free_call(struct demo_call *call) {
    loop_timer_clear(call->loop, &call->timer);
    if (call->refusal == NULL) {
        demo_answer_fini(&call->answer);
    }
    buffer_fini(&call->piece);
    free(call);
}

static void end_call(struct demo_call *call, enum upstream_result result) {
    const struct upstream_receiver *receiver = call->base.receiver;
    void *context = call->base.context;
    free_call(call);
    receiver->on_end(context, result);
}

static void tell_head(struct demo_call *call) {
    const struct upstream_head head = {.status = call->refusal != NULL ? 400 : 200,
                                       .content = call->refusal == NULL && call->stream ? UPSTREAM_EVENT_STREAM
                                                                                        : UPSTREAM_JSON,
                                       .retry_after_ms = -1};
    call->head_told = true;
    call->base.receiver->on_head(call->base.context, &head);
}

/* Puts the next piece of the answer into call->piece. False at the end. */
static bool make_piece(struct demo_call *call) {
    bool is_token = false;
    if (call->refusal != NULL || !call->stream) {
        return false;
    }
    if (!demo_answer_next(&call->answer, &call->piece, &is_token)) {
        return false;
    }
    call->next_mono_ns += is_token ? TOKEN_NS : 0;
    return true;
}

/* Hands over what is due, keeping to the schedule even when a turn came late. */
static void on_due(struct loop_timer *timer) {
    struct demo_call *call = CALL_OF_TIMER(timer);
    if (!call->head_told) {
        tell_head(call);
        if (call->refusal != NULL) {
            buffer_append_text(&call->piece, "{\"error\":{\"message\":");
            json_quote(&call->piece, span_text(call->refusal));
            buffer_append_text(&call->piece, ",\"type\":\"invalid_request_error\",\"param\":null,\"code\":null}}");
        } else if (!call->stream) {
            demo_answer_whole(&call->answer, &call->piece);
        }
    }
    while (call->piece.len != 0 || make_piece(call)) {
        if (!call->base.receiver->on_bytes(call->base.context, buffer_span(&call->piece))) {
            call->paused = true;
            return;
        }
        buffer_clear(&call->piece);
        if (call->next_mono_ns > clock_mono_ns()) {
            loop_timer_set(call->loop, &call->timer, call->next_mono_ns);
            return;
        }
    }
    end_call(call, UPSTREAM_ENDED);
}

static void cancel_call(struct upstream_call *base) { free_call((struct demo_call *)(void *)base); }

static void resume_call(struct upstream_call *base) {
    struct demo_call *call = (struct demo_call *)(void *)base;
    if (call->paused) {
        call->paused = false;
        loop_timer_set(call->loop, &call->timer, call->next_mono_ns);
    }
}

/* A demo answer that has said [DONE] ends in its next turn. */
static void let_call_go(struct upstream_call *base) { (void)base; }

static const struct upstream_driver demo_driver = {.cancel = cancel_call, .resume = resume_call, .let_go = let_call_go};

struct upstream_call *demo_side_start(struct loop *loop, const struct upstream_spec *spec) {
    struct demo_call *call = calloc(1, sizeof(*call));
    if (call == NULL) {
        return NULL;
    }
    struct json_doc scratch;
    json_doc_init(&scratch);
    call->base.driver = &demo_driver;
    call->loop = loop;
    call->timer.on_fire = on_due;
    call->stream = spec->stream;
    buffer_init(&call->piece, DEMO_ANSWER_BYTES_MOST);
    if (!demo_answer_init(&call->answer, &scratch, spec->body, clock_wall_ns() / NS_PER_S, &call->refusal)) {
        CHECK(call->refusal != NULL);
    }
    json_doc_fini(&scratch);
    int64_t delay_ns = THINK_NS;
    if (!call->stream && call->refusal == NULL) {
        int64_t whole_ns = demo_answer_tokens(&call->answer) * TOKEN_NS;
        delay_ns += whole_ns < WHOLE_ANSWER_MOST_NS ? whole_ns : WHOLE_ANSWER_MOST_NS;
    }
    call->next_mono_ns = clock_mono_ns() + delay_ns;
    loop_timer_set(loop, &call->timer, call->next_mono_ns);
    return &call->base;
}
