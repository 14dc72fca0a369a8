/* verify finds whatever was changed behind the ledger's back, and nothing in sound books; retention keeps them sound.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "store_testing.h"

#include "store/backup.h"
#include "store/commit.h"
#include "store/pack.h"
#include "store/retention.h"
#include "store/spend.h"

static char state_dir[TEST_STATE_BYTES];
static struct conf *conf;
static struct ledger *ledger;
static struct operations operations;
static struct buffer error;
static int64_t begin_wall_ns;

enum { RECORDS = 300 };
#define HOUR (INT64_C(3600) * NS_PER_S)

/* Ten days of records, every hour some, for two tenants and three keys. */
static void fill(void) {
    struct shm_usage_record_sh usages[RECORDS];
    begin_wall_ns = clock_wall_ns() - 240 * HOUR;
    for (int at = 0; at < RECORDS; at++) {
        char id[32];
        (void)snprintf(id, sizeof id, "id%d", at);
        usages[at] = make_usage(id, (uint32_t)at % 2, (uint32_t)at % 3, begin_wall_ns + at * 240 * HOUR / RECORDS);
        usages[at].status = at % 9 == 0 ? 502 : 200;
    }
    assert_true(commit_records(ledger, usages, RECORDS, &error));
}

static int set_up(void **state) {
    (void)state;
    buffer_init(&error, 4096);
    make_state(state_dir);
    conf = make_conf(state_dir);
    ledger = open_ledger(state_dir, 1 << 26);
    assert_true(spend_use_zone(ledger, "UTC", &error));
    operations = (struct operations){.ledger = ledger, .conf = conf};
    do_ok(&operations, "{\"op\":\"tenant.create\",\"name\":\"acme\",\"credit\":5}");
    do_ok(&operations, "{\"op\":\"tenant.create\",\"name\":\"other\"}");
    for (int at = 0; at < 3; at++) {
        do_ok(&operations, at % 2 == 0 ? "{\"op\":\"key.create\",\"tenant\":\"acme\",\"tags\":{\"team\":\"red\"}}"
                                       : "{\"op\":\"key.create\",\"tenant\":\"other\"}");
    }
    fill();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    ledger_close(ledger);
    conf_free(conf);
    buffer_fini(&error);
    remove_state(state_dir);
    return 0;
}

static struct kv_txn *begin(void) {
    struct kv_txn *txn = ledger_begin_write(ledger, &error);
    assert_non_null(txn);
    return txn;
}

static void end(struct kv_txn *txn) { assert_int_equal(ledger_end_write(ledger, txn, &error), KV_OK); }

static struct pack_key sequence_key(uint64_t sequence) {
    struct pack_key key = {.len = 0};
    pack_key_u64(&key, sequence);
    return key;
}

/* The value of a key, or of the table's first row, changed in one byte. */
static void flip(enum kv_table table, const struct pack_key *key, size_t at) {
    struct kv_txn *txn = begin();
    struct kv_pair pair;
    char copy[4096];
    char key_copy[KV_KEY_MOST];
    if (key != NULL) {
        pair.key = pack_key_span(key);
        assert_true(kv_get(txn, table, pair.key, &pair.value));
    } else {
        struct kv_cursor *cursor = kv_cursor_open(txn, table);
        assert_true(kv_cursor_first(cursor, &pair));
        kv_cursor_close(cursor);
    }
    assert_true(at < pair.value.len && pair.value.len <= sizeof copy);
    memcpy(copy, pair.value.base, pair.value.len);
    memcpy(key_copy, pair.key.base, pair.key.len);
    copy[at] ^= 2;
    assert_true(kv_put(txn, table, span_of(key_copy, pair.key.len), span_of(copy, pair.value.len)));
    end(txn);
}

