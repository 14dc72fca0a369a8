/* base/money.h - exact money: integers of nano-USD, prices per million tokens, one rounding.
 * Used by: every process. Units: _nusd is 1e-9 USD in an int64_t; a price is nano-USD per million tokens; a markup is
 * in parts per billion (1.2 is 1'200'000'000). No floating point anywhere. */
#ifndef TOLLGATE_BASE_MONEY_H
#define TOLLGATE_BASE_MONEY_H

#include <stdint.h>

#include "base/check.h"
#include "base/span.h"

#define NUSD_PER_USD INT64_C(1000000000)
#define MARKUP_ONE INT64_C(1000000000)
#define TOKENS_PER_PRICE INT64_C(1000000)
/* Largest accepted price: 100,000 USD per million tokens. */
#define PRICE_MOST_NUSD (INT64_C(100000) * NUSD_PER_USD)
/* Largest accepted markup: 1,000. */
#define MARKUP_MOST (INT64_C(1000) * MARKUP_ONE)
/* Counts above this are impossible and are clamped by whoever reads them. */
#define TOKENS_MOST INT64_C(1000000000000)
/* The most that limits may say, wherever they are set. */
#define REQUESTS_PER_MINUTE_MOST INT64_C(1000000000)
#define CONCURRENT_MOST INT64_C(1000000)
#define BUDGET_MOST_NUSD (INT64_C(1000000000) * NUSD_PER_USD)
enum { NUSD_TEXT_BYTES = 32 };

/* What a million tokens cost, in nano-USD. */
struct price {
    int64_t input_nusd;
    int64_t cached_input_nusd;
    int64_t cache_write_nusd;
    int64_t output_nusd;
};

/* Tokens of one request. input includes cached_input and cache_write; output includes reasoning. */
struct token_counts {
    int64_t input_tokens;
    int64_t cached_input_tokens;
    int64_t cache_write_tokens;
    int64_t output_tokens;
    int64_t reasoning_tokens;
};

/* Reads a decimal such as "2", "0.50", "-3.000000001" with at most nine decimals into units of 1e-9.
 * Returns false for anything else (signs other than one leading '-', exponents, spaces) or when out of int64 range. */
MUST_CHECK bool money_parse(struct span text, int64_t *out);

/* Writes nano-USD as a decimal of exactly nine places ("-0.000000001") into out. Returns out. */
char *money_format(int64_t nusd, char out[static NUSD_TEXT_BYTES]);

/* As money_format without trailing zeros, keeping at least two decimals ("2.00", "0.0005"). */
char *money_format_short(int64_t nusd, char out[static NUSD_TEXT_BYTES]);

/* markup x (plain x input + cached x cached_input + written x cache_write + output x output), where plain is the input
 * that is neither cached nor written; rounded once, half up. Counts must be 0..TOKENS_MOST, cached + written <= input;
 * saturates at INT64_MAX. */
int64_t money_of_tokens(const struct price *price, const struct token_counts *tokens, int64_t markup);

/* a + b, saturating at the ends of int64. */
int64_t money_add(int64_t a, int64_t b);

#endif
