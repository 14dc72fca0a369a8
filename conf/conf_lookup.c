#include "conf/conf_lookup.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

/* Every named element starts with its name. */
static_assert(offsetof(struct conf_model, name) == 0 && offsetof(struct conf_tier, name) == 0 &&
                  offsetof(struct conf_upstream, name) == 0,
              "names come first");

struct names {
    const void *elements;
    size_t element_bytes;
};

static const char *name_of(const struct names *names, int index) {
    const char *name = NULL;
    memcpy(&name, (const char *)names->elements + (size_t)index * names->element_bytes, sizeof(name));
    return name;
}

static int compare_indexes(const void *left, const void *right, void *context) {
    return strcmp(name_of(context, *(const int *)left), name_of(context, *(const int *)right));
}

static int *order_names(struct arena *arena, struct names names, int count) {
    int *order = arena_take_or_die(arena, (size_t)(count > 0 ? count : 1) * sizeof(int));
    for (int i = 0; i < count; i++) {
        order[i] = i;
    }
    qsort_r(order, (size_t)count, sizeof(int), compare_indexes, &names);
    return order;
}

void conf_lookup_index(struct conf *conf) {
    struct conf_private *private_ = conf->private_;
    struct arena *arena = &private_->arena;
    private_->model_order =
        order_names(arena, (struct names){conf->models, sizeof(struct conf_model)}, conf->model_count);
    private_->tier_order = order_names(arena, (struct names){conf->tiers, sizeof(struct conf_tier)}, conf->tier_count);
    private_->upstream_order =
        order_names(arena, (struct names){conf->upstreams, sizeof(struct conf_upstream)}, conf->upstream_count);
}

static int compare_text(struct span wanted, const char *name) {
    struct span known = span_text(name);
    size_t shared = wanted.len < known.len ? wanted.len : known.len;
    int order = shared != 0 ? memcmp(wanted.base, known.base, shared) : 0;
    return order != 0 ? order : (wanted.len > known.len) - (wanted.len < known.len);
}

static int find_name(struct names names, const int *order, int count, struct span wanted) {
    int low = 0;
    int high = count - 1;
    while (low <= high) {
        int middle = low + (high - low) / 2;
        int direction = compare_text(wanted, name_of(&names, order[middle]));
        if (direction == 0) {
            return order[middle];
        }
        low = direction > 0 ? middle + 1 : low;
        high = direction < 0 ? middle - 1 : high;
    }
    return -1;
}

int conf_model_index(const struct conf *conf, struct span name) {
    return find_name((struct names){conf->models, sizeof(struct conf_model)}, conf->private_->model_order,
                     conf->model_count, name);
}

int conf_tier_index(const struct conf *conf, struct span name) {
    return find_name((struct names){conf->tiers, sizeof(struct conf_tier)}, conf->private_->tier_order,
                     conf->tier_count, name);
}

int conf_upstream_index(const struct conf *conf, struct span name) {
    return find_name((struct names){conf->upstreams, sizeof(struct conf_upstream)}, conf->private_->upstream_order,
                     conf->upstream_count, name);
}

/* The steps are bounded, because the parser asks before it knows that there is no cycle. */
int conf_model_resolve(const struct conf *conf, int model) {
    for (int steps = 0; model >= 0 && model < conf->model_count && steps <= conf->model_count; steps++) {
        if (conf->models[model].alias < 0) {
            return model;
        }
        model = conf->models[model].alias;
    }
    return -1;
}

const char *conf_find_file(const char *explicit_path) {
    static const char *const usual[] = {"./tollgate.yaml", "/etc/tollgate/tollgate.yaml"};
    if (explicit_path != NULL) {
        return explicit_path;
    }
    for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
        if (access(usual[i], F_OK) == 0) {
            return usual[i];
        }
    }
    return NULL;
}

static void wipe(char *secret) {
    if (secret != NULL) {
        explicit_bzero(secret, strlen(secret));
    }
}

void conf_free(struct conf *conf) {
    if (conf == NULL) {
        return;
    }
    wipe(conf->admin_token);
    wipe(conf->cluster.redis);
    for (int i = 0; i < conf->upstream_count; i++) {
        wipe(conf->upstreams[i].api_key);
        wipe(conf->upstreams[i].proxy);
        for (int header = 0; header < conf->upstreams[i].header_count; header++) {
            wipe(conf->upstreams[i].headers[header].value);
        }
    }
    struct arena arena = conf->private_->arena;
    arena_fini(&arena);
}
