#include "shm/shm_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "shm/shm_connections.h"

enum { PAGE_BYTES = 4096, SEGMENT_PATH_BYTES = 4096 };

static const char SEGMENT_NAME[] = "segment";

static uint64_t seat_slots_bytes(void) { return sizeof(struct shm_slot_sh) * (uint64_t)SHM_SLOTS_PER_SEAT; }

static uint64_t seat_ring_bytes(void) { return sizeof(struct shm_usage_record_sh) * (uint64_t)SHM_RING_ENTRIES; }

static uint64_t seat_connections_bytes(void) { return sizeof(uint64_t) * (uint64_t)SHM_CONNECTION_ROWS; }

static uint64_t place(uint64_t *end, uint64_t bytes) {
    uint64_t at = (*end + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    *end = at + bytes;
    return at;
}

/* Folds all that decides where things lie, so that a segment of another build is never misread. */
static uint64_t layout_fingerprint(const struct shm_header_sh *header) {
    const uint64_t parts[] = {
        SHM_LAYOUT_VERSION,
        sizeof(struct shm_header_sh),
        sizeof(struct shm_seat_sh),
        sizeof(struct shm_slot_sh),
        sizeof(struct shm_usage_record_sh),
        sizeof(struct shm_secret_sh),
        sizeof(struct shm_key_sh),
        sizeof(struct shm_tenant_sh),
        sizeof(struct shm_account_sh),
        sizeof(struct shm_allow_sh),
        sizeof(struct shm_price_sh),
        sizeof(struct shm_upstream_sh),
        sizeof(struct shm_queue_sh),
        sizeof(struct shm_pair_sh),
        SHM_COUNTERS,
        SHM_SLOTS_PER_SEAT,
        SHM_RING_ENTRIES,
        SHM_UPSTREAMS,
        SHM_PRICE_ROWS,
        SHM_IDS,
        SHM_QUEUES,
        SHM_PAIRS,
        sizeof(struct shm_failure_sh),
        SHM_FAILURE_ROWS,
        SHM_REPLAY_ROWS,
        SHM_CONNECTION_ROWS,
        header->seat_count,
        header->key_capacity,
        header->secret_capacity,
        header->tenant_capacity,
        header->allow_capacity,
    };
    return hash_fast(span_of((const char *)parts, sizeof(parts)), SHM_MAGIC);
}

/* Fills in the offsets; the seats' slots, rings and connections come last, so that their disk can be reserved one seat
 * at a time. */
static void lay_out(struct shm_header_sh *header) {
    uint64_t end = sizeof(*header);
    header->upstreams_offset = place(&end, sizeof(struct shm_upstream_sh) * (uint64_t)SHM_UPSTREAMS);
    header->prices_offset = place(&end, sizeof(struct shm_price_sh) * (uint64_t)SHM_PRICE_ROWS);
    header->seats_offset = place(&end, sizeof(struct shm_seat_sh) * (uint64_t)header->seat_count);
    header->tenants_offset = place(&end, sizeof(struct shm_tenant_sh) * (uint64_t)header->tenant_capacity);
    header->tenant_accounts_offset = place(&end, sizeof(struct shm_account_sh) * (uint64_t)header->tenant_capacity);
    header->secrets_offset = place(&end, sizeof(struct shm_secret_sh) * (uint64_t)header->secret_capacity);
    header->keys_offset = place(&end, sizeof(struct shm_key_sh) * (uint64_t)header->key_capacity);
    header->key_accounts_offset = place(&end, sizeof(struct shm_account_sh) * (uint64_t)header->key_capacity);
    header->allows_offset = place(&end, sizeof(struct shm_allow_sh) * (uint64_t)header->allow_capacity);
    header->ids_offset = place(&end, sizeof(uint64_t) * (uint64_t)SHM_IDS);
    header->queues_offset = place(&end, sizeof(struct shm_queue_sh) * (uint64_t)SHM_QUEUES);
    header->pairs_offset = place(&end, sizeof(struct shm_pair_sh) * (uint64_t)SHM_PAIRS);
    header->failures_offset = place(&end, sizeof(struct shm_failure_sh) * (uint64_t)SHM_FAILURE_ROWS);
    header->replays_offset = place(&end, sizeof(uint64_t) * (uint64_t)SHM_REPLAY_ROWS);
    header->slots_offset = place(&end, seat_slots_bytes() * header->seat_count);
    header->rings_offset = place(&end, seat_ring_bytes() * header->seat_count);
    header->connections_offset = place(&end, seat_connections_bytes() * header->seat_count);
    header->bytes = (end + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    header->fingerprint = layout_fingerprint(header);
}

static uint32_t power_of_two_from(uint32_t least) {
    uint32_t value = 16;
    while (value < least && value < (UINT32_C(1) << 30)) {
        value *= 2;
    }
    return value;
}

void shm_boot_id(char out[static 40]) {
    memset(out, 0, 40);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got = read(fd, out, 36);
        (void)got;
        close(fd);
    }
}

static bool segment_path(const char *state_dir, const char *suffix, char out[static SEGMENT_PATH_BYTES]) {
    int len = snprintf(out, SEGMENT_PATH_BYTES, "%s/%s%s", state_dir, SEGMENT_NAME, suffix);
    return len > 0 && len < SEGMENT_PATH_BYTES;
}

static bool map_file(struct shm_map *map, int fd, uint64_t bytes, bool writable) {
    void *base = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return false;
    }
    (void)madvise(base, bytes, MADV_DONTDUMP);
    map->header = base;
    map->bytes = bytes;
    map->fd = fd;
    return true;
}

