#include "admin/admin_segment.h"

#include "admin/admin_prometheus.h"
#include "base/clock.h"
#include "shm/shm_breaker.h"
#include "shm/shm_queue.h"
#include "shm/shm_slot.h"
#include "shm/shm_status.h"

static uint64_t sum_counter(const struct shm_map *map, enum shm_counter counter) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < map->header->seat_count; i++) {
        sum += atomic_load_explicit(&shm_seat(map, i)->counters[counter], memory_order_relaxed);
    }
    return sum;
}

static void write_worker_counters(const struct shm_map *map, struct buffer *out) {
    static const struct {
        enum shm_counter counter;
        const char *name;
        const char *help;
    } counters[] = {
#define COUNTER(name_, help_) {SHM_COUNTER_##name_, "tollgate_worker_" #name_ "_total", help_},
#include "shm/counters.def"
#undef COUNTER
    };
    for (int i = 0; i < SHM_COUNTERS; i++) {
        prometheus_family(out, counters[i].name, "counter", counters[i].help);
        prometheus_count(out, counters[i].name, NULL, 0, sum_counter(map, counters[i].counter));
    }
}

static void write_limited(const struct shm_map *map, struct buffer *out) {
    static const struct {
        enum shm_counter counter;
        const char *reason;
    } limits[] = {{SHM_COUNTER_limited_requests, "requests"},
                  {SHM_COUNTER_limited_tokens, "tokens"},
                  {SHM_COUNTER_limited_concurrent, "concurrent"},
                  {SHM_COUNTER_limited_budget, "budget"},
                  {SHM_COUNTER_limited_authentication, "authentication"},
                  {SHM_COUNTER_overloaded, "overloaded"}};
    prometheus_family(out, "tollgate_limited_total", "counter", "Requests refused by a limit.");
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        const struct prometheus_label label = {"reason", limits[i].reason};
        prometheus_count(out, "tollgate_limited_total", &label, 1, sum_counter(map, limits[i].counter));
    }
}

static void write_streams(const struct shm_map *map, struct buffer *out) {
    uint64_t streams = 0;
    uint64_t workers = 0;
    for (uint32_t i = 0; i < map->header->seat_count; i++) {
        const struct shm_seat_sh *seat = shm_seat(map, i);
        if (shm_status_is_at_work(seat)) {
            streams += atomic_load(&seat->streams);
            workers++;
        }
    }
    prometheus_family(out, "tollgate_streams_active", "gauge", "Requests and streams open now.");
    prometheus_count(out, "tollgate_streams_active", NULL, 0, streams);
    prometheus_family(out, "tollgate_workers", "gauge", "Workers that serve, draining ones included.");
    prometheus_count(out, "tollgate_workers", NULL, 0, workers);
}

/* Where a histogram lies in a seat. */
struct histogram_place {
    const char *name;
    const char *help;
    size_t offset;
};

static const struct shm_histogram_sh *histogram_of(const struct shm_map *map, uint32_t seat,
                                                   const struct histogram_place *place) {
    return (const void *)((const char *)shm_seat(map, seat) + place->offset);
}

static void write_histogram(const struct shm_map *map, const struct histogram_place *place, struct buffer *out) {
    uint64_t buckets[SHM_HISTOGRAM_BUCKETS] = {0};
    uint64_t sum_ns = 0;
    uint64_t below = 0;
    for (uint32_t i = 0; i < map->header->seat_count; i++) {
        const struct shm_histogram_sh *histogram = histogram_of(map, i, place);
        for (int bucket = 0; bucket < SHM_HISTOGRAM_BUCKETS; bucket++) {
            buckets[bucket] += atomic_load_explicit(&histogram->buckets[bucket], memory_order_relaxed);
        }
        sum_ns += atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed);
    }
    prometheus_family(out, place->name, "histogram", place->help);
    for (int bucket = 0; bucket < SHM_HISTOGRAM_BUCKETS; bucket++) {
        below += buckets[bucket];
        buffer_format(out, "%s_bucket{le=\"", place->name);
        prometheus_seconds(out, (uint64_t)shm_histogram_border_ns(bucket));
        buffer_format(out, "\"} %llu\n", (unsigned long long)below);
    }
    buffer_format(out, "%s_sum ", place->name);
    prometheus_seconds(out, sum_ns < INT64_MAX ? sum_ns : INT64_MAX - 1);
    /* The count is the sum of the buckets, not the counter beside them: the two must agree in one answer. */
    buffer_format(out, "\n%s_count %llu\n", place->name, (unsigned long long)below);
}

