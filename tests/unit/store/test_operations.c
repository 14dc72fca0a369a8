/* The operations on tenants, keys, credit and prices: good ones and what they change in the books and in shared memory;
 * a table of bad ones, each refused by kind and field. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "store_testing.h"

#include "base/key_format.h"
#include "shm/shm_keys.h"
#include "store/commit.h"

static char state_dir[TEST_STATE_BYTES];
static struct conf *conf;
static struct shm_map map;
static struct ledger *ledger;
static struct operations operations;

static int set_up(void **state) {
    (void)state;
    struct buffer error;
    buffer_init(&error, 1024);
    make_state(state_dir);
    assert_true(calendar_use_zone("UTC"));
    conf = make_conf(state_dir);
    make_segment(&map, state_dir, 1);
    ledger = open_ledger(state_dir, 1 << 26);
    operations = (struct operations){.ledger = ledger, .conf = conf, .publisher = publisher_new(&map, conf, ledger)};
    assert_true(publisher_all(operations.publisher, &error));
    buffer_fini(&error);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    publisher_free(operations.publisher);
    ledger_close(ledger);
    shm_map_close(&map);
    conf_free(conf);
    remove_state(state_dir);
    return 0;
}

static int find_secret(const char *secret) {
    unsigned char hash[SHA256_BYTES];
    hash_sha256(span_text(secret), hash);
    return shm_key_find(&map, hash, clock_wall_ns());
}

static void copy_at(const struct answer *answer, const char *path, char *out, size_t size) {
    assert_true(json_string_copy(&answer->doc, value_at(answer, path), out, size));
}

/* Creates a key and gives its secret and id. */
static void create_key(const char *request, char secret[static API_KEY_TEXT_BYTES], char id[static SHM_KEY_ID_BYTES]) {
    struct answer answer;
    run_ok(&operations, request, &answer);
    copy_at(&answer, "secret", secret, API_KEY_TEXT_BYTES);
    copy_at(&answer, "id", id, SHM_KEY_ID_BYTES);
    answer_fini(&answer);
}

static void test_tenant(void **state) {
    (void)state;
    struct answer answer;
    struct shm_tenant_sh row;
    struct shm_allow_sh allow;
    run_ok(&operations,
           "{\"op\":\"tenant.create\",\"name\":\"acme\",\"tier\":\"free\",\"rpm\":7,\"budget\":\"1.5\",\"per\":\"day\","
           "\"markup\":1.2}",
           &answer);
    assert_raw(&answer, "name", "\"acme\"");
    assert_raw(&answer, "rpm", "7");
    assert_raw(&answer, "tpm", "1000");
    assert_raw(&answer, "budgets.day", "1.500000000");
    assert_raw(&answer, "budgets.month", "5.000000000");
    assert_raw(&answer, "budgets.total", "null");
    assert_raw(&answer, "markup", "1.20");
    assert_raw(&answer, "credit_usd", "null");
    assert_raw(&answer, "state", "\"active\"");
    answer_fini(&answer);
    assert_true(shm_tenant_read(&map, 0, &row));
    assert_int_equal(row.state, SHM_KEY_LIVE);
    assert_int_equal(row.limits.requests_per_minute, 7);
    assert_int_equal(row.limits.concurrent, 4);
    assert_int_equal(row.limits.budget_nusd[SHM_WINDOW_DAY], 1500000000);
    assert_int_equal(row.limits.budget_nusd[SHM_WINDOW_TOTAL], -1);
    assert_int_equal(row.markup, 1200000000);
    assert_true(shm_allow_read(&map, row.allow_row, &allow));
    assert_true(shm_allow_has_model(&allow, "demo")); /* what the alias leads to */
    assert_false(shm_allow_has_model(&allow, "plain"));

    run_ok(&operations, "{\"op\":\"tenant.update\",\"name\":\"acme\",\"tier\":\"pro\",\"rpm\":null,\"budget\":null}",
           &answer);
    assert_raw(&answer, "rpm", "3000");
    assert_raw(&answer, "budgets.day", "null");
    answer_fini(&answer);
    assert_true(shm_tenant_read(&map, 0, &row));
    assert_int_equal(row.max_wait_ms, 2000);
    assert_int_equal(row.allow_row, SHM_NO_ROW);
    do_ok(&operations, "{\"op\":\"tenant.disable\",\"name\":\"acme\"}");
    assert_true(shm_tenant_read(&map, 0, &row));
    assert_int_equal(row.state, SHM_KEY_DISABLED);
    do_ok(&operations, "{\"op\":\"tenant.enable\",\"name\":\"acme\"}");
    assert_true(shm_tenant_read(&map, 0, &row));
    assert_int_equal(row.state, SHM_KEY_LIVE);
}

