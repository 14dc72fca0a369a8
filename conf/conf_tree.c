#include "conf/conf_tree.h"

#include <limits.h>
#include <stdlib.h>
#include <yaml.h>

#include "conf/conf_findings.h"

struct builder {
    yaml_parser_t parser;
    struct span text;
    struct arena *arena;
    struct conf_findings *findings;
    struct span names[CONF_DEPTH_MOST + 1]; /* the keys that lead to where the parser is, one a level */
    int nodes;
};

static struct conf_node *build_node(struct builder *builder, yaml_event_t *event, int depth);

static int mark_number(size_t zero_based) { return zero_based < INT_MAX ? (int)zero_based + 1 : INT_MAX; }

/* Line and column of a byte, for errors where libyaml knows the byte only. */
static void locate_byte(struct span text, size_t offset, int *line, int *column) {
    *line = 1;
    *column = 1;
    for (size_t at = 0; at < offset && at < text.len; at++) {
        bool newline = text.base[at] == '\n';
        bool continuation = ((unsigned char)text.base[at] & 0xC0) == 0x80;
        *line += newline ? 1 : 0;
        *column = newline ? 1 : *column + (continuation ? 0 : 1);
    }
}

static void report_syntax(struct builder *builder) {
    const yaml_parser_t *parser = &builder->parser;
    int line = mark_number(parser->problem_mark.line);
    int column = mark_number(parser->problem_mark.column);
    if (parser->error == YAML_READER_ERROR) {
        locate_byte(builder->text, parser->problem_offset, &line, &column);
    }
    conf_findings_add(builder->findings, line, column, "not valid YAML: %s%s%s",
                      parser->problem != NULL ? parser->problem : "out of memory", parser->context != NULL ? " " : "",
                      parser->context != NULL ? parser->context : "");
}

static bool next_event(struct builder *builder, yaml_event_t *event) {
    if (yaml_parser_parse(&builder->parser, event) == 0) {
        report_syntax(builder);
        return false;
    }
    return true;
}

static void refuse(struct builder *builder, struct conf_node *node, const char *what) {
    conf_findings_add(builder->findings, node->line, node->column, "%s", what);
    node->kind = CONF_NODE_BROKEN;
}

static const yaml_char_t *anchor_of(const yaml_event_t *event) {
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return event->data.scalar.anchor;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.anchor;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor;
    default:
        return NULL;
    }
}

static const yaml_char_t *tag_of(const yaml_event_t *event) {
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return event->data.scalar.tag;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.tag;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.tag;
    default:
        return NULL;
    }
}

/* Appends to a list or mapping; `size` is the caller's count of places in node->entries. */
static void add_entry(struct builder *builder, struct conf_node *node, int *size, struct conf_entry entry) {
    if (node->count == *size) {
        int larger = *size == 0 ? 4 : *size * 2;
        struct conf_entry *entries = arena_take_or_die(builder->arena, (size_t)larger * sizeof(*entries));
        if (node->count != 0) {
            memcpy(entries, node->entries, (size_t)node->count * sizeof(*entries));
        }
        node->entries = entries;
        *size = larger;
    }
    node->entries[node->count++] = entry;
}

static bool build_list(struct builder *builder, struct conf_node *node, int depth) {
    int size = 0;
    builder->names[depth] = SPAN_EMPTY;
    for (;;) {
        yaml_event_t event;
        if (!next_event(builder, &event)) {
            return false;
        }
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            return true;
        }
        struct conf_node *value = build_node(builder, &event, depth + 1);
        if (value == NULL) {
            return false;
        }
        add_entry(builder, node, &size, (struct conf_entry){.key = NULL, .value = value});
    }
}

static int compare_keys(const void *left, const void *right) {
    const struct conf_entry *a = *(const struct conf_entry *const *)left;
    const struct conf_entry *b = *(const struct conf_entry *const *)right;
    size_t shared = a->key->text.len < b->key->text.len ? a->key->text.len : b->key->text.len;
    int order = shared != 0 ? memcmp(a->key->text.base, b->key->text.base, shared) : 0;
    if (order == 0 && a->key->text.len != b->key->text.len) {
        order = a->key->text.len < b->key->text.len ? -1 : 1;
    }
    return order != 0 ? order : (a < b ? -1 : 1);
}

