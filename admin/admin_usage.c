/* The usage report and single requests. */
#include <stdio.h>

#include "admin/admin_api.h"
#include "admin/admin_handlers.h"
#include "admin/admin_store.h"
#include "base/calendar.h"
#include "base/clock.h"
#include "base/json_write.h"
#include "store/report.h"

enum { ERROR_BYTES = 4096, ANSWER_BYTES = 64 << 10, TAG_NAME_BYTES = 64, KEY_ID_BYTES = 64 };
enum { REQUESTS_FIRST = 100, REQUESTS_MOST = 1000, PAGE_BYTES_MOST = 16 << 20 };

/* `after` of the next page of requests: ids are unique per tenant only, commit numbers are unique. */
static const char after_prefix[] = "seq:";

/* A filter and the texts it points to. */
struct usage_filter {
    struct report_filter report;
    char tag_name[TAG_NAME_BYTES];
    char key_id[KEY_ID_BYTES];
};

/* An alias stands for the model it leads to. */
static const char *resolve_model(const struct conf *conf, const char *name) {
    int model = name != NULL ? conf_model_index(conf, span_text(name)) : -1;
    int target = model >= 0 && conf->models[model].alias >= 0 ? conf_model_resolve(conf, model) : -1;
    return target >= 0 ? conf->models[target].name : name;
}

static bool read_tag(struct admin_call *call, struct usage_filter *filter) {
    const char *tag = query_get(&call->query, "tag");
    const char *equals = tag != NULL ? strchr(tag, '=') : NULL;
    if (tag == NULL) {
        return true;
    }
    if (equals == NULL ||
        !span_copy(span_of(tag, (size_t)(equals - tag)), filter->tag_name, sizeof(filter->tag_name))) {
        call_fail_invalid(call, "tag", "tag must be NAME=VALUE, with its '=' written as %%3D.");
        return false;
    }
    filter->report.tag_name = filter->tag_name;
    filter->report.tag_value = equals + 1;
    return true;
}

static bool read_time(struct admin_call *call, const char *field, int64_t now_wall_ns, int64_t *out) {
    const char *text = query_get(&call->query, field);
    if (text == NULL || calendar_parse(span_text(text), now_wall_ns, out)) {
        return true;
    }
    call_fail_invalid(call, field, "%s must be like 30d or 12h (ago), 2026-11-21, or RFC 3339.", field);
    return false;
}

/* The id of the key that `key` names. */
static bool resolve_key(struct admin_call *call, const struct admin_tools *tools, struct usage_filter *filter) {
    const char *key = query_get(&call->query, "key");
    struct buffer text;
    struct buffer answer;
    struct json_doc doc;
    if (key == NULL) {
        return true;
    }
    json_doc_init(&doc);
    buffer_init(&text, ANSWER_BYTES);
    buffer_init(&answer, ANSWER_BYTES);
    struct json_writer json = json_writer_on(&text);
    json_begin_object(&json, NULL);
    json_write_text(&json, "op", "key.show");
    json_write_text(&json, "key", key);
    if (query_get(&call->query, "tenant") != NULL) {
        json_write_text(&json, "tenant", query_get(&call->query, "tenant"));
    }
    json_end_object(&json);
    int result = store_operation(call, tools, buffer_span(&text), &answer, &doc);
    bool found = result >= 0 && json_string_copy(&doc, json_member(&doc, result, "id"), filter->key_id, KEY_ID_BYTES);
    if (result >= 0 && !found) {
        call_fail_unavailable(call, "The ledger's answer names no key.");
    }
    filter->report.key = filter->key_id;
    buffer_fini(&answer);
    buffer_fini(&text);
    json_doc_fini(&doc);
    return found;
}

static bool read_filter(struct admin_call *call, const struct admin_tools *tools, struct usage_filter *filter) {
    int64_t now_wall_ns = clock_wall_ns();
    *filter = (struct usage_filter){.report = {.from_wall_ns = 0, .to_wall_ns = INT64_MAX}};
    filter->report.tenant = query_get(&call->query, "tenant");
    filter->report.model = resolve_model(tools->conf, query_get(&call->query, "model"));
    filter->report.upstream = query_get(&call->query, "upstream");
    if (!read_tag(call, filter) || !read_time(call, "from", now_wall_ns, &filter->report.from_wall_ns) ||
        !read_time(call, "to", now_wall_ns, &filter->report.to_wall_ns)) {
        return false;
    }
    if (filter->report.from_wall_ns > filter->report.to_wall_ns) {
        call_fail_invalid(call, "from", "from is later than to.");
        return false;
    }
    return resolve_key(call, tools, filter);
}

