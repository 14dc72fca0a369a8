/* worker/upstream_headers.h - what the relay learns from an upstream's response headers: content, delays, rate limits
 * (wire.md section 6: OpenAI's, Azure's, Groq's and xAI's x-ratelimit-*, Anthropic's anthropic-ratelimit-*).
 * Used by: upstream_curl.c. Pure. */
#ifndef TOLLGATE_WORKER_UPSTREAM_HEADERS_H
#define TOLLGATE_WORKER_UPSTREAM_HEADERS_H

#include "worker/upstream.h"

#define UPSTREAM_HEAD_EMPTY                                                                                            \
    ((struct upstream_head){.content = UPSTREAM_OTHER_CONTENT,                                                         \
                            .retry_after_ms = -1,                                                                      \
                            .requests = {.remaining = -1},                                                             \
                            .tokens = {.remaining = -1}})

/* Takes in one header line, without its line end. Lines that are unknown or make no sense change nothing. */
void upstream_headers_read(struct upstream_head *head, struct span line);

/* A duration in OpenAI's form ("6m0s", "8.64s", "20ms", "1h2m"), plain seconds, or an RFC 3339 instant, as milliseconds
 * from now, at most 31 days. -1: it is none of these. */
int64_t upstream_headers_delay_ms(struct span text, int64_t now_wall_ns);

#endif