static void write_histograms(const struct shm_map *map, struct buffer *out) {
    static const struct histogram_place places[] = {
        {"tollgate_time_to_first_token_seconds", "Streams: from the request's arrival to its first token.",
         offsetof(struct shm_seat_sh, time_to_first_token)},
        {"tollgate_relay_overhead_seconds", "What the relay itself adds to a request.",
         offsetof(struct shm_seat_sh, relay_overhead)},
    };
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        write_histogram(map, &places[i], out);
    }
}

static void write_upstream_errors(const struct shm_map *map, struct buffer *out) {
    static const char *const kinds[SHM_UPSTREAM_ERRORS] = {
        [SHM_UPSTREAM_CONNECT] = "connect", [SHM_UPSTREAM_TIMEOUT] = "timeout", [SHM_UPSTREAM_RESET] = "reset",
        [SHM_UPSTREAM_STATUS] = "status",   [SHM_UPSTREAM_LIMITED] = "limited", [SHM_UPSTREAM_INVALID] = "invalid",
    };
    prometheus_family(out, "tollgate_upstream_errors_total", "counter", "Failed tries, by upstream and kind.");
    for (uint32_t row = 0; row < SHM_UPSTREAMS; row++) {
        const struct shm_upstream_sh *upstream = shm_upstream(map, row);
        for (int kind = 0; kind < SHM_UPSTREAM_ERRORS && upstream->name[0] != '\0'; kind++) {
            const struct prometheus_label labels[] = {{"upstream", upstream->name}, {"kind", kinds[kind]}};
            prometheus_count(out, "tollgate_upstream_errors_total", labels, 2, atomic_load(&upstream->errors[kind]));
        }
    }
}

static uint64_t count_upstream_requests(const struct shm_upstream_sh *upstream) {
    return atomic_load(&upstream->requests);
}

static uint64_t count_in_flight(const struct shm_upstream_sh *upstream) {
    int64_t in_flight = atomic_load(&upstream->in_flight);
    return in_flight > 0 ? (uint64_t)in_flight : 0;
}

/* 1: requests go there; 0: the breaker keeps them away, or lets a probe try. */
static uint64_t is_up(const struct shm_upstream_sh *upstream) {
    return strcmp(shm_breaker_state(upstream, clock_mono_ns()), "up") == 0 ? 1 : 0;
}

static void write_upstreams(const struct shm_map *map, struct buffer *out) {
    static const struct {
        const char *name;
        const char *type;
        const char *help;
        uint64_t (*read)(const struct shm_upstream_sh *upstream);
    } families[] = {
        {"tollgate_upstream_requests_total", "counter", "Requests sent, by upstream.", count_upstream_requests},
        {"tollgate_upstream_in_flight", "gauge", "Requests running now, by upstream.", count_in_flight},
        {"tollgate_upstream_up", "gauge", "1 while the upstream's breaker is closed.", is_up},
    };
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        prometheus_family(out, families[i].name, families[i].type, families[i].help);
        for (uint32_t row = 0; row < SHM_UPSTREAMS; row++) {
            const struct shm_upstream_sh *upstream = shm_upstream(map, row);
            const struct prometheus_label label = {"upstream", upstream->name};
            if (upstream->name[0] != '\0') {
                prometheus_count(out, families[i].name, &label, 1, families[i].read(upstream));
            }
        }
    }
}

void segment_write_metrics(const struct shm_map *map, struct buffer *out) {
    const struct prometheus_label version = {"version", TOLLGATE_VERSION};
    prometheus_family(out, "tollgate_build_info", "gauge", "The running version.");
    prometheus_count(out, "tollgate_build_info", &version, 1, 1);
    write_streams(map, out);
    write_histograms(map, out);
    write_limited(map, out);
    prometheus_family(out, "tollgate_waiting_requests", "gauge", "Requests that wait for room in a rate limit.");
    prometheus_count(out, "tollgate_waiting_requests", NULL, 0, shm_queue_waiting(map));
    write_upstream_errors(map, out);
    write_upstreams(map, out);
    prometheus_family(out, "tollgate_worker_restarts_total", "counter",
                      "Workers that ended unasked and were replaced.");
    prometheus_count(out, "tollgate_worker_restarts_total", NULL, 0, atomic_load(&map->header->worker_restarts));
    prometheus_family(out, "tollgate_budget_warnings_total", "counter",
                      "Budgets and credits that came near their end (budget_warning).");
    prometheus_count(out, "tollgate_budget_warnings_total", NULL, 0, atomic_load(&map->header->budget_warnings));
    prometheus_family(out, "tollgate_ledger_lag_records", "gauge",
                      "Settled requests the ledger has not committed yet.");
    prometheus_count(out, "tollgate_ledger_lag_records", NULL, 0, shm_status_ledger_lag(map));
    write_worker_counters(map, out);
}
