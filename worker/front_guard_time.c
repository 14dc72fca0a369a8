/* The guard's deadlines, its drain and its settings; front_guard.c has the hooks. */
#include <limits.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "worker/front_guard_private.h"

static const struct guard_refusal head_too_slow = {408, "invalid_request_error", "invalid_value",
                                                   "The request's headers did not arrive in time."};
static const struct guard_refusal body_too_slow = {408, "invalid_request_error", "invalid_value",
                                                   "The request's body did not arrive in time."};

static bool has_passed(int64_t since_mono_ns, int64_t timeout_ms, int64_t now_mono_ns) {
    return timeout_ms > 0 && now_mono_ns - since_mono_ns > timeout_ms * NS_PER_MS;
}

static int64_t later(int64_t a, int64_t b) { return a > b ? a : b; }

/* A body may take body_timeout, and then as long as its bytes at body_rate. */
static bool is_body_slow(const struct guard_limits *limits, uint64_t bytes, int64_t since_mono_ns,
                         int64_t now_mono_ns) {
    if (limits->body_rate_bytes <= 0) {
        return false;
    }
    int64_t elapsed_ms = (now_mono_ns - since_mono_ns) / NS_PER_MS - limits->body_timeout_ms;
    return elapsed_ms > 0 && (uint64_t)(elapsed_ms / 1000) > bytes / (uint64_t)limits->body_rate_bytes;
}

/* ---- stalled writes ---- */

static uint64_t acked_bytes(const struct guard *guard) {
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (getsockopt(h2o_socket_get_fd(guard->sock), IPPROTO_TCP, TCP_INFO, &info, &len) != 0) {
        return guard->sock->bytes_written;
    }
    return info.tcpi_bytes_acked;
}

static bool is_stalled(struct guard *guard, int64_t now_mono_ns) {
    bool pending = guard->sock->_cb.write != NULL;
    bool was_pending = guard->write_was_pending;
    guard->write_was_pending = pending;
    if (!pending) {
        return false;
    }
    uint64_t acked = acked_bytes(guard);
    if (!was_pending || acked != guard->write_acked_bytes) {
        guard->write_acked_bytes = acked;
        guard->write_progress_mono_ns = now_mono_ns;
        return false;
    }
    return has_passed(guard->write_progress_mono_ns, guard->context->limits.write_timeout_ms, now_mono_ns);
}

/* ---- deadlines by protocol ---- */

static void check_http1(struct guard *guard, int64_t now_mono_ns) {
    const struct guard_limits *limits = &guard->context->limits;
    int64_t since = guard->waiting_since_mono_ns;
    bool first = guard->http1.requests == 0;
    if (!guard->waiting) {
        return;
    }
    switch (guard_http1_place(&guard->http1)) {
    case GUARD_HTTP1_BETWEEN:
        if (has_passed(since, first ? limits->header_timeout_ms : limits->idle_timeout_ms, now_mono_ns)) {
            guard_cut(guard, GUARD_CUT_TIMEOUT);
        } else if (has_passed(guard->accepted_mono_ns, limits->connection_lifetime_ms, now_mono_ns)) {
            guard_cut(guard, GUARD_CUT_LIFETIME);
        }
        return;
    case GUARD_HTTP1_IN_HEAD:
        since = first ? guard->accepted_mono_ns : later(since, guard->head_since_mono_ns);
        if (has_passed(since, limits->header_timeout_ms, now_mono_ns)) {
            guard_refuse(guard, &head_too_slow);
        }
        return;
    case GUARD_HTTP1_IN_BODY:
        if (has_passed(later(since, guard->read_mono_ns), limits->body_timeout_ms, now_mono_ns) ||
            is_body_slow(limits, guard->http1.body_bytes, later(since, guard->body_since_mono_ns), now_mono_ns)) {
            guard_refuse(guard, &body_too_slow);
        }
        return;
    case GUARD_HTTP1_UPGRADING:
    case GUARD_HTTP1_REFUSED:
        return;
    }
}

static bool is_http2_late(const struct guard *guard, int64_t now_mono_ns) {
    const struct guard_limits *limits = &guard->context->limits;
    const struct guard_http2 *scan = guard->http2;
    if (!guard_http2_began(scan) && has_passed(guard->accepted_mono_ns, limits->header_timeout_ms, now_mono_ns)) {
        return true;
    }
    if (scan->in_block && has_passed(scan->block_since_mono_ns, limits->header_timeout_ms, now_mono_ns)) {
        return true;
    }
    /* While parked nothing is read, however fast it comes. */
    return scan->uploads != 0 && !guard->parked &&
           (has_passed(guard_http2_oldest_upload_ns(scan), limits->body_timeout_ms, now_mono_ns) ||
            is_body_slow(limits, scan->upload_bytes, scan->uploads_since_mono_ns, now_mono_ns));
}

