#include "worker/reply.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/calendar.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/money.h"
#include "worker/endpoints.h"
#include "worker/limits.h"
#include "worker/settle.h"
#include "worker/worker_state.h"

enum { CLIENT_ID_MOST = 64, NEW_ID_CHARACTERS = 24, ERROR_BODY_BYTES = 4096 };

static bool is_client_id(struct span id) {
    if (id.len == 0 || id.len > CLIENT_ID_MOST) {
        return false;
    }
    for (size_t i = 0; i < id.len; i++) {
        char c = id.base[i];
        bool good = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c == '-';
        if (!good) {
            return false;
        }
    }
    return true;
}

void reply_make_id(char out[static SHM_REQUEST_ID_BYTES]) {
    memcpy(out, "req_", 4);
    random_base62(out + 4, NEW_ID_CHARACTERS);
}

void reply_choose_id(struct request *request) {
    struct span given = request->front->driver->header(request->front, "x-request-id");
    request->id_from_client = is_client_id(given);
    if (request->id_from_client) {
        (void)span_copy(given, request->id, sizeof(request->id));
    } else {
        reply_make_id(request->id);
    }
}

void reply_add(struct reply *reply, const char *name, const char *value) {
    CHECK(reply->header_count < REPLY_HEADERS_MOST);
    if (value != NULL) {
        reply->headers[reply->header_count++] = (struct reply_header){name, value};
    }
}

static char *number_text(struct request *request, int64_t value) {
    return arena_format(&request->arena, "%" PRId64, value);
}

char *reply_duration_text(struct request *request, int64_t ns) {
    int64_t ms = (ns + NS_PER_MS - 1) / NS_PER_MS;
    if (ms == 0) {
        return arena_copy_text(&request->arena, SPAN_LITERAL("0s"));
    }
    if (ms < 1000) {
        return arena_format(&request->arena, "%" PRId64 "ms", ms);
    }
    int64_t minutes = ms / 60000;
    char seconds[16];
    int len = snprintf(seconds, sizeof(seconds), "%d.%03d", (int)(ms % 60000 / 1000), (int)(ms % 1000));
    while (len > 1 && (seconds[len - 1] == '0' || seconds[len - 1] == '.')) {
        bool point = seconds[len - 1] == '.';
        seconds[--len] = '\0';
        if (point) {
            break;
        }
    }
    return minutes > 0 ? arena_format(&request->arena, "%" PRId64 "m%ss", minutes, seconds)
                       : arena_format(&request->arena, "%ss", seconds);
}

static char *reset_instant(struct request *request, int64_t reset_ns) {
    char instant[RFC3339_BYTES];
    int64_t at_ns = clock_wall_ns() + reset_ns + NS_PER_S - 1;
    calendar_rfc3339(at_ns - at_ns % NS_PER_S, instant);
    struct span whole = span_text(instant);
    /* Anthropic writes whole seconds. */
    const char *point = memchr(whole.base, '.', whole.len);
    return arena_format(&request->arena, "%.*sZ", (int)(point != NULL ? point - instant : (ptrdiff_t)whole.len - 1),
                        instant);
}

/* What one limit is called in headers. */
struct rate_names {
    const char *limit, *remaining, *reset;
};

