#include "worker/budget.h"

#include "base/calendar.h"
#include "base/clock.h"
#include "shm/shm_balance.h"
#include "worker/settle.h"
#include "worker/worker_state.h"

enum {
    LEVELS = 2,                    /* key, tenant */
    UNKNOWN_OUTPUT_TOKENS = 32768, /* worst case of an answer whose model does not say */
    RESERVE_TRIES = 16,
};

/* Within which the ledger has turned a day or month (store/ledger_process.c looks each second). */
#define TURN_NS (2 * NS_PER_S)

static const char *const level_names[LEVELS] = {"key", "tenant"};
static const char *const window_names[SHM_WINDOWS] = {"day", "month", "total"};

static struct shm_account_sh *account_of(const struct request *request, int level) {
    const struct shm_map *map = request->worker->map;
    return level == 0 ? shm_key_account(map, request->key_index) : shm_tenant_account(map, request->key.tenant_index);
}

/* The limit of one level and window, -1: none. Credit counts as a limit on all that the tenant ever spends. */
static int64_t limit_of(const struct request *request, int level, int window) {
    const struct shm_limits_sh *limits = level == 0 ? &request->key.limits : &request->tenant.limits;
    int64_t limit = limits->budget_nusd[window];
    if (level == 1 && window == SHM_WINDOW_TOTAL && request->tenant.has_credit != 0) {
        int64_t credit = atomic_load(&account_of(request, level)->credit_nusd);
        credit = credit > 0 ? credit : 0;
        limit = limit < 0 || credit < limit ? credit : limit;
    }
    return limit;
}

bool budget_applies(const struct request *request) {
    for (int level = 0; level < LEVELS; level++) {
        for (int window = 0; window < SHM_WINDOWS; window++) {
            if (limit_of(request, level, window) >= 0) {
                return true;
            }
        }
    }
    return false;
}

static int64_t taken_nusd(const struct request *request, int level, int window) {
    struct balance now = shm_balance_read(&account_of(request, level)->balances[window]);
    return money_add(now.spent_nusd, now.held_nusd);
}

/* What one limit leaves to be held; INT64_MAX where there is none. */
static int64_t left_of(const struct request *request, int level, int window) {
    int64_t limit = limit_of(request, level, window);
    int64_t left = limit < 0 ? INT64_MAX : limit - taken_nusd(request, level, window);
    return left > 0 ? left : 0;
}

/* What may still be held, by the tightest limit; INT64_MAX without one. */
static int64_t available_nusd(const struct request *request) {
    int64_t least = INT64_MAX;
    for (int at = 0; at < LEVELS * SHM_WINDOWS; at++) {
        int64_t left = left_of(request, at / SHM_WINDOWS, at % SHM_WINDOWS);
        least = left < least ? left : least;
    }
    return least;
}

/* When a limit frees what is needed: at the end of its window, or never. */
static int freeing_rank(const struct request *request, int level, int window, int64_t need_nusd) {
    int64_t whole_nusd = money_add(need_nusd, request->shared != NULL ? request->shared->held_nusd : 0);
    return limit_of(request, level, window) < whole_nusd ? SHM_WINDOW_TOTAL : window;
}

/* Of the limits that leave less than is needed the one that frees last (level x windows + window): until then another
 * try is refused too. -1: none. */
static int find_last_to_free(const struct request *request, int64_t need_nusd) {
    int found = -1;
    int latest = -1;
    for (int at = 0; at < LEVELS * SHM_WINDOWS; at++) {
        int rank = freeing_rank(request, at / SHM_WINDOWS, at % SHM_WINDOWS, need_nusd);
        if (left_of(request, at / SHM_WINDOWS, at % SHM_WINDOWS) < need_nusd && rank > latest) {
            found = at;
            latest = rank;
        }
    }
    return found;
}

struct budget_view budget_view_of(const struct request *request, enum shm_window window) {
    struct budget_view view = {.limit_nusd = -1, .left_nusd = -1};
    for (int level = 0; level < LEVELS; level++) {
        int64_t limit = limit_of(request, level, (int)window);
        int64_t left = limit - taken_nusd(request, level, (int)window);
        left = left > 0 ? left : 0;
        if (limit >= 0 && (view.limit_nusd < 0 || left < view.left_nusd)) {
            view = (struct budget_view){limit, left};
        }
    }
    return view;
}