static void test_key(void **state) {
    (void)state;
    char secret[API_KEY_TEXT_BYTES];
    char id[SHM_KEY_ID_BYTES];
    char request[512];
    struct answer answer;
    struct shm_key_sh row;
    struct shm_allow_sh allow;
    do_ok(&operations, "{\"op\":\"tenant.create\",\"name\":\"acme\"}");
    create_key(
        "{\"op\":\"key.create\",\"tenant\":\"acme\",\"name\":\"web\",\"models\":[\"cheap\"],\"allow_ip\":[\"10.1.2.3/"
        "8\",\"::1\"],"
        "\"expires\":\"30d\",\"require_signature\":true,\"tags\":{\"team\":\"red\",\"env\":\"p\"},\"concurrent\":2}",
        secret, id);
    assert_true(key_format_valid(span_text(secret)));
    assert_int_equal(find_secret(secret), 0);
    assert_true(shm_key_read(&map, 0, &row));
    assert_string_equal(row.id, id);
    assert_string_equal(row.name, "web");
    assert_int_equal(row.flags, SHM_KEY_REQUIRES_SIGNATURE);
    assert_int_equal(row.limits.concurrent, 2);
    assert_true(row.expires_wall_ns > clock_wall_ns());
    assert_true(shm_allow_read(&map, row.allow_row, &allow));
    assert_int_equal(allow.model_count, 2);
    assert_string_equal(shm_allow_item(&allow, 2), "10.0.0.0/8");
    assert_string_equal(shm_allow_item(&allow, 3), "::1/128");

    (void)snprintf(request, sizeof request, "{\"op\":\"key.show\",\"key\":\"%s\"}", secret);
    run_ok(&operations, request, &answer);
    assert_raw(&answer, "tags", "{\"env\":\"p\",\"team\":\"red\"}");
    assert_raw(&answer, "models", "[\"cheap\"]");
    assert_raw(&answer, "name", "\"web\"");
    assert_true(value_at(&answer, "secret") < 0);
    answer_fini(&answer);

    do_ok(
        &operations,
        "{\"op\":\"key.update\",\"key\":\"web\",\"models\":null,\"allow_ip\":null,\"name\":\"site\",\"expires\":null}");
    assert_true(shm_key_read(&map, 0, &row));
    assert_true(shm_allow_read(&map, row.allow_row, &allow));
    assert_int_equal(allow.model_count + allow.network_count, 0);
    assert_int_equal(row.expires_wall_ns, INT64_MAX);
    run_bad(&operations, "{\"op\":\"key.show\",\"key\":\"web\"}", "not_found", "key");
    do_ok(&operations, "{\"op\":\"key.disable\",\"key\":\"site\"}");
    assert_true(shm_key_read(&map, 0, &row));
    assert_int_equal(row.state, SHM_KEY_DISABLED);
    do_ok(&operations, "{\"op\":\"key.enable\",\"key\":\"site\",\"tenant\":\"acme\"}");
    (void)snprintf(request, sizeof request, "{\"op\":\"key.revoke\",\"key\":\"%s\"}", id);
    do_ok(&operations, request);
    assert_true(shm_key_read(&map, 0, &row));
    assert_int_equal(row.state, SHM_KEY_REVOKED);
    assert_int_equal(find_secret(secret), -1);
    do_ok(&operations, request); /* again */
    run_bad(&operations, "{\"op\":\"key.enable\",\"key\":\"site\"}", "conflict", "key");
    run_bad(&operations, "{\"op\":\"key.rotate\",\"key\":\"site\"}", "conflict", "key");
}

