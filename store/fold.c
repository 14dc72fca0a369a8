#include "store/fold.h"

#include <stdlib.h>

#include "base/calendar.h"
#include "base/clock.h"
#include "base/hash.h"

enum { ENTRIES_FIRST = 256, SUMS_FIELDS = 10 };
static_assert(sizeof(struct fold_sums) == SUMS_FIELDS * sizeof(int64_t), "sums are packed as an array");

static void table_init(struct fold_table *table, size_t entry_bytes, size_t key_offset, size_t key_bytes) {
    *table = (struct fold_table){.entry_bytes = entry_bytes, .key_offset = key_offset, .key_bytes = key_bytes};
}

static void table_fini(struct fold_table *table) {
    free(table->entries);
    free(table->slots);
    table_init(table, table->entry_bytes, table->key_offset, table->key_bytes);
}

static void table_clear(struct fold_table *table) {
    table->count = 0;
    if (table->slots != NULL) {
        memset(table->slots, 0, table->slot_count * sizeof *table->slots);
    }
}

static unsigned char *entry_at(const struct fold_table *table, uint32_t index) {
    return table->entries + (size_t)index * table->entry_bytes;
}

static uint32_t *find_slot(const struct fold_table *table, const unsigned char *key) {
    uint32_t mask = table->slot_count - 1;
    uint32_t at = (uint32_t)hash_fast(span_of((const char *)key, table->key_bytes), 0) & mask;
    while (table->slots[at] != 0 &&
           memcmp(entry_at(table, table->slots[at] - 1) + table->key_offset, key, table->key_bytes) != 0) {
        at = (at + 1) & mask;
    }
    return &table->slots[at];
}

static void grow(struct fold_table *table) {
    uint32_t capacity = table->capacity == 0 ? ENTRIES_FIRST : table->capacity * 2;
    CHECK(capacity > table->capacity && capacity <= UINT32_MAX / 2);
    table->entries = reallocarray(table->entries, capacity, table->entry_bytes);
    free(table->slots);
    table->slots = calloc((size_t)capacity * 2, sizeof *table->slots);
    CHECK(table->entries != NULL && table->slots != NULL);
    table->capacity = capacity;
    table->slot_count = capacity * 2;
    for (uint32_t index = 0; index < table->count; index++) {
        *find_slot(table, entry_at(table, index) + table->key_offset) = index + 1;
    }
}

/* The entry with this key, made with zero sums when it is new. */
static void *find_or_make(struct fold_table *table, const unsigned char *key) {
    if (table->count == table->capacity) {
        grow(table);
    }
    uint32_t *slot = find_slot(table, key);
    if (*slot == 0) {
        memset(entry_at(table, table->count), 0, table->entry_bytes);
        memcpy(entry_at(table, table->count) + table->key_offset, key, table->key_bytes);
        *slot = ++table->count;
    }
    return entry_at(table, *slot - 1);
}

static void *find(const struct fold_table *table, const unsigned char *key) {
    uint32_t slot = table->slots == NULL ? 0 : *find_slot(table, key);
    return slot == 0 ? NULL : entry_at(table, slot - 1);
}

void fold_init(struct fold *fold) {
    *fold = (struct fold){.day = {0, 0}, .month = {0, 0}};
    table_init(&fold->rollups, sizeof(struct fold_rollup), offsetof(struct fold_rollup, key), FOLD_ROLLUP_KEY_BYTES);
    table_init(&fold->spends, sizeof(struct fold_spend), offsetof(struct fold_spend, key), FOLD_SPEND_KEY_BYTES);
}

void fold_fini(struct fold *fold) {
    table_fini(&fold->rollups);
    table_fini(&fold->spends);
}

void fold_clear(struct fold *fold) {
    table_clear(&fold->rollups);
    table_clear(&fold->spends);
    fold->day = fold->month = (struct fold_span){0, 0};
}

int64_t fold_floor(int64_t wall_ns, enum fold_level level) {
    int64_t unit_ns = (level == FOLD_HOUR ? 3600 : 86400) * NS_PER_S;
    int64_t past_ns = wall_ns % unit_ns;
    past_ns += past_ns < 0 ? unit_ns : 0;
    return wall_ns < INT64_MIN + past_ns ? INT64_MIN : wall_ns - past_ns;
}

bool fold_is_failed(const struct shm_usage_record_sh *usage) {
    return usage->status >= 400 || (usage->flags & SHM_RECORD_ERROR_EVENT) != 0;
}

static struct fold_sums sums_of(const struct shm_usage_record_sh *usage) {
    return (struct fold_sums){.requests = 1,
                              .failed = fold_is_failed(usage) ? 1 : 0,
                              .tokens = usage->tokens,
                              .price_nusd = usage->price_nusd,
                              .cost_nusd = usage->cost_nusd,
                              .list_nusd = usage->list_nusd};
}

