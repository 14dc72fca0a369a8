/* Usage reports against a plain sum over the same records, in zones, groupings and filters that cut hours; and the list
 * of single requests with its pages. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/calendar.h"
#include "base/clock.h"
#include "base/json_read.h"
#include "store/accounts.h"
#include "store/commit.h"
#include "store/report.h"

enum { RECORDS = 4000, TENANTS = 3, KEYS = 5, DAYS = 75 };
#define MINUTE_NS (INT64_C(60) * NS_PER_S)
#define HOUR_NS (INT64_C(60) * MINUTE_NS)
/* 2026-08-31T00:00:00Z: two month borders and Berlin's change of clocks (2026-10-25) follow. */
#define BEGIN_NS (INT64_C(1788134400) * NS_PER_S)

static const char *const models[] = {"gpt-4.1", "deepseek-v3.2", "claude \"x\",y"};
static const char *const upstreams[] = {"openai", "azure"};
static const char *const teams[KEYS] = {"red", "blue", "red", "", "blue"};

static char state_dir[64];
static struct ledger *ledger;
static struct shm_usage_record_sh records[RECORDS];

static void store_accounts(struct kv_txn *txn) {
    for (uint32_t i = 0; i < TENANTS; i++) {
        struct tenant tenant = {.id = i, .markup = MARKUP_ONE};
        account_limits_init(&tenant.limits);
        (void)snprintf(tenant.name, sizeof(tenant.name), "tenant%u", i);
        assert_true(tenant_store(txn, &tenant));
    }
    for (uint32_t i = 0; i < KEYS; i++) {
        struct api_key key = {
            .number = i, .tenant_id = i % TENANTS, .state = SHM_KEY_LIVE, .expires_wall_ns = INT64_MAX};
        account_limits_init(&key.limits);
        (void)snprintf(key.id, sizeof(key.id), "key_%u", i);
        (void)snprintf(key.tags, sizeof(key.tags), teams[i][0] != '\0' ? "{\"team\":\"%s\"}" : "{%s}", teams[i]);
        assert_true(api_key_store(txn, &key));
    }
}

/* Ends on borders of hours, quarters and their neighbours as often as in between. */
static int64_t make_end(unsigned *seed) {
    int64_t at = BEGIN_NS + (int64_t)(rand_r(seed) % (DAYS * 24 * 4)) * 15 * MINUTE_NS;
    switch (rand_r(seed) % 4) {
    case 0:
        return at;
    case 1:
        return at - 1;
    case 2:
        return at + 1;
    default:
        return at + (int64_t)(rand_r(seed) % 900) * NS_PER_S;
    }
}

static void make_record(struct shm_usage_record_sh *record, int number, unsigned *seed) {
    uint32_t key = (uint32_t)rand_r(seed) % KEYS;
    *record = (struct shm_usage_record_sh){
        .end_wall_ns = make_end(seed),
        .tenant_id = key % TENANTS,
        .key_number = key,
        .tokens = {.input_tokens = 100 + rand_r(seed) % 50,
                   .cached_input_tokens = 10,
                   .output_tokens = rand_r(seed) % 900},
        .price_nusd = rand_r(seed) % 1000000,
        .cost_nusd = rand_r(seed) % 1000000,
        .list_nusd = 7,
        .status = rand_r(seed) % 10 == 0 ? 502 : 200,
        .flags = rand_r(seed) % 20 == 0 ? SHM_RECORD_ERROR_EVENT : SHM_RECORD_STREAM,
        .endpoint = SHM_ENDPOINT_CHAT_COMPLETIONS,
        .attempts = 1,
    };
    record->start_wall_ns = record->end_wall_ns - NS_PER_S;
    (void)snprintf(record->id, sizeof(record->id), "req_%d", number);
    (void)snprintf(record->model_asked, sizeof(record->model_asked), "asked");
    (void)snprintf(record->model_served, sizeof(record->model_served), "%s", models[rand_r(seed) % 3]);
    (void)snprintf(record->upstream, sizeof(record->upstream), "%s", upstreams[rand_r(seed) % 2]);
}