static void assert_found(const char *text) {
    char first[512];
    uint64_t records = 0;
    assert_true(count_problems(ledger, &records, first, sizeof first) > 0);
    if (strstr(first, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", first, text);
    }
}

static void test_sound(void **state) {
    (void)state;
    assert_sound(ledger, RECORDS);
}

/* Every byte of a record counts. */
static void test_changed_record(void **state) {
    (void)state;
    struct pack_key key = sequence_key(120);
    const unsigned char *chain = NULL;
    struct span bytes = SPAN_EMPTY;
    struct kv_txn *txn = ledger_begin_read(ledger, &error);
    assert_true(ledger_record_bytes(txn, 120, &chain, &bytes));
    size_t len = bytes.len + SHA256_BYTES;
    ledger_end_read(ledger, txn);
    for (size_t at = 0; at < len; at++) {
        flip(KV_RECORDS, &key, at);
        assert_found("record 120");
        flip(KV_RECORDS, &key, at);
    }
    assert_sound(ledger, RECORDS);
}

static void test_missing_record(void **state) {
    (void)state;
    struct pack_key key = sequence_key(7);
    struct kv_txn *txn = begin();
    assert_true(kv_delete(txn, KV_RECORDS, pack_key_span(&key)));
    end(txn);
    assert_found("record 7 is missing");
}

static void test_missing_last_records(void **state) {
    (void)state;
    struct kv_txn *txn = begin();
    for (uint64_t sequence = RECORDS - 1; sequence <= RECORDS; sequence++) {
        struct pack_key key = sequence_key(sequence);
        assert_true(kv_delete(txn, KV_RECORDS, pack_key_span(&key)));
    }
    end(txn);
    assert_found("records 299 to 300 are missing");
}

static void test_repeated_record(void **state) {
    (void)state;
    struct pack_key from = sequence_key(5);
    struct pack_key to = sequence_key(RECORDS + 1);
    char copy[2048];
    struct span value = SPAN_EMPTY;
    struct kv_txn *txn = begin();
    assert_true(kv_get(txn, KV_RECORDS, pack_key_span(&from), &value));
    memcpy(copy, value.base, value.len);
    assert_true(kv_put(txn, KV_RECORDS, pack_key_span(&to), span_of(copy, value.len)));
    end(txn);
    assert_found("record 301");
}

static void test_changed_sums(void **state) {
    (void)state;
    flip(KV_ROLLUPS, NULL, 4);
    assert_found("roll-up");
    flip(KV_ROLLUPS, NULL, 4);
    struct pack_key total = fold_spend_key(SHM_WINDOW_TOTAL, 0, FOLD_TENANT, 0);
    flip(KV_SPEND, &total, 7);
    assert_found("the spend of tenant acme, total, is");
    flip(KV_SPEND, &total, 7);
    assert_sound(ledger, RECORDS);
    struct pack_key credit = {.len = 0};
    pack_key_u32(&credit, 0);
    pack_key_bytes(&credit, "tenant create", 13);
    flip(KV_CREDITS, &credit, 7);
    assert_found("the credit of tenant acme");
}

static void test_changed_indexes_and_names(void **state) {
    (void)state;
    flip(KV_RECORDS_BY_ID, NULL, 7);
    assert_found("record");
    flip(KV_RECORDS_BY_ID, NULL, 7);
    struct pack_key name = {.len = 0};
    pack_key_u32(&name, 2);
    flip(KV_NAMES, &name, 0);
    ledger_close(ledger); /* what it remembers of names */
    ledger = open_ledger(state_dir, 1 << 26);
    operations.ledger = ledger;
    assert_found("name number 2 was changed");
}

static void test_retention(void **state) {
    (void)state;
    int64_t before_wall_ns = begin_wall_ns + 100 * HOUR + HOUR / 3;
    struct ledger_anchor anchor;
    int deleted = 0;
    for (int batch = retention_delete(ledger, before_wall_ns, 40, &error); batch > 0;
         batch = retention_delete(ledger, before_wall_ns, 40, &error)) {
        assert_true(batch <= 40);
        deleted += batch;
    }
    assert_int_equal(deleted, 126); /* 100 h 20 min of one record every 48 minutes */
    assert_sound(ledger, RECORDS - 126);
    struct kv_txn *txn = ledger_begin_read(ledger, &error);
    ledger_anchor_load(txn, &anchor);
    assert_int_equal(anchor.sequence, 126);
    struct pack_key total = fold_spend_key(SHM_WINDOW_TOTAL, 0, FOLD_TENANT, 0);
    assert_int_equal(spend_row(txn, total.bytes), RECORDS / 2 * 64000); /* what was spent stays spent */
    ledger_end_read(ledger, txn);
    struct shm_usage_record_sh usage = make_usage("later", 0, 0, clock_wall_ns());
    assert_true(commit_records(ledger, &usage, 1, &error));
    assert_sound(ledger, RECORDS - 126 + 1);
    struct pack_key first = sequence_key(127);
    flip(KV_RECORDS, &first, SHA256_BYTES + 20);
    assert_found("record 127");
    flip(KV_RECORDS, &first, SHA256_BYTES + 20);
    assert_true(spend_prune(ledger, clock_wall_ns() + 5 * 24 * HOUR, 1000, &error) > 0);
    assert_sound(ledger, RECORDS - 126 + 1);
}

static void test_backup_and_compact(void **state) {
    (void)state;
    char request[256];
    char copy_dir[128];
    struct answer answer;
    (void)snprintf(copy_dir, sizeof copy_dir, "%s/copy", state_dir);
    (void)snprintf(request, sizeof request, "{\"op\":\"backup\",\"dir\":\"%s\"}", copy_dir);
    do_ok(&operations, request);
    run_bad(&operations, request, "unavailable", "dir"); /* not empty any more */
    do_ok(&operations, "{\"op\":\"tenant.create\",\"name\":\"third\"}");
    struct ledger *copy = ledger_open(copy_dir, LEDGER_READ, &error);
    assert_non_null(copy);
    assert_sound(copy, RECORDS);
    ledger_close(copy);
    run_ok(&operations, "{\"op\":\"compact\"}", &answer);
    int64_t before = 0;
    int64_t after = 0;
    assert_true(json_int(&answer.doc, value_at(&answer, "before_bytes"), &before));
    assert_true(json_int(&answer.doc, value_at(&answer, "after_bytes"), &after));
    assert_true(after <= before);
    answer_fini(&answer);
    assert_sound(ledger, RECORDS);
    run_ok(&operations, "{\"op\":\"verify\"}", &answer);
    assert_raw(&answer, "records", "300");
    assert_raw(&answer, "problems", "[]");
    answer_fini(&answer);
}

static bool count_one(void *context, const struct ledger_record *record) {
    (void)record;
    ++*(int *)context;
    return true;
}

static int count_records(struct ledger *reader) {
    int count = 0;
    return ledger_each_record_from(reader, 1, count_one, &count, &error) ? count : -1;
}

/* Another process: its exit status is the step that went wrong. */
static int read_over_compaction(int told_fd, int tell_fd) {
    char byte = 0;
    struct ledger *reader = ledger_open(state_dir, LEDGER_READ, &error);
    if (reader == NULL || !ledger_pin(reader, &error) || count_records(reader) != RECORDS) {
        return 1;
    }
    if (write(tell_fd, &byte, 1) != 1 || read(told_fd, &byte, 1) != 1) {
        return 2;
    }
    if (count_records(reader) != RECORDS) {
        return 3;
    }
    ledger_unpin(reader);
    if (count_records(reader) != RECORDS + 1) {
        return 4;
    }
    ledger_close(reader);
    return 0;
}

/* A reader that has the old books open goes on with its snapshot, and then turns to the new ones. */
static void test_readers_find_compacted_books(void **state) {
    (void)state;
    int to_reader[2];
    int from_reader[2];
    char byte = 0;
    int status = 0;
    assert_int_equal(pipe(to_reader) | pipe(from_reader), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(read_over_compaction(to_reader[0], from_reader[1]));
    }
    assert_int_equal(read(from_reader[0], &byte, 1), 1);
    do_ok(&operations, "{\"op\":\"compact\"}");
    struct shm_usage_record_sh usage = make_usage("late", 0, 0, clock_wall_ns());
    assert_true(commit_records(ledger, &usage, 1, &error));
    assert_int_equal(write(to_reader[1], &byte, 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 0);
    do_ok(&operations, "{\"op\":\"compact\"}");
    assert_sound(ledger, RECORDS + 1);
    for (int i = 0; i < 2; i++) {
        (void)close(to_reader[i]);
        (void)close(from_reader[i]);
    }
}

/* A store of another version, one cut off and one that is none are refused with what to do. */
static void test_refused_stores(void **state) {
    (void)state;
    char path[256];
    enum kv_status status = KV_OK;
    struct kv_txn *txn = begin();
    assert_true(kv_put(txn, KV_META, SPAN_LITERAL("version"), span_of("\0\0\0\x63", 4)));
    end(txn);
    ledger_close(ledger);
    ledger = NULL;
    assert_null(ledger_open_sized(state_dir, LEDGER_READ, 1 << 26, &status, &error));
    assert_non_null(strstr(buffer_text(&error), "version 99"));
    assert_int_equal(status, KV_FOREIGN);
    buffer_clear(&error);
    (void)snprintf(path, sizeof path, "%s/ledger/data.mdb", state_dir);
    assert_int_equal(truncate(path, 8192), 0);
    assert_null(ledger_open_sized(state_dir, LEDGER_WRITE, 1 << 26, &status, &error));
    assert_int_equal(status, KV_FOREIGN);
    buffer_clear(&error);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (int at = 0; at < 16384; at++) {
        (void)fputc('x', file);
    }
    (void)fclose(file);
    assert_null(ledger_open_sized(state_dir, LEDGER_WRITE, 1 << 26, &status, &error));
    assert_int_equal(status, KV_FOREIGN);
    assert_non_null(strstr(buffer_text(&error), "restore a backup"));
    buffer_clear(&error);
    assert_null(ledger_open("/tmp/tollgate-test-there-is-no-such-directory", LEDGER_READ, &error));
    assert_non_null(strstr(buffer_text(&error), "nothing has been stored"));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_sound),
        TEST(test_changed_record),
        TEST(test_missing_record),
        TEST(test_missing_last_records),
        TEST(test_repeated_record),
        TEST(test_changed_sums),
        TEST(test_changed_indexes_and_names),
        TEST(test_retention),
        TEST(test_backup_and_compact),
        TEST(test_readers_find_compacted_books),
        TEST(test_refused_stores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