/* --- usage --- */

/* Without `from`: this month, or the month `to` ends in when that is earlier. Without `to`: up to now. */
static bool set_default_times(struct admin_call *call, struct report_filter *filter) {
    int64_t now_wall_ns = clock_wall_ns();
    if (query_get(&call->query, "to") == NULL) {
        filter->to_wall_ns = now_wall_ns + 1;
    }
    if (query_get(&call->query, "from") == NULL) {
        int64_t end = filter->to_wall_ns <= now_wall_ns ? filter->to_wall_ns - 1 : now_wall_ns;
        filter->from_wall_ns = calendar_floor(end, CALENDAR_MONTH);
    }
    if (filter->from_wall_ns > filter->to_wall_ns) {
        call_fail_invalid(call, "from", "from is later than to.");
        return false;
    }
    return true;
}

static bool read_groups(struct admin_call *call, struct report_group groups[static REPORT_GROUPS_MOST], int *count) {
    const char *by = query_get(&call->query, "by");
    struct buffer error;
    buffer_init(&error, ERROR_BYTES);
    *count = report_parse_groups(span_text(by != NULL ? by : "day"), groups, &error);
    if (*count < 0) {
        call_fail_invalid(call, "by", "by: %s", buffer_text(&error));
    }
    buffer_fini(&error);
    return *count >= 0;
}

void admin_usage(struct admin_call *call, struct admin_tools *tools) {
    struct report_currency currency = {tools->conf->currency_code, tools->conf->currency_per_usd_billionths};
    struct report_group groups[REPORT_GROUPS_MOST];
    struct usage_filter filter;
    struct buffer error;
    int group_count = 0;
    if (!read_groups(call, groups, &group_count) || !read_filter(call, tools, &filter)) {
        return;
    }
    struct ledger *ledger = store_current(call, tools);
    if (ledger == NULL || !set_default_times(call, &filter.report)) {
        return;
    }
    buffer_init(&error, ERROR_BYTES);
    if (report_usage_json(ledger, &filter.report, groups, group_count, &currency, &call->answer, &error)) {
        call_done(call, 200);
    } else {
        store_failed(call, tools, &error);
    }
    buffer_fini(&error);
}

/* --- requests --- */

/* Visitor that takes the first record of an id. */
struct sequence_search {
    const char *tenant;
    uint64_t sequence;
};

static bool on_named(void *context, const struct ledger_record *record) {
    struct sequence_search *search = context;
    if (search->tenant == NULL || strcmp(search->tenant, record->tenant) == 0) {
        search->sequence = record->sequence;
    }
    return search->sequence == 0;
}

/* `after` is the next_after of the page before, or a request's id. */
static bool read_after(struct admin_call *call, struct admin_tools *tools, struct ledger *ledger, uint64_t *sequence) {
    const char *text = query_get(&call->query, "after");
    struct sequence_search search = {.tenant = query_get(&call->query, "tenant")};
    struct buffer error;
    int64_t number = 0;
    *sequence = 0;
    if (text == NULL) {
        return true;
    }
    if (strncmp(text, after_prefix, strlen(after_prefix)) == 0 && query_int(text + strlen(after_prefix), &number)) {
        *sequence = (uint64_t)number;
        return true;
    }
    buffer_init(&error, ERROR_BYTES);
    bool read = ledger_each_record_with_id(ledger, text, on_named, &search, &error);
    if (!read) {
        store_failed(call, tools, &error);
    } else if (search.sequence == 0) {
        call_fail_invalid(call, "after", "after names no request; take the next_after of the page before.");
    }
    buffer_fini(&error);
    *sequence = search.sequence;
    return read && search.sequence != 0;
}