static void give_back(const struct request *request, int count, int64_t amount_nusd) {
    for (int at = 0; at < count; at++) {
        shm_balance_release(&account_of(request, at / SHM_WINDOWS)->balances[at % SHM_WINDOWS], amount_nusd);
    }
}

/* Holds `amount` more everywhere, or nowhere. */
static bool hold_more(struct request *request, int64_t amount_nusd) {
    for (int at = 0; at < LEVELS * SHM_WINDOWS; at++) {
        int64_t limit = limit_of(request, at / SHM_WINDOWS, at % SHM_WINDOWS);
        if (!shm_balance_reserve(&account_of(request, at / SHM_WINDOWS)->balances[at % SHM_WINDOWS], limit,
                                 amount_nusd)) {
            give_back(request, at, amount_nusd);
            return false;
        }
    }
    request->shared->held_nusd += amount_nusd;
    return true;
}

/* Holds `wanted` more, or as much of it as there is. Others take at the same time: what was left a moment ago may not
 * be, though something is. */
static void hold_what_is_left(struct request *request, int64_t wanted_nusd) {
    for (int tries = 0; tries < RESERVE_TRIES; tries++) {
        int64_t left_nusd = available_nusd(request);
        int64_t more_nusd = wanted_nusd < left_nusd ? wanted_nusd : left_nusd;
        if (more_nusd <= 0 || hold_more(request, more_nusd)) {
            return;
        }
    }
}

static int64_t price_nusd(const struct request *request, int64_t input_tokens, int64_t output_tokens) {
    const struct shm_usage_record_sh *record = &request->shared->record;
    const struct token_counts counts = {.input_tokens = input_tokens, .output_tokens = output_tokens};
    return money_of_tokens(&record->price, &counts, record->markup);
}

