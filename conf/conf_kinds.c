/* Numbers, durations, sizes, money and choices. */
#include "conf/conf_kinds.h"

#include <assert.h>
#include <sched.h>

enum { WORKERS_MOST = 256 };

/* Choices are stored as int, which every enum here is. */
static_assert(sizeof(enum conf_dialect) == sizeof(int) && sizeof(enum conf_period) == sizeof(int) &&
                  sizeof(enum conf_on_disconnect) == sizeof(int) && sizeof(enum conf_tristate) == sizeof(int) &&
                  sizeof(enum log_format) == sizeof(int) && sizeof(enum log_level) == sizeof(int),
              "enums are ints");

static void store_int(void *object, size_t offset, int value) {
    memcpy(conf_field(object, offset), &value, sizeof(value));
}

static void store_int64(void *object, size_t offset, int64_t value) {
    memcpy(conf_field(object, offset), &value, sizeof(value));
}

static bool check_range(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                        const struct conf_node *value, const struct conf_scalar *scalar, int64_t number) {
    if (number >= setting->least && number <= setting->most) {
        return true;
    }
    char least[CONF_UNIT_TEXT_BYTES];
    char most[CONF_UNIT_TEXT_BYTES];
    conf_report(reader, place, value, "%s is out of range; use %s to %s", scalar->quote,
                conf_units_format(setting->kind->unit, setting->least, least),
                conf_units_format(setting->kind->unit, setting->most, most));
    return false;
}

static bool parse_whole(const struct conf_scalar *scalar, int64_t *out) {
    return (scalar->plain || scalar->is_expanded) && conf_units_parse_int(scalar->text, out);
}

static bool take_whole(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                       const struct conf_node *value, int64_t *out) {
    struct conf_scalar scalar;
    if (!conf_take_scalar(reader, place, value, setting->kind->label, &scalar)) {
        return false;
    }
    if (!parse_whole(&scalar, out)) {
        bool is_huge = scalar.plain && strspn(scalar.text.base, "0123456789") == scalar.text.len;
        *out = is_huge ? INT64_MAX : 0;
        if (!is_huge) {
            conf_report(reader, place, value, "%s is no whole number; write digits only, without quotes", scalar.quote);
            return false;
        }
    }
    return check_range(reader, setting, place, value, &scalar, *out);
}

static void read_count(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                       const struct conf_node *value, void *object) {
    int64_t number = 0;
    if (take_whole(reader, setting, place, value, &number)) {
        store_int64(object, setting->offset, number);
    }
}

static void read_integer(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                         const struct conf_node *value, void *object) {
    int64_t number = 0;
    if (take_whole(reader, setting, place, value, &number)) {
        store_int(object, setting->offset, (int)number);
    }
}

static void read_duration(struct conf_reader *reader, const struct conf_setting *setting,
                          const struct conf_place *place, const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    int64_t duration_ms = 0;
    if (!conf_take_scalar(reader, place, value, setting->kind->label, &scalar)) {
        return;
    }
    if (!conf_parse_duration(scalar.text, &duration_ms)) {
        conf_report(reader, place, value, "%s is no duration; write a whole number with ms, s, m, h or d, such as %s",
                    scalar.quote, setting->default_text != NULL ? setting->default_text : "30s");
        return;
    }
    if (check_range(reader, setting, place, value, &scalar, duration_ms)) {
        store_int64(object, setting->offset, duration_ms);
    }
}

static void read_size(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                      const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    int64_t size_bytes = 0;
    if (!conf_take_scalar(reader, place, value, setting->kind->label, &scalar)) {
        return;
    }
    if (!conf_parse_size(scalar.text, &size_bytes)) {
        conf_report(reader, place, value,
                    "%s is no size; write a whole number of bytes or with KiB, MiB or GiB, such as %s", scalar.quote,
                    setting->default_text != NULL ? setting->default_text : "1MiB");
        return;
    }
    if (check_range(reader, setting, place, value, &scalar, size_bytes)) {
        store_int64(object, setting->offset, size_bytes);
    }
}

static void read_money(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                       const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    int64_t amount = 0;
    if (!conf_take_scalar(reader, place, value, setting->kind->label, &scalar)) {
        return;
    }
    if (!money_parse(scalar.text, &amount)) {
        conf_report(reader, place, value, "%s is no amount; write a decimal with at most nine decimals, such as 2.50",
                    scalar.quote);
        return;
    }
    if (check_range(reader, setting, place, value, &scalar, amount)) {
        store_int64(object, setting->offset, amount);
    }
}

/* 1 for true, 0 for false, -1 after a report. */
static int take_boolean(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                        const struct conf_node *value) {
    struct conf_scalar scalar;
    if (!conf_take_scalar(reader, place, value, setting->kind->label, &scalar)) {
        return -1;
    }
    bool unquoted = scalar.plain || scalar.is_expanded;
    if (unquoted && (span_is(scalar.text, "true") || span_is(scalar.text, "false"))) {
        return span_is(scalar.text, "true") ? 1 : 0;
    }
    conf_report(reader, place, value, "%s is no boolean; write true or false, without quotes", scalar.quote);
    return -1;
}

