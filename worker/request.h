/* worker/request.h - one request, from its body to its settlement: an explicit state machine (request_steps.def).
 * Used by: the worker. Fronts make requests and tell them that the client has gone; the upstream side reports what an
 * upstream sent. Nothing here knows h2o or libcurl.
 * Rules: request_goto is the only writer of `state`. Callbacks translate to request_post and return; the machine goes
 * on at the end of the turn, outside every library's callbacks. Each admitted request is settled exactly once. A
 * request dies only at the end of a turn. Ownership: the worker owns requests; a request owns its arena, buffers and
 * slot. */
#ifndef TOLLGATE_WORKER_REQUEST_H
#define TOLLGATE_WORKER_REQUEST_H

#include "base/arena.h"
#include "shm/shm_keys.h"
#include "worker/answer.h"
#include "worker/chat_request.h"
#include "worker/client_form.h"
#include "worker/front.h"
#include "worker/json_elements.h"
#include "worker/loop.h"
#include "worker/messages_request.h"
#include "worker/sse.h"
#include "worker/stream_end.h"
#include "worker/translation.h"
#include "worker/upstream.h"
#include "worker/verdict.h"

struct worker;
struct endpoint;
struct journal_front;
struct journal_reader;
struct dialect;

enum request_state {
#define STEP(name, edges) REQUEST_##name,
#include "worker/request_steps.def"
#undef STEP
    REQUEST_STATES
};

enum { REQUEST_CLIENT_BYTES = 48, REQUEST_ARENA_BYTES = 1 << 20 };

/* What a front knows about a request when it has arrived. Spans live as long as the client's link. */
struct request_input {
    struct span method;
    struct span path;   /* normalised, without the query */
    struct span query;  /* without '?' */
    struct span target; /* as it was sent; what signatures cover */
    struct span body;
    const char *client; /* address, without port; behind a trusted proxy what it forwards for */
    bool is_http10;
    bool is_message; /* a WebSocket's: the key was shown, and any signature checked, at the upgrade */
};

enum limit_level { LIMIT_KEY, LIMIT_TENANT, LIMIT_MODEL, LIMIT_UPSTREAM, LIMIT_LEVELS };

/* What admission took from one level of the limits; given back or put right at settlement (limits.h). */
struct request_permit {
    bool in_flight;
    bool request;
    int64_t tokens;
};

/* Its place among those that wait for a rate (queue.h). */
struct request_queueing {
    int place; /* -1: none */
    int64_t since_mono_ns;
    int64_t room_mono_ns; /* when its limits should have room */
    int64_t waited_ns;
};

/* One try at one route. */
struct request_try {
    int model; /* index into conf.models: the model that serves */
    const struct conf_route *route;
    const struct conf_upstream *upstream;
    const struct dialect *dialect;
    uint32_t upstream_row;
    struct upstream_call *call; /* NULL when none runs */
    struct upstream_head head;
};

/* Why a try failed and what may be done about it. */
struct request_failure {
    enum error_kind kind;
    int64_t retry_after_ms;
    bool same_route;                /* the same route may be tried again */
    bool final;                     /* nothing else may be tried */
    bool is_guess;                  /* nobody said no: what was learned of the upstream's limit did */
    enum verdict_shortage shortage; /* of a rate limit: which */
};

struct request {
    uint32_t magic;
    enum request_state state;
    enum request_state posted; /* where the posted event leads; REQUEST_STATES: nothing is posted */
    struct worker *worker;
    struct request *next; /* the worker's list of live requests */
    struct request *previous;
    struct front *front; /* NULL once the client has gone or has its answer */
    struct loop_task task;
    struct loop_timer deadline;  /* of the state it waits in */
    struct loop_timer heartbeat; /* streams: time to say that we live */
    int64_t state_mono_ns[REQUEST_STATES];
    int64_t start_wall_ns;
    struct arena arena;

    const struct endpoint *endpoint;
    const char *allowed_method; /* of its path; for the 405 */
    struct request_input input;
    char client[REQUEST_CLIENT_BYTES];
    char id[SHM_REQUEST_ID_BYTES];
    char log_path[64]; /* for the access line; the input is gone by then */
    bool id_from_client;
    bool id_claimed; /* and nobody else of its tenant may use it */