static int set_up(void **state) {
    (void)state;
    unsigned seed = 42;
    struct buffer error;
    buffer_init(&error, 4096);
    (void)snprintf(state_dir, sizeof(state_dir), "/tmp/tollgate-report-XXXXXX");
    assert_non_null(mkdtemp(state_dir));
    assert_true(calendar_use_zone("UTC"));
    ledger = ledger_open(state_dir, LEDGER_WRITE, &error);
    if (ledger == NULL) {
        print_message("%s\n", buffer_text(&error));
        return -1;
    }
    struct kv_txn *txn = ledger_begin_write(ledger, &error);
    assert_non_null(txn);
    store_accounts(txn);
    assert_int_equal(ledger_end_write(ledger, txn, &error), KV_OK);
    for (int i = 0; i < RECORDS; i++) {
        make_record(&records[i], i, &seed);
    }
    for (int i = 0; i < RECORDS; i += 1000) {
        assert_true(commit_records(ledger, &records[i], 1000, &error));
    }
    buffer_fini(&error);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    ledger_close(ledger);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", state_dir);
    return system(command);
}

/* --- the plain sum --- */

struct wanted_row {
    char labels[256]; /* joined with '|' */
    int64_t requests;
    int64_t failed;
    int64_t output_tokens;
    int64_t price_nusd;
    bool seen;
};

struct wanted {
    struct wanted_row *rows;
    int count;
    struct wanted_row total;
};

static void append_label(const struct shm_usage_record_sh *record, const struct report_group *group, char *out,
                         size_t size) {
    static const enum calendar_unit units[] = {CALENDAR_HOUR, CALENDAR_DAY, CALENDAR_MONTH};
    char time[RFC3339_BYTES] = "";
    char name[SHM_MODEL_NAME_BYTES] = "";
    if (group->kind <= REPORT_BY_MONTH) {
        calendar_label(record->end_wall_ns, units[group->kind], time);
    } else if (group->kind == REPORT_BY_TENANT) {
        (void)snprintf(name, sizeof(name), "tenant%u", record->tenant_id);
    } else if (group->kind == REPORT_BY_KEY) {
        (void)snprintf(name, sizeof(name), "key_%u", record->key_number);
    } else {
        (void)snprintf(name, sizeof(name), "%s",
                       group->kind == REPORT_BY_MODEL      ? record->model_served
                       : group->kind == REPORT_BY_UPSTREAM ? record->upstream
                                                           : teams[record->key_number]);
    }
    size_t len = strlen(out);
    (void)snprintf(out + len, size - len, "%s%s|", time, name);
}

static bool passes(const struct shm_usage_record_sh *record, const struct report_filter *filter) {
    char tenant[16];
    char key[16];
    (void)snprintf(tenant, sizeof(tenant), "tenant%u", record->tenant_id);
    (void)snprintf(key, sizeof(key), "key_%u", record->key_number);
    return record->end_wall_ns >= filter->from_wall_ns && record->end_wall_ns < filter->to_wall_ns &&
           (filter->tenant == NULL || strcmp(filter->tenant, tenant) == 0) &&
           (filter->key == NULL || strcmp(filter->key, key) == 0) &&
           (filter->model == NULL || strcmp(filter->model, record->model_served) == 0) &&
           (filter->upstream == NULL || strcmp(filter->upstream, record->upstream) == 0) &&
           (filter->tag_name == NULL || strcmp(filter->tag_value, teams[record->key_number]) == 0);
}

static void add(struct wanted_row *row, const struct shm_usage_record_sh *record) {
    row->requests++;
    row->failed += record->status >= 400 || (record->flags & SHM_RECORD_ERROR_EVENT) != 0 ? 1 : 0;
    row->output_tokens += record->tokens.output_tokens;
    row->price_nusd += record->price_nusd;
}

