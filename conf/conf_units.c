#include "conf/conf_units.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/money.h"
#include "conf/conf.h"

struct unit {
    const char *suffix;
    int64_t factor;
};

/* Largest first, for writing. */
static const struct unit duration_units[] = {
    {"d", INT64_C(86400000)}, {"h", INT64_C(3600000)}, {"m", INT64_C(60000)}, {"s", INT64_C(1000)}, {"ms", INT64_C(1)}};
static const struct unit size_units[] = {
    {"GiB", INT64_C(1) << 30}, {"MiB", INT64_C(1) << 20}, {"KiB", INT64_C(1) << 10}, {"", INT64_C(1)}};

enum {
    DURATION_UNITS = sizeof(duration_units) / sizeof(duration_units[0]),
    SIZE_UNITS = sizeof(size_units) / sizeof(size_units[0])
};

bool conf_units_parse_int(struct span text, int64_t *out) {
    bool negative = text.len != 0 && text.base[0] == '-';
    struct span digits = negative ? span_skip(text, 1) : text;
    int64_t value = 0;
    for (size_t i = 0; i < digits.len; i++) {
        char c = digits.base[i];
        if (c < '0' || c > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, c - '0', &value)) {
            return false;
        }
    }
    *out = negative ? -value : value;
    return digits.len != 0;
}

static bool parse_with_unit(struct span text, const struct unit *units, size_t count, int64_t *out) {
    size_t digits = 0;
    while (digits < text.len && text.base[digits] >= '0' && text.base[digits] <= '9') {
        digits++;
    }
    int64_t number = 0;
    if (!conf_units_parse_int(span_of(text.base, digits), &number)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (span_is(span_skip(text, digits), units[i].suffix)) {
            return !__builtin_mul_overflow(number, units[i].factor, out);
        }
    }
    return false;
}

bool conf_parse_duration(struct span text, int64_t *out_ms) {
    return parse_with_unit(text, duration_units, DURATION_UNITS, out_ms);
}

bool conf_parse_size(struct span text, int64_t *out_bytes) {
    return parse_with_unit(text, size_units, SIZE_UNITS, out_bytes);
}

static char *format_with_unit(int64_t value, const struct unit *units, size_t count, char *out) {
    size_t chosen = count - 1;
    for (size_t i = 0; i < count && value != 0; i++) {
        if (value % units[i].factor == 0) {
            chosen = i;
            break;
        }
    }
    (void)snprintf(out, CONF_UNIT_TEXT_BYTES, "%" PRId64 "%s", value / units[chosen].factor, units[chosen].suffix);
    return out;
}

char *conf_units_format(enum conf_unit unit, int64_t value, char out[static CONF_UNIT_TEXT_BYTES]) {
    switch (unit) {
    case CONF_UNIT_MS:
        return format_with_unit(value, duration_units, DURATION_UNITS, out);
    case CONF_UNIT_BYTES:
        return format_with_unit(value, size_units, SIZE_UNITS, out);
    case CONF_UNIT_NUSD:
        if (value % NUSD_PER_USD == 0) {
            (void)snprintf(out, CONF_UNIT_TEXT_BYTES, "%" PRId64, value / NUSD_PER_USD);
            return out;
        }
        return money_format_short(value, out);
    default:
        (void)snprintf(out, CONF_UNIT_TEXT_BYTES, "%" PRId64, value);
        return out;
    }
}
