/* admin/admin_prometheus.h - the text form that Prometheus reads (exposition format 0.0.4).
 * Used by: admin_metrics.c and admin_segment.c. Pure. */
#ifndef TOLLGATE_ADMIN_ADMIN_PROMETHEUS_H
#define TOLLGATE_ADMIN_ADMIN_PROMETHEUS_H

#include <stdint.h>

#include "base/buffer.h"

struct prometheus_label {
    const char *name;
    const char *value;
};

/* "# HELP" and "# TYPE"; type is "counter", "gauge" or "histogram". */
void prometheus_family(struct buffer *out, const char *name, const char *type, const char *help);

/* One sample. Label values are escaped. */
void prometheus_count(struct buffer *out, const char *name, const struct prometheus_label *labels, int label_count,
                      uint64_t value);
/* A sample in USD, exact to nine places. */
void prometheus_nusd(struct buffer *out, const char *name, const struct prometheus_label *labels, int label_count,
                     int64_t nusd);

/* Appends nanoseconds as seconds: "0.005", "2.5", "+Inf" for INT64_MAX. */
void prometheus_seconds(struct buffer *out, uint64_t ns);

#endif
