#include "store/report_rows.h"

#include <stdlib.h>

#include "base/hash.h"

enum { ROWS_FIRST = 256 };
static const size_t LABELS_MOST_BYTES = (size_t)256 << 20;
static const size_t ROWS_MOST = (size_t)1 << 21;

void report_rows_init(struct report_rows *rows) {
    *rows = (struct report_rows){.items = NULL};
    arena_init(&rows->arena, LABELS_MOST_BYTES);
}

void report_rows_fini(struct report_rows *rows) {
    free(rows->items);
    arena_fini(&rows->arena);
    *rows = (struct report_rows){.items = NULL};
}

void report_sums_add(struct report_sums *sums, const struct report_sums *more) {
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

/* The place of these labels in the table: their row, or the empty place where it would go. */
static struct report_row *find_place(struct report_row *items, size_t capacity, uint64_t hash, struct span labels) {
    size_t at = (size_t)hash & (capacity - 1);
    while (items[at].labels.base != NULL && (items[at].hash != hash || !span_equals(items[at].labels, labels))) {
        at = (at + 1) & (capacity - 1);
    }
    return &items[at];
}

static bool grow(struct report_rows *rows) {
    size_t capacity = rows->capacity != 0 ? rows->capacity * 2 : ROWS_FIRST;
    if (capacity > ROWS_MOST) {
        return false;
    }
    struct report_row *items = calloc(capacity, sizeof(*items));
    if (items == NULL) {
        return false;
    }
    for (size_t i = 0; i < rows->capacity; i++) {
        const struct report_row *row = &rows->items[i];
        if (row->labels.base != NULL) {
            *find_place(items, capacity, row->hash, row->labels) = *row;
        }
    }
    free(rows->items);
    rows->items = items;
    rows->capacity = capacity;
    return true;
}

bool report_rows_add(struct report_rows *rows, struct span labels, const struct report_sums *sums) {
    if (rows->count >= rows->capacity / 2 && !grow(rows)) {
        return false;
    }
    uint64_t hash = hash_fast(labels, 0);
    struct report_row *row = find_place(rows->items, rows->capacity, hash, labels);
    if (row->labels.base == NULL) {
        char *copy = arena_copy_text(&rows->arena, labels);
        if (copy == NULL) {
            return false;
        }
        *row = (struct report_row){.labels = span_of(copy, labels.len), .hash = hash};
        rows->count++;
    }
    report_sums_add(&row->sums, sums);
    return true;
}

/* For qsort. A label's end is a zero byte, so comparing the bytes compares label after label. */
static int compare_rows(const void *a, const void *b) {
    struct span left = ((const struct report_row *)a)->labels;
    struct span right = ((const struct report_row *)b)->labels;
    int order = memcmp(left.base, right.base, left.len < right.len ? left.len : right.len);
    return order != 0 ? order : (left.len > right.len) - (left.len < right.len);
}

void report_rows_sort(struct report_rows *rows) {
    size_t count = 0;
    for (size_t i = 0; i < rows->capacity; i++) {
        if (rows->items[i].labels.base != NULL) {
            rows->items[count++] = rows->items[i];
        }
    }
    CHECK(count == rows->count);
    if (count != 0) {
        qsort(rows->items, count, sizeof(*rows->items), compare_rows);
    }
}