static void test_rotate(void **state) {
    (void)state;
    char first[API_KEY_TEXT_BYTES];
    char second[API_KEY_TEXT_BYTES];
    char third[API_KEY_TEXT_BYTES];
    char id[SHM_KEY_ID_BYTES];
    do_ok(&operations, "{\"op\":\"tenant.create\",\"name\":\"acme\"}");
    create_key("{\"op\":\"key.create\",\"tenant\":\"acme\",\"name\":\"web\"}", first, id);
    create_key("{\"op\":\"key.rotate\",\"key\":\"web\",\"grace\":\"1h\"}", second, id);
    assert_int_equal(find_secret(first), 0);
    assert_int_equal(find_secret(second), 0);
    create_key("{\"op\":\"key.rotate\",\"key\":\"web\"}", third, id);
    assert_int_equal(find_secret(first), -1);
    assert_int_equal(find_secret(second), -1);
    assert_int_equal(find_secret(third), 0);
    run_bad(&operations, "{\"op\":\"key.rotate\",\"key\":\"web\",\"grace\":\"soon\"}", "invalid", "grace");
    assert_int_equal(find_secret(third), 0);
}

/* No secret, only hashes, in any file of the ledger (invariant I9). */
static void test_I9_no_secret_on_disk(void **state) {
    (void)state;
    char secret[API_KEY_TEXT_BYTES];
    char id[SHM_KEY_ID_BYTES];
    char path[256];
    do_ok(&operations, "{\"op\":\"tenant.create\",\"name\":\"acme\"}");
    create_key("{\"op\":\"key.create\",\"tenant\":\"acme\"}", secret, id);
    const char *const files[] = {"ledger/data.mdb", "segment"};
    for (size_t at = 0; at < 2; at++) {
        (void)snprintf(path, sizeof path, "%s/%s", state_dir, files[at]);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        char chunk[65536 + 64] = {0};
        size_t kept = 0;
        for (size_t got = 1; got != 0;) {
            got = fread(chunk + kept, 1, 65536, file);
            assert_null(memmem(chunk, kept + got, secret + 6, 32));
            size_t all = kept + got;
            kept = all < 64 ? all : 64;
            memmove(chunk, chunk + all - kept, kept);
        }
        (void)fclose(file);
    }
}

static void test_lists(void **state) {
    (void)state;
    char request[256];
    char after[SHM_NAME_BYTES];
    struct answer answer;
    for (int at = 0; at < 5; at++) {
        (void)snprintf(request, sizeof request, "{\"op\":\"tenant.create\",\"name\":\"t%d\"}", at);
        do_ok(&operations, request);
        (void)snprintf(request, sizeof request, "{\"op\":\"key.create\",\"tenant\":\"t%d\",\"name\":\"k\"}", at % 2);
        if (at < 2) {
            do_ok(&operations, request);
        } else {
            run_bad(&operations, request, "conflict", "name");
        }
    }
    do_ok(&operations, "{\"op\":\"key.create\",\"tenant\":\"t0\"}");
    run_ok(&operations, "{\"op\":\"tenant.list\",\"limit\":3}", &answer);
    assert_int_equal(json_size(&answer.doc, value_at(&answer, "data")), 3);
    assert_raw(&answer, "has_more", "true");
    answer_fini(&answer);
    run_ok(&operations, "{\"op\":\"tenant.list\",\"limit\":3,\"after\":\"t2\"}", &answer);
    assert_int_equal(json_size(&answer.doc, value_at(&answer, "data")), 2);
    assert_raw(&answer, "data.0.name", "\"t3\"");
    assert_raw(&answer, "has_more", "false");
    answer_fini(&answer);
    run_ok(&operations, "{\"op\":\"key.list\",\"limit\":1,\"tenant\":\"t0\"}", &answer);
    assert_raw(&answer, "has_more", "true");
    copy_at(&answer, "data.0.id", after, sizeof after);
    answer_fini(&answer);
    (void)snprintf(request, sizeof request, "{\"op\":\"key.list\",\"limit\":1,\"tenant\":\"t0\",\"after\":\"%s\"}",
                   after);
    run_ok(&operations, request, &answer);
    assert_int_equal(json_size(&answer.doc, value_at(&answer, "data")), 1);
    assert_raw(&answer, "has_more", "false");
    assert_raw(&answer, "data.0.name", "null");
    answer_fini(&answer);
    run_bad(&operations, "{\"op\":\"key.show\",\"key\":\"k\"}", "conflict", "key"); /* two tenants have one */
    do_ok(&operations, "{\"op\":\"key.show\",\"key\":\"k\",\"tenant\":\"t1\"}");
}

