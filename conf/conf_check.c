/* What one setting alone cannot tell: checks across the settings of a section, and across the whole file. */
#include "conf/conf_net.h"
#include "conf/conf_reader.h"

/* The value of a member, or the mapping itself when the member is a default. */
static const struct conf_node *value_or_mapping(const struct conf_node *mapping, const char *name) {
    const struct conf_entry *entry = conf_tree_member(mapping, name);
    return entry != NULL ? entry->value : mapping;
}

static struct conf_place place_of(const struct conf_place *parent, const char *name) {
    return (struct conf_place){.parent = parent, .name = span_text(name)};
}

static void check_price(const struct conf_node *mapping, struct price *price) {
    if (conf_tree_member(mapping, "cached_input") == NULL) {
        price->cached_input_nusd = price->input_nusd;
    }
    if (conf_tree_member(mapping, "cache_write") == NULL) {
        price->cache_write_nusd = price->input_nusd;
    }
}

/* A reference that is missing is reported already; it must not seem to be the first of its kind. */
static void check_route(const struct conf_node *mapping, struct conf_route *route) {
    if (conf_tree_member(mapping, "upstream") == NULL) {
        route->upstream = -1;
    }
}

static void check_rule(const struct conf_node *mapping, struct conf_rule *rule) {
    if (conf_tree_member(mapping, "model") == NULL) {
        rule->model = -1;
    }
}

static void check_upstream(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *mapping,
                           struct conf_upstream *upstream) {
    struct conf_place here = place_of(place, "base_url");
    const struct conf_entry *entry = conf_tree_member(mapping, "base_url");
    struct conf_url url;
    if (upstream->dialect == CONF_DIALECT_DEMO) {
        upstream->base_url = NULL;
        upstream->api_key = NULL;
    } else if (entry == NULL) {
        conf_report(reader, &here, place->at, "is missing; every dialect but demo needs it");
    } else if (upstream->base_url != NULL && !upstream->allow_private &&
               conf_net_split_url(span_text(upstream->base_url), &url) == NULL && conf_net_is_private(url.host)) {
        conf_report(reader, &here, entry->value,
                    "its host is a private or loopback address; if that is meant, set allow_private: true beside it");
    }
}

/* Priorities rise; routes of one priority keep their order. */
static void sort_routes(struct conf_route *routes, int count) {
    for (int i = 1; i < count; i++) {
        struct conf_route route = routes[i];
        int at = i;
        for (; at > 0 && routes[at - 1].priority > route.priority; at--) {
            routes[at] = routes[at - 1];
        }
        routes[at] = route;
    }
}

/* An alias and a set of rules stand for other models: nothing else is set beside them. */
static void refuse_other_members(struct conf_reader *reader, const struct conf_place *place,
                                 const struct conf_node *mapping, const char *name) {
    for (int i = 0; i < mapping->count; i++) {
        const struct conf_node *key = mapping->entries[i].key;
        if (!span_is(key->text, name)) {
            struct conf_place here = {.parent = place, .name = key->text, .at = key};
            conf_report(reader, &here, key, "a model with %s has no settings of its own; set it where the model is",
                        name);
        }
    }
}

static void check_model(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *mapping,
                        struct conf_model *model) {
    if (conf_tree_member(mapping, "alias") != NULL) {
        refuse_other_members(reader, place, mapping, "alias");
        return;
    }
    model->alias = -1;
    if (conf_tree_member(mapping, "rules") != NULL) {
        refuse_other_members(reader, place, mapping, "rules");
    } else if (conf_tree_member(mapping, "routes") == NULL) {
        conf_report(reader, place, place->at, "leads nowhere; give it routes, an alias or rules");
    }
    for (int i = 0; i < model->route_count; i++) {
        if (model->routes[i].model == NULL) {
            model->routes[i].model = model->name;
        }
    }
    sort_routes(model->routes, model->route_count);
}

