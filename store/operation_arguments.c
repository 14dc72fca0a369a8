#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/calendar.h"
#include "shm/shm_keys.h"
#include "store/operation.h"

enum { TAGS_MOST = 32, TAG_VALUE_BYTES = 256, ITEM_BYTES = 128 };

int operation_argument(const struct operation *op, const char *field) { return json_member(op->request, 0, field); }

bool operation_has(const struct operation *op, const char *field) { return operation_argument(op, field) >= 0; }

bool operation_sets(const struct operation *op, const char *field) {
    int value = operation_argument(op, field);
    return value >= 0 && json_type_of(op->request, value) != JSON_NULL;
}

static bool is_name(const char *text) {
    size_t len = strlen(text);
    return len != 0 && len < SHM_NAME_BYTES &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@-") == len;
}

bool operation_name(struct operation *op, const char *field, char out[static SHM_NAME_BYTES]) {
    int value = operation_argument(op, field);
    if (!operation_sets(op, field)) {
        return operation_fail(op, "invalid", field, "%s is missing", field);
    }
    if (!json_string_copy(op->request, value, out, SHM_NAME_BYTES) || !is_name(out)) {
        return operation_fail(op, "invalid", field, "%s must be 1 to 63 characters of A-Z a-z 0-9 . _ : @ -", field);
    }
    return true;
}

bool operation_text(struct operation *op, const char *field, char *out, size_t size) {
    int value = operation_argument(op, field);
    if (!operation_sets(op, field)) {
        return operation_fail(op, "invalid", field, "%s is missing", field);
    }
    bool fits = json_string_copy(op->request, value, out, size) && out[0] != '\0';
    for (const char *at = out; fits && *at != '\0'; at++) {
        fits = (unsigned char)*at >= 0x20 && *at != 0x7f;
    }
    return fits || operation_fail(op, "invalid", field, "%s must be a text of 1 to %zu characters on one line", field,
                                  size - 1);
}

bool operation_money(struct operation *op, const char *field, int64_t *out) {
    if (!operation_sets(op, field)) {
        return operation_fail(op, "invalid", field, "%s is missing", field);
    }
    if (!json_money(op->request, operation_argument(op, field), out)) {
        return operation_fail(op, "invalid", field, "%s must be a decimal with at most nine places, such as 12.50",
                              field);
    }
    return true;
}

bool operation_bool(struct operation *op, const char *field, bool *out) {
    if (!operation_has(op, field)) {
        return true;
    }
    enum json_type type = json_type_of(op->request, operation_argument(op, field));
    *out = type == JSON_TRUE;
    return type == JSON_TRUE || type == JSON_FALSE || type == JSON_NULL ||
           operation_fail(op, "invalid", field, "%s must be true or false", field);
}

static bool read_limit(struct operation *op, const char *field, int64_t most, int64_t *out) {
    int64_t value = 0;
    if (!operation_has(op, field)) {
        return true;
    }
    if (!operation_sets(op, field)) {
        *out = 0;
        return true;
    }
    if (!json_int(op->request, operation_argument(op, field), &value) || value < 1 || value > most) {
        return operation_fail(op, "invalid", field, "%s must be a whole number from 1 to %" PRId64 ", or null for none",
                              field, most);
    }
    *out = value;
    return true;
}

static bool read_period(struct operation *op, int *window) {
    static const char *const names[SHM_WINDOWS] = {"day", "month", "total"};
    *window = -1;
    if (!operation_sets(op, "per")) {
        return true;
    }
    for (int at = 0; at < SHM_WINDOWS; at++) {
        if (json_string_is(op->request, operation_argument(op, "per"), names[at])) {
            *window = at;
        }
    }
    return *window >= 0 || operation_fail(op, "invalid", "per", "per must be day, month or total");
}

static bool read_budget(struct operation *op, struct account_limits *limits) {
    int window = -1;
    int64_t nusd = 0;
    if (!read_period(op, &window)) {
        return false;
    }
    if (!operation_has(op, "budget")) {
        return window < 0 || operation_fail(op, "invalid", "budget", "per without budget: give the budget in USD too");
    }
    if (!operation_sets(op, "budget")) {
        for (int at = 0; at < SHM_WINDOWS; at++) {
            limits->budget_nusd[at] = window < 0 || window == at ? -1 : limits->budget_nusd[at];
        }
        return true;
    }
    if (!operation_money(op, "budget", &nusd)) {
        return false;
    }
    if (nusd <= 0 || nusd > BUDGET_MOST_NUSD) {
        return operation_fail(op, "invalid", "budget",
                              "budget must be more than 0 and at most %" PRId64 " USD, or null for none",
                              BUDGET_MOST_NUSD / NUSD_PER_USD);
    }
    if (window < 0) {
        return operation_fail(op, "invalid", "per", "a budget needs per: day, month or total");
    }
    limits->budget_nusd[window] = nusd;
    return true;
}

bool operation_limits(struct operation *op, struct account_limits *limits) {
    return read_limit(op, "rpm", REQUESTS_PER_MINUTE_MOST, &limits->requests_per_minute) &&
           read_limit(op, "tpm", TOKENS_MOST, &limits->tokens_per_minute) &&
           read_limit(op, "concurrent", CONCURRENT_MOST, &limits->concurrent) && read_budget(op, limits);
}

