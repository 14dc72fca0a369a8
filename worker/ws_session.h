/* worker/ws_session.h - what goes on over one WebSocket: its completions, its memory, its messages.
 * Used by: front_websocket.c, which carries the bytes. Nothing here knows libh2o or wslay.
 * Each completion is an ordinary request (request.h) whose front is here: the relay writes event-stream bytes to it,
 * and they leave as messages. On /v1/ws/chat completions run side by side, told apart by id; on /v1/chat/stream one
 * after the other, in the order of their messages, because chunks do not say which of them they belong to. A resumable
 * completion's request has a journal front (journal_front.h), and ours is its first client's; one that is resumed is a
 * GET /v1/streams/{id} of ours. Their events carry ids, and their messages say them. Ownership:
 * the session owns its completions and all that their requests' inputs point at. It never closes the wire itself, and
 * the wire must not end the session from inside its callbacks. */
#ifndef TOLLGATE_WORKER_WS_SESSION_H
#define TOLLGATE_WORKER_WS_SESSION_H

#include "worker/front.h"
#include "worker/loop.h"
#include "worker/request.h"
#include "worker/ws_memory.h"
#include "worker/ws_message.h"

enum { WS_COMPLETIONS_MOST = 64, WS_CREDENTIALS = 4 };

struct worker;
struct ws_completion;
struct ws_session;

/* What a session asks of its connection. */
struct ws_wire {
    /* Queues a text message; copies. */
    void (*send)(struct ws_session *session, struct span text);
    /* Bytes queued and not yet taken by the network. */
    size_t (*pending_bytes)(const struct ws_session *session);
    /* True when the connection shall end as soon as nothing runs on it. */
    bool (*is_leaving)(const struct ws_session *session);
    /* The last completion has ended. */
    void (*on_idle)(struct ws_session *session);
};

/* The headers of the upgrade that each of its completions shows again, and its query. Secrets: wiped at the end. */
struct ws_credentials {
    struct buffer text;
    struct span values[WS_CREDENTIALS];
    struct span query;
};

struct ws_session {
    struct worker *worker;
    const struct ws_wire *wire;
    enum ws_form form;
    char model[CHAT_MODEL_BYTES]; /* of the query */
    bool is_resumable;            /* as the upgrade asked: its completions, where their messages say nothing of it */
    char client[REQUEST_CLIENT_BYTES];
    struct ws_credentials credentials;
    struct ws_memory memory;
    struct ws_completion *first;
    struct ws_completion *last;
    int count;
    size_t body_bytes; /* of all completions */
    struct buffer text;
    struct loop_task reap;
};

/* The names of the headers that are kept, in the order of ws_credentials.values. */
extern const char *const ws_credential_names[WS_CREDENTIALS];

/* Sets a session up for a request that is about to be upgraded: takes over what it needs of it. False: no memory. */
MUST_CHECK bool ws_session_init(struct ws_session *session, const struct ws_wire *wire, struct request *request,
                                enum ws_form form);

/* The connection is gone: so are the clients of what runs (request_client_gone). Frees all. */
void ws_session_fini(struct ws_session *session);

/* The client is closing: cancels what runs. */
void ws_session_cancel(struct ws_session *session);

/* A text message of the client. */
void ws_session_take(struct ws_session *session, struct span text);

/* Some of what was queued has left: upstreams held back may go on. */
void ws_session_drained(struct ws_session *session);

/* Does nothing run or wait? */
bool ws_session_is_idle(const struct ws_session *session);

#endif