/* Reserves disk so that touching a page never meets a full disk (which would be SIGBUS). */
static bool reserve_disk(int fd, uint64_t offset, uint64_t bytes) {
    int failed = posix_fallocate(fd, (off_t)offset, (off_t)bytes);
    errno = failed;
    return failed == 0;
}

bool shm_map_create(struct shm_map *map, const char *state_dir, const struct shm_capacity *capacity,
                    struct buffer *error) {
    char path[SEGMENT_PATH_BYTES];
    char making[SEGMENT_PATH_BYTES];
    if (!segment_path(state_dir, "", path) || !segment_path(state_dir, ".new", making)) {
        buffer_format(error, "state directory %s: its name is too long", state_dir);
        return false;
    }
    struct shm_header_sh header = {.magic = SHM_MAGIC, .layout_version = SHM_LAYOUT_VERSION};
    header.seat_count = capacity->seats;
    header.key_capacity = power_of_two_from(capacity->keys);
    header.secret_capacity = header.key_capacity * 2;
    header.tenant_capacity = capacity->tenants < 16 ? 16 : capacity->tenants;
    header.allow_capacity = header.tenant_capacity + header.key_capacity / 4;
    lay_out(&header);
    random_bytes(&header.incarnation, sizeof(header.incarnation));
    header.created_wall_ns = clock_wall_ns();
    shm_boot_id(header.boot_id);

    (void)unlink(making);
    int fd = open(making, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool made = fd >= 0 && ftruncate(fd, (off_t)header.bytes) == 0 && reserve_disk(fd, 0, header.slots_offset) &&
                map_file(map, fd, header.bytes, true);
    if (!made) {
        buffer_format(error, "%s: cannot make the shared segment (%s): it needs %llu MiB free in the state directory",
                      making, strerror(errno), (unsigned long long)(header.slots_offset >> 20) + 64);
        if (fd >= 0) {
            close(fd);
            (void)unlink(making);
        }
        return false;
    }
    memcpy(map->header, &header, sizeof(header));
    /* Synced before it has its name: what a power cut leaves of it must show whose it was. */
    if (fsync(fd) != 0 || rename(making, path) != 0) {
        buffer_format(error, "%s: cannot sync and name the shared segment: %s", path, strerror(errno));
        shm_map_close(map);
        return false;
    }
    return true;
}

static bool is_of_this_boot(const struct shm_header_sh *header) {
    char boot_id[sizeof(header->boot_id)];
    shm_boot_id(boot_id);
    return memcmp(boot_id, header->boot_id, sizeof(boot_id)) == 0;
}

/* The boot's id lies where it did in every layout: what another boot left holds nothing, whatever its form. */
static enum shm_attach check_header(const struct shm_header_sh *header, uint64_t file_bytes) {
    if (header->magic == SHM_MAGIC && !is_of_this_boot(header)) {
        return SHM_ATTACH_OTHER_BOOT;
    }
    if (header->magic != SHM_MAGIC || header->layout_version != SHM_LAYOUT_VERSION || header->bytes != file_bytes) {
        return SHM_ATTACH_OTHER_LAYOUT;
    }
    struct shm_header_sh expected = {.seat_count = header->seat_count,
                                     .key_capacity = header->key_capacity,
                                     .secret_capacity = header->secret_capacity,
                                     .tenant_capacity = header->tenant_capacity,
                                     .allow_capacity = header->allow_capacity};
    lay_out(&expected);
    if (expected.fingerprint != header->fingerprint || expected.bytes != header->bytes ||
        expected.connections_offset != header->connections_offset) {
        return SHM_ATTACH_OTHER_LAYOUT;
    }
    return SHM_ATTACHED;
}

enum shm_attach shm_map_attach(struct shm_map *map, const char *state_dir, bool writable, struct buffer *error) {
    char path[SEGMENT_PATH_BYTES];
    if (!segment_path(state_dir, "", path)) {
        buffer_format(error, "state directory %s: its name is too long", state_dir);
        return SHM_ATTACH_FAILED;
    }
    int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) {
        return SHM_ATTACH_NONE;
    }
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        buffer_format(error, "%s: %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return SHM_ATTACH_FAILED;
    }
    if ((uint64_t)status.st_size < sizeof(struct shm_header_sh)) {
        close(fd);
        return SHM_ATTACH_OTHER_LAYOUT;
    }
    if (!map_file(map, fd, (uint64_t)status.st_size, writable)) {
        buffer_format(error, "%s: cannot map: %s", path, strerror(errno));
        close(fd);
        return SHM_ATTACH_FAILED;
    }
    enum shm_attach result = check_header(map->header, (uint64_t)status.st_size);
    if (result != SHM_ATTACHED) {
        shm_map_close(map);
    }
    return result;
}

