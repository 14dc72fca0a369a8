/* REFERENCE.md out of the settings' table. */
#include "conf/conf_kinds.h"

enum { PATH_MOST_BYTES = 256 };

static void append_range(const struct conf_setting *setting, struct buffer *out) {
    char least[CONF_UNIT_TEXT_BYTES];
    char most[CONF_UNIT_TEXT_BYTES];
    if (setting->kind->unit != CONF_UNIT_NONE) {
        buffer_format(out, "%s to %s%s", conf_units_format(setting->kind->unit, setting->least, least),
                      conf_units_format(setting->kind->unit, setting->most, most),
                      setting->kind->unit == CONF_UNIT_ITEMS ? " entries" : "");
    }
}

static void append_default(const struct conf_setting *setting, struct buffer *out) {
    if (setting->required) {
        buffer_append_text(out, "required");
    } else if (setting->default_text != NULL && strcmp(setting->default_text, "{}") != 0) {
        buffer_format(out, "`%s`", setting->default_text);
    }
}

static void append_section(enum conf_section section, const char *path, struct buffer *out);

static void append_setting(const struct conf_setting *setting, const char *path, struct buffer *out) {
    buffer_format(out, "| `%s` | %s | ", path, setting->kind->label);
    append_default(setting, out);
    buffer_append_text(out, " | ");
    append_range(setting, out);
    buffer_format(out, " | %s |\n", setting->help);
    if (setting->holds == 0) {
        return;
    }
    struct buffer inner;
    buffer_init(&inner, PATH_MOST_BYTES);
    buffer_append_text(&inner, path);
    buffer_append_text(&inner, setting->kind == &conf_kind_list  ? "[]"
                               : setting->kind == &conf_kind_map ? ".NAME"
                                                                 : "");
    append_section(setting->holds, buffer_text(&inner), out);
    buffer_fini(&inner);
}

static void append_section(enum conf_section section, const char *path, struct buffer *out) {
    for (size_t i = 0; i < conf_setting_count; i++) {
        if (conf_settings[i].section == section) {
            struct buffer inner;
            buffer_init(&inner, PATH_MOST_BYTES);
            buffer_format(&inner, "%s%s%s", path, path[0] != '\0' ? "." : "", conf_settings[i].name);
            append_setting(&conf_settings[i], buffer_text(&inner), out);
            buffer_fini(&inner);
        }
    }
}

void conf_reference(struct buffer *out) {
    buffer_append_text(
        out,
        "# Every setting of tollgate.yaml\n\n"
        "Made from `conf.def`; do not edit. The unit test `test_reference` fails when the two differ and rewrites "
        "this\n"
        "page when it runs with `UPDATE=1`. `sample.yaml` is a complete example.\n\n"
        "`${NAME}` inside a value takes an environment variable; a secret written `file:PATH` is read from that file, "
        "relative\nto the configuration. Durations: `500ms 5s 2m 1h 30d`. Sizes: `512 64KiB 8MiB 1GiB`. Money: decimal "
        "USD, at most nine\ndecimals. Names have 1 to 63 characters of `A-Z a-z 0-9 . _ : / @ -`, models' names up to "
        "95.\n\n"
        "| setting | value | default | range | meaning |\n| --- | --- | --- | --- | --- |\n");
    append_section(CONF_SECTION_ROOT, "", out);
}
