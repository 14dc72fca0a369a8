/* tests/unit/store/store_testing.h - what the tests of the ledger share: a state directory, a configuration, a segment,
 * records, and operations with their answers. */
#ifndef TOLLGATE_TESTS_STORE_TESTING_H
#define TOLLGATE_TESTS_STORE_TESTING_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/calendar.h"
#include "base/clock.h"
#include "base/json_read.h"
#include "conf/conf.h"
#include "shm/shm_map.h"
#include "shm/shm_slot.h"
#include "store/operations.h"
#include "store/verify.h"

#define TEST_STATE_BYTES 64

static inline int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place) {
    (void)status, (void)kind, (void)place;
    return remove(path);
}

static inline void make_state(char out[static TEST_STATE_BYTES]) {
    (void)snprintf(out, TEST_STATE_BYTES, "/tmp/tollgate-test-XXXXXX");
    assert_non_null(mkdtemp(out));
}

static inline void remove_state(const char *state_dir) {
    (void)nftw(state_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static const char test_conf_text[] =
    "listen:\n"
    "  - address: 127.0.0.1:0\n"
    "admin: {address: 127.0.0.1:0}\n"
    "state: %s\n"
    "timezone: %s\n"
    "upstreams:\n"
    "  demo: {dialect: demo}\n"
    "models:\n"
    "  demo:\n"
    "    price: {input: 0.50, cached_input: 0.10, output: 1.50}\n"
    "    routes: [{upstream: demo}]\n"
    "  plain:\n"
    "    routes: [{upstream: demo}]\n"
    "  cheap: {alias: demo}\n"
    "tiers:\n"
    "  free: {rpm: 60, tpm: 1000, concurrent: 4, budget: {amount: 5, per: month}, models: [cheap]}\n"
    "  pro: {rpm: 3000, max_wait: 2s}\n";

static inline struct conf *make_conf_in_zone(const char *state_dir, const char *zone) {
    char text[4096];
    struct conf_findings findings = {.count = 0};
    struct buffer printed;
    /* Port 0 is refused in files; the tests open no port. */
    (void)snprintf(text, sizeof text, test_conf_text, state_dir, zone);
    for (char *at = strstr(text, ":0\n"); at != NULL; at = strstr(at, ":0\n")) {
        memmove(at + 3, at + 2, strlen(at + 2) + 1);
        memcpy(at, ":91", 3);
    }
    for (char *at = strstr(text, ":0}"); at != NULL; at = strstr(at, ":0}")) {
        memmove(at + 3, at + 2, strlen(at + 2) + 1);
        memcpy(at, ":92", 3);
    }
    struct conf *conf = conf_parse(span_text(text), "test.yaml", NULL, &findings);
    buffer_init(&printed, 8192);
    conf_findings_print(&findings, &printed);
    if (conf == NULL) {
        fail_msg("%s", buffer_text(&printed));
        abort(); /* fail_msg does not return, which the analyzer cannot know */
    }
    buffer_fini(&printed);
    conf_findings_free(&findings);
    conf->capacity.keys = 64;
    conf->capacity.tenants = 16;
    return conf;
}

static inline struct conf *make_conf(const char *state_dir) { return make_conf_in_zone(state_dir, "UTC"); }

static inline void make_segment(struct shm_map *map, const char *state_dir, uint32_t seats) {
    struct shm_capacity capacity = {.seats = seats, .keys = 64, .tenants = 16};
    struct buffer error;
    buffer_init(&error, 1024);
    if (!shm_map_create(map, state_dir, &capacity, &error)) {
        fail_msg("%s", buffer_text(&error));
    }
    buffer_fini(&error);
}

static inline struct ledger *open_ledger(const char *state_dir, size_t map_bytes) {
    struct buffer error;
    enum kv_status status = KV_OK;
    buffer_init(&error, 1024);
    struct ledger *ledger = ledger_open_sized(state_dir, LEDGER_WRITE, map_bytes, &status, &error);
    if (ledger == NULL) {
        fail_msg("%s", buffer_text(&error));
    }
    buffer_fini(&error);
    return ledger;
}

static inline struct shm_usage_record_sh make_usage(const char *id, uint32_t tenant_id, uint32_t key_number,
                                                    int64_t end_wall_ns) {
    struct shm_usage_record_sh usage = {
        .start_wall_ns = end_wall_ns - NS_PER_S,
        .first_byte_wall_ns = end_wall_ns - NS_PER_S / 2,
        .end_wall_ns = end_wall_ns,
        .tenant_id = tenant_id,
        .key_number = key_number,
        .tokens = {.input_tokens = 100, .cached_input_tokens = 40, .output_tokens = 20, .reasoning_tokens = 5},
        .price = {500000000, 100000000, 500000000, 1500000000},
        .markup = MARKUP_ONE,
        .flags = SHM_RECORD_STREAM | SHM_RECORD_MODEL_PRICED,
        .status = 200,
        .endpoint = SHM_ENDPOINT_CHAT_COMPLETIONS,
        .attempts = 1,
        .model_asked = "cheap",
        .model_served = "demo",
        .upstream = "demo",
        .finish_reason = "stop",
        .end_user = "user-1",
        .client = "127.0.0.1",
    };
    usage.price_nusd = money_of_tokens(&usage.price, &usage.tokens, usage.markup);
    (void)span_copy(span_text(id), usage.id, sizeof usage.id);
    return usage;
}

/* An answer, parsed. */
struct answer {
    struct buffer text;
    struct json_doc doc;
    bool ok;
};

static inline void answer_fini(struct answer *answer) {
    json_doc_fini(&answer->doc);
    buffer_fini(&answer->text);
}

static inline void run(struct operations *operations, const char *request, struct answer *answer) {
    buffer_init(&answer->text, 1 << 22);
    json_doc_init(&answer->doc);
    answer->ok = operations_run(operations, span_text(request), &answer->text);
    if (!json_parse(&answer->doc, buffer_span(&answer->text))) {
        fail_msg("no JSON: %s", buffer_text(&answer->text));
    }
    assert_int_equal(answer->ok, json_type_of(&answer->doc, json_member(&answer->doc, 0, "ok")) == JSON_TRUE);
}

/* The value at a dotted path below "result", or below the root when there is none. */
static inline int value_at(const struct answer *answer, const char *path) {
    char name[64];
    int at = json_member(&answer->doc, 0, "result");
    at = at < 0 ? 0 : at;
    while (*path != '\0') {
        size_t len = strcspn(path, ".");
        (void)span_copy(span_of(path, len), name, sizeof name);
        if (json_type_of(&answer->doc, at) == JSON_ARRAY) {
            int index = name[0] - '0';
            at = json_first(&answer->doc, at);
            while (index-- > 0) {
                at = json_next(&answer->doc, at);
            }
        } else {
            at = json_member(&answer->doc, at, name);
        }
        path += len + (path[len] == '.' ? 1 : 0);
    }
    return at;
}

static inline void assert_raw(const struct answer *answer, const char *path, const char *expected) {
    struct span raw = json_raw(&answer->doc, value_at(answer, path));
    if (!span_is(raw, expected)) {
        fail_msg("%s is %.*s, not %s, in %s", path, SPAN_ARGUMENTS(raw), expected, buffer_text(&answer->text));
    }
}

/* Runs a request that must succeed. */
static inline void run_ok(struct operations *operations, const char *request, struct answer *answer) {
    run(operations, request, answer);
    if (!answer->ok) {
        fail_msg("%s: %s", request, buffer_text(&answer->text));
    }
}

static inline void do_ok(struct operations *operations, const char *request) {
    struct answer answer;
    run_ok(operations, request, &answer);
    answer_fini(&answer);
}

/* Runs a request that must fail so; field NULL when the failure is about none. */
static inline void run_bad(struct operations *operations, const char *request, const char *kind, const char *field) {
    struct answer answer;
    run(operations, request, &answer);
    if (answer.ok || !json_string_is(&answer.doc, value_at(&answer, "error.kind"), kind) ||
        (field != NULL ? !json_string_is(&answer.doc, value_at(&answer, "error.field"), field)
                       : json_type_of(&answer.doc, value_at(&answer, "error.field")) != JSON_NULL)) {
        fail_msg("%s: wanted %s on %s: %s", request, kind, field != NULL ? field : "nothing",
                 buffer_text(&answer.text));
    }
    answer_fini(&answer);
}

/* Problems that verify finds; the first is copied to `first` when there is room for it. */
static inline int64_t count_problems(struct ledger *ledger, uint64_t *records, char *first, size_t size) {
    struct buffer text;
    struct buffer error;
    struct json_doc doc;
    buffer_init(&text, 1 << 20);
    buffer_init(&error, 1024);
    struct json_writer json = json_writer_on(&text);
    json_begin_array(&json, NULL);
    int64_t count = verify_books(ledger, &json, records, &error);
    json_end_array(&json);
    json_doc_init(&doc);
    assert_true(json_parse(&doc, buffer_span(&text)));
    if (first != NULL) {
        first[0] = '\0';
        (void)!json_string_copy(&doc, json_first(&doc, 0), first, size);
    }
    json_doc_fini(&doc);
    buffer_fini(&text);
    buffer_fini(&error);
    return count;
}

/* Asserts that the books are sound, and how many records they have. */
static inline void assert_sound(struct ledger *ledger, uint64_t expected_records) {
    char first[512];
    uint64_t records = 0;
    int64_t problems = count_problems(ledger, &records, first, sizeof first);
    if (problems != 0) {
        fail_msg("%ld problems, first: %s", (long)problems, first);
    }
    assert_int_equal(records, expected_records);
}

#endif
