/* conf/conf_lenient.h - reading on past what is wrong: for commands that look at a server or a store and start none.
 * Used by: the configuration parser only. Each reading marks what it stumbles over; that is taken out of the tree,
 * which is read again until nothing is wrong any more. A route, rule, listener, tier or price goes as a whole, so that
 * none is left with half of what it says. Without reader->lenient every function here does nothing. */
#ifndef TOLLGATE_CONF_CONF_LENIENT_H
#define TOLLGATE_CONF_CONF_LENIENT_H

#include "conf/conf_reader.h"

struct conf_lenient {
    struct conf_node *root;
    bool has_dropped;   /* something was marked: take it out and read again */
    bool is_stuck;      /* something is wrong that stands in no place of the tree */
    bool is_unresolved; /* the setting being read names a secret that is not at hand */
};

static inline bool conf_lenient_is_on(const struct conf_reader *reader) { return reader->lenient != NULL; }

/* May a variable or a file be missing here? Then the setting counts as unresolved. */
bool conf_lenient_tolerates(struct conf_reader *reader);

/* Marks what stands at this place, or the innermost part of the tree around it. */
void conf_lenient_drop(struct conf_reader *reader, const struct conf_place *place);

/* After a setting was read: one that is unresolved and cannot stay empty is marked. */
void conf_lenient_resolve(struct conf_reader *reader, const struct conf_setting *setting,
                          const struct conf_place *place);

#endif
