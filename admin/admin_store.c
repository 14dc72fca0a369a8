#include "admin/admin_store.h"

#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/client.h"

enum { ERROR_BYTES = 4096, FLUSH_BYTES = 64 << 10, MESSAGE_BYTES = 4096 };
static const int64_t patience_ns = 3 * NS_PER_S;

struct ledger *store_ledger(struct admin_tools *tools, struct buffer *error) {
    if (tools->ledger == NULL) {
        tools->ledger = ledger_open(tools->conf->state_dir, LEDGER_READ, error);
    }
    return tools->ledger;
}

void store_failed(struct admin_call *call, struct admin_tools *tools, const struct buffer *error) {
    ledger_close(tools->ledger);
    tools->ledger = NULL;
    LOG(LOG_WARN, "admin_read_failed", log_span("why", buffer_span(error)));
    call_fail_unavailable(call, "The ledger cannot be read at the moment; the log says why. Try again.");
}

/* --- failures of the ledger process --- */

static void fail_as(struct admin_call *call, const struct json_doc *doc, const char *field, const char *message) {
    int kind = json_member(doc, json_member(doc, 0, "error"), "kind");
    if (json_string_is(doc, kind, "not_found")) {
        call_fail(call, 404, "invalid_request_error", "not_found", field, "%s", message);
    } else if (json_string_is(doc, kind, "conflict")) {
        call_fail(call, 409, "invalid_request_error", "conflict", field, "%s", message);
    } else if (json_string_is(doc, kind, "invalid")) {
        call_fail(call, 400, "invalid_request_error", "invalid_value", field, "%s", message);
    } else {
        call_fail_unavailable(call, message);
    }
}

static void fail_from_answer(struct admin_call *call, const struct json_doc *doc) {
    char field[64];
    char message[MESSAGE_BYTES];
    int error = json_member(doc, 0, "error");
    bool has_field = json_string_copy(doc, json_member(doc, error, "field"), field, sizeof(field));
    bool has_message = json_string_copy(doc, json_member(doc, error, "message"), message, sizeof(message));
    fail_as(call, doc, has_field ? field : NULL, has_message ? message : "The ledger refused without saying why.");
}

/* A ledger that is being replaced is back within moments. */
static struct client *connect_patiently(const char *state_dir, struct buffer *error) {
    const struct timespec pause = {.tv_nsec = 50 * NS_PER_MS};
    int64_t until_mono_ns = clock_mono_ns() + patience_ns;
    struct client *client = client_connect(state_dir, error);
    while (client == NULL && clock_mono_ns() < until_mono_ns) {
        (void)nanosleep(&pause, NULL);
        buffer_clear(error);
        client = client_connect(state_dir, error);
    }
    return client;
}

static bool ask_ledger(struct admin_call *call, const struct admin_tools *tools, struct span request,
                       struct buffer *answer) {
    struct buffer error;
    buffer_init(&error, ERROR_BYTES);
    struct client *client = connect_patiently(tools->conf->state_dir, &error);
    if (client == NULL) {
        LOG(LOG_WARN, "admin_no_ledger", log_span("why", buffer_span(&error)));
        call_fail_unavailable(call, "The ledger is not there at the moment. Try again.");
    } else {
        (void)client_call(client, request, answer); /* the answer itself says how it went */
        client_close(client);
    }
    buffer_fini(&error);
    return client != NULL;
}

int store_operation(struct admin_call *call, const struct admin_tools *tools, struct span request,
                    struct buffer *answer, struct json_doc *doc) {
    if (!ask_ledger(call, tools, request, answer)) {
        return -1;
    }
    if (answer->failed || !json_parse(doc, buffer_span(answer))) {
        call_fail_unavailable(call, "The ledger's answer cannot be understood. Try again, asking for less at a time.");
        return -1;
    }
    int result = json_member(doc, 0, "result");
    if (json_type_of(doc, json_member(doc, 0, "ok")) != JSON_TRUE || result < 0) {
        fail_from_answer(call, doc);
        return -1;
    }
    return result;
}

struct ledger *store_current(struct admin_call *call, struct admin_tools *tools) {
    struct json_doc doc;
    struct buffer text;
    struct ledger *ledger = NULL;
    json_doc_init(&doc);
    buffer_init(&text, FLUSH_BYTES);
    bool flushed = store_operation(call, tools, SPAN_LITERAL("{\"op\":\"flush\"}"), &text, &doc) >= 0;
    json_doc_fini(&doc);
    buffer_fini(&text);
    if (!flushed) {
        return NULL;
    }
    buffer_init(&text, ERROR_BYTES);
    ledger = store_ledger(tools, &text);
    if (ledger == NULL) {
        store_failed(call, tools, &text);
    }
    buffer_fini(&text);
    return ledger;
}
