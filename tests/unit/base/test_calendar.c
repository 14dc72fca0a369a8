#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/calendar.h"
#include "base/clock.h"

static const int64_t hour_ns = 3600 * NS_PER_S;

static int64_t at(const char *text) {
    int64_t wall_ns = 0;
    if (!calendar_parse(span_text(text), 0, &wall_ns)) {
        fail_msg("cannot read %s", text);
    }
    return wall_ns;
}

static void use(const char *zone) {
    if (!calendar_use_zone(zone)) {
        fail_msg("no zone %s", zone);
    }
}

static void check_span(const char *inside, enum calendar_unit unit, const char *first, const char *next) {
    char got[RFC3339_BYTES];
    int64_t wall_ns = at(inside);
    if (calendar_floor(wall_ns, unit) != at(first)) {
        calendar_rfc3339(calendar_floor(wall_ns, unit), got);
        fail_msg("floor of %s is %s, not %s", inside, got, first);
    }
    if (calendar_next(wall_ns, unit) != at(next)) {
        calendar_rfc3339(calendar_next(wall_ns, unit), got);
        fail_msg("next of %s is %s, not %s", inside, got, next);
    }
}

/* Must run first: before calendar_use_zone, TZ in the environment means nothing. */
static void test_utc_is_the_default(void **state) {
    (void)state;
    char out[RFC3339_BYTES];
    assert_int_equal(setenv("TZ", "Asia/Tokyo", 1), 0);
    calendar_rfc3339(0, out);
    assert_string_equal(out, "1970-01-01T00:00:00.000Z");
    check_span("2026-11-21T23:59:59Z", CALENDAR_DAY, "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z");
}

static void test_zone_names(void **state) {
    (void)state;
    static const char *const good[] = {"UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5",
                                       "Asia/Tokyo"};
    static const char *const bad[] = {
        "",
        "/",
        "/etc/passwd",
        "../zoneinfo/UTC",
        "Europe/../UTC",
        "Europe",
        "Europe/",
        "Europe//Berlin",
        "/usr/share/zoneinfo/UTC",
        "./UTC",
        "Nowhere/City",
        "tzdata.zi",
        "zone.tab",
        "leapseconds",
        "localtime",
        "posixrules",
        "right/Europe/Berlin",
        "CET-1",
        ":UTC",
        "Europe/Berlin ",
        "Europe/Berlin\n",
        "UTC0",
        "<+02>-2",
        "..",
        ".",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(calendar_zone_exists(good[i]));
    }
    use("Asia/Tokyo");
    int64_t floor_ns = calendar_floor(at("2026-11-21T10:00:00Z"), CALENDAR_DAY);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (calendar_zone_exists(bad[i]) || calendar_use_zone(bad[i])) {
            fail_msg("accepted zone %s", bad[i]);
        }
    }
    assert_false(calendar_zone_exists(NULL));
    assert_int_equal(calendar_floor(at("2026-11-21T10:00:00Z"), CALENDAR_DAY), floor_ns);
    use("UTC");
    assert_int_equal(calendar_floor(at("2026-11-21T10:00:00Z"), CALENDAR_DAY), at("2026-11-21T00:00:00Z"));
}

static void test_zone_folder_of_the_environment_is_ignored(void **state) {
    (void)state;
    assert_int_equal(setenv("TZDIR", "/nonexistent", 1), 0);
    use("Asia/Tokyo");
    check_span("2026-11-21T10:00:00Z", CALENDAR_DAY, "2026-11-20T15:00:00Z", "2026-11-21T15:00:00Z");
    assert_int_equal(unsetenv("TZDIR"), 0);
}

