#include "base/calendar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    SECONDS_PER_MINUTE = 60,
    SECONDS_PER_HOUR = 3600,
    SECONDS_PER_DAY = 86400,
    ZONE_MOST_BYTES = 64,
    ZONE_PATH_BYTES = 128,
};

static const char zone_folder[] = "/usr/share/zoneinfo/";

/* UTC is in force until calendar_use_zone says otherwise, whatever TZ the process was started with. */
static bool zone_is_utc = true;

static int64_t floor_divide(int64_t value, int64_t by) { return value / by - (value % by < 0 ? 1 : 0); }

static int64_t seconds_of_ns(int64_t wall_ns) { return floor_divide(wall_ns, NS_PER_S); }

static int64_t ns_of_seconds(int64_t seconds) {
    int64_t wall_ns = 0;
    if (__builtin_mul_overflow(seconds, NS_PER_S, &wall_ns)) {
        return seconds < 0 ? INT64_MIN : INT64_MAX;
    }
    return wall_ns;
}

static bool is_leap_year(int64_t year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

static int count_days_in_month(int64_t year, int64_t month) {
    static const signed char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap_year(year) ? 1 : 0);
}

/* Days from 1970-01-01 to a date of the Gregorian calendar. */
static int64_t day_of_date(int64_t year, int64_t month, int64_t day) {
    int64_t before = year - 1;
    int64_t days = before * 365 + floor_divide(before, 4) - floor_divide(before, 100) + floor_divide(before, 400);
    for (int64_t m = 1; m < month; m++) {
        days += count_days_in_month(year, m);
    }
    const int64_t days_before_1970 = 719162;
    return days + day - 1 - days_before_1970;
}

static struct tm local_time(int64_t seconds) {
    time_t time = (time_t)seconds;
    struct tm tm = {.tm_mday = 1};
    (void)(zone_is_utc ? gmtime_r(&time, &tm) : localtime_r(&time, &tm));
    return tm;
}

static int64_t offset_at(int64_t seconds) { return zone_is_utc ? 0 : (int64_t)local_time(seconds).tm_gmtoff; }

static bool is_name_character(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '+' ||
           c == '-';
}

/* Only characters of zone names, no empty part (so no leading '/'), and no dots at all. */
static bool is_zone_name(struct span zone) {
    if (zone.len == 0 || zone.len > ZONE_MOST_BYTES) {
        return false;
    }
    bool part_is_empty = true;
    for (size_t i = 0; i < zone.len; i++) {
        if (zone.base[i] == '/' ? part_is_empty : !is_name_character(zone.base[i])) {
            return false;
        }
        part_is_empty = zone.base[i] == '/';
    }
    return !part_is_empty;
}

/* "right/" counts leap seconds, which clocks do not; "localtime" and "posixrules" name whatever the machine is set to.
 */
static bool is_odd_zone(struct span zone) {
    return span_starts_with(zone, "right/") || span_starts_with(zone, "posix/") || span_is(zone, "localtime") ||
           span_is(zone, "posixrules");
}

static bool is_zone_file(const char *path) {
    char magic[4];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    ssize_t got = read(fd, magic, sizeof(magic));
    (void)close(fd);
    return got == (ssize_t)sizeof(magic) && memcmp(magic, "TZif", sizeof(magic)) == 0;
}

bool calendar_zone_exists(const char *zone) {
    char path[ZONE_PATH_BYTES];
    struct span name = span_text(zone);
    if (span_is(name, "UTC")) {
        return true;
    }
    if (!is_zone_name(name) || is_odd_zone(name)) {
        return false;
    }
    (void)snprintf(path, sizeof(path), "%s%s", zone_folder, zone);
    return is_zone_file(path);
}

bool calendar_use_zone(const char *zone) {
    char value[ZONE_PATH_BYTES];
    if (!calendar_zone_exists(zone)) {
        return false;
    }
    bool utc = span_is(span_text(zone), "UTC");
    /* A path behind a colon is taken as it is, whatever TZDIR says. */
    (void)snprintf(value, sizeof(value), ":%s%s", zone_folder, zone);
    if (setenv("TZ", utc ? "UTC0" : value, 1) != 0) {
        return false;
    }
    tzset();
    zone_is_utc = utc;
    return true;
}

