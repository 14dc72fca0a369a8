#include "worker/endpoint_key.h"

#include "base/calendar.h"
#include "base/clock.h"
#include "base/json_write.h"
#include "worker/budget.h"
#include "worker/limits.h"
#include "worker/reply.h"
#include "worker/worker_state.h"

enum { ANSWER_BYTES_MOST = 1 << 16 };

static const char *const window_names[SHM_WINDOWS] = {"day", "month", "total"};

/* The three rates, the tighter of key and tenant each. */
struct rates {
    const char *names[3];
    struct limits_view views[3];
};

static struct rates rates_of(const struct request *request) {
    return (struct rates){
        .names = {"rpm", "tpm", "concurrent"},
        .views = {limits_view_requests(request), limits_view_tokens(request), limits_view_concurrent(request)}};
}

static void write_count(struct json_writer *writer, const char *name, bool is_limited, int64_t value) {
    if (is_limited) {
        json_write_int(writer, name, value);
    } else {
        json_write_null(writer, name);
    }
}

static void write_money(struct json_writer *writer, const char *name, int64_t nusd) {
    if (nusd >= 0) {
        json_write_nusd(writer, name, nusd);
    } else {
        json_write_null(writer, name);
    }
}

static void write_limits(struct json_writer *writer, const struct rates *rates, const struct budget_view *budgets) {
    json_begin_object(writer, "limits");
    for (int i = 0; i < 3; i++) {
        write_count(writer, rates->names[i], rates->views[i].limit > 0, rates->views[i].limit);
    }
    json_begin_object(writer, "budget_usd");
    for (int window = 0; window < SHM_WINDOWS; window++) {
        write_money(writer, window_names[window], budgets[window].limit_nusd);
    }
    json_end_object(writer);
    json_end_object(writer);
}

static void write_remaining(struct json_writer *writer, const struct rates *rates, const struct budget_view *budgets) {
    json_begin_object(writer, "remaining");
    for (int i = 0; i < 3; i++) {
        write_count(writer, rates->names[i], rates->views[i].limit > 0, rates->views[i].remaining);
    }
    json_begin_object(writer, "budget_usd");
    for (int window = 0; window < SHM_WINDOWS; window++) {
        write_money(writer, window_names[window], budgets[window].left_nusd);
    }
    json_end_object(writer);
    json_end_object(writer);
}

static void write_reset(struct request *request, struct json_writer *writer, const struct rates *rates,
                        const struct budget_view *budgets) {
    json_begin_object(writer, "reset");
    for (int i = 0; i < 2; i++) {
        bool is_limited = rates->views[i].limit > 0;
        json_write_text(writer, rates->names[i],
                        is_limited ? reply_duration_text(request, rates->views[i].reset_ns) : NULL);
    }
    json_begin_object(writer, "budget_usd");
    for (int window = 0; window < SHM_WINDOW_TOTAL; window++) {
        char instant[RFC3339_BYTES] = "";
        if (budgets[window].limit_nusd >= 0) {
            calendar_rfc3339(calendar_next(clock_wall_ns(), window == SHM_WINDOW_DAY ? CALENDAR_DAY : CALENDAR_MONTH),
                             instant);
        }
        json_write_text(writer, window_names[window], instant[0] != '\0' ? instant : NULL);
    }
    json_write_null(writer, window_names[SHM_WINDOW_TOTAL]);
    json_end_object(writer);
    json_end_object(writer);
}

static void write_spend(struct request *request, struct json_writer *writer) {
    const struct shm_account_sh *account = shm_key_account(request->worker->map, request->key_index);
    json_begin_object(writer, "spend_usd");
    for (int window = 0; window < SHM_WINDOWS; window++) {
        json_write_nusd(writer, window_names[window], atomic_load(&account->spend_nusd[window]));
    }
    json_end_object(writer);
}

static void write_credit(struct request *request, struct json_writer *writer) {
    const struct shm_account_sh *tenant = shm_tenant_account(request->worker->map, request->key.tenant_index);
    if (request->tenant.has_credit != 0) {
        json_write_nusd(
            writer, "credit_usd",
            money_add(atomic_load(&tenant->credit_nusd), -atomic_load(&tenant->spend_nusd[SHM_WINDOW_TOTAL])));
    } else {
        json_write_null(writer, "credit_usd");
    }
}

struct verdict endpoint_answer_key(struct request *request) {
    struct buffer body;
    buffer_init(&body, ANSWER_BYTES_MOST);
    struct json_writer writer = json_writer_on(&body);
    struct rates rates = rates_of(request);
    struct budget_view budgets[SHM_WINDOWS];
    for (int window = 0; window < SHM_WINDOWS; window++) {
        budgets[window] = budget_view_of(request, (enum shm_window)window);
    }
    json_begin_object(&writer, NULL);
    json_write_text(&writer, "id", request->key.id);
    json_write_text(&writer, "name", request->key.name[0] != '\0' ? request->key.name : NULL);
    json_write_text(&writer, "tenant", request->tenant.name);
    write_limits(&writer, &rates, budgets);
    write_remaining(&writer, &rates, budgets);
    write_reset(request, &writer, &rates, budgets);
    write_spend(request, &writer);
    write_credit(request, &writer);
    json_end_object(&writer);
    reply_json(request, 200, buffer_span(&body));
    buffer_fini(&body);
    return verdict_of(ERROR_NONE);
}
