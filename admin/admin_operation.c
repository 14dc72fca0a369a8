/* Requests that are one operation of the ledger: tenants, keys, credit, prices. */
#include <stdio.h>

#include "admin/admin_api.h"
#include "admin/admin_handlers.h"
#include "admin/admin_store.h"
#include "base/json_write.h"

enum { REQUEST_BYTES_MOST = 2 << 20, ANSWER_BYTES_MOST = 33 << 20, PAGE_FIRST = 100, PAGE_MOST = 1000 };

/* Operations that know no pages; theirs are cut here, `after` being how many rows came before. */
static bool lists_without_pages(const struct route *route) {
    return strcmp(route->operation, "credit.history") == 0 || strcmp(route->operation, "price.list") == 0;
}

static bool read_limit(struct admin_call *call, int64_t *limit) {
    const char *text = query_get(&call->query, "limit");
    *limit = PAGE_FIRST;
    if (text != NULL && (!query_int(text, limit) || *limit < 1 || *limit > PAGE_MOST)) {
        call_fail_invalid(call, "limit", "limit must be a whole number from 1 to %d.", PAGE_MOST);
        return false;
    }
    return true;
}

/* Query fields become arguments: those of a list by their names. */
static void write_query(const struct admin_call *call, int64_t limit, struct json_writer *json) {
    bool pages = !lists_without_pages(call->route);
    for (int i = 0; i < call->query.count; i++) {
        const struct query_field *field = &call->query.fields[i];
        if (strcmp(field->name, "limit") != 0 && (pages || strcmp(field->name, "after") != 0)) {
            json_write_text(json, field->name, field->value);
        }
    }
    if (pages && strstr(call->route->operation, ".list") != NULL) {
        json_write_int(json, "limit", limit);
    }
}

/* The body's members become arguments. What the path says, the body may not say again. */
static bool write_body(struct admin_call *call, struct json_writer *json) {
    struct json_doc doc;
    char name[64];
    bool good = true;
    json_doc_init(&doc);
    if (!json_parse(&doc, call->body)) {
        call_fail(call, 400, "invalid_request_error", "invalid_json", NULL, "The body is not JSON: %s at byte %zu.",
                  doc.error, doc.error_at);
        good = false;
    } else if (json_type_of(&doc, 0) != JSON_OBJECT) {
        call_fail(call, 400, "invalid_request_error", "invalid_json", NULL, "The body must be a JSON object.");
        good = false;
    }
    for (int at = good ? json_first(&doc, 0) : -1; at >= 0 && good; at = json_next(&doc, at)) {
        const char *taken = call->route->item_argument;
        if (!json_string_copy(&doc, at, name, sizeof(name))) {
            call_fail_invalid(call, NULL, "The body has a field whose name is too long.");
            good = false;
        } else if (strcmp(name, "op") == 0 || (taken != NULL && strcmp(name, taken) == 0)) {
            call_fail_invalid(call, name, "This path does not take %s in its body.", name);
            good = false;
        } else {
            json_write_raw(json, name, json_raw(&doc, json_value_of(&doc, at)));
        }
    }
    json_doc_fini(&doc);
    return good;
}

static bool write_request(struct admin_call *call, int64_t limit, struct buffer *request) {
    struct json_writer json = json_writer_on(request);
    json_begin_object(&json, NULL);
    json_write_text(&json, "op", call->route->operation);
    if (call->item != NULL) {
        json_write_text(&json, call->route->item_argument, call->item);
    }
    write_query(call, limit, &json);
    if (call->body.len != 0 && !write_body(call, &json)) {
        return false;
    }
    json_end_object(&json);
    return true;
}

/* --- answers --- */

/* What `after` of the next page is: the last row's name or id. */
static void write_next(struct json_writer *json, const struct json_doc *doc, int last, bool has_more) {
    int id = json_member(doc, last, "id");
    int next = id >= 0 ? id : json_member(doc, last, "name");
    if (has_more && next >= 0) {
        json_write_raw(json, "next_after", json_raw(doc, next));
    } else {
        json_write_null(json, "next_after");
    }
}