static void check_retry(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *mapping,
                        const struct conf *conf) {
    if (conf->retry.max_ms < conf->retry.base_ms && conf->retry.max_ms != 0) {
        bool max_is_written = conf_tree_member(mapping, "max") != NULL;
        struct conf_place here = place_of(place, max_is_written ? "max" : "base");
        conf_report(reader, &here, value_or_mapping(mapping, max_is_written ? "max" : "base"),
                    "base is longer than max; lower base or raise max");
    }
}

/* The default grows with body; a smaller value that was written is a mistake. */
static void check_request_limits(struct conf_reader *reader, const struct conf_place *place,
                                 const struct conf_node *mapping, struct conf *conf) {
    if (conf->request_limits.bodies_per_connection_bytes >= conf->request_limits.body_bytes) {
        return;
    }
    const struct conf_entry *entry = conf_tree_member(mapping, "bodies_per_connection");
    if (entry == NULL) {
        conf->request_limits.bodies_per_connection_bytes = conf->request_limits.body_bytes;
    } else if (conf->request_limits.bodies_per_connection_bytes != 0) {
        struct conf_place here = place_of(place, "bodies_per_connection");
        conf_report(reader, &here, entry->value, "is smaller than request_limits.body; no such body could ever arrive");
    }
}

static void check_admin(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *mapping,
                        const struct conf *conf) {
    bool is_open = conf->admin_address.host != NULL && !conf_net_is_loopback(span_text(conf->admin_address.host));
    if (is_open && conf_tree_member(mapping, "token") == NULL) {
        struct conf_place here = place_of(place, "address");
        conf_report(reader, &here, value_or_mapping(mapping, "address"),
                    "other machines can reach this address; set admin.token, or use 127.0.0.1");
    }
}

/* The node of listen[index].address; NULL when listen is a default. */
static const struct conf_node *listen_node(const struct conf_node *root, int index) {
    const struct conf_entry *listen = conf_tree_member(root, "listen");
    return listen == NULL ? NULL : value_or_mapping(listen->value->entries[index].value, "address");
}

static void report_listen(struct conf_reader *reader, const struct conf_node *root, int index) {
    struct conf_place listen = place_of(NULL, "listen");
    struct conf_place item = {.parent = &listen, .index = index};
    struct conf_place here = place_of(&item, "address");
    conf_report(reader, &here, listen_node(root, index), "this address is listened on already; use another port");
}

static void check_admin_address(struct conf_reader *reader, const struct conf_node *root) {
    const struct conf *conf = reader->conf;
    const struct conf_entry *admin = conf_tree_member(root, "admin");
    const struct conf_entry *entry = admin != NULL ? conf_tree_member(admin->value, "address") : NULL;
    for (int i = 0; i < conf->listen_count && conf->admin_address.host != NULL; i++) {
        if (conf->listens[i].address.host == NULL ||
            !conf_net_same_address(&conf->listens[i].address, &conf->admin_address)) {
            continue;
        }
        const struct conf_node *listen = listen_node(root, i);
        if (entry != NULL && (listen == NULL || listen->line < entry->value->line)) {
            struct conf_place parent = place_of(NULL, "admin");
            struct conf_place here = place_of(&parent, "address");
            conf_report(reader, &here, entry->value, "this address is listened on already; use another port");
        } else {
            report_listen(reader, root, i);
        }
    }
}

static void check_addresses(struct conf_reader *reader, const struct conf_node *root) {
    const struct conf *conf = reader->conf;
    for (int i = 0; i < conf->listen_count; i++) {
        for (int before = 0; before < i; before++) {
            if (conf->listens[i].address.host != NULL && conf->listens[before].address.host != NULL &&
                conf_net_same_address(&conf->listens[i].address, &conf->listens[before].address)) {
                report_listen(reader, root, i);
                break;
            }
        }
    }
    check_admin_address(reader, root);
}

/* Is the model on a circle of aliases of which it is the first in the file? */
static bool starts_circle(const struct conf *conf, int model) {
    int at = conf->models[model].alias;
    for (int steps = 0; steps < conf->model_count && at > model; steps++) {
        at = conf->models[at].alias;
    }
    return at == model;
}