static void test_utc_borders(void **state) {
    (void)state;
    use("UTC");
    check_span("2026-11-21T13:45:10.5Z", CALENDAR_HOUR, "2026-11-21T13:00:00Z", "2026-11-21T14:00:00Z");
    check_span("2026-11-21T13:00:00Z", CALENDAR_HOUR, "2026-11-21T13:00:00Z", "2026-11-21T14:00:00Z");
    check_span("2026-11-21T00:00:00Z", CALENDAR_DAY, "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z");
    check_span("2026-12-31T23:59:59.999Z", CALENDAR_MONTH, "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
    check_span("2028-02-29T12:00:00Z", CALENDAR_MONTH, "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z");
    check_span("1969-12-31T23:59:59.999Z", CALENDAR_HOUR, "1969-12-31T23:00:00Z", "1970-01-01T00:00:00Z");
    check_span("1969-12-31T23:59:59.999Z", CALENDAR_DAY, "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z");
    check_span("1969-12-31T23:59:59.999Z", CALENDAR_MONTH, "1969-12-01T00:00:00Z", "1970-01-01T00:00:00Z");
}

static void test_berlin_summer_begins(void **state) {
    (void)state;
    use("Europe/Berlin");
    check_span("2026-03-29T12:00:00+02:00", CALENDAR_DAY, "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00");
    assert_int_equal(at("2026-03-30") - at("2026-03-29"), 23 * hour_ns);
    check_span("2026-03-29T01:30:00+01:00", CALENDAR_HOUR, "2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00");
    check_span("2026-03-29T03:30:00+02:00", CALENDAR_HOUR, "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00");
    check_span("2026-03-31T23:59:59+02:00", CALENDAR_MONTH, "2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00");
}

static void test_berlin_summer_ends(void **state) {
    (void)state;
    char out[RFC3339_BYTES];
    use("Europe/Berlin");
    check_span("2026-10-25T02:30:00+02:00", CALENDAR_DAY, "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00");
    check_span("2026-10-25T02:30:00+01:00", CALENDAR_DAY, "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00");
    assert_int_equal(at("2026-10-26") - at("2026-10-25"), 25 * hour_ns);
    check_span("2026-10-25T02:30:00+02:00", CALENDAR_HOUR, "2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00");
    check_span("2026-10-25T02:30:00+01:00", CALENDAR_HOUR, "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00");
    calendar_rfc3339(at("2026-10-25T00:30:00.25Z"), out);
    assert_string_equal(out, "2026-10-25T02:30:00.250+02:00");
    calendar_rfc3339(at("2026-10-25T01:30:00Z"), out);
    assert_string_equal(out, "2026-10-25T02:30:00.000+01:00");
}

/* Clocks that change at midnight: in Beirut it does not exist, in Havana it comes twice. */
static void test_midnight_changes(void **state) {
    (void)state;
    use("Asia/Beirut");
    check_span("2026-03-29T12:00:00+03:00", CALENDAR_DAY, "2026-03-29T01:00:00+03:00", "2026-03-30T00:00:00+03:00");
    check_span("2026-03-28T12:00:00+02:00", CALENDAR_DAY, "2026-03-28T00:00:00+02:00", "2026-03-29T01:00:00+03:00");
    assert_int_equal(at("2026-03-30") - at("2026-03-29"), 23 * hour_ns);
    use("America/Havana");
    check_span("2026-11-01T12:00:00-05:00", CALENDAR_DAY, "2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00");
    check_span("2026-11-01T00:30:00-05:00", CALENDAR_DAY, "2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00");
    check_span("2026-11-01T00:30:00-05:00", CALENDAR_MONTH, "2026-11-01T00:00:00-04:00", "2026-12-01T00:00:00-05:00");
    check_span("2026-10-31T23:59:59-04:00", CALENDAR_MONTH, "2026-10-01T00:00:00-04:00", "2026-11-01T00:00:00-04:00");
}

static void test_odd_offsets(void **state) {
    (void)state;
    char out[RFC3339_BYTES];
    use("Asia/Kathmandu");
    check_span("2026-11-21T10:10:00Z", CALENDAR_HOUR, "2026-11-21T15:00:00+05:45", "2026-11-21T16:00:00+05:45");
    calendar_rfc3339(0, out);
    assert_string_equal(out, "1970-01-01T05:30:00.000+05:30");
    use("America/St_Johns");
    calendar_rfc3339(at("2026-12-01T00:00:00Z"), out);
    assert_string_equal(out, "2026-11-30T20:30:00.000-03:30");
    /* A change of half an hour divides an hour. */
    use("Australia/Lord_Howe");
    check_span("2026-04-05T01:45:00+11:00", CALENDAR_HOUR, "2026-04-05T01:00:00+11:00", "2026-04-05T01:30:00+10:30");
    check_span("2026-04-05T01:45:00+10:30", CALENDAR_HOUR, "2026-04-05T01:30:00+10:30", "2026-04-05T02:00:00+10:30");
    check_span("2026-10-04T02:45:00+11:00", CALENDAR_HOUR, "2026-10-04T02:30:00+11:00", "2026-10-04T03:00:00+11:00");
    /* Samoa had no 30th of December in 2011. */
    use("Pacific/Apia");
    check_span("2011-12-29T12:00:00-10:00", CALENDAR_DAY, "2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00");
    check_span("2011-12-31T12:00:00+14:00", CALENDAR_DAY, "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00");
    assert_int_equal(at("2011-12-30"), at("2011-12-31"));
}

/* Whatever the zone does: a border is its own floor, spans hold what lies in them, and they meet without gap or
 * overlap. */
static void test_spans_meet(void **state) {
    (void)state;
    static const char *const zones[] = {"UTC",
                                        "Europe/Berlin",
                                        "America/Havana",
                                        "Asia/Beirut",
                                        "America/St_Johns",
                                        "Australia/Lord_Howe",
                                        "Pacific/Apia",
                                        "America/Sao_Paulo",
                                        "Africa/Casablanca",
                                        "Asia/Kathmandu",
                                        "America/New_York",
                                        "Antarctica/Troll"};
    for (size_t zone = 0; zone < sizeof(zones) / sizeof(zones[0]); zone++) {
        use(zones[zone]);
        for (enum calendar_unit unit = CALENDAR_HOUR; unit <= CALENDAR_MONTH; unit++) {
            int64_t first = calendar_floor(INT64_C(1293840000) * NS_PER_S, unit); /* 2011-01-01 */
            int64_t until = first + (int64_t)(unit == CALENDAR_HOUR ? 700 : 6000) * 24 * hour_ns;
            while (first < until) {
                int64_t next = calendar_next(first, unit);
                if (next <= first || calendar_floor(first, unit) != first || calendar_floor(next - 1, unit) != first ||
                    calendar_floor(next, unit) != next || calendar_next(next - 1, unit) != next ||
                    (unit == CALENDAR_HOUR && next - first > hour_ns)) {
                    char out[RFC3339_BYTES];
                    calendar_rfc3339(first, out);
                    fail_msg("%s unit %d after %s", zones[zone], (int)unit, out);
                }
                first = next;
            }
        }
    }
}

static void test_labels(void **state) {
    (void)state;
    char out[RFC3339_BYTES];
    use("America/New_York");
    calendar_label(at("2026-11-01T03:59:59Z"), CALENDAR_HOUR, out);
    assert_string_equal(out, "2026-10-31T23:00");
    calendar_label(at("2026-11-01T03:59:59Z"), CALENDAR_DAY, out);
    assert_string_equal(out, "2026-10-31");
    calendar_label(at("2026-11-01T03:59:59Z"), CALENDAR_MONTH, out);
    assert_string_equal(out, "2026-10");
    calendar_label(at("2026-11-01T04:00:00Z"), CALENDAR_MONTH, out);
    assert_string_equal(out, "2026-11");
}

static void check_parse(const char *text, int64_t expected_s) {
    int64_t got = 0;
    if (!calendar_parse(span_text(text), INT64_C(1000000) * NS_PER_S, &got) || got != expected_s * NS_PER_S) {
        fail_msg("%s gave %lld", text, (long long)got);
    }
}

static void test_parse(void **state) {
    (void)state;
    int64_t got = 0;
    use("UTC");
    check_parse("45s", 999955);
    check_parse("90m", 994600);
    check_parse("12h", 956800);
    check_parse("30d", 1000000 - 30 * 86400);
    check_parse("0s", 1000000);
    check_parse("1970-01-02", 86400);
    check_parse("1970-02", 31 * 86400);
    check_parse("2000-02-29", 951782400);
    check_parse("2026-11-21T10:00:00Z", 1795255200);
    check_parse("2026-11-21t10:00:00z", 1795255200);
    check_parse("2026-11-21 10:00:00Z", 1795255200);
    check_parse("2026-11-21T12:00:00+02:00", 1795255200);
    check_parse("2026-11-21T06:30:00.000-03:30", 1795255200);
    check_parse("2016-12-31T23:59:60Z", 1483228800);
    assert_true(calendar_parse(SPAN_LITERAL("1970-01-01T00:00:00.1234567899Z"), 0, &got));
    assert_int_equal(got, 123456789);
    assert_true(calendar_parse_future(SPAN_LITERAL("30d"), 5, &got));
    assert_int_equal(got, 5 + (int64_t)30 * 24 * hour_ns);
    assert_true(calendar_parse_future(SPAN_LITERAL("2027-01-01"), 5, &got));
    assert_int_equal(got, INT64_C(1798761600) * NS_PER_S);
    use("Europe/Berlin");
    check_parse("2026-07", 1782856800);
    check_parse("2026-07-01", 1782856800);
    check_parse("2026-01-01", 1767222000);
}

static void test_parse_refuses(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "d",
                                      "30",
                                      "-30d",
                                      "+30d",
                                      "30 d",
                                      "30w",
                                      "1.5h",
                                      "30D",
                                      "1h30m",
                                      "s30",
                                      "9223372036854775807s",
                                      "99999999999999999999d",
                                      "106752d0",
                                      "2026",
                                      "2026-",
                                      "2026-13",
                                      "2026-00",
                                      "2026-1",
                                      "2026-11-",
                                      "2026-11-00",
                                      "2026-11-31",
                                      "2026-02-29",
                                      "1900-02-29",
                                      "2026-11-1",
                                      "2026-11-211",
                                      "2026/11/21",
                                      "21-11-2026",
                                      "20261121",
                                      "2026-11-21T",
                                      "2026-11-21T10",
                                      "2026-11-21T10:00Z",
                                      "2026-11-21T10:00:00",
                                      "2026-11-21T24:00:00Z",
                                      "2026-11-21T10:60:00Z",
                                      "2026-11-21T10:00:61Z",
                                      "2026-11-21T10:00:00.Z",
                                      "2026-11-21T10:00:00,5Z",
                                      "2026-11-21T10:00:00+2",
                                      "2026-11-21T10:00:00+0200",
                                      "2026-11-21T10:00:00+24:00",
                                      "2026-11-21T10:00:00+02:60",
                                      "2026-11-21T10:00:00ZZ",
                                      "2026-11-21T10:00:00Z ",
                                      " 2026-11-21",
                                      "2026-11-21 ",
                                      "-026-11-21",
                                      "2026-11T10:00:00Z",
                                      "9999-12-31",
                                      "0000-01-01",
                                      "0001-01-01T00:00:00Z",
                                      "now",
                                      "yesterday"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t got = 0;
        if (calendar_parse(span_text(bad[i]), 0, &got) || calendar_parse_future(span_text(bad[i]), 0, &got)) {
            fail_msg("accepted %s as %lld", bad[i], (long long)got);
        }
    }
    int64_t got = 0;
    assert_false(calendar_parse_future(SPAN_LITERAL("9000000000s"), INT64_MAX, &got));
    assert_false(calendar_parse(SPAN_LITERAL("9000000000s"), INT64_MIN, &got));
    assert_false(calendar_parse(SPAN_LITERAL("2026-11-21T10:00:00\0"), 0, &got));
    assert_false(calendar_parse(SPAN_LITERAL("5\0"), 0, &got));
}

