#include <inttypes.h>
#include <stdlib.h>

#include "base/calendar.h"
#include "store/operation.h"
#include "store/price_book.h"
#include "store/price_csv.h"

enum { REF_BYTES = 256 };

/* --- credit --- */

static struct pack_key credit_key(uint32_t tenant_id, const char *ref) {
    struct pack_key key = {.len = 0};
    pack_key_u32(&key, tenant_id);
    pack_key_bytes(&key, ref, strlen(ref));
    return key;
}

bool operation_book_credit(struct operation *op, struct tenant *tenant, int64_t nusd, const char *ref) {
    struct pack_key key = credit_key(tenant->id, ref);
    struct pack_key value = {.len = 0};
    struct pack_key spent = fold_spend_key(SHM_WINDOW_TOTAL, 0, FOLD_TENANT, tenant->id);
    if (!tenant->prepaid) {
        /* What it spent before is not paid out of the credit, nor what it had left when it last was prepaid. */
        tenant->prepaid = true;
        tenant->credit_base_nusd = money_add(spend_row(op->txn, spent.bytes), -tenant->credit_nusd);
    }
    tenant->credit_nusd = money_add(tenant->credit_nusd, nusd);
    pack_key_i64(&value, nusd);
    pack_key_i64(&value, op->now_wall_ns);
    return kv_put(op->txn, KV_CREDITS, pack_key_span(&key), pack_key_span(&value));
}

static bool answer_credit(struct operation *op, const struct tenant *tenant, const char *ref, int64_t nusd,
                          bool applied) {
    struct json_writer json = json_writer_on(op->result);
    json_begin_object(&json, NULL);
    json_write_bool(&json, "applied", applied);
    json_write_text(&json, "tenant", tenant->name);
    json_write_text(&json, "ref", ref);
    json_write_nusd(&json, "usd", nusd);
    json_write_nusd(&json, "credit_usd", operation_credit_left(op, tenant));
    json_end_object(&json);
    return true;
}

bool operation_credit_add(struct operation *op) {
    struct tenant tenant;
    struct span before = SPAN_EMPTY;
    char ref[REF_BYTES];
    int64_t nusd = 0;
    if (!operation_find_tenant(op, "tenant", &tenant) || !operation_money(op, "usd", &nusd) ||
        !operation_text(op, "ref", ref, sizeof ref)) {
        return false;
    }
    if (nusd <= 0) {
        return operation_fail(op, "invalid", "usd", "usd must be more than 0");
    }
    struct pack_key key = credit_key(tenant.id, ref);
    if (kv_get(op->txn, KV_CREDITS, pack_key_span(&key), &before) && before.len == 16) {
        char amount[NUSD_TEXT_BYTES];
        int64_t booked_nusd = unpack_bei64(before.base);
        if (booked_nusd != nusd) {
            return operation_fail(op, "conflict", "ref", "%s was used for %s USD already: nothing was changed", ref,
                                  money_format_short(booked_nusd, amount));
        }
        return answer_credit(op, &tenant, ref, nusd, false);
    }
    if (!operation_book_credit(op, &tenant, nusd, ref) || !tenant_store(op->txn, &tenant)) {
        return false;
    }
    op->change = CHANGED_TENANT;
    op->changed = tenant.id;
    return answer_credit(op, &tenant, ref, nusd, true);
}

struct credit {
    char ref[REF_BYTES];
    int64_t nusd;
    int64_t at_wall_ns;
};

static int compare_credits(const void *a, const void *b) {
    const struct credit *one = a;
    const struct credit *two = b;
    if (one->at_wall_ns != two->at_wall_ns) {
        return one->at_wall_ns < two->at_wall_ns ? -1 : 1;
    }
    return strcmp(one->ref, two->ref);
}

