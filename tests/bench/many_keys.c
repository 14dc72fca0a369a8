/* Fills the ledger of a state directory with so many tenants and keys, which the command line would take hours for.
 * many_keys STATE_DIR TENANTS KEYS. Key n is "sk-tg-" and n in 38 digits: no checksum is right, for nobody is to use
 * it. Each has spent n + 1 nano-USD. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "bench.h"
#include "store/accounts.h"
#include "store/spend.h"

enum { BATCH = 50000, SECRET_BYTES = 45 };

struct filling {
    struct ledger *ledger;
    struct kv_txn *txn;
    struct spend_windows windows;
    struct buffer error;
};

static void begin_batch(struct filling *filling) {
    filling->txn = ledger_begin_write(filling->ledger, &filling->error);
    CHECK(filling->txn != NULL);
}

static void end_batch(struct filling *filling) {
    if (ledger_end_write(filling->ledger, filling->txn, &filling->error) != KV_OK) {
        (void)fprintf(stderr, "many_keys: %s\n", buffer_text(&filling->error));
        exit(1);
    }
}

static void add_tenants(struct filling *filling, uint32_t count) {
    begin_batch(filling);
    for (uint32_t id = 0; id < count; id++) {
        struct tenant tenant = {.id = id, .markup = MARKUP_ONE};
        account_limits_init(&tenant.limits);
        (void)snprintf(tenant.name, sizeof(tenant.name), "tenant%" PRIu32, id);
        CHECK(tenant_store(filling->txn, &tenant));
    }
    end_batch(filling);
}

static void add_key(struct filling *filling, struct api_key *key, uint32_t number, uint32_t tenants) {
    char text[SECRET_BYTES];
    struct account_secret secret = {.key_number = number, .valid_until_wall_ns = INT64_MAX};
    *key = (struct api_key){.number = number,
                            .tenant_id = number % tenants,
                            .state = SHM_KEY_LIVE,
                            .expires_wall_ns = INT64_MAX,
                            .tags = "{}"};
    account_limits_init(&key->limits);
    key->limits.requests_per_minute = 600;
    (void)snprintf(key->id, sizeof(key->id), "key_%016" PRIu32, number);
    int len = snprintf(text, sizeof(text), "sk-tg-%038" PRIu32, number);
    hash_sha256(span_of(text, (size_t)len), secret.hash);
    CHECK(api_key_store(filling->txn, key) && account_secret_store(filling->txn, &secret));
    for (int window = 0; window < SHM_WINDOWS; window++) {
        struct pack_key spent = fold_spend_key(window, filling->windows.start_wall_ns[window], FOLD_KEY, number);
        CHECK(spend_row_store(filling->txn, spent.bytes, number + 1));
    }
}

static void add_keys(struct filling *filling, uint32_t count, uint32_t tenants) {
    struct api_key *key = calloc(1, sizeof(*key));
    CHECK(key != NULL);
    for (uint32_t number = 0; number < count; number++) {
        if (number % BATCH == 0) {
            begin_batch(filling);
        }
        add_key(filling, key, number, tenants);
        if (number % BATCH == BATCH - 1 || number == count - 1) {
            end_batch(filling);
        }
    }
    free(key);
}

int main(int count, char **arguments) {
    struct filling filling = {.ledger = NULL};
    if (count != 4) {
        (void)fprintf(stderr, "usage: many_keys STATE_DIR TENANTS KEYS\n");
        return 2;
    }
    uint32_t tenants = (uint32_t)strtoul(arguments[2], NULL, 10);
    uint32_t keys = (uint32_t)strtoul(arguments[3], NULL, 10);
    buffer_init(&filling.error, 4096);
    filling.ledger = ledger_open(arguments[1], LEDGER_WRITE, &filling.error);
    if (filling.ledger == NULL || tenants == 0) {
        (void)fprintf(stderr, "many_keys: %s\n", buffer_text(&filling.error));
        return 1;
    }
    spend_windows_at(clock_wall_ns(), &filling.windows);
    add_tenants(&filling, tenants);
    add_keys(&filling, keys, tenants);
    ledger_close(filling.ledger);
    buffer_fini(&filling.error);
    return 0;
}
