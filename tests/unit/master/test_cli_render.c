/* Tables and CSV out of JSON. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "master/cli_render.h"

static const struct cli_column columns[] = {
    {"name", "name", CLI_COLUMN_TEXT, false},
    {"count", "requests", CLI_COLUMN_COUNT, false},
    {"price_usd", "price USD", CLI_COLUMN_MONEY, false},
    {"tags", "tags", CLI_COLUMN_LIST, true},
    {"spend.day", "today", CLI_COLUMN_MONEY, false},
};
enum { COLUMNS = sizeof(columns) / sizeof(columns[0]) };

static void expect_rendered(const char *json, bool csv, const char *wanted) {
    struct json_doc doc;
    struct cli_table table;
    struct buffer out;
    json_doc_init(&doc);
    buffer_init(&out, 1 << 20);
    assert_true(json_parse(&doc, span_text(json)));
    cli_table_init(&table, columns, COLUMNS, csv);
    cli_table_append(&table, &doc, json_member(&doc, 0, "rows"), json_member(&doc, 0, "total"), &out);
    assert_string_equal(buffer_text(&out), wanted);
    cli_table_fini(&table);
    buffer_fini(&out);
    json_doc_fini(&doc);
}

static const char report[] =
    "{\"rows\":[{\"name\":\"a\",\"count\":5,\"price_usd\":0.000012500,\"tags\":{\"team\":\"x\",\"n\":1},\"spend\":{"
    "\"day\":1.5}},"
    "{\"name\":\"longer "
    "name\",\"count\":12345,\"price_usd\":120.000000000,\"tags\":[\"p\",\"q\"],\"spend\":{\"day\":null}}],"
    "\"total\":{\"count\":12350,\"price_usd\":120.0000125}}";

static void aligns_columns_and_adds_the_total(void **state) {
    (void)state;
    expect_rendered(report, false,
                    "name         requests    price USD  today\n"
                    "a                   5    0.0000125   1.50\n"
                    "longer name     12345       120.00      -\n"
                    "total           12350  120.0000125       \n");
}

static void csv_keeps_values_as_they_are(void **state) {
    (void)state;
    expect_rendered(report, true,
                    "name,count,price_usd,tags,spend.day\r\n"
                    "a,5,0.000012500,\"team=x,n=1\",1.5\r\n"
                    "longer name,12345,120.000000000,\"p,q\",\r\n"
                    "total,12350,120.0000125,,\r\n");
}

static void csv_quotes_what_needs_it(void **state) {
    (void)state;
    expect_rendered("{\"rows\":[{\"name\":\"a \\\"b\\\",\\nc\"}]}", true,
                    "name,count,price_usd,tags,spend.day\r\n"
                    "\"a \"\"b\"\",\nc\",,,,\r\n");
}

static void no_rows_still_have_a_heading_and_a_total(void **state) {
    (void)state;
    expect_rendered("{\"rows\":[],\"total\":{\"count\":0,\"price_usd\":0.000000000}}", true,
                    "name,count,price_usd,tags,spend.day\r\ntotal,0,0.000000000,,\r\n");
}

static void control_characters_never_reach_a_terminal(void **state) {
    (void)state;
    expect_rendered("{\"rows\":[{\"name\":\"\\u001b[31mred\\u0007\\u009b\\u007f\"}]}", false,
                    "name         requests  price USD  today\n"
                    "?[31mred???         -          -      -\n");
}

static void counts_characters_rather_than_bytes(void **state) {
    (void)state;
    expect_rendered("{\"rows\":[{\"name\":\"\xc3\xa9t\xc3\xa9\",\"count\":1},{\"name\":\"abcdef\",\"count\":2}]}",
                    false,
                    "name    requests  price USD  today\n"
                    "\xc3\xa9t\xc3\xa9            1          -      -\n"
                    "abcdef         2          -      -\n");
}

static void an_object_is_a_list_of_lines(void **state) {
    (void)state;
    struct json_doc doc;
    struct buffer out;
    json_doc_init(&doc);
    buffer_init(&out, 1 << 20);
    assert_true(json_parse(&doc, SPAN_LITERAL("{\"name\":\"a\",\"count\":7,\"tags\":{\"k\":\"v\"}}")));
    cli_render_object(&doc, 0, columns, COLUMNS, false, &out);
    assert_string_equal(buffer_text(&out), "name       a\nrequests   7\nprice USD  -\ntags       k=v\ntoday      -\n");
    buffer_fini(&out);
    json_doc_fini(&doc);
}

static void pieces_share_one_heading(void **state) {
    (void)state;
    struct json_doc doc;
    struct cli_table table;
    struct buffer out;
    json_doc_init(&doc);
    buffer_init(&out, 1 << 20);
    cli_table_init(&table, columns, 1, true);
    assert_true(json_parse(&doc, SPAN_LITERAL("[{\"name\":\"a\"}]")));
    cli_table_append(&table, &doc, 0, -1, &out);
    assert_true(json_parse(&doc, SPAN_LITERAL("{\"name\":\"b\"}")));
    cli_table_append(&table, &doc, 0, -1, &out);
    assert_string_equal(buffer_text(&out), "name\r\na\r\nb\r\n");
    cli_table_fini(&table);
    buffer_fini(&out);
    json_doc_fini(&doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aligns_columns_and_adds_the_total),
        cmocka_unit_test(csv_keeps_values_as_they_are),
        cmocka_unit_test(csv_quotes_what_needs_it),
        cmocka_unit_test(no_rows_still_have_a_heading_and_a_total),
        cmocka_unit_test(control_characters_never_reach_a_terminal),
        cmocka_unit_test(counts_characters_rather_than_bytes),
        cmocka_unit_test(an_object_is_a_list_of_lines),
        cmocka_unit_test(pieces_share_one_heading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
