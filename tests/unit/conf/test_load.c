/* Good files: every field, every default, secrets, look-ups, the samples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf_testing.h"

/* A fresh directory with a secret, a certificate and a key; removed by remove_directory. */
struct directory {
    char path[64];
};

static void write_file(const struct directory *directory, const char *name, const char *content) {
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", directory->path, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, strlen(content), file), strlen(content));
    assert_int_equal(fclose(file), 0);
}

static void remove_file(const struct directory *directory, const char *name) {
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", directory->path, name);
    (void)unlink(path);
}

static int make_directory(void **state) {
    static struct directory directory;
    directory = (struct directory){.path = "/tmp/tollgate-conf-XXXXXX"};
    if (mkdtemp(directory.path) == NULL) {
        return -1;
    }
    write_file(&directory, "secret", "from-a-file\r\n\n");
    write_file(&directory, "cert.pem", "certificate\n");
    write_file(&directory, "key.pem", "key\n");
    *state = &directory;
    return setenv("CONF_TEST_TOKEN", "from-the-environment", 1) | setenv("CONF_TEST_PORT", "8081", 1);
}

static int remove_directory(void **state) {
    static const char *const names[] = {"secret", "cert.pem", "key.pem", "t.yaml"};
    const struct directory *directory = *state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        remove_file(directory, names[i]);
    }
    return rmdir(directory->path);
}

/* Parses text as if it lay in the directory; prints the findings and fails when there are any. */
static struct conf *parse_in(const struct directory *directory, const char *text) {
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/t.yaml", directory != NULL ? directory->path : ".");
    struct conf_findings findings;
    struct conf *conf = conf_parse(span_text(text), path, NULL, &findings);
    if (conf == NULL) {
        for (int i = 0; i < findings.count; i++) {
            print_error("%d:%d %s\n", findings.items[i].line, findings.items[i].column, findings.items[i].text);
        }
        fail();
    }
    assert_int_equal(findings.count, 0);
    conf_findings_free(&findings);
    return conf;
}

