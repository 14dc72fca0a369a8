#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/usage.h"

#include "fixture_testing.h"

/* Reads a usage object given as text. */
static bool read_text(const char *text, struct usage_report *out) {
    struct json_doc doc;
    json_doc_init(&doc);
    assert_true(json_parse(&doc, span_text(text)));
    bool is_read = usage_read(&doc, 0, out);
    json_doc_fini(&doc);
    return is_read;
}

static void expect(const char *text, struct token_counts expected, bool clamped) {
    struct usage_report report;
    assert_true(read_text(text, &report));
    const struct token_counts *got = &report.tokens;
    if (got->input_tokens != expected.input_tokens || got->cached_input_tokens != expected.cached_input_tokens ||
        got->cache_write_tokens != expected.cache_write_tokens || got->output_tokens != expected.output_tokens ||
        got->reasoning_tokens != expected.reasoning_tokens || report.clamped != clamped) {
        fail_msg("%s gave %lld %lld %lld %lld %lld clamped %d", text, (long long)got->input_tokens,
                 (long long)got->cached_input_tokens, (long long)got->cache_write_tokens, (long long)got->output_tokens,
                 (long long)got->reasoning_tokens, report.clamped);
    }
}

static void providers_forms_are_normalised(void **state) {
    (void)state;
    expect("{\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12}", (struct token_counts){5, 0, 0, 7, 0},
           false);
    expect("{\"prompt_tokens\":100,\"prompt_tokens_details\":{\"cached_tokens\":60,\"cache_write_tokens\":30},"
           "\"completion_tokens\":50,\"completion_tokens_details\":{\"reasoning_tokens\":40},\"total_tokens\":150}",
           (struct token_counts){100, 60, 30, 50, 40}, false);
    /* DeepSeek, with and without its total */
    expect("{\"prompt_tokens\":9,\"prompt_cache_hit_tokens\":6,\"prompt_cache_miss_tokens\":3,\"completion_tokens\":1}",
           (struct token_counts){9, 6, 0, 1, 0}, false);
    expect("{\"prompt_cache_hit_tokens\":6,\"prompt_cache_miss_tokens\":3,\"completion_tokens\":1}",
           (struct token_counts){9, 6, 0, 1, 0}, false);
    /* xAI: reasoning on top; OpenAI: inside */
    expect("{\"prompt_tokens\":10,\"completion_tokens\":2,\"total_tokens\":42,"
           "\"completion_tokens_details\":{\"reasoning_tokens\":30}}",
           (struct token_counts){10, 0, 0, 32, 30}, false);
    expect("{\"prompt_tokens\":10,\"completion_tokens\":32,\"total_tokens\":42,"
           "\"completion_tokens_details\":{\"reasoning_tokens\":30}}",
           (struct token_counts){10, 0, 0, 32, 30}, false);
    /* SGLang, Moonshot, gateways, Responses, embeddings */
    expect("{\"prompt_tokens\":10,\"completion_tokens\":9,\"reasoning_tokens\":4}",
           (struct token_counts){10, 0, 0, 9, 4}, false);
    expect("{\"prompt_tokens\":10,\"completion_tokens\":9,\"cached_tokens\":8}", (struct token_counts){10, 8, 0, 9, 0},
           false);
    expect("{\"prompt_tokens\":10,\"completion_tokens\":9,\"cache_read_input_tokens\":2,\"cache_creation_input_"
           "tokens\":3}",
           (struct token_counts){10, 2, 3, 9, 0}, false);
    expect("{\"input_tokens\":10,\"input_tokens_details\":{\"cached_tokens\":3},\"output_tokens\":9,"
           "\"output_tokens_details\":{\"reasoning_tokens\":4},\"total_tokens\":19}",
           (struct token_counts){10, 3, 0, 9, 4}, false);
    expect("{\"prompt_tokens\":6,\"total_tokens\":6}", (struct token_counts){6, 0, 0, 0, 0}, false);
    expect("{\"total_tokens\":6}", (struct token_counts){6, 0, 0, 0, 0}, false);
    expect("{\"prompt_tokens\":6,\"completion_tokens\":null,\"prompt_tokens_details\":null}",
           (struct token_counts){6, 0, 0, 0, 0}, false);
    expect("{\"prompt_tokens\":12.0,\"completion_tokens\":1e2}", (struct token_counts){12, 0, 0, 100, 0}, false);
}

