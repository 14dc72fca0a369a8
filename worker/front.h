/* worker/front.h - the client's side of a request, whatever protocol it came by.
 * Used by: the request machine drives it; front_http.c implements it (HTTP/1.1 and HTTP/2).
 * Links: front.request and request.front point at each other until either side cuts both (front_detach). After answer,
 * or end, the front delivers what it has on its own and the request may die. */
#ifndef TOLLGATE_WORKER_FRONT_H
#define TOLLGATE_WORKER_FRONT_H

#include "base/span.h"

struct request;
struct front;

enum { REPLY_HEADERS_MOST = 40 };

/* How a WebSocket speaks (ws_message.h). */
enum ws_form {
    WS_FORM_CONTENT, /* /v1/ws/chat */
    WS_FORM_STREAM,  /* /v1/ws/chat?dialect=stream */
    WS_FORM_CHUNKS   /* /v1/chat/stream: bodies in, chunks out */
};

struct reply_header {
    const char *name; /* lower case; a literal */
    const char *value;
};

/* A response head. Values are copied by the front. */
struct reply {
    int status;
    int header_count;
    struct reply_header headers[REPLY_HEADERS_MOST];
};

struct front_driver {
    /* A request header by its lower-case name; empty when absent. Valid while the client is there. */
    struct span (*header)(const struct front *front, const char *name);
    /* Does the header stand there twice with different values? */
    bool (*header_differs)(const struct front *front, const char *name);
    /* Sends a whole response and cuts the link. */
    void (*answer)(struct front *front, const struct reply *reply, struct span body);
    /* Sends the head of a stream. */
    void (*start)(struct front *front, const struct reply *reply);
    /* Adds bytes to what leaves at the end of this turn. Copies. */
    void (*write)(struct front *front, struct span bytes);
    /* Ends the stream after what was written, so that it looks complete to HTTP, or broken; cuts the link. */
    void (*end)(struct front *front, bool whole);
    /* Bytes written and not yet taken by the network. */
    size_t (*pending_bytes)(const struct front *front);
    /* NULL where nobody asks. The stream about to begin can be resumed as the request's id; its events carry ids. */
    void (*on_resumable)(struct front *front);
    /* NULL where a request can't become a WebSocket. Does it ask to? */
    bool (*asks_websocket)(const struct front *front);
    /* Makes the connection a WebSocket, with this head (101), and cuts the link. False: no memory; nothing was done. */
    bool (*upgrade)(struct front *front, const struct reply *reply, enum ws_form form);
};

struct front {
    const struct front_driver *driver;
    struct request *request; /* NULL once the link is cut */
};

#endif