static const char full_text[] =
    "listen:\n"
    "  - address: 0.0.0.0:${CONF_TEST_PORT}\n"
    "  - address: '[::1]:8443'\n"
    "    tls: {certificate: cert.pem, key: key.pem}\n"
    "admin: {address: 10.0.0.1:9091, token: \"${CONF_TEST_TOKEN}\"}\n"
    "workers: 7\n"
    "state: /srv/state\n"
    "timezone: UTC\n"
    "currency: {code: CNY, per_usd: 7.123456789}\n"
    "upstreams:\n"
    "  zeta:\n"
    "    dialect: openai\n"
    "    base_url: https://api.example.com/v1//\n"
    "    api_key: file:secret\n"
    "    limits: {rpm: 10, tpm: 20, concurrent: 30}\n"
    "    timeouts: {connect: 1s, first_byte: 2m, idle: 3h}\n"
    "    headers: {OpenAI-Organization: org-1, x-auth: \"Bearer ${CONF_TEST_TOKEN}\", x-file: file:secret}\n"
    "    http: 2\n"
    "    ca_file: cert.pem\n"
    "    proxy: http://user:pass@proxy.example.com:3128\n"
    "  claude: {dialect: anthropic, base_url: 'http://[::1]:80', api_key: plain, http: 1.1, allow_private: true}\n"
    "  gemini: {dialect: gemini, base_url: HTTPS://g.example/v1beta}\n"
    "  demo: {dialect: demo, base_url: https://ignored.example, api_key: ignored}\n"
    "models:\n"
    "  big/model@1:\n"
    "    price: {input: 2.00, cached_input: 0.50, cache_write: 2.5, output: 8}\n"
    "    list_price: {input: 0.000000001, output: 60}\n"
    "    context: 1047576\n"
    "    max_output: 32768\n"
    "    limits: {rpm: 1, tpm: 2, concurrent: 3}\n"
    "    routes:\n"
    "      - {upstream: demo, priority: 2}\n"
    "      - {upstream: zeta, weight: 3, cost: {input: 1, output: 4, cached_input: 0}}\n"
    "      - {upstream: gemini, model: its-own-name}\n"
    "    fallback: [small, alias2]\n"
    "  alias: {alias: small}\n"
    "  alias2: {alias: third}\n"
    "  chain: {alias: alias}\n"
    "  auto:\n"
    "    rules:\n"
    "      - {when: {prompt_tokens_below: 500, tools: false}, model: chain}\n"
    "      - {when: {stream: true}, model: third}\n"
    "      - {model: big/model@1}\n"
    "  to-auto: {alias: auto}\n"
    "  small: {routes: [{upstream: demo}]}\n"
    "  third: {routes: [{upstream: claude}]}\n"
    "tiers:\n"
    "  free: {rpm: 60, tpm: 100000, concurrent: 4, budget: {amount: 5, per: month}, models: [small, alias]}\n"
    "  pro: {max_wait: 2s, budget: {amount: 0.000000001, per: total}}\n"
    "  none: {}\n"
    "retry: {attempts: 10, base: 1ms, max: 1m}\n"
    "breaker: {failures: 6, window: 11s, cooldown: 16s}\n"
    "streams: {heartbeat: 20s, resume_window: 0s, resume_buffer: 512, reserve_slice: 99, on_disconnect: drain}\n"
    "cors: {origins: ['*', 'https://app.example.com', 'http://localhost:3000']}\n"
    "user: www-data\n"
    "request_limits: {body: 1KiB, bodies_per_connection: 2KiB, header_timeout: 1ms, body_timeout: 2ms, body_rate: 3,\n"
    "  idle_timeout: 4ms, write_timeout: 5ms, connection_lifetime: 6d, connections_per_address: 7,\n"
    "  failed_auth_per_minute: 0}\n"
    "trusted_proxies: [10.0.0.0/8, 'fd00::/8', 192.0.2.1]\n"
    "drain_timeout: 0s\n"
    "log: {access: /var/log/access, format: text, level: debug}\n"
    "retention: {requests: 0d}\n"
    "cluster: {redis: \"redis://:${CONF_TEST_TOKEN}@10.0.0.5:6379\", node: a1}\n"
    "capacity: {keys: 1000, tenants: 100}\n";

static void assert_limits(const struct conf_limits *limits, int64_t rpm, int64_t tpm, int64_t concurrent) {
    assert_int_equal(limits->requests_per_minute, rpm);
    assert_int_equal(limits->tokens_per_minute, tpm);
    assert_int_equal(limits->concurrent, concurrent);
}

static void assert_price(const struct price *price, int64_t input, int64_t cached, int64_t write, int64_t output) {
    assert_int_equal(price->input_nusd, input);
    assert_int_equal(price->cached_input_nusd, cached);
    assert_int_equal(price->cache_write_nusd, write);
    assert_int_equal(price->output_nusd, output);
}

static void assert_in_directory(const char *path, const struct directory *directory, const char *name) {
    char expected[128];
    (void)snprintf(expected, sizeof(expected), "%s/%s", directory->path, name);
    assert_string_equal(path, expected);
}