static void test_extremes_do_not_overflow(void **state) {
    (void)state;
    static const char *const zones[] = {"UTC", "Pacific/Kiritimati", "America/New_York"};
    for (size_t i = 0; i < 3; i++) {
        char out[RFC3339_BYTES];
        use(zones[i]);
        for (enum calendar_unit unit = CALENDAR_HOUR; unit <= CALENDAR_MONTH; unit++) {
            assert_true(calendar_floor(INT64_MAX, unit) <= INT64_MAX && calendar_floor(INT64_MIN, unit) == INT64_MIN);
            assert_true(calendar_next(INT64_MAX, unit) == INT64_MAX && calendar_next(INT64_MIN, unit) > INT64_MIN);
            calendar_label(INT64_MIN, unit, out);
            calendar_label(INT64_MAX, unit, out);
        }
        calendar_rfc3339(INT64_MIN, out);
        calendar_rfc3339(INT64_MAX, out);
    }
    char out[RFC3339_BYTES];
    use("UTC");
    calendar_rfc3339(INT64_MIN, out);
    assert_string_equal(out, "1677-09-21T00:12:43.145Z");
    calendar_rfc3339(-1, out);
    assert_string_equal(out, "1969-12-31T23:59:59.999Z");
}

static void test_rfc3339_reads_back(void **state) {
    (void)state;
    static const char *const zones[] = {"UTC", "Europe/London", "Asia/Kathmandu", "America/St_Johns"};
    for (size_t i = 0; i < 4; i++) {
        use(zones[i]);
        for (int64_t ms = -1; ms < INT64_C(4000000000000); ms += INT64_C(12345678901)) {
            char out[RFC3339_BYTES];
            int64_t back = 0;
            calendar_rfc3339(ms * NS_PER_MS, out);
            assert_true(calendar_parse(span_text(out), 0, &back));
            assert_int_equal(back, ms * NS_PER_MS);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utc_is_the_default),
        cmocka_unit_test(test_zone_names),
        cmocka_unit_test(test_zone_folder_of_the_environment_is_ignored),
        cmocka_unit_test(test_utc_borders),
        cmocka_unit_test(test_berlin_summer_begins),
        cmocka_unit_test(test_berlin_summer_ends),
        cmocka_unit_test(test_midnight_changes),
        cmocka_unit_test(test_odd_offsets),
        cmocka_unit_test(test_spans_meet),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_extremes_do_not_overflow),
        cmocka_unit_test(test_rfc3339_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