/* The first instant after `from` at which another offset holds than at `from`; it is known to by `to`. */
static int64_t find_offset_change(int64_t from, int64_t to) {
    int64_t offset = offset_at(from);
    while (to - from > 1) {
        int64_t middle = from + (to - from) / 2;
        if (offset_at(middle) == offset) {
            from = middle;
        } else {
            to = middle;
        }
    }
    return to;
}

/* Hours are runs of at most 3,600 s within one offset: an hour that the clocks repeat is two hours, and a change of
 * half an hour begins a new one. */
static int64_t hour_floor(int64_t seconds) {
    int64_t local = seconds + offset_at(seconds);
    int64_t first = seconds - (local - floor_divide(local, SECONDS_PER_HOUR) * SECONDS_PER_HOUR);
    return offset_at(first) == offset_at(seconds) ? first : find_offset_change(first, seconds);
}

static int64_t hour_next(int64_t seconds) {
    int64_t local = seconds + offset_at(seconds);
    int64_t next = seconds - (local - floor_divide(local, SECONDS_PER_HOUR) * SECONDS_PER_HOUR) + SECONDS_PER_HOUR;
    return offset_at(next) == offset_at(seconds) ? next : find_offset_change(seconds, next);
}

static int64_t local_day(int64_t seconds) { return floor_divide(seconds + offset_at(seconds), SECONDS_PER_DAY); }

/* The first instant of a local day. Where midnight does not exist it is the moment the clocks jump; where midnight
 * comes twice, the first; for a day the zone has skipped, the start of the next. It depends on the day alone, so that
 * the days meet without gap or overlap. */
static int64_t day_start(int64_t day) {
    const int64_t quiet = (int64_t)3 * SECONDS_PER_HOUR;
    const int64_t reach = (int64_t)26 * SECONDS_PER_HOUR;
    int64_t offset = offset_at(day * SECONDS_PER_DAY);
    int64_t start = day * SECONDS_PER_DAY - offset;
    if (offset_at(start - quiet) == offset && offset_at(start + quiet) == offset) {
        return start;
    }
    int64_t before = day * SECONDS_PER_DAY - reach;
    int64_t after = day * SECONDS_PER_DAY + reach;
    while (after - before > 1) {
        int64_t middle = before + (after - before) / 2;
        if (local_day(middle) >= day) {
            after = middle;
        } else {
            before = middle;
        }
    }
    return after;
}

/* Days and months are numbered; these lead from an instant to its number and from a number to its first instant. */
static int64_t number_at(int64_t seconds, enum calendar_unit unit) {
    if (unit == CALENDAR_DAY) {
        return local_day(seconds);
    }
    struct tm tm = local_time(seconds);
    return ((int64_t)tm.tm_year + 1900) * 12 + tm.tm_mon;
}

static int64_t start_of_number(int64_t number, enum calendar_unit unit) {
    if (unit == CALENDAR_DAY) {
        return day_start(number);
    }
    int64_t year = floor_divide(number, 12);
    return day_start(day_of_date(year, number - year * 12 + 1, 1));
}

/* The number of the day or month that holds the instant. Where clocks fell back over midnight the date alone could lead
 * to a neighbour. */
static int64_t number_holding(int64_t seconds, enum calendar_unit unit) {
    int64_t number = number_at(seconds, unit);
    while (start_of_number(number, unit) > seconds) {
        number--;
    }
    while (start_of_number(number + 1, unit) <= seconds) {
        number++;
    }
    return number;
}

int64_t calendar_floor(int64_t wall_ns, enum calendar_unit unit) {
    int64_t seconds = seconds_of_ns(wall_ns);
    if (unit == CALENDAR_HOUR) {
        return ns_of_seconds(hour_floor(seconds));
    }
    return ns_of_seconds(start_of_number(number_holding(seconds, unit), unit));
}