static void test_every_top_level_field(void **state) {
    struct conf *conf = parse_in(*state, full_text);
    assert_in_directory(conf->path, *state, "t.yaml");
    assert_int_equal(conf->listen_count, 2);
    assert_string_equal(conf->listens[0].address.text, "0.0.0.0:8081");
    assert_string_equal(conf->listens[0].address.host, "0.0.0.0");
    assert_int_equal(conf->listens[0].address.port, 8081);
    assert_false(conf->listens[0].tls);
    assert_null(conf->listens[0].certificate);
    assert_string_equal(conf->listens[1].address.text, "[::1]:8443");
    assert_string_equal(conf->listens[1].address.host, "::1");
    assert_true(conf->listens[1].tls);
    assert_in_directory(conf->listens[1].certificate, *state, "cert.pem");
    assert_in_directory(conf->listens[1].key, *state, "key.pem");
    assert_string_equal(conf->admin_address.text, "10.0.0.1:9091");
    assert_string_equal(conf->admin_token, "from-the-environment");
    assert_int_equal(conf->workers, 7);
    assert_string_equal(conf->state_dir, "/srv/state");
    assert_string_equal(conf->timezone, "UTC");
    assert_string_equal(conf->currency_code, "CNY");
    assert_int_equal(conf->currency_per_usd_billionths, INT64_C(7123456789));
    assert_string_equal(conf->user, "www-data");
    assert_int_equal(conf->drain_timeout_ms, 0);
    assert_string_equal(conf->log.access, "/var/log/access");
    assert_int_equal(conf->log.format, LOG_TEXT_FORMAT);
    assert_int_equal(conf->log.level, LOG_DEBUG);
    assert_int_equal(conf->requests_retention_ms, 0);
    assert_string_equal(conf->cluster.redis, "redis://:from-the-environment@10.0.0.5:6379");
    assert_string_equal(conf->cluster.node, "a1");
    assert_int_equal(conf->capacity.keys, 1000);
    assert_int_equal(conf->capacity.tenants, 100);
    conf_free(conf);
}

static void test_every_field_of_requests(void **state) {
    struct conf *conf = parse_in(*state, full_text);
    assert_int_equal(conf->retry.attempts, 10);
    assert_int_equal(conf->retry.base_ms, 1);
    assert_int_equal(conf->retry.max_ms, 60000);
    assert_int_equal(conf->breaker.failures, 6);
    assert_int_equal(conf->breaker.window_ms, 11000);
    assert_int_equal(conf->breaker.cooldown_ms, 16000);
    assert_int_equal(conf->streams.heartbeat_ms, 20000);
    assert_int_equal(conf->streams.resume_window_ms, 0);
    assert_int_equal(conf->streams.resume_buffer_bytes, 512);
    assert_int_equal(conf->streams.reserve_slice_tokens, 99);
    assert_int_equal(conf->streams.on_disconnect, CONF_DISCONNECT_DRAIN);
    assert_int_equal(conf->cors_origin_count, 3);
    assert_string_equal(conf->cors_origins[0], "*");
    assert_string_equal(conf->cors_origins[2], "http://localhost:3000");
    assert_int_equal(conf->request_limits.body_bytes, 1024);
    assert_int_equal(conf->request_limits.bodies_per_connection_bytes, 2048);
    assert_int_equal(conf->request_limits.header_timeout_ms, 1);
    assert_int_equal(conf->request_limits.body_timeout_ms, 2);
    assert_int_equal(conf->request_limits.body_rate_bytes, 3);
    assert_int_equal(conf->request_limits.idle_timeout_ms, 4);
    assert_int_equal(conf->request_limits.write_timeout_ms, 5);
    assert_int_equal(conf->request_limits.connection_lifetime_ms, INT64_C(6) * 86400 * 1000);
    assert_int_equal(conf->request_limits.connections_per_address, 7);
    assert_int_equal(conf->request_limits.failed_auth_per_minute, 0);
    assert_int_equal(conf->trusted_proxy_count, 3);
    assert_string_equal(conf->trusted_proxies[1], "fd00::/8");
    conf_free(conf);
}

