/* worker/auth.h - who is asking, and may they use this model from there?
 * Used by: the request machine. Reads the key table in the segment; never blocks. Secrets are compared by SHA-256 in
 * constant time and wiped; the text of a key never leaves this file. */
#ifndef TOLLGATE_WORKER_AUTH_H
#define TOLLGATE_WORKER_AUTH_H

#include "worker/request.h"

/* Reads the credential, fills request->key and tenant. */
struct verdict auth_check(struct request *request);

/* Where a key may stand; empty spans where nothing stands. */
struct auth_sources {
    struct span authorization;
    struct span x_api_key;
    struct span api_key;
    struct span query_key;
    struct span protocol_key; /* of a WebSocket's upgrade (ws_handshake.h) */
};

/* Is there a key that exists, before the request's body is gathered? ERROR_NONE, or why not. */
struct verdict auth_peek(const struct worker *worker, const struct auth_sources *sources);

/* May this key use the model (an index into conf.models, aliases followed)? */
bool auth_allows_model(const struct request *request, int model);

/* Is `address` inside the network "10.0.0.0/8", "2001:db8::/32", or a single address? */
bool auth_network_holds(const char *network, const char *address);

#endif