static void check_http2(struct guard *guard, int64_t now_mono_ns) {
    bool old = has_passed(guard->accepted_mono_ns, guard->context->limits.connection_lifetime_ms, now_mono_ns);
    if (is_http2_late(guard, now_mono_ns)) {
        guard_cut(guard, GUARD_CUT_TIMEOUT);
    } else if (old && !guard->parked && !guard_is_writing(guard) && guard_find_http2_request(guard, 0) == NULL) {
        guard_cut(guard, GUARD_CUT_LIFETIME);
    }
}

static void check_guard(struct guard *guard, int64_t now_mono_ns) {
    const struct guard_limits *limits = &guard->context->limits;
    if (guard->ended) {
        return;
    }
    if (is_stalled(guard, now_mono_ns)) {
        guard_cut(guard, GUARD_CUT_STALL);
        return;
    }
    switch (guard->mode) {
    case GUARD_HANDSHAKE:
    case GUARD_SNIFF:
        if (has_passed(guard->accepted_mono_ns, limits->header_timeout_ms, now_mono_ns)) {
            guard_cut(guard, GUARD_CUT_TIMEOUT);
        }
        return;
    case GUARD_HTTP1:
        check_http1(guard, now_mono_ns);
        return;
    case GUARD_HTTP2:
        check_http2(guard, now_mono_ns);
        return;
    case GUARD_LINGER:
        if (now_mono_ns > guard->linger_until_mono_ns) {
            guard_cut(guard, GUARD_CUT_TIMEOUT);
        }
        return;
    case GUARD_PASS:
        return;
    }
}

void guard_tick(struct guard_context *context, int64_t now_mono_ns) {
    GUARD_EACH(guard, context) { check_guard(guard, now_mono_ns); }
}

/* ---- drain ---- */

bool guard_is_expiring(const struct guard *guard) {
    return guard->context->draining ||
           has_passed(guard->accepted_mono_ns, guard->context->limits.connection_lifetime_ms, clock_mono_ns());
}

void guard_context_drain(struct guard_context *context) {
    context->draining = true;
    GUARD_EACH(guard, context) {
        if (guard->mode == GUARD_HTTP2 && !guard_http2_drain(guard->http2)) {
            guard_cut(guard, GUARD_CUT_PROTOCOL);
        }
    }
}

/* Has its next request arrived while we were busy? */
static bool has_input(const struct guard *guard) {
    int bytes = 0;
    return ioctl(h2o_socket_get_fd(guard->sock), FIONREAD, &bytes) == 0 && bytes > 0;
}

void guard_close_idle(struct guard_context *context, int64_t least_idle_ns, int64_t least_silent_ns) {
    int64_t now_mono_ns = clock_mono_ns();
    GUARD_EACH(guard, context) {
        bool idle = guard->mode == GUARD_HTTP1 && guard->waiting &&
                    guard->waiting_since_mono_ns <= now_mono_ns - least_idle_ns && guard->refusal == NULL &&
                    guard_http1_place(&guard->http1) == GUARD_HTTP1_BETWEEN;
        bool silent = guard->mode == GUARD_SNIFF && guard->accepted_mono_ns <= now_mono_ns - least_silent_ns;
        if ((idle || silent) && !has_input(guard)) {
            guard_cut(guard, GUARD_CUT_ASKED);
        }
    }
}

int64_t guard_context_connections(const struct guard_context *context) { return context->connections; }

int64_t guard_context_cuts(const struct guard_context *context, enum guard_cut cut) { return context->cuts[cut]; }

/* ---- settings ---- */

struct guard_limits guard_limits_default(void) {
    return (struct guard_limits){
        .header_timeout_ms = 10 * 1000,
        .body_timeout_ms = 60 * 1000,
        .body_rate_bytes = 1024,
        .idle_timeout_ms = 75 * 1000,
        .write_timeout_ms = 30 * 1000,
        .connection_lifetime_ms = INT64_C(24) * 3600 * 1000,
        .connections_per_address = 4096,
        .http1_head_bytes = 32 * 1024,
        .http1_fields = 100,
        .http2 = {.units_per_second = 500,
                  .burst_units = 1000,
                  .fields = 128,
                  .block_bytes = 32 * 1024,
                  .bodies_bytes = 64 * 1024 * 1024},
        .unproven_body_bytes = 64 * 1024,
    };
}

void guard_configure(h2o_globalconf_t *conf, const struct guard_limits *limits) {
    const uint64_t never_ms = UINT64_C(365) * 24 * 3600 * 1000;
    conf->http1.req_timeout = never_ms; /* it spans idling and bodies alike; the guard times each by itself */
    conf->http1.upgrade_to_http2 = 1;
    conf->http2.idle_timeout = limits->idle_timeout_ms > 0 ? (uint64_t)limits->idle_timeout_ms : never_ms;
    conf->http2.max_streams_for_priority = 16;
    conf->http2.latency_optimization.min_rtt = UINT_MAX;
    h2o_socket_buffer_mmap_settings.threshold = SIZE_MAX; /* or large bodies, which are prompts, go to a file in /tmp */
}