static void impossible_values_are_clamped(void **state) {
    (void)state;
    expect("{\"prompt_tokens\":-5,\"completion_tokens\":7}", (struct token_counts){0, 0, 0, 7, 0}, true);
    expect("{\"prompt_tokens\":5,\"completion_tokens\":9223372036854775807}",
           (struct token_counts){5, 0, 0, TOKENS_MOST, 0}, true);
    expect("{\"prompt_tokens\":5,\"completion_tokens\":1e300}", (struct token_counts){5, 0, 0, TOKENS_MOST, 0}, true);
    expect("{\"prompt_tokens\":5,\"completion_tokens\":-1e300}", (struct token_counts){5, 0, 0, 0, 0}, true);
    expect("{\"prompt_tokens\":2.5,\"completion_tokens\":7}", (struct token_counts){3, 0, 0, 7, 0}, true);
    expect("{\"prompt_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":9},\"completion_tokens\":7}",
           (struct token_counts){5, 5, 0, 7, 0}, true);
    expect("{\"prompt_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":3,\"cache_write_tokens\":4},"
           "\"completion_tokens\":7}",
           (struct token_counts){5, 3, 2, 7, 0}, true);
    expect("{\"prompt_tokens\":5,\"completion_tokens\":\"7\"}", (struct token_counts){5, 0, 0, 0, 0}, true);
    expect("{\"prompt_tokens\":5,\"completion_tokens\":[7]}", (struct token_counts){5, 0, 0, 0, 0}, true);
    expect("{\"prompt_tokens\":1000000000000,\"completion_tokens\":1000000000000,"
           "\"completion_tokens_details\":{\"reasoning_tokens\":1000000000000},\"total_tokens\":9e18}",
           (struct token_counts){TOKENS_MOST, 0, 0, TOKENS_MOST, TOKENS_MOST}, true);
}

static void what_is_no_usage_is_refused(void **state) {
    (void)state;
    struct usage_report report;
    static const char *const texts[] = {"null", "[]", "{}", "7", "{\"prompt_tokens\":null}", "{\"cost\":1}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_false(read_text(texts[i], &report));
    }
}

static void contradictions_are_told(void **state) {
    (void)state;
    struct usage_report report;
    /* Vercel: more reasoning than completion, the total without it */
    assert_true(read_text("{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11,"
                          "\"completion_tokens_details\":{\"reasoning_tokens\":25}}",
                          &report));
    assert_true(report.contradicts);
    assert_false(report.clamped);
    assert_int_equal(report.tokens.output_tokens, 2);
    assert_int_equal(report.tokens.reasoning_tokens, 25);
    /* Gemini's OpenAI layer: thoughts only in the total */
    assert_true(read_text("{\"completion_tokens\":12,\"prompt_tokens\":35,\"total_tokens\":109}", &report));
    assert_int_equal(report.unexplained_tokens, 62);
    assert_int_equal(report.tokens.output_tokens, 12);
}

static void partial_reports_never_lower(void **state) {
    (void)state;
    struct usage_report total = {0};
    struct usage_report next;
    assert_true(read_text("{\"prompt_tokens\":8,\"completion_tokens\":1}", &next));
    usage_merge(&total, &next);
    assert_true(read_text("{\"prompt_tokens\":8,\"completion_tokens\":5}", &next));
    usage_merge(&total, &next);
    assert_int_equal(total.tokens.output_tokens, 5);
    assert_true(read_text("{\"completion_tokens\":3}", &next));
    usage_merge(&total, &next);
    assert_true(read_text("{\"prompt_tokens\":-1}", &next));
    usage_merge(&total, &next);
    assert_int_equal(total.tokens.input_tokens, 8);
    assert_int_equal(total.tokens.output_tokens, 5);
    assert_true(total.clamped);
    assert_true(read_text("{\"prompt_tokens\":7,\"completion_tokens\":6}", &next));
    usage_merge(&total, &next);
    assert_int_equal(total.tokens.input_tokens, 7);
    assert_true(total.clamped);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(providers_forms_are_normalised), cmocka_unit_test(impossible_values_are_clamped),
        cmocka_unit_test(what_is_no_usage_is_refused),    cmocka_unit_test(contradictions_are_told),
        cmocka_unit_test(partial_reports_never_lower),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
