/* conf/conf_lookup.h - names to indexes, and what conf_free needs.
 * Used by: the configuration parser; the lookups themselves are in conf.h and read only. */
#ifndef TOLLGATE_CONF_CONF_LOOKUP_H
#define TOLLGATE_CONF_CONF_LOOKUP_H

#include "base/arena.h"
#include "conf/conf.h"

/* Indexes of the elements in the order of their names. */
struct conf_private {
    struct arena arena; /* holds everything, this struct and the configuration included */
    int *model_order;
    int *tier_order;
    int *upstream_order;
};

/* Builds the orders once the names are known. */
void conf_lookup_index(struct conf *conf);

#endif
