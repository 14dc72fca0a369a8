/* The rows of conf.def as a table. */
#include "conf/conf_kinds.h"

#define MINUTE INT64_C(60000)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define GIB (INT64_C(1) << 30)

#define AT(object, member) .offset = offsetof(struct object, member),
#define ARRAY(object, member, count)                                                                                   \
    .offset = offsetof(struct object, member), .count_offset = offsetof(struct object, count),                         \
    .element_bytes = sizeof(*((struct object *)NULL)->member),
#define FLAG(object, member) .has_flag = true, .flag_offset = offsetof(struct object, member),
#define HOLDS(inner) .holds = CONF_SECTION_##inner,
#define INSIDE .offset = 0,
#define DEFAULT(text) .default_text = (text)
#define REQUIRED .required = true
#define NONE .default_text = NULL
#define RANGE(a, b) .least = (a), .most = (b)
#define ANY .least = 0

#define SETTING(owner, its_name, its_kind, where, its_default, its_range, its_help)                                    \
    {.section = CONF_SECTION_##owner,                                                                                  \
     .name = (its_name),                                                                                               \
     .kind = &conf_kind_##its_kind,                                                                                    \
     where its_default,                                                                                                \
     its_range,                                                                                                        \
     .help = (its_help)},

const struct conf_setting conf_settings[] = {
#include "conf/conf.def"
};

const size_t conf_setting_count = sizeof(conf_settings) / sizeof(conf_settings[0]);
