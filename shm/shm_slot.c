#include "shm/shm_slot.h"

#include <string.h>

void shm_slots_init(struct shm_slots *slots, const struct shm_map *map, uint32_t seat) {
    slots->map = map;
    slots->seat = seat;
    slots->reserved_entries = 0;
    slots->free_count = SHM_SLOTS_PER_SEAT;
    /* The lowest slots are taken first, so that a quiet worker touches few pages. */
    for (uint32_t i = 0; i < SHM_SLOTS_PER_SEAT; i++) {
        slots->free_slots[i] = (uint16_t)(SHM_SLOTS_PER_SEAT - 1 - i);
    }
}

int shm_slot_take(struct shm_slots *slots) {
    uint64_t tail = 0;
    uint64_t head = 0;
    shm_ring_bounds(slots->map, slots->seat, &tail, &head);
    if (slots->free_count == 0 || head - tail + slots->reserved_entries >= SHM_RING_ENTRIES) {
        return -1;
    }
    slots->reserved_entries++;
    uint16_t index = slots->free_slots[--slots->free_count];
    struct shm_slot_sh *slot = shm_slot(slots->map, slots->seat, index);
    CHECK(atomic_load_explicit(&slot->state, memory_order_relaxed) == SHM_SLOT_FREE);
    slot->key_index = 0;
    slot->tenant_index = 0;
    slot->upstream_row = SHM_NO_ROW;
    slot->pair_row = SHM_NO_ROW;
    slot->ring_position = 0;
    slot->held_nusd = 0;
    memset(&slot->record, 0, sizeof(slot->record));
    return (int)index;
}

void shm_slot_go_live(struct shm_slots *slots, int slot) {
    struct shm_slot_sh *shared = shm_slot(slots->map, slots->seat, (uint32_t)slot);
    atomic_store_explicit(&shared->state, SHM_SLOT_LIVE, memory_order_release);
}

static void give_back(struct shm_slots *slots, int slot) {
    CHECK(slots->reserved_entries != 0 && slots->free_count < SHM_SLOTS_PER_SEAT);
    slots->reserved_entries--;
    slots->free_slots[slots->free_count++] = (uint16_t)slot;
}

/* The hand-over itself, by the seat's owner. The position is stored before the head moves and the slot is freed after,
 * so whoever finds SETTLING later can tell from the head whether the record was published. */
static bool publish(const struct shm_map *map, uint32_t seat_index, struct shm_slot_sh *slot) {
    struct shm_seat_sh *seat = shm_seat(map, seat_index);
    uint64_t head = atomic_load_explicit(&seat->ring_head, memory_order_relaxed);
    if (slot->record.attempts == 0) {
        atomic_store_explicit(&slot->state, SHM_SLOT_FREE, memory_order_release);
        return false;
    }
    slot->ring_position = head;
    atomic_store_explicit(&slot->state, SHM_SLOT_SETTLING, memory_order_release);
    memcpy(shm_ring_entry(map, seat_index, head), &slot->record, sizeof(slot->record));
    atomic_store_explicit(&seat->ring_head, head + 1, memory_order_release);
    atomic_store_explicit(&slot->state, SHM_SLOT_FREE, memory_order_release);
    return true;
}

void shm_slot_settle(struct shm_slots *slots, int slot) {
    struct shm_slot_sh *shared = shm_slot(slots->map, slots->seat, (uint32_t)slot);
    CHECK(atomic_load_explicit(&shared->state, memory_order_relaxed) == SHM_SLOT_LIVE);
    if (publish(slots->map, slots->seat, shared)) {
        shm_count(shm_seat(slots->map, slots->seat), SHM_COUNTER_settled, 1);
    }
    give_back(slots, slot);
}

void shm_slot_drop(struct shm_slots *slots, int slot) {
    struct shm_slot_sh *shared = shm_slot(slots->map, slots->seat, (uint32_t)slot);
    CHECK(atomic_load_explicit(&shared->state, memory_order_relaxed) == SHM_SLOT_FREE);
    give_back(slots, slot);
}

/* A hand-over that was under way when its owner died: the head tells whether it had happened. At most one slot of a
 * seat is SETTLING, and it must be resolved before anything else moves the head. */
static uint32_t finish_hand_over(const struct shm_map *map, uint32_t seat_index, struct shm_slot_sh *slot) {
    uint64_t head = atomic_load_explicit(&shm_seat(map, seat_index)->ring_head, memory_order_acquire);
    if (slot->ring_position < head) {
        atomic_store_explicit(&slot->state, SHM_SLOT_FREE, memory_order_release);
        return 0;
    }
    return publish(map, seat_index, slot) ? 1 : 0;
}

uint32_t shm_slots_sweep(const struct shm_map *map, uint32_t seat_index,
                         void (*finish)(void *context, struct shm_slot_sh *slot), void *context) {
    uint32_t published = 0;
    for (uint32_t i = 0; i < SHM_SLOTS_PER_SEAT; i++) {
        struct shm_slot_sh *slot = shm_slot(map, seat_index, i);
        if (atomic_load_explicit(&slot->state, memory_order_acquire) == SHM_SLOT_SETTLING) {
            published += finish_hand_over(map, seat_index, slot);
        }
    }
    for (uint32_t i = 0; i < SHM_SLOTS_PER_SEAT; i++) {
        struct shm_slot_sh *slot = shm_slot(map, seat_index, i);
        if (atomic_load_explicit(&slot->state, memory_order_acquire) == SHM_SLOT_LIVE) {
            finish(context, slot);
            published += publish(map, seat_index, slot) ? 1 : 0;
        }
    }
    return published;
}

void shm_ring_bounds(const struct shm_map *map, uint32_t seat_index, uint64_t *tail, uint64_t *head) {
    const struct shm_seat_sh *seat = shm_seat(map, seat_index);
    *tail = atomic_load_explicit(&seat->ring_tail, memory_order_acquire);
    *head = atomic_load_explicit(&seat->ring_head, memory_order_acquire);
}

void shm_ring_release(const struct shm_map *map, uint32_t seat_index, uint64_t new_tail) {
    atomic_store_explicit(&shm_seat(map, seat_index)->ring_tail, new_tail, memory_order_release);
}

int64_t shm_histogram_border_ns(int bucket) {
    static const int64_t borders_us[SHM_HISTOGRAM_BUCKETS - 1] = {
        50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 100000, 250000, 1000000, 2500000, 10000000, 60000000};
    return bucket < SHM_HISTOGRAM_BUCKETS - 1 ? borders_us[bucket] * 1000 : INT64_MAX;
}

void shm_histogram_add(struct shm_histogram_sh *histogram, int64_t duration_ns) {
    int bucket = 0;
    while (bucket < SHM_HISTOGRAM_BUCKETS - 1 && duration_ns > shm_histogram_border_ns(bucket)) {
        bucket++;
    }
    _Atomic uint64_t *cells[] = {&histogram->buckets[bucket], &histogram->count, &histogram->sum_ns};
    const uint64_t adds[] = {1, 1, duration_ns > 0 ? (uint64_t)duration_ns : 0};
    for (int i = 0; i < 3; i++) {
        atomic_store_explicit(cells[i], atomic_load_explicit(cells[i], memory_order_relaxed) + adds[i],
                              memory_order_relaxed);
    }
}
