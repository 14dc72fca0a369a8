#include "conf/conf_lenient.h"

#include <stdlib.h>

#include "conf/conf_kinds.h"
#include "conf/conf_load.h"

/* A chain of aliases loses one link a reading. What takes longer than this loses everything. */
enum { READINGS_MOST = 64, STEPS_MOST = 2 * CONF_DEPTH_MOST };

static const size_t tree_cap_bytes = (size_t)1 << 30;

/* --- marking --- */

bool conf_lenient_tolerates(struct conf_reader *reader) {
    if (conf_lenient_is_on(reader)) {
        reader->lenient->is_unresolved = true;
    }
    return conf_lenient_is_on(reader);
}

static const struct conf_entry *find_step(const struct conf_node *node, const struct conf_place *step) {
    if (step->name.base == NULL) {
        return node->kind == CONF_NODE_LIST && step->index < node->count ? &node->entries[step->index] : NULL;
    }
    for (int i = 0; node->kind == CONF_NODE_MAPPING && i < node->count; i++) {
        if (span_equals(node->entries[i].key->text, step->name)) {
            return &node->entries[i];
        }
    }
    return NULL;
}

/* Where a way through the tree stands in the settings' table. */
struct way {
    enum conf_section section; /* whose settings are named next; END: none of the table */
    enum conf_section element; /* when not 0: an element of a map is named next, and this is its section */
};

/* Goes one step. Is that where something goes as a whole? */
static bool ends_at(struct way *way, const struct conf_place *step) {
    if (step->name.base == NULL) {
        return true;
    }
    if (way->element != 0) {
        way->section = way->element;
        way->element = 0;
        return way->section == CONF_SECTION_TIER;
    }
    const struct conf_setting *setting = conf_setting_find(way->section, step->name);
    bool holds = setting != NULL && setting->holds != 0;
    bool is_map = holds && setting->kind == &conf_kind_map;
    way->section = holds && !is_map ? setting->holds : CONF_SECTION_END;
    way->element = is_map ? setting->holds : 0;
    return holds && setting->has_flag;
}

/* Marks the place; `whole`: what it is a part of, when that goes as a whole. */
static void mark(struct conf_lenient *lenient, const struct conf_place *place, bool whole) {
    const struct conf_place *steps[STEPS_MOST];
    int count = 0;
    for (; place != NULL && count < STEPS_MOST; place = place->parent) {
        steps[count++] = place;
    }
    struct way way = {.section = CONF_SECTION_ROOT};
    struct conf_node *at = NULL;
    for (bool ended = false; count > 0 && !ended; count--) {
        const struct conf_entry *entry = find_step(at != NULL ? at : lenient->root, steps[count - 1]);
        ended = entry == NULL || (ends_at(&way, steps[count - 1]) && whole);
        at = entry != NULL ? entry->value : at;
    }
    if (at == NULL) {
        lenient->is_stuck = true;
        return;
    }
    at->dropped = true;
    lenient->has_dropped = true;
}

void conf_lenient_drop(struct conf_reader *reader, const struct conf_place *place) {
    if (conf_lenient_is_on(reader)) {
        mark(reader->lenient, place, true);
    }
}

/* Left empty, these would seem to say something. */
static bool needs_value(const struct conf_setting *setting) {
    return setting->kind == &conf_kind_model || setting->kind == &conf_kind_upstream ||
           setting->section == CONF_SECTION_LISTEN || setting->section == CONF_SECTION_PRICE ||
           setting->section == CONF_SECTION_BUDGET || setting->section == CONF_SECTION_CURRENCY;
}

void conf_lenient_resolve(struct conf_reader *reader, const struct conf_setting *setting,
                          const struct conf_place *place) {
    if (!conf_lenient_is_on(reader) || !reader->lenient->is_unresolved || setting->holds != 0) {
        return;
    }
    reader->lenient->is_unresolved = false;
    if (needs_value(setting)) {
        mark(reader->lenient, place, true);
    } else if (setting->default_text != NULL || setting->element_bytes != 0) {
        mark(reader->lenient, place, false);
    }
}

/* --- reading again --- */

static void take_out(struct conf_node *node) {
    int kept = 0;
    for (int i = 0; i < node->count; i++) {
        if (!node->entries[i].value->dropped) {
            take_out(node->entries[i].value);
            node->entries[kept++] = node->entries[i];
        }
    }
    node->count = kept;
}