static void test_credit(void **state) {
    (void)state;
    struct answer answer;
    struct buffer error;
    struct shm_tenant_sh row;
    buffer_init(&error, 1024);
    do_ok(&operations, "{\"op\":\"tenant.create\",\"name\":\"acme\"}");
    struct shm_usage_record_sh usage = make_usage("before", 0, 0, clock_wall_ns());
    assert_true(commit_records(ledger, &usage, 1, &error)); /* what was spent before is not paid from the credit */
    run_ok(&operations, "{\"op\":\"credit.add\",\"tenant\":\"acme\",\"usd\":10,\"ref\":\"inv-1\"}", &answer);
    assert_raw(&answer, "applied", "true");
    assert_raw(&answer, "credit_usd", "10.000000000");
    answer_fini(&answer);
    run_ok(&operations, "{\"op\":\"credit.add\",\"tenant\":\"acme\",\"usd\":\"10.00\",\"ref\":\"inv-1\"}", &answer);
    assert_raw(&answer, "applied", "false");
    assert_raw(&answer, "credit_usd", "10.000000000");
    answer_fini(&answer);
    run_bad(&operations, "{\"op\":\"credit.add\",\"tenant\":\"acme\",\"usd\":11,\"ref\":\"inv-1\"}", "conflict", "ref");
    do_ok(&operations, "{\"op\":\"credit.add\",\"tenant\":\"acme\",\"usd\":0.5,\"ref\":\"inv-2\"}");
    (void)span_copy(SPAN_LITERAL("after"), usage.id, sizeof usage.id);
    assert_true(commit_records(ledger, &usage, 1, &error));
    run_ok(&operations, "{\"op\":\"tenant.show\",\"name\":\"acme\"}", &answer);
    assert_raw(&answer, "credit_usd", "10.499936000");
    assert_raw(&answer, "spend_usd.total", "0.000128000");
    answer_fini(&answer);
    assert_true(shm_tenant_read(&map, 0, &row));
    assert_int_equal(row.has_credit, 1);
    assert_int_equal(shm_tenant_account(&map, 0)->credit_nusd, 10500000000 + 64000);
    run_ok(&operations, "{\"op\":\"tenant.update\",\"name\":\"acme\",\"credit\":3}", &answer);
    assert_raw(&answer, "credit_usd", "3.000000000");
    answer_fini(&answer);
    run_ok(&operations, "{\"op\":\"credit.history\",\"tenant\":\"acme\"}", &answer);
    assert_int_equal(json_size(&answer.doc, value_at(&answer, "data")), 3);
    assert_raw(&answer, "data.0.ref", "\"inv-1\"");
    answer_fini(&answer);
    run_ok(&operations, "{\"op\":\"tenant.update\",\"name\":\"acme\",\"credit\":null}", &answer);
    assert_raw(&answer, "credit_usd", "null");
    answer_fini(&answer);
    run_ok(&operations, "{\"op\":\"tenant.update\",\"name\":\"acme\",\"credit\":2}", &answer);
    assert_raw(&answer, "credit_usd", "2.000000000");
    answer_fini(&answer);
    run_ok(&operations, "{\"op\":\"tenant.create\",\"name\":\"new\",\"credit\":\"4\"}", &answer);
    assert_raw(&answer, "credit_usd", "4.000000000");
    answer_fini(&answer);
    assert_sound(ledger, 2);
    buffer_fini(&error);
}

