/* conf/conf_tree.h - a YAML text as a tree of nodes that know their place in the file.
 * Used by: the configuration parser only. One document; anchors, aliases, tags, merge keys and deep nesting are
 * refused; a name that stands twice in one mapping is reported at its second place and dropped. Ownership: nodes and
 * texts live in the arena given. Errors: findings; the tree is NULL when the text is no YAML. */
#ifndef TOLLGATE_CONF_CONF_TREE_H
#define TOLLGATE_CONF_CONF_TREE_H

#include "base/arena.h"
#include "conf/conf.h"

enum { CONF_DEPTH_MOST = 32, CONF_NODES_MOST = 200000 };

enum conf_node_kind { CONF_NODE_SCALAR, CONF_NODE_LIST, CONF_NODE_MAPPING, CONF_NODE_BROKEN };

struct conf_node {
    enum conf_node_kind kind; /* broken: refused and reported already; readers pass over it */
    bool plain;               /* a scalar without quotes */
    bool dropped;             /* a lenient reading takes it out (conf_lenient.h) */
    int line;                 /* 1-based; 0 for a default, which stands in no file */
    int column;
    struct span text;           /* scalars: as written, zero-terminated */
    struct conf_entry *entries; /* members of a mapping or elements of a list */
    int count;
};

struct conf_entry {
    struct conf_node *key; /* NULL in a list */
    struct conf_node *value;
};

/* Parses text. Returns the root, or NULL after at least one finding. */
struct conf_node *conf_tree_parse(struct span text, struct arena *arena, struct conf_findings *findings);

/* The member `name` of a mapping, or NULL (also when node is no mapping). */
const struct conf_entry *conf_tree_member(const struct conf_node *node, const char *name);

/* Is it a scalar that says nothing: empty, ~ or null without quotes? */
bool conf_tree_is_null(const struct conf_node *node);

#endif