static void check_alias(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *mapping,
                        int model) {
    if (!starts_circle(reader->conf, model)) {
        return;
    }
    struct conf_place here = place_of(place, "alias");
    struct buffer way;
    buffer_init(&way, 2048);
    int at = model;
    do {
        char name[CONF_QUOTE_BYTES];
        at = reader->conf->models[at].alias;
        buffer_format(&way, " -> %s", conf_findings_clean(span_text(reader->conf->models[at].name), name));
    } while (at != model);
    conf_report(reader, &here, value_or_mapping(mapping, "alias"),
                "the aliases go round in a circle%s; lead one of them to a model with routes",
                way.failed ? "" : buffer_text(&way));
    buffer_fini(&way);
}

/* Rules lead to models with routes; afterwards each target is the model itself, whatever alias was written. */
static void check_rules(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *mapping,
                        struct conf_model *model) {
    struct conf_place rules = place_of(place, "rules");
    for (int i = 0; i < model->rule_count; i++) {
        int target = conf_model_resolve(reader->conf, model->rules[i].model);
        if (target >= 0 && reader->conf->models[target].rule_count != 0) {
            const struct conf_node *rule = value_or_mapping(mapping, "rules")->entries[i].value;
            struct conf_place item = {.parent = &rules, .index = i};
            struct conf_place here = place_of(&item, "model");
            conf_report(reader, &here, value_or_mapping(rule, "model"),
                        "leads to rules again; name a model with routes");
        }
        model->rules[i].model = target;
    }
}

static void check_fallback(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *mapping,
                           int index) {
    struct conf_model *model = &reader->conf->models[index];
    struct conf_place fallback = place_of(place, "fallback");
    for (int i = 0; i < model->fallback_count; i++) {
        int target = conf_model_resolve(reader->conf, model->fallback[i]);
        const char *problem = target == index ? "falls back to itself; name another model" : NULL;
        if (target >= 0 && reader->conf->models[target].rule_count != 0) {
            problem = "falls back to rules; name a model with routes";
        }
        if (problem != NULL) {
            struct conf_place here = {.parent = &fallback, .index = i};
            conf_report(reader, &here, value_or_mapping(mapping, "fallback")->entries[i].value, "%s", problem);
        }
        model->fallback[i] = target;
    }
}

static void check_model_graph(struct conf_reader *reader, const struct conf_node *root) {
    const struct conf_node *models = value_or_mapping(root, "models");
    struct conf_place parent = place_of(NULL, "models");
    for (int i = 0; i < reader->conf->model_count; i++) {
        const struct conf_entry *entry = &models->entries[i];
        struct conf_place here = {.parent = &parent, .name = entry->key->text, .at = entry->key};
        check_alias(reader, &here, entry->value, i);
        check_rules(reader, &here, entry->value, &reader->conf->models[i]);
        check_fallback(reader, &here, entry->value, i);
    }
}

void conf_check_section(struct conf_reader *reader, enum conf_section section, const struct conf_place *place,
                        const struct conf_node *mapping, void *object) {
    switch (section) {
    case CONF_SECTION_ROOT:
        check_addresses(reader, mapping);
        check_model_graph(reader, mapping);
        break;
    case CONF_SECTION_ADMIN:
        check_admin(reader, place, mapping, object);
        break;
    case CONF_SECTION_UPSTREAM:
        check_upstream(reader, place, mapping, object);
        break;
    case CONF_SECTION_MODEL:
        check_model(reader, place, mapping, object);
        break;
    case CONF_SECTION_PRICE:
        check_price(mapping, object);
        break;
    case CONF_SECTION_ROUTE:
        check_route(mapping, object);
        break;
    case CONF_SECTION_RULE:
        check_rule(mapping, object);
        break;
    case CONF_SECTION_RETRY:
        check_retry(reader, place, mapping, object);
        break;
    case CONF_SECTION_REQUEST_LIMITS:
        check_request_limits(reader, place, mapping, object);
        break;
    default:
        break;
    }
}