void shm_map_close(struct shm_map *map) {
    if (map->header != NULL) {
        (void)munmap(map->header, map->bytes);
    }
    if (map->fd >= 0) {
        close(map->fd);
    }
    *map = (struct shm_map){.header = NULL, .bytes = 0, .fd = -1};
}

void shm_map_remove(const char *state_dir) {
    char path[SEGMENT_PATH_BYTES];
    if (segment_path(state_dir, "", path)) {
        (void)unlink(path);
    }
}

static void *row_at(const struct shm_map *map, uint64_t offset, uint64_t row_bytes, uint64_t row, uint64_t rows) {
    CHECK(row < rows);
    return (char *)map->header + offset + row * row_bytes;
}

struct shm_seat_sh *shm_seat(const struct shm_map *map, uint32_t seat) {
    return row_at(map, map->header->seats_offset, sizeof(struct shm_seat_sh), seat, map->header->seat_count);
}

struct shm_slot_sh *shm_slot(const struct shm_map *map, uint32_t seat, uint32_t slot) {
    CHECK(slot < SHM_SLOTS_PER_SEAT);
    char *slots = row_at(map, map->header->slots_offset, seat_slots_bytes(), seat, map->header->seat_count);
    return (struct shm_slot_sh *)(void *)slots + slot;
}

struct shm_usage_record_sh *shm_ring_entry(const struct shm_map *map, uint32_t seat, uint64_t position) {
    char *ring = row_at(map, map->header->rings_offset, seat_ring_bytes(), seat, map->header->seat_count);
    return (struct shm_usage_record_sh *)(void *)ring + position % SHM_RING_ENTRIES;
}

struct shm_secret_sh *shm_secret(const struct shm_map *map, uint32_t row) {
    const struct shm_header_sh *header = map->header;
    return row_at(map, header->secrets_offset, sizeof(struct shm_secret_sh), row, header->secret_capacity);
}

struct shm_key_sh *shm_key(const struct shm_map *map, uint32_t key_index) {
    const struct shm_header_sh *header = map->header;
    return row_at(map, header->keys_offset, sizeof(struct shm_key_sh), key_index, header->key_capacity);
}

