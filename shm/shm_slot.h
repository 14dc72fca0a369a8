/* shm/shm_slot.h - a worker's request slots and its usage ring: the protocol that ends every admitted request as
 * exactly one record, whoever dies (design.md section 3). Used by: workers, each on its own seat; the ledger on seats
 * that are DEAD (sweep) and as the only reader of rings. Writers: a slot and ring head, the seat's owner; a ring tail,
 * the ledger. Blocking: never. Crash: see shm_slot_settle. */
#ifndef TOLLGATE_SHM_SHM_SLOT_H
#define TOLLGATE_SHM_SHM_SLOT_H

#include "shm/shm_map.h"

/* A worker's private view of its seat. Lives on the worker's heap. */
struct shm_slots {
    const struct shm_map *map;
    uint32_t seat;
    uint32_t free_count;
    uint64_t reserved_entries; /* ring entries promised to live slots */
    uint16_t free_slots[SHM_SLOTS_PER_SEAT];
};

/* Takes over a seat in state ASSIGNED whose slots are all free. */
void shm_slots_init(struct shm_slots *slots, const struct shm_map *map, uint32_t seat);

/* Takes a free slot and promises it a ring entry, so that settling never waits. Returns the slot's index with a zeroed
 * record, still FREE in shared memory, or -1: no slot is free or the ring is full, so refuse the request with 503. */
MUST_CHECK int shm_slot_take(struct shm_slots *slots);

/* Publishes the slot as LIVE: from now on it becomes a record even when this process is killed. Call after filling the
 * record's identity and prices and before the first byte goes upstream. */
void shm_slot_go_live(struct shm_slots *slots, int slot);

/* Hands the slot's record to the ledger through the ring and frees the slot. A record with attempts == 0 is dropped.
 * A kill at any instruction leaves either the LIVE slot (the sweep will settle it), or SETTLING with the position it
 * was going to (the sweep looks whether the head passed it), or the published record. */
void shm_slot_settle(struct shm_slots *slots, int slot);

/* Frees a slot that was taken but never went live. */
void shm_slot_drop(struct shm_slots *slots, int slot);

/* Ledger: settles every slot of a DEAD seat on its dead worker's behalf; finish is called on each record first (to mark
 * it aborted, estimate and price it). Returns how many records were published. May be repeated after a crash. */
uint32_t shm_slots_sweep(const struct shm_map *map, uint32_t seat,
                         void (*finish)(void *context, struct shm_slot_sh *slot), void *context);

/* Ledger: positions [tail, head) of a seat's ring hold records not yet committed. */
void shm_ring_bounds(const struct shm_map *map, uint32_t seat, uint64_t *tail, uint64_t *head);

/* Ledger: gives the entries before new_tail back to the worker. */
void shm_ring_release(const struct shm_map *map, uint32_t seat, uint64_t new_tail);

/* The owner adds to one of its seat's counters (plain store: one writer). */
static inline void shm_count(struct shm_seat_sh *seat, enum shm_counter counter, uint64_t add) {
    _Atomic uint64_t *cell = &seat->counters[counter];
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + add, memory_order_relaxed);
}

/* The owner records a duration; bucket borders in shm_histogram_border_ns. */
void shm_histogram_add(struct shm_histogram_sh *histogram, int64_t duration_ns);

/* Upper border of a bucket, INT64_MAX for the last. */
int64_t shm_histogram_border_ns(int bucket);

#endif
