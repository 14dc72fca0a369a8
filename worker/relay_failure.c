#include "worker/relay_failure.h"

#include "base/log.h"
#include "worker/dialect.h"
#include "worker/limits.h"
#include "worker/route.h"
#include "worker/worker_state.h"

static struct request_failure failure(enum error_kind kind, bool same_route) {
    return (struct request_failure){.kind = kind, .same_route = same_route};
}

static struct request_failure final_failure(enum error_kind kind) {
    return (struct request_failure){.kind = kind, .final = true};
}

struct request_failure failure_of_stream_error(void) {
    return failure(ERROR_upstream_error, false);
}

struct request_failure failure_of_garbage(void) {
    return failure(ERROR_upstream_invalid_response, false);
}

struct request_failure failure_of_early_end(void) {
    return failure(ERROR_upstream_invalid_response, false);
}

struct request_failure failure_of_timeout(void) {
    return failure(ERROR_upstream_timeout, false);
}

struct request_failure failure_of_result(const struct request *request, enum upstream_result result) {
    switch (result) {
    case UPSTREAM_NOT_REACHED:
        return failure(ERROR_upstream_unreachable, true);
    case UPSTREAM_CONNECT_EXPIRED:
        return failure(ERROR_upstream_timeout, true);
    case UPSTREAM_BROKEN:
        /* A kept connection may have died under us before the upstream read anything: worth one more try there. */
        return request->attempt.head.status == 0 ? failure(ERROR_upstream_unreachable, true) : failure_of_early_end();
    default:
        return failure_of_garbage();
    }
}

enum shm_upstream_error failure_error_of_result(enum upstream_result result) {
    switch (result) {
    case UPSTREAM_NOT_REACHED:
        return SHM_UPSTREAM_CONNECT;
    case UPSTREAM_CONNECT_EXPIRED:
        return SHM_UPSTREAM_TIMEOUT;
    case UPSTREAM_BROKEN:
        return SHM_UPSTREAM_RESET;
    default:
        return SHM_UPSTREAM_INVALID;
    }
}

static struct request_failure refused_by_upstream(const struct request *request, const struct answer_refusal *refusal) {
    if (request->attempt.head.status == 413) {
        return final_failure(ERROR_body_too_large);
    }
    return final_failure(refusal->is_context_length ? ERROR_context_length_exceeded : ERROR_upstream_refused_request);
}

/* Ours to mend, not the client's: the operator is told. */
static struct request_failure misconfigured(struct request *request) {
    int status = request->attempt.head.status;
    LOG(LOG_ERROR, "upstream_misconfigured", log_text("upstream", request->attempt.upstream->name),
        log_int("status", status), log_text("model", request->attempt.route->model),
        log_text("remedy", status == 404 ? "the upstream does not know the route's model"
                                         : "the upstream refuses the configured api_key"));
    route_failed(request, SHM_UPSTREAM_STATUS, false);
    return failure(ERROR_upstream_error, false);
}

struct request_failure failure_of_status(struct request *request, struct json_doc *scratch) {
    const struct upstream_head *head = &request->attempt.head;
    struct request_failure result = failure(ERROR_upstream_error, true);
    const struct answer_refusal refusal =
        request->attempt.dialect->judge_refusal(scratch, buffer_span(&request->answer));
    switch (head->status) {
    case 400:
    case 413:
    case 422:
        if (refusal.is_credentials) {
            return misconfigured(request);
        }
        route_succeeded(request);
        return refused_by_upstream(request, &refusal);
    case 401:
    case 402:
    case 403:
    case 404:
        return misconfigured(request);
    case 429:
        route_failed(request, SHM_UPSTREAM_LIMITED, false);
        result.kind = ERROR_rate_limit_exceeded;
        result.shortage = head->tokens.remaining == 0 ? SHORT_OF_TOKENS : SHORT_OF_REQUESTS;
        if (head->retry_after_ms <= 0 && refusal.retry_after_ms > 0) {
            limits_block_upstream(request, refusal.retry_after_ms);
        }
        break;
    case 503:
    case 529:
        route_failed(request, SHM_UPSTREAM_STATUS, true);
        result.kind = ERROR_overloaded;
        break;
    default:
        route_failed(request, head->status >= 500 ? SHM_UPSTREAM_STATUS : SHM_UPSTREAM_INVALID, head->status >= 500);
        result.kind = head->status >= 500 ? ERROR_upstream_error : ERROR_upstream_invalid_response;
        result.same_route = head->status >= 500;
        break;
    }
    result.retry_after_ms = head->retry_after_ms > 0 ? head->retry_after_ms : refusal.retry_after_ms;
    return result;
}
