#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "admin/admin_api.h"

static struct admin_call *find(const char *method, const char *path) {
    struct admin_call *call = call_new(span_text(method), span_text(path), SPAN_EMPTY);
    assert_non_null(call);
    (void)api_find(call);
    return call;
}

static void test_patterns(void **state) {
    struct span item;
    (void)state;
    assert_true(api_pattern_fits("/a", SPAN_LITERAL("/a"), &item) && item.len == 0);
    assert_false(api_pattern_fits("/a", SPAN_LITERAL("/a/"), &item));
    assert_true(api_pattern_fits("/a/*", SPAN_LITERAL("/a/b"), &item) && span_is(item, "b"));
    assert_false(api_pattern_fits("/a/*", SPAN_LITERAL("/a/"), &item));
    assert_false(api_pattern_fits("/a/*", SPAN_LITERAL("/a/b/c"), &item));
    assert_true(api_pattern_fits("/a/*/c", SPAN_LITERAL("/a/b/c"), &item) && span_is(item, "b"));
    assert_false(api_pattern_fits("/a/*/c", SPAN_LITERAL("/a//c"), &item));
    assert_false(api_pattern_fits("/a/*/c", SPAN_LITERAL("/a/c"), &item));
}

static void test_every_kind_of_path(void **state) {
    static const struct {
        const char *method;
        const char *path;
        const char *operation;
        const char *item;
    } routes[] = {
        {"GET", "/admin/v1/tenants", "tenant.list", NULL},
        {"HEAD", "/admin/v1/tenants", "tenant.list", NULL},
        {"DELETE", "/admin/v1/tenants/acme", "tenant.disable", "acme"},
        {"DELETE", "/admin/v1/keys/key_1", "key.revoke", "key_1"},
        {"POST", "/admin/v1/keys/key_1/rotate", "key.rotate", "key_1"},
        {"POST", "/admin/v1/prices/import", "price.import", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        struct admin_call *call = find(routes[i].method, routes[i].path);
        assert_non_null(call->route);
        assert_string_equal(call->route->operation, routes[i].operation);
        assert_int_equal(call->item == NULL, routes[i].item == NULL);
        if (call->item != NULL) {
            assert_string_equal(call->item, routes[i].item);
        }
        call_free(call);
    }
}

static void test_no_such_path_or_method(void **state) {
    (void)state;
    struct admin_call *call = find("GET", "/admin/v1/nothing");
    assert_null(call->route);
    assert_int_equal(call->status, 404);
    call_free(call);
    call = find("PUT", "/admin/v1/tenants");
    assert_null(call->route);
    assert_int_equal(call->status, 405);
    assert_string_equal(call->extra_value, "GET, POST");
    call_free(call);
}

/* The status that a request's common parts earn; 0: none is wrong. */
static int check(const char *method, const char *path, const char *body, const char *query, const char *type) {
    struct admin_call *call = call_new(span_text(method), span_text(path), span_text(body));
    assert_non_null(call);
    assert_non_null(api_find(call));
    int status = api_check(call, span_text(query), span_text(type)) ? 0 : call->status;
    call_free(call);
    return status;
}

static void test_common_parts(void **state) {
    (void)state;
    assert_int_equal(check("GET", "/admin/v1/tenants", "", "limit=1&after=x", ""), 0);
    assert_int_equal(check("GET", "/admin/v1/tenants", "", "limits=1", ""), 400);
    assert_int_equal(check("GET", "/admin/v1/tenants", "", "limit=%", ""), 400);
    assert_int_equal(check("POST", "/admin/v1/tenants", "{}", "", "application/json"), 0);
    assert_int_equal(check("POST", "/admin/v1/tenants", "{}", "", "Application/JSON ; charset=utf-8"), 0);
    assert_int_equal(check("POST", "/admin/v1/tenants", "{}", "", ""), 415);
    assert_int_equal(check("POST", "/admin/v1/tenants", "{}", "", "text/plain"), 415);
    assert_int_equal(check("POST", "/admin/v1/tenants", "{}", "", "application/jsonp"), 415);
    assert_int_equal(check("POST", "/admin/v1/tenants", "", "", "text/plain"), 415);
    assert_int_equal(check("POST", "/admin/v1/keys/k/enable", "", "", ""), 0);
    assert_int_equal(check("POST", "/admin/v1/keys/k/rotate", "{}", "", "text/plain"), 415);
    assert_int_equal(check("DELETE", "/admin/v1/keys/k", "", "", ""), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_every_kind_of_path),
        cmocka_unit_test(test_no_such_path_or_method),
        cmocka_unit_test(test_common_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
