#include "admin/admin_prometheus.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/money.h"

void prometheus_family(struct buffer *out, const char *name, const char *type, const char *help) {
    buffer_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void append_escaped(struct buffer *out, const char *value) {
    for (const char *c = value; *c != '\0'; c++) {
        switch (*c) {
        case '\n':
            buffer_append_text(out, "\\n");
            break;
        case '"':
        case '\\':
            buffer_append_byte(out, '\\');
            buffer_append_byte(out, *c);
            break;
        default:
            buffer_append_byte(out, *c);
        }
    }
}

static void append_name(struct buffer *out, const char *name, const struct prometheus_label *labels, int label_count) {
    buffer_append_text(out, name);
    for (int i = 0; i < label_count; i++) {
        buffer_append_text(out, i == 0 ? "{" : ",");
        buffer_format(out, "%s=\"", labels[i].name);
        append_escaped(out, labels[i].value);
        buffer_append_byte(out, '"');
    }
    buffer_append_text(out, label_count != 0 ? "} " : " ");
}

void prometheus_count(struct buffer *out, const char *name, const struct prometheus_label *labels, int label_count,
                      uint64_t value) {
    append_name(out, name, labels, label_count);
    buffer_format(out, "%" PRIu64 "\n", value);
}

void prometheus_nusd(struct buffer *out, const char *name, const struct prometheus_label *labels, int label_count,
                     int64_t nusd) {
    char text[NUSD_TEXT_BYTES];
    append_name(out, name, labels, label_count);
    buffer_format(out, "%s\n", money_format(nusd, text));
}

void prometheus_seconds(struct buffer *out, uint64_t ns) {
    if (ns >= INT64_MAX) {
        buffer_append_text(out, "+Inf");
        return;
    }
    buffer_format(out, "%" PRIu64 ".%09" PRIu64, ns / NS_PER_S, ns % NS_PER_S);
    while (out->len != 0 && out->base[out->len - 1] == '0') {
        buffer_truncate(out, out->len - 1);
    }
    if (out->len != 0 && out->base[out->len - 1] == '.') {
        buffer_truncate(out, out->len - 1);
    }
}
