/* The lenient reading: what is left of a file with something wrong in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "conf_testing.h"

/* Reads text, which must have this many findings. */
static struct conf *read_with(const char *text, int findings_expected) {
    struct conf_findings findings;
    struct conf *conf = conf_parse_lenient(span_text(text), "t.yaml", NULL, &findings);
    for (int i = 0; findings.count != findings_expected && i < findings.count; i++) {
        print_error("%d:%d %s\n", findings.items[i].line, findings.items[i].column, findings.items[i].text);
    }
    assert_int_equal(findings.count, findings_expected);
    assert_non_null(conf);
    check_sound(conf);
    conf_findings_free(&findings);
    return conf;
}

static int model(const struct conf *conf, const char *name) { return conf_model_index(conf, span_text(name)); }

static void test_a_valid_file_is_read_as_ever(void **state) {
    (void)state;
    size_t len = 0;
    char *text = read_sample(&len);
    set_sample_environment();
    struct conf *conf = read_with(text, 0);
    struct conf_findings findings;
    struct conf *strict = conf_parse(span_of(text, len), "t.yaml", NULL, &findings);
    assert_non_null(strict);
    assert_int_equal(conf->model_count, strict->model_count);
    assert_int_equal(conf->tier_count, strict->tier_count);
    assert_string_equal(conf->timezone, strict->timezone);
    assert_string_equal(conf->upstreams[0].api_key, "secret-of-OPENAI_API_KEY");
    conf_free(conf);
    conf_free(strict);
    conf_findings_free(&findings);
    free(text);
}

static void test_secrets_that_are_not_at_hand(void **state) {
    (void)state;
    assert_int_equal(setenv("CONF_EMPTY", "", 1) | unsetenv("CONF_UNSET"), 0);
    struct conf *conf =
        read_with("state: /s\n"
                  "admin: {token: \"${CONF_UNSET}\"}\n"
                  "listen: [{address: 127.0.0.1:1, tls: {certificate: /no/cert, key: /no/key}}]\n"
                  "upstreams:\n"
                  "  a: {dialect: openai, base_url: 'https://${CONF_UNSET}/', api_key: '${CONF_EMPTY}',\n"
                  "      proxy: file:/no/proxy, headers: {x-a: plain, x-b: 'Bearer ${CONF_UNSET}'}}\n"
                  "  b: {dialect: openai, base_url: https://b.example, api_key: file:/no/such/file}\n"
                  "models: {m: {routes: [{upstream: a}, {upstream: b}]}}\n"
                  "tiers: {free: {rpm: \"${CONF_UNSET}\", tpm: 7}}\n"
                  "workers: ${CONF_UNSET}\n",
                  0);
    assert_string_equal(conf->state_dir, "/s");
    assert_null(conf->admin_token);
    assert_int_equal(conf->listens[0].address.port, 1);
    assert_true(conf->listens[0].tls);
    assert_int_equal(conf->upstream_count, 2);
    assert_null(conf->upstreams[0].base_url);
    assert_null(conf->upstreams[0].api_key);
    assert_null(conf->upstreams[0].proxy);
    assert_null(conf->upstreams[1].api_key);
    assert_int_equal(conf->models[0].route_count, 2);
    assert_int_equal(conf->tiers[0].limits.requests_per_minute, 0);
    assert_int_equal(conf->tiers[0].limits.tokens_per_minute, 7);
    conf_free(conf);
}

static void test_what_cannot_stay_empty_goes(void **state) {
    (void)state;
    assert_int_equal(unsetenv("CONF_UNSET"), 0);
    struct conf *conf = read_with("listen: [{address: \"${CONF_UNSET}:80\"}, {address: 127.0.0.1:2}]\n"
                                  "admin: {address: \"127.0.0.1:${CONF_UNSET}\"}\n"
                                  "currency: {code: EUR, per_usd: \"${CONF_UNSET}\"}\n"
                                  "upstreams: {d: {dialect: demo}}\n"
                                  "models:\n"
                                  "  a: {price: {input: \"${CONF_UNSET}\", output: 1}, routes: [{upstream: d}]}\n"
                                  "  b: {routes: [{upstream: \"${CONF_UNSET}\"}, {upstream: d, weight: 5}]}\n"
                                  "  c: {alias: \"${CONF_UNSET}\"}\n",
                                  0);
    assert_int_equal(conf->listen_count, 1);
    assert_int_equal(conf->listens[0].address.port, 2);
    assert_string_equal(conf->admin_address.text, "127.0.0.1:9090");
    assert_null(conf->currency_code);
    assert_int_equal(conf->model_count, 2);
    assert_false(conf->models[0].has_price);
    assert_int_equal(conf->models[1].route_count, 1);
    assert_int_equal(conf->models[1].routes[0].weight, 5);
    conf_free(conf);
}

