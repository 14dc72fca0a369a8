#include "shm/shm_status.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json_write.h"
#include "shm/shm_breaker.h"
#include "shm/shm_slot.h"

bool shm_status_is_at_work(const struct shm_seat_sh *seat) {
    uint32_t state = atomic_load(&seat->state);
    return state == SHM_SEAT_LIVE || state == SHM_SEAT_DRAINING;
}

uint64_t shm_status_ledger_lag(const struct shm_map *map) {
    uint64_t lag = 0;
    for (uint32_t i = 0; i < map->header->seat_count; i++) {
        uint64_t tail = 0;
        uint64_t head = 0;
        shm_ring_bounds(map, i, &tail, &head);
        lag += head > tail ? head - tail : 0;
    }
    return lag;
}

/* Resident bytes of a process, 0 when it is gone. /proc is memory, not a disk. */
static int64_t resident_bytes(int32_t pid) {
    char path[64];
    char text[128];
    (void)snprintf(path, sizeof(path), "/proc/%" PRId32 "/statm", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t len = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    text[len > 0 ? len : 0] = '\0';
    int64_t pages = 0;
    return sscanf(text, "%*d %" SCNd64, &pages) == 1 ? pages * sysconf(_SC_PAGESIZE) : 0;
}

static void write_process(struct json_writer *json, const char *name, int32_t pid) {
    json_begin_object(json, name);
    json_write_int(json, "pid", pid);
    json_end_object(json);
}

static void write_workers(struct json_writer *json, const struct shm_map *map) {
    int64_t now_wall_ns = clock_wall_ns();
    json_begin_array(json, "workers");
    for (uint32_t i = 0; i < map->header->seat_count; i++) {
        const struct shm_seat_sh *seat = shm_seat(map, i);
        if (!shm_status_is_at_work(seat)) {
            continue;
        }
        int32_t pid = atomic_load(&seat->pid);
        int64_t uptime_ns = now_wall_ns - seat->started_wall_ns;
        json_begin_object(json, NULL);
        json_write_int(json, "pid", pid);
        json_write_int(json, "uptime_s", uptime_ns > 0 ? uptime_ns / NS_PER_S : 0);
        json_write_int(json, "streams", (int64_t)atomic_load(&seat->streams));
        json_write_int(json, "requests", (int64_t)atomic_load(&seat->counters[SHM_COUNTER_requests]));
        json_write_int(json, "rss_bytes", resident_bytes(pid));
        json_end_object(json);
    }
    json_end_array(json);
}

static void write_upstreams(struct json_writer *json, const struct shm_map *map) {
    json_begin_array(json, "upstreams");
    for (uint32_t i = 0; i < SHM_UPSTREAMS; i++) {
        const struct shm_upstream_sh *upstream = shm_upstream(map, i);
        if (upstream->name[0] == '\0') {
            continue;
        }
        uint64_t errors = 0;
        for (int kind = 0; kind < SHM_UPSTREAM_ERRORS; kind++) {
            errors += atomic_load(&upstream->errors[kind]);
        }
        json_begin_object(json, NULL);
        json_write_text(json, "name", upstream->name);
        json_write_text(json, "state", shm_breaker_state(upstream, clock_mono_ns()));
        json_write_int(json, "errors", (int64_t)errors);
        json_end_object(json);
    }
    json_end_array(json);
}

void shm_status_write(struct buffer *out, const struct shm_map *map) {
    const struct shm_header_sh *header = map->header;
    struct json_writer json = json_writer_on(out);
    json_begin_object(&json, NULL);
    json_write_text(&json, "version", TOLLGATE_VERSION);
    write_process(&json, "master", atomic_load(&header->master_pid));
    json_begin_object(&json, "ledger");
    json_write_int(&json, "pid", atomic_load(&header->ledger_pid));
    json_write_int(&json, "lag_records", (int64_t)shm_status_ledger_lag(map));
    json_end_object(&json);
    write_process(&json, "admin", atomic_load(&header->admin_pid));
    write_workers(&json, map);
    write_upstreams(&json, map);
    json_end_object(&json);
}
