/* admin/admin_gate.h - who may use the admin address.
 * Used by: the admin process's loop, for every request. Pure.
 * With a token configured, it is asked for. Without one (the configuration allows that on loopback addresses alone)
 * what protects the address is that only this machine reaches it; a web page in a browser of this machine reaches it
 * too, so requests are refused whose Host is no loopback name (DNS rebinding) or whose Origin is another one. */
#ifndef TOLLGATE_ADMIN_ADMIN_GATE_H
#define TOLLGATE_ADMIN_ADMIN_GATE_H

#include "base/span.h"

enum gate_verdict { GATE_OPEN, GATE_NO_TOKEN, GATE_WRONG_TOKEN, GATE_FOREIGN_HOST, GATE_FOREIGN_ORIGIN };

/* token: the configured one, or NULL. is_public: a path that needs no token (the page itself, its files). The spans are
 * the request's headers, empty when absent. */
enum gate_verdict gate_judge(const char *token, bool is_public, struct span authorization, struct span host,
                             struct span origin);

/* Is it "localhost", 127.x.x.x or [::1], with or without a port? */
bool gate_is_loopback(struct span host);

#endif