static void test_every_field_of_upstreams(void **state) {
    struct conf *conf = parse_in(*state, full_text);
    assert_int_equal(conf->upstream_count, 4);
    const struct conf_upstream *zeta = &conf->upstreams[0];
    assert_string_equal(zeta->name, "zeta");
    assert_int_equal(zeta->dialect, CONF_DIALECT_OPENAI);
    assert_string_equal(zeta->base_url, "https://api.example.com/v1");
    assert_string_equal(zeta->api_key, "from-a-file");
    assert_limits(&zeta->limits, 10, 20, 30);
    assert_int_equal(zeta->connect_timeout_ms, 1000);
    assert_int_equal(zeta->first_byte_timeout_ms, 120000);
    assert_int_equal(zeta->idle_timeout_ms, 10800000);
    assert_int_equal(zeta->header_count, 3);
    assert_string_equal(zeta->headers[0].name, "openai-organization");
    assert_string_equal(zeta->headers[0].value, "org-1");
    assert_string_equal(zeta->headers[1].value, "Bearer from-the-environment");
    assert_string_equal(zeta->headers[2].value, "from-a-file");
    assert_int_equal(zeta->http_version, 2);
    assert_in_directory(zeta->ca_file, *state, "cert.pem");
    assert_string_equal(zeta->proxy, "http://user:pass@proxy.example.com:3128");
    assert_false(zeta->allow_private);
    const struct conf_upstream *claude = &conf->upstreams[1];
    assert_int_equal(claude->dialect, CONF_DIALECT_ANTHROPIC);
    assert_int_equal(claude->http_version, 1);
    assert_true(claude->allow_private);
    assert_limits(&claude->limits, 0, 0, 0);
    assert_int_equal(claude->connect_timeout_ms, 5000);
    assert_int_equal(claude->first_byte_timeout_ms, 60000);
    assert_int_equal(claude->idle_timeout_ms, 60000);
    assert_int_equal(claude->header_count, 0);
    assert_null(claude->ca_file);
    assert_null(claude->proxy);
    assert_int_equal(conf->upstreams[2].dialect, CONF_DIALECT_GEMINI);
    assert_null(conf->upstreams[2].api_key);
    assert_int_equal(conf->upstreams[3].dialect, CONF_DIALECT_DEMO);
    assert_null(conf->upstreams[3].base_url);
    assert_null(conf->upstreams[3].api_key);
    conf_free(conf);
}

static void test_every_field_of_models(void **state) {
    struct conf *conf = parse_in(*state, full_text);
    assert_int_equal(conf->model_count, 8);
    const struct conf_model *big = &conf->models[0];
    assert_string_equal(big->name, "big/model@1");
    assert_int_equal(big->alias, -1);
    assert_int_equal(big->rule_count, 0);
    assert_true(big->has_price);
    assert_price(&big->price, 2000000000, 500000000, 2500000000, 8000000000);
    assert_true(big->has_list_price);
    assert_price(&big->list_price, 1, 1, 1, 60000000000);
    assert_int_equal(big->context_tokens, 1047576);
    assert_int_equal(big->max_output_tokens, 32768);
    assert_limits(&big->limits, 1, 2, 3);
    assert_int_equal(big->fallback_count, 2);
    assert_int_equal(big->fallback[0], conf_model_index(conf, SPAN_LITERAL("small")));
    assert_int_equal(big->fallback[1], conf_model_index(conf, SPAN_LITERAL("third")));
    const struct conf_model *small = &conf->models[conf_model_index(conf, SPAN_LITERAL("small"))];
    assert_false(small->has_price);
    assert_false(small->has_list_price);
    assert_int_equal(small->context_tokens, 0);
    assert_int_equal(small->max_output_tokens, 0);
    assert_int_equal(small->fallback_count, 0);
    conf_free(conf);
}

static void test_routes_are_sorted_by_priority(void **state) {
    struct conf *conf = parse_in(*state, full_text);
    const struct conf_route *routes = conf->models[0].routes;
    assert_int_equal(conf->models[0].route_count, 3);
    assert_int_equal(routes[0].upstream, conf_upstream_index(conf, SPAN_LITERAL("zeta")));
    assert_string_equal(routes[0].model, "big/model@1");
    assert_int_equal(routes[0].weight, 3);
    assert_int_equal(routes[0].priority, 1);
    assert_true(routes[0].has_cost);
    assert_price(&routes[0].cost, 1000000000, 0, 1000000000, 4000000000);
    assert_int_equal(routes[1].upstream, conf_upstream_index(conf, SPAN_LITERAL("gemini")));
    assert_string_equal(routes[1].model, "its-own-name");
    assert_int_equal(routes[1].weight, 1);
    assert_false(routes[1].has_cost);
    assert_int_equal(routes[2].upstream, conf_upstream_index(conf, SPAN_LITERAL("demo")));
    assert_int_equal(routes[2].priority, 2);
    conf_free(conf);
}

