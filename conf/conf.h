/* conf/conf.h - the whole configuration as one immutable value.
 * Used by: the master and the command line parse it; every child inherits the parsed value over fork and only reads.
 * Ownership: all texts and arrays live in the configuration and go with conf_free. Names are unique per kind.
 * Units: _ms milliseconds, _bytes bytes, _nusd nano-USD. 0 in a limit means "none"; -1 as an index means "none". */
#ifndef TOLLGATE_CONF_CONF_H
#define TOLLGATE_CONF_CONF_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/log.h"
#include "base/money.h"

enum { CONF_NAME_MOST = 63, CONF_MODEL_NAME_MOST = 95 };

enum conf_dialect { CONF_DIALECT_OPENAI, CONF_DIALECT_ANTHROPIC, CONF_DIALECT_GEMINI, CONF_DIALECT_DEMO };
enum conf_period { CONF_PERIOD_DAY, CONF_PERIOD_MONTH, CONF_PERIOD_TOTAL };
enum conf_on_disconnect { CONF_DISCONNECT_CANCEL, CONF_DISCONNECT_DRAIN };
enum conf_tristate { CONF_ANY, CONF_NO, CONF_YES };

/* host as written without brackets; port 0-65535, where 0 lets the system pick one. */
struct conf_address {
    char *text; /* as written: "127.0.0.1:8080", "[::1]:8080" */
    char *host;
    int port;
};

struct conf_listen {
    struct conf_address address;
    bool tls;
    char *certificate; /* paths of PEM files */
    char *key;
};

struct conf_limits {
    int64_t requests_per_minute;
    int64_t tokens_per_minute;
    int64_t concurrent;
};

struct conf_budget {
    bool set;
    int64_t amount_nusd;
    enum conf_period period;
};

struct conf_header {
    char *name; /* lower case */
    char *value;
};

struct conf_upstream {
    char *name;
    enum conf_dialect dialect;
    char *base_url; /* without a trailing slash; NULL for the demo dialect */
    char *api_key;  /* a secret; NULL when the upstream needs none */
    struct conf_limits limits;
    int64_t connect_timeout_ms;
    int64_t first_byte_timeout_ms;
    int64_t idle_timeout_ms;
    struct conf_header *headers;
    int header_count;
    int http_version; /* 1 or 2 */
    char *ca_file;
    char *proxy;
    bool allow_private; /* may its address be private or loopback? */
};

struct conf_route {
    int upstream; /* index into conf.upstreams */
    char *model;  /* the upstream's name for it; the model's own name when the file says nothing */
    int weight;   /* 1 or more */
    int priority; /* groups are tried in rising order; 1 when the file says nothing */
    bool has_cost;
    struct price cost; /* what we pay */
};

struct conf_rule {
    int64_t prompt_tokens_below; /* 0: any */
    enum conf_tristate tools;
    enum conf_tristate stream;
    int model; /* index into conf.models */
};

struct conf_model {
    char *name;
    int alias; /* index of the model it stands for, or -1 */
    struct conf_rule *rules;
    int rule_count; /* more than 0: a routing rule, not a model of its own */
    bool has_price;
    struct price price; /* what tenants pay; missing cache prices are the input price already */
    bool has_list_price;
    struct price list_price;
    int64_t context_tokens;    /* 0: not stated */
    int64_t max_output_tokens; /* 0: not stated */
    struct conf_limits limits; /* for each key, on this model */
    struct conf_route *routes; /* sorted by priority, in file order within one */
    int route_count;
    int *fallback; /* indexes into conf.models */
    int fallback_count;
};

struct conf_tier {
    char *name;
    struct conf_limits limits;
    struct conf_budget budget;
    int64_t max_wait_ms;
    char **models; /* names; model_count 0 means all */
    int model_count;
};

