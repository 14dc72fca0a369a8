/* worker/auth.h - who is asking, is the request theirs, and may they use this model from there?
 * Used by: the request machine. Reads the key table in the segment; never blocks. Secrets are compared by SHA-256 in
 * constant time and wiped; the text of a key never leaves this file and signature.c.
 * A wrong key counts against its address (shm_failures.h); past failed_auth_per_minute it gets 429 instead of 401. A
 * request without a key does not count, nor does a good key whose request is refused. */
#ifndef TOLLGATE_WORKER_AUTH_H
#define TOLLGATE_WORKER_AUTH_H

#include "worker/request.h"

/* Reads the credential, fills request->key and tenant; checks the key's state, the address and the signature. */
struct verdict auth_check(struct request *request);

/* For a request that has waited since: reads key and tenant anew and checks their states, the expiry and the address.
 */
struct verdict auth_check_again(struct request *request);

/* Where a key may stand; empty spans where nothing stands. */
struct auth_sources {
    struct span authorization;
    struct span x_api_key;
    struct span api_key;
    struct span query_key;
    struct span protocol_key; /* of a WebSocket's upgrade (ws_handshake.h) */
};

/* Is there a key that exists, before the request's body is gathered? ERROR_NONE, or why not. `client` is the address
 * that a wrong key counts against. */
struct verdict auth_peek(struct worker *worker, const struct auth_sources *sources, const char *client);

/* May this key use the model (an index into conf.models, aliases followed)? */
bool auth_allows_model(const struct request *request, int model);

#endif