static void test_aliases_and_rules(void **state) {
    struct conf *conf = parse_in(*state, full_text);
    int small = conf_model_index(conf, SPAN_LITERAL("small"));
    int automatic = conf_model_index(conf, SPAN_LITERAL("auto"));
    assert_int_equal(conf->models[1].alias, small);
    assert_int_equal(conf->models[conf_model_index(conf, SPAN_LITERAL("chain"))].alias, 1);
    assert_int_equal(conf_model_resolve(conf, conf_model_index(conf, SPAN_LITERAL("chain"))), small);
    assert_int_equal(conf_model_resolve(conf, conf_model_index(conf, SPAN_LITERAL("to-auto"))), automatic);
    assert_int_equal(conf_model_resolve(conf, small), small);
    assert_int_equal(conf_model_resolve(conf, -1), -1);
    assert_int_equal(conf_model_resolve(conf, conf->model_count), -1);
    const struct conf_model *model = &conf->models[automatic];
    assert_int_equal(model->rule_count, 3);
    assert_int_equal(model->rules[0].prompt_tokens_below, 500);
    assert_int_equal(model->rules[0].tools, CONF_NO);
    assert_int_equal(model->rules[0].stream, CONF_ANY);
    assert_int_equal(model->rules[0].model, small);
    assert_int_equal(model->rules[1].prompt_tokens_below, 0);
    assert_int_equal(model->rules[1].tools, CONF_ANY);
    assert_int_equal(model->rules[1].stream, CONF_YES);
    assert_int_equal(model->rules[2].model, 0);
    conf_free(conf);
}

static void test_every_field_of_tiers(void **state) {
    struct conf *conf = parse_in(*state, full_text);
    assert_int_equal(conf->tier_count, 3);
    assert_string_equal(conf->tiers[0].name, "free");
    assert_limits(&conf->tiers[0].limits, 60, 100000, 4);
    assert_true(conf->tiers[0].budget.set);
    assert_int_equal(conf->tiers[0].budget.amount_nusd, 5 * NUSD_PER_USD);
    assert_int_equal(conf->tiers[0].budget.period, CONF_PERIOD_MONTH);
    assert_int_equal(conf->tiers[0].max_wait_ms, 0);
    assert_int_equal(conf->tiers[0].model_count, 2);
    assert_string_equal(conf->tiers[0].models[0], "small");
    assert_string_equal(conf->tiers[0].models[1], "alias");
    assert_int_equal(conf->tiers[1].max_wait_ms, 2000);
    assert_int_equal(conf->tiers[1].budget.amount_nusd, 1);
    assert_int_equal(conf->tiers[1].budget.period, CONF_PERIOD_TOTAL);
    assert_int_equal(conf->tiers[1].model_count, 0);
    assert_limits(&conf->tiers[2].limits, 0, 0, 0);
    assert_false(conf->tiers[2].budget.set);
    conf_free(conf);
}

static void test_lookups(void **state) {
    struct conf *conf = parse_in(*state, full_text);
    for (int i = 0; i < conf->model_count; i++) {
        assert_int_equal(conf_model_index(conf, span_text(conf->models[i].name)), i);
    }
    for (int i = 0; i < conf->upstream_count; i++) {
        assert_int_equal(conf_upstream_index(conf, span_text(conf->upstreams[i].name)), i);
    }
    for (int i = 0; i < conf->tier_count; i++) {
        assert_int_equal(conf_tier_index(conf, span_text(conf->tiers[i].name)), i);
    }
    assert_int_equal(conf_model_index(conf, SPAN_LITERAL("smal")), -1);
    assert_int_equal(conf_model_index(conf, SPAN_LITERAL("smalls")), -1);
    assert_int_equal(conf_model_index(conf, SPAN_LITERAL("small\0x")), -1);
    assert_int_equal(conf_tier_index(conf, SPAN_EMPTY), -1);
    conf_free(conf);
}

