/* conf/conf_net.h - network texts of a configuration: addresses, URLs, private hosts, CIDRs.
 * Used by: the configuration parser only. Pure: nothing is resolved. Spans point into the caller's text. */
#ifndef TOLLGATE_CONF_CONF_NET_H
#define TOLLGATE_CONF_CONF_NET_H

#include "base/check.h"
#include "conf/conf.h"

struct conf_url {
    struct span scheme;
    struct span host; /* without brackets */
    struct span path; /* from its '/' on; empty when there is none */
};

/* Splits "host:port" or "[v6]:port"; the host comes without brackets. Port 0 is one. */
MUST_CHECK bool conf_net_split_address(struct span text, struct span *host, int *port);

/* Do two addresses name the same place to listen on? Compares IP addresses by value; port 0 is never the same. */
bool conf_net_same_address(const struct conf_address *a, const struct conf_address *b);

/* Splits a URL without credentials, query and fragment. Returns NULL, or what is wrong in words that quote nothing. */
const char *conf_net_split_url(struct span text, struct conf_url *out);

/* Is it a literal address (in any form inet_aton takes, IPv4 inside IPv6 too) that is loopback, private, link-local,
 * shared or unspecified, or a name for this machine? Other names are not looked up: false. */
bool conf_net_is_private(struct span host);

/* Is it a loopback address or localhost? */
bool conf_net_is_loopback(struct span host);

/* Is it an IP address with a prefix length, or without? */
bool conf_net_is_cidr(struct span text);

#endif
