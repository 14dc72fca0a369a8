/* worker/guard_http2.h - reads the frames of an HTTP/2 connection beside libh2o and says when its sender must go.
 * libh2o 2.2.5 has no limit on resets, on header fields or on frames that cost it more than their sender. The scanner
 * prices every frame from a bucket, counts header fields by walking HPACK without decoding it, and follows uploads. It
 * may be fed pieces of any size.
 * Used by: the worker (front_guard.c). Pure: no sockets, no allocation, time is handed in. Blocking: never.
 * Units: prices are in hundredths of a unit; times are monotonic nanoseconds.
 * Ownership: the struct (about 4 KiB) is the caller's. */
#ifndef TOLLGATE_WORKER_GUARD_HTTP2_H
#define TOLLGATE_WORKER_GUARD_HTTP2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GUARD_HTTP2_STREAMS_MOST = 128, /* libh2o serves 100 at once and refuses the others itself */
    GUARD_HTTP2_FRAME_BYTES_MOST = 16384,
    GUARD_HTTP2_HEADER_BYTES = 9
};

struct guard_http2_limits {
    int64_t units_per_second;
    int64_t burst_units;
    uint32_t fields;              /* header fields in one block */
    uint32_t block_bytes;         /* of one header block, as sent */
    uint64_t bodies_bytes;        /* request bodies held by the connection at once */
    uint64_t unproven_body_bytes; /* a body may grow this far before its request is asked for; 0: never asked */
};

enum guard_http2_result {
    GUARD_HTTP2_OK,
    GUARD_HTTP2_UPLOAD_UNPROVEN, /* not an end: a DATA header takes a body past unproven_body_bytes, see below */
    GUARD_HTTP2_BAD_PREFACE,
    GUARD_HTTP2_BAD_FRAME,      /* too large, malformed, or out of place between the frames of a header block */
    GUARD_HTTP2_FLOOD,          /* the bucket is empty */
    GUARD_HTTP2_FIELDS,         /* too many header fields or bytes in one block */
    GUARD_HTTP2_BODIES,         /* too many body bytes at once */
    GUARD_HTTP2_DRAIN_CONTINUED /* a CONTINUATION while draining, which would spin libh2o */
};

struct guard_http2_stream {
    uint32_t id;
    bool uploading; /* its request has not ended yet */
    bool proven;    /* its body may pass unproven_body_bytes */
    uint64_t body_bytes;
    int64_t progress_mono_ns; /* when its last body byte came */
};

struct guard_http2 {
    struct guard_http2_limits limits;
    int64_t level_hundredths; /* of the bucket */
    int64_t filled_mono_ns;
    uint32_t state;
    uint32_t gathered; /* bytes of the preface or of the frame header */
    uint8_t header[GUARD_HTTP2_HEADER_BYTES];
    uint8_t type;
    uint8_t flags;
    bool draining;
    bool padding_unread; /* the frame's pad length comes next */
    bool in_block;       /* between HEADERS and the frame that ends its block */
    bool continued;      /* a CONTINUATION was seen that libh2o may not have read yet */
    uint32_t stream_id;
    uint32_t payload_left;
    uint32_t fragment_left; /* header block bytes left in this frame */
    uint32_t prefix_left;   /* pad length and priority bytes left before them */
    uint32_t block_stream;
    uint32_t block_bytes;
    uint32_t block_fields;
    bool block_opens; /* the block is a request's, not a trailer's */
    bool block_ends_stream;
    uint8_t walk;         /* place in an HPACK representation */
    uint8_t walk_strings; /* strings still to come in it */
    uint32_t walk_number;
    uint32_t walk_shift;
    uint32_t walk_skip;
    uint32_t last_opened;
    uint32_t stream_count;
    uint32_t uploads;      /* streams that are uploading */
    uint64_t bodies_bytes; /* the sum over streams */
    uint64_t upload_bytes; /* body bytes since the connection last had no upload */
    int64_t uploads_since_mono_ns;
    int64_t block_since_mono_ns; /* when the open header block began */
    uint64_t resets;             /* RST_STREAM frames */
    struct guard_http2_stream streams[GUARD_HTTP2_STREAMS_MOST];
};

/* Ready for the first byte of the connection preface, with a full bucket. */
void guard_http2_init(struct guard_http2 *scan, const struct guard_http2_limits *limits, int64_t now_mono_ns);

/* The connection came out of an HTTP/1 upgrade: stream 1 is its first request. */
void guard_http2_upgraded(struct guard_http2 *scan);

/* Reads up to len bytes and says in *read_bytes how many it took: all, unless the result is not OK. After
 * UPLOAD_UNPROVEN, which comes right behind a DATA frame's header, the caller calls guard_http2_prove or
 * guard_http2_cut for scan->stream_id and goes on with the rest; after any other result the connection must end. */
enum guard_http2_result guard_http2_feed(struct guard_http2 *scan, const uint8_t *bytes, size_t len,
                                         int64_t now_mono_ns, size_t *read_bytes);

/* The current DATA frame's stream may go on. */
void guard_http2_prove(struct guard_http2 *scan);

/* The current DATA frame is to be the last of its request: the caller sets END_STREAM (bit 0) in the flags, which are
 * byte 4 of the nine just before the place where feed stopped. */
void guard_http2_cut(struct guard_http2 *scan);

/* Says that libh2o has read all complete frames fed so far. */
void guard_http2_forwarded(struct guard_http2 *scan);

/* From now on CONTINUATION ends the connection. Returns false when one waits to be read already. */
bool guard_http2_drain(struct guard_http2 *scan);

/* The server is done with a stream; answered: its response was sent whole, which gives a unit back. */
void guard_http2_stream_ended(struct guard_http2 *scan, uint32_t stream_id, bool answered);

/* True once the preface was seen. */
bool guard_http2_began(const struct guard_http2 *scan);

/* When a body byte last came on the upload that has waited longest; INT64_MAX without uploads. */
int64_t guard_http2_oldest_upload_ns(const struct guard_http2 *scan);

#endif