static int64_t input_price_at(const char *model, int64_t wall_ns) {
    struct price price;
    return shm_price_at(&map, span_text(model), wall_ns, &price) ? price.input_nusd : -1;
}

static void test_prices(void **state) {
    (void)state;
    struct answer answer;
    int64_t now_wall_ns = clock_wall_ns();
    const int64_t year_ns = 365 * 86400 * NS_PER_S;
    assert_int_equal(input_price_at("demo", now_wall_ns), -1);
    run_ok(&operations, "{\"op\":\"price.set\",\"model\":\"demo\",\"input\":2,\"output\":\"8.000000001\"}", &answer);
    assert_raw(&answer, "cached_input", "2.00");
    assert_raw(&answer, "output", "8.000000001");
    answer_fini(&answer);
    now_wall_ns = clock_wall_ns();
    assert_int_equal(input_price_at("demo", now_wall_ns), 2000000000);
    assert_int_equal(input_price_at("demo", now_wall_ns - year_ns), -1);
    do_ok(&operations, "{\"op\":\"price.set\",\"model\":\"demo\",\"input\":3,\"output\":8,\"from\":\"2199-01-01\"}");
    do_ok(&operations, "{\"op\":\"price.set\",\"model\":\"demo\",\"input\":1,\"output\":8,\"from\":\"2020-01-01\"}");
    assert_int_equal(input_price_at("demo", clock_wall_ns()), 2000000000); /* the latest that has begun */
    assert_int_equal(input_price_at("demo", INT64_MAX), 3000000000);
    do_ok(&operations, "{\"op\":\"price.import\",\"csv\":\"model,input,output,cached_input,cache_write,from\\r\\n"
                       "\\\"demo\\\",5,6,,,2198-01-01\\nother-model,0.000000001,1,,,\\n\"}");
    assert_int_equal(input_price_at("demo", clock_wall_ns()), 2000000000);
    assert_int_equal(input_price_at("other-model", clock_wall_ns()), 1);
    run_ok(&operations, "{\"op\":\"price.list\"}", &answer);
    assert_int_equal(json_size(&answer.doc, value_at(&answer, "data")), 6); /* one of the file, five of the book */
    assert_raw(&answer, "data.0.source", "\"file\"");
    assert_raw(&answer, "data.0.cached_input", "0.10");
    assert_raw(&answer, "data.1.from", "\"2020-01-01T00:00:00.000Z\"");
    answer_fini(&answer);
    run(&operations,
        "{\"op\":\"price.import\",\"csv\":\"model,input,output\\nplain,1,2\\nplain,x,2\\n\\nplain,1,2,3\\n\"}",
        &answer);
    assert_false(answer.ok);
    assert_non_null(strstr(buffer_text(&answer.text), "line 3: "));
    assert_non_null(strstr(buffer_text(&answer.text), "line 5: "));
    answer_fini(&answer);
    assert_int_equal(input_price_at("plain", clock_wall_ns()), -1); /* all or nothing */
}

struct bad_request {
    const char *request;
    const char *kind;
    const char *field;
};

