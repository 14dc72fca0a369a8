#include "admin/admin_buckets.h"

enum { MINUTE_S = 60, HOUR_S = 3600, DAY_S = 86400 };
static const int64_t newest_s = INT64_C(4102444800); /* the year 2100 */
static const char page_prefix[] = "page_";

struct width {
    const char *name;
    int64_t seconds;
    int64_t first; /* buckets a page, unless asked otherwise */
    int64_t most;
};

static const struct width usage_widths[] = {{"1d", DAY_S, 7, 31}, {"1h", HOUR_S, 24, 168}, {"1m", MINUTE_S, 60, 1440}};
static const struct width cost_width = {"1d", DAY_S, 7, 180};

struct parse {
    const struct query *query;
    struct arena *arena;
    struct buckets *out;
    const char *param;
    struct buffer *error;
};

static bool fail(struct parse *parse, const char *param, const char *what) {
    parse->param = param;
    buffer_format(parse->error, "%s %s", param, what);
    return false;
}

/* Is the query field `field` this parameter: "models" or "models[]"? */
static bool is_field(const char *field, const char *name) {
    size_t len = strlen(name);
    return strncmp(field, name, len) == 0 && (field[len] == '\0' || strcmp(field + len, "[]") == 0);
}

/* Calls take with each value: of repeated fields, and of lists with commas. */
static bool each_value(struct parse *parse, const char *name,
                       bool (*take)(struct parse *parse, const char *value, void *to), void *to) {
    for (int i = 0; i < parse->query->count; i++) {
        const char *rest = parse->query->fields[i].value;
        if (!is_field(parse->query->fields[i].name, name)) {
            continue;
        }
        while (*rest != '\0') {
            size_t len = strcspn(rest, ",");
            const char *value = arena_copy_text(parse->arena, span_of(rest, len));
            if (value == NULL) {
                return fail(parse, name, "is too long");
            }
            if (len != 0 && !take(parse, value, to)) {
                return false;
            }
            rest += len + (rest[len] == ',' ? 1 : 0);
        }
    }
    return true;
}

static bool take_group(struct parse *parse, const char *value, void *to) {
    struct buckets *out = parse->out;
    bool is_cost = to != NULL;
    if (strcmp(value, "project_id") == 0) {
        out->by_project = true;
    } else if (strcmp(value, "api_key_id") == 0) {
        out->by_key = true;
    } else if (strcmp(value, is_cost ? "line_item" : "model") == 0) {
        out->by_model = true;
    } else if (is_cost || (strcmp(value, "batch") != 0 && strcmp(value, "service_tier") != 0)) {
        return fail(parse, "group_by",
                    is_cost ? "takes project_id, api_key_id, line_item" : "takes project_id, api_key_id, model");
    }
    return true;
}

static bool take_filter(struct parse *parse, const char *value, void *to) {
    struct bucket_filter *filter = to;
    if (filter->count == BUCKET_FILTER_MOST) {
        return fail(parse, "filter", "has too many values");
    }
    filter->values[filter->count++] = value;
    return true;
}

static bool read_number(struct parse *parse, const char *name, int64_t least, int64_t most, int64_t *out) {
    const char *text = query_get(parse->query, name);
    if (text == NULL) {
        return true;
    }
    if (!query_int(text, out) || *out < least || *out > most) {
        parse->param = name;
        buffer_format(parse->error, "%s must be a whole number from %lld to %lld", name, (long long)least,
                      (long long)most);
        return false;
    }
    return true;
}

static bool read_times(struct parse *parse, int64_t now_s) {
    struct buckets *out = parse->out;
    if (query_get(parse->query, "start_time") == NULL) {
        return fail(parse, "start_time", "is missing: give it in Unix seconds");
    }
    out->end_s = now_s + 1;
    if (!read_number(parse, "start_time", 0, newest_s, &out->start_s) ||
        !read_number(parse, "end_time", 0, newest_s, &out->end_s)) {
        return false;
    }
    return out->start_s < out->end_s ||
           fail(parse, "end_time", "must be later than start_time (and start_time in the past)");
}

static bool read_width(struct parse *parse, enum bucket_kind kind, const struct width **width) {
    const char *text = query_get(parse->query, "bucket_width");
    *width = kind == BUCKETS_OF_COSTS ? &cost_width : &usage_widths[0];
    if (text == NULL) {
        return true;
    }
    if (kind == BUCKETS_OF_COSTS) {
        return strcmp(text, cost_width.name) == 0 || fail(parse, "bucket_width", "must be 1d");
    }
    for (size_t i = 0; i < sizeof(usage_widths) / sizeof(usage_widths[0]); i++) {
        if (strcmp(text, usage_widths[i].name) == 0) {
            *width = &usage_widths[i];
            return true;
        }
    }
    return fail(parse, "bucket_width", "must be 1m, 1h or 1d");
}

/* Where this page begins: at start_time, or where the page before said. */
static bool read_page(struct parse *parse) {
    struct buckets *out = parse->out;
    const char *text = query_get(parse->query, "page");
    out->from_s = out->start_s;
    if (text == NULL || text[0] == '\0') {
        return true;
    }
    return (strncmp(text, page_prefix, strlen(page_prefix)) == 0 &&
            query_int(text + strlen(page_prefix), &out->from_s) && out->from_s > out->start_s &&
            out->from_s < out->end_s && out->from_s % out->width_s == 0) ||
           fail(parse, "page", "must be the next_page of the page before, with the same other fields");
}

static bool read_lists(struct parse *parse, enum bucket_kind kind) {
    struct buckets *out = parse->out;
    return each_value(parse, "group_by", take_group, kind == BUCKETS_OF_COSTS ? out : NULL) &&
           each_value(parse, "project_ids", take_filter, &out->projects) &&
           each_value(parse, "api_key_ids", take_filter, &out->keys) &&
           each_value(parse, "models", take_filter, &out->models);
}

bool buckets_parse(const struct query *query, enum bucket_kind kind, int64_t now_s, struct arena *arena,
                   struct buckets *out, const char **param, struct buffer *error) {
    struct parse parse = {.query = query, .arena = arena, .out = out, .error = error};
    const struct width *width = NULL;
    *out = (struct buckets){.start_s = 0};
    bool good = read_times(&parse, now_s) && read_width(&parse, kind, &width);
    if (good) {
        int64_t limit = width->first;
        out->width_s = width->seconds;
        good = read_number(&parse, "limit", 1, width->most, &limit) && read_page(&parse) && read_lists(&parse, kind);
        out->to_s = out->from_s - out->from_s % out->width_s + limit * out->width_s;
        out->has_more = out->to_s < out->end_s;
        out->to_s = out->has_more ? out->to_s : out->end_s;
    }
    *param = parse.param;
    return good;
}

int64_t buckets_start(const struct buckets *buckets, int64_t at_s) {
    int64_t start_s = at_s - at_s % buckets->width_s;
    return start_s > buckets->start_s ? start_s : buckets->start_s;
}

int64_t buckets_end(const struct buckets *buckets, int64_t at_s) {
    return at_s - at_s % buckets->width_s + buckets->width_s;
}

bool bucket_filter_matches(const struct bucket_filter *filter, const char *value) {
    for (int i = 0; i < filter->count; i++) {
        if (strcmp(filter->values[i], value) == 0) {
            return true;
        }
    }
    return filter->count == 0;
}