static struct wanted sum_plainly(const struct report_filter *filter, const struct report_group *groups,
                                 int group_count) {
    struct wanted wanted = {.rows = calloc(RECORDS, sizeof(*wanted.rows))};
    assert_non_null(wanted.rows);
    for (int i = 0; i < RECORDS; i++) {
        char labels[256] = "";
        if (!passes(&records[i], filter)) {
            continue;
        }
        for (int j = 0; j < group_count; j++) {
            append_label(&records[i], &groups[j], labels, sizeof(labels));
        }
        int at = 0;
        while (at < wanted.count && strcmp(wanted.rows[at].labels, labels) != 0) {
            at++;
        }
        if (at == wanted.count) {
            (void)snprintf(wanted.rows[wanted.count++].labels, sizeof(labels), "%s", labels);
        }
        add(&wanted.rows[at], &records[i]);
        add(&wanted.total, &records[i]);
    }
    return wanted;
}

/* --- the report --- */

static int64_t read_int(const struct json_doc *doc, int object, const char *name) {
    int64_t value = -1;
    assert_true(json_int(doc, json_member(doc, object, name), &value));
    return value;
}

static void expect_sums(const struct json_doc *doc, int object, const struct wanted_row *row) {
    int64_t price = -1;
    assert_int_equal(read_int(doc, object, "requests"), row->requests);
    assert_int_equal(read_int(doc, object, "failed"), row->failed);
    assert_int_equal(read_int(doc, object, "output_tokens"), row->output_tokens);
    assert_true(json_money(doc, json_member(doc, object, "price_usd"), &price));
    assert_int_equal(price, row->price_nusd);
}

/* The first group_count members of a row are its labels. */
static void expect_row(const struct json_doc *doc, int row, int group_count, struct wanted *wanted, char *before) {
    char labels[256] = "";
    int name = json_first(doc, row);
    for (int i = 0; i < group_count; i++, name = json_next(doc, name)) {
        char label[128];
        assert_true(json_string_copy(doc, json_value_of(doc, name), label, sizeof(label)));
        size_t len = strlen(labels);
        (void)snprintf(labels + len, sizeof(labels) - len, "%s|", label);
    }
    for (int i = 0; i < wanted->count; i++) {
        if (strcmp(wanted->rows[i].labels, labels) == 0) {
            assert_false(wanted->rows[i].seen);
            wanted->rows[i].seen = true;
            expect_sums(doc, row, &wanted->rows[i]);
            (void)snprintf(before, 256, "%s", labels);
            return;
        }
    }
    fail_msg("unexpected row %s", labels);
}

static void expect_report(const struct report_filter *filter, const char *by) {
    struct report_group groups[REPORT_GROUPS_MOST];
    struct buffer out;
    struct buffer error;
    struct json_doc doc;
    char before[256] = "";
    buffer_init(&out, 64 << 20);
    buffer_init(&error, 4096);
    json_doc_init(&doc);
    int group_count = report_parse_groups(span_text(by), groups, &error);
    assert_true(group_count > 0);
    struct wanted wanted = sum_plainly(filter, groups, group_count);
    assert_true(report_usage_json(ledger, filter, groups, group_count, NULL, &out, &error));
    assert_true(json_parse(&doc, buffer_span(&out)));
    int rows = json_member(&doc, 0, "rows");
    assert_int_equal(json_size(&doc, rows), wanted.count);
    for (int row = json_first(&doc, rows); row >= 0; row = json_next(&doc, row)) {
        expect_row(&doc, row, group_count, &wanted, before);
    }
    expect_sums(&doc, json_member(&doc, 0, "total"), &wanted.total);
    free(wanted.rows);
    json_doc_fini(&doc);
    buffer_fini(&error);
    buffer_fini(&out);
}