static const struct bad_request bad_requests[] = {
    {"", "invalid", NULL},
    {"nonsense", "invalid", NULL},
    {"[1]", "invalid", NULL},
    {"{}", "invalid", "op"},
    {"{\"op\":1}", "invalid", "op"},
    {"{\"op\":\"tenant.destroy\"}", "invalid", "op"},
    {"{\"op\":\"tenant.create\"}", "invalid", "name"},
    {"{\"op\":\"tenant.create\",\"name\":null}", "invalid", "name"},
    {"{\"op\":\"tenant.create\",\"name\":7}", "invalid", "name"},
    {"{\"op\":\"tenant.create\",\"name\":\"\"}", "invalid", "name"},
    {"{\"op\":\"tenant.create\",\"name\":\"a b\"}", "invalid", "name"},
    {"{\"op\":\"tenant.create\",\"name\":\"a\\u0000b\"}", "invalid", "name"},
    {"{\"op\":\"tenant.create\",\"name\":\"../x\"}", "invalid", "name"},
    {"{\"op\":\"tenant.create\",\"name\":\"0123456789012345678901234567890123456789012345678901234567890123\"}",
     "invalid", "name"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"name\":\"y\"}", "invalid", "name"},
    {"{\"op\":\"tenant.create\",\"name\":\"acme\"}", "conflict", "name"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"colour\":1}", "invalid", "colour"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"tier\":\"gold\"}", "invalid", "tier"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"rpm\":0}", "invalid", "rpm"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"rpm\":-5}", "invalid", "rpm"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"tpm\":1.5}", "invalid", "tpm"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"tpm\":99999999999999999999}", "invalid", "tpm"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"concurrent\":\"4\"}", "invalid", "concurrent"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"budget\":5}", "invalid", "per"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"budget\":0,\"per\":\"day\"}", "invalid", "budget"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"budget\":-1,\"per\":\"day\"}", "invalid", "budget"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"budget\":\"1e3\",\"per\":\"day\"}", "invalid", "budget"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"budget\":0.0000000001,\"per\":\"day\"}", "invalid", "budget"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"budget\":5,\"per\":\"week\"}", "invalid", "per"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"per\":\"day\"}", "invalid", "budget"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"markup\":-0.1}", "invalid", "markup"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"markup\":1000.000000001}", "invalid", "markup"},
    {"{\"op\":\"tenant.create\",\"name\":\"x\",\"credit\":-1}", "invalid", "credit"},
    {"{\"op\":\"tenant.show\",\"name\":\"nobody\"}", "not_found", "name"},
    {"{\"op\":\"tenant.update\",\"name\":\"nobody\"}", "not_found", "name"},
    {"{\"op\":\"tenant.list\",\"limit\":0}", "invalid", "limit"},
    {"{\"op\":\"tenant.list\",\"limit\":1001}", "invalid", "limit"},
    {"{\"op\":\"tenant.list\",\"after\":5}", "invalid", "after"},
    {"{\"op\":\"key.create\"}", "invalid", "tenant"},
    {"{\"op\":\"key.create\",\"tenant\":\"nobody\"}", "not_found", "tenant"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"name\":\"web\"}", "conflict", "name"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"name\":\"key_x\"}", "invalid", "name"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"name\":\"sk-tg-x\"}", "invalid", "name"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"tier\":\"free\"}", "invalid", "tier"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"models\":\"demo\"}", "invalid", "models"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"models\":[\"gpt-9\"]}", "invalid", "models"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"models\":[1]}", "invalid", "models"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"allow_ip\":[\"10.0.0.0/33\"]}", "invalid", "allow_ip"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"allow_ip\":[\"10.0.0/8\"]}", "invalid", "allow_ip"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"allow_ip\":[\"::1/129\"]}", "invalid", "allow_ip"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"allow_ip\":[\"::1/\"]}", "invalid", "allow_ip"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"allow_ip\":[\"host.example\"]}", "invalid", "allow_ip"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"expires\":\"2001-01-01\"}", "invalid", "expires"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"expires\":\"tomorrow\"}", "invalid", "expires"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"expires\":30}", "invalid", "expires"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"require_signature\":\"yes\"}", "invalid", "require_signature"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"tags\":[\"a\"]}", "invalid", "tags"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"tags\":{\"a\":1}}", "invalid", "tags"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"tags\":{\"a\":\"x\",\"a\":\"y\"}}", "invalid", "tags"},
    {"{\"op\":\"key.create\",\"tenant\":\"acme\",\"tags\":{\"a b\":\"x\"}}", "invalid", "tags"},
    {"{\"op\":\"key.show\"}", "invalid", "key"},
    {"{\"op\":\"key.show\",\"key\":\"key_0000000000000000\"}", "not_found", "key"},
    {"{\"op\":\"key.show\",\"key\":\"sk-tg-nope\"}", "not_found", "key"},
    {"{\"op\":\"key.show\",\"key\":\"nothing\"}", "not_found", "key"},
    {"{\"op\":\"key.list\",\"tenant\":\"nobody\"}", "not_found", "tenant"},
    {"{\"op\":\"key.list\",\"after\":\"key_x\"}", "not_found", "after"},
    {"{\"op\":\"credit.add\",\"tenant\":\"acme\",\"usd\":5}", "invalid", "ref"},
    {"{\"op\":\"credit.add\",\"tenant\":\"acme\",\"usd\":0,\"ref\":\"r\"}", "invalid", "usd"},
    {"{\"op\":\"credit.add\",\"tenant\":\"acme\",\"usd\":-5,\"ref\":\"r\"}", "invalid", "usd"},
    {"{\"op\":\"credit.add\",\"tenant\":\"acme\",\"usd\":5,\"ref\":\"a\\nb\"}", "invalid", "ref"},
    {"{\"op\":\"credit.add\",\"tenant\":\"nobody\",\"usd\":5,\"ref\":\"r\"}", "not_found", "tenant"},
    {"{\"op\":\"price.set\",\"model\":\"gpt-9\",\"input\":1,\"output\":1}", "invalid", "model"},
    {"{\"op\":\"price.set\",\"model\":\"cheap\",\"input\":1,\"output\":1}", "invalid", "model"},
    {"{\"op\":\"price.set\",\"model\":\"demo\",\"output\":1}", "invalid", "input"},
    {"{\"op\":\"price.set\",\"model\":\"demo\",\"input\":1}", "invalid", "output"},
    {"{\"op\":\"price.set\",\"model\":\"demo\",\"input\":-1,\"output\":1}", "invalid", "input"},
    {"{\"op\":\"price.set\",\"model\":\"demo\",\"input\":1,\"output\":100001}", "invalid", "output"},
    {"{\"op\":\"price.set\",\"model\":\"demo\",\"input\":1,\"output\":1,\"from\":\"someday\"}", "invalid", "from"},
    {"{\"op\":\"price.import\"}", "invalid", "csv"},
    {"{\"op\":\"price.import\",\"csv\":\"\"}", "invalid", "csv"},
    {"{\"op\":\"price.import\",\"csv\":\"model,price\\nx,1\\n\"}", "invalid", "csv"},
    {"{\"op\":\"price.import\",\"csv\":\"model,input,output\\n\"}", "invalid", "csv"},
    {"{\"op\":\"price.import\",\"csv\":\"model,input,output\\n\\\"x,1,2\\n\"}", "invalid", "csv"},
    {"{\"op\":\"verify\"}", "unavailable", NULL},
    {"{\"op\":\"backup\",\"dir\":\"/tmp/x\"}", "unavailable", NULL},
};