int64_t calendar_next(int64_t wall_ns, enum calendar_unit unit) {
    int64_t seconds = seconds_of_ns(wall_ns);
    if (unit == CALENDAR_HOUR) {
        return ns_of_seconds(hour_next(seconds));
    }
    return ns_of_seconds(start_of_number(number_holding(seconds, unit) + 1, unit));
}

void calendar_label(int64_t wall_ns, enum calendar_unit unit, char out[static RFC3339_BYTES]) {
    static const char *const formats[] = {"%Y-%m-%dT%H:00", "%Y-%m-%d", "%Y-%m"};
    struct tm tm = local_time(seconds_of_ns(calendar_floor(wall_ns, unit)));
    if (strftime(out, RFC3339_BYTES, formats[unit], &tm) == 0) {
        out[0] = '\0';
    }
}

void calendar_rfc3339(int64_t wall_ns, char out[static RFC3339_BYTES]) {
    int64_t seconds = seconds_of_ns(wall_ns);
    int64_t fraction_ns = wall_ns % NS_PER_S;
    int milliseconds = (int)((fraction_ns < 0 ? fraction_ns + NS_PER_S : fraction_ns) / NS_PER_MS);
    int64_t offset = offset_at(seconds);
    if (offset % SECONDS_PER_MINUTE != 0) { /* local mean times of old, which RFC 3339 cannot say */
        offset = 0;
    }
    time_t shifted = (time_t)(seconds + offset);
    struct tm tm = {.tm_mday = 1};
    (void)gmtime_r(&shifted, &tm);
    size_t len = strftime(out, RFC3339_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
    if (offset == 0) {
        (void)snprintf(out + len, RFC3339_BYTES - len, ".%03dZ", milliseconds);
        return;
    }
    int minutes = (int)((offset < 0 ? -offset : offset) / SECONDS_PER_MINUTE);
    (void)snprintf(out + len, RFC3339_BYTES - len, ".%03d%c%02d:%02d", milliseconds, offset < 0 ? '-' : '+',
                   minutes / 60, minutes % 60);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Takes exactly `digits` digits off the front of text. */
static bool take_number(struct span *text, size_t digits, int64_t *out) {
    int64_t number = 0;
    if (text->len < digits) {
        return false;
    }
    for (size_t i = 0; i < digits; i++) {
        if (!is_digit(text->base[i])) {
            return false;
        }
        number = number * 10 + (text->base[i] - '0');
    }
    *text = span_skip(*text, digits);
    *out = number;
    return true;
}

/* Takes one character, which must be among those given, off the front of text; 0 when it is not there. */
static char take_one_of(struct span *text, const char *characters) {
    if (text->len == 0 || text->base[0] == '\0' || strchr(characters, text->base[0]) == NULL) {
        return '\0';
    }
    char taken = text->base[0];
    *text = span_skip(*text, 1);
    return taken;
}

static bool take_month(struct span *text, int64_t *year, int64_t *month) {
    return take_number(text, 4, year) && take_one_of(text, "-") != '\0' && take_number(text, 2, month) && *month >= 1 &&
           *month <= 12;
}

/* Takes the digits of a fraction of a second; those past the nanoseconds have no effect. */
static bool take_fraction(struct span *text, int64_t *out_ns) {
    int64_t unit_ns = NS_PER_S / 10;
    bool any = false;
    *out_ns = 0;
    for (; text->len != 0 && is_digit(text->base[0]); *text = span_skip(*text, 1)) {
        *out_ns += unit_ns * (text->base[0] - '0');
        unit_ns /= 10;
        any = true;
    }
    return any;
}

/* Takes "Z" or an offset such as "+02:00". */
static bool take_offset(struct span *text, int64_t *out) {
    int64_t hours = 0;
    int64_t minutes = 0;
    *out = 0;
    if (take_one_of(text, "Zz") != '\0') {
        return true;
    }
    char sign = take_one_of(text, "+-");
    if (sign == '\0' || !take_number(text, 2, &hours) || take_one_of(text, ":") == '\0' ||
        !take_number(text, 2, &minutes) || hours > 23 || minutes > 59) {
        return false;
    }
    *out = (hours * SECONDS_PER_HOUR + minutes * SECONDS_PER_MINUTE) * (sign == '-' ? -1 : 1);
    return true;
}

/* What follows the date in RFC 3339, "T10:00:00.5+02:00", as seconds since the date's midnight in UTC. */
static bool take_time(struct span *text, int64_t *seconds, int64_t *fraction_ns) {
    int64_t hour = 0;
    int64_t minute = 0;
    int64_t second = 0;
    int64_t offset = 0;
    if (take_one_of(text, "Tt ") == '\0' || !take_number(text, 2, &hour) || take_one_of(text, ":") == '\0' ||
        !take_number(text, 2, &minute) || take_one_of(text, ":") == '\0' || !take_number(text, 2, &second)) {
        return false;
    }
    if (hour > 23 || minute > 59 || second > 60) { /* 60: a leap second, the instant of the next minute */
        return false;
    }
    *fraction_ns = 0;
    if (take_one_of(text, ".") != '\0' && !take_fraction(text, fraction_ns)) {
        return false;
    }
    if (!take_offset(text, &offset)) {
        return false;
    }
    *seconds = hour * SECONDS_PER_HOUR + minute * SECONDS_PER_MINUTE + second - offset;
    return true;
}

static bool combine_ns(int64_t seconds, int64_t fraction_ns, int64_t *out) {
    return !__builtin_mul_overflow(seconds, NS_PER_S, out) && !__builtin_add_overflow(*out, fraction_ns, out);
}

/* "2026-11", "2026-11-21" or RFC 3339. */
static bool parse_date(struct span text, int64_t *out) {
    int64_t year = 0;
    int64_t month = 0;
    int64_t day = 1;
    int64_t seconds = 0;
    int64_t fraction_ns = 0;
    if (!take_month(&text, &year, &month)) {
        return false;
    }
    if (text.len != 0 && (take_one_of(&text, "-") == '\0' || !take_number(&text, 2, &day) || day < 1 ||
                          day > count_days_in_month(year, month))) {
        return false;
    }
    int64_t number = day_of_date(year, month, day);
    if (text.len == 0) {
        return combine_ns(day_start(number), 0, out);
    }
    return take_time(&text, &seconds, &fraction_ns) && text.len == 0 &&
           combine_ns(number * SECONDS_PER_DAY + seconds, fraction_ns, out);
}

/* "30d", "12h", "90m" or "45s". */
static bool parse_duration(struct span text, int64_t *out_ns) {
    int64_t number = 0;
    size_t digits = 0;
    while (digits < text.len && is_digit(text.base[digits])) {
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, text.base[digits] - '0', &number)) {
            return false;
        }
        digits++;
    }
    if (digits == 0 || text.len != digits + 1) {
        return false;
    }
    static const char units[] = "smhd";
    static const int64_t seconds[] = {1, SECONDS_PER_MINUTE, SECONDS_PER_HOUR, SECONDS_PER_DAY};
    const char *unit = memchr(units, text.base[digits], sizeof(units) - 1);
    return unit != NULL && !__builtin_mul_overflow(number, seconds[unit - units], &number) &&
           !__builtin_mul_overflow(number, NS_PER_S, out_ns);
}

bool calendar_parse(struct span text, int64_t now_wall_ns, int64_t *out) {
    int64_t duration_ns = 0;
    if (parse_duration(text, &duration_ns)) {
        return !__builtin_sub_overflow(now_wall_ns, duration_ns, out);
    }
    return parse_date(text, out);
}

bool calendar_parse_future(struct span text, int64_t now_wall_ns, int64_t *out) {
    int64_t duration_ns = 0;
    if (parse_duration(text, &duration_ns)) {
        return !__builtin_add_overflow(now_wall_ns, duration_ns, out);
    }
    return parse_date(text, out);
}
