/* Reading sections, groups, lists and maps by the settings' table. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "conf/conf_kinds.h"
#include "conf/conf_lenient.h"
#include "conf/conf_lookup.h"

void conf_place_append(const struct conf_place *place, struct buffer *out) {
    if (place == NULL) {
        return;
    }
    conf_place_append(place->parent, out);
    if (place->name.base == NULL) {
        buffer_format(out, "[%d]", place->index);
        return;
    }
    char name[CONF_QUOTE_BYTES];
    const char *quote = conf_is_name(place->name, CONF_QUOTE_BYTES) ? "" : "\"";
    buffer_format(out, "%s%s%s%s", out->len != 0 ? "." : "", quote, conf_findings_clean(place->name, name), quote);
}

void conf_report(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *at,
                 const char *format, ...) {
    struct buffer text;
    buffer_init(&text, 65536);
    conf_place_append(place, &text);
    buffer_append_text(&text, text.len != 0 ? ": " : "");
    char *what = NULL;
    va_list arguments;
    va_start(arguments, format);
    int len = vasprintf(&what, format, arguments);
    va_end(arguments);
    CHECK(len >= 0);
    conf_findings_add(reader->findings, at != NULL ? at->line : 0, at != NULL ? at->column : 0, "%s%s",
                      buffer_text(&text), what);
    free(what);
    buffer_fini(&text);
    conf_lenient_drop(reader, place);
}

const struct conf_setting *conf_setting_find(enum conf_section section, struct span name) {
    for (size_t i = 0; i < conf_setting_count; i++) {
        if (conf_settings[i].section == section && span_is(name, conf_settings[i].name)) {
            return &conf_settings[i];
        }
    }
    return NULL;
}

static void append_known_names(enum conf_section section, struct buffer *out) {
    const char *separator = "";
    for (size_t i = 0; i < conf_setting_count; i++) {
        if (conf_settings[i].section == section) {
            buffer_format(out, "%s%s", separator, conf_settings[i].name);
            separator = ", ";
        }
    }
}

static void report_unknown(struct conf_reader *reader, enum conf_section section, const struct conf_place *place,
                           const struct conf_node *key) {
    struct conf_suggestion suggestion = {.wanted = key->text};
    for (size_t i = 0; i < conf_setting_count; i++) {
        if (conf_settings[i].section == section) {
            conf_suggestion_offer(&suggestion, conf_settings[i].name);
        }
    }
    char name[CONF_QUOTE_BYTES];
    struct buffer text;
    buffer_init(&text, 65536);
    buffer_format(&text, "unknown field \"%s\" %s", conf_findings_clean(key->text, name),
                  place != NULL ? "in " : "at the top level");
    struct buffer within;
    buffer_init(&within, 65536);
    conf_place_append(place, &within);
    buffer_append_span(&text, buffer_span(&within));
    buffer_fini(&within);
    if (suggestion.best != NULL) {
        buffer_format(&text, "; did you mean \"%s\"?", suggestion.best);
    } else {
        buffer_append_text(&text, "; the fields here are ");
        append_known_names(section, &text);
    }
    conf_findings_add(reader->findings, key->line, key->column, "%s", buffer_text(&text));
    buffer_fini(&text);
    struct conf_place here = {.parent = place, .name = key->text, .at = key};
    conf_lenient_drop(reader, &here);
}

/* The value of a setting nobody wrote, as if it had been written. */
static const struct conf_node *default_node(struct conf_reader *reader, const struct conf_setting *setting) {
    struct span text = span_text(setting->default_text);
    if (span_starts_with(text, "[")) {
        const struct conf_node *parsed = conf_tree_parse(text, reader->arena, reader->findings);
        CHECK(parsed != NULL);
        return parsed;
    }
    struct conf_node *node = arena_take_or_die(reader->arena, sizeof(*node));
    node->kind = span_is(text, "{}") ? CONF_NODE_MAPPING : CONF_NODE_SCALAR;
    node->plain = true;
    node->text = text;
    return node;
}

static void read_setting(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                         const struct conf_node *mapping, void *object) {
    const struct conf_entry *entry = conf_tree_member(mapping, setting->name);
    struct conf_place here = {
        .parent = place, .name = span_text(setting->name), .at = entry != NULL ? entry->key : NULL};
    if (entry != NULL) {
        if (setting->has_flag) {
            *(bool *)conf_field(object, setting->flag_offset) = true;
        }
        setting->kind->read(reader, setting, &here, entry->value, object);
        conf_lenient_resolve(reader, setting, &here);
    } else if (setting->required) {
        const struct conf_node *at = place != NULL && place->at != NULL ? place->at : mapping;
        conf_report(reader, &here, at, "is missing; it needs %s", setting->kind->label);
    } else if (setting->default_text != NULL) {
        setting->kind->read(reader, setting, &here, default_node(reader, setting), object);
    }
}

void conf_read_section(struct conf_reader *reader, enum conf_section section, const struct conf_place *place,
                       const struct conf_node *mapping, void *object) {
    for (int i = 0; i < mapping->count; i++) {
        if (conf_setting_find(section, mapping->entries[i].key->text) == NULL) {
            report_unknown(reader, section, place, mapping->entries[i].key);
        }
    }
    for (size_t i = 0; i < conf_setting_count; i++) {
        if (conf_settings[i].section == section) {
            read_setting(reader, &conf_settings[i], place, mapping, object);
        }
    }
    conf_check_section(reader, section, place, mapping, object);
}