struct shm_tenant_sh *shm_tenant(const struct shm_map *map, uint32_t tenant_index) {
    const struct shm_header_sh *header = map->header;
    return row_at(map, header->tenants_offset, sizeof(struct shm_tenant_sh), tenant_index, header->tenant_capacity);
}

struct shm_account_sh *shm_key_account(const struct shm_map *map, uint32_t key_index) {
    const struct shm_header_sh *header = map->header;
    return row_at(map, header->key_accounts_offset, sizeof(struct shm_account_sh), key_index, header->key_capacity);
}

struct shm_account_sh *shm_tenant_account(const struct shm_map *map, uint32_t tenant_index) {
    const struct shm_header_sh *header = map->header;
    return row_at(map, header->tenant_accounts_offset, sizeof(struct shm_account_sh), tenant_index,
                  header->tenant_capacity);
}

struct shm_allow_sh *shm_allow(const struct shm_map *map, uint32_t row) {
    return row_at(map, map->header->allows_offset, sizeof(struct shm_allow_sh), row, map->header->allow_capacity);
}

struct shm_price_sh *shm_price_row(const struct shm_map *map, uint32_t row) {
    return row_at(map, map->header->prices_offset, sizeof(struct shm_price_sh), row, SHM_PRICE_ROWS);
}

struct shm_upstream_sh *shm_upstream(const struct shm_map *map, uint32_t row) {
    return row_at(map, map->header->upstreams_offset, sizeof(struct shm_upstream_sh), row, SHM_UPSTREAMS);
}

/* Everything of a seat but its ring positions starts anew with each owner. */
static void reset_seat(struct shm_seat_sh *seat, uint32_t worker_index, uint32_t generation) {
    atomic_store(&seat->pid, 0);
    seat->worker_index = worker_index;
    seat->generation = generation;
    seat->started_wall_ns = clock_wall_ns();
    atomic_store(&seat->heartbeat_mono_ns, clock_mono_ns());
    atomic_store(&seat->acknowledged_epoch, 0);
    atomic_store(&seat->streams, 0);
    seat->last_words[0] = '\0';
}

int shm_seat_assign(struct shm_map *map, uint32_t worker_index, uint32_t generation, struct buffer *error) {
    const struct shm_header_sh *header = map->header;
    for (uint32_t i = 0; i < header->seat_count; i++) {
        struct shm_seat_sh *seat = shm_seat(map, i);
        if (atomic_load(&seat->state) != SHM_SEAT_FREE) {
            continue;
        }
        if (!reserve_disk(map->fd, header->slots_offset + seat_slots_bytes() * i, seat_slots_bytes()) ||
            !reserve_disk(map->fd, header->rings_offset + seat_ring_bytes() * i, seat_ring_bytes()) ||
            !reserve_disk(map->fd, header->connections_offset + seat_connections_bytes() * i,
                          seat_connections_bytes())) {
            buffer_format(error, "cannot reserve %llu MiB in the state directory for a worker: %s",
                          (unsigned long long)((seat_slots_bytes() + seat_ring_bytes()) >> 20), strerror(errno));
            return -1;
        }
        shm_connections_clear(map, i);
        reset_seat(seat, worker_index, generation);
        atomic_store_explicit(&seat->state, SHM_SEAT_ASSIGNED, memory_order_release);
        return (int)i;
    }
    buffer_format(error,
                  "all %u worker seats are taken by workers that still drain; try again when their streams have ended",
                  header->seat_count);
    return -1;
}

uint32_t shm_upstream_claim(const struct shm_map *map, const char *name) {
    CHECK(strlen(name) < SHM_NAME_BYTES);
    for (uint32_t row = 0; row < SHM_UPSTREAMS; row++) {
        struct shm_upstream_sh *upstream = shm_upstream(map, row);
        if (upstream->name[0] == '\0') {
            (void)span_copy(span_text(name), upstream->name, sizeof(upstream->name));
        }
        if (strcmp(upstream->name, name) == 0) {
            return row;
        }
    }
    return SHM_NO_ROW;
}