static void append_known(struct buffer *out, const char *name) {
    enum { SHOWN_BYTES_MOST = 1000 };
    if (out->len < SHOWN_BYTES_MOST) {
        buffer_format(out, "%s%s", out->len != 0 ? ", " : "", name);
    }
}

void operation_known_models(const struct conf *conf, struct buffer *out) {
    for (int model = 0; model < conf->model_count; model++) {
        append_known(out, conf->models[model].name);
    }
}

bool operation_tier(struct operation *op, char out[static SHM_NAME_BYTES]) {
    const struct conf *conf = op->on->conf;
    struct buffer known;
    if (!operation_has(op, "tier")) {
        return true;
    }
    if (!operation_sets(op, "tier")) {
        out[0] = '\0';
        return true;
    }
    if (!operation_name(op, "tier", out)) {
        return false;
    }
    if (conf_tier_index(conf, span_text(out)) >= 0) {
        return true;
    }
    buffer_init(&known, 4096);
    for (int tier = 0; tier < conf->tier_count; tier++) {
        append_known(&known, conf->tiers[tier].name);
    }
    (void)operation_fail(op, "invalid", "tier", "tier: the configuration has no tier %s; it has %s", out,
                         known.len != 0 ? buffer_text(&known) : "none");
    buffer_fini(&known);
    return false;
}

static bool check_model(struct operation *op, const char *model) {
    struct buffer known;
    if (conf_model_index(op->on->conf, span_text(model)) >= 0) {
        return true;
    }
    buffer_init(&known, 4096);
    operation_known_models(op->on->conf, &known);
    (void)operation_fail(op, "invalid", "models", "models: the configuration has no model %s; it has %s", model,
                         known.len != 0 ? buffer_text(&known) : "none");
    buffer_fini(&known);
    return false;
}

/* "10.1.2.3/8" becomes "10.0.0.0/8", an address alone becomes a network of one. */
static bool canonical_network(const char *text, char *out, size_t size) {
    char address[INET6_ADDRSTRLEN];
    unsigned char bytes[16];
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    if (!span_copy(span_of(text, len), address, sizeof address)) {
        return false;
    }
    int family = strchr(address, ':') != NULL ? AF_INET6 : AF_INET;
    long most = family == AF_INET6 ? 128 : 32;
    long bits = most;
    if (slash != NULL) {
        size_t digits = strspn(slash + 1, "0123456789");
        bits = strtol(slash + 1, NULL, 10);
        if (digits == 0 || digits > 3 || slash[1 + digits] != '\0' || bits > most) {
            return false;
        }
    }
    if (inet_pton(family, address, bytes) != 1) {
        return false;
    }
    for (long bit = bits; bit < most; bit++) {
        bytes[bit / 8] &= (unsigned char)~(0x80U >> (bit % 8));
    }
    int written =
        inet_ntop(family, bytes, address, sizeof address) == NULL ? -1 : snprintf(out, size, "%s/%ld", address, bits);
    return written > 0 && (size_t)written < size;
}

static bool check_network(struct operation *op, char item[static ITEM_BYTES]) {
    char network[ITEM_BYTES];
    if (!canonical_network(item, network, sizeof network)) {
        return operation_fail(op, "invalid", "allow_ip",
                              "each of allow_ip must be a network such as 10.0.0.0/8, 2001:db8::/32 or an address");
    }
    (void)span_copy(span_text(network), item, ITEM_BYTES);
    return true;
}

static bool fail_on_room(struct operation *op) {
    return operation_fail(op, "invalid", "models", "models and allow_ip together are too long (at most %d bytes)",
                          SHM_ALLOW_BYTES);
}

/* Adds the items of an argument, or those of `before` when it is not given. */
static bool read_items(struct operation *op, const char *field, bool networks, const struct shm_allow_sh *before,
                       struct shm_allow_sh *out) {
    char item[ITEM_BYTES];
    int list = operation_argument(op, field);
    if (list < 0) {
        uint32_t first = networks ? before->model_count : 0;
        uint32_t count = networks ? before->network_count : before->model_count;
        for (uint32_t at = first; at < first + count; at++) {
            const char *kept = shm_allow_item(before, at);
            if (kept == NULL || !shm_allow_add(out, kept, networks)) {
                return fail_on_room(op);
            }
        }
        return true;
    }
    enum json_type type = json_type_of(op->request, list);
    if (type != JSON_ARRAY && type != JSON_NULL) {
        return operation_fail(op, "invalid", field, "%s must be a list of texts, or null for no restriction", field);
    }
    if (type == JSON_ARRAY && json_first(op->request, list) < 0) {
        return operation_fail(op, "invalid", field, "%s must name at least one, or be null for no restriction", field);
    }
    for (int at = json_first(op->request, list); at >= 0; at = json_next(op->request, at)) {
        if (!json_string_copy(op->request, at, item, sizeof item)) {
            return operation_fail(op, "invalid", field, "%s must be a list of short texts", field);
        }
        if (!(networks ? check_network(op, item) : check_model(op, item))) {
            return false;
        }
        if (!shm_allow_add(out, item, networks)) {
            return fail_on_room(op);
        }
    }
    return true;
}

