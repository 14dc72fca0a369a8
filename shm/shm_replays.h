/* shm/shm_replays.h - which request signatures were used: each is good once, over all workers.
 * Used by: workers. A table of SHM_REPLAY_ROWS words, each a fingerprint of a signature and the second up to which it
 * must be remembered; a row is free again when that second has passed. One compare-and-swap a claim.
 * A table that is full near a signature refuses it: nothing is let through that may have been seen.
 * Between two segments STATE_DIR/signatures keeps what is still to be remembered: whoever removes a segment saves it,
 * the master loads it into the next.
 * Blocking: claims never; save and load touch the disk. Crash: a claim whose worker dies stays used. */
#ifndef TOLLGATE_SHM_SHM_REPLAYS_H
#define TOLLGATE_SHM_SHM_REPLAYS_H

#include "shm/shm_map.h"

enum shm_replay {
    SHM_REPLAY_FIRST, /* never seen; it is used from now on */
    SHM_REPLAY_AGAIN, /* used before */
    SHM_REPLAY_FULL   /* cannot be told: refuse */
};

/* Uses a signature (a message authentication code, whose bytes are as good as random) up to until_wall_s, a moment at
 * which it is no longer accepted anyway. */
MUST_CHECK enum shm_replay shm_replay_claim(const struct shm_map *map, const unsigned char mac[static 32],
                                            int64_t until_wall_s, int64_t now_wall_s);

/* Writes what is remembered beyond now_wall_s to STATE_DIR/signatures, for the next segment. False: it could not be
 * written, and errno says why. Only under the state lock, when no worker lives. */
MUST_CHECK bool shm_replays_save(const struct shm_map *map, const char *state_dir, int64_t now_wall_s);

/* Master: takes in what shm_replays_save left, and removes it. A file that is damaged gives what is well formed. */
void shm_replays_load(const struct shm_map *map, const char *state_dir, int64_t now_wall_s);

#endif