void fold_sums_add(struct fold_sums *sums, const struct fold_sums *more) {
    sums->requests = money_add(sums->requests, more->requests);
    sums->failed = money_add(sums->failed, more->failed);
    sums->tokens.input_tokens = money_add(sums->tokens.input_tokens, more->tokens.input_tokens);
    sums->tokens.cached_input_tokens = money_add(sums->tokens.cached_input_tokens, more->tokens.cached_input_tokens);
    sums->tokens.cache_write_tokens = money_add(sums->tokens.cache_write_tokens, more->tokens.cache_write_tokens);
    sums->tokens.output_tokens = money_add(sums->tokens.output_tokens, more->tokens.output_tokens);
    sums->tokens.reasoning_tokens = money_add(sums->tokens.reasoning_tokens, more->tokens.reasoning_tokens);
    sums->price_nusd = money_add(sums->price_nusd, more->price_nusd);
    sums->cost_nusd = money_add(sums->cost_nusd, more->cost_nusd);
    sums->list_nusd = money_add(sums->list_nusd, more->list_nusd);
}

bool fold_sums_equal(const struct fold_sums *a, const struct fold_sums *b) { return memcmp(a, b, sizeof *a) == 0; }

static void add_rollup(struct fold *fold, enum fold_level level, const struct record *record,
                       const struct fold_sums *sums) {
    const struct shm_usage_record_sh *usage = &record->usage;
    struct pack_key key;
    key.len = 0;
    pack_key_u8(&key, (uint8_t)level);
    pack_key_i64(&key, fold_floor(usage->end_wall_ns, level));
    pack_key_u32(&key, usage->tenant_id);
    pack_key_u32(&key, usage->key_number);
    pack_key_u32(&key, record->texts[RECORD_MODEL_SERVED]);
    pack_key_u32(&key, record->texts[RECORD_UPSTREAM]);
    pack_key_u32(&key, record->texts[RECORD_TAGS]);
    struct fold_rollup *row = find_or_make(&fold->rollups, key.bytes);
    fold_sums_add(&row->sums, sums);
}

struct pack_key fold_spend_key(int window, int64_t start_wall_ns, enum fold_account kind, uint32_t account) {
    struct pack_key key;
    key.len = 0;
    pack_key_u8(&key, (uint8_t)window);
    pack_key_i64(&key, start_wall_ns);
    pack_key_u8(&key, (uint8_t)kind);
    pack_key_u32(&key, account);
    return key;
}

void fold_add_spend(struct fold *fold, enum fold_account kind, uint32_t account, int window, int64_t start_wall_ns,
                    int64_t nusd) {
    struct pack_key key = fold_spend_key(window, start_wall_ns, kind, account);
    struct fold_spend *row = find_or_make(&fold->spends, key.bytes);
    row->nusd = money_add(row->nusd, nusd);
}

static int64_t window_start(struct fold_span *span, int64_t wall_ns, enum calendar_unit unit) {
    if (wall_ns < span->start_wall_ns || wall_ns >= span->end_wall_ns) {
        span->start_wall_ns = calendar_floor(wall_ns, unit);
        span->end_wall_ns = calendar_next(wall_ns, unit);
    }
    return span->start_wall_ns;
}

void fold_add(struct fold *fold, const struct record *record) {
    const struct shm_usage_record_sh *usage = &record->usage;
    struct fold_sums sums = sums_of(usage);
    add_rollup(fold, FOLD_HOUR, record, &sums);
    add_rollup(fold, FOLD_DAY, record, &sums);
    const int64_t starts[SHM_WINDOWS] = {
        [SHM_WINDOW_DAY] = window_start(&fold->day, usage->end_wall_ns, CALENDAR_DAY),
        [SHM_WINDOW_MONTH] = window_start(&fold->month, usage->end_wall_ns, CALENDAR_MONTH),
        [SHM_WINDOW_TOTAL] = 0,
    };
    for (int window = 0; window < SHM_WINDOWS; window++) {
        fold_add_spend(fold, FOLD_TENANT, usage->tenant_id, window, starts[window], usage->price_nusd);
        fold_add_spend(fold, FOLD_KEY, usage->key_number, window, starts[window], usage->price_nusd);
    }
}

struct fold_rollup *fold_find_rollup(const struct fold *fold, const unsigned char *key) {
    return find(&fold->rollups, key);
}

struct fold_spend *fold_find_spend(const struct fold *fold, const unsigned char *key) {
    return find(&fold->spends, key);
}

void fold_sums_pack(const struct fold_sums *sums, struct buffer *out) {
    const int64_t *fields = (const int64_t *)(const void *)sums;
    for (size_t field = 0; field < SUMS_FIELDS; field++) {
        pack_i64(out, fields[field]);
    }
}

bool fold_sums_unpack(struct span bytes, struct fold_sums *sums) {
    struct unpack in = unpack_of(bytes);
    int64_t *fields = (int64_t *)(void *)sums;
    for (size_t field = 0; field < SUMS_FIELDS; field++) {
        fields[field] = unpack_i64(&in);
    }
    return !in.failed && in.at == in.end;
}