static void test_wrong_settings_have_their_defaults(void **state) {
    (void)state;
    struct conf *conf = read_with("state: /s\n"
                                  "nonsense: 5\n"
                                  "workers: many\n"
                                  "drain_timeout: 5\n"
                                  "admin: {address: nowhere, token: t}\n"
                                  "retry: {attempts: 99, base: 1h, max: 1s}\n"
                                  "cors: [a]\n"
                                  "log: {level: loud, format: text}\n",
                                  8);
    assert_string_equal(conf->state_dir, "/s");
    assert_true(conf->workers >= 1);
    assert_int_equal(conf->drain_timeout_ms, 60000);
    assert_string_equal(conf->admin_address.text, "127.0.0.1:9090");
    assert_string_equal(conf->admin_token, "t");
    assert_int_equal(conf->retry.attempts, 3);
    assert_true(conf->retry.base_ms <= conf->retry.max_ms);
    assert_int_equal(conf->log.level, LOG_INFO);
    assert_int_equal(conf->log.format, LOG_TEXT_FORMAT);
    conf_free(conf);
}

static void test_wrong_parts_of_models_go(void **state) {
    (void)state;
    struct conf *conf = read_with("upstreams: {d: {dialect: demo}, broken: {dialect: morse}}\n"
                                  "models:\n"
                                  "  a: {routes: [{upstream: d, weight: 0}, {upstream: d, weight: 2}, {upstream: x}]}\n"
                                  "  b: {routes: [{upstream: broken}], fallback: [a, nobody]}\n"
                                  "  c: {alias: b}\n"
                                  "  r: {rules: [{model: c}, {model: a, wen: {}}, {model: a}]}\n"
                                  "  p: {price: {input: 1, output: 2, cached_input: lots}, context: -1,\n"
                                  "      routes: [{upstream: d, cost: {input: 1}}, {upstream: d}]}\n"
                                  "  l1: {alias: l2}\n"
                                  "  l2: {alias: l1}\n",
                                  10);
    assert_int_equal(conf->upstream_count, 1);
    assert_int_equal(conf->models[model(conf, "a")].route_count, 1);
    assert_int_equal(conf->models[model(conf, "a")].routes[0].weight, 2);
    assert_int_equal(model(conf, "b"), -1);
    assert_int_equal(model(conf, "c"), -1);
    assert_int_equal(conf->models[model(conf, "r")].rule_count, 1);
    assert_int_equal(conf->models[model(conf, "r")].rules[0].model, model(conf, "a"));
    const struct conf_model *priced = &conf->models[model(conf, "p")];
    assert_false(priced->has_price);
    assert_int_equal(priced->context_tokens, 0);
    assert_int_equal(priced->route_count, 1);
    assert_int_equal(model(conf, "l1"), -1);
    conf_free(conf);
}

static void test_a_tier_is_whole_or_gone(void **state) {
    (void)state;
    struct conf *conf = read_with("upstreams: {d: {dialect: demo}}\n"
                                  "models: {m: {routes: [{upstream: d}]}}\n"
                                  "tiers:\n"
                                  "  good: {rpm: 5, models: [m]}\n"
                                  "  typo: {rmp: 5}\n"
                                  "  budget: {budget: {amount: 5}}\n"
                                  "  models: {models: [m, x]}\n"
                                  "  'bad name': {}\n"
                                  "  anchor: {rpm: &a 5}\n",
                                  5);
    assert_int_equal(conf->tier_count, 1);
    assert_string_equal(conf->tiers[0].name, "good");
    assert_int_equal(conf->tiers[0].limits.requests_per_minute, 5);
    conf_free(conf);
}