static int count_own_cores(void) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    assert_int_equal(sched_getaffinity(0, sizeof(cores), &cores), 0);
    return CPU_COUNT(&cores);
}

static void test_defaults(void **state) {
    (void)state;
    struct conf *conf = parse_in(NULL, "{}\n");
    assert_int_equal(conf->listen_count, 1);
    assert_string_equal(conf->listens[0].address.text, "127.0.0.1:8080");
    assert_false(conf->listens[0].tls);
    assert_string_equal(conf->admin_address.text, "127.0.0.1:9090");
    assert_null(conf->admin_token);
    assert_int_equal(conf->workers, count_own_cores());
    assert_string_equal(conf->state_dir, "/var/lib/tollgate");
    assert_string_equal(conf->timezone, "UTC");
    assert_null(conf->currency_code);
    assert_int_equal(conf->upstream_count + conf->model_count + conf->tier_count, 0);
    assert_int_equal(conf_model_index(conf, SPAN_LITERAL("a")), -1);
    assert_int_equal(conf->retry.attempts, 3);
    assert_int_equal(conf->retry.base_ms, 100);
    assert_int_equal(conf->retry.max_ms, 5000);
    assert_int_equal(conf->breaker.failures, 5);
    assert_int_equal(conf->breaker.window_ms, 10000);
    assert_int_equal(conf->breaker.cooldown_ms, 15000);
    assert_int_equal(conf->streams.heartbeat_ms, 15000);
    assert_int_equal(conf->streams.resume_window_ms, 60000);
    assert_int_equal(conf->streams.resume_buffer_bytes, 1 << 20);
    assert_int_equal(conf->streams.reserve_slice_tokens, 1024);
    assert_int_equal(conf->streams.on_disconnect, CONF_DISCONNECT_CANCEL);
    assert_int_equal(conf->cors_origin_count, 0);
    assert_null(conf->user);
    assert_null(conf->cluster.redis);
    assert_null(conf->cluster.node);
    conf_free(conf);
}

static void test_defaults_of_limits_and_logs(void **state) {
    (void)state;
    struct conf *conf = parse_in(NULL, "{}\n");
    assert_int_equal(conf->request_limits.body_bytes, 16 << 20);
    assert_int_equal(conf->request_limits.bodies_per_connection_bytes, 64 << 20);
    assert_int_equal(conf->request_limits.header_timeout_ms, 10000);
    assert_int_equal(conf->request_limits.body_timeout_ms, 60000);
    assert_int_equal(conf->request_limits.body_rate_bytes, 1024);
    assert_int_equal(conf->request_limits.idle_timeout_ms, 75000);
    assert_int_equal(conf->request_limits.write_timeout_ms, 30000);
    assert_int_equal(conf->request_limits.connection_lifetime_ms, 86400000);
    assert_int_equal(conf->request_limits.connections_per_address, 4096);
    assert_int_equal(conf->request_limits.failed_auth_per_minute, 300);
    assert_int_equal(conf->trusted_proxy_count, 0);
    assert_int_equal(conf->drain_timeout_ms, 60000);
    assert_string_equal(conf->log.access, "stdout");
    assert_int_equal(conf->log.format, LOG_JSON_FORMAT);
    assert_int_equal(conf->log.level, LOG_INFO);
    assert_int_equal(conf->requests_retention_ms, INT64_C(90) * 86400 * 1000);
    assert_int_equal(conf->capacity.keys, 65536);
    assert_int_equal(conf->capacity.tenants, 4096);
    conf_free(conf);
}

static void test_bodies_per_connection_grows_with_body(void **state) {
    (void)state;
    struct conf *conf = parse_in(NULL, "request_limits: {body: 100MiB}\n");
    assert_int_equal(conf->request_limits.bodies_per_connection_bytes, 100 << 20);
    conf_free(conf);
}

