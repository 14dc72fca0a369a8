/* One row for each thing that can be wrong with a file, and the exact findings it must give. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "conf_testing.h"

struct bad_file {
    const char *name;
    const char *text;
    const char *findings;
};

static const struct bad_file bad_files[] = {
    {"empty file", "", "t.yaml:1:1: the file is empty; conf/sample.yaml shows a complete one\n"},
    {"comments only",
     "# nothing\n"
     "\n",
     "t.yaml:1:1: the file is empty; conf/sample.yaml shows a complete one\n"},
    {"null document", "~\n", "t.yaml:1:1: the file is empty; conf/sample.yaml shows a complete one\n"},
    {"not a mapping", "- listen\n",
     "t.yaml:1:1: a configuration is a mapping of settings; conf/sample.yaml shows one\n"},
    {"a bare text", "hello\n", "t.yaml:1:1: a configuration is a mapping of settings; conf/sample.yaml shows one\n"},
    {"broken flow", "tiers: {free: {rpm: 60\n",
     "t.yaml:2:1: not valid YAML: did not find expected ',' or '}' while parsing a flow mapping\n"},
    {"tab as indentation",
     "tiers:\n"
     "\tfree: {}\n",
     "t.yaml:2:1: not valid YAML: found character that cannot start any token while scanning for the next token\n"},
    {"bad utf-8", "state: ab\377\n", "t.yaml:1:10: not valid YAML: invalid leading UTF-8 octet\n"},
    {"control character", "state: 'a\001b'\n", "t.yaml:1:10: not valid YAML: control characters are not allowed\n"},
    {"second document",
     "timezone: UTC\n"
     "---\n"
     "timezone: UTC\n",
     "t.yaml:2:1: a second document starts here; a configuration is one document\n"},
    {"anchor and alias",
     "tiers:\n"
     "  a: &x {rpm: 1}\n"
     "  b: *x\n",
     "t.yaml:2:6: anchors and aliases (& and *) are not supported; write the value out\n"
     "t.yaml:3:6: anchors and aliases (& and *) are not supported; write the value out\n"},
    {"merge key",
     "tiers:\n"
     "  a: {rpm: 1}\n"
     "  b:\n"
     "    <<: {rpm: 2}\n",
     "t.yaml:4:5: merge keys (<<) are not supported; write the settings out\n"},
    {"tag", "workers: !!int 3\n", "t.yaml:1:10: tags (!) are not supported; write the value without one\n"},
    {"complex key",
     "? [a, b]\n"
     ": 1\n",
     "t.yaml:1:3: a name must be a text, not a list or a mapping\n"},
    {"too deep", "a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n", "t.yaml:1:35: nested deeper than 32 levels\n"},
    {"duplicate at top level",
     "timezone: UTC\n"
     "workers: 1\n"
     "timezone: UTC\n",
     "t.yaml:3:1: duplicate name \"timezone\"; it stands on line 1 already, keep one of the two\n"},
    {"duplicate names",
     "tiers:\n"
     "  free: {rpm: 1}\n"
     "  pro: {rpm: 2}\n"
     "  free: {rpm: 3}\n",
     "t.yaml:4:3: duplicate name \"free\" in tiers; it stands on line 2 already, keep one of the two\n"},
    {"duplicate field in a route",
     "upstreams: {demo: {dialect: demo}}\n"
     "models:\n"
     "  a:\n"
     "    routes:\n"
     "      - {upstream: demo, weight: 1, weight: 2}\n",
     "t.yaml:5:37: duplicate name \"weight\" in models.a.routes; it stands on line 5 already, keep one of the two\n"},
    {"three times",
     "workers: 1\n"
     "workers: 2\n"
     "workers: 3\n",
     "t.yaml:2:1: duplicate name \"workers\"; it stands on line 1 already, keep one of the two\n"
     "t.yaml:3:1: duplicate name \"workers\"; it stands on line 1 already, keep one of the two\n"},
    {"unknown top level", "modles: {}\n",
     "t.yaml:1:1: unknown field \"modles\" at the top level; did you mean \"models\"?\n"},
    {"unknown in a tier",
     "upstreams: {demo: {dialect: demo}}\n"
     "models: {a: {routes: [{upstream: demo}]}}\n"
     "tiers:\n"
     "  free: {rpm: 60, modles: [a]}\n",
     "t.yaml:4:19: unknown field \"modles\" in tiers.free; did you mean \"models\"?\n"},
    {"unknown without likeness", "retry: {colour: red}\n",
     "t.yaml:1:9: unknown field \"colour\" in retry; the fields here are attempts, base, max\n"},
    {"unknown in a list",
     "upstreams: {demo: {dialect: demo}}\n"
     "models: {a: {routes: [{upstream: demo, wieght: 2}]}}\n",
     "t.yaml:2:40: unknown field \"wieght\" in models.a.routes[0]; did you mean \"weight\"?\n"},
    {"unknown name with escapes", "\"a\\eb\\n\": 1\n",
     "t.yaml:1:1: unknown field \"a?b?\" at the top level; the fields here are listen, admin, workers, state, "
     "timezone, currency, upstreams, models, tiers, budget_warning, retry, breaker, streams, cors, user, "
     "request_limits, "
     "trusted_proxies, drain_timeout, log, retention, cluster, capacity\n"},
    {"mapping for a scalar", "workers: {n: 1}\n",
     "t.yaml:1:10: workers: needs auto or a whole number, not a mapping\n"},
    {"list for a scalar", "state: [a]\n", "t.yaml:1:8: state: needs a path, not a list\n"},
    {"scalar for a mapping", "retry: 3\n", "t.yaml:1:8: retry: needs a mapping\n"},
    {"scalar for a list", "listen: 127.0.0.1:8080\n", "t.yaml:1:9: listen: needs a list of mappings\n"},
    {"text in a list of mappings", "listen: [127.0.0.1:8080]\n", "t.yaml:1:10: listen[0]: needs a mapping\n"},
    {"no value",
     "retry:\n"
     "timezone:\n",
     "t.yaml:1:7: retry: has no value; it needs a mapping\n"
     "t.yaml:2:10: timezone: has no value; it needs a time zone\n"},
    {"empty text", "timezone: ''\n", "t.yaml:1:11: timezone: is empty; it needs a time zone\n"},
    {"quoted number", "tiers: {a: {rpm: \"60\"}}\n",
     "t.yaml:1:18: tiers.a.rpm: \"60\" is no whole number; write digits only, without quotes\n"},
    {"text for a number", "tiers: {a: {rpm: many, tpm: 1.5, concurrent: 1e3}}\n",
     "t.yaml:1:18: tiers.a.rpm: \"many\" is no whole number; write digits only, without quotes\n"
     "t.yaml:1:29: tiers.a.tpm: \"1.5\" is no whole number; write digits only, without quotes\n"
     "t.yaml:1:46: tiers.a.concurrent: \"1e3\" is no whole number; write digits only, without quotes\n"},
    {"quoted boolean", "upstreams: {a: {dialect: openai, base_url: https://x.example, allow_private: 'true'}}\n",
     "t.yaml:1:78: upstreams.a.allow_private: \"true\" is no boolean; write true or false, without quotes\n"},
    {"yes for true", "upstreams: {a: {dialect: openai, base_url: https://x.example, allow_private: yes}}\n",
     "t.yaml:1:78: upstreams.a.allow_private: \"yes\" is no boolean; write true or false, without quotes\n"},
    {"empty list",
     "listen: []\n"
     "tiers: {a: {models: []}}\n",
     "t.yaml:1:9: listen: is empty; give at least one or leave it out\n"
     "t.yaml:2:21: tiers.a.models: is empty; give at least one or leave it out\n"},
    {"out of range", "tiers: {a: {rpm: -1, tpm: 1000000000001, concurrent: 99999999999999999999}}\n",
     "t.yaml:1:18: tiers.a.rpm: \"-1\" is out of range; use 1 to 1000000000\n"
     "t.yaml:1:27: tiers.a.tpm: \"1000000000001\" is out of range; use 1 to 1000000000000\n"
     "t.yaml:1:54: tiers.a.concurrent: \"99999999999999999999\" is out of range; use 1 to 1000000\n"},
    {"limits of nothing", "tiers: {a: {rpm: 0, tpm: 0, concurrent: 0, budget: {amount: 0, per: day}}}\n",
     "t.yaml:1:18: tiers.a.rpm: \"0\" is out of range; use 1 to 1000000000\n"
     "t.yaml:1:26: tiers.a.tpm: \"0\" is out of range; use 1 to 1000000000000\n"
     "t.yaml:1:41: tiers.a.concurrent: \"0\" is out of range; use 1 to 1000000\n"
     "t.yaml:1:61: tiers.a.budget.amount: \"0\" is out of range; use 0.000000001 to 1000000000\n"},
    {"an upstream's limits of nothing", "upstreams: {a: {dialect: demo, limits: {rpm: 0, tpm: 1.5, concurrent: -1}}}\n",
     "t.yaml:1:46: upstreams.a.limits.rpm: \"0\" is out of range; use 1 to 1000000000\n"
     "t.yaml:1:54: upstreams.a.limits.tpm: \"1.5\" is no whole number; write digits only, without quotes\n"
     "t.yaml:1:71: upstreams.a.limits.concurrent: \"-1\" is out of range; use 1 to 1000000\n"},
    {"retry attempts", "retry: {attempts: 11}\n", "t.yaml:1:19: retry.attempts: \"11\" is out of range; use 1 to 10\n"},
    {"retry attempts zero", "retry: {attempts: 0}\n",
     "t.yaml:1:19: retry.attempts: \"0\" is out of range; use 1 to 10\n"},
    {"workers", "workers: 257\n", "t.yaml:1:10: workers: \"257\" is no number of workers; write auto or 1 to 256\n"},
    {"workers text", "workers: all\n",
     "t.yaml:1:10: workers: \"all\" is no number of workers; write auto or 1 to 256\n"},
    {"duration", "drain_timeout: 5 seconds\n",
     "t.yaml:1:16: drain_timeout: \"5 seconds\" is no duration; write a whole number with ms, s, m, h or d, such as "
     "60s\n"},
    {"duration without unit", "drain_timeout: 60\n",
     "t.yaml:1:16: drain_timeout: \"60\" is no duration; write a whole number with ms, s, m, h or d, such as 60s\n"},
    {"duration overflow", "drain_timeout: 9223372036854775807d\n",
     "t.yaml:1:16: drain_timeout: \"9223372036854775807d\" is no duration; write a whole number with ms, s, m, h or d, "
     "such as 60s\n"},
    {"duration range", "drain_timeout: 8d\n", "t.yaml:1:16: drain_timeout: \"8d\" is out of range; use 0ms to 7d\n"},
    {"size", "request_limits: {body: 16MB}\n",
     "t.yaml:1:24: request_limits.body: \"16MB\" is no size; write a whole number of bytes or with KiB, MiB or GiB, "
     "such as 16MiB\n"},
    {"size range", "request_limits: {body: 2GiB}\n",
     "t.yaml:1:24: request_limits.body: \"2GiB\" is out of range; use 1 to 1GiB\n"},
    {"base longer than max", "retry: {base: 6s}\n",
     "t.yaml:1:15: retry.base: base is longer than max; lower base or raise max\n"},
    {"bodies smaller than body", "request_limits: {body: 16MiB, bodies_per_connection: 8MiB}\n",
     "t.yaml:1:54: request_limits.bodies_per_connection: is smaller than request_limits.body; no such body could ever "
     "arrive\n"},
    {"choices",
     "log: {format: jsn, level: loud}\n"
     "streams: {on_disconnect: stop}\n",
     "t.yaml:1:15: log.format: \"jsn\" is unknown; did you mean \"json\"?\n"
     "t.yaml:1:27: log.level: \"loud\" is unknown; write error, warn, info or debug\n"
     "t.yaml:2:26: streams.on_disconnect: \"stop\" is unknown; write cancel or drain\n"},
    {"http version", "upstreams: {a: {dialect: openai, base_url: https://x.example, http: 3}}\n",
     "t.yaml:1:69: upstreams.a.http: \"3\" is unknown; write 1.1 or 2\n"},
    {"ten decimals",
     "upstreams: {demo: {dialect: demo}}\n"
     "models: {a: {routes: [{upstream: demo, cost: {input: 0.0000000001, output: 1}}]}}\n",
     "t.yaml:2:54: models.a.routes[0].cost.input: \"0.0000000001\" is no amount; write a decimal with at most nine "
     "decimals, such as 2.50\n"},
    {"negative price",
     "upstreams: {demo: {dialect: demo}}\n"
     "models: {a: {price: {input: -1, output: 2}, routes: [{upstream: demo}]}}\n",
     "t.yaml:2:29: models.a.price.input: \"-1\" is out of range; use 0 to 100000\n"},
    {"price with exponent",
     "upstreams: {demo: {dialect: demo}}\n"
     "models: {a: {price: {input: 1e-3, output: $2}, routes: [{upstream: demo}]}}\n",
     "t.yaml:2:29: models.a.price.input: \"1e-3\" is no amount; write a decimal with at most nine decimals, such as "
     "2.50\n"
     "t.yaml:2:43: models.a.price.output: \"$2\" is no amount; write a decimal with at most nine decimals, such as "
     "2.50\n"},
    {"price too large",
     "upstreams: {demo: {dialect: demo}}\n"
     "models: {a: {list_price: {input: 100000.000000001, output: 0}, routes: [{upstream: demo}]}}\n",
     "t.yaml:2:34: models.a.list_price.input: \"100000.000000001\" is out of range; use 0 to 100000\n"},
    {"price without output",
     "upstreams: {demo: {dialect: demo}}\n"
     "models:\n"
     "  a:\n"
     "    price: {input: 1}\n"
     "    routes: [{upstream: demo}]\n",
     "t.yaml:4:5: models.a.price.output: is missing; it needs a decimal\n"},
    {"budget", "tiers: {a: {budget: {amount: 5}}, b: {budget: {amount: five, per: week}}}\n",
     "t.yaml:1:13: tiers.a.budget.per: is missing; it needs day, month or total\n"
     "t.yaml:1:56: tiers.b.budget.amount: \"five\" is no amount; write a decimal with at most nine decimals, such as "
     "2.50\n"
     "t.yaml:1:67: tiers.b.budget.per: \"week\" is unknown; write day, month or total\n"},
    {"names", "tiers: {'a b': {}, '': {}, xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: {}}\n",
     "t.yaml:1:9: tiers.\"a b\": is no valid name; use 1 to 63 characters of A-Z a-z 0-9 . _ : / @ -\n"
     "t.yaml:1:20: tiers.\"\": is no valid name; use 1 to 63 characters of A-Z a-z 0-9 . _ : / @ -\n"
     "t.yaml:1:28: tiers.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: is no valid name; use 1 to "
     "63 characters of A-Z a-z 0-9 . _ : / @ -\n"},
    {"model name of 96",
     "upstreams: {demo: {dialect: demo}}\n"
     "models: {mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm: "
     "{routes: [{upstream: demo}]}}\n",
     "t.yaml:2:10: "
     "models.mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm: is no "
     "valid name; use 1 to 95 characters of A-Z a-z 0-9 . _ : / @ -\n"},
    {"dangling upstream",
     "upstreams: {demo: {dialect: demo}}\n"
     "models: {a: {routes: [{upstream: dem}]}}\n",
     "t.yaml:2:34: models.a.routes[0].upstream: \"dem\" names no upstream; did you mean \"demo\"?\n"},
    {"dangling without likeness", "models: {a: {routes: [{upstream: azure}]}}\n",
     "t.yaml:1:34: models.a.routes[0].upstream: \"azure\" names no upstream; define it under upstreams\n"},
    {"dangling models",
     "upstreams: {demo: {dialect: demo}}\n"
     "models:\n"
     "  gpt-4.1: {routes: [{upstream: demo}], fallback: [gpt-41]}\n"
     "  b: {alias: zzz}\n"
     "  c: {rules: [{model: gpt-4.l}]}\n"
     "tiers: {t: {models: [gpt-4.1, claude]}}\n",
     "t.yaml:3:52: models.gpt-4.1.fallback[0]: \"gpt-41\" names no model; did you mean \"gpt-4.1\"?\n"
     "t.yaml:4:14: models.b.alias: \"zzz\" names no model; define it under models\n"
     "t.yaml:5:23: models.c.rules[0].model: \"gpt-4.l\" names no model; did you mean \"gpt-4.1\"?\n"
     "t.yaml:6:31: tiers.t.models[1]: \"claude\" names no model; define it under models\n"},
    {"model without anything",
     "models:\n"
     "  a: {}\n",
     "t.yaml:2:3: models.a: leads nowhere; give it routes, an alias or rules\n"},
    {"model with no value",
     "models:\n"
     "  a:\n"
     "  b: {alias: a}\n",
     "t.yaml:2:5: models.a: has no value; it needs a mapping\n"},
    {"route without upstream", "models: {a: {routes: [{weight: 2}]}}\n",
     "t.yaml:1:23: models.a.routes[0].upstream: is missing; it needs an upstream's name\n"},
    {"rule without model", "models: {a: {rules: [{when: {tools: true}}]}}\n",
     "t.yaml:1:22: models.a.rules[0].model: is missing; it needs a model's name\n"},
    {"alias with more",
     "upstreams: {demo: {dialect: demo}}\n"
     "models: {a: {routes: [{upstream: demo}]}, b: {alias: a, context: 5}}\n",
     "t.yaml:2:57: models.b.context: a model with alias has no settings of its own; set it where the model is\n"},
    {"rules with routes",
     "upstreams: {demo: {dialect: demo}}\n"
     "models: {a: {routes: [{upstream: demo}]}, b: {rules: [{model: a}], routes: [{upstream: demo}]}}\n",
     "t.yaml:2:68: models.b.routes: a model with rules has no settings of its own; set it where the model is\n"},
    {"alias of itself", "models: {a: {alias: a}}\n",
     "t.yaml:1:21: models.a.alias: the aliases go round in a circle -> a; lead one of them to a model with routes\n"},
    {"circle of aliases",
     "models:\n"
     "  a: {alias: b}\n"
     "  b: {alias: c}\n"
     "  c: {alias: a}\n"
     "  d: {alias: a}\n",
     "t.yaml:2:14: models.a.alias: the aliases go round in a circle -> b -> c -> a; lead one of them to a model with "
     "routes\n"},
    {"fallback to itself",
     "upstreams: {demo: {dialect: demo}}\n"
     "models:\n"
     "  a: {routes: [{upstream: demo}], fallback: [b]}\n"
     "  b: {alias: a}\n",
     "t.yaml:3:46: models.a.fallback[0]: falls back to itself; name another model\n"},
    {"fallback twice",
     "upstreams: {demo: {dialect: demo}}\n"
     "models:\n"
     "  a: {routes: [{upstream: demo}], fallback: [b, b]}\n"
     "  b: {routes: [{upstream: demo}]}\n",
     "t.yaml:3:49: models.a.fallback[1]: \"b\" stands in this list already\n"},
    {"fallback to rules",
     "upstreams: {demo: {dialect: demo}}\n"
     "models:\n"
     "  a: {routes: [{upstream: demo}], fallback: [b]}\n"
     "  b: {rules: [{model: a}]}\n",
     "t.yaml:3:46: models.a.fallback[0]: falls back to rules; name a model with routes\n"},
    {"rules to rules",
     "upstreams: {demo: {dialect: demo}}\n"
     "models:\n"
     "  b: {rules: [{model: c}]}\n"
     "  c: {rules: [{model: b}]}\n",
     "t.yaml:3:23: models.b.rules[0].model: leads to rules again; name a model with routes\n"
     "t.yaml:4:23: models.c.rules[0].model: leads to rules again; name a model with routes\n"},
    {"weight and priority",
     "upstreams: {demo: {dialect: demo}}\n"
     "models: {a: {routes: [{upstream: demo, weight: 0, priority: 1.5}]}}\n",
     "t.yaml:2:48: models.a.routes[0].weight: \"0\" is out of range; use 1 to 1000000\n"
     "t.yaml:2:61: models.a.routes[0].priority: \"1.5\" is no whole number; write digits only, without quotes\n"},
    {"addresses",
     "listen:\n"
     "  - address: 8080\n"
     "  - address: localhost\n"
     "  - address: '[::1:8080'\n"
     "  - address: 127.0.0.1:-1\n"
     "  - address: 127.0.0.1:65536\n"
     "  - address: '::1:8080'\n"
     "  - {}\n",
     "t.yaml:2:14: listen[0].address: \"8080\" is no address; write HOST:PORT such as 127.0.0.1:8080 or [::1]:8080\n"
     "t.yaml:3:14: listen[1].address: \"localhost\" is no address; write HOST:PORT such as 127.0.0.1:8080 or "
     "[::1]:8080\n"
     "t.yaml:4:14: listen[2].address: \"[::1:8080\" is no address; write HOST:PORT such as 127.0.0.1:8080 or "
     "[::1]:8080\n"
     "t.yaml:5:14: listen[3].address: \"127.0.0.1:-1\" is no address; write HOST:PORT such as 127.0.0.1:8080 or "
     "[::1]:8080\n"
     "t.yaml:6:14: listen[4].address: \"127.0.0.1:65536\" is no address; write HOST:PORT such as 127.0.0.1:8080 or "
     "[::1]:8080\n"
     "t.yaml:7:14: listen[5].address: \"::1:8080\" is no address; write HOST:PORT such as 127.0.0.1:8080 or "
     "[::1]:8080\n"
     "t.yaml:8:5: listen[6].address: is missing; it needs an address\n"},
    {"listen twice",
     "listen:\n"
     "  - address: '[::1]:8080'\n"
     "  - address: 127.0.0.1:8080\n"
     "  - address: '[0:0::1]:8080'\n",
     "t.yaml:4:14: listen[2].address: this address is listened on already; use another port\n"},
    {"admin on a listener", "listen: [{address: 127.0.0.1:9090}]\n",
     "t.yaml:1:20: listen[0].address: this address is listened on already; use another port\n"},
    {"listener on admin",
     "listen: [{address: 127.0.0.1:80}]\n"
     "admin: {address: 127.0.0.1:80}\n",
     "t.yaml:2:18: admin.address: this address is listened on already; use another port\n"},
    {"open admin without a token", "admin: {address: 0.0.0.0:9090}\n",
     "t.yaml:1:18: admin.address: other machines can reach this address; set admin.token, or use 127.0.0.1\n"},
    {"tls without key", "listen: [{address: 127.0.0.1:8443, tls: {certificate: missing.pem}}]\n",
     "t.yaml:1:36: listen[0].tls.key: is missing; it needs a file name\n"
     "t.yaml:1:55: listen[0].tls.certificate: the file \"missing.pem\" cannot be read: No such file or directory\n"},
    {"tls with a directory", "listen: [{address: 127.0.0.1:8443, tls: {certificate: /, key: /dev/null}}]\n",
     "t.yaml:1:55: listen[0].tls.certificate: the file \"/\" cannot be read: Is a directory\n"
     "t.yaml:1:63: listen[0].tls.key: the file \"/dev/null\" cannot be read: it is no regular file\n"},
    {"address ranges",
     "trusted_proxies: [10.0.0.0/8, 10.0.0.0/33, 'fd00::/8', '::/129', example.com, 1.2.3.4/, "
     "1.2.3.4/-1, 10.0.0.0/8]\n",
     "t.yaml:1:31: trusted_proxies[1]: \"10.0.0.0/33\" is no address range; write one such as "
     "10.0.0.0/8 or fd00::/8\n"
     "t.yaml:1:56: trusted_proxies[3]: \"::/129\" is no address range; write one such as 10.0.0.0/8 or "
     "fd00::/8\n"
     "t.yaml:1:66: trusted_proxies[4]: \"example.com\" is no address range; write one such as "
     "10.0.0.0/8 or fd00::/8\n"
     "t.yaml:1:79: trusted_proxies[5]: \"1.2.3.4/\" is no address range; write one such as 10.0.0.0/8 "
     "or fd00::/8\n"
     "t.yaml:1:89: trusted_proxies[6]: \"1.2.3.4/-1\" is no address range; write one such as "
     "10.0.0.0/8 or fd00::/8\n"
     "t.yaml:1:101: trusted_proxies[7]: \"10.0.0.0/8\" stands in this list already\n"},
    {"origins", "cors: {origins: ['*', https://a.example, https://a.example/, a.example, https://a.example]}\n",
     "t.yaml:1:42: cors.origins[2]: \"https://a.example/\" is no origin; write * or SCHEME://HOST[:PORT] without a "
     "path\n"
     "t.yaml:1:62: cors.origins[3]: \"a.example\" is no origin; write * or SCHEME://HOST[:PORT] without a path\n"
     "t.yaml:1:73: cors.origins[4]: \"https://a.example\" stands in this list already\n"},
    {"upstream without dialect",
     "upstreams:\n"
     "  a: {base_url: https://x.example}\n",
     "t.yaml:2:3: upstreams.a.dialect: is missing; it needs openai, anthropic, gemini or demo\n"},
    {"upstream without base_url",
     "upstreams:\n"
     "  a: {dialect: openai}\n",
     "t.yaml:2:3: upstreams.a.base_url: is missing; every dialect but demo needs it\n"},
    {"unknown dialect", "upstreams: {a: {dialect: opanai, base_url: https://x.example}}\n",
     "t.yaml:1:26: upstreams.a.dialect: \"opanai\" is unknown; did you mean \"openai\"?\n"},
    {"url scheme", "upstreams: {a: {dialect: openai, base_url: 'ftp://x.example'}}\n",
     "t.yaml:1:44: upstreams.a.base_url: the URL is neither http:// nor https://\n"},
    {"url bare", "upstreams: {a: {dialect: openai, base_url: 'api.openai.com/v1'}}\n",
     "t.yaml:1:44: upstreams.a.base_url: the URL has no scheme; write it like https://api.example.com/v1\n"},
    {"url credentials", "upstreams: {a: {dialect: openai, base_url: 'https://user:hunter2@x.example/v1'}}\n",
     "t.yaml:1:44: upstreams.a.base_url: the URL has credentials in it; put the secret where it belongs, in api_key or "
     "headers\n"},
    {"url query", "upstreams: {a: {dialect: openai, base_url: 'https://x.example/v1?key=hunter2'}}\n",
     "t.yaml:1:44: upstreams.a.base_url: the URL has a query; write the URL up to the '?'\n"},
    {"url fragment", "upstreams: {a: {dialect: openai, base_url: 'https://x.example/#a'}}\n",
     "t.yaml:1:44: upstreams.a.base_url: the URL has a fragment; write the URL up to the '#'\n"},
    {"url space", "upstreams: {a: {dialect: openai, base_url: 'https://x.example/a b'}}\n",
     "t.yaml:1:44: upstreams.a.base_url: the URL has a character that no URL has\n"},
    {"url no host", "upstreams: {a: {dialect: openai, base_url: 'https:///v1'}}\n",
     "t.yaml:1:44: upstreams.a.base_url: the URL has no valid host and port; write it like "
     "https://api.example.com:8443/v1\n"},
    {"url port", "upstreams: {a: {dialect: openai, base_url: 'https://x.example:0/v1'}}\n",
     "t.yaml:1:44: upstreams.a.base_url: the URL has no valid host and port; write it like "
     "https://api.example.com:8443/v1\n"},
    {"url port text", "upstreams: {a: {dialect: openai, base_url: 'https://x.example:http/'}}\n",
     "t.yaml:1:44: upstreams.a.base_url: the URL has no valid host and port; write it like "
     "https://api.example.com:8443/v1\n"},
    {"headers",
     "upstreams:\n"
     "  a:\n"
     "    dialect: demo\n"
     "    headers:\n"
     "      X-One: a\n"
     "      x-one: b\n"
     "      'a b': c\n"
     "      Connection: close\n"
     "      x-two: \"a\\r\\nb: hunter2\"\n"
     "      \"x\\n\": d\n"
     "      x-three: [a]\n",
     "t.yaml:6:7: upstreams.a.headers.x-one: this header stands on line 5 already, in other letters\n"
     "t.yaml:7:7: upstreams.a.headers.\"a b\": is no valid name of an HTTP header\n"
     "t.yaml:8:7: upstreams.a.headers.Connection: the relay sets this header itself; take it out\n"
     "t.yaml:9:14: upstreams.a.headers.x-two: has a line break or another control character, which no HTTP header may "
     "have\n"
     "t.yaml:10:7: upstreams.a.headers.\"x?\": is no valid name of an HTTP header\n"
     "t.yaml:11:16: upstreams.a.headers.x-three: needs a text, not a list\n"},
    {"secrets",
     "admin: {token: 'two words'}\n"
     "upstreams: {a: {dialect: openai, base_url: https://x.example, api_key: \"hunter2\\n\", proxy: ftp://hunter2@p}}\n"
     "cluster: {redis: 'hunter2', node: 'a b'}\n",
     "t.yaml:1:16: admin.token: holds a space, a line break or another character that no secret has; check how it was "
     "copied\n"
     "t.yaml:2:72: upstreams.a.api_key: holds a space, a line break or another character that no secret has; check how "
     "it was copied\n"
     "t.yaml:2:92: upstreams.a.proxy: is no http:// URL\n"
     "t.yaml:3:18: cluster.redis: is no redis:// URL\n"
     "t.yaml:3:35: cluster.node: \"a b\" is no valid name; use 1 to 63 characters of A-Z a-z 0-9 . _ : / @ -\n"},
    {"unset variable",
     "admin: {token: \"${CONF_TEST_UNSET}\"}\n"
     "state: /var/${CONF_TEST_SECRET}/${CONF_TEST_UNSET}\n",
     "t.yaml:1:16: admin.token: the environment variable CONF_TEST_UNSET is not set; set it or take ${CONF_TEST_UNSET} "
     "out\n"
     "t.yaml:2:8: state: the environment variable CONF_TEST_UNSET is not set; set it or take ${CONF_TEST_UNSET} out\n"},
    {"malformed variables",
     "state: a${\n"
     "timezone: ${}\n"
     "user: ${A-B}\n"
     "workers: ${1A}\n",
     "t.yaml:1:8: state: has a ${ that is no ${NAME} of an environment variable\n"
     "t.yaml:2:11: timezone: has a ${ that is no ${NAME} of an environment variable\n"
     "t.yaml:3:7: user: has a ${ that is no ${NAME} of an environment variable\n"
     "t.yaml:4:10: workers: has a ${ that is no ${NAME} of an environment variable\n"},
    {"empty variable", "admin: {token: \"${CONF_TEST_EMPTY}\"}\n",
     "t.yaml:1:16: admin.token: is empty; it needs a secret\n"},
    {"bad value from a variable",
     "workers: ${CONF_TEST_SECRET}\n"
     "timezone: ${CONF_TEST_SECRET}/x\n"
     "drain_timeout: ${CONF_TEST_SECRET}\n"
     "listen: [{address: \"${CONF_TEST_SECRET}\"}]\n"
     "log: {level: \"${CONF_TEST_SECRET}\"}\n"
     "models: {a: {alias: \"${CONF_TEST_SECRET}\"}}\n"
     "tiers: {a: {rpm: \"${CONF_TEST_SECRET}\", budget: {amount: \"${CONF_TEST_SECRET}\", per: day}}}\n",
     "t.yaml:1:10: workers: this value is no number of workers; write auto or 1 to 256\n"
     "t.yaml:2:11: timezone: this value is no time zone of this system; write one such as UTC or Europe/Berlin\n"
     "t.yaml:3:16: drain_timeout: this value is no duration; write a whole number with ms, s, m, h or d, such as 60s\n"
     "t.yaml:4:20: listen[0].address: this value is no address; write HOST:PORT such as 127.0.0.1:8080 or [::1]:8080\n"
     "t.yaml:5:14: log.level: this value is unknown; write error, warn, info or debug\n"
     "t.yaml:6:21: models.a.alias: this value names no model; define it under models\n"
     "t.yaml:7:18: tiers.a.rpm: this value is no whole number; write digits only, without quotes\n"
     "t.yaml:7:58: tiers.a.budget.amount: this value is no amount; write a decimal with at most nine decimals, such as "
     "2.50\n"},
    {"secret from a missing file", "admin: {token: file:missing}\n",
     "t.yaml:1:16: admin.token: the secret's file cannot be read: No such file or directory\n"},
    {"secret from a directory", "admin: {token: \"file:/\"}\n",
     "t.yaml:1:16: admin.token: the secret's file cannot be read: Is a directory\n"},
    {"zone", "timezone: Mars/Olympus\n",
     "t.yaml:1:11: timezone: \"Mars/Olympus\" is no time zone of this system; write one such as UTC or "
     "Europe/Berlin\n"},
    {"zone that climbs", "timezone: ../../etc/passwd\n",
     "t.yaml:1:11: timezone: \"../../etc/passwd\" is no time zone of this system; write one such as UTC or "
     "Europe/Berlin\n"},
    {"user", "user: 'a b'\n", "t.yaml:1:7: user: \"a b\" is no user name\n"},
    {"currency", "currency: {code: cny, per_usd: 0}\n",
     "t.yaml:1:18: currency.code: \"cny\" is no currency code; write three capital letters such as EUR\n"
     "t.yaml:1:32: currency.per_usd: \"0\" is out of range; use 0.000000001 to 1000000\n"},
    {"cluster without node", "cluster: {redis: redis://10.0.0.5}\n",
     "t.yaml:1:1: cluster.node: is missing; it needs a name\n"},
    {"capacity", "capacity: {keys: 1, tenants: 99999999}\n",
     "t.yaml:1:18: capacity.keys: \"1\" is out of range; use 16 to 16777216\n"
     "t.yaml:1:30: capacity.tenants: \"99999999\" is out of range; use 16 to 1048576\n"},
    {"several at once",
     "timezone: Mars\n"
     "workers: 0\n"
     "retry: {attempts: 99, bsae: 1s}\n"
     "listen: [{address: x}]\n",
     "t.yaml:1:11: timezone: \"Mars\" is no time zone of this system; write one such as UTC or Europe/Berlin\n"
     "t.yaml:2:10: workers: \"0\" is no number of workers; write auto or 1 to 256\n"
     "t.yaml:3:19: retry.attempts: \"99\" is out of range; use 1 to 10\n"
     "t.yaml:3:23: unknown field \"bsae\" in retry; did you mean \"base\"?\n"
     "t.yaml:4:20: listen[0].address: \"x\" is no address; write HOST:PORT such as 127.0.0.1:8080 or [::1]:8080\n"},
};

static void test_each_bad_file(void **state) {
    (void)state;
    assert_int_equal(setenv("CONF_TEST_SECRET", "hunter2", 1), 0);
    assert_int_equal(setenv("CONF_TEST_EMPTY", "", 1), 0);
    assert_int_equal(unsetenv("CONF_TEST_UNSET"), 0);
    for (size_t i = 0; i < sizeof(bad_files) / sizeof(bad_files[0]); i++) {
        char *findings = findings_of(span_text(bad_files[i].text), "t.yaml");
        if (strcmp(findings, bad_files[i].findings) != 0) {
            print_error("%s:\nexpected\n%sgot\n%s", bad_files[i].name, bad_files[i].findings, findings);
            fail();
        }
        assert_null(strstr(findings, "hunter2"));
        free(findings);
    }
}

static void test_private_hosts_must_be_asked_for(void **state) {
    (void)state;
    static const char *const hosts[] = {"localhost",
                                        "LOCALHOST.",
                                        "api.localhost",
                                        "127.0.0.1",
                                        "127.1",
                                        "2130706433",
                                        "0x7f000001",
                                        "0177.0.0.1",
                                        "10.1.2.3",
                                        "172.16.0.1",
                                        "172.31.255.255",
                                        "192.168.1.1",
                                        "169.254.169.254",
                                        "0.0.0.0",
                                        "100.100.100.200",
                                        "[::1]",
                                        "[::]",
                                        "[fc00::1]",
                                        "[fdff::1]",
                                        "[fe80::1]",
                                        "[::ffff:10.0.0.1]",
                                        "[::ffff:7f00:1]",
                                        "[64:ff9b::7f00:1]",
                                        "[::127.0.0.1]",
                                        "127.0.0.1."};
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        char text[256];
        (void)snprintf(text, sizeof(text), "upstreams: {a: {dialect: openai, base_url: 'http://%s:80/v1'}}\n",
                       hosts[i]);
        char *findings = findings_of(span_text(text), "t.yaml");
        assert_string_equal(findings,
                            "t.yaml:1:44: upstreams.a.base_url: its host is a private or loopback address; if "
                            "that is meant, set allow_private: true beside it\n");
        free(findings);
        (void)snprintf(text, sizeof(text),
                       "upstreams: {a: {dialect: openai, allow_private: true, base_url: 'http://%s/v1'}}\n", hosts[i]);
        findings = findings_of(span_text(text), "t.yaml");
        assert_string_equal(findings, "");
        free(findings);
    }
}

static void test_public_hosts_are_accepted(void **state) {
    (void)state;
    static const char *const hosts[] = {
        "api.openai.com",        "8.8.8.8",    "172.32.0.1", "172.15.255.255",  "192.169.0.1", "[2606:4700::1]",
        "localhost.example.com", "100.63.0.1", "11.0.0.1",   "[::ffff:8.8.8.8]"};
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        char text[256];
        (void)snprintf(text, sizeof(text), "upstreams: {a: {dialect: openai, base_url: 'https://%s/v1'}}\n", hosts[i]);
        char *findings = findings_of(span_text(text), "t.yaml");
        assert_string_equal(findings, "");
        free(findings);
    }
}

static void test_a_file_that_cannot_be_read(void **state) {
    (void)state;
    struct conf_findings findings;
    assert_null(conf_load("/nonexistent/t.yaml", NULL, &findings));
    struct buffer out;
    buffer_init(&out, 4096);
    conf_findings_print(&findings, &out);
    assert_string_equal(buffer_text(&out),
                        "/nonexistent/t.yaml:1:1: the file cannot be read: No such file or directory\n");
    assert_int_equal(findings.items[0].line, 0);
    conf_findings_free(&findings);
    assert_null(conf_load("/", NULL, &findings));
    assert_int_equal(findings.count, 1);
    conf_findings_free(&findings);
    buffer_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_bad_file),
        cmocka_unit_test(test_private_hosts_must_be_asked_for),
        cmocka_unit_test(test_public_hosts_are_accepted),
        cmocka_unit_test(test_a_file_that_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
