#include "shm/shm_connections.h"

#include <string.h>

#include "base/clock.h"
#include "base/hash.h"

enum { NEIGHBOURHOOD = 32, COUNT_BITS = 24, TRIES = 8, PAUSES_MOST = 256 };

static const uint64_t count_mask = (UINT64_C(1) << COUNT_BITS) - 1;

struct place {
    uint64_t tag; /* the row's word without its count; never 0 */
    uint64_t start;
};

/* Clients choose their addresses; they must not choose their rows. */
static struct place place_of(const struct shm_map *map, const unsigned char *address) {
    uint64_t hash = hash_fast(span_of((const char *)address, 16), map->header->incarnation);
    uint64_t tag = hash & ~count_mask;
    return (struct place){.tag = tag != 0 ? tag : count_mask + 1, .start = hash & (SHM_CONNECTION_ROWS - 1)};
}

static _Atomic uint64_t *row_of(const struct shm_map *map, uint32_t seat, uint64_t row) {
    CHECK(seat < map->header->seat_count);
    _Atomic uint64_t *rows = (void *)((char *)map->header + map->header->connections_offset);
    return &rows[(uint64_t)seat * SHM_CONNECTION_ROWS + (row & (SHM_CONNECTION_ROWS - 1))];
}

/* The row of the address in a seat's table; without one a free row when `or_free`, else NULL. */
static _Atomic uint64_t *find_row(const struct shm_map *map, uint32_t seat, const struct place *place, bool or_free) {
    _Atomic uint64_t *free_row = NULL;
    for (uint64_t step = 0; step < NEIGHBOURHOOD; step++) {
        _Atomic uint64_t *row = row_of(map, seat, place->start + step);
        uint64_t word = atomic_load(row);
        if ((word & ~count_mask) == place->tag) {
            return row;
        }
        if (word == 0 && free_row == NULL) {
            free_row = row;
        }
    }
    return or_free ? free_row : NULL;
}

static bool is_counted(const struct shm_map *map, uint32_t seat) {
    uint32_t state = atomic_load(&shm_seat(map, seat)->state);
    return state != SHM_SEAT_FREE && state != SHM_SEAT_DEAD;
}

static int64_t sum_seats(const struct shm_map *map, const struct place *place) {
    int64_t sum = 0;
    for (uint32_t seat = 0; seat < map->header->seat_count; seat++) {
        const _Atomic uint64_t *row = is_counted(map, seat) ? find_row(map, seat, place, false) : NULL;
        sum += row != NULL ? (int64_t)(atomic_load(row) & count_mask) : 0;
    }
    return sum;
}

static void add_one(_Atomic uint64_t *row, const struct place *place) {
    uint64_t word = atomic_load(row);
    CHECK((word & count_mask) != count_mask);
    atomic_store(row, (word != 0 ? word : place->tag) + 1);
}

static void take_one(_Atomic uint64_t *row) {
    uint64_t word = atomic_load(row);
    atomic_store(row, (word & count_mask) > 1 ? word - 1 : 0);
}

/* Two workers that tried at one moment must not meet again. */
static void step_aside(uint32_t seat) {
    uint64_t pauses = ((uint64_t)clock_mono_ns() + seat * UINT64_C(37)) % PAUSES_MOST;
    for (uint64_t i = 0; i < pauses; i++) {
        atomic_thread_fence(memory_order_seq_cst);
    }
}

bool shm_connection_take(const struct shm_map *map, uint32_t seat, const unsigned char address[static 16],
                         int64_t most) {
    const struct place place = place_of(map, address);
    _Atomic uint64_t *row = find_row(map, seat, &place, true);
    if (row == NULL) {
        return most <= 0 || sum_seats(map, &place) < most;
    }
    if (most <= 0) {
        add_one(row, &place);
        return true;
    }
    for (int i = 0; i < TRIES && sum_seats(map, &place) < most; i++) {
        /* Counted first and looked at then: of several at once none can miss the others. */
        add_one(row, &place);
        if (sum_seats(map, &place) <= most) {
            return true;
        }
        take_one(row);
        step_aside(seat);
    }
    return false;
}

void shm_connection_return(const struct shm_map *map, uint32_t seat, const unsigned char address[static 16]) {
    const struct place place = place_of(map, address);
    _Atomic uint64_t *row = find_row(map, seat, &place, false);
    if (row != NULL) {
        take_one(row);
    }
}

int64_t shm_connection_count(const struct shm_map *map, const unsigned char address[static 16]) {
    const struct place place = place_of(map, address);
    return sum_seats(map, &place);
}

void shm_connections_clear(const struct shm_map *map, uint32_t seat) {
    memset((void *)row_of(map, seat, 0), 0, sizeof(uint64_t) * SHM_CONNECTION_ROWS);
}
