#include "store/publish_ids.h"

#include "shm/shm_ids.h"

enum { RECORDS_LOOKED_AT_MOST = SHM_IDS / 2 };

struct walk {
    const struct shm_map *map;
    int64_t looked_at;
};

static bool claim(void *context, const struct ledger_record *record) {
    struct walk *walk = context;
    if ((record->usage.flags & SHM_RECORD_CLIENT_ID) != 0) {
        (void)!shm_id_claim(walk->map, record->usage.tenant_id, record->usage.id);
    }
    return ++walk->looked_at < RECORDS_LOOKED_AT_MOST;
}

bool publish_ids(const struct shm_map *map, struct ledger *ledger, struct buffer *error) {
    struct walk walk = {.map = map};
    return ledger_each_record(ledger, 0, INT64_MAX, true, claim, &walk, error);
}
