/* shm/shm_map.h - creates, attaches and verifies the shared segment, and finds the tables in it.
 * Used by: the master creates it before any fork and assigns seats; children inherit the mapping; the command line
 * attaches read-only; recovery attaches a dead server's segment read-write.
 * Ownership: struct shm_map is process-private; shm_map_close unmaps.
 * Errors: texts for the operator in *error, naming what to do. Blocking: create and attach touch the disk. */
#ifndef TOLLGATE_SHM_SHM_MAP_H
#define TOLLGATE_SHM_SHM_MAP_H

#include "base/buffer.h"
#include "shm/shm_layout.h"

struct shm_map {
    struct shm_header_sh *header;
    size_t bytes;
    int fd; /* kept open by the master to reserve disk for seats; -1 elsewhere */
};

struct shm_capacity {
    uint32_t seats;
    uint32_t keys;
    uint32_t tenants;
};

/* Creates STATE_DIR/segment (replacing any) with disk reserved for all but the seats. */
MUST_CHECK bool shm_map_create(struct shm_map *map, const char *state_dir, const struct shm_capacity *capacity,
                               struct buffer *error);

enum shm_attach { SHM_ATTACHED, SHM_ATTACH_NONE, SHM_ATTACH_OTHER_BOOT, SHM_ATTACH_OTHER_LAYOUT, SHM_ATTACH_FAILED };

/* Maps an existing segment. NONE: there is no such file. OTHER_BOOT: the machine was restarted since, what it holds is
 * not to be trusted. OTHER_LAYOUT: made by another version. */
MUST_CHECK enum shm_attach shm_map_attach(struct shm_map *map, const char *state_dir, bool writable,
                                          struct buffer *error);

void shm_map_close(struct shm_map *map);

/* Removes STATE_DIR/segment. Only under the state lock. */
void shm_map_remove(const char *state_dir);

/* Tables. An index past its capacity is a programming error and aborts. */
struct shm_seat_sh *shm_seat(const struct shm_map *map, uint32_t seat);
struct shm_slot_sh *shm_slot(const struct shm_map *map, uint32_t seat, uint32_t slot);
struct shm_usage_record_sh *shm_ring_entry(const struct shm_map *map, uint32_t seat, uint64_t position);
struct shm_secret_sh *shm_secret(const struct shm_map *map, uint32_t row);
struct shm_key_sh *shm_key(const struct shm_map *map, uint32_t key_index);
struct shm_tenant_sh *shm_tenant(const struct shm_map *map, uint32_t tenant_index);
struct shm_account_sh *shm_key_account(const struct shm_map *map, uint32_t key_index);
struct shm_account_sh *shm_tenant_account(const struct shm_map *map, uint32_t tenant_index);
struct shm_allow_sh *shm_allow(const struct shm_map *map, uint32_t row);
struct shm_price_sh *shm_price_row(const struct shm_map *map, uint32_t row);
struct shm_upstream_sh *shm_upstream(const struct shm_map *map, uint32_t row);

/* Master: finds a FREE seat, reserves its disk, zeroes its gauges and marks it ASSIGNED. Its ring positions go on where
 * they stood. Returns the seat, or -1 with *error set: none is free, or the disk is full. */
MUST_CHECK int shm_seat_assign(struct shm_map *map, uint32_t worker_index, uint32_t generation, struct buffer *error);

/* Master: the row of the upstream `name`, claiming a free one the first time. SHM_NO_ROW when the table is full. */
uint32_t shm_upstream_claim(const struct shm_map *map, const char *name);

/* This machine's boot id (Linux, /proc/sys/kernel/random/boot_id). */
void shm_boot_id(char out[static 40]);

#endif
