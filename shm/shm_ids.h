/* shm/shm_ids.h - which request ids of clients' own are taken: a record's id is unique in its tenant.
 * Used by: workers claim an id at admission; the ledger claims those of its records when it starts.
 * A fixed table of 64-bit fingerprints, one compare-and-swap a claim. When a neighbourhood is full the claim replaces
 * an older one; the ledger, which sees every record, still keeps ids apart then. Blocking: never. */
#ifndef TOLLGATE_SHM_SHM_IDS_H
#define TOLLGATE_SHM_SHM_IDS_H

#include "shm/shm_map.h"

/* True when nobody of this tenant holds the id; it is taken from now on. */
MUST_CHECK bool shm_id_claim(const struct shm_map *map, uint32_t tenant_id, const char *id);

/* Gives an id back whose request left no record. */
void shm_id_forget(const struct shm_map *map, uint32_t tenant_id, const char *id);

#endif
