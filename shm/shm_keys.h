/* shm/shm_keys.h - the published tables of secrets, keys, tenants, allow-lists and prices.
 * Used by: the ledger writes them (shm_*_publish), workers and admin read copies (shm_*_read, shm_key_find).
 * Protocol: shm_row.h. Of a writer that is slow or was killed in a row, readers go on seeing what it said before.
 * Blocking: never. */
#ifndef TOLLGATE_SHM_SHM_KEYS_H
#define TOLLGATE_SHM_SHM_KEYS_H

#include "base/hash.h"
#include "shm/shm_map.h"

/* Finds the key of a secret by its SHA-256, comparing in constant time. Returns its index, or -1 when there is none or
 * the secret's time is over. */
int shm_key_find(const struct shm_map *map, const unsigned char hash[static SHA256_BYTES], int64_t now_wall_ns);

/* Copies a row. False when the row is unused. */
MUST_CHECK bool shm_key_read(const struct shm_map *map, uint32_t key_index, struct shm_key_sh *out);
MUST_CHECK bool shm_tenant_read(const struct shm_map *map, uint32_t tenant_index, struct shm_tenant_sh *out);
MUST_CHECK bool shm_allow_read(const struct shm_map *map, uint32_t row, struct shm_allow_sh *out);

/* The price book's price of a model at an instant. False when the book has none that has begun. */
MUST_CHECK bool shm_price_at(const struct shm_map *map, struct span model, int64_t wall_ns, struct price *out);

/* Is `model` among the row's models? A row with model_count 0 allows all. */
bool shm_allow_has_model(const struct shm_allow_sh *allow, const char *model);

/* Item number `index` (models first, then networks), or NULL. */
const char *shm_allow_item(const struct shm_allow_sh *allow, uint32_t index);

/* Ledger only. Rows are copied in; `version` in the argument is ignored. shm_secret_publish inserts or updates the row
 * of that hash and returns false when the table is full; valid_until_wall_ns of 0 keeps the row but lets no one in. */
MUST_CHECK bool shm_secret_publish(const struct shm_map *map, const unsigned char hash[static SHA256_BYTES],
                                   uint32_t key_index, int64_t valid_until_wall_ns);
void shm_key_publish(const struct shm_map *map, uint32_t key_index, const struct shm_key_sh *row);
void shm_tenant_publish(const struct shm_map *map, uint32_t tenant_index, const struct shm_tenant_sh *row);
void shm_allow_publish(const struct shm_map *map, uint32_t allow_row, const struct shm_allow_sh *row);
MUST_CHECK bool shm_price_publish(const struct shm_map *map, const struct shm_price_sh *row);

/* Appends an item to an allow-list being built; false when it is full. Models go first, then networks. */
MUST_CHECK bool shm_allow_add(struct shm_allow_sh *allow, const char *item, bool is_network);

#endif
