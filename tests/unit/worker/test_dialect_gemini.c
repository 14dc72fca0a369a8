#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hearing_testing.h"

static struct json_doc scratch;

static int make_scratch(void **state) {
    (void)state;
    json_doc_init(&scratch);
    return 0;
}

static int free_scratch(void **state) {
    (void)state;
    json_doc_fini(&scratch);
    return 0;
}

static void expect_count(const struct fixtures *fixtures, int file, const char *field, int64_t got, const char *name) {
    int64_t expected = fixture_expected(fixtures, file, field);
    if (got != (expected < 0 ? 0 : expected)) {
        fail_msg("%s: %s is %lld, not %lld", name, field, (long long)expected, (long long)got);
    }
}

static void expect_heard(const struct fixtures *fixtures, int file, const struct answer_listener *heard,
                         const char *name) {
    const struct json_doc *index = &fixtures->index;
    const struct token_counts *tokens = &heard->usage.tokens;
    int finish = json_member(index, json_member(index, file, "expected"), "finish_reason");
    assert_int_equal(heard->has_usage, fixture_expected(fixtures, file, "prompt_tokens") >= 0);
    expect_count(fixtures, file, "prompt_tokens", tokens->input_tokens, name);
    expect_count(fixtures, file, "completion_tokens", tokens->output_tokens, name);
    expect_count(fixtures, file, "cached_tokens", tokens->cached_input_tokens, name);
    expect_count(fixtures, file, "reasoning_tokens", tokens->reasoning_tokens, name);
    expect_count(fixtures, file, "text_bytes", heard->text_bytes[ANSWER_TEXT_CONTENT], name);
    assert_false(heard->usage.clamped || heard->is_done);
    if (json_type_of(index, finish) == JSON_NUMBER) {
        assert_string_equal(heard->finish_reason, "MAX_TOKENS");
    } else if (json_type_of(index, finish) == JSON_STRING && !json_string_is(index, finish, heard->finish_reason)) {
        fail_msg("%s: finish is %s", name, heard->finish_reason);
    }
    int error = json_member(index, json_member(index, file, "extra"), "bare_json_error");
    assert_int_equal(heard->is_error, error >= 0);
}

/* Hears a fixture one way and compares; an error leaves the finish untold. */
static void try_way(const struct fixtures *fixtures, int file, const struct hearing_way *way, struct span text,
                    const char *name) {
    struct answer_listener heard;
    struct told_parts parts;
    told_init(&parts);
    hearing_run(way, &scratch, text, &heard, &parts.sink);
    expect_heard(fixtures, file, &heard, name);
    if (heard.is_error) {
        assert_int_equal(parts.choices[0].finishes, 0);
        parts.choices[0].finish = ANSWER_FINISH_STOP;
    }
    hearing_expect_parts(fixtures, file, &parts, name);
    told_fini(&parts);
}

static void try_all_ways(const struct fixtures *fixtures, int file, struct hearing_way way, struct span text,
                         const char *name) {
    static const size_t steps[] = {SIZE_MAX, 1, 7, 1000};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        way.first = way.step = steps[i];
        try_way(fixtures, file, &way, text, name);
    }
    way.step = SIZE_MAX;
    for (size_t cut = 1; way.is_stream && cut < text.len; cut++) {
        way.first = cut;
        try_way(fixtures, file, &way, text, name);
    }
}

static void every_recorded_answer_is_heard_as_expected(void **state) {
    (void)state;
    struct fixtures fixtures;
    struct hearing_way way;
    fixtures_load(&fixtures);
    int count = 0;
    for (int file = json_first(&fixtures.index, fixtures.files); file >= 0; file = json_next(&fixtures.index, file)) {
        if (!hearing_way_of(&fixtures, file, &way) || !way.is_gemini) {
            continue;
        }
        char name[FIXTURE_PATH_BYTES];
        struct buffer text;
        struct buffer crlf;
        fixture_open(&fixtures, file, name, &text);
        try_all_ways(&fixtures, file, way, buffer_span(&text), name);
        hearing_with_crlf(buffer_span(&text), &crlf);
        try_all_ways(&fixtures, file, way, buffer_span(&crlf), name);
        buffer_fini(&crlf);
        buffer_fini(&text);
        count++;
    }
    assert_true(count >= 20);
    fixtures_free(&fixtures);
}

static struct answer_event hear(const char *data, struct answer_listener *listener, struct told_parts *parts) {
    struct answer_event out;
    gemini_hear_event(listener, &scratch, SPAN_EMPTY, span_text(data), &out, parts != NULL ? &parts->sink : NULL);
    return out;
}