static void report_duplicate(struct builder *builder, const struct conf_node *second, const struct conf_node *first,
                             int depth) {
    struct buffer within;
    buffer_init(&within, 4096);
    for (int level = 0; level < depth; level++) {
        if (builder->names[level].len != 0) {
            char name[CONF_QUOTE_BYTES];
            conf_findings_clean(builder->names[level], name);
            buffer_format(&within, "%s%s", within.len == 0 ? " in " : ".", name);
        }
    }
    char name[CONF_QUOTE_BYTES];
    conf_findings_clean(second->text, name);
    conf_findings_add(builder->findings, second->line, second->column,
                      "duplicate name \"%s\"%s; it stands on line %d already, keep one of the two", name,
                      buffer_text(&within), first->line);
    buffer_fini(&within);
}

/* Reports each key that stood before and takes it out of the mapping. */
static void drop_duplicates(struct builder *builder, struct conf_node *node, int depth) {
    if (node->count < 2) {
        return;
    }
    size_t count = (size_t)node->count;
    struct conf_entry **sorted = arena_take_or_die(builder->arena, count * sizeof(struct conf_entry *));
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &node->entries[i];
    }
    qsort(sorted, count, sizeof(struct conf_entry *), compare_keys);
    const struct conf_node *first = sorted[0]->key;
    for (size_t i = 1; i < count; i++) {
        if (!span_equals(sorted[i]->key->text, first->text)) {
            first = sorted[i]->key;
            continue;
        }
        report_duplicate(builder, sorted[i]->key, first, depth);
        sorted[i]->value = NULL;
    }
    int kept = 0;
    for (int i = 0; i < node->count; i++) {
        if (node->entries[i].value != NULL) {
            node->entries[kept++] = node->entries[i];
        }
    }
    node->count = kept;
}

/* May this node name a member? Reports why not. */
static bool accept_key(struct builder *builder, struct conf_node *key) {
    if (key->kind == CONF_NODE_BROKEN) {
        return false;
    }
    if (key->kind != CONF_NODE_SCALAR) {
        refuse(builder, key, "a name must be a text, not a list or a mapping");
        return false;
    }
    if (key->plain && span_is(key->text, "<<")) {
        refuse(builder, key, "merge keys (<<) are not supported; write the settings out");
        return false;
    }
    return true;
}

static bool build_mapping(struct builder *builder, struct conf_node *node, int depth) {
    int size = 0;
    for (;;) {
        yaml_event_t event;
        if (!next_event(builder, &event)) {
            return false;
        }
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            drop_duplicates(builder, node, depth);
            return true;
        }
        struct conf_node *key = build_node(builder, &event, depth + 1);
        if (key == NULL || !next_event(builder, &event)) {
            return false;
        }
        builder->names[depth] = key->kind == CONF_NODE_SCALAR ? key->text : SPAN_EMPTY;
        struct conf_node *value = build_node(builder, &event, depth + 1);
        if (value == NULL) {
            return false;
        }
        if (accept_key(builder, key)) {
            add_entry(builder, node, &size, (struct conf_entry){.key = key, .value = value});
        }
    }
}

static void fill_scalar(struct builder *builder, struct conf_node *node, const yaml_event_t *event) {
    struct span value = span_of((const char *)event->data.scalar.value, event->data.scalar.length);
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    char *text = arena_copy_text(builder->arena, value);
    CHECK(text != NULL);
    node->text = span_of(text, value.len);
    if (value.len != 0 && memchr(value.base, '\0', value.len) != NULL) {
        refuse(builder, node, "a text must not hold a zero byte");
    }
}

/* Builds what stands between the container's start and its end. False ends the parse. */
static bool build_children(struct builder *builder, struct conf_node *node, int depth) {
    if (depth >= CONF_DEPTH_MOST) {
        conf_findings_add(builder->findings, node->line, node->column, "nested deeper than %d levels", CONF_DEPTH_MOST);
        return false;
    }
    return node->kind == CONF_NODE_LIST ? build_list(builder, node, depth) : build_mapping(builder, node, depth);
}

