/* admin/admin_buckets.h - the query and the time buckets of OpenAI's usage and costs endpoints.
 * Used by: admin_openai.c. Pure. All times are UTC: buckets begin at whole minutes, hours or days; the first one begins
 * at start_time. */
#ifndef TOLLGATE_ADMIN_ADMIN_BUCKETS_H
#define TOLLGATE_ADMIN_ADMIN_BUCKETS_H

#include "admin/admin_query.h"
#include "base/buffer.h"

enum { BUCKET_FILTER_MOST = 32 };

/* Values a field may have; count 0: any. */
struct bucket_filter {
    const char *values[BUCKET_FILTER_MOST];
    int count;
};

struct buckets {
    int64_t start_s; /* Unix seconds, as asked */
    int64_t end_s;   /* exclusive */
    int64_t width_s;
    int64_t from_s; /* what this page covers: [from_s, to_s) */
    int64_t to_s;
    bool has_more; /* the next page begins at to_s */
    bool by_project;
    bool by_key;
    bool by_model; /* costs: by line item */
    struct bucket_filter projects;
    struct bucket_filter keys;
    struct bucket_filter models;
};

enum bucket_kind { BUCKETS_OF_USAGE, BUCKETS_OF_COSTS };

/* Reads the query. False with *param naming the field (or NULL) and error saying what is wrong with it. */
MUST_CHECK bool buckets_parse(const struct query *query, enum bucket_kind kind, int64_t now_s, struct arena *arena,
                              struct buckets *out, const char **param, struct buffer *error);

/* The first second of the bucket that holds an instant of the page, and the one after its last. */
int64_t buckets_start(const struct buckets *buckets, int64_t at_s);
int64_t buckets_end(const struct buckets *buckets, int64_t at_s);

bool bucket_filter_matches(const struct bucket_filter *filter, const char *value);

#endif
