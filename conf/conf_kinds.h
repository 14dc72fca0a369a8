/* conf/conf_kinds.h - every form a value can have.
 * Used by: the settings' table and the reader. Kinds are constant; see struct conf_kind. */
#ifndef TOLLGATE_CONF_CONF_KINDS_H
#define TOLLGATE_CONF_CONF_KINDS_H

#include "conf/conf_reader.h"

/* conf_read.c: what holds other settings */
extern const struct conf_kind conf_kind_group;
extern const struct conf_kind conf_kind_list;
extern const struct conf_kind conf_kind_map;

/* conf_kinds.c: numbers and choices */
extern const struct conf_kind conf_kind_boolean;
extern const struct conf_kind conf_kind_tristate;
extern const struct conf_kind conf_kind_integer; /* into an int */
extern const struct conf_kind conf_kind_count;   /* into an int64_t */
extern const struct conf_kind conf_kind_duration;
extern const struct conf_kind conf_kind_size;
extern const struct conf_kind conf_kind_money;
extern const struct conf_kind conf_kind_workers;
extern const struct conf_kind conf_kind_dialect;
extern const struct conf_kind conf_kind_period;
extern const struct conf_kind conf_kind_disconnect;
extern const struct conf_kind conf_kind_http_version;
extern const struct conf_kind conf_kind_log_format;
extern const struct conf_kind conf_kind_log_level;

/* conf_kinds_text.c: texts with a rule */
extern const struct conf_kind conf_kind_text;
extern const struct conf_kind conf_kind_word; /* without spaces */
extern const struct conf_kind conf_kind_name;
extern const struct conf_kind conf_kind_secret;
extern const struct conf_kind conf_kind_path;
extern const struct conf_kind conf_kind_file; /* must be readable */
extern const struct conf_kind conf_kind_address;
extern const struct conf_kind conf_kind_base_url;
extern const struct conf_kind conf_kind_proxy;
extern const struct conf_kind conf_kind_redis;
extern const struct conf_kind conf_kind_zone;
extern const struct conf_kind conf_kind_currency;
extern const struct conf_kind conf_kind_user;

/* conf_kinds_names.c: references, and lists of texts */
extern const struct conf_kind conf_kind_upstream;
extern const struct conf_kind conf_kind_model;
extern const struct conf_kind conf_kind_models;      /* into an int array */
extern const struct conf_kind conf_kind_model_names; /* into a char * array */
extern const struct conf_kind conf_kind_origins;
extern const struct conf_kind conf_kind_cidrs;
extern const struct conf_kind conf_kind_headers;

/* Is the value of this node kind? Reports that it needs `label` when it is not. */
MUST_CHECK bool conf_expect_kind(struct conf_reader *reader, const char *label, const struct conf_place *place,
                                 const struct conf_node *value, enum conf_node_kind kind);

/* Has the list or mapping least to most entries? Reports when not. */
MUST_CHECK bool conf_expect_count(struct conf_reader *reader, const struct conf_setting *setting,
                                  const struct conf_place *place, const struct conf_node *value);

/* Makes the setting's array of count zeroed elements in object and returns it; NULL for 0. */
void *conf_take_elements(struct conf_reader *reader, const struct conf_setting *setting, int count, void *object);

#endif