static struct conf_findings find_nothing(const char *text, const char *state_override) {
    struct conf_findings findings;
    assert_null(conf_parse_lenient(span_text(text), "t.yaml", state_override, &findings));
    assert_true(findings.count >= 1);
    return findings;
}

static void test_without_a_state_directory_there_is_nothing(void **state) {
    (void)state;
    static const char *const texts[] = {
        "", "{", "- a\n", "text", "state: [1]\n", "state: \"${CONF_UNSET}\"\n", "state: \n", "a: 1\n---\nb: 2\n"};
    assert_int_equal(unsetenv("CONF_UNSET"), 0);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct conf_findings findings = find_nothing(texts[i], i % 2 == 0 ? NULL : "");
        conf_findings_free(&findings);
        struct conf *conf = conf_parse_lenient(span_text(texts[i]), "t.yaml", "/elsewhere", &findings);
        assert_non_null(conf);
        check_sound(conf);
        assert_string_equal(conf->state_dir, "/elsewhere");
        conf_free(conf);
        conf_findings_free(&findings);
    }
    struct conf_findings findings = find_nothing("tiers: {}\nstate: \"${CONF_UNSET}\"\n", NULL);
    assert_int_equal(findings.items[0].line, 2);
    assert_int_equal(findings.items[0].column, 8);
    conf_findings_free(&findings);
}

static void test_an_unknown_zone_is_not_utc(void **state) {
    (void)state;
    struct conf *conf = read_with("timezone: Nowhere/Atall\n", 1);
    assert_null(conf->timezone);
    conf_free(conf);
    conf = read_with("workers: none\n", 1);
    assert_string_equal(conf->timezone, "UTC");
    conf_free(conf);
}

static void test_files(void **state) {
    (void)state;
    struct conf_findings findings;
    assert_null(conf_load_lenient("/no/such/file.yaml", NULL, &findings));
    assert_int_equal(findings.count, 1);
    conf_findings_free(&findings);
    struct conf *conf = conf_load_lenient("/no/such/file.yaml", "/s", &findings);
    assert_non_null(conf);
    assert_int_equal(findings.count, 1);
    assert_string_equal(conf->state_dir, "/s");
    assert_string_equal(conf->path, "/no/such/file.yaml");
    assert_null(conf->timezone);
    check_sound(conf);
    conf_free(conf);
    conf_findings_free(&findings);
    conf = conf_load_lenient(NULL, "/s", &findings);
    assert_non_null(conf);
    assert_int_equal(findings.count, 0);
    conf_free(conf);
    conf_findings_free(&findings);
    conf = conf_load_lenient(SAMPLE_PATH, NULL, &findings);
    assert_non_null(conf);
    assert_string_equal(conf->state_dir, "/var/lib/tollgate");
    conf_free(conf);
    conf_findings_free(&findings);
}

/* Each link that goes takes the one before it along. */
static void test_a_long_chain_ends(void **state) {
    (void)state;
    enum { LINKS = 300 };
    struct buffer text;
    buffer_init(&text, 1 << 20);
    buffer_append_text(&text, "state: /s\nupstreams: {d: {dialect: demo}}\nmodels:\n");
    for (int i = 0; i < LINKS; i++) {
        buffer_format(&text, "  m%d: {alias: m%d}\n", i, i + 1);
    }
    struct conf *conf = read_with(buffer_text(&text), 1);
    assert_string_equal(conf->state_dir, "/s");
    assert_int_equal(conf->model_count, 0);
    conf_free(conf);
    buffer_fini(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_valid_file_is_read_as_ever),
        cmocka_unit_test(test_secrets_that_are_not_at_hand),
        cmocka_unit_test(test_what_cannot_stay_empty_goes),
        cmocka_unit_test(test_wrong_settings_have_their_defaults),
        cmocka_unit_test(test_wrong_parts_of_models_go),
        cmocka_unit_test(test_a_tier_is_whole_or_gone),
        cmocka_unit_test(test_without_a_state_directory_there_is_nothing),
        cmocka_unit_test(test_an_unknown_zone_is_not_utc),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_a_long_chain_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