/* A tenant's credits in the order of their refs; the caller frees them. */
static struct credit *load_credits(struct kv_txn *txn, uint32_t tenant_id, size_t *count) {
    struct pack_key key = credit_key(tenant_id, "");
    struct kv_pair pair;
    struct credit *credits = NULL;
    size_t capacity = 0;
    *count = 0;
    struct kv_cursor *cursor = kv_cursor_open(txn, KV_CREDITS);
    bool more = kv_cursor_seek(cursor, pack_key_span(&key), &pair);
    for (; more && pair.key.len > 4 && unpack_be32(pair.key.base) == tenant_id; more = kv_cursor_next(cursor, &pair)) {
        if (*count == capacity) {
            capacity = capacity == 0 ? 16 : capacity * 2;
            credits = reallocarray(credits, capacity, sizeof *credits);
            CHECK(credits != NULL);
        }
        struct credit *credit = &credits[(*count)++];
        (void)span_copy(span_skip(pair.key, 4), credit->ref, sizeof credit->ref);
        credit->nusd = unpack_bei64(pair.value.base);
        credit->at_wall_ns = unpack_bei64(pair.value.base + 8);
    }
    kv_cursor_close(cursor);
    return credits;
}

bool operation_credit_history(struct operation *op) {
    struct json_writer json = json_writer_on(op->result);
    struct tenant tenant;
    size_t count = 0;
    if (!operation_find_tenant(op, "tenant", &tenant)) {
        return false;
    }
    struct credit *credits = load_credits(op->txn, tenant.id, &count);
    if (count != 0) {
        qsort(credits, count, sizeof *credits, compare_credits);
    }
    json_begin_object(&json, NULL);
    json_begin_array(&json, "data");
    for (size_t at = 0; at < count; at++) {
        json_begin_object(&json, NULL);
        operation_write_time(&json, "at", credits[at].at_wall_ns);
        json_write_text(&json, "ref", credits[at].ref);
        json_write_nusd(&json, "usd", credits[at].nusd);
        json_end_object(&json);
    }
    json_end_array(&json);
    json_end_object(&json);
    free(credits);
    return true;
}

/* --- prices --- */

static void write_price(struct json_writer *json, const char *model, const struct price *price, int64_t from_wall_ns,
                        bool of_book) {
    json_begin_object(json, NULL);
    json_write_text(json, "model", model);
    json_write_price(json, "input", price->input_nusd);
    json_write_price(json, "output", price->output_nusd);
    json_write_price(json, "cached_input", price->cached_input_nusd);
    json_write_price(json, "cache_write", price->cache_write_nusd);
    operation_write_time(json, "from", of_book ? from_wall_ns : INT64_MAX);
    json_write_text(json, "source", of_book ? "book" : "file");
    json_end_object(json);
}

static bool write_book_price(void *context, const struct price_book_row *row) {
    write_price(context, row->model, &row->price, row->from_wall_ns, true);
    return true;
}

bool operation_price_list(struct operation *op) {
    struct json_writer json = json_writer_on(op->result);
    const struct conf *conf = op->on->conf;
    json_begin_object(&json, NULL);
    json_begin_array(&json, "data");
    for (int model = 0; model < conf->model_count; model++) {
        if (conf->models[model].has_price) {
            write_price(&json, conf->models[model].name, &conf->models[model].price, 0, false);
        }
    }
    price_book_each(op->txn, write_book_price, &json);
    json_end_array(&json);
    json_end_object(&json);
    return true;
}

static bool read_price(struct operation *op, const char *field, bool required, int64_t *nusd) {
    if (!required && !operation_sets(op, field)) {
        return true;
    }
    if (!operation_money(op, field, nusd)) {
        return false;
    }
    return (*nusd >= 0 && *nusd <= PRICE_MOST_NUSD) ||
           operation_fail(op, "invalid", field, "%s must be from 0 to 100000 USD per million tokens", field);
}

static bool read_from(struct operation *op, int64_t *from_wall_ns) {
    char text[64];
    *from_wall_ns = op->now_wall_ns;
    if (!operation_sets(op, "from")) {
        return true;
    }
    return operation_text(op, "from", text, sizeof text) &&
           (calendar_parse(span_text(text), op->now_wall_ns, from_wall_ns) ||
            operation_fail(op, "invalid", "from", "from must be a date such as 2027-01-01 or an RFC 3339 time"));
}

