#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <stdio.h>

#include "admin/admin_buckets.h"

static const int64_t midnight_s = 1736640000; /* 2025-01-12T00:00:00Z */
static struct arena arena;
static struct query query;
static struct buckets buckets;
static const char *param;

static bool parse(enum bucket_kind kind, int64_t now_s, const char *text) {
    struct buffer error;
    buffer_init(&error, 4096);
    assert_true(query_parse(span_text(text), &arena, &query));
    bool good = buckets_parse(&query, kind, now_s, &arena, &buckets, &param, &error);
    assert_true(good || error.len != 0);
    buffer_fini(&error);
    return good;
}

static void test_days_begin_at_midnight_but_the_first(void **state) {
    (void)state;
    assert_true(parse(BUCKETS_OF_USAGE, midnight_s + 100, "start_time=1736616660"));
    assert_int_equal(buckets.width_s, 86400);
    assert_int_equal(buckets_start(&buckets, 1736616660), 1736616660);
    assert_int_equal(buckets_start(&buckets, midnight_s - 1), 1736616660);
    assert_int_equal(buckets_end(&buckets, 1736616660), midnight_s);
    assert_int_equal(buckets_start(&buckets, midnight_s), midnight_s);
    assert_int_equal(buckets.to_s, midnight_s + 101);
    assert_false(buckets.has_more);
}

static void test_pages_follow_each_other(void **state) {
    char text[128];
    (void)state;
    assert_true(parse(BUCKETS_OF_USAGE, midnight_s + 86400, "start_time=1736616660&bucket_width=1h&limit=3"));
    assert_true(buckets.has_more);
    assert_int_equal(buckets.from_s, 1736616660);
    assert_int_equal(buckets.to_s, 1736616660 - 1736616660 % 3600 + 3 * 3600);
    int64_t next = buckets.to_s;
    (void)snprintf(text, sizeof(text), "start_time=1736616660&bucket_width=1h&limit=3&page=page_%lld", (long long)next);
    assert_true(parse(BUCKETS_OF_USAGE, midnight_s + 86400, text));
    assert_int_equal(buckets.from_s, next);
    assert_int_equal(buckets.to_s, next + 3 * 3600);
}

static void test_groups_and_filters_in_every_form(void **state) {
    (void)state;
    assert_true(parse(BUCKETS_OF_USAGE, midnight_s,
                      "start_time=1&group_by=model,project_id&group_by[]=api_key_id&models[]=a&models=b,c&batch=x"));
    assert_true(buckets.by_model && buckets.by_project && buckets.by_key);
    assert_int_equal(buckets.models.count, 3);
    assert_true(bucket_filter_matches(&buckets.models, "c"));
    assert_false(bucket_filter_matches(&buckets.models, "d"));
    assert_true(bucket_filter_matches(&buckets.projects, "anything"));
    assert_true(parse(BUCKETS_OF_COSTS, midnight_s, "start_time=1&group_by=line_item"));
    assert_true(buckets.by_model && !buckets.by_project);
}

static void test_what_cannot_be_is_named(void **state) {
    static const struct {
        enum bucket_kind kind;
        const char *query;
        const char *param;
    } bad[] = {
        {BUCKETS_OF_USAGE, "", "start_time"},
        {BUCKETS_OF_USAGE, "start_time=x", "start_time"},
        {BUCKETS_OF_USAGE, "start_time=-5", "start_time"},
        {BUCKETS_OF_USAGE, "start_time=99999999999999999", "start_time"},
        {BUCKETS_OF_USAGE, "start_time=9&end_time=9", "end_time"},
        {BUCKETS_OF_USAGE, "start_time=1&bucket_width=1w", "bucket_width"},
        {BUCKETS_OF_COSTS, "start_time=1&bucket_width=1h", "bucket_width"},
        {BUCKETS_OF_USAGE, "start_time=1&limit=0", "limit"},
        {BUCKETS_OF_USAGE, "start_time=1&limit=32", "limit"},
        {BUCKETS_OF_COSTS, "start_time=1&limit=181", "limit"},
        {BUCKETS_OF_USAGE, "start_time=1&group_by=user_id", "group_by"},
        {BUCKETS_OF_COSTS, "start_time=1&group_by=model", "group_by"},
        {BUCKETS_OF_USAGE, "start_time=1&page=2", "page"},
        {BUCKETS_OF_USAGE, "start_time=1&page=page_7", "page"},
        {BUCKETS_OF_USAGE, "start_time=1&page=page_4102358400", "page"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(parse(bad[i].kind, midnight_s, bad[i].query));
        assert_string_equal(param, bad[i].param);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_days_begin_at_midnight_but_the_first),
        cmocka_unit_test(test_pages_follow_each_other),
        cmocka_unit_test(test_groups_and_filters_in_every_form),
        cmocka_unit_test(test_what_cannot_be_is_named),
    };
    arena_init(&arena, 1 << 20);
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    arena_fini(&arena);
    return failures;
}