    struct journal_front *journal; /* what its answer is kept by, which is its front then (journal_front.h) */
    struct journal_front *fed_by;  /* it only carries the client of the request with this front (FOLLOW) */
    struct journal_reader *reader; /* it reads another request's answer (FOLLOW, journal_reader.h) */
    bool is_carrier;               /* it was made by request_split: no line in the access log */
    struct buffer own_body;        /* its body, where that must outlive the client */

    bool has_key;
    uint32_t key_index;
    struct shm_key_sh key;
    struct shm_tenant_sh tenant;

    enum client_form form;
    struct chat_request chat;          /* what admission and routing go by, whatever the client's dialect */
    struct messages_request *messages; /* of a client that speaks Anthropic's; in the arena */
    bool stream;
    int model_asked;                       /* index into conf.models, aliases and rules followed */
    char model_name[SHM_MODEL_NAME_BYTES]; /* as the client wrote it */

    int slot; /* -1: none */
    struct shm_slot_sh *shared;
    struct request_permit permits[LIMIT_LEVELS];
    uint32_t pair_row;      /* of its key and model, where the model has limits; else SHM_NO_ROW */
    int64_t learned_tokens; /* charged to what is known of the upstream's own limit */
    int64_t charged_tokens; /* the token limits have been charged up to here */
    struct request_queueing queue;
    bool is_checked; /* admission has read it: only the limits are still to be taken */

    struct request_try attempt;
    int attempts;
    uint64_t tried_routes;
    int fallbacks_used;
    struct request_failure failure; /* of the latest try */
    struct buffer upstream_body;
    int64_t budget_max_tokens; /* the longest answer its budget affords; 0: no such cap */
    bool budget_ended;         /* its stream was ended because the money was */
    struct stream_end end;     /* what a last event of our own has to agree with */

    struct sse_splitter splitter;
    struct json_elements elements; /* in place of the splitter, where the stream is a JSON array */
    bool reads_elements;
    struct answer_listener listener;
    struct translation *translation; /* NULL: client and upstream speak the same dialect */
    struct verdict unmapped;         /* what a route's dialect cannot say; told when no other route serves */
    struct buffer answer;            /* what is not streamed, and error bodies */
    bool ignores_learned;            /* goes to an upstream although it seems to have no room */
    bool head_sent;
    bool served;        /* the client was given output of the upstream */
    bool backed_off;    /* it waits, or has waited, before trying a route again */
    bool paused;        /* its upstream is held back */
    bool parked;        /* it waits in ADMIT, SEND or SETTLE for the ledger's pause to end */
    bool upstream_done; /* the call has ended */
    enum upstream_result upstream_result;
    bool client_left;
    bool left_upstream_working; /* when it left, an upstream was at work on its request */
    bool error_event_sent;
    int64_t backed_off_mono_ns; /* since when */
    int64_t orphan_bytes;
    int64_t first_byte_wall_ns; /* of the answer's content to the client; 0: none yet */
    int64_t sent_upstream_mono_ns;
    int64_t last_write_mono_ns;
    int64_t upstream_wait_ns; /* spent waiting for upstreams, all tries */
    struct verdict verdict;
    int final_status;
};

/* Makes a request for a front and links both. Runs at the end of this turn. NULL: no memory. */
MUST_CHECK struct request *request_new(struct worker *worker, struct front *front, const struct request_input *input);

/* Leaves the client's link to a new request in FOLLOW, which is returned; this request needs another front then. NULL:
 * no memory, nothing has changed. */
MUST_CHECK struct request *request_split(struct request *request);

/* Front: the client has gone; both links are cut. The input's spans are void from now on. */
void request_client_gone(struct request *request);

/* Front: the client wants no more of it: as above, but its upstream is not read on whatever on_disconnect says. The
 * request lives until the end of the turn. */
void request_cancel(struct request *request);

/* Front: what was written has left; an upstream held back may go on. */
void request_drained(struct request *request);

/* The only writer of `state`; asserts the edge and stamps the time. */
void request_goto(struct request *request, enum request_state state);

/* Says where the machine goes at the end of this turn. The first post of a turn wins. */
void request_post(struct request *request, enum request_state state);
bool request_is_posted(const struct request *request);

/* The pause is over: a request that waited for it goes on. */
void request_unpark(struct request *request);

/* The single error door: keeps the verdict and posts FAIL. */
void request_fail(struct request *request, struct verdict verdict);

const char *request_state_name(enum request_state state);

#endif
