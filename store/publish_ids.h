/* store/publish_ids.h - tells a fresh segment which of the clients' own request ids the records already hold.
 * Used by: the ledger process, once at its start, before workers accept. Blocking: disk. */
#ifndef TOLLGATE_STORE_PUBLISH_IDS_H
#define TOLLGATE_STORE_PUBLISH_IDS_H

#include "shm/shm_map.h"
#include "store/ledger.h"

/* Claims the ids of the newest records, as many as the table is good for. Older ones the commit still keeps apart. */
MUST_CHECK bool publish_ids(const struct shm_map *map, struct ledger *ledger, struct buffer *error);

#endif