struct conf {
    char *path; /* the file it came from */
    struct conf_listen *listens;
    int listen_count;
    struct conf_address admin_address;
    char *admin_token; /* a secret; NULL when none is set */
    int workers;       /* resolved: auto is the number of cores this process may use */
    char *state_dir;
    char *timezone;      /* NULL only in a lenient configuration whose file does not tell: the store's holds */
    char *currency_code; /* NULL without a second currency */
    int64_t currency_per_usd_billionths;
    struct conf_upstream *upstreams;
    int upstream_count;
    struct conf_model *models;
    int model_count;
    struct conf_tier *tiers;
    int tier_count;
    struct {
        int attempts;
        int64_t base_ms;
        int64_t max_ms;
    } retry;
    struct {
        int failures;
        int64_t window_ms;
        int64_t cooldown_ms;
    } breaker;
    struct {
        int64_t heartbeat_ms;
        int64_t resume_window_ms;
        int64_t resume_buffer_bytes;
        int64_t resume_memory_bytes;
        int64_t reserve_slice_tokens;
        enum conf_on_disconnect on_disconnect;
    } streams;
    char **cors_origins; /* "*" stands for itself */
    int cors_origin_count;
    char *user; /* NULL: the state directory's owner */
    struct {
        int64_t body_bytes;
        int64_t bodies_per_connection_bytes;
        int64_t header_timeout_ms;
        int64_t body_timeout_ms;
        int64_t body_rate_bytes;
        int64_t idle_timeout_ms;
        int64_t write_timeout_ms;
        int64_t connection_lifetime_ms;
        int64_t connections_per_address;
        int64_t failed_auth_per_minute;
    } request_limits;
    char **trusted_proxies; /* CIDRs whose X-Forwarded-For is believed; none by default */
    int trusted_proxy_count;
    int64_t drain_timeout_ms;
    struct {
        char *access; /* "stdout", "off" or a path */
        enum log_format format;
        enum log_level level;
    } log;
    int64_t budget_warning_percent; /* 0: no warnings */
    int64_t requests_retention_ms;  /* 0: for ever */
    struct {
        char *redis; /* a secret may stand in it; NULL without a cluster */
        char *node;
    } cluster;
    struct {
        int64_t keys;    /* capacity of the shared key table */
        int64_t tenants; /* and of the tenant table */
    } capacity;
    struct conf_private *private_; /* what conf_free needs */
};

/* One thing wrong with a file. line and column count from 1; 0 means the file as a whole. */
struct conf_finding {
    int line;
    int column;
    char *text;
};

struct conf_findings {
    char *path;
    struct conf_finding *items;
    int count;
};

/* Reads and checks the file at path. state_override (may be NULL) replaces the file's `state`. On success returns the
 * configuration and leaves findings empty; otherwise returns NULL with at least one finding, sorted by place. Several
 * findings are gathered in one pass. Secrets (${NAME}, file:PATH) are resolved here; a finding never quotes one.
 * Blocking: reads files. Call before fork or in the command line, never on a worker's loop. */
struct conf *conf_load(const char *path, const char *state_override, struct conf_findings *findings);

/* As conf_load, from text (for tests and fuzzers); path is used in findings and for relative file: secrets. */
struct conf *conf_parse(struct span text, const char *path, const char *state_override, struct conf_findings *findings);

/* As conf_load, for commands that look at a server or a store and start none. Environment variables that are not set
 * and files of secrets that cannot be read leave their setting empty. What else is wrong becomes a finding, and still a
 * configuration comes back: settings have their defaults; routes, rules, prices, tiers and listeners with anything
 * wrong in them are left out, and what then leads nowhere as well. NULL, with findings, only when the state directory
 * cannot be told: no readable YAML mapping, or a `state` that is wrong, and no state_override. With one, even a missing
 * file (path may be NULL) yields the defaults. */
struct conf *conf_load_lenient(const char *path, const char *state_override, struct conf_findings *findings);

/* As conf_load_lenient, from text. */
struct conf *conf_parse_lenient(struct span text, const char *path, const char *state_override,
                                struct conf_findings *findings);

void conf_free(struct conf *conf);

void conf_findings_free(struct conf_findings *findings);

/* Appends each finding as "FILE:LINE:COLUMN: what\n". */
void conf_findings_print(const struct conf_findings *findings, struct buffer *out);

/* The file to use: explicit_path when given; else ./tollgate.yaml, else /etc/tollgate/tollgate.yaml; NULL when neither
 * exists. */
const char *conf_find_file(const char *explicit_path);

/* Index of a model, tier or upstream by name, or -1. conf_model_resolve follows aliases to a model with routes or
 * rules. */
int conf_model_index(const struct conf *conf, struct span name);
int conf_model_resolve(const struct conf *conf, int model);
int conf_tier_index(const struct conf *conf, struct span name);
int conf_upstream_index(const struct conf *conf, struct span name);

/* Parses "500ms", "5s", "2m", "1h", "30d" into milliseconds; "64KiB", "8MiB", "1GiB", "512" (bytes) into bytes. */
MUST_CHECK bool conf_parse_duration(struct span text, int64_t *out_ms);
MUST_CHECK bool conf_parse_size(struct span text, int64_t *out_bytes);

/* Parses "host:port" or "[v6]:port", port 0 too; false when it is neither. The texts are malloc'd into *out. */
MUST_CHECK bool conf_parse_address(struct span text, struct conf_address *out);

/* Appends the reference page of every setting (Markdown), made from the settings' table. */
void conf_reference(struct buffer *out);

#endif