/* OpenAI's names and Anthropic's (wire.md section 6). */
static const struct rate_names openai_names[] = {
    {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"},
    {"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"}};
static const struct rate_names anthropic_names[] = {
    {"anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining",
     "anthropic-ratelimit-requests-reset"},
    {"anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"}};

/* `names` are those of requests and tokens; reset_text gives the reset in the form that goes with them. */
static void add_rate_limits(struct request *request, struct reply *reply, const struct rate_names *names,
                            char *(*reset_text)(struct request *request, int64_t reset_ns)) {
    const struct limits_view views[] = {limits_view_requests(request), limits_view_tokens(request)};
    for (int i = 0; i < 2; i++) {
        if (views[i].limit > 0) {
            reply_add(reply, names[i].limit, number_text(request, views[i].limit));
            reply_add(reply, names[i].remaining, number_text(request, views[i].remaining));
            reply_add(reply, names[i].reset, reset_text(request, views[i].reset_ns));
        }
    }
}

/* Origins are compared whole; "*" in the configuration allows every origin. Credentials are never allowed: keys travel
 * in headers that scripts set. */
static const char *allowed_origin(struct request *request) {
    const struct conf *conf = request->worker->conf;
    if (conf->cors_origin_count == 0 || request->front == NULL) {
        return NULL;
    }
    struct span origin = request->front->driver->header(request->front, "origin");
    for (int i = 0; origin.len != 0 && i < conf->cors_origin_count; i++) {
        if (strcmp(conf->cors_origins[i], "*") == 0) {
            return "*";
        }
        if (span_is(origin, conf->cors_origins[i])) {
            return conf->cors_origins[i];
        }
    }
    return NULL;
}

static void add_cors(struct request *request, struct reply *reply) {
    const char *origin = allowed_origin(request);
    if (request->worker->conf->cors_origin_count != 0) {
        reply_add(reply, "vary", "origin");
    }
    if (origin == NULL) {
        return;
    }
    reply_add(reply, "access-control-allow-origin", origin);
    reply_add(reply, "access-control-expose-headers",
              "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, x-ratelimit-limit-requests, "
              "x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, "
              "x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, x-tollgate-model, x-tollgate-upstream, "
              "x-tollgate-cost-usd, anthropic-ratelimit-requests-limit, anthropic-ratelimit-requests-remaining, "
              "anthropic-ratelimit-requests-reset, anthropic-ratelimit-tokens-limit, "
              "anthropic-ratelimit-tokens-remaining, anthropic-ratelimit-tokens-reset");
    if (span_is(request->input.method, "OPTIONS")) {
        reply_add(reply, "access-control-allow-methods", "GET, POST, OPTIONS");
        reply_add(reply, "access-control-allow-headers",
                  "authorization, content-type, x-api-key, api-key, x-request-id, idempotency-key, last-event-id, "
                  "x-timestamp, x-signature, x-tollgate-resume, anthropic-version, anthropic-beta, "
                  "anthropic-dangerous-direct-browser-access, openai-organization, openai-project, openai-beta, "
                  "x-stainless-lang, x-stainless-package-version, x-stainless-os, "
                  "x-stainless-arch, x-stainless-runtime, x-stainless-runtime-version, x-stainless-retry-count, "
                  "x-stainless-timeout, x-stainless-async, x-stainless-helper, x-stainless-helper-method, "
                  "x-stainless-poll-helper, x-stainless-custom-poll-interval, user-agent");
        reply_add(reply, "access-control-max-age", "600");
    }
}

void reply_begin(struct request *request, struct reply *reply, int status) {
    reply->status = status;
    reply->header_count = 0;
    request->final_status = status;
    reply_add(reply, "x-request-id", request->id);
    if (request->form == CLIENT_MESSAGES) {
        reply_add(reply, "request-id", request->id);
    }
    if (request->has_key) {
        add_rate_limits(request, reply, openai_names, reply_duration_text);
    }
    if (request->has_key && request->form == CLIENT_MESSAGES) {
        add_rate_limits(request, reply, anthropic_names, reset_instant);
    }
    add_cors(request, reply);
    if (request->attempt.upstream != NULL && request->attempt.head.status / 100 == 2 && status < 400) {
        reply_add(reply, "x-tollgate-model", request->worker->conf->models[request->attempt.model].name);
        reply_add(reply, "x-tollgate-upstream", request->attempt.upstream->name);
    }
}

void reply_json(struct request *request, int status, struct span body) {
    struct reply reply;
    reply_begin(request, &reply, status);
    reply_add(&reply, "content-type", "application/json");
    if (request->slot >= 0) {
        char cost[NUSD_TEXT_BYTES];
        reply_add(&reply, "x-tollgate-cost-usd",
                  arena_copy_text(&request->arena, span_text(money_format(settle_price_nusd(request), cost))));
    }
    request->front->driver->answer(request->front, &reply, body);
}

void reply_empty(struct request *request, int status) {
    struct reply reply;
    reply_begin(request, &reply, status);
    request->front->driver->answer(request->front, &reply, SPAN_EMPTY);
}

void reply_start_stream(struct request *request) { reply_start_stream_of(request, NULL, NULL); }

void reply_start_stream_of(struct request *request, const char *model, const char *upstream) {
    if (request->head_sent || request->front == NULL) {
        return;
    }
    request->head_sent = true;
    struct reply reply;
    reply_begin(request, &reply, 200);
    reply_add(&reply, "x-tollgate-model", model);
    reply_add(&reply, "x-tollgate-upstream", upstream);
    reply_add(&reply, "content-type", "text/event-stream");
    reply_add(&reply, "cache-control", "no-cache");
    reply_add(&reply, "x-accel-buffering", "no");
    request->front->driver->start(request->front, &reply);
}

static void add_retry(struct request *request, struct reply *reply) {
    const struct verdict *verdict = &request->verdict;
    if (verdict->retry_after_ms > 0) {
        reply_add(reply, "retry-after", number_text(request, (verdict->retry_after_ms + 999) / 1000));
        reply_add(reply, "retry-after-ms", number_text(request, verdict->retry_after_ms));
    }
    if (verdict->do_not_retry) {
        reply_add(reply, "x-should-retry", "false");
    }
}

static void end_with_event(struct request *request) {
    char text[ERROR_BODY_BYTES];
    struct buffer event;
    buffer_init(&event, sizeof(text));
    client_form_write_error_event(request, &event);
    request->error_event_sent = true;
    request->front->driver->write(request->front, buffer_span(&event));
    buffer_fini(&event);
    request->front->driver->end(request->front, true);
}

static void count_refusal(struct request *request, int status) {
    enum shm_counter counter = status == 401   ? SHM_COUNTER_refused_authentication
                               : status == 403 ? SHM_COUNTER_refused_permission
                               : status == 503 ? SHM_COUNTER_overloaded
                                               : SHM_COUNTER_refused_invalid;
    if (status < 429 || status == 503) {
        worker_count(request->worker, counter, 1);
    }
    if (request->verdict.shortage != SHORT_OF_NOTHING) {
        static const enum shm_counter limited[] = {[SHORT_OF_CONCURRENT] = SHM_COUNTER_limited_concurrent,
                                                   [SHORT_OF_REQUESTS] = SHM_COUNTER_limited_requests,
                                                   [SHORT_OF_TOKENS] = SHM_COUNTER_limited_tokens};
        worker_count(request->worker, limited[request->verdict.shortage], 1);
    }
}

void reply_error(struct request *request) {
    if (request->head_sent) {
        end_with_event(request);
        return;
    }
    struct reply reply;
    struct buffer body;
    int status = verdict_status(&request->verdict);
    count_refusal(request, status);
    if (status == 503 && request->verdict.retry_after_ms == 0) {
        request->verdict.retry_after_ms = 1000;
    }
    buffer_init(&body, ERROR_BODY_BYTES);
    client_form_write_error(request, status, &body);
    reply_begin(request, &reply, status);
    reply_add(&reply, "content-type", "application/json");
    if (status == 405) {
        reply_add(&reply, "allow", arena_format(&request->arena, "%s, OPTIONS", request->allowed_method));
    }
    if (status == 426) {
        reply_add(&reply, "sec-websocket-version", "13");
    }
    add_retry(request, &reply);
    request->front->driver->answer(request->front, &reply, buffer_span(&body));
    buffer_fini(&body);
}
