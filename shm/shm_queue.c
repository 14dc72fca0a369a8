#include "shm/shm_queue.h"

#include "shm/heritage.h"

/* A row belongs to who set its identity; a ticket of 0 says that its owner is still arriving, or leaving. */
static struct shm_queue_sh *queue_of(const struct shm_map *map, uint32_t tenant_index) {
    struct shm_queue_sh *queues = (struct shm_queue_sh *)(void *)((char *)map->header + map->header->queues_offset);
    return &queues[tenant_index % SHM_QUEUES];
}

static struct shm_queue_sh *queue_at(const struct shm_map *map, int place, struct shm_waiter_sh **row) {
    CHECK(place >= 0 && place < SHM_QUEUES * SHM_QUEUE_PLACES);
    struct shm_queue_sh *queue = queue_of(map, (uint32_t)(place / SHM_QUEUE_PLACES));
    *row = &queue->waiters[place % SHM_QUEUE_PLACES];
    return queue;
}

static uint64_t identity_of(uint32_t key_index, uint32_t seat) { return ((uint64_t)seat + 1) << 32 | key_index; }

static uint32_t seat_of(uint64_t identity) { return (uint32_t)(identity >> 32) - 1; }

int shm_queue_join(const struct shm_map *map, uint32_t tenant_index, uint32_t key_index, uint32_t seat) {
    struct shm_queue_sh *queue = queue_of(map, tenant_index);
    uint64_t identity = identity_of(key_index, seat);
    /* Counted before it is there and after it has gone: a death in between leaves the count too high, which costs a
     * look, never too low. */
    atomic_fetch_add(&queue->waiting, 1);
    for (int i = 0; i < SHM_QUEUE_PLACES; i++) {
        struct shm_waiter_sh *row = &queue->waiters[i];
        uint64_t free_row = 0;
        if (atomic_load_explicit(&row->identity, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong(&row->identity, &free_row, identity)) {
            atomic_store(&row->ticket, atomic_fetch_add(&queue->last_ticket, 1) + 1);
            return (int)(tenant_index % SHM_QUEUES) * SHM_QUEUE_PLACES + i;
        }
    }
    atomic_fetch_sub(&queue->waiting, 1);
    return -1;
}

static void free_row(struct shm_queue_sh *queue, struct shm_waiter_sh *row) {
    atomic_store(&row->ticket, 0);
    atomic_store(&row->identity, 0);
    atomic_fetch_sub(&queue->waiting, 1);
}

void shm_queue_leave(const struct shm_map *map, int place) {
    struct shm_waiter_sh *row = NULL;
    struct shm_queue_sh *queue = queue_at(map, place, &row);
    free_row(queue, row);
}

/* How many rows of this key have a ticket below `ticket`? */
static uint32_t count_before(struct shm_queue_sh *queue, uint32_t key_index, uint64_t ticket) {
    uint32_t count = 0;
    if (atomic_load(&queue->waiting) == 0) {
        return 0;
    }
    for (int i = 0; i < SHM_QUEUE_PLACES; i++) {
        uint64_t identity = atomic_load(&queue->waiters[i].identity);
        uint64_t other = atomic_load(&queue->waiters[i].ticket);
        count += identity != 0 && (uint32_t)identity == key_index && other != 0 && other < ticket ? 1 : 0;
    }
    return count;
}

bool shm_queue_is_first(const struct shm_map *map, int place) {
    struct shm_waiter_sh *row = NULL;
    struct shm_queue_sh *queue = queue_at(map, place, &row);
    return count_before(queue, (uint32_t)atomic_load(&row->identity), atomic_load(&row->ticket)) == 0;
}

uint32_t shm_queue_count_before(const struct shm_map *map, uint32_t tenant_index, uint32_t key_index, int place) {
    struct shm_waiter_sh *row = NULL;
    if (place < 0) {
        return count_before(queue_of(map, tenant_index), key_index, UINT64_MAX);
    }
    struct shm_queue_sh *queue = queue_at(map, place, &row);
    return count_before(queue, key_index, atomic_load(&row->ticket));
}

bool shm_queue_is_waited_for(const struct shm_map *map, uint32_t tenant_index, uint32_t key_index) {
    return shm_queue_count_before(map, tenant_index, key_index, -1) != 0;
}

void shm_queue_each(const struct shm_map *map, uint32_t tenant_index, void (*wake)(void *context, uint32_t seat),
                    void *context) {
    struct shm_queue_sh *queue = queue_of(map, tenant_index);
    if (atomic_load(&queue->waiting) == 0) {
        return;
    }
    uint64_t told[HERITAGE_SEATS_MOST / 64] = {0};
    for (int i = 0; i < SHM_QUEUE_PLACES; i++) {
        uint64_t identity = atomic_load(&queue->waiters[i].identity);
        uint32_t seat = seat_of(identity) % HERITAGE_SEATS_MOST;
        if (identity != 0 && (told[seat / 64] >> seat % 64 & 1) == 0) {
            told[seat / 64] |= UINT64_C(1) << seat % 64;
            wake(context, seat_of(identity));
        }
    }
}

uint64_t shm_queue_waiting(const struct shm_map *map) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < SHM_QUEUES; i++) {
        struct shm_queue_sh *queue = queue_of(map, i);
        for (int place = 0; atomic_load(&queue->waiting) != 0 && place < SHM_QUEUE_PLACES; place++) {
            count += atomic_load(&queue->waiters[place].ticket) != 0;
        }
    }
    return count;
}

void shm_queue_clear_seat(const struct shm_map *map, uint32_t seat) {
    for (uint32_t i = 0; i < SHM_QUEUES; i++) {
        struct shm_queue_sh *queue = queue_of(map, i);
        for (int place = 0; atomic_load(&queue->waiting) != 0 && place < SHM_QUEUE_PLACES; place++) {
            struct shm_waiter_sh *row = &queue->waiters[place];
            uint64_t identity = atomic_load(&row->identity);
            if (identity != 0 && seat_of(identity) == seat) {
                free_row(queue, row);
            }
        }
    }
}
