/* References to upstreams and models, lists of texts, and headers. */
#include "conf/conf_kinds.h"
#include "conf/conf_net.h"

enum { HEADER_NAME_MOST_BYTES = 128 };

static void report_dangling(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *value,
                            const struct conf_scalar *scalar, const char *what, struct conf_suggestion *suggestion) {
    if (suggestion->best != NULL && !scalar->is_expanded) {
        char name[CONF_QUOTE_BYTES];
        conf_report(reader, place, value, "%s names no %s; did you mean \"%s\"?", scalar->quote, what,
                    conf_findings_clean(span_text(suggestion->best), name));
    } else {
        conf_report(reader, place, value, "%s names no %s; define it under %ss", scalar->quote, what, what);
    }
}

/* The index of the model a scalar names, or -1 after a report. Keeps the name in *scalar. */
static int take_model(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *value,
                      struct conf_scalar *scalar) {
    if (!conf_take_scalar(reader, place, value, "a model's name", scalar)) {
        return -1;
    }
    int model = conf_model_index(reader->conf, scalar->text);
    if (model < 0) {
        struct conf_suggestion suggestion = {.wanted = scalar->text};
        for (int i = 0; i < reader->conf->model_count; i++) {
            conf_suggestion_offer(&suggestion, reader->conf->models[i].name);
        }
        report_dangling(reader, place, value, scalar, "model", &suggestion);
    }
    return model;
}

static void read_model(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                       const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    int model = take_model(reader, place, value, &scalar);
    memcpy(conf_field(object, setting->offset), &model, sizeof(model));
}

static void read_upstream(struct conf_reader *reader, const struct conf_setting *setting,
                          const struct conf_place *place, const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    int upstream = -1;
    if (conf_take_scalar(reader, place, value, "an upstream's name", &scalar)) {
        upstream = conf_upstream_index(reader->conf, scalar.text);
        if (upstream < 0) {
            struct conf_suggestion suggestion = {.wanted = scalar.text};
            for (int i = 0; i < reader->conf->upstream_count; i++) {
                conf_suggestion_offer(&suggestion, reader->conf->upstreams[i].name);
            }
            report_dangling(reader, place, value, &scalar, "upstream", &suggestion);
        }
    }
    memcpy(conf_field(object, setting->offset), &upstream, sizeof(upstream));
}

/* Makes the setting's array for a list. False when there is none to fill. */
static bool open_list(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                      const struct conf_node *value, void *object, void **elements) {
    if (!conf_expect_kind(reader, setting->kind->label, place, value, CONF_NODE_LIST) ||
        !conf_expect_count(reader, setting, place, value)) {
        return false;
    }
    *elements = conf_take_elements(reader, setting, value->count, object);
    return *elements != NULL;
}

static void read_models(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                        const struct conf_node *value, void *object) {
    void *elements = NULL;
    if (!open_list(reader, setting, place, value, object, &elements)) {
        return;
    }
    int *models = elements;
    for (int i = 0; i < value->count; i++) {
        struct conf_place here = {.parent = place, .index = i, .at = value->entries[i].value};
        struct conf_scalar scalar;
        models[i] = take_model(reader, &here, here.at, &scalar);
        for (int before = 0; before < i && models[i] >= 0; before++) {
            if (models[before] == models[i]) {
                conf_report(reader, &here, here.at, "%s stands in this list already", scalar.quote);
                break;
            }
        }
    }
}

/* Takes one text of a list: true with *out filled, or a report. */
typedef bool take_text_fn(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *value,
                          struct conf_scalar *out);

static void read_texts(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                       const struct conf_node *value, void *object, take_text_fn *take) {
    void *elements = NULL;
    if (!open_list(reader, setting, place, value, object, &elements)) {
        return;
    }
    char **texts = elements;
    for (int i = 0; i < value->count; i++) {
        struct conf_place here = {.parent = place, .index = i, .at = value->entries[i].value};
        struct conf_scalar scalar;
        if (!take(reader, &here, here.at, &scalar)) {
            continue;
        }
        texts[i] = conf_keep(reader, scalar.text);
        for (int before = 0; before < i; before++) {
            if (texts[before] != NULL && strcmp(texts[before], texts[i]) == 0) {
                conf_report(reader, &here, here.at, "%s stands in this list already", scalar.quote);
                break;
            }
        }
    }
}

static bool take_model_name(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *value,
                            struct conf_scalar *out) {
    return take_model(reader, place, value, out) >= 0;
}

static void read_model_names(struct conf_reader *reader, const struct conf_setting *setting,
                             const struct conf_place *place, const struct conf_node *value, void *object) {
    read_texts(reader, setting, place, value, object, take_model_name);
}

