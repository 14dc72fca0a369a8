#include "store/record.h"

#include "store/pack.h"

enum { RECORD_VERSION = 1 };

static bool clamp(int64_t *value, int64_t most) {
    if (*value >= 0 && *value <= most) {
        return false;
    }
    *value = *value < 0 ? 0 : most;
    return true;
}

static bool clamp_price(struct price *price) {
    bool changed = clamp(&price->input_nusd, PRICE_MOST_NUSD);
    changed = clamp(&price->cached_input_nusd, PRICE_MOST_NUSD) || changed;
    changed = clamp(&price->cache_write_nusd, PRICE_MOST_NUSD) || changed;
    return clamp(&price->output_nusd, PRICE_MOST_NUSD) || changed;
}

static bool clamp_tokens(struct token_counts *tokens) {
    bool changed = clamp(&tokens->input_tokens, TOKENS_MOST);
    changed = clamp(&tokens->output_tokens, TOKENS_MOST) || changed;
    changed = clamp(&tokens->cached_input_tokens, tokens->input_tokens) || changed;
    changed = clamp(&tokens->cache_write_tokens, tokens->input_tokens - tokens->cached_input_tokens) || changed;
    return clamp(&tokens->reasoning_tokens, tokens->output_tokens) || changed;
}

void record_clamp(struct shm_usage_record_sh *usage) {
    bool changed = clamp_tokens(&usage->tokens);
    changed = clamp_price(&usage->price) || changed;
    changed = clamp_price(&usage->cost) || changed;
    changed = clamp_price(&usage->list_price) || changed;
    changed = clamp(&usage->markup, MARKUP_MOST) || changed;
    changed = clamp(&usage->price_nusd, INT64_MAX) || changed;
    changed = clamp(&usage->cost_nusd, INT64_MAX) || changed;
    changed = clamp(&usage->list_nusd, INT64_MAX) || changed;
    if (changed) {
        usage->flags |= SHM_RECORD_CLAMPED;
    }
    usage->id[sizeof usage->id - 1] = '\0';
    usage->model_asked[sizeof usage->model_asked - 1] = '\0';
    usage->model_served[sizeof usage->model_served - 1] = '\0';
    usage->upstream[sizeof usage->upstream - 1] = '\0';
    usage->finish_reason[sizeof usage->finish_reason - 1] = '\0';
    usage->end_user[sizeof usage->end_user - 1] = '\0';
    usage->client[sizeof usage->client - 1] = '\0';
}

static void pack_price(struct buffer *out, const struct price *price) {
    pack_i64(out, price->input_nusd);
    pack_i64(out, price->cached_input_nusd);
    pack_i64(out, price->cache_write_nusd);
    pack_i64(out, price->output_nusd);
}

static void pack_tokens(struct buffer *out, const struct token_counts *tokens) {
    pack_i64(out, tokens->input_tokens);
    pack_i64(out, tokens->cached_input_tokens);
    pack_i64(out, tokens->cache_write_tokens);
    pack_i64(out, tokens->output_tokens);
    pack_i64(out, tokens->reasoning_tokens);
}

/* Difference of two instants as it is, whatever their order. */
static int64_t time_between(int64_t from_ns, int64_t to_ns) { return (int64_t)((uint64_t)to_ns - (uint64_t)from_ns); }

static int64_t time_after(int64_t from_ns, int64_t difference_ns) {
    return (int64_t)((uint64_t)from_ns + (uint64_t)difference_ns);
}