static struct conf *read_once(const char *path, const char *state_override, struct conf_node *root,
                              struct conf_lenient *lenient, struct conf_findings *findings) {
    struct conf_reader reader;
    *lenient = (struct conf_lenient){.root = root};
    conf_reader_begin(&reader, path, findings);
    reader.lenient = lenient;
    conf_read_root(&reader, root, state_override);
    return reader.conf;
}

/* The findings of the first reading are the file's; later ones follow from what was taken out. */
static struct conf *read_until_sound(struct conf *conf, const char *state_override, struct conf_node *root,
                                     struct conf_lenient *lenient) {
    char *path = strdup(conf->path);
    char *state_dir = strdup(state_override != NULL ? state_override : conf->state_dir);
    CHECK(path != NULL && state_dir != NULL);
    for (int readings = 1; lenient->has_dropped || lenient->is_stuck; readings++) {
        struct conf_findings ignored;
        if (lenient->is_stuck || readings > READINGS_MOST) {
            root->count = 0;
        } else {
            take_out(root);
        }
        conf_free(conf);
        conf_findings_begin(&ignored, path);
        conf = read_once(path, state_dir, root, lenient, &ignored);
        conf_findings_free(&ignored);
    }
    free(state_dir);
    free(path);
    return conf;
}

static bool is_lost(const struct conf_node *root, const char *name) {
    const struct conf_entry *entry = conf_tree_member(root, name);
    return entry != NULL && entry->value->dropped;
}

/* The tree is a mapping. */
static struct conf *read_tree(const char *path, const char *state_override, struct conf_node *root,
                              struct conf_findings *findings) {
    struct conf_lenient lenient;
    bool names_zone = conf_tree_member(root, "timezone") != NULL;
    struct conf *conf = read_once(path, state_override, root, &lenient, findings);
    if (state_override == NULL && is_lost(root, "state")) {
        const struct conf_node *at = conf_tree_member(root, "state")->value;
        conf_findings_add(findings, at->line, at->column,
                          "state: this names no directory here; correct it, or name the directory with --state");
        conf_free(conf);
        return NULL;
    }
    conf = read_until_sound(conf, state_override, root, &lenient);
    if (names_zone && conf_tree_member(root, "timezone") == NULL) {
        conf->timezone = NULL;
    }
    return conf;
}

/* What holds without a file that could be read. */
static struct conf *read_nothing(const char *path, const char *state_override, struct conf_findings *findings) {
    struct conf_node nothing = {.kind = CONF_NODE_MAPPING};
    if (state_override == NULL) {
        return NULL;
    }
    struct conf *conf = read_tree(path, state_override, &nothing, findings);
    conf->timezone = NULL;
    return conf;
}

static const char *text_or_null(const char *text) { return text != NULL && text[0] != '\0' ? text : NULL; }

static struct conf *parse_text(struct span text, const char *path, const char *state_override,
                               struct conf_findings *findings) {
    struct arena arena;
    arena_init(&arena, tree_cap_bytes);
    struct conf_node *root = conf_parse_tree(text, &arena, findings);
    if (root != NULL && root->kind != CONF_NODE_MAPPING) {
        conf_findings_add(findings, root->line, root->column, "a configuration is a mapping of settings");
        root = NULL;
    }
    struct conf *conf =
        root != NULL ? read_tree(path, state_override, root, findings) : read_nothing(path, state_override, findings);
    arena_fini(&arena);
    return conf;
}

struct conf *conf_parse_lenient(struct span text, const char *path, const char *state_override,
                                struct conf_findings *findings) {
    conf_findings_begin(findings, path);
    return parse_text(text, path, text_or_null(state_override), findings);
}

struct conf *conf_load_lenient(const char *path, const char *state_override, struct conf_findings *findings) {
    struct buffer text;
    state_override = text_or_null(state_override);
    if (path == NULL) {
        conf_findings_begin(findings, "tollgate.yaml");
        return read_nothing("tollgate.yaml", state_override, findings);
    }
    conf_findings_begin(findings, path);
    struct conf *conf = conf_load_text(path, &text, findings)
                            ? parse_text(buffer_span(&text), path, state_override, findings)
                            : read_nothing(path, state_override, findings);
    conf_forget_text(&text);
    return conf;
}