static struct answer_event hear_alone(const char *data) {
    struct answer_listener listener;
    answer_listener_init(&listener);
    return hear(data, &listener, NULL);
}

static void other_dialects_are_invalid(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"delta\":{\"content\":\"a\"}}]}",
        "{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1}}}",
        "[DONE]",
        "x",
        "[]",
        "[{}]",
        "[{\"candidates\":[]},{\"candidates\":[]}]",
        "7",
        "null",
        "{",
        "{\"candidates\":[}",
        "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\x80\"}]}}]}",
        "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\nb\"}]}}]}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct answer_event out = hear_alone(texts[i]);
        if (!out.is_invalid || out.is_error || out.has_usage || out.has_choices) {
            fail_msg("%s is not invalid", texts[i]);
        }
    }
    struct answer_listener listener;
    struct answer_event out;
    answer_listener_init(&listener);
    gemini_hear_event(&listener, &scratch, SPAN_LITERAL("message_stop"), SPAN_LITERAL("{\"candidates\":[]}"), &out,
                      NULL);
    assert_true(out.is_invalid && !out.is_error);
    gemini_hear_event(&listener, &scratch, SPAN_LITERAL("error"), SPAN_LITERAL("{}"), &out, NULL);
    assert_true(out.is_error && listener.is_error);
    assert_false(hear_alone("").is_invalid);
    assert_false(hear_alone("{}").is_invalid);
}