static void answer_page(struct admin_call *call, const struct json_doc *doc, int result) {
    struct json_writer json = json_writer_on(&call->answer);
    bool has_more = json_type_of(doc, json_member(doc, result, "has_more")) == JSON_TRUE;
    int data = json_member(doc, result, "data");
    int last = -1;
    for (int row = json_first(doc, data); row >= 0; row = json_next(doc, row)) {
        last = row;
    }
    json_begin_object(&json, NULL);
    json_write_text(&json, "object", "list");
    json_write_raw(&json, "data", json_raw(doc, data));
    json_write_bool(&json, "has_more", has_more);
    write_next(&json, doc, last, has_more);
    json_end_object(&json);
    call_done(call, 200);
}

/* A page out of a whole list. */
static void answer_cut(struct admin_call *call, const struct json_doc *doc, int result, int64_t limit) {
    const char *text = query_get(&call->query, "after");
    char next[32];
    int64_t skip = 0;
    int64_t at = 0;
    if (text != NULL && !query_int(text, &skip)) {
        call_fail_invalid(call, "after", "after must be the next_after of the page before.");
        return;
    }
    int data = json_member(doc, result, "data");
    struct json_writer json = json_writer_on(&call->answer);
    json_begin_object(&json, NULL);
    json_write_text(&json, "object", "list");
    json_begin_array(&json, "data");
    for (int row = json_first(doc, data); row >= 0; row = json_next(doc, row), at++) {
        if (at >= skip && at - skip < limit) {
            json_write_raw(&json, NULL, json_raw(doc, row));
        }
    }
    json_end_array(&json);
    bool has_more = at > skip && at - skip > limit;
    json_write_bool(&json, "has_more", has_more);
    (void)snprintf(next, sizeof(next), "%lld", (long long)(skip + limit));
    json_write_text(&json, "next_after", has_more ? next : NULL);
    json_end_object(&json);
    call_done(call, 200);
}

/* Something new was made: 201. Credit whose reference was booked before is not new. */
static int status_of(const struct admin_call *call, const struct json_doc *doc, int result) {
    const char *operation = call->route->operation;
    bool makes =
        strcmp(operation, "tenant.create") == 0 || strcmp(operation, "key.create") == 0 ||
        strcmp(operation, "price.set") == 0 ||
        (strcmp(operation, "credit.add") == 0 && json_type_of(doc, json_member(doc, result, "applied")) == JSON_TRUE);
    return makes ? 201 : 200;
}

static void answer(struct admin_call *call, const struct json_doc *doc, int result, int64_t limit) {
    if (lists_without_pages(call->route)) {
        answer_cut(call, doc, result, limit);
    } else if (strstr(call->route->operation, ".list") != NULL) {
        answer_page(call, doc, result);
    } else {
        buffer_append_span(&call->answer, json_raw(doc, result));
        call_done(call, status_of(call, doc, result));
    }
}

/* What was made, for the log. */
static void note_item(struct admin_call *call, const struct json_doc *doc, int result) {
    static const char *const names[] = {"id", "name", "tenant", "model"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && call->item == NULL; i++) {
        call->item = json_string_arena(doc, json_member(doc, result, names[i]), &call->arena);
    }
}

/* A new key stands in here. */
static void wipe(struct buffer *buffer) {
    if (buffer->base != NULL) {
        explicit_bzero(buffer->base, buffer->size);
    }
    buffer_fini(buffer);
}

void admin_operation(struct admin_call *call, struct admin_tools *tools) {
    struct json_doc doc;
    struct buffer request;
    struct buffer text;
    int64_t limit = 0;
    json_doc_init(&doc);
    buffer_init(&request, REQUEST_BYTES_MOST);
    buffer_init(&text, ANSWER_BYTES_MOST);
    if (read_limit(call, &limit) && write_request(call, limit, &request)) {
        int result = store_operation(call, tools, buffer_span(&request), &text, &doc);
        if (result >= 0) {
            note_item(call, &doc, result);
            answer(call, &doc, result, limit);
        }
    }
    wipe(&text);
    wipe(&request);
    json_doc_fini(&doc);
}