static bool read_limit(struct admin_call *call, int64_t *limit) {
    const char *text = query_get(&call->query, "limit");
    *limit = REQUESTS_FIRST;
    if (text == NULL || (query_int(text, limit) && *limit >= 1 && *limit <= REQUESTS_MOST)) {
        return true;
    }
    call_fail_invalid(call, "limit", "limit must be a whole number from 1 to %d.", REQUESTS_MOST);
    return false;
}

/* Is there one more that fits, below this sequence? */
static bool has_more(struct ledger *ledger, const struct report_filter *filter, uint64_t below, bool *more,
                     struct buffer *error) {
    struct buffer one;
    uint64_t last = 0;
    buffer_init(&one, ANSWER_BYTES);
    bool read = report_requests_json(ledger, filter, NULL, 1, below, &last, &one, error);
    *more = last != 0 && one.len > 2;
    buffer_fini(&one);
    return read;
}

static int count_rows(struct span page) {
    struct json_doc doc;
    json_doc_init(&doc);
    int count = json_parse(&doc, page) ? json_size(&doc, 0) : 0;
    json_doc_fini(&doc);
    return count;
}

static void write_page(struct admin_call *call, struct span page, bool more, uint64_t last) {
    char next[32];
    struct json_writer json = json_writer_on(&call->answer);
    (void)snprintf(next, sizeof(next), "%s%llu", after_prefix, (unsigned long long)last);
    json_begin_object(&json, NULL);
    json_write_text(&json, "object", "list");
    json_write_raw(&json, "data", page);
    json_write_bool(&json, "has_more", more);
    json_write_text(&json, "next_after", more ? next : NULL);
    json_end_object(&json);
    call_done(call, 200);
}

static void list_requests(struct admin_call *call, struct admin_tools *tools, const struct usage_filter *filter,
                          int64_t limit) {
    const char *id = query_get(&call->query, "id");
    struct buffer page;
    struct buffer error;
    uint64_t after = 0;
    uint64_t last = 0;
    bool more = false;
    struct ledger *ledger = store_current(call, tools);
    if (ledger == NULL || !read_after(call, tools, ledger, &after)) {
        return;
    }
    buffer_init(&page, PAGE_BYTES_MOST);
    buffer_init(&error, ERROR_BYTES);
    bool read = report_requests_json(ledger, &filter->report, id, limit, after, &last, &page, &error);
    if (read && id == NULL && count_rows(buffer_span(&page)) == limit) {
        read = has_more(ledger, &filter->report, last, &more, &error);
    }
    if (read) {
        write_page(call, buffer_span(&page), more, last);
    } else {
        store_failed(call, tools, &error);
    }
    buffer_fini(&error);
    buffer_fini(&page);
}

void admin_requests(struct admin_call *call, struct admin_tools *tools) {
    struct usage_filter filter;
    int64_t limit = 0;
    if (read_limit(call, &limit) && read_filter(call, tools, &filter)) {
        list_requests(call, tools, &filter, limit);
    }
}

/* Visitor that writes the records of an id. */
struct request_search {
    const char *tenant;
    struct buffer *out;
    int count;
};

static bool on_record(void *context, const struct ledger_record *record) {
    struct request_search *search = context;
    if (search->tenant == NULL || strcmp(search->tenant, record->tenant) == 0) {
        buffer_clear(search->out);
        report_write_record(search->out, record);
        search->count++;
    }
    return true;
}

void admin_request(struct admin_call *call, struct admin_tools *tools) {
    struct request_search search = {.tenant = query_get(&call->query, "tenant"), .out = &call->answer};
    struct buffer error;
    struct ledger *ledger = store_current(call, tools);
    if (ledger == NULL) {
        return;
    }
    buffer_init(&error, ERROR_BYTES);
    if (!ledger_each_record_with_id(ledger, call->item, on_record, &search, &error)) {
        store_failed(call, tools, &error);
    } else if (search.count == 0) {
        call_fail_not_found(call,
                            "There is no such request: it may still run, be older than retention, or have been refused "
                            "before it reached an upstream.");
    } else if (search.count > 1) {
        call_fail(call, 409, "invalid_request_error", "conflict", "tenant",
                  "Several tenants have a request of this id: add ?tenant=NAME.");
    } else {
        call_done(call, 200);
    }
    buffer_fini(&error);
}