static void test_numbers_may_come_from_the_environment(void **state) {
    (void)state;
    struct conf *conf = parse_in(NULL, "tiers: {a: {rpm: \"${CONF_TEST_PORT}\", tpm: \"1${CONF_TEST_PORT}0\"}}\n");
    assert_limits(&conf->tiers[0].limits, 8081, 180810, 0);
    conf_free(conf);
}

static void test_a_variable_cannot_name_a_file(void **state) {
    assert_int_equal(setenv("CONF_TEST_FILE", "file:secret", 1), 0);
    struct conf *conf = parse_in(*state, "admin: {token: \"${CONF_TEST_FILE}\"}\n");
    assert_string_equal(conf->admin_token, "file:secret");
    conf_free(conf);
}

static void test_longest_names(void **state) {
    (void)state;
    char text[512];
    (void)snprintf(text, sizeof(text),
                   "upstreams: {%0*d: {dialect: demo}}\nmodels: {%0*d: {routes: [{upstream: \"%0*d\"}]}}\n",
                   CONF_NAME_MOST, 0, CONF_MODEL_NAME_MOST, 1, CONF_NAME_MOST, 0);
    struct conf *conf = parse_in(NULL, text);
    assert_int_equal(strlen(conf->models[0].name), CONF_MODEL_NAME_MOST);
    assert_int_equal(conf->models[0].routes[0].upstream, 0);
    conf_free(conf);
}

static void test_state_override(void **state) {
    (void)state;
    struct conf_findings findings;
    struct conf *conf = conf_parse(SPAN_LITERAL("state: /a\n"), "t.yaml", "elsewhere", &findings);
    assert_non_null(conf);
    assert_string_equal(conf->state_dir, "elsewhere");
    conf_free(conf);
    conf_findings_free(&findings);
}

static void unset_sample_environment(void) {
    set_sample_environment();
    unsetenv("TOLLGATE_ADMIN_TOKEN");
    unsetenv("OPENAI_API_KEY");
    unsetenv("ANTHROPIC_API_KEY");
    unsetenv("GEMINI_API_KEY");
    unsetenv("DEEPSEEK_API_KEY");
}

static void test_sample_needs_no_environment(void **state) {
    (void)state;
    unset_sample_environment();
    struct conf_findings findings;
    struct conf *conf = conf_load(SAMPLE_PATH, NULL, &findings);
    assert_int_equal(findings.count, 0);
    assert_non_null(conf);
    assert_null(conf->admin_token);
    assert_null(conf->upstreams[0].api_key);
    conf_free(conf);
    conf_findings_free(&findings);
}

static void test_sample_with_its_secrets(void **state) {
    (void)state;
    size_t len = 0;
    char *text = read_sample(&len);
    set_sample_environment();
    struct conf_findings findings;
    struct conf *conf = conf_parse(span_of(text, len), SAMPLE_PATH, NULL, &findings);
    assert_int_equal(findings.count, 0);
    assert_non_null(conf);
    assert_string_equal(conf->admin_token, "secret-of-TOLLGATE_ADMIN_TOKEN");
    static const char *const names[] = {"openai", "anthropic", "gemini", "deepseek"};
    static const char *const keys[] = {"secret-of-OPENAI_API_KEY", "secret-of-ANTHROPIC_API_KEY",
                                       "secret-of-GEMINI_API_KEY", "secret-of-DEEPSEEK_API_KEY"};
    for (int i = 0; i < 4; i++) {
        assert_string_equal(conf->upstreams[conf_upstream_index(conf, span_text(names[i]))].api_key, keys[i]);
    }
    conf_free(conf);
    conf_findings_free(&findings);
    free(text);
}