static bool take_origin(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *value,
                        struct conf_scalar *out) {
    struct conf_url url;
    if (!conf_take_scalar(reader, place, value, "an origin", out)) {
        return false;
    }
    bool fits = span_is(out->text, "*") || (conf_net_split_url(out->text, &url) == NULL && url.path.len == 0);
    if (!fits) {
        conf_report(reader, place, value, "%s is no origin; write * or SCHEME://HOST[:PORT] without a path",
                    out->quote);
    }
    return fits;
}

static void read_origins(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                         const struct conf_node *value, void *object) {
    read_texts(reader, setting, place, value, object, take_origin);
}

static bool take_cidr(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *value,
                      struct conf_scalar *out) {
    if (!conf_take_scalar(reader, place, value, "an address range", out)) {
        return false;
    }
    bool fits = conf_net_is_cidr(out->text);
    if (!fits) {
        conf_report(reader, place, value, "%s is no address range; write one such as 10.0.0.0/8 or fd00::/8",
                    out->quote);
    }
    return fits;
}

static void read_cidrs(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                       const struct conf_node *value, void *object) {
    read_texts(reader, setting, place, value, object, take_cidr);
}

static bool is_header_name(struct span name) {
    for (size_t i = 0; i < name.len; i++) {
        char c = name.base[i];
        bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
        if (!fits) {
            return false;
        }
    }
    return name.len != 0 && name.len <= HEADER_NAME_MOST_BYTES;
}

/* Headers that belong to the connection or that the relay computes. */
static bool is_reserved_header(const char *lower_case_name) {
    static const char *const reserved[] = {"connection", "content-length",    "keep-alive", "te",
                                           "trailer",    "transfer-encoding", "upgrade",    NULL};
    for (size_t i = 0; reserved[i] != NULL; i++) {
        if (strcmp(reserved[i], lower_case_name) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_header_value(struct span value) {
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.base[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static void read_header_name(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *key,
                             struct conf_header *header) {
    header->name = conf_keep(reader, key->text);
    for (char *c = header->name; *c != '\0'; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + ('a' - 'A') : *c);
    }
    if (!is_header_name(key->text)) {
        conf_report(reader, place, key, "is no valid name of an HTTP header");
    } else if (is_reserved_header(header->name)) {
        conf_report(reader, place, key, "the relay sets this header itself; take it out");
    }
}

static void read_header_value(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *value,
                              struct conf_header *header) {
    struct conf_scalar scalar;
    if (!conf_take_secret(reader, place, value, "a text", &scalar)) {
        return;
    }
    if (!is_header_value(scalar.text)) {
        conf_report(reader, place, value,
                    "has a line break or another control character, which no HTTP header may have");
        return;
    }
    header->value = conf_keep(reader, scalar.text);
}

static void read_headers(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                         const struct conf_node *value, void *object) {
    if (!conf_expect_kind(reader, setting->kind->label, place, value, CONF_NODE_MAPPING) ||
        !conf_expect_count(reader, setting, place, value)) {
        return;
    }
    struct conf_header *headers = conf_take_elements(reader, setting, value->count, object);
    for (int i = 0; i < value->count; i++) {
        const struct conf_node *key = value->entries[i].key;
        struct conf_place here = {.parent = place, .name = key->text, .at = key};
        read_header_name(reader, &here, key, &headers[i]);
        read_header_value(reader, &here, value->entries[i].value, &headers[i]);
        for (int before = 0; before < i; before++) {
            if (strcmp(headers[before].name, headers[i].name) == 0) {
                conf_report(reader, &here, key, "this header stands on line %d already, in other letters",
                            value->entries[before].key->line);
                break;
            }
        }
    }
}

const struct conf_kind conf_kind_upstream = {.label = "an upstream's name", .read = read_upstream};
const struct conf_kind conf_kind_model = {.label = "a model's name", .read = read_model};
const struct conf_kind conf_kind_models = {
    .label = "a list of models' names", .read = read_models, .unit = CONF_UNIT_ITEMS};
const struct conf_kind conf_kind_model_names = {
    .label = "a list of models' names", .read = read_model_names, .unit = CONF_UNIT_ITEMS};
const struct conf_kind conf_kind_origins = {
    .label = "a list of origins", .read = read_origins, .unit = CONF_UNIT_ITEMS};
const struct conf_kind conf_kind_cidrs = {
    .label = "a list of address ranges", .read = read_cidrs, .unit = CONF_UNIT_ITEMS};
const struct conf_kind conf_kind_headers = {
    .label = "a mapping of header names to texts", .read = read_headers, .unit = CONF_UNIT_ITEMS};