/* The most output tokens whose price, with the prompt's, stays within `amount`. */
static int64_t affordable_tokens(const struct request *request, int64_t amount_nusd, int64_t most_tokens) {
    int64_t low = 0;
    int64_t high = most_tokens;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (price_nusd(request, request->chat.prompt_tokens, middle) <= amount_nusd) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

/* The verdict of who needs more than there is. */
static struct verdict refuse(const struct request *request, int64_t need_nusd) {
    int refusing = find_last_to_free(request, need_nusd);
    if (refusing < 0) { /* others gave back what they had held meanwhile */
        struct verdict again = verdict_with(ERROR_insufficient_quota, NULL,
                                            "What is left of the budget is held by other requests. Try again.");
        again.retry_after_ms = 1000;
        return again;
    }
    int window = refusing % SHM_WINDOWS;
    int level = refusing / SHM_WINDOWS;
    int64_t left_nusd = left_of(request, level, window);
    char left[NUSD_TEXT_BYTES];
    char limit[NUSD_TEXT_BYTES];
    (void)money_format_short(left_nusd, left);
    (void)money_format_short(limit_of(request, level, window), limit);
    int64_t now_wall_ns = clock_wall_ns();
    struct verdict verdict;
    if (window != SHM_WINDOW_TOTAL && freeing_rank(request, level, window, need_nusd) == SHM_WINDOW_TOTAL) {
        verdict = verdict_with(ERROR_insufficient_quota, NULL,
                               "This request may cost more than the whole %s budget of this %s: %s USD of %s USD is "
                               "left. Ask for a shorter answer.",
                               window_names[window], level_names[level], left, limit);
        verdict.do_not_retry = true;
        return verdict;
    }
    if (window == SHM_WINDOW_TOTAL) {
        verdict = verdict_with(
            ERROR_insufficient_quota, NULL,
            "The budget or credit of this %s is used up: %s USD of %s USD is left. It does not reset; ask for more.",
            level_names[level], left, limit);
        verdict.do_not_retry = true;
        return verdict;
    }
    /* The ledger turns the windows a moment after the border: just after it the old one may still refuse. */
    int64_t resets_wall_ns =
        calendar_next(now_wall_ns - TURN_NS, window == SHM_WINDOW_DAY ? CALENDAR_DAY : CALENDAR_MONTH);
    char resets[RFC3339_BYTES];
    calendar_rfc3339(resets_wall_ns, resets);
    verdict = verdict_with(ERROR_insufficient_quota, NULL,
                           "The %s budget of this %s is used up: %s USD of %s USD is left. It resets at %s.",
                           window_names[window], level_names[level], left, limit, resets);
    verdict.retry_after_ms = (resets_wall_ns + TURN_NS - now_wall_ns + NS_PER_MS - 1) / NS_PER_MS;
    verdict.do_not_retry = verdict.retry_after_ms > 120000;
    return verdict;
}

struct verdict budget_peek(const struct request *request) {
    return available_nusd(request) > 0 ? verdict_of(ERROR_NONE) : refuse(request, 1);
}

static int64_t slice_tokens(const struct request *request) {
    int64_t slice = request->worker->conf->streams.reserve_slice_tokens;
    int64_t cap = request->chat.max_tokens;
    return (cap > 0 && cap < slice ? cap : slice) * request->chat.choices;
}

int64_t budget_worst_case_tokens(const struct request *request) {
    if (request->form == CLIENT_EMBEDDINGS) {
        return 0;
    }
    const struct conf_model *model = &request->worker->conf->models[request->attempt.model];
    int64_t most = model->max_output_tokens > 0 ? model->max_output_tokens : UNKNOWN_OUTPUT_TOKENS;
    int64_t cap = request->chat.max_tokens;
    return (cap > 0 && (cap < most || model->max_output_tokens == 0) ? cap : most) * request->chat.choices;
}

/* Does a hold of less than all it wants do? A stream ends when the money does; an answer that does not stream can be
 * given a cap unless its client named one. */
static bool may_shorten(const struct request *request) { return request->stream || request->chat.max_tokens == 0; }

struct verdict budget_cover(struct request *request) {
    request->budget_max_tokens = 0;
    if (!budget_applies(request)) {
        return verdict_of(ERROR_NONE);
    }
    int64_t wanted_tokens = request->stream ? slice_tokens(request) : budget_worst_case_tokens(request);
    int64_t least_tokens = may_shorten(request) && wanted_tokens > 0 ? request->chat.choices : wanted_tokens;
    for (int tries = 0; tries < RESERVE_TRIES; tries++) {
        int64_t held_nusd = request->shared->held_nusd;
        int64_t left_nusd = available_nusd(request);
        int64_t tokens = affordable_tokens(request, money_add(left_nusd, held_nusd), wanted_tokens);
        int64_t need_nusd = price_nusd(request, request->chat.prompt_tokens, tokens);
        if (tokens < least_tokens || need_nusd > money_add(left_nusd, held_nusd)) {
            break;
        }
        if (need_nusd <= held_nusd || hold_more(request, need_nusd - held_nusd)) {
            bool capped = !request->stream && request->chat.max_tokens == 0 && wanted_tokens > 0;
            request->budget_max_tokens = capped ? tokens / request->chat.choices : 0;
            return verdict_of(ERROR_NONE);
        }
    }
    worker_count(request->worker, SHM_COUNTER_limited_budget, 1);
    int64_t least_nusd = price_nusd(request, request->chat.prompt_tokens, least_tokens);
    return refuse(request, least_nusd - request->shared->held_nusd);
}

bool budget_top_up(struct request *request) {
    if (!budget_applies(request)) {
        return true;
    }
    int64_t price = settle_price_nusd(request);
    int64_t slice_nusd = price_nusd(request, 0, slice_tokens(request));
    int64_t held_nusd = request->shared->held_nusd;
    if (price <= held_nusd - slice_nusd / 2) {
        return true;
    }
    if (request->worker->paused) {
        return price <= held_nusd; /* the last event of an answer that ended in a pause of the ledger */
    }
    hold_what_is_left(request, money_add(price, slice_nusd) - held_nusd);
    return price <= request->shared->held_nusd;
}

int64_t budget_settle(struct request *request, int64_t price) {
    int64_t held_nusd = request->shared->held_nusd;
    if (price > held_nusd && budget_applies(request)) {
        hold_what_is_left(request, price - held_nusd);
        held_nusd = request->shared->held_nusd;
        price = price < held_nusd ? price : held_nusd;
    }
    /* The price is in the record before the hold goes: whoever settles for us after a kill takes the one or the other
     * as its cap. */
    request->shared->record.price_nusd = price;
    atomic_signal_fence(memory_order_seq_cst);
    for (int at = 0; at < LEVELS * SHM_WINDOWS; at++) {
        shm_balance_settle(&account_of(request, at / SHM_WINDOWS)->balances[at % SHM_WINDOWS], held_nusd, price);
    }
    request->shared->held_nusd = 0;
    return price;
}