/* Makes the node that starts with event, and deletes event. NULL after a finding that ends the parse. */
static struct conf_node *build_node(struct builder *builder, yaml_event_t *event, int depth) {
    struct conf_node *node = arena_take_or_die(builder->arena, sizeof(*node));
    node->line = mark_number(event->start_mark.line);
    node->column = mark_number(event->start_mark.column);
    bool goes_on = true;
    bool refused = anchor_of(event) != NULL || event->type == YAML_ALIAS_EVENT || tag_of(event) != NULL;
    const char *why = tag_of(event) != NULL ? "tags (!) are not supported; write the value without one"
                                            : "anchors and aliases (& and *) are not supported; write the value out";
    if (event->type == YAML_SCALAR_EVENT) {
        node->kind = CONF_NODE_SCALAR;
        fill_scalar(builder, node, event);
    } else if (event->type != YAML_ALIAS_EVENT) {
        node->kind = event->type == YAML_SEQUENCE_START_EVENT ? CONF_NODE_LIST : CONF_NODE_MAPPING;
        goes_on = build_children(builder, node, depth);
    }
    yaml_event_delete(event);
    if (refused) {
        refuse(builder, node, why);
    }
    if (goes_on && ++builder->nodes > CONF_NODES_MOST) {
        conf_findings_add(builder->findings, node->line, node->column, "more than %d values", CONF_NODES_MOST);
        goes_on = false;
    }
    return goes_on ? node : NULL;
}

/* After the first document: only the stream's end may follow. */
static bool expect_end(struct builder *builder) {
    yaml_event_type_t type = YAML_NO_EVENT;
    do {
        yaml_event_t event;
        if (!next_event(builder, &event)) {
            return false;
        }
        type = event.type;
        if (type == YAML_DOCUMENT_START_EVENT) {
            conf_findings_add(builder->findings, mark_number(event.start_mark.line),
                              mark_number(event.start_mark.column),
                              "a second document starts here; a configuration is one document");
            yaml_event_delete(&event);
            return false;
        }
        yaml_event_delete(&event);
    } while (type != YAML_STREAM_END_EVENT && type != YAML_NO_EVENT);
    return true;
}

static struct conf_node *build_document(struct builder *builder) {
    struct conf_node *root = NULL;
    yaml_event_type_t type = YAML_NO_EVENT;
    while (root == NULL && type != YAML_STREAM_END_EVENT) {
        yaml_event_t event;
        if (!next_event(builder, &event)) {
            return NULL;
        }
        type = event.type;
        if (type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_START_EVENT || type == YAML_STREAM_END_EVENT) {
            yaml_event_delete(&event);
            continue;
        }
        root = build_node(builder, &event, 0);
        if (root == NULL) {
            return NULL;
        }
    }
    if (root == NULL || conf_tree_is_null(root)) {
        conf_findings_add(builder->findings, 0, 0, "the file is empty; conf/sample.yaml shows a complete one");
        return NULL;
    }
    return expect_end(builder) ? root : NULL;
}

struct conf_node *conf_tree_parse(struct span text, struct arena *arena, struct conf_findings *findings) {
    struct builder builder = {.text = text, .arena = arena, .findings = findings};
    if (yaml_parser_initialize(&builder.parser) == 0) {
        conf_findings_add(findings, 0, 0, "out of memory");
        return NULL;
    }
    yaml_parser_set_encoding(&builder.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&builder.parser, (const unsigned char *)(text.base != NULL ? text.base : ""),
                                 text.len);
    struct conf_node *root = build_document(&builder);
    yaml_parser_delete(&builder.parser);
    return root;
}

const struct conf_entry *conf_tree_member(const struct conf_node *node, const char *name) {
    for (int i = 0; node != NULL && node->kind == CONF_NODE_MAPPING && i < node->count; i++) {
        if (span_is(node->entries[i].key->text, name)) {
            return &node->entries[i];
        }
    }
    return NULL;
}

bool conf_tree_is_null(const struct conf_node *node) {
    return node->kind == CONF_NODE_SCALAR && node->plain &&
           (node->text.len == 0 || span_is(node->text, "~") || span_is_nocase(node->text, "null"));
}
