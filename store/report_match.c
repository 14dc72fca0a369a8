#include "store/report_match.h"

enum { TAG_VALUE_BYTES = 1024, TAGS_TEXT_MOST = 1 << 20 };

static const char *const group_words[] = {
    [REPORT_BY_HOUR] = "hour",         [REPORT_BY_DAY] = "day", [REPORT_BY_MONTH] = "month",
    [REPORT_BY_TENANT] = "tenant",     [REPORT_BY_KEY] = "key", [REPORT_BY_MODEL] = "model",
    [REPORT_BY_UPSTREAM] = "upstream",
};
enum { GROUP_WORDS = sizeof(group_words) / sizeof(group_words[0]) };

void report_match_init(struct report_match *match) {
    *match = (struct report_match){.tags_valid = false};
    buffer_init(&match->tags_text, TAGS_TEXT_MOST);
    json_doc_init(&match->tags);
}

void report_match_fini(struct report_match *match) {
    json_doc_fini(&match->tags);
    buffer_fini(&match->tags_text);
}

static bool has_failed(const struct shm_usage_record_sh *usage) {
    return usage->status >= 400 || (usage->flags & SHM_RECORD_ERROR_EVENT) != 0;
}

struct report_item report_item_of_record(const struct ledger_record *record) {
    const struct shm_usage_record_sh *usage = &record->usage;
    return (struct report_item){
        .wall_ns = usage->end_wall_ns,
        .tenant = record->tenant,
        .key_id = record->key_id,
        .model = usage->model_served,
        .upstream = usage->upstream,
        .tags = record->tags,
        .sums = {.requests = 1,
                 .failed = has_failed(usage) ? 1 : 0,
                 .tokens = usage->tokens,
                 .price_nusd = usage->price_nusd,
                 .cost_nusd = usage->cost_nusd,
                 .list_nusd = usage->list_nusd},
    };
}

struct report_item report_item_of_rollup(const struct ledger_rollup *rollup) {
    return (struct report_item){
        .wall_ns = rollup->hour_wall_ns,
        .tenant = rollup->tenant,
        .key_id = rollup->key_id,
        .model = rollup->model,
        .upstream = rollup->upstream,
        .tags = rollup->tags,
        .sums = {.requests = rollup->requests,
                 .failed = rollup->failed,
                 .tokens = rollup->tokens,
                 .price_nusd = rollup->price_nusd,
                 .cost_nusd = rollup->cost_nusd,
                 .list_nusd = rollup->list_nusd},
    };
}

/* Parses tags unless they are the ones parsed last. */
static void read_tags(struct report_match *match, const char *tags) {
    struct span text = span_text(tags != NULL ? tags : "{}");
    if (match->tags_valid && span_equals(buffer_span(&match->tags_text), text)) {
        return;
    }
    buffer_clear(&match->tags_text);
    buffer_append_span(&match->tags_text, text);
    match->tags_valid = !match->tags_text.failed && json_parse(&match->tags, buffer_span(&match->tags_text));
}

/* The value of a tag into out; empty when the tag is not there. */
static void tag_value(struct report_match *match, const char *tags, const char *name,
                      char out[static TAG_VALUE_BYTES]) {
    out[0] = '\0';
    read_tags(match, tags);
    if (match->tags_valid &&
        !json_string_copy(&match->tags, json_member(&match->tags, 0, name), out, TAG_VALUE_BYTES)) {
        out[0] = '\0';
    }
}

static bool passes(const char *wanted, const char *name) { return wanted == NULL || strcmp(wanted, name) == 0; }

bool report_match_item(struct report_match *match, const struct report_filter *filter, const struct report_item *item) {
    if (!passes(filter->tenant, item->tenant) || !passes(filter->key, item->key_id) ||
        !passes(filter->model, item->model) || !passes(filter->upstream, item->upstream)) {
        return false;
    }
    if (filter->tag_name == NULL) {
        return true;
    }
    char value[TAG_VALUE_BYTES];
    tag_value(match, item->tags, filter->tag_name, value);
    return passes(filter->tag_value, value);
}

