/* conf/conf_reader.h - how a tree becomes a struct conf: settings, kinds, places, and what they share.
 * Used by: the configuration parser only.
 * A setting is one row of conf.def: its name, its kind, where its value goes, default, range and help. A kind reads one
 * form of value. A section is a mapping with a fixed set of settings. A place is the way from the top level to a value,
 * for findings. Ownership: everything read is kept in the configuration's arena. */
#ifndef TOLLGATE_CONF_CONF_READER_H
#define TOLLGATE_CONF_CONF_READER_H

#include "base/arena.h"
#include "conf/conf.h"
#include "conf/conf_findings.h"
#include "conf/conf_tree.h"
#include "conf/conf_units.h"

enum { CONF_FILE_MOST_BYTES = 1 << 20, CONF_VALUE_MOST_BYTES = 8192 };

enum conf_section {
    CONF_SECTION_ROOT = 1,
    CONF_SECTION_LISTEN,
    CONF_SECTION_TLS,
    CONF_SECTION_ADMIN,
    CONF_SECTION_CURRENCY,
    CONF_SECTION_UPSTREAM,
    CONF_SECTION_LIMITS,
    CONF_SECTION_TIMEOUTS,
    CONF_SECTION_MODEL,
    CONF_SECTION_PRICE,
    CONF_SECTION_ROUTE,
    CONF_SECTION_RULE,
    CONF_SECTION_WHEN,
    CONF_SECTION_TIER,
    CONF_SECTION_BUDGET,
    CONF_SECTION_RETRY,
    CONF_SECTION_BREAKER,
    CONF_SECTION_STREAMS,
    CONF_SECTION_CORS,
    CONF_SECTION_REQUEST_LIMITS,
    CONF_SECTION_LOG,
    CONF_SECTION_RETENTION,
    CONF_SECTION_CLUSTER,
    CONF_SECTION_CAPACITY,
    CONF_SECTION_END
};

struct conf_setting;

/* One step of the way to a value: a name in a mapping, or an index in a list. */
struct conf_place {
    const struct conf_place *parent; /* NULL at the top level */
    struct span name;                /* base NULL: `index` counts */
    int index;
    const struct conf_node *at; /* the key, or the element */
};

struct conf_reader {
    struct conf *conf;
    struct arena *arena;
    struct conf_findings *findings;
    const char *directory;        /* what relative file names are relative to */
    struct conf_lenient *lenient; /* NULL: a strict reading */
};

/* Reads value into object (the struct the setting's offsets are in), or reports. */
typedef void conf_read_fn(struct conf_reader *reader, const struct conf_setting *setting,
                          const struct conf_place *place, const struct conf_node *value, void *object);

struct conf_kind {
    const char *label; /* for the reference page and for findings: "needs LABEL" */
    conf_read_fn *read;
    enum conf_unit unit;        /* of least and most; NONE: the kind has no range */
    const char *const *choices; /* NULL-terminated, in the order of the enum; NULL for other kinds */
};

struct conf_setting {
    enum conf_section section; /* whose row it is */
    const char *name;
    const struct conf_kind *kind;
    size_t offset;        /* where the value goes */
    size_t count_offset;  /* arrays: where its int count goes */
    size_t element_bytes; /* arrays: size of one element */
    bool has_flag;
    size_t flag_offset;       /* a bool that says whether the setting was there */
    enum conf_section holds;  /* groups, lists and maps: the section of what is inside */
    const char *default_text; /* as a user would write it; NULL: none */
    bool required;
    int64_t least;
    int64_t most;
    const char *help;
};

extern const struct conf_setting conf_settings[];
extern const size_t conf_setting_count;

/* The row of a setting, or NULL. */
const struct conf_setting *conf_setting_find(enum conf_section section, struct span name);

/* Reads every setting of a section out of a mapping: unknown names, required ones, defaults, then the section's own
 * check. */
void conf_read_section(struct conf_reader *reader, enum conf_section section, const struct conf_place *place,
                       const struct conf_node *mapping, void *object);

/* Makes the arrays of the top level's maps (upstreams, models, tiers) with their names, so that references to what
 * stands later in the file can be resolved while reading. */
void conf_read_names(struct conf_reader *reader, const struct conf_node *root);

/* Cross-field checks of a section, called when its settings are read. */
void conf_check_section(struct conf_reader *reader, enum conf_section section, const struct conf_place *place,
                        const struct conf_node *mapping, void *object);

/* Adds a finding at a node, its text led by the place ("tiers.free.rpm: "). */
void conf_report(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *at,
                 const char *format, ...) PRINTF_LIKE(4, 5);

/* Appends the place as a user would name it: "models.gpt-4.1.routes[0].cost". */
void conf_place_append(const struct conf_place *place, struct buffer *out);

/* A scalar with its ${NAME} replaced. */
struct conf_scalar {
    struct span text;                 /* zero-terminated */
    bool plain;                       /* neither quoted nor from the environment */
    bool is_expanded;                 /* never to be quoted in a finding */
    bool names_file;                  /* was written as file:PATH */
    char quote[CONF_QUOTE_BYTES + 2]; /* for findings: the value in quotes, or words that hide it */
};

/* Takes a scalar that must not be empty; reports anything else as needing `label`. */
MUST_CHECK bool conf_take_scalar(struct conf_reader *reader, const struct conf_place *place,
                                 const struct conf_node *value, const char *label, struct conf_scalar *out);

/* As conf_take_scalar for secrets: reads file:PATH. */
MUST_CHECK bool conf_take_secret(struct conf_reader *reader, const struct conf_place *place,
                                 const struct conf_node *value, const char *label, struct conf_scalar *out);

/* A zero-terminated copy in the configuration's arena. */
char *conf_keep(struct conf_reader *reader, struct span text);

/* path as it is when absolute, else under the configuration's directory. */
char *conf_keep_path(struct conf_reader *reader, struct span path);

/* Reads a whole file of at most `most` bytes into out. False with errno set; EFBIG when it is larger. Only regular
 * files unless any_type. Blocking. */
MUST_CHECK bool conf_read_file(const char *path, size_t most, bool any_type, struct buffer *out);

/* Is it 1 to most characters of [A-Za-z0-9._:/@-]? */
bool conf_is_name(struct span text, size_t most);

static inline void *conf_field(void *object, size_t offset) { return (char *)object + offset; }

#endif