static const char *const zones[] = {"UTC", "Asia/Kolkata", "Asia/Kathmandu", "Europe/Berlin", "America/St_Johns"};
enum { ZONES = sizeof(zones) / sizeof(zones[0]) };

static void agrees_with_the_plain_sum_in_every_zone(void **state) {
    (void)state;
    static const char *const groupings[] = {"hour",         "day",          "month",
                                            "tenant,model", "day,tag:team", "key,upstream,month"};
    struct report_filter filter = {.from_wall_ns = 0, .to_wall_ns = INT64_MAX};
    for (int i = 0; i < ZONES; i++) {
        assert_true(calendar_use_zone(zones[i]));
        for (size_t j = 0; j < sizeof(groupings) / sizeof(groupings[0]); j++) {
            expect_report(&filter, groupings[j]);
        }
    }
    assert_true(calendar_use_zone("UTC"));
}

static void agrees_when_filters_cut_hours(void **state) {
    (void)state;
    struct report_filter filter = {.from_wall_ns = BEGIN_NS + 10 * HOUR_NS + 17 * MINUTE_NS,
                                   .to_wall_ns = BEGIN_NS + 40 * 24 * HOUR_NS + 59 * MINUTE_NS + 1};
    for (int i = 0; i < ZONES; i++) {
        assert_true(calendar_use_zone(zones[i]));
        expect_report(&filter, "day");
        expect_report(&filter, "tenant");
    }
    assert_true(calendar_use_zone("UTC"));
    for (int i = 0; i < 400; i++) { /* borders one nanosecond off an hour's */
        filter.from_wall_ns = BEGIN_NS + i * HOUR_NS + 1;
        filter.to_wall_ns = BEGIN_NS + (i + 2) * HOUR_NS - 1;
        expect_report(&filter, "tenant");
    }
    filter.from_wall_ns = BEGIN_NS + 30 * HOUR_NS;
    filter.to_wall_ns = filter.from_wall_ns + 1;
    expect_report(&filter, "hour"); /* one nanosecond */
    filter.to_wall_ns = filter.from_wall_ns + HOUR_NS;
    expect_report(&filter, "hour"); /* one whole hour */
    filter.to_wall_ns = filter.from_wall_ns + HOUR_NS + 30 * MINUTE_NS;
    expect_report(&filter, "hour");
    filter.from_wall_ns += 15 * MINUTE_NS;
    expect_report(&filter, "hour");
    filter.to_wall_ns = filter.from_wall_ns + MINUTE_NS;
    expect_report(&filter, "hour"); /* both borders in one hour */
    filter.to_wall_ns = filter.from_wall_ns;
    expect_report(&filter, "hour"); /* nothing */
    filter.to_wall_ns = 0;
    expect_report(&filter, "hour"); /* less than nothing */
}

static void agrees_with_filters_on_names(void **state) {
    (void)state;
    struct report_filter all = {.from_wall_ns = 0, .to_wall_ns = BEGIN_NS + 20 * 24 * HOUR_NS + 7};
    struct report_filter filter = all;
    filter.tenant = "tenant1";
    expect_report(&filter, "day,key");
    filter.model = models[2];
    expect_report(&filter, "day,key");
    filter = all;
    filter.key = "key_4";
    filter.upstream = "azure";
    expect_report(&filter, "tag:team");
    filter = all;
    filter.tag_name = "team";
    filter.tag_value = "red";
    expect_report(&filter, "tenant");
    filter.tag_value = "";
    expect_report(&filter, "key");
    filter.tenant = "nobody";
    expect_report(&filter, "key");
}