static void read_boolean(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                         const struct conf_node *value, void *object) {
    *(bool *)conf_field(object, setting->offset) = take_boolean(reader, setting, place, value) == 1;
}

static void read_tristate(struct conf_reader *reader, const struct conf_setting *setting,
                          const struct conf_place *place, const struct conf_node *value, void *object) {
    static const int states[] = {CONF_ANY, CONF_NO, CONF_YES};
    store_int(object, setting->offset, states[take_boolean(reader, setting, place, value) + 1]);
}

static int count_own_cores(void) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    int count = sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
    return count < 1 ? 1 : count > WORKERS_MOST ? WORKERS_MOST : count;
}

static void read_workers(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                         const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    int64_t workers = 0;
    if (!conf_take_scalar(reader, place, value, setting->kind->label, &scalar)) {
        return;
    }
    if (span_is(scalar.text, "auto")) {
        workers = count_own_cores();
    } else if (!parse_whole(&scalar, &workers) || workers < setting->least || workers > setting->most) {
        conf_report(reader, place, value, "%s is no number of workers; write auto or 1 to %d", scalar.quote,
                    WORKERS_MOST);
        return;
    }
    store_int(object, setting->offset, (int)workers);
}

static void report_choice(struct conf_reader *reader, const struct conf_setting *setting,
                          const struct conf_place *place, const struct conf_node *value,
                          const struct conf_scalar *scalar) {
    struct conf_suggestion suggestion = {.wanted = scalar->text};
    for (size_t i = 0; setting->kind->choices[i] != NULL; i++) {
        conf_suggestion_offer(&suggestion, setting->kind->choices[i]);
    }
    if (suggestion.best != NULL && !scalar->is_expanded) {
        conf_report(reader, place, value, "%s is unknown; did you mean \"%s\"?", scalar->quote, suggestion.best);
    } else {
        conf_report(reader, place, value, "%s is unknown; write %s", scalar->quote, setting->kind->label);
    }
}

static void read_choice(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                        const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    if (!conf_take_scalar(reader, place, value, setting->kind->label, &scalar)) {
        return;
    }
    for (int i = 0; setting->kind->choices[i] != NULL; i++) {
        if (span_is(scalar.text, setting->kind->choices[i])) {
            store_int(object, setting->offset, i + (int)setting->least);
            return;
        }
    }
    report_choice(reader, setting, place, value, &scalar);
}

static const char *const dialects[] = {"openai", "anthropic", "gemini", "demo", NULL};
static const char *const periods[] = {"day", "month", "total", NULL};
static const char *const disconnects[] = {"cancel", "drain", NULL};
static const char *const http_versions[] = {"1.1", "2", NULL}; /* the row's least is 1, so these are 1 and 2 */
static const char *const log_formats[] = {"text", "json", NULL};
static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};

static_assert(CONF_DIALECT_DEMO == 3 && CONF_PERIOD_TOTAL == 2 && CONF_DISCONNECT_DRAIN == 1 && LOG_JSON_FORMAT == 1 &&
                  LOG_DEBUG == 3,
              "the choices stand in the order of their enums");

const struct conf_kind conf_kind_boolean = {.label = "true or false", .read = read_boolean};
const struct conf_kind conf_kind_tristate = {.label = "true or false", .read = read_tristate};
const struct conf_kind conf_kind_integer = {.label = "a whole number", .read = read_integer, .unit = CONF_UNIT_COUNT};
const struct conf_kind conf_kind_count = {.label = "a whole number", .read = read_count, .unit = CONF_UNIT_COUNT};
const struct conf_kind conf_kind_duration = {.label = "a duration", .read = read_duration, .unit = CONF_UNIT_MS};
const struct conf_kind conf_kind_size = {.label = "a size", .read = read_size, .unit = CONF_UNIT_BYTES};
const struct conf_kind conf_kind_money = {.label = "a decimal", .read = read_money, .unit = CONF_UNIT_NUSD};
const struct conf_kind conf_kind_workers = {
    .label = "auto or a whole number", .read = read_workers, .unit = CONF_UNIT_COUNT};
const struct conf_kind conf_kind_dialect = {
    .label = "openai, anthropic, gemini or demo", .read = read_choice, .choices = dialects};
const struct conf_kind conf_kind_period = {.label = "day, month or total", .read = read_choice, .choices = periods};
const struct conf_kind conf_kind_disconnect = {.label = "cancel or drain", .read = read_choice, .choices = disconnects};
const struct conf_kind conf_kind_http_version = {.label = "1.1 or 2", .read = read_choice, .choices = http_versions};
const struct conf_kind conf_kind_log_format = {.label = "text or json", .read = read_choice, .choices = log_formats};
const struct conf_kind conf_kind_log_level = {
    .label = "error, warn, info or debug", .read = read_choice, .choices = log_levels};
