#include "shm/shm_keys.h"

#include <stdio.h>
#include <string.h>

#include "shm/shm_row.h"

static uint32_t hash_start(const unsigned char hash[static SHA256_BYTES], uint32_t capacity) {
    uint64_t first = 0;
    memcpy(&first, hash, sizeof(first));
    return (uint32_t)(first & (capacity - 1));
}

int shm_key_find(const struct shm_map *map, const unsigned char hash[static SHA256_BYTES], int64_t now_wall_ns) {
    uint32_t capacity = map->header->secret_capacity;
    uint32_t row = hash_start(hash, capacity);
    for (uint32_t i = 0; i < capacity; i++, row = (row + 1) & (capacity - 1)) {
        struct shm_secret_sh secret;
        const struct shm_secret_sh *shared = shm_secret(map, row);
        if (!shm_row_read(map, shared, &secret, sizeof(secret))) {
            if (shm_row_version(shared) == 0) {
                return -1;
            }
            continue;
        }
        if (hash_equal(secret.hash, hash, SHA256_BYTES)) {
            return now_wall_ns < secret.valid_until_wall_ns ? (int)secret.key_index : -1;
        }
    }
    return -1;
}

bool shm_key_read(const struct shm_map *map, uint32_t key_index, struct shm_key_sh *out) {
    const struct shm_key_sh *row = shm_key(map, key_index);
    return shm_row_read(map, row, out, sizeof(*out)) && out->state != SHM_KEY_NONE;
}

bool shm_tenant_read(const struct shm_map *map, uint32_t tenant_index, struct shm_tenant_sh *out) {
    const struct shm_tenant_sh *row = shm_tenant(map, tenant_index);
    return shm_row_read(map, row, out, sizeof(*out)) && out->state != SHM_KEY_NONE;
}

bool shm_allow_read(const struct shm_map *map, uint32_t allow_row, struct shm_allow_sh *out) {
    const struct shm_allow_sh *row = shm_allow(map, allow_row);
    return shm_row_read(map, row, out, sizeof(*out)) && out->in_use != 0;
}

static uint32_t price_start(struct span model) { return (uint32_t)(hash_fast(model, 0) & (SHM_PRICE_ROWS - 1)); }

bool shm_price_at(const struct shm_map *map, struct span model, int64_t wall_ns, struct price *out) {
    uint32_t row = price_start(model);
    for (uint32_t i = 0; i < SHM_PRICE_ROWS; i++, row = (row + 1) & (SHM_PRICE_ROWS - 1)) {
        const struct shm_price_sh *shared = shm_price_row(map, row);
        struct shm_price_sh copy;
        if (!shm_row_read(map, shared, &copy, sizeof(copy))) {
            if (shm_row_version(shared) == 0) {
                return false;
            }
            continue;
        }
        copy.model[SHM_MODEL_NAME_BYTES - 1] = '\0';
        if (!span_is(model, copy.model)) {
            continue;
        }
        bool found = false;
        for (uint32_t k = 0; k < copy.count && k < SHM_PRICES_PER_MODEL; k++) {
            if (copy.prices[k].from_wall_ns <= wall_ns) {
                *out = copy.prices[k].price;
                found = true;
            }
        }
        return found;
    }
    return false;
}

const char *shm_allow_item(const struct shm_allow_sh *allow, uint32_t index) {
    uint32_t count = allow->model_count + allow->network_count;
    const char *at = allow->text;
    const char *end = allow->text + SHM_ALLOW_BYTES;
    for (uint32_t i = 0; i < count && at < end; i++) {
        const char *zero = memchr(at, '\0', (size_t)(end - at));
        if (zero == NULL) {
            return NULL;
        }
        if (i == index) {
            return at;
        }
        at = zero + 1;
    }
    return NULL;
}

bool shm_allow_has_model(const struct shm_allow_sh *allow, const char *model) {
    for (uint32_t i = 0; i < allow->model_count; i++) {
        const char *item = shm_allow_item(allow, i);
        if (item != NULL && strcmp(item, model) == 0) {
            return true;
        }
    }
    return allow->model_count == 0;
}

bool shm_allow_add(struct shm_allow_sh *allow, const char *item, bool is_network) {
    size_t used = 0;
    for (uint32_t i = 0; i < allow->model_count + allow->network_count; i++) {
        used += strlen(allow->text + used) + 1;
    }
    size_t size = strlen(item) + 1;
    CHECK(is_network || allow->network_count == 0);
    if (size > SHM_ALLOW_BYTES - used) {
        return false;
    }
    memcpy(allow->text + used, item, size);
    *(is_network ? &allow->network_count : &allow->model_count) += 1;
    return true;
}

bool shm_secret_publish(const struct shm_map *map, const unsigned char hash[static SHA256_BYTES], uint32_t key_index,
                        int64_t valid_until_wall_ns) {
    uint32_t capacity = map->header->secret_capacity;
    uint32_t row = hash_start(hash, capacity);
    struct shm_secret_sh secret = {.key_index = key_index, .valid_until_wall_ns = valid_until_wall_ns};
    memcpy(secret.hash, hash, SHA256_BYTES);
    shm_row_mend(map);
    for (uint32_t i = 0; i < capacity; i++, row = (row + 1) & (capacity - 1)) {
        struct shm_secret_sh *shared = shm_secret(map, row);
        bool unused = shm_row_version(shared) == 0;
        if (unused || memcmp(shared->hash, hash, SHA256_BYTES) == 0) {
            shm_row_write(map, shared, &secret, sizeof(secret));
            return true;
        }
    }
    return false;
}

void shm_key_publish(const struct shm_map *map, uint32_t key_index, const struct shm_key_sh *row) {
    struct shm_key_sh *shared = shm_key(map, key_index);
    shm_row_write(map, shared, row, sizeof(*row));
}

void shm_tenant_publish(const struct shm_map *map, uint32_t tenant_index, const struct shm_tenant_sh *row) {
    struct shm_tenant_sh *shared = shm_tenant(map, tenant_index);
    shm_row_write(map, shared, row, sizeof(*row));
}

void shm_allow_publish(const struct shm_map *map, uint32_t allow_row, const struct shm_allow_sh *row) {
    struct shm_allow_sh *shared = shm_allow(map, allow_row);
    shm_row_write(map, shared, row, sizeof(*row));
}

bool shm_price_publish(const struct shm_map *map, const struct shm_price_sh *price) {
    uint32_t row = price_start(span_text(price->model));
    shm_row_mend(map);
    for (uint32_t i = 0; i < SHM_PRICE_ROWS; i++, row = (row + 1) & (SHM_PRICE_ROWS - 1)) {
        struct shm_price_sh *shared = shm_price_row(map, row);
        bool unused = shm_row_version(shared) == 0;
        if (unused || strncmp(shared->model, price->model, sizeof(price->model)) == 0) {
            shm_row_write(map, shared, price, sizeof(*price));
            return true;
        }
    }
    return false;
}
