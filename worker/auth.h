/* worker/auth.h - who is asking, and may they use this model from there?
 * Used by: the request machine. Reads the key table in the segment; never blocks. Secrets are compared by SHA-256 in
 * constant time and wiped; the text of a key never leaves this file. */
#ifndef TOLLGATE_WORKER_AUTH_H
#define TOLLGATE_WORKER_AUTH_H

#include "worker/request.h"

/* Reads the credential, fills request->key and tenant. */
struct verdict auth_check(struct request *request);

/* May this key use the model (an index into conf.models, aliases followed)? */
bool auth_allows_model(const struct request *request, int model);

/* Is `address` inside the network "10.0.0.0/8", "2001:db8::/32", or a single address? */
bool auth_network_holds(const char *network, const char *address);

#endif