static void test_sample_names_each_missing_variable(void **state) {
    (void)state;
    size_t len = 0;
    char *text = read_sample(&len);
    set_sample_environment();
    assert_int_equal(unsetenv("GEMINI_API_KEY"), 0);
    struct conf_findings findings;
    assert_null(conf_parse(span_of(text, len), SAMPLE_PATH, NULL, &findings));
    assert_int_equal(findings.count, 1);
    assert_string_equal(findings.items[0].text,
                        "upstreams.gemini.api_key: the environment variable GEMINI_API_KEY is not set; set it or take "
                        "${GEMINI_API_KEY} out");
    conf_findings_free(&findings);
    free(text);
}

static void test_port_0_is_left_to_the_system(void **state) {
    (void)state;
    struct conf *conf =
        parse_in(NULL, "listen: [{address: 127.0.0.1:0}, {address: 127.0.0.1:0}, {address: '[::1]:0'}]\n"
                       "admin: {address: 127.0.0.1:0}\n");
    assert_int_equal(conf->listen_count, 3);
    assert_int_equal(conf->listens[1].address.port, 0);
    assert_string_equal(conf->listens[2].address.host, "::1");
    assert_int_equal(conf->admin_address.port, 0);
    conf_free(conf);
}

static void test_demo(void **state) {
    (void)state;
    struct conf_findings findings;
    struct conf *conf = conf_load(DEMO_PATH, NULL, &findings);
    assert_int_equal(findings.count, 0);
    assert_non_null(conf);
    assert_string_equal(conf->listens[0].address.text, "127.0.0.1:8080");
    assert_string_equal(conf->admin_address.text, "127.0.0.1:9090");
    assert_string_equal(conf->state_dir, ".state");
    assert_string_equal(conf->models[0].name, "demo");
    assert_price(&conf->models[0].price, 500000000, 100000000, 500000000, 1500000000);
    assert_int_equal(conf->models[0].context_tokens, 128000);
    assert_int_equal(conf->models[0].max_output_tokens, 4096);
    assert_int_equal(conf->upstreams[conf->models[0].routes[0].upstream].dialect, CONF_DIALECT_DEMO);
    conf_free(conf);
    conf_findings_free(&findings);
}

static void test_finding_the_file(void **state) {
    const struct directory *directory = *state;
    char before[4096];
    assert_non_null(getcwd(before, sizeof(before)));
    assert_string_equal(conf_find_file("/some/where.yaml"), "/some/where.yaml");
    assert_int_equal(chdir(directory->path), 0);
    write_file(directory, "tollgate.yaml", "{}\n");
    assert_string_equal(conf_find_file(NULL), "./tollgate.yaml");
    remove_file(directory, "tollgate.yaml");
    const char *found = conf_find_file(NULL);
    assert_true(found == NULL || strcmp(found, "/etc/tollgate/tollgate.yaml") == 0);
    assert_int_equal(chdir(before), 0);
}

static void test_free_takes_null(void **state) {
    (void)state;
    conf_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_top_level_field),
        cmocka_unit_test(test_every_field_of_requests),
        cmocka_unit_test(test_every_field_of_upstreams),
        cmocka_unit_test(test_every_field_of_models),
        cmocka_unit_test(test_routes_are_sorted_by_priority),
        cmocka_unit_test(test_aliases_and_rules),
        cmocka_unit_test(test_every_field_of_tiers),
        cmocka_unit_test(test_lookups),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_defaults_of_limits_and_logs),
        cmocka_unit_test(test_bodies_per_connection_grows_with_body),
        cmocka_unit_test(test_numbers_may_come_from_the_environment),
        cmocka_unit_test(test_a_variable_cannot_name_a_file),
        cmocka_unit_test(test_longest_names),
        cmocka_unit_test(test_state_override),
        cmocka_unit_test(test_sample_needs_no_environment),
        cmocka_unit_test(test_sample_with_its_secrets),
        cmocka_unit_test(test_sample_names_each_missing_variable),
        cmocka_unit_test(test_port_0_is_left_to_the_system),
        cmocka_unit_test(test_demo),
        cmocka_unit_test(test_finding_the_file),
        cmocka_unit_test(test_free_takes_null),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
