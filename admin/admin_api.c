#include "admin/admin_api.h"

#include "admin/admin_handlers.h"

enum { OPERATION_MS = 10000, REPORT_MS = 30000 };

#define PAGE "limit after"
#define FILTERS "from to tenant key model upstream tag"

#define OPENED(method_, pattern_, access_, run_)                                                                       \
    { .method = method_, .pattern = pattern_, .access = access_, .lane = LANE_NONE, .run = run_ }
#define OPERATION(method_, pattern_, operation_, item_, queries_)                                                      \
    {                                                                                                                  \
        .method = method_, .pattern = "/admin/v1/" pattern_, .lane = LANE_OPERATIONS, .run = admin_operation,          \
        .operation = operation_, .item_argument = item_, .queries = queries_, .timeout_ms = OPERATION_MS               \
    }
#define REPORT(pattern_, run_, queries_)                                                                               \
    {                                                                                                                  \
        .method = "GET", .pattern = pattern_, .lane = LANE_STORE, .run = run_, .queries = queries_,                    \
        .timeout_ms = REPORT_MS                                                                                        \
    }

static const struct route routes[] = {
    OPENED("GET", "/", ACCESS_PAGE, admin_console),
    OPENED("GET", "/console.css", ACCESS_PAGE, admin_console),
    OPENED("GET", "/console.js", ACCESS_PAGE, admin_console),
    OPENED("GET", "/playground", ACCESS_PAGE, admin_console),
    OPENED("GET", "/playground.js", ACCESS_PAGE, admin_console),
    OPENED("GET", "/playground.json", ACCESS_PAGE, admin_playground),
    OPENED("GET", "/healthz", ACCESS_ANYONE, admin_health),
    OPENED("GET", "/admin/v1/status", ACCESS_TOKEN, admin_status),
    REPORT("/metrics", admin_metrics, NULL),

    OPERATION("GET", "tenants", "tenant.list", NULL, PAGE),
    OPERATION("POST", "tenants", "tenant.create", NULL, ""),
    OPERATION("GET", "tenants/*", "tenant.show", "name", ""),
    OPERATION("PATCH", "tenants/*", "tenant.update", "name", ""),
    OPERATION("DELETE", "tenants/*", "tenant.disable", "name", ""),
    OPERATION("POST", "tenants/*/disable", "tenant.disable", "name", ""),
    OPERATION("POST", "tenants/*/enable", "tenant.enable", "name", ""),

    OPERATION("GET", "keys", "key.list", NULL, PAGE " tenant"),
    OPERATION("POST", "keys", "key.create", NULL, ""),
    OPERATION("GET", "keys/*", "key.show", "key", "tenant"),
    OPERATION("PATCH", "keys/*", "key.update", "key", ""),
    OPERATION("DELETE", "keys/*", "key.revoke", "key", ""),
    OPERATION("POST", "keys/*/rotate", "key.rotate", "key", ""),
    OPERATION("POST", "keys/*/disable", "key.disable", "key", ""),
    OPERATION("POST", "keys/*/enable", "key.enable", "key", ""),
    OPERATION("POST", "keys/*/revoke", "key.revoke", "key", ""),

    OPERATION("GET", "credits", "credit.history", NULL, PAGE " tenant"),
    OPERATION("GET", "credits/*", "credit.history", "tenant", PAGE),
    OPERATION("POST", "credits", "credit.add", NULL, ""),

    OPERATION("GET", "prices", "price.list", NULL, PAGE),
    OPERATION("POST", "prices", "price.set", NULL, ""),
    OPERATION("POST", "prices/import", "price.import", NULL, ""),

    REPORT("/admin/v1/usage", admin_usage, "by " FILTERS),
    REPORT("/admin/v1/requests", admin_requests, PAGE " id " FILTERS),
    REPORT("/admin/v1/requests/*", admin_request, "tenant"),
    REPORT("/v1/organization/usage/completions", admin_openai_usage, NULL),
    REPORT("/v1/organization/costs", admin_openai_costs, NULL),
};
enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

bool api_pattern_fits(const char *pattern, struct span path, struct span *item) {
    const char *star = strchr(pattern, '*');
    *item = SPAN_EMPTY;
    if (star == NULL) {
        return span_is(path, pattern);
    }
    size_t head = (size_t)(star - pattern);
    size_t tail = strlen(star + 1);
    if (path.len <= head + tail || memcmp(path.base, pattern, head) != 0 ||
        memcmp(path.base + path.len - tail, star + 1, tail) != 0) {
        return false;
    }
    *item = span_of(path.base + head, path.len - head - tail);
    return memchr(item->base, '/', item->len) == NULL;
}

/* Adds a method to the value of an Allow header. */
static void add_method(struct buffer *allow, const char *method) {
    buffer_format(allow, "%s%s", allow->len != 0 ? ", " : "", method);
}

static const struct route *refuse(struct admin_call *call, const struct buffer *allow) {
    if (allow->len == 0) {
        call_fail_not_found(call, "There is nothing at this path.");
        return NULL;
    }
    call_fail(call, 405, "invalid_request_error", "method_not_allowed", NULL,
              "This path does not take this method. It takes %s.", buffer_text(allow));
    call->extra_header = "allow";
    call->extra_value = arena_copy_text(&call->arena, buffer_span(allow));
    return NULL;
}

const struct route *api_find(struct admin_call *call) {
    struct buffer allow;
    struct span item;
    buffer_init(&allow, 256);
    const char *method = strcmp(call->method, "HEAD") == 0 ? "GET" : call->method;
    for (int i = 0; i < ROUTES && call->route == NULL; i++) {
        if (!api_pattern_fits(routes[i].pattern, span_text(call->path), &item)) {
            continue;
        }
        if (strcmp(routes[i].method, method) != 0) {
            add_method(&allow, routes[i].method);
            continue;
        }
        call->route = &routes[i];
        call->item = item.len != 0 ? arena_copy_text(&call->arena, item) : NULL;
    }
    const struct route *route = call->route != NULL ? call->route : refuse(call, &allow);
    buffer_fini(&allow);
    return route;
}

static bool is_json_type(struct span content_type) {
    const char *end = content_type.len != 0 ? memchr(content_type.base, ';', content_type.len) : NULL;
    size_t len = end != NULL ? (size_t)(end - content_type.base) : content_type.len;
    return span_is_nocase(span_trim(span_of(content_type.base, len)), "application/json");
}

static bool check_body(struct admin_call *call, struct span content_type) {
    bool writes = strcmp(call->method, "POST") == 0 || strcmp(call->method, "PATCH") == 0;
    bool has_body = call->body.len != 0;
    if (!has_body && (!writes || call->route->item_argument != NULL)) {
        return true; /* nothing to say but what the path says */
    }
    if (!is_json_type(content_type)) {
        call_fail(call, 415, "invalid_request_error", "unsupported_media_type", NULL,
                  "Send the body as content-type: application/json.");
        return false;
    }
    return true;
}

bool api_check(struct admin_call *call, struct span query, struct span content_type) {
    if (!query_parse(query, &call->arena, &call->query)) {
        call_fail_invalid(call, NULL, "The query is not a list of NAME=VALUE with sound %%-escapes.");
        return false;
    }
    const char *names = call->route->queries;
    const char *wrong = names != NULL ? query_unexpected(&call->query, names) : NULL;
    if (wrong != NULL) {
        call_fail_invalid(call, wrong, "The query field %s is unknown here or given twice. This path takes: %s.", wrong,
                          names[0] != '\0' ? names : "none");
        return false;
    }
    return check_body(call, content_type);
}