static void append_label(struct report_match *match, const struct report_group *group, const struct report_item *item,
                         struct buffer *out) {
    char text[TAG_VALUE_BYTES];
    const char *label = text;
    switch (group->kind) {
    case REPORT_BY_HOUR:
        calendar_label(item->wall_ns, CALENDAR_HOUR, text);
        break;
    case REPORT_BY_DAY:
        calendar_label(item->wall_ns, CALENDAR_DAY, text);
        break;
    case REPORT_BY_MONTH:
        calendar_label(item->wall_ns, CALENDAR_MONTH, text);
        break;
    case REPORT_BY_TENANT:
        label = item->tenant;
        break;
    case REPORT_BY_KEY:
        label = item->key_id;
        break;
    case REPORT_BY_MODEL:
        label = item->model;
        break;
    case REPORT_BY_UPSTREAM:
        label = item->upstream;
        break;
    case REPORT_BY_TAG:
        tag_value(match, item->tags, group->tag, text);
        break;
    }
    buffer_append_text(out, label);
    buffer_append_byte(out, '\0');
}

void report_match_labels(struct report_match *match, const struct report_group *groups, int group_count,
                         const struct report_item *item, struct buffer *out) {
    buffer_clear(out);
    for (int i = 0; i < group_count; i++) {
        append_label(match, &groups[i], item, out);
    }
}

void report_group_name(const struct report_group *group, struct buffer *out) {
    if (group->kind == REPORT_BY_TAG) {
        buffer_format(out, "tag:%s", group->tag);
    } else {
        buffer_append_text(out, group_words[group->kind]);
    }
}

bool report_groups_finest(const struct report_group *groups, int group_count, enum calendar_unit *unit) {
    static const enum calendar_unit units[] = {
        [REPORT_BY_HOUR] = CALENDAR_HOUR, [REPORT_BY_DAY] = CALENDAR_DAY, [REPORT_BY_MONTH] = CALENDAR_MONTH};
    bool found = false;
    for (int i = 0; i < group_count; i++) {
        if (groups[i].kind <= REPORT_BY_MONTH && (!found || units[groups[i].kind] < *unit)) {
            *unit = units[groups[i].kind];
            found = true;
        }
    }
    return found;
}

static bool parse_group(struct span word, struct report_group *group) {
    *group = (struct report_group){.kind = REPORT_BY_TAG};
    if (span_starts_with(word, "tag:")) {
        struct span name = span_skip(word, 4);
        return name.len != 0 && span_copy(name, group->tag, sizeof(group->tag));
    }
    for (size_t i = 0; i < GROUP_WORDS; i++) {
        if (span_is(word, group_words[i])) {
            group->kind = (enum report_group_kind)i;
            return true;
        }
    }
    return false;
}

static bool is_repeated(const struct report_group *groups, int count) {
    for (int i = 0; i < count; i++) {
        if (groups[i].kind == groups[count].kind && strcmp(groups[i].tag, groups[count].tag) == 0) {
            return true;
        }
    }
    return false;
}

int report_parse_groups(struct span text, struct report_group groups[static REPORT_GROUPS_MOST], struct buffer *error) {
    int count = 0;
    while (true) {
        const char *comma = text.len != 0 ? memchr(text.base, ',', text.len) : NULL;
        struct span word = span_trim(comma != NULL ? span_of(text.base, (size_t)(comma - text.base)) : text);
        if (count == REPORT_GROUPS_MOST) {
            buffer_format(error, "at most %d groups are possible", REPORT_GROUPS_MOST);
            return -1;
        }
        if (!parse_group(word, &groups[count])) {
            buffer_format(error, "\"%.*s\" is no group; use hour, day, month, tenant, key, model, upstream or tag:NAME",
                          (int)(word.len < 80 ? word.len : 80), word.len != 0 ? word.base : "");
            return -1;
        }
        if (is_repeated(groups, count)) {
            buffer_format(error, "\"%.*s\" is named twice", SPAN_ARGUMENTS(word));
            return -1;
        }
        count++;
        if (comma == NULL) {
            return count;
        }
        text = span_skip(text, (size_t)(comma - text.base) + 1);
    }
}