static void test_bad_requests(void **state) {
    (void)state;
    do_ok(&operations, "{\"op\":\"tenant.create\",\"name\":\"acme\"}");
    do_ok(&operations, "{\"op\":\"key.create\",\"tenant\":\"acme\",\"name\":\"web\"}");
    for (size_t at = 0; at < sizeof bad_requests / sizeof bad_requests[0]; at++) {
        run_bad(&operations, bad_requests[at].request, bad_requests[at].kind, bad_requests[at].field);
    }
    struct answer answer;
    run(&operations, "{\"op\":\"key.create\",\"tenant\":\"acme\",\"models\":[\"gpt-9\"]}", &answer);
    assert_non_null(strstr(buffer_text(&answer.text), "demo, plain, cheap")); /* what there is, is named */
    answer_fini(&answer);
    run_ok(&operations, "{\"op\":\"tenant.list\"}", &answer);
    assert_int_equal(json_size(&answer.doc, value_at(&answer, "data")), 1);
    answer_fini(&answer);
    run_ok(&operations, "{\"op\":\"key.list\"}", &answer);
    assert_int_equal(json_size(&answer.doc, value_at(&answer, "data")), 1);
    answer_fini(&answer);
}

static void test_capacity(void **state) {
    (void)state;
    char request[128];
    do_ok(&operations, "{\"op\":\"tenant.create\",\"name\":\"acme\"}");
    for (int at = 0; at < conf->capacity.keys; at++) {
        do_ok(&operations, "{\"op\":\"key.create\",\"tenant\":\"acme\"}");
    }
    run_bad(&operations, "{\"op\":\"key.create\",\"tenant\":\"acme\"}", "unavailable", NULL);
    for (int at = 1; at < conf->capacity.tenants; at++) {
        (void)snprintf(request, sizeof request, "{\"op\":\"tenant.create\",\"name\":\"t%d\"}", at);
        do_ok(&operations, request);
    }
    run_bad(&operations, "{\"op\":\"tenant.create\",\"name\":\"toomany\"}", "unavailable", NULL);
}