static void rows_are_sorted_and_have_the_documented_members(void **state) {
    (void)state;
    struct report_filter filter = {.from_wall_ns = BEGIN_NS, .to_wall_ns = BEGIN_NS + HOUR_NS};
    struct report_group groups[REPORT_GROUPS_MOST];
    struct report_currency currency = {"CNY", 7 * NUSD_PER_USD + NUSD_PER_USD / 2};
    struct buffer out;
    struct buffer error;
    struct json_doc doc;
    char last[64] = "";
    int64_t price = 0;
    int64_t in_cny = 0;
    buffer_init(&out, 1 << 20);
    buffer_init(&error, 4096);
    json_doc_init(&doc);
    assert_int_equal(report_parse_groups(SPAN_LITERAL("model"), groups, &error), 1);
    assert_true(report_usage_json(ledger, &filter, groups, 1, &currency, &out, &error));
    assert_true(json_parse(&doc, buffer_span(&out)));
    assert_true(json_string_is(&doc, json_member(&doc, 0, "object"), "usage"));
    assert_true(json_string_is(&doc, json_member(&doc, 0, "from"), "2026-08-31T00:00:00.000Z"));
    assert_true(json_string_is(&doc, json_first(&doc, json_member(&doc, 0, "by")), "model"));
    int rows = json_member(&doc, 0, "rows");
    for (int row = json_first(&doc, rows); row >= 0; row = json_next(&doc, row)) {
        char model[64];
        assert_true(json_string_copy(&doc, json_member(&doc, row, "model"), model, sizeof(model)));
        assert_true(strcmp(last, model) < 0);
        memcpy(last, model, sizeof(last));
    }
    int total = json_member(&doc, 0, "total");
    assert_int_equal(json_size(&doc, total), 13);
    assert_true(json_money(&doc, json_member(&doc, total, "price_usd"), &price));
    assert_true(json_money(&doc, json_member(&doc, total, "price_cny"), &in_cny));
    assert_int_equal(in_cny, (price * 15 + 1) / 2);
    json_doc_fini(&doc);
    buffer_fini(&error);
    buffer_fini(&out);
}

static void groups_are_parsed_and_bad_ones_named(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "days",
                                      "day,",
                                      "day,,model",
                                      "tag:",
                                      "tag",
                                      "day,day",
                                      "tag:a,tag:a",
                                      "a,b",
                                      "hour day",
                                      "day,month,hour,tenant,key,model,upstream,tag:a,tag:b"};
    struct report_group groups[REPORT_GROUPS_MOST];
    struct buffer error;
    buffer_init(&error, 4096);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        buffer_clear(&error);
        assert_int_equal(report_parse_groups(span_text(bad[i]), groups, &error), -1);
        assert_true(error.len != 0);
    }
    assert_int_equal(report_parse_groups(SPAN_LITERAL("day, model,tag:a.b"), groups, &error), 3);
    assert_int_equal(groups[1].kind, REPORT_BY_MODEL);
    assert_string_equal(groups[2].tag, "a.b");
    buffer_fini(&error);
}

/* Reads the ids of all pages of `limit` requests; every record must come once, newest first. */
static void pages_show_every_record_once(void **state) {
    (void)state;
    static const int64_t limits[] = {1000, 7, 0};
    struct report_filter filter = {.from_wall_ns = BEGIN_NS + HOUR_NS, .to_wall_ns = INT64_MAX, .tenant = "tenant0"};
    struct buffer out;
    struct buffer error;
    struct json_doc doc;
    buffer_init(&out, 64 << 20);
    buffer_init(&error, 4096);
    json_doc_init(&doc);
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        static bool seen[RECORDS];
        memset(seen, 0, sizeof(seen));
        int64_t last_end = INT64_MAX;
        uint64_t after = 0;
        int64_t count = 0;
        do {
            buffer_clear(&out);
            assert_true(report_requests_json(ledger, &filter, NULL, limits[i], after, &after, &out, &error));
            assert_true(json_parse(&doc, buffer_span(&out)));
            count = json_size(&doc, 0);
            for (int row = json_first(&doc, 0); row >= 0; row = json_next(&doc, row)) {
                char id[32];
                assert_true(json_string_copy(&doc, json_member(&doc, row, "id"), id, sizeof(id)));
                long number = strtol(id + 4, NULL, 10);
                assert_false(seen[number]);
                seen[number] = true;
                assert_true(records[number].end_wall_ns <= last_end);
                last_end = records[number].end_wall_ns;
            }
        } while (limits[i] != 0 && count == limits[i]);
        for (int j = 0; j < RECORDS; j++) {
            assert_int_equal(seen[j], passes(&records[j], &filter));
        }
    }
    json_doc_fini(&doc);
    buffer_fini(&error);
    buffer_fini(&out);
}