bool operation_allow(struct operation *op, struct shm_allow_sh *allow) {
    struct shm_allow_sh before = *allow;
    struct shm_allow_sh resolved;
    memset(allow, 0, sizeof *allow);
    if (!read_items(op, "models", false, &before, allow) || !read_items(op, "allow_ip", true, &before, allow)) {
        return false;
    }
    return publisher_build_allow(op->on->conf, allow, &resolved) || fail_on_room(op);
}

struct tag {
    char name[SHM_NAME_BYTES];
    char value[TAG_VALUE_BYTES];
};

static int compare_tags(const void *a, const void *b) {
    return strcmp(((const struct tag *)a)->name, ((const struct tag *)b)->name);
}

static bool read_tag(struct operation *op, int name, struct tag *tag) {
    if (!json_string_copy(op->request, name, tag->name, sizeof tag->name) || !is_name(tag->name)) {
        return operation_fail(op, "invalid", "tags",
                              "a tag's name must be 1 to 63 characters of A-Z a-z 0-9 . _ : @ -");
    }
    if (!json_string_copy(op->request, json_value_of(op->request, name), tag->value, sizeof tag->value)) {
        return operation_fail(op, "invalid", "tags", "the tag %s must be a text of at most %d bytes", tag->name,
                              TAG_VALUE_BYTES - 1);
    }
    return true;
}

static bool write_tags(struct operation *op, struct tag *tags, size_t count, char out[static ACCOUNT_TAGS_BYTES]) {
    struct buffer text;
    buffer_init(&text, ACCOUNT_TAGS_BYTES);
    struct json_writer json = json_writer_on(&text);
    qsort(tags, count, sizeof *tags, compare_tags);
    json_begin_object(&json, NULL);
    for (size_t at = 0; at < count; at++) {
        json_write_text(&json, tags[at].name, tags[at].value);
    }
    json_end_object(&json);
    bool fits = !text.failed && span_copy(buffer_span(&text), out, ACCOUNT_TAGS_BYTES);
    buffer_fini(&text);
    return fits ||
           operation_fail(op, "invalid", "tags", "the tags are too long (at most %d bytes in all)", ACCOUNT_TAGS_BYTES);
}

bool operation_tags(struct operation *op, char out[static ACCOUNT_TAGS_BYTES]) {
    struct tag tags[TAGS_MOST];
    size_t count = 0;
    int list = operation_argument(op, "tags");
    if (list < 0) {
        return true;
    }
    enum json_type type = json_type_of(op->request, list);
    if (type != JSON_OBJECT && type != JSON_NULL) {
        return operation_fail(op, "invalid", "tags", "tags must be an object of texts, or null for none");
    }
    if (json_duplicate(op->request, list) >= 0) {
        return operation_fail(op, "invalid", "tags", "a tag is given twice");
    }
    for (int at = json_first(op->request, list); at >= 0; at = json_next(op->request, at)) {
        if (count == TAGS_MOST) {
            return operation_fail(op, "invalid", "tags", "at most %d tags", TAGS_MOST);
        }
        if (!read_tag(op, at, &tags[count++])) {
            return false;
        }
    }
    return write_tags(op, tags, count, out);
}

bool operation_expires(struct operation *op, int64_t *out_wall_ns) {
    char text[64];
    if (!operation_has(op, "expires")) {
        return true;
    }
    if (!operation_sets(op, "expires")) {
        *out_wall_ns = INT64_MAX;
        return true;
    }
    if (!operation_text(op, "expires", text, sizeof text)) {
        return false;
    }
    if (!calendar_parse_future(span_text(text), op->now_wall_ns, out_wall_ns)) {
        return operation_fail(op, "invalid", "expires",
                              "expires must be 30d, 12h, 2027-01-01, an RFC 3339 time, or null for never");
    }
    return *out_wall_ns > op->now_wall_ns || operation_fail(op, "invalid", "expires", "expires must be in the future");
}

bool operation_page(struct operation *op, int64_t *limit, char *after, size_t size) {
    *limit = OPERATION_PAGE_MOST;
    after[0] = '\0';
    if (operation_sets(op, "limit") && (!json_int(op->request, operation_argument(op, "limit"), limit) || *limit < 1 ||
                                        *limit > OPERATION_PAGE_MOST)) {
        return operation_fail(op, "invalid", "limit", "limit must be a whole number from 1 to %d", OPERATION_PAGE_MOST);
    }
    return !operation_sets(op, "after") || operation_text(op, "after", after, size);
}

bool operation_find_tenant(struct operation *op, const char *field, struct tenant *tenant) {
    char name[SHM_NAME_BYTES];
    if (!operation_name(op, field, name)) {
        return false;
    }
    return tenant_find(op->txn, span_text(name), tenant) ||
           operation_fail(op, "not_found", field, "there is no tenant %s: \"tollgate tenant list\" shows them", name);
}