static bool check_model(struct operation *op, const char *name) {
    const struct conf *conf = op->on->conf;
    struct buffer known;
    int model = conf_model_index(conf, span_text(name));
    if (model >= 0 && conf->models[model].alias >= 0) {
        return operation_fail(op, "invalid", "model", "%s is another name of %s: set the price of that", name,
                              conf->models[conf->models[model].alias].name);
    }
    if (model >= 0 && conf->models[model].rule_count == 0) {
        return true;
    }
    buffer_init(&known, 4096);
    operation_known_models(conf, &known);
    (void)operation_fail(op, "invalid", "model", "%s is no model of the configuration that can have a price; it has %s",
                         name, known.len != 0 ? buffer_text(&known) : "none");
    buffer_fini(&known);
    return false;
}

static bool store_row(struct operation *op, const struct price_book_row *row) {
    if (!price_book_has(op->txn, row->model) && price_book_models(op->txn) >= PRICE_BOOK_MODELS_MOST) {
        return operation_fail(op, "unavailable", "model", "the price book has room for %d models and is full",
                              PRICE_BOOK_MODELS_MOST);
    }
    op->change = CHANGED_PRICES;
    return price_book_store(op->txn, row);
}

bool operation_price_set(struct operation *op) {
    struct json_writer json = json_writer_on(op->result);
    struct price_book_row row = {.from_wall_ns = 0};
    struct price *price = &row.price;
    if (!operation_text(op, "model", row.model, sizeof row.model) || !check_model(op, row.model) ||
        !read_price(op, "input", true, &price->input_nusd) || !read_price(op, "output", true, &price->output_nusd)) {
        return false;
    }
    price->cached_input_nusd = price->cache_write_nusd = price->input_nusd;
    if (!read_price(op, "cached_input", false, &price->cached_input_nusd) ||
        !read_price(op, "cache_write", false, &price->cache_write_nusd) || !read_from(op, &row.from_wall_ns) ||
        !store_row(op, &row)) {
        return false;
    }
    write_price(&json, row.model, price, row.from_wall_ns, true);
    return true;
}

struct import {
    struct operation *op;
    struct json_writer *unknown;
    char last_unknown[SHM_MODEL_NAME_BYTES];
    int64_t count;
};

static bool import_row(void *context, const struct price_book_row *row) {
    struct import *import = context;
    if (conf_model_index(import->op->on->conf, span_text(row->model)) < 0 &&
        !span_is(span_text(row->model), import->last_unknown)) {
        json_write_text(import->unknown, NULL, row->model);
        (void)span_copy(span_text(row->model), import->last_unknown, sizeof import->last_unknown);
    }
    import->count++;
    return store_row(import->op, row);
}

/* The models named that the configuration lacks are kept, for a configuration to come, and listed in the answer. */
bool operation_price_import(struct operation *op) {
    struct json_writer json = json_writer_on(op->result);
    struct import import = {.op = op, .unknown = &json};
    struct buffer csv;
    struct buffer errors;
    buffer_init(&csv, OPERATION_REQUEST_BYTES_MOST);
    buffer_init(&errors, 2000);
    json_begin_object(&json, NULL);
    json_begin_array(&json, "not_configured");
    bool done = json_string(op->request, operation_argument(op, "csv"), &csv) ||
                operation_fail(op, "invalid", "csv", "csv must be the text of a CSV file");
    done = done && (price_csv_check(buffer_span(&csv), op->now_wall_ns, &errors) ||
                    operation_fail(op, "invalid", "csv", "nothing was imported: %s", buffer_text(&errors)));
    done = done && price_csv_each(buffer_span(&csv), op->now_wall_ns, import_row, &import);
    json_end_array(&json);
    json_write_int(&json, "imported", import.count);
    json_end_object(&json);
    buffer_fini(&csv);
    buffer_fini(&errors);
    return done;
}
