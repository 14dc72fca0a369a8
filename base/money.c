#include "base/money.h"

#include <inttypes.h>
#include <stdio.h>

bool money_parse(struct span text, int64_t *out) {
    bool negative = text.len != 0 && text.base[0] == '-';
    size_t at = negative ? 1 : 0;
    int64_t value = 0;
    int decimals = -1;
    size_t digits = 0;
    for (; at < text.len; at++) {
        char c = text.base[at];
        if (c == '.' && decimals < 0 && digits != 0) {
            decimals = 0;
            continue;
        }
        if (c < '0' || c > '9' || decimals == 9) {
            return false;
        }
        digits++;
        decimals += decimals >= 0 ? 1 : 0;
        int digit = negative ? '0' - c : c - '0';
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, digit, &value)) {
            return false;
        }
    }
    if (digits == 0 || decimals == 0) {
        return false;
    }
    for (int place = decimals < 0 ? 0 : decimals; place < 9; place++) {
        if (__builtin_mul_overflow(value, 10, &value)) {
            return false;
        }
    }
    *out = value;
    return true;
}

char *money_format(int64_t nusd, char out[static NUSD_TEXT_BYTES]) {
    uint64_t amount = nusd < 0 ? (uint64_t)0 - (uint64_t)nusd : (uint64_t)nusd;
    (void)snprintf(out, NUSD_TEXT_BYTES, "%s%" PRIu64 ".%09" PRIu64, nusd < 0 ? "-" : "",
                   amount / (uint64_t)NUSD_PER_USD, amount % (uint64_t)NUSD_PER_USD);
    return out;
}

char *money_format_short(int64_t nusd, char out[static NUSD_TEXT_BYTES]) {
    size_t len = strlen(money_format(nusd, out));
    size_t least = len - 7; /* two of the nine decimals */
    while (len > least && out[len - 1] == '0') {
        out[--len] = '\0';
    }
    return out;
}

int64_t money_of_tokens(const struct price *price, const struct token_counts *tokens, int64_t markup) {
    int64_t plain = tokens->input_tokens - tokens->cached_input_tokens - tokens->cache_write_tokens;
    CHECK(plain >= 0 && tokens->cached_input_tokens >= 0 && tokens->cache_write_tokens >= 0 &&
          tokens->output_tokens >= 0 && markup >= 0);
    __int128 sum = (__int128)plain * price->input_nusd +
                   (__int128)tokens->cached_input_tokens * price->cached_input_nusd +
                   (__int128)tokens->cache_write_tokens * price->cache_write_nusd +
                   (__int128)tokens->output_tokens * price->output_nusd;
    const __int128 unit = (__int128)TOKENS_PER_PRICE * MARKUP_ONE;
    __int128 scaled = 0;
    if (__builtin_mul_overflow(sum, (__int128)markup, &scaled)) {
        return INT64_MAX;
    }
    __int128 rounded = scaled / unit + (scaled % unit * 2 >= unit ? 1 : 0);
    return rounded > INT64_MAX ? INT64_MAX : (int64_t)rounded;
}

int64_t money_add(int64_t a, int64_t b) {
    int64_t sum = 0;
    if (__builtin_add_overflow(a, b, &sum)) {
        return a > 0 ? INT64_MAX : INT64_MIN;
    }
    return sum;
}
