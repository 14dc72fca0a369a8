/* From a file or a text to the configuration: the strict reading, and what the lenient one shares with it. */
#include "conf/conf_load.h"

#include <errno.h>
#include <stdlib.h>

#include "conf/conf_lookup.h"

/* Enough for CONF_NODES_MOST values; a configuration of some hundred models takes one MiB. */
static const size_t arena_cap_bytes = (size_t)4 << 30;

static struct conf *new_conf(void) {
    struct arena arena;
    arena_init(&arena, arena_cap_bytes);
    struct conf *conf = arena_take_or_die(&arena, sizeof(*conf));
    conf->private_ = arena_take_or_die(&arena, sizeof(*conf->private_));
    conf->private_->arena = arena;
    conf_lookup_index(conf);
    return conf;
}

static const char *directory_of(struct arena *arena, const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return ".";
    }
    char *directory = arena_copy_text(arena, span_of(path, slash == path ? 1 : (size_t)(slash - path)));
    CHECK(directory != NULL);
    return directory;
}

/* Models nobody read (their value was no mapping) must not seem to be aliases of the first. */
static void clear_references(struct conf *conf) {
    for (int i = 0; i < conf->model_count; i++) {
        conf->models[i].alias = -1;
    }
}

static void read_settings(struct conf_reader *reader, const struct conf_node *root) {
    if (root->kind != CONF_NODE_MAPPING) {
        if (root->kind != CONF_NODE_BROKEN) {
            conf_report(reader, NULL, root, "a configuration is a mapping of settings; conf/sample.yaml shows one");
        }
        return;
    }
    conf_read_names(reader, root);
    clear_references(reader->conf);
    conf_read_section(reader, CONF_SECTION_ROOT, NULL, root, reader->conf);
}

void conf_read_root(struct conf_reader *reader, const struct conf_node *root, const char *state_override) {
    read_settings(reader, root);
    if (state_override != NULL && state_override[0] != '\0') {
        reader->conf->state_dir = conf_keep(reader, span_text(state_override));
    }
}

void conf_reader_begin(struct conf_reader *reader, const char *path, struct conf_findings *findings) {
    struct conf *conf = new_conf();
    struct arena *arena = &conf->private_->arena;
    *reader = (struct conf_reader){
        .conf = conf, .arena = arena, .findings = findings, .directory = directory_of(arena, path)};
    conf->path = conf_keep(reader, span_text(path));
}

void conf_findings_begin(struct conf_findings *findings, const char *path) {
    *findings = (struct conf_findings){.path = strdup(path)};
    CHECK(findings->path != NULL);
}

struct conf_node *conf_parse_tree(struct span text, struct arena *arena, struct conf_findings *findings) {
    if (text.len > CONF_FILE_MOST_BYTES) {
        conf_findings_add(findings, 0, 0, "the file is larger than %d bytes", CONF_FILE_MOST_BYTES);
        return NULL;
    }
    return conf_tree_parse(text, arena, findings);
}

/* Parses into findings that were begun. */
static struct conf *parse_text(struct span text, const char *path, const char *state_override,
                               struct conf_findings *findings) {
    struct conf_reader reader;
    conf_reader_begin(&reader, path, findings);
    const struct conf_node *root = conf_parse_tree(text, reader.arena, findings);
    if (root != NULL) {
        conf_read_root(&reader, root, state_override);
    }
    if (findings->count != 0) {
        conf_free(reader.conf);
        return NULL;
    }
    return reader.conf;
}

struct conf *conf_parse(struct span text, const char *path, const char *state_override,
                        struct conf_findings *findings) {
    conf_findings_begin(findings, path);
    return parse_text(text, path, state_override, findings);
}

bool conf_load_text(const char *path, struct buffer *text, struct conf_findings *findings) {
    buffer_init(text, CONF_FILE_MOST_BYTES);
    if (conf_read_file(path, CONF_FILE_MOST_BYTES, true, text)) {
        return true;
    }
    if (errno == EFBIG) {
        conf_findings_add(findings, 0, 0, "the file is larger than %d bytes", CONF_FILE_MOST_BYTES);
    } else {
        conf_findings_add(findings, 0, 0, "the file cannot be read: %s", strerror(errno));
    }
    return false;
}

void conf_forget_text(struct buffer *text) {
    if (text->base != NULL) {
        explicit_bzero(text->base, text->size);
    }
    buffer_fini(text);
}

struct conf *conf_load(const char *path, const char *state_override, struct conf_findings *findings) {
    struct buffer text;
    conf_findings_begin(findings, path);
    struct conf *conf = NULL;
    if (conf_load_text(path, &text, findings)) {
        conf = parse_text(buffer_span(&text), path, state_override, findings);
    }
    conf_forget_text(&text);
    return conf;
}
