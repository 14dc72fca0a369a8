#include "store/verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/calendar.h"
#include "store/accounts.h"
#include "store/fold.h"
#include "store/pack.h"
#include "store/spend.h"

struct verify {
    struct ledger *ledger;
    struct kv_txn *txn;
    struct json_writer *out;
    int64_t problem_count;
    uint64_t records;
    struct ledger_anchor anchor;
    struct fold fold; /* of the kept records */
};

__attribute__((format(printf, 2, 3))) static void note(struct verify *verify, const char *format, ...) {
    va_list arguments;
    char text[512];
    if (verify->problem_count++ >= VERIFY_PROBLEMS_SHOWN) {
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    json_write_text(verify->out, NULL, text);
}

/* --- records --- */

static void check_indexes(struct verify *verify, uint64_t sequence, const struct shm_usage_record_sh *usage) {
    struct pack_key by_end = {.len = 0};
    struct pack_key by_id = {.len = 0};
    struct span value = SPAN_EMPTY;
    pack_key_i64(&by_end, usage->end_wall_ns);
    pack_key_u64(&by_end, sequence);
    pack_key_text(&by_id, span_text(usage->id));
    pack_key_u32(&by_id, usage->tenant_id);
    if (!kv_get(verify->txn, KV_RECORDS_BY_END, pack_key_span(&by_end), &value)) {
        note(verify, "record %" PRIu64 " is not found by its end", sequence);
    }
    if (!kv_get(verify->txn, KV_RECORDS_BY_ID, pack_key_span(&by_id), &value) || value.len != 8) {
        note(verify, "record %" PRIu64 " is not found by its id %s", sequence, usage->id);
    } else if (unpack_be64(value.base) != sequence) {
        note(verify, "record %" PRIu64 " repeats the id %s of record %" PRIu64, sequence, usage->id,
             unpack_be64(value.base));
    }
}

static void check_record(struct verify *verify, uint64_t sequence, struct span value,
                         unsigned char chain[static SHA256_BYTES]) {
    struct record record;
    struct span texts[RECORD_TEXTS];
    unsigned char expected[SHA256_BYTES];
    if (value.len < SHA256_BYTES || !record_unpack(span_skip(value, SHA256_BYTES), &record)) {
        note(verify, "record %" PRIu64 " is damaged", sequence);
        if (value.len >= SHA256_BYTES) {
            memcpy(chain, value.base, SHA256_BYTES);
        }
        return;
    }
    for (int text = 0; text < RECORD_TEXTS; text++) {
        texts[text] = span_text(names_text(&verify->ledger->names, verify->txn, record.texts[text]));
    }
    record_chain(chain, span_skip(value, SHA256_BYTES), texts, expected);
    if (memcmp(expected, value.base, SHA256_BYTES) != 0) {
        note(verify, "record %" PRIu64 " (%s) was changed, or the one before it: the chain does not fit", sequence,
             record.usage.id);
    }
    memcpy(chain, value.base, SHA256_BYTES);
    check_indexes(verify, sequence, &record.usage);
    fold_add(&verify->fold, &record);
}

static void note_missing(struct verify *verify, uint64_t first, uint64_t last) {
    if (first == last) {
        note(verify, "record %" PRIu64 " is missing", first);
    } else {
        note(verify, "records %" PRIu64 " to %" PRIu64 " are missing", first, last);
    }
}

static void check_head(struct verify *verify, uint64_t last, const unsigned char *chain) {
    struct ledger_head head;
    ledger_head_load(verify->txn, &head);
    if (head.sequence > last) {
        note_missing(verify, last + 1, head.sequence);
    } else if (head.sequence < last) {
        note(verify, "there are records after %" PRIu64 ", the last one the ledger knows of", head.sequence);
    } else if (last != verify->anchor.sequence && memcmp(head.chain, chain, SHA256_BYTES) != 0) {
        note(verify, "the chain of the last record %" PRIu64 " is not the ledger's", last);
    }
}

static void check_records(struct verify *verify) {
    struct kv_pair pair;
    unsigned char chain[SHA256_BYTES];
    uint64_t last = verify->anchor.sequence;
    memcpy(chain, verify->anchor.chain, SHA256_BYTES);
    struct kv_cursor *cursor = kv_cursor_open(verify->txn, KV_RECORDS);
    for (bool more = kv_cursor_first(cursor, &pair); more; more = kv_cursor_next(cursor, &pair)) {
        uint64_t sequence = pair.key.len == 8 ? unpack_be64(pair.key.base) : 0;
        if (sequence <= last) {
            note(verify, "there is a record %" PRIu64 " that does not belong here", sequence);
            continue;
        }
        if (sequence != last + 1) {
            note_missing(verify, last + 1, sequence - 1);
        }
        check_record(verify, sequence, pair.value, chain);
        last = sequence;
        verify->records++;
    }
    kv_cursor_close(cursor);
    check_head(verify, last, chain);
    if (kv_count(verify->txn, KV_RECORDS_BY_END) != verify->records) {
        note(verify, "the index by end has %" PRIu64 " rows for %" PRIu64 " records",
             kv_count(verify->txn, KV_RECORDS_BY_END), verify->records);
    }
    if (kv_count(verify->txn, KV_RECORDS_BY_ID) != verify->records) {
        note(verify, "the index by id has %" PRIu64 " rows for %" PRIu64 " records",
             kv_count(verify->txn, KV_RECORDS_BY_ID), verify->records);
    }
}

/* --- roll-ups --- */

/* Did deleted records contribute to the window that starts then? */
static bool is_partly_deleted(const struct verify *verify, int64_t start_wall_ns) {
    return verify->anchor.sequence != 0 && start_wall_ns <= verify->anchor.newest_end_wall_ns;
}

static void note_rollup(struct verify *verify, const char *what, const unsigned char *key) {
    char label[RFC3339_BYTES];
    calendar_rfc3339(unpack_bei64(key + 1), label);
    note(verify, "the roll-up of the %s %s, tenant %s, key %s, model %s, upstream %s %s",
         key[0] == FOLD_HOUR ? "hour" : "day", label,
         ledger_tenant_name(verify->ledger, verify->txn, unpack_be32(key + 9)),
         ledger_key_id(verify->ledger, verify->txn, unpack_be32(key + 13)),
         names_text(&verify->ledger->names, verify->txn, unpack_be32(key + 17)),
         names_text(&verify->ledger->names, verify->txn, unpack_be32(key + 21)), what);
}

static void check_stored_rollup(struct verify *verify, const struct kv_pair *pair) {
    const unsigned char *key = (const unsigned char *)pair->key.base;
    struct fold_sums sums;
    if (pair->key.len != FOLD_ROLLUP_KEY_BYTES || !fold_sums_unpack(pair->value, &sums)) {
        note(verify, "a roll-up is damaged");
        return;
    }
    if (is_partly_deleted(verify, unpack_bei64(key + 1))) {
        return;
    }
    const struct fold_rollup *expected = fold_find_rollup(&verify->fold, key);
    if (expected == NULL) {
        note_rollup(verify, "has no records", key);
    } else if (!fold_sums_equal(&expected->sums, &sums)) {
        note_rollup(verify, "is not the sum of its records", key);
    }
}

static void check_rollups(struct verify *verify) {
    struct kv_pair pair;
    struct span value = SPAN_EMPTY;
    struct kv_cursor *cursor = kv_cursor_open(verify->txn, KV_ROLLUPS);
    for (bool more = kv_cursor_first(cursor, &pair); more; more = kv_cursor_next(cursor, &pair)) {
        check_stored_rollup(verify, &pair);
    }
    kv_cursor_close(cursor);
    for (uint32_t index = 0; index < verify->fold.rollups.count; index++) {
        const unsigned char *key = fold_rollup_at(&verify->fold, index)->key;
        if (!is_partly_deleted(verify, unpack_bei64(key + 1)) &&
            !kv_get(verify->txn, KV_ROLLUPS, span_of((const char *)key, FOLD_ROLLUP_KEY_BYTES), &value)) {
            note_rollup(verify, "is missing", key);
        }
    }
}

/* --- spend --- */

static void note_spend(struct verify *verify, const unsigned char *key, int64_t stored_nusd, int64_t expected_nusd) {
    static const char *const windows[] = {"day", "month", "total"};
    char label[RFC3339_BYTES];
    char stored[NUSD_TEXT_BYTES];
    char expected[NUSD_TEXT_BYTES];
    uint32_t account = unpack_be32(key + 10);
    calendar_rfc3339(unpack_bei64(key + 1), label);
    note(verify, "the spend of %s %s, %s%s%s, is %s and its records sum to %s",
         key[9] == FOLD_TENANT ? "tenant" : "key",
         key[9] == FOLD_TENANT ? ledger_tenant_name(verify->ledger, verify->txn, account)
                               : ledger_key_id(verify->ledger, verify->txn, account),
         windows[key[0]], key[0] == SHM_WINDOW_TOTAL ? "" : " ", key[0] == SHM_WINDOW_TOTAL ? "" : label,
         money_format(stored_nusd, stored), money_format(expected_nusd, expected));
}

/* What a row must hold: the fold, and for totals what was archived. */
static int64_t expected_spend(struct verify *verify, const unsigned char *key) {
    const struct fold_spend *row = fold_find_spend(&verify->fold, key);
    int64_t nusd = row != NULL ? row->nusd : 0;
    if (key[0] == SHM_WINDOW_TOTAL) {
        struct pack_key archived =
            fold_spend_key(FOLD_WINDOW_ARCHIVED, 0, (enum fold_account)key[9], unpack_be32(key + 10));
        nusd = money_add(nusd, spend_row(verify->txn, archived.bytes));
    }
    return nusd;
}

static bool is_spend_compared(const struct verify *verify, const unsigned char *key,
                              const int64_t *whole_from_wall_ns) {
    if (key[0] == SHM_WINDOW_TOTAL) {
        return true;
    }
    int64_t start_wall_ns = unpack_bei64(key + 1);
    return key[0] < SHM_WINDOW_TOTAL && start_wall_ns >= whole_from_wall_ns[key[0]] &&
           !is_partly_deleted(verify, start_wall_ns);
}

static void check_spend(struct verify *verify) {
    struct kv_pair pair;
    struct span value = SPAN_EMPTY;
    int64_t whole_from_wall_ns[SHM_WINDOWS];
    spend_whole_from(verify->txn, whole_from_wall_ns);
    struct kv_cursor *cursor = kv_cursor_open(verify->txn, KV_SPEND);
    for (bool more = kv_cursor_first(cursor, &pair); more; more = kv_cursor_next(cursor, &pair)) {
        const unsigned char *key = (const unsigned char *)pair.key.base;
        if (pair.key.len != FOLD_SPEND_KEY_BYTES || pair.value.len != 8) {
            note(verify, "a row of spend is damaged");
        } else if (is_spend_compared(verify, key, whole_from_wall_ns) &&
                   unpack_bei64(pair.value.base) != expected_spend(verify, key)) {
            note_spend(verify, key, unpack_bei64(pair.value.base), expected_spend(verify, key));
        }
    }
    kv_cursor_close(cursor);
    for (uint32_t index = 0; index < verify->fold.spends.count; index++) {
        const struct fold_spend *row = fold_spend_at(&verify->fold, index);
        if (is_spend_compared(verify, row->key, whole_from_wall_ns) &&
            !kv_get(verify->txn, KV_SPEND, span_of((const char *)row->key, FOLD_SPEND_KEY_BYTES), &value)) {
            note_spend(verify, row->key, 0, row->nusd);
        }
    }
}

/* --- accounts, credit, names --- */

static int64_t sum_of_credits(struct verify *verify, uint32_t tenant_id) {
    struct pack_key key = {.len = 0};
    struct kv_pair pair;
    int64_t nusd = 0;
    pack_key_u32(&key, tenant_id);
    struct kv_cursor *cursor = kv_cursor_open(verify->txn, KV_CREDITS);
    bool more = kv_cursor_seek(cursor, pack_key_span(&key), &pair);
    for (; more && pair.key.len > 4 && unpack_be32(pair.key.base) == tenant_id; more = kv_cursor_next(cursor, &pair)) {
        nusd = money_add(nusd, pair.value.len == 16 ? unpack_bei64(pair.value.base) : 0);
    }
    kv_cursor_close(cursor);
    return nusd;
}

static void check_tenants(struct verify *verify) {
    struct tenant tenant;
    struct tenant found;
    char stored[NUSD_TEXT_BYTES];
    char expected[NUSD_TEXT_BYTES];
    for (uint32_t id = 0; id < tenant_count(verify->txn); id++) {
        if (!tenant_load(verify->txn, id, &tenant)) {
            note(verify, "tenant number %" PRIu32 " is missing or damaged", id);
            continue;
        }
        if (!tenant_find(verify->txn, span_text(tenant.name), &found) || found.id != id) {
            note(verify, "tenant %s is not found by its name", tenant.name);
        }
        int64_t credit_nusd = sum_of_credits(verify, id);
        if (credit_nusd != tenant.credit_nusd) {
            note(verify, "the credit of tenant %s is %s and its history sums to %s", tenant.name,
                 money_format(tenant.credit_nusd, stored), money_format(credit_nusd, expected));
        }
    }
}

static void check_keys(struct verify *verify) {
    struct api_key key;
    struct api_key found;
    for (uint32_t number = 0; number < api_key_count(verify->txn); number++) {
        if (!api_key_load(verify->txn, number, &key)) {
            note(verify, "key number %" PRIu32 " is missing or damaged", number);
        } else if (!api_key_find_id(verify->txn, span_text(key.id), &found) || found.number != number) {
            note(verify, "key %s is not found by its id", key.id);
        }
    }
}

static void check_names(struct verify *verify) {
    struct kv_pair pair;
    struct span value = SPAN_EMPTY;
    struct kv_cursor *cursor = kv_cursor_open(verify->txn, KV_NAMES);
    for (bool more = kv_cursor_first(cursor, &pair); more; more = kv_cursor_next(cursor, &pair)) {
        unsigned char digest[NAME_DIGEST_BYTES];
        if (pair.key.len != 4 || pair.value.len == 0) {
            note(verify, "a name is damaged");
            continue;
        }
        names_digest(span_of(pair.value.base, pair.value.len - 1), digest);
        if (!kv_get(verify->txn, KV_NAME_NUMBERS, span_of((const char *)digest, sizeof digest), &value) ||
            value.len != 4 || memcmp(value.base, pair.key.base, 4) != 0) {
            note(verify, "name number %" PRIu32 " was changed", unpack_be32(pair.key.base));
        }
    }
    kv_cursor_close(cursor);
}

static void check_all(struct verify *verify) {
    ledger_anchor_load(verify->txn, &verify->anchor);
    check_names(verify);
    check_tenants(verify);
    check_keys(verify);
    check_records(verify);
    check_rollups(verify);
    check_spend(verify);
}

int64_t verify_books(struct ledger *ledger, struct json_writer *problems, uint64_t *records, struct buffer *error) {
    struct verify verify = {.ledger = ledger, .out = problems};
    verify.txn = ledger_begin_read(ledger, error);
    if (verify.txn == NULL) {
        return -1;
    }
    bool sound = spend_use_stored_zone(verify.txn);
    if (!sound) {
        buffer_append_text(error, "the books were kept in a time zone that this system does not know");
    } else {
        fold_init(&verify.fold);
        check_all(&verify);
        fold_fini(&verify.fold);
        sound = kv_status_of(verify.txn) == KV_OK;
        if (!sound) {
            buffer_format(error, "cannot read the ledger: %s%s", kv_failure_text(verify.txn),
                          kv_failure_advice(verify.txn));
        }
    }
    ledger_end_read(ledger, verify.txn);
    *records = verify.records;
    return sound ? verify.problem_count : -1;
}