void record_pack(const struct record *record, struct buffer *out) {
    const struct shm_usage_record_sh *usage = &record->usage;
    bool first_byte_sent = usage->first_byte_wall_ns != 0;
    pack_u64(out, RECORD_VERSION);
    pack_u64(out, usage->tenant_id);
    pack_u64(out, usage->key_number);
    pack_i64(out, usage->end_wall_ns);
    pack_i64(out, time_between(usage->start_wall_ns, usage->end_wall_ns));
    pack_u64(out, first_byte_sent ? 1 : 0);
    pack_i64(out, first_byte_sent ? time_between(usage->start_wall_ns, usage->first_byte_wall_ns) : 0);
    pack_i64(out, usage->wait_ns);
    pack_tokens(out, &usage->tokens);
    pack_price(out, &usage->price);
    pack_price(out, &usage->cost);
    pack_price(out, &usage->list_price);
    pack_i64(out, usage->markup);
    pack_i64(out, usage->price_nusd);
    pack_i64(out, usage->cost_nusd);
    pack_i64(out, usage->list_nusd);
    pack_u64(out, usage->flags);
    pack_u64(out, usage->status);
    pack_u64(out, usage->endpoint);
    pack_u64(out, usage->attempts);
    for (int text = 0; text < RECORD_TEXTS; text++) {
        pack_u64(out, record->texts[text]);
    }
    pack_text(out, span_text(usage->id));
    pack_text(out, span_text(usage->finish_reason));
    pack_text(out, span_text(usage->end_user));
    pack_text(out, span_text(usage->client));
}

static void unpack_price(struct unpack *in, struct price *price) {
    price->input_nusd = unpack_i64(in);
    price->cached_input_nusd = unpack_i64(in);
    price->cache_write_nusd = unpack_i64(in);
    price->output_nusd = unpack_i64(in);
}

static void unpack_tokens(struct unpack *in, struct token_counts *tokens) {
    tokens->input_tokens = unpack_i64(in);
    tokens->cached_input_tokens = unpack_i64(in);
    tokens->cache_write_tokens = unpack_i64(in);
    tokens->output_tokens = unpack_i64(in);
    tokens->reasoning_tokens = unpack_i64(in);
}

static void unpack_times(struct unpack *in, struct shm_usage_record_sh *usage) {
    usage->end_wall_ns = unpack_i64(in);
    usage->start_wall_ns = time_after(usage->end_wall_ns, time_between(unpack_i64(in), 0));
    bool first_byte_sent = unpack_up_to(in, 1) == 1;
    int64_t until_first_byte_ns = unpack_i64(in);
    usage->first_byte_wall_ns = first_byte_sent ? time_after(usage->start_wall_ns, until_first_byte_ns) : 0;
    usage->wait_ns = unpack_i64(in);
}

bool record_unpack(struct span bytes, struct record *record) {
    struct unpack in = unpack_of(bytes);
    struct shm_usage_record_sh *usage = &record->usage;
    memset(record, 0, sizeof *record);
    if (unpack_u64(&in) != RECORD_VERSION) {
        return false;
    }
    usage->tenant_id = unpack_u32(&in);
    usage->key_number = unpack_u32(&in);
    unpack_times(&in, usage);
    unpack_tokens(&in, &usage->tokens);
    unpack_price(&in, &usage->price);
    unpack_price(&in, &usage->cost);
    unpack_price(&in, &usage->list_price);
    usage->markup = unpack_i64(&in);
    usage->price_nusd = unpack_i64(&in);
    usage->cost_nusd = unpack_i64(&in);
    usage->list_nusd = unpack_i64(&in);
    usage->flags = unpack_u32(&in);
    usage->status = (uint16_t)unpack_up_to(&in, UINT16_MAX);
    usage->endpoint = (uint8_t)unpack_up_to(&in, UINT8_MAX);
    usage->attempts = (uint8_t)unpack_up_to(&in, UINT8_MAX);
    for (int text = 0; text < RECORD_TEXTS; text++) {
        record->texts[text] = unpack_u32(&in);
    }
    unpack_text(&in, usage->id, sizeof usage->id);
    unpack_text(&in, usage->finish_reason, sizeof usage->finish_reason);
    unpack_text(&in, usage->end_user, sizeof usage->end_user);
    unpack_text(&in, usage->client, sizeof usage->client);
    return !in.failed && in.at == in.end;
}

void record_chain(const unsigned char before[static SHA256_BYTES], struct span bytes,
                  const struct span texts[static RECORD_TEXTS], unsigned char out[static SHA256_BYTES]) {
    struct span pieces[RECORD_TEXTS * 2 + 2] = {span_of((const char *)before, SHA256_BYTES), bytes};
    for (int text = 0; text < RECORD_TEXTS; text++) {
        pieces[2 + text * 2] = texts[text];
        pieces[3 + text * 2] = span_of("", 1);
    }
    hash_sha256_pieces(pieces, RECORD_TEXTS * 2 + 2, out);
}
