/* store/budget_watch.h - says, once a window, that a tenant or key nears its budget or credit.
 * Used by: the ledger process, after each commit. */
#ifndef TOLLGATE_STORE_BUDGET_WATCH_H
#define TOLLGATE_STORE_BUDGET_WATCH_H

#include "conf/conf.h"
#include "shm/shm_map.h"

/* An account's spend in a window went from before to after: logs and counts it when that passed the configured share
 * of a limit. */
void budget_watch_spend(const struct shm_map *map, const struct conf *conf, bool of_tenant, uint32_t account,
                        enum shm_window window, int64_t before_nusd, int64_t after_nusd);

#endif
