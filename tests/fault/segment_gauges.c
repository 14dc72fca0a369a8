/* segment_gauges STATE_DIR - prints, as one JSON object, every gauge of a server's segment that should be zero when no
 * request lives: slots, records not committed, seats without an end, requests in flight, money held.
 * Used by: the fault test (invariant I3). Reads only; the values are a snapshot of words that may change. */
#include <inttypes.h>
#include <stdio.h>

#include "shm/shm_map.h"
#include "shm/shm_slot.h"

static void print_seats(const struct shm_map *map) {
    uint64_t slots[3] = {0};
    int64_t held_nusd = 0;
    uint64_t pending = 0;
    uint32_t dead = 0;
    for (uint32_t seat = 0; seat < map->header->seat_count; seat++) {
        uint64_t tail = 0;
        uint64_t head = 0;
        uint32_t state = atomic_load(&shm_seat(map, seat)->state);
        shm_ring_bounds(map, seat, &tail, &head);
        pending += head - tail;
        dead += state == SHM_SEAT_DEAD;
        for (uint32_t index = 0; state != SHM_SEAT_FREE && index < SHM_SLOTS_PER_SEAT; index++) {
            const struct shm_slot_sh *slot = shm_slot(map, seat, index);
            uint32_t slot_state = atomic_load(&slot->state);
            slots[slot_state <= SHM_SLOT_SETTLING ? slot_state : SHM_SLOT_FREE]++;
            held_nusd += slot_state != SHM_SLOT_FREE ? slot->held_nusd : 0;
        }
    }
    (void)printf("\"live_slots\":%" PRIu64 ",\"settling_slots\":%" PRIu64 ",\"held_by_slots_nusd\":%" PRId64
                 ",\"records_pending\":%" PRIu64 ",\"dead_seats\":%" PRIu32,
                 slots[SHM_SLOT_LIVE], slots[SHM_SLOT_SETTLING], held_nusd, pending, dead);
}

/* One entry an account that is not at rest. */
static void print_account(const char *kind, uint32_t index, const struct shm_account_sh *account, const char **comma) {
    int64_t in_flight = atomic_load(&account->in_flight);
    const struct shm_balance_sh *balances = account->balances;
    int64_t day = balances[SHM_WINDOW_DAY].held_nusd;
    int64_t month = balances[SHM_WINDOW_MONTH].held_nusd;
    int64_t total = balances[SHM_WINDOW_TOTAL].held_nusd;
    if (in_flight != 0 || day != 0 || month != 0 || total != 0) {
        (void)printf("%s{\"kind\":\"%s\",\"index\":%" PRIu32 ",\"in_flight\":%" PRId64 ",\"held_nusd\":[%" PRId64
                     ",%" PRId64 ",%" PRId64 "]}",
                     *comma, kind, index, in_flight, day, month, total);
        *comma = ",";
    }
}

static void print_accounts(const struct shm_map *map) {
    const char *comma = "";
    (void)printf(",\"accounts\":[");
    for (uint32_t key = 0; key < map->header->key_capacity; key++) {
        print_account("key", key, shm_key_account(map, key), &comma);
    }
    for (uint32_t tenant = 0; tenant < map->header->tenant_capacity; tenant++) {
        print_account("tenant", tenant, shm_tenant_account(map, tenant), &comma);
    }
    for (uint32_t row = 0; row < SHM_UPSTREAMS; row++) {
        int64_t in_flight = atomic_load(&shm_upstream(map, row)->in_flight);
        if (in_flight != 0) {
            (void)printf("%s{\"kind\":\"upstream\",\"index\":%" PRIu32 ",\"in_flight\":%" PRId64 "}", comma, row,
                         in_flight);
            comma = ",";
        }
    }
    (void)printf("]");
}

int main(int argc, char **argv) {
    struct shm_map map;
    struct buffer error;
    buffer_init(&error, 1024);
    if (argc != 2 || shm_map_attach(&map, argv[1], false, &error) != SHM_ATTACHED) {
        (void)fprintf(stderr, "segment_gauges: %s\n",
                      argc != 2 ? "usage: segment_gauges STATE_DIR" : buffer_text(&error));
        buffer_fini(&error);
        return 1;
    }
    (void)printf("{");
    print_seats(&map);
    print_accounts(&map);
    (void)printf("}\n");
    shm_map_close(&map);
    buffer_fini(&error);
    return 0;
}
