/* Ledger records: bytes that are read as a record are written the same way again; a struct of any bytes is brought into
 * bounds, fits, and comes back as it was. */
#include "fuzz.h"
#include "store/record.h"

static void read_bytes(struct span bytes) {
    struct record record;
    struct record again;
    struct buffer packed;
    if (!record_unpack(bytes, &record)) {
        return;
    }
    buffer_init(&packed, RECORD_BYTES_MOST);
    record_pack(&record, &packed);
    CHECK(!packed.failed && record_unpack(buffer_span(&packed), &again));
    CHECK(memcmp(&record, &again, sizeof(record)) == 0);
    buffer_fini(&packed);
}

static void expect_clamped(const struct token_counts *tokens) {
    CHECK(tokens->input_tokens >= 0 && tokens->input_tokens <= TOKENS_MOST);
    CHECK(tokens->output_tokens >= 0 && tokens->output_tokens <= TOKENS_MOST);
    CHECK(tokens->cached_input_tokens >= 0 && tokens->cache_write_tokens >= 0);
    CHECK(tokens->cached_input_tokens + tokens->cache_write_tokens <= tokens->input_tokens);
}

/* As if a worker, or a damaged segment, had handed over these bytes. */
static void hand_over(struct span bytes) {
    struct record record = {.texts = {1, 2, 3, 4}};
    struct record again;
    struct buffer packed;
    memcpy(&record.usage, bytes.base, bytes.len < sizeof(record.usage) ? bytes.len : sizeof(record.usage));
    record_clamp(&record.usage);
    expect_clamped(&record.usage.tokens);
    CHECK(money_of_tokens(&record.usage.price, &record.usage.tokens, record.usage.markup) >= 0);
    buffer_init(&packed, RECORD_BYTES_MOST);
    record_pack(&record, &packed);
    CHECK(!packed.failed && record_unpack(buffer_span(&packed), &again));
    CHECK(memcmp(&record.usage.tokens, &again.usage.tokens, sizeof(record.usage.tokens)) == 0);
    CHECK(record.usage.price_nusd == again.usage.price_nusd && record.usage.end_wall_ns == again.usage.end_wall_ns);
    CHECK(strcmp(record.usage.id, again.usage.id) == 0 && strcmp(record.usage.end_user, again.usage.end_user) == 0);
    buffer_fini(&packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    read_bytes(fuzz_span(data, size));
    if (size != 0) {
        hand_over(fuzz_span(data, size));
    }
    return 0;
}
