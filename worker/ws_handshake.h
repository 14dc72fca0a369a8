/* worker/ws_handshake.h - may this request become a WebSocket? Everything is judged before the upgrade, so that a
 * refusal is a plain HTTP answer: origin, version, handshake, dialect, draining, and a key with nothing left.
 * Used by: endpoints.c, for /v1/ws/chat and /v1/chat/stream, after the key was checked. */
#ifndef TOLLGATE_WORKER_WS_HANDSHAKE_H
#define TOLLGATE_WORKER_WS_HANDSHAKE_H

#include "worker/request.h"

/* Upgrades the connection, which cuts the link to the front; or says why not. */
struct verdict ws_handshake_chat(struct request *request);
struct verdict ws_handshake_stream(struct request *request);

/* Does the upgrade ask that completions can be resumed: x-tollgate-resume: 1, or ?resume=1? */
bool ws_handshake_asks_resume(const struct request *request);

/* A browser can set no header but this one: "Sec-WebSocket-Protocol: tollgate, tollgate.KEY" (or the form that OpenAI's
 * clients use, "openai-insecure-api-key.KEY"). The key among the protocols offered; empty when there is none. */
struct span ws_handshake_key(struct span protocols);

/* The protocol to answer with, which is never the one with the key; empty for none. */
struct span ws_handshake_protocol(struct span protocols);

#endif
