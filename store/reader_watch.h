/* store/reader_watch.h - ends a report that is stopped or hangs before the books grow without bound under it.
 * Used by: the ledger process, once a second.
 * While a reader keeps its snapshot, LMDB uses no page again that was freed since: each commit makes the file longer.
 * Reports end by themselves in well under a second; one that is stopped in a terminal, or hangs, does not. */
#ifndef TOLLGATE_STORE_READER_WATCH_H
#define TOLLGATE_STORE_READER_WATCH_H

#include "store/kv.h"

/* How far the file may grow under one reader: as much again as it was, and this in any case. */
#define READER_GROWTH_BYTES (UINT64_C(256) << 20)

struct reader_watch {
    struct kv_reader reader; /* pid 0: none */
    int64_t since_mono_ns;   /* when it was first seen with this snapshot */
    uint64_t used_bytes;     /* of the file, then */
    bool warned;
};

/* Looks at the reader with the oldest snapshot. One that keeps it for a minute is logged; under one that lets the file
 * grow by more than growth_bytes and by more than its size, its process is ended with SIGKILL, if it is of this
 * program. Returns whether it was. */
bool reader_watch_step(struct reader_watch *watch, struct kv *kv, int64_t now_mono_ns, uint64_t growth_bytes);

#endif
