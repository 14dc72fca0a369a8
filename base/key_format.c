#include "base/key_format.h"

#include "base/check.h"
#include "base/hash.h"

enum { RANDOM_BYTES = 32, CHECKSUM_BYTES = 6 };

static const char prefix[] = "sk-tg-";
enum { PREFIX_BYTES = sizeof(prefix) - 1, CHECKED_BYTES = PREFIX_BYTES + RANDOM_BYTES };
_Static_assert(CHECKED_BYTES + CHECKSUM_BYTES == API_KEY_BYTES, "the parts make the key");

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* The checksum over the key's first CHECKED_BYTES, most significant digit first, not terminated. */
static void write_checksum(const char *key, char out[static CHECKSUM_BYTES]) {
    uint32_t rest = hash_crc32(span_of(key, CHECKED_BYTES));
    for (int place = CHECKSUM_BYTES - 1; place >= 0; place--) {
        out[place] = digits[rest % 62];
        rest /= 62;
    }
}

static bool is_base62(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

void key_format_make(char out[static API_KEY_TEXT_BYTES]) {
    memcpy(out, prefix, PREFIX_BYTES);
    random_base62(out + PREFIX_BYTES, RANDOM_BYTES);
    write_checksum(out, out + CHECKED_BYTES);
    out[API_KEY_BYTES] = '\0';
}

bool key_format_valid(struct span text) {
    char checksum[CHECKSUM_BYTES];
    if (text.len != API_KEY_BYTES || !span_starts_with(text, prefix)) {
        return false;
    }
    for (size_t i = PREFIX_BYTES; i < CHECKED_BYTES; i++) {
        if (!is_base62(text.base[i])) {
            return false;
        }
    }
    write_checksum(text.base, checksum);
    return memcmp(checksum, text.base + CHECKED_BYTES, CHECKSUM_BYTES) == 0;
}
