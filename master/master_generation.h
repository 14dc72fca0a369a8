/* master/master_generation.h - one configuration in force: its sockets, its posts, its rows in the segment.
 * Used by: the master only. */
#ifndef TOLLGATE_MASTER_MASTER_GENERATION_H
#define TOLLGATE_MASTER_MASTER_GENERATION_H

#include "master/master_state.h"

/* Makes a generation for conf, sharing the sockets of `old` (may be NULL), with empty posts. Takes conf over, on
 * failure too: then it is freed, nothing has changed, and *error says why. The segment's rows are claimed by
 * master_generation_claim. */
MUST_CHECK struct master_generation *master_generation_new(struct master *master, struct conf *conf,
                                                           const struct master_generation *old, struct buffer *error);

/* Gives each upstream its row in the segment. False with *error set when the segment has no row left. */
MUST_CHECK bool master_generation_claim(struct master *master, struct master_generation *generation,
                                        struct buffer *error);

/* NULL is fine. Children that still run it keep their own copies. */
void master_generation_free(struct master_generation *generation);

/* More worker posts, so that sockets which can no longer be closed without loss all have a reader. */
void master_generation_grow(struct master_generation *generation, int worker_count);

#endif