static void a_request_has_the_documented_form(void **state) {
    (void)state;
    struct report_filter filter = {.from_wall_ns = 0, .to_wall_ns = INT64_MAX};
    struct shm_usage_record_sh record = records[0];
    struct buffer out;
    struct buffer error;
    buffer_init(&out, 1 << 20);
    buffer_init(&error, 4096);
    record.end_wall_ns = BEGIN_NS + 400 * 24 * HOUR_NS;
    record.start_wall_ns = record.end_wall_ns - 1500 * NS_PER_MS;
    record.first_byte_wall_ns = 0;
    record.tenant_id = 1;
    record.key_number = 1;
    record.tokens = (struct token_counts){5, 4, 1, 3, 2};
    record.price_nusd = 1;
    record.cost_nusd = 2 * NUSD_PER_USD;
    record.list_nusd = 0;
    record.status = 200;
    record.flags = SHM_RECORD_STREAM | SHM_RECORD_ESTIMATED;
    (void)snprintf(record.id, sizeof(record.id), "req_form");
    (void)snprintf(record.model_served, sizeof(record.model_served), "served");
    (void)snprintf(record.upstream, sizeof(record.upstream), "openai");
    (void)snprintf(record.finish_reason, sizeof(record.finish_reason), "stop");
    assert_true(commit_records(ledger, &record, 1, &error));
    assert_true(report_requests_json(ledger, &filter, "req_form", 0, 0, NULL, &out, &error));
    assert_string_equal(
        buffer_text(&out),
        "[{\"id\":\"req_form\",\"start\":\"2027-10-04T23:59:58.500Z\",\"first_byte\":null,\"end\":\"2027-10-05T00:00:"
        "00.000Z\","
        "\"tenant\":\"tenant1\",\"key\":\"key_1\",\"tags\":{\"team\":\"blue\"},\"user\":null,\"model\":\"asked\","
        "\"model_served\":\"served\",\"upstream\":\"openai\",\"endpoint\":\"/v1/chat/completions\",\"stream\":true,"
        "\"status\":200,\"finish_reason\":\"stop\",\"input_tokens\":5,\"cached_input_tokens\":4,\"cache_write_tokens\":"
        "1,"
        "\"output_tokens\":3,\"reasoning_tokens\":2,\"estimated\":true,\"clamped\":false,\"attempts\":1,\"wait_ms\":0,\"price_usd\":0.000000001,"
        "\"cost_usd\":2.000000000,\"list_usd\":0.000000000,\"client\":null}]");
    buffer_clear(&out);
    assert_true(report_requests_json(ledger, &filter, "req_unknown", 0, 0, NULL, &out, &error));
    assert_string_equal(buffer_text(&out), "[]");
    buffer_fini(&error);
    buffer_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_plain_sum_in_every_zone),
        cmocka_unit_test(agrees_when_filters_cut_hours),
        cmocka_unit_test(agrees_with_filters_on_names),
        cmocka_unit_test(rows_are_sorted_and_have_the_documented_members),
        cmocka_unit_test(groups_are_parsed_and_bad_ones_named),
        cmocka_unit_test(pages_show_every_record_once),
        cmocka_unit_test(a_request_has_the_documented_form),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
