/* segment_gauges STATE_DIR - prints, as one JSON object, what of a server's segment should be zero when no request
 * lives (slots, records not committed, seats without an end), and every account with requests in flight, money held, or
 * a balance unlike what the ledger has committed. Used by: the fault test (invariants I2, I3). Reads only; the values
 * are a snapshot of words that may change. */
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

/* Is there anything that should not be there when nothing runs: a gauge, or a balance unlike the ledger's? */
static bool is_at_rest(const struct shm_account_sh *account) {
    bool rests = atomic_load(&account->in_flight) == 0;
    for (int window = 0; window < SHM_WINDOWS; window++) {
        const struct shm_balance_sh *balance = &account->balances[window];
        rests = rests && balance->held_nusd == 0 && balance->spent_nusd == atomic_load(&account->spend_nusd[window]);
    }
    return rests;
}

static void print_account(const char *kind, uint32_t index, const struct shm_account_sh *account, const char **comma) {
    if (is_at_rest(account)) {
        return;
    }
    (void)printf("%s{\"kind\":\"%s\",\"index\":%" PRIu32 ",\"in_flight\":%" PRId64 ",\"windows\":[", *comma, kind,
                 index, atomic_load(&account->in_flight));
    for (int window = 0; window < SHM_WINDOWS; window++) {
        const struct shm_balance_sh *balance = &account->balances[window];
        (void)printf("%s{\"held_nusd\":%" PRId64 ",\"spent_nusd\":%" PRId64 ",\"committed_nusd\":%" PRId64 "}",
                     window == 0 ? "" : ",", balance->held_nusd, balance->spent_nusd,
                     atomic_load(&account->spend_nusd[window]));
    }
    (void)printf("]}");
    *comma = ",";
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