bool conf_expect_kind(struct conf_reader *reader, const char *label, const struct conf_place *place,
                      const struct conf_node *value, enum conf_node_kind kind) {
    if (value->kind == kind) {
        return true;
    }
    if (value->kind != CONF_NODE_BROKEN) {
        conf_report(reader, place, value, conf_tree_is_null(value) ? "has no value; it needs %s" : "needs %s", label);
    } else {
        conf_lenient_drop(reader, place);
    }
    return false;
}

static void read_group(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                       const struct conf_node *value, void *object) {
    if (conf_expect_kind(reader, setting->kind->label, place, value, CONF_NODE_MAPPING)) {
        conf_read_section(reader, setting->holds, place, value, conf_field(object, setting->offset));
    }
}

bool conf_expect_count(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                       const struct conf_node *value) {
    if (value->count < setting->least) {
        conf_report(reader, place, value, "is empty; give at least one or leave it out");
        return false;
    }
    if (value->count > setting->most) {
        conf_report(reader, place, value, "has %d entries; at most %d are possible", value->count, (int)setting->most);
        return false;
    }
    return true;
}

void *conf_take_elements(struct conf_reader *reader, const struct conf_setting *setting, int count, void *object) {
    void *elements = NULL;
    if (count != 0) {
        elements = arena_take_array(reader->arena, (size_t)count, setting->element_bytes);
        CHECK(elements != NULL);
    }
    memcpy(conf_field(object, setting->offset), &elements, sizeof(void *));
    memcpy(conf_field(object, setting->count_offset), &count, sizeof(count));
    return elements;
}

static void read_list(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                      const struct conf_node *value, void *object) {
    if (!conf_expect_kind(reader, setting->kind->label, place, value, CONF_NODE_LIST) ||
        !conf_expect_count(reader, setting, place, value)) {
        return;
    }
    char *elements = conf_take_elements(reader, setting, value->count, object);
    for (int i = 0; i < value->count; i++) {
        const struct conf_node *item = value->entries[i].value;
        struct conf_place here = {.parent = place, .index = i, .at = item};
        if (conf_expect_kind(reader, "a mapping", &here, item, CONF_NODE_MAPPING)) {
            conf_read_section(reader, setting->holds, &here, item, elements + (size_t)i * setting->element_bytes);
        }
    }
}

/* The names were read by conf_read_names; each element starts with its name. */
static void read_map(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                     const struct conf_node *value, void *object) {
    if (!conf_expect_kind(reader, setting->kind->label, place, value, CONF_NODE_MAPPING) ||
        !conf_expect_count(reader, setting, place, value)) {
        return;
    }
    size_t most = setting->holds == CONF_SECTION_MODEL ? CONF_MODEL_NAME_MOST : CONF_NAME_MOST;
    char *elements = NULL;
    memcpy(&elements, conf_field(object, setting->offset), sizeof(elements));
    for (int i = 0; i < value->count; i++) {
        const struct conf_entry *entry = &value->entries[i];
        struct conf_place here = {.parent = place, .name = entry->key->text, .at = entry->key};
        if (!conf_is_name(entry->key->text, most)) {
            conf_report(reader, &here, entry->key,
                        "is no valid name; use 1 to %zu characters of A-Z a-z 0-9 . _ : / @ -", most);
        }
        if (conf_expect_kind(reader, "a mapping", &here, entry->value, CONF_NODE_MAPPING)) {
            conf_read_section(reader, setting->holds, &here, entry->value,
                              elements + (size_t)i * setting->element_bytes);
        }
    }
}

static void read_map_names(struct conf_reader *reader, const struct conf_setting *setting,
                           const struct conf_node *value) {
    char *elements = conf_take_elements(reader, setting, value->count, reader->conf);
    for (int i = 0; i < value->count; i++) {
        char *name = conf_keep(reader, value->entries[i].key->text);
        memcpy(elements + (size_t)i * setting->element_bytes, &name, sizeof(name));
    }
}

void conf_read_names(struct conf_reader *reader, const struct conf_node *root) {
    for (size_t i = 0; i < conf_setting_count; i++) {
        const struct conf_setting *setting = &conf_settings[i];
        const struct conf_entry *entry = conf_tree_member(root, setting->name);
        if (setting->section == CONF_SECTION_ROOT && setting->kind == &conf_kind_map && entry != NULL &&
            entry->value->kind == CONF_NODE_MAPPING && entry->value->count <= setting->most) {
            read_map_names(reader, setting, entry->value);
        }
    }
    conf_lookup_index(reader->conf);
}

const struct conf_kind conf_kind_group = {.label = "a mapping", .read = read_group};
const struct conf_kind conf_kind_list = {.label = "a list of mappings", .read = read_list, .unit = CONF_UNIT_ITEMS};
const struct conf_kind conf_kind_map = {
    .label = "a mapping of names to mappings", .read = read_map, .unit = CONF_UNIT_ITEMS};