static void errors_are_told(void **state) {
    (void)state;
    struct answer_event out = hear_alone("{\"error\":{\"code\":499}}");
    assert_true(out.is_error && !out.is_invalid);
    assert_true(span_is(out.error_raw, "{\"code\":499}"));
    assert_true(hear_alone("[{\"error\":{\"code\":403}}]").is_error);
    assert_true(hear_alone("{\"error\":\"x\"}").is_error);
    assert_false(hear_alone("{\"error\":null,\"candidates\":[]}").is_error);
    assert_false(
        hear_alone("{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"{\\\"error\\\":{}}\"}]}}]}").is_error);
}

/* The last full report wins; one with less only raises counts. */
static void usage_is_the_last_full_one(void **state) {
    (void)state;
    struct answer_listener listener;
    answer_listener_init(&listener);
    (void)hear("{\"candidates\":[],\"usageMetadata\":{\"promptTokenCount\":15,\"candidatesTokenCount\":9,"
               "\"totalTokenCount\":24}}",
               &listener, NULL);
    (void)hear("{\"usageMetadata\":{\"promptTokenCount\":13,\"candidatesTokenCount\":4,\"thoughtsTokenCount\":6,"
               "\"cachedContentTokenCount\":5,\"toolUsePromptTokenCount\":7,\"totalTokenCount\":30}}",
               &listener, NULL);
    struct answer_event out = hear("{\"usageMetadata\":{\"trafficType\":\"ON_DEMAND\"}}", &listener, NULL);
    assert_false(out.has_usage || out.is_invalid);
    assert_int_equal(listener.usage.tokens.input_tokens, 20);
    assert_int_equal(listener.usage.tokens.cached_input_tokens, 5);
    assert_int_equal(listener.usage.tokens.output_tokens, 10);
    assert_int_equal(listener.usage.tokens.reasoning_tokens, 6);
    assert_int_equal(listener.usage.unexplained_tokens, 0);
    /* Candidates that only the total counts. */
    out = hear_alone("{\"usageMetadata\":{\"promptTokenCount\":10,\"thoughtsTokenCount\":5,\"totalTokenCount\":18}}");
    assert_int_equal(out.usage.tokens.output_tokens, 8);
    assert_true(out.is_usage_only);
    out = hear_alone("{\"usageMetadata\":{\"promptTokenCount\":10,\"cachedContentTokenCount\":11,"
                     "\"candidatesTokenCount\":-3,\"thoughtsTokenCount\":1e99}}");
    assert_true(out.usage.clamped);
    assert_int_equal(out.usage.tokens.cached_input_tokens, 10);
    assert_int_equal(out.usage.tokens.output_tokens, TOKENS_MOST);
}

static void finishes_come_once_at_the_end(void **state) {
    (void)state;
    struct answer_listener listener;
    struct told_parts parts;
    answer_listener_init(&listener);
    told_init(&parts);
    (void)hear("{\"candidates\":[{\"index\":1,\"content\":{\"parts\":[{\"text\":\"b\"}]},\"finishReason\":\"STOP\"},"
               "{\"index\":0,\"content\":{\"parts\":[{\"text\":\"a\"}]},\"finishReason\":\"STOP\"}]}",
               &listener, &parts);
    assert_int_equal(parts.choices[0].finishes + parts.choices[1].finishes, 0);
    (void)hear("{\"candidates\":[{\"index\":0,\"content\":{\"parts\":[{\"text\":\"A\"}]},\"finishReason\":\"SAFETY\"},"
               "{\"index\":1,\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\"}}]},\"finishReason\":1}]}",
               &listener, &parts);
    gemini_hear_end(&listener, &parts.sink);
    gemini_hear_end(&listener, &parts.sink);
    assert_int_equal(parts.choices[0].finishes, 1);
    assert_int_equal(parts.choices[1].finishes, 1);
    assert_int_equal(parts.choices[0].finish, ANSWER_FINISH_CONTENT_FILTER);
    assert_int_equal(parts.choices[1].finish, ANSWER_FINISH_TOOL_CALLS);
    assert_string_equal(listener.finish_reason, "SAFETY");
    assert_string_equal(buffer_text(&parts.choices[0].content), "aA");
    assert_string_equal(buffer_text(&parts.choices[1].content), "b");
    assert_string_equal(buffer_text(&parts.choices[1].calls[0].arguments), "{}");
    told_fini(&parts);
}

static void parts_are_told_in_full(void **state) {
    (void)state;
    struct answer_listener listener;
    struct told_parts parts;
    answer_listener_init(&listener);
    told_init(&parts);
    (void)hear("{\"candidates\":[{\"content\":{\"parts\":["
               "{\"text\":\"why\",\"thought\":true},{\"text\":\"\",\"thoughtSignature\":\"S1\"},"
               "{\"inlineData\":{\"data\":\"AAAA\"}},{\"executableCode\":{\"code\":\"1\"}},7,null,"
               "{\"functionCall\":{\"id\":\"c1\",\"name\":\"f\",\"args\":{ \"a\" : \"x \\\"y\\\" \\\\ \\n z\" ,\n "
               "\"b\":[1, 2]}},"
               "\"thoughtSignature\":\"S2\"},{\"functionCall\":{\"name\":\"g\",\"args\":{}}}]}}]}",
               &listener, &parts);
    const struct told_choice *choice = &parts.choices[0];
    assert_string_equal(buffer_text(&choice->reasoning), "why");
    assert_string_equal(buffer_text(&choice->signature), "S1");
    assert_int_equal(choice->call_count, 2);
    assert_string_equal(buffer_text(&choice->calls[0].id), "c1");
    assert_string_equal(buffer_text(&choice->calls[0].arguments), "{\"a\":\"x \\\"y\\\" \\\\ \\n z\",\"b\":[1,2]}");
    assert_string_equal(buffer_text(&choice->calls[0].signature), "S2");
    assert_string_equal(buffer_text(&choice->calls[1].id), "");
    assert_string_equal(buffer_text(&choice->calls[1].name), "g");
    assert_true(listener.text_bytes[ANSWER_TEXT_TOOL] != 0);
    told_fini(&parts);
}

static void logprobs_take_openais_form(void **state) {
    (void)state;
    struct answer_listener listener;
    struct told_parts parts;
    answer_listener_init(&listener);
    told_init(&parts);
    (void)hear("{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"logprobsResult\":{"
               "\"chosenCandidates\":[{\"token\":\"a\",\"tokenId\":1,\"logProbability\":-0.5},{\"token\":\"b\"}],"
               "\"topCandidates\":[{\"candidates\":[{\"token\":\"a\",\"logProbability\":-0.5},"
               "{\"token\":\"c\",\"logProbability\":-2}]}]}}]}",
               &listener, &parts);
    assert_string_equal(
        buffer_text(&parts.choices[0].logprobs),
        "{\"content\":[{\"token\":\"a\",\"logprob\":-0.5,\"bytes\":null,\"top_logprobs\":["
        "{\"token\":\"a\",\"logprob\":-0.5,\"bytes\":null},{\"token\":\"c\",\"logprob\":-2,\"bytes\":null}]},"
        "{\"token\":\"b\",\"logprob\":0,\"bytes\":null,\"top_logprobs\":[]}],\"refusal\":null}");
    told_fini(&parts);
}

/* Indices no answer has are counted, not told. */
static void odd_candidates_do_no_harm(void **state) {
    (void)state;
    struct answer_listener listener;
    struct told_parts parts;
    answer_listener_init(&listener);
    told_init(&parts);
    (void)hear(
        "{\"candidates\":[{\"index\":9007199254740993,\"content\":{\"parts\":[{\"text\":\"far\"}]},"
        "\"finishReason\":\"STOP\"},{\"index\":-1,\"content\":{\"parts\":[{\"text\":\"b\"}]}},3,"
        "{\"index\":2,\"content\":[],\"finishReason\":{}},{\"index\":0,\"content\":{\"parts\":{\"text\":\"x\"}}}]}",
        &listener, &parts);
    assert_int_equal(listener.text_bytes[ANSWER_TEXT_CONTENT], 4);
    assert_string_equal(buffer_text(&parts.choices[0].content), "");
    assert_string_equal(buffer_text(&parts.choices[1].content), "b");
    gemini_hear_end(&listener, &parts.sink);
    assert_int_equal(parts.choices[0].finishes, 0);
    told_fini(&parts);
}

static void expect_refusal(const char *fixture, struct answer_refusal expected) {
    struct buffer text;
    struct answer_refusal refusal;
    fixture_read(fixture, &text);
    gemini_judge_refusal(&scratch, buffer_span(&text), &refusal);
    if (refusal.is_context_length != expected.is_context_length || refusal.is_credentials != expected.is_credentials ||
        refusal.is_overloaded != expected.is_overloaded || refusal.retry_after_ms != expected.retry_after_ms) {
        fail_msg("%s: length %d credentials %d overloaded %d after %lld ms", fixture, refusal.is_context_length,
                 refusal.is_credentials, refusal.is_overloaded, (long long)refusal.retry_after_ms);
    }
    buffer_fini(&text);
}

static struct answer_refusal judge(const char *body) {
    struct answer_refusal refusal;
    gemini_judge_refusal(&scratch, span_text(body), &refusal);
    return refusal;
}

static void refusals_are_judged(void **state) {
    (void)state;
    expect_refusal("errors/gemini-400-api-key.json", (struct answer_refusal){.is_credentials = true});
    expect_refusal("errors/gemini-400-location.json", (struct answer_refusal){.is_credentials = true});
    expect_refusal("errors/gemini-403-array.json", (struct answer_refusal){.is_credentials = true});
    expect_refusal("errors/vertex-403-iam.json", (struct answer_refusal){.is_credentials = true});
    expect_refusal("errors/gemini-404-model.json", (struct answer_refusal){0});
    expect_refusal("errors/gemini-429-retryinfo.json", (struct answer_refusal){.retry_after_ms = 48000});
    expect_refusal("errors/gemini-500.json", (struct answer_refusal){0});
    expect_refusal("errors/gemini-503.json", (struct answer_refusal){.is_overloaded = true});
    assert_true(judge("{\"error\":{\"code\":400,\"status\":\"INVALID_ARGUMENT\",\"message\":\"The input token count "
                      "(1200000) exceeds the maximum number of tokens allowed (1048576).\"}}")
                    .is_context_length);
    assert_int_equal(judge("{\"error\":{\"details\":[{\"retryDelay\":\"34.4s\"}]}}").retry_after_ms, 34400);
    assert_int_equal(judge("{\"error\":{\"details\":[{\"retryDelay\":\"0.0001s\"}]}}").retry_after_ms, 1);
    assert_int_equal(judge("{\"error\":{\"details\":[{\"retryDelay\":\"99999999999999999999s\"}]}}").retry_after_ms,
                     86400000);
    static const char *const odd[] = {
        "",
        "<html>",
        "{\"error\":\"x\"}",
        "[]",
        "{\"error\":{\"details\":7,\"message\":null}}",
        "{\"error\":{\"details\":[{\"retryDelay\":\"-1s\",\"reason\":4},{\"retryDelay\":4}]}}"};
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        struct answer_refusal refusal = judge(odd[i]);
        assert_false(refusal.is_context_length || refusal.is_credentials || refusal.is_overloaded);
        assert_int_equal(refusal.retry_after_ms, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recorded_answer_is_heard_as_expected),
        cmocka_unit_test(other_dialects_are_invalid),
        cmocka_unit_test(errors_are_told),
        cmocka_unit_test(usage_is_the_last_full_one),
        cmocka_unit_test(finishes_come_once_at_the_end),
        cmocka_unit_test(parts_are_told_in_full),
        cmocka_unit_test(logprobs_take_openais_form),
        cmocka_unit_test(odd_candidates_do_no_harm),
        cmocka_unit_test(refusals_are_judged),
    };
    return cmocka_run_group_tests(tests, make_scratch, free_scratch);
}