/* A ledger that comes back, and one that finds an empty segment, publish the same. */
static void test_publish_again(void **state) {
    (void)state;
    char secret[API_KEY_TEXT_BYTES];
    char old[API_KEY_TEXT_BYTES];
    char id[SHM_KEY_ID_BYTES];
    struct buffer error;
    struct shm_key_sh before;
    struct shm_key_sh after;
    buffer_init(&error, 1024);
    do_ok(&operations, "{\"op\":\"tenant.create\",\"name\":\"acme\",\"tier\":\"free\"}");
    create_key("{\"op\":\"key.create\",\"tenant\":\"acme\",\"models\":[\"plain\"],\"name\":\"k\"}", old, id);
    create_key("{\"op\":\"key.rotate\",\"key\":\"k\"}", secret, id);
    struct shm_usage_record_sh usage = make_usage("r", 0, 0, clock_wall_ns());
    assert_true(commit_records(ledger, &usage, 1, &error));
    assert_true(shm_key_read(&map, 0, &before));
    publisher_free(operations.publisher);
    atomic_store(&map.header->ledger_ready, 1);
    operations.publisher = publisher_new(&map, conf, ledger);
    assert_true(publisher_all(operations.publisher, &error));
    assert_true(shm_key_read(&map, 0, &after));
    assert_int_equal(before.allow_row, after.allow_row);
    assert_int_equal(shm_key_account(&map, 0)->spend_nusd[SHM_WINDOW_DAY], 64000);
    assert_int_equal(shm_key_account(&map, 0)->balances[SHM_WINDOW_TOTAL].spent_nusd, 0); /* the workers' affair now */
    publisher_free(operations.publisher);
    shm_map_close(&map);
    make_segment(&map, state_dir, 1);
    operations.publisher = publisher_new(&map, conf, ledger);
    assert_true(publisher_all(operations.publisher, &error));
    assert_int_equal(find_secret(secret), 0);
    assert_int_equal(find_secret(old), -1);
    assert_int_equal(shm_key_account(&map, 0)->balances[SHM_WINDOW_TOTAL].spent_nusd, 64000);
    assert_int_equal(shm_tenant_account(&map, 0)->spend_nusd[SHM_WINDOW_MONTH], 64000);
    buffer_fini(&error);
}

/* Its limits are not known any more: refused rather than let in without any. */
static void test_lost_tier(void **state) {
    (void)state;
    struct buffer error;
    struct shm_tenant_sh row;
    buffer_init(&error, 1024);
    do_ok(&operations, "{\"op\":\"tenant.create\",\"name\":\"acme\",\"tier\":\"free\"}");
    struct kv_txn *txn = ledger_begin_write(ledger, &error);
    struct tenant tenant;
    assert_true(tenant_load(txn, 0, &tenant));
    (void)span_copy(SPAN_LITERAL("gone"), tenant.tier, sizeof tenant.tier);
    assert_true(tenant_store(txn, &tenant));
    assert_int_equal(ledger_end_write(ledger, txn, &error), KV_OK);
    publisher_free(operations.publisher);
    operations.publisher = publisher_new(&map, conf, ledger);
    assert_true(publisher_all(operations.publisher, &error));
    assert_true(shm_tenant_read(&map, 0, &row));
    assert_int_equal(row.state, SHM_KEY_DISABLED);
    buffer_fini(&error);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_tenant),   TEST(test_key),           TEST(test_rotate),    TEST(test_I9_no_secret_on_disk),
        TEST(test_lists),    TEST(test_credit),        TEST(test_prices),    TEST(test_bad_requests),
        TEST(test_capacity), TEST(test_publish_again), TEST(test_lost_tier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
