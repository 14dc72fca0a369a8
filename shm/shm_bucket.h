/* shm/shm_bucket.h - rate limits: one 64-bit word a bucket, one compare-and-swap a change (GCRA, "generic cell rate
 * algorithm": the word is the monotonic time at which the bucket would be full again).
 * Used by: workers, all together. Capacity is one minute's allowance, refilled continuously.
 * Crash: a permit taken by a process that dies is given back by time alone, within a minute. */
#ifndef TOLLGATE_SHM_SHM_BUCKET_H
#define TOLLGATE_SHM_SHM_BUCKET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Takes `permits` when the bucket holds that many; with the bucket untouched otherwise. per_minute 0 is no limit. A
 * request for more than the capacity is granted when the bucket is full, and leaves it below zero. */
bool shm_bucket_take(_Atomic uint64_t *bucket, int64_t per_minute, int64_t permits, int64_t now_mono_ns);

/* Takes what streamed beyond the estimate; may leave the bucket below zero, which later requests wait out. */
void shm_bucket_charge(_Atomic uint64_t *bucket, int64_t per_minute, int64_t permits, int64_t now_mono_ns);

/* The rate was changed from `before` to `after` a minute: what was used counts on as the same number of permits, so
 * that a higher limit has room at once. Rates of 0 change nothing. */
void shm_bucket_change_rate(_Atomic uint64_t *bucket, int64_t before_per_minute, int64_t after_per_minute,
                            int64_t now_mono_ns);

/* Gives permits back (a refused or failed request, an estimate that was too high); never above full. */
void shm_bucket_return(_Atomic uint64_t *bucket, int64_t per_minute, int64_t permits, int64_t now_mono_ns);

/* Whole permits in the bucket now, 0 when it is at or below zero. */
int64_t shm_bucket_left(const _Atomic uint64_t *bucket, int64_t per_minute, int64_t now_mono_ns);

/* Time until the bucket is full again, and until it holds `permits` (or is full, when it can't hold so many). */
int64_t shm_bucket_full_in_ns(const _Atomic uint64_t *bucket, int64_t now_mono_ns);
int64_t shm_bucket_wait_ns(const _Atomic uint64_t *bucket, int64_t per_minute, int64_t permits, int64_t now_mono_ns);

#endif
