/* store/client.h - how the command line and the admin process ask for a change or a look at tenants, keys, credit and
 * prices: one operation, JSON in and JSON out.
 * With a server running, operations go to its ledger process over STATE_DIR/control.sock; without one the state lock is
 * taken, what a dead server left is recovered, and the operation runs here on the store itself. The answers are the
 * same.
 *
 * Request:  {"op": NAME, ...arguments}. Answer: {"ok": true, "result": ...} or
 *           {"ok": false, "error": {"kind": "invalid|not_found|conflict|unavailable", "field": NAME or null, "message":
 * TEXT}}. Arguments are the command line's names: name, tier, rpm, tpm, concurrent, budget (decimal USD), per
 * (day|month|total), credit, markup; for keys also tenant, models [..], expires (text or null), allow_ip [..],
 * require_signature, tags {..}. null removes a setting in an update. A "key" argument is a key id, a name (unique, or
 * with "tenant"), or the key itself.
 *
 *   flush                 commits every settled record now; answers {"lag_records": 0}
 *   tenant.create|update  -> the tenant object      tenant.list {limit, after} -> {"data":[..],"has_more"}
 *   tenant.show|disable|enable {name} -> the tenant object
 *   key.create -> the key object plus "secret", once   key.list {tenant, limit, after}
 * key.show|update|disable|enable|revoke {key} key.rotate {key, grace (duration text)} -> the key object plus the new
 * "secret" credit.add {tenant, usd, ref} -> {"applied": bool, "tenant", "ref", "usd", "credit_usd"} credit.history
 * {tenant} -> {"data":[{at, ref, usd}]} price.list ->
 * {"data":[{model,input,output,cached_input,cache_write,from,source: "book"|"file"}]} price.set {model, input, output,
 * cached_input, cache_write, from}   price.import {csv} -> {"imported", "not_configured": [models]} verify ->
 * {"records", "problem_count", "problems": [texts]}   backup {dir}   compact -> {"before_bytes", "after_bytes"}
 *
 * verify and backup run in the calling process even beside a server, which must not have a ledger of its own open then;
 * compact runs in the server, whose records wait in the segment meanwhile. A tenant object shows the limits in force,
 * its tier's where it sets none; credit_usd is what is left, null for a tenant that is not prepaid; a tenant.update
 * with credit sets what is left. state: active, disabled, and for keys revoked or expired. Lists give at most 1,000
 * rows; "after" is the last name or key id seen.
 *
 * tenant object: {name, tier, rpm, tpm, concurrent, budgets{day,month,total}, markup, credit_usd, state, created,
 * spend_usd{day,month,total}} key object:    {id, name, tenant, state, created, expires, rpm, tpm, concurrent, budgets,
 * models, allow_ip, require_signature, tags, spend_usd} Blocking: sockets and disk. Never call from a worker. */
#ifndef TOLLGATE_STORE_CLIENT_H
#define TOLLGATE_STORE_CLIENT_H

#include "base/buffer.h"
#include "conf/conf.h"

struct client;

/* Connects to the running server of conf->state_dir, or takes the lock. make_state: create the state directory when it
 * is missing. NULL with *error set. */
MUST_CHECK struct client *client_open(const struct conf *conf, bool make_state, struct buffer *error);

/* As client_open, but only to a running server: NULL when none answers. What the admin process uses. */
MUST_CHECK struct client *client_connect(const char *state_dir, struct buffer *error);
void client_close(struct client *client);

/* Is there a server behind it (rather than the store itself)? */
bool client_is_remote(const struct client *client);

/* Runs one operation. Appends the whole JSON answer to `answer`. Returns its "ok". Transport faults are answered as
 * kind "unavailable". */
bool client_call(struct client *client, struct span request, struct buffer *answer);

#endif
