#include "master/master_generation.h"

#include <stdlib.h>

struct master_generation *master_generation_new(struct master *master, struct conf *conf,
                                                const struct master_generation *old, struct buffer *error) {
    struct master_generation *generation = calloc(1, sizeof(*generation));
    CHECK(generation != NULL);
    generation->number = ++master->last_number;
    generation->conf = conf;
    generation->worker_count = conf->workers;
    generation->workers = calloc((size_t)conf->workers, sizeof(*generation->workers));
    CHECK(generation->workers != NULL);
    if (!master_listen_open(&generation->listen_set, conf, old != NULL ? &old->listen_set : NULL, error)) {
        master_generation_free(generation);
        return NULL;
    }
    return generation;
}

bool master_generation_claim(struct master *master, struct master_generation *generation, struct buffer *error) {
    const struct conf *conf = generation->conf;
    for (int i = 0; i < conf->upstream_count; i++) {
        uint32_t row = i < SHM_UPSTREAMS ? shm_upstream_claim(&master->map, conf->upstreams[i].name) : SHM_NO_ROW;
        if (row == SHM_NO_ROW) {
            buffer_format(error,
                          "upstream %s: this server has known %d upstreams since its start, which is all it can; "
                          "restart it",
                          conf->upstreams[i].name, (int)SHM_UPSTREAMS);
            return false;
        }
        generation->upstream_rows[i] = row;
    }
    return true;
}

void master_generation_free(struct master_generation *generation) {
    if (generation != NULL) {
        master_listen_close(&generation->listen_set);
        conf_free(generation->conf);
        free(generation->workers);
        free(generation);
    }
}

void master_generation_grow(struct master_generation *generation, int worker_count) {
    if (worker_count <= generation->worker_count) {
        return;
    }
    struct master_post *workers = realloc(generation->workers, (size_t)worker_count * sizeof(*workers));
    CHECK(workers != NULL);
    memset(workers + generation->worker_count, 0, (size_t)(worker_count - generation->worker_count) * sizeof(*workers));
    generation->workers = workers;
    generation->worker_count = worker_count;
}
