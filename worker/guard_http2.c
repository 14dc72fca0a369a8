#include "worker/guard_http2.h"

#include <string.h>

enum { FRAME_DATA, FRAME_HEADERS, FRAME_PRIORITY, FRAME_RST_STREAM, FRAME_WINDOW_UPDATE = 8, FRAME_CONTINUATION = 9 };
enum { FLAG_END_STREAM = 0x1, FLAG_END_HEADERS = 0x4, FLAG_PADDED = 0x8, FLAG_PRIORITY = 0x20 };

/* Hundredths of a unit. */
enum {
    PRICE_RST_STREAM = 200,
    PRICE_HEADERS = 100,
    PRICE_DATA = 0,
    PRICE_DATA_TINY = 2,
    PRICE_DATA_EMPTY = 100,
    PRICE_DATA_UNCALLED =
        5, /* for a stream that expects none, as after a reset that crossed it; small ones cost more */
    PRICE_DATA_UNCALLED_SMALL = 100,
    PRICE_WINDOW_UPDATE = 2,
    PRICE_UNKNOWN = 20,
    PRICE_OTHER = 100,
    DATA_SMALL_BYTES = 1024,
    DATA_TINY_BYTES = 64,
    REFUND_ANSWERED = 100
};

enum { STATE_PREFACE, STATE_FRAME_HEADER, STATE_PREFIX, STATE_FRAGMENT, STATE_SKIP };

/* Places in an HPACK representation. */
enum { WALK_START, WALK_INDEX, WALK_SIZE_UPDATE, WALK_STRING_START, WALK_STRING_LENGTH, WALK_STRING };

enum { HPACK_NUMBER_MOST = 1 << 24, PRIORITY_BYTES = 5 };

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
enum { PREFACE_BYTES = sizeof(preface) - 1 };

/* ---- the bucket ---- */

static void fill_bucket(struct guard_http2 *scan, int64_t now_mono_ns) {
    int64_t capacity = scan->limits.burst_units * 100;
    int64_t rate = scan->limits.units_per_second * 100;
    int64_t elapsed_ns = now_mono_ns - scan->filled_mono_ns;
    if (elapsed_ns <= 0 || rate <= 0) {
        return;
    }
    int64_t missing = capacity - scan->level_hundredths;
    int64_t ns_each = INT64_C(1000000000) / rate;
    if (ns_each == 0 || elapsed_ns / ns_each >= missing) {
        scan->level_hundredths = capacity;
        scan->filled_mono_ns = now_mono_ns;
        return;
    }
    int64_t gained = elapsed_ns / ns_each;
    scan->level_hundredths += gained;
    scan->filled_mono_ns += gained * ns_each;
}

static enum guard_http2_result charge(struct guard_http2 *scan, int64_t price) {
    scan->level_hundredths -= price;
    return scan->level_hundredths < 0 ? GUARD_HTTP2_FLOOD : GUARD_HTTP2_OK;
}

/* ---- streams ---- */

/* The newest first: frames mostly belong to young streams. */
static struct guard_http2_stream *find_stream(struct guard_http2 *scan, uint32_t id) {
    for (uint32_t i = scan->stream_count; i != 0; i--) {
        if (scan->streams[i - 1].id == id) {
            return &scan->streams[i - 1];
        }
    }
    return NULL;
}

static void end_upload(struct guard_http2 *scan, struct guard_http2_stream *stream) {
    if (stream->uploading) {
        stream->uploading = false;
        scan->uploads--;
    }
}

static void drop_stream(struct guard_http2 *scan, struct guard_http2_stream *stream) {
    end_upload(scan, stream);
    scan->bodies_bytes -= stream->body_bytes;
    size_t place = (size_t)(stream - scan->streams);
    scan->stream_count--;
    memmove(stream, stream + 1, (scan->stream_count - place) * sizeof(*stream));
}

/* Streams that libh2o reset by itself are never reported as ended; the oldest such entry makes room for a new stream.
 */
static bool make_room(struct guard_http2 *scan) {
    if (scan->stream_count < GUARD_HTTP2_STREAMS_MOST) {
        return true;
    }
    for (uint32_t i = 0; i < scan->stream_count; i++) {
        if (!scan->streams[i].uploading) {
            drop_stream(scan, &scan->streams[i]);
            return true;
        }
    }
    return false;
}

static enum guard_http2_result open_stream(struct guard_http2 *scan, int64_t now_mono_ns) {
    if (!make_room(scan)) {
        return GUARD_HTTP2_FLOOD;
    }
    bool uploading = !scan->block_ends_stream;
    scan->streams[scan->stream_count++] =
        (struct guard_http2_stream){.id = scan->block_stream, .uploading = uploading, .progress_mono_ns = now_mono_ns};
    if (uploading) {
        if (scan->uploads == 0) {
            scan->uploads_since_mono_ns = now_mono_ns;
            scan->upload_bytes = 0;
        }
        scan->uploads++;
    }
    return GUARD_HTTP2_OK;
}

/* ---- header blocks ---- */

static void begin_strings(struct guard_http2 *scan, uint8_t count) {
    scan->walk_strings = count;
    scan->walk = count == 0 ? WALK_START : WALK_STRING_START;
}

/* A number ended: an index, a table size, or the length of a string. */
static void end_number(struct guard_http2 *scan) {
    if (scan->walk == WALK_INDEX) {
        /* An index of 0 in a literal means that the name follows as a string too. */
        begin_strings(scan, scan->walk_strings == 0 ? 0 : scan->walk_number == 0 ? 2 : 1);
        return;
    }
    if (scan->walk == WALK_SIZE_UPDATE) {
        scan->walk = WALK_START;
        return;
    }
    scan->walk_skip = scan->walk_number;
    scan->walk = WALK_STRING;
    if (scan->walk_skip == 0) {
        begin_strings(scan, (uint8_t)(scan->walk_strings - 1));
    }
}

/* The first byte of a number with `bits` bits in it. */
static void begin_number(struct guard_http2 *scan, uint8_t byte, int bits, uint8_t place) {
    uint32_t mask = (UINT32_C(1) << bits) - 1;
    scan->walk = place;
    scan->walk_number = byte & mask;
    scan->walk_shift = 0;
    if (scan->walk_number != mask) {
        end_number(scan);
    } else {
        scan->walk_shift = 1; /* marks that more bytes follow; the shift itself is one less */
    }
}

static bool continue_number(struct guard_http2 *scan, uint8_t byte) {
    uint32_t shift = scan->walk_shift - 1;
    if (shift > 21) {
        return false;
    }
    scan->walk_number += (uint32_t)(byte & 0x7f) << shift;
    if (scan->walk_number > HPACK_NUMBER_MOST) {
        return false;
    }
    scan->walk_shift += 7;
    if ((byte & 0x80) == 0) {
        scan->walk_shift = 0;
        end_number(scan);
    }
    return true;
}

/* RFC 7541 section 6: what a representation's first byte says. */
static void begin_representation(struct guard_http2 *scan, uint8_t byte) {
    if ((byte & 0xe0) == 0x20) {
        begin_number(scan, byte, 5, WALK_SIZE_UPDATE);
        return;
    }
    scan->block_fields++;
    bool indexed = (byte & 0x80) != 0;
    scan->walk_strings = indexed ? 0 : 1;
    begin_number(scan, byte, indexed ? 7 : (byte & 0x40) != 0 ? 6 : 4, WALK_INDEX);
}

static bool walk_byte(struct guard_http2 *scan, uint8_t byte) {
    if (scan->walk_shift != 0) {
        return continue_number(scan, byte);
    }
    if (scan->walk == WALK_START) {
        begin_representation(scan, byte);
    } else {
        begin_number(scan, byte, 7, WALK_STRING_LENGTH);
    }
    return true;
}

static size_t walk_string(struct guard_http2 *scan, size_t len) {
    size_t count = scan->walk_skip < len ? scan->walk_skip : len;
    scan->walk_skip -= (uint32_t)count;
    if (scan->walk_skip == 0) {
        begin_strings(scan, (uint8_t)(scan->walk_strings - 1));
    }
    return count;
}

static enum guard_http2_result walk_fragment(struct guard_http2 *scan, const uint8_t *bytes, size_t len) {
    size_t at = 0;
    while (at < len) {
        if (scan->walk == WALK_STRING) {
            at += walk_string(scan, len - at);
        } else if (!walk_byte(scan, bytes[at++])) {
            return GUARD_HTTP2_BAD_FRAME;
        }
    }
    return scan->block_fields > scan->limits.fields ? GUARD_HTTP2_FIELDS : GUARD_HTTP2_OK;
}

/* A trailer ends the upload it belongs to; a request's block opens its stream. */
static enum guard_http2_result end_block(struct guard_http2 *scan, int64_t now_mono_ns) {
    if (scan->walk != WALK_START || scan->walk_shift != 0) {
        return GUARD_HTTP2_BAD_FRAME;
    }
    scan->in_block = false;
    if (scan->block_opens) {
        return open_stream(scan, now_mono_ns);
    }
    struct guard_http2_stream *stream = find_stream(scan, scan->block_stream);
    if (stream != NULL) {
        end_upload(scan, stream);
    }
    return GUARD_HTTP2_OK;
}

static void begin_block(struct guard_http2 *scan, int64_t now_mono_ns) {
    scan->in_block = true;
    scan->block_stream = scan->stream_id;
    scan->block_ends_stream = (scan->flags & FLAG_END_STREAM) != 0;
    scan->block_opens = scan->stream_id > scan->last_opened;
    if (scan->block_opens) {
        scan->last_opened = scan->stream_id;
    }
    scan->block_bytes = 0;
    scan->block_fields = 0;
    scan->block_since_mono_ns = now_mono_ns;
    scan->walk = WALK_START;
    scan->walk_shift = 0;
}

/* ---- frames ---- */

static enum guard_http2_result begin_headers(struct guard_http2 *scan, int64_t now_mono_ns) {
    begin_block(scan, now_mono_ns);
    scan->prefix_left = ((scan->flags & FLAG_PADDED) != 0 ? 1 : 0) +
                        ((scan->flags & FLAG_PRIORITY) != 0 ? (uint32_t)PRIORITY_BYTES : 0);
    if (scan->prefix_left > scan->payload_left) {
        return GUARD_HTTP2_BAD_FRAME;
    }
    scan->fragment_left = scan->payload_left - scan->prefix_left;
    scan->padding_unread = (scan->flags & FLAG_PADDED) != 0;
    return charge(scan, PRICE_HEADERS);
}

static enum guard_http2_result begin_continuation(struct guard_http2 *scan) {
    if (!scan->in_block || scan->stream_id != scan->block_stream) {
        return GUARD_HTTP2_BAD_FRAME;
    }
    if (scan->draining) {
        return GUARD_HTTP2_DRAIN_CONTINUED;
    }
    scan->continued = true;
    scan->prefix_left = 0;
    scan->fragment_left = scan->payload_left;
    return charge(scan, PRICE_OTHER);
}

static int64_t price_data(const struct guard_http2 *scan, const struct guard_http2_stream *stream) {
    if (scan->payload_left == 0) {
        return PRICE_DATA_EMPTY;
    }
    if (stream != NULL && stream->uploading) {
        return scan->payload_left < DATA_TINY_BYTES ? PRICE_DATA_TINY : PRICE_DATA;
    }
    return scan->payload_left < DATA_SMALL_BYTES ? PRICE_DATA_UNCALLED_SMALL : PRICE_DATA_UNCALLED;
}

static enum guard_http2_result begin_data(struct guard_http2 *scan, int64_t now_mono_ns) {
    struct guard_http2_stream *stream = find_stream(scan, scan->stream_id);
    enum guard_http2_result result = charge(scan, price_data(scan, stream));
    if (result != GUARD_HTTP2_OK || stream == NULL || !stream->uploading) {
        return result;
    }
    stream->body_bytes += scan->payload_left;
    scan->bodies_bytes += scan->payload_left;
    scan->upload_bytes += scan->payload_left;
    if (scan->payload_left != 0) {
        stream->progress_mono_ns = now_mono_ns;
    }
    if ((scan->flags & FLAG_END_STREAM) != 0) {
        end_upload(scan, stream);
    }
    if (scan->limits.bodies_bytes != 0 && scan->bodies_bytes > scan->limits.bodies_bytes) {
        return GUARD_HTTP2_BODIES;
    }
    bool unproven = !stream->proven && scan->limits.unproven_body_bytes != 0 &&
                    stream->body_bytes > scan->limits.unproven_body_bytes && stream->uploading;
    return unproven ? GUARD_HTTP2_UPLOAD_UNPROVEN : GUARD_HTTP2_OK;
}

static enum guard_http2_result begin_reset(struct guard_http2 *scan) {
    struct guard_http2_stream *stream = find_stream(scan, scan->stream_id);
    if (stream != NULL) {
        drop_stream(scan, stream);
    }
    scan->resets++;
    return charge(scan, PRICE_RST_STREAM);
}

static enum guard_http2_result begin_frame(struct guard_http2 *scan, int64_t now_mono_ns) {
    if (scan->payload_left > GUARD_HTTP2_FRAME_BYTES_MOST || (scan->in_block && scan->type != FRAME_CONTINUATION)) {
        return GUARD_HTTP2_BAD_FRAME;
    }
    switch (scan->type) {
    case FRAME_DATA:
        return begin_data(scan, now_mono_ns);
    case FRAME_HEADERS:
        return begin_headers(scan, now_mono_ns);
    case FRAME_RST_STREAM:
        return begin_reset(scan);
    case FRAME_WINDOW_UPDATE:
        return charge(scan, PRICE_WINDOW_UPDATE);
    case FRAME_CONTINUATION:
        return begin_continuation(scan);
    default:
        return charge(scan, scan->type > FRAME_CONTINUATION ? PRICE_UNKNOWN : PRICE_OTHER);
    }
}

/* Chooses what comes after the current piece of a frame; ends the header block with its last frame. */
static enum guard_http2_result settle_state(struct guard_http2 *scan, int64_t now_mono_ns) {
    bool block = scan->type == FRAME_HEADERS || scan->type == FRAME_CONTINUATION;
    if (block && scan->prefix_left != 0) {
        scan->state = STATE_PREFIX;
    } else if (block && scan->fragment_left != 0) {
        scan->state = STATE_FRAGMENT;
    } else if (scan->payload_left != 0) {
        scan->state = STATE_SKIP;
    } else {
        scan->state = STATE_FRAME_HEADER;
        scan->gathered = 0;
        if (block && (scan->flags & FLAG_END_HEADERS) != 0) {
            return end_block(scan, now_mono_ns);
        }
    }
    return GUARD_HTTP2_OK;
}

static enum guard_http2_result read_frame_header(struct guard_http2 *scan, uint8_t byte, int64_t now_mono_ns) {
    scan->header[scan->gathered++] = byte;
    if (scan->gathered < GUARD_HTTP2_HEADER_BYTES) {
        return GUARD_HTTP2_OK;
    }
    const uint8_t *h = scan->header;
    scan->payload_left = (uint32_t)h[0] << 16 | (uint32_t)h[1] << 8 | h[2];
    scan->type = h[3];
    scan->flags = h[4];
    scan->stream_id = ((uint32_t)h[5] << 24 | (uint32_t)h[6] << 16 | (uint32_t)h[7] << 8 | h[8]) & 0x7fffffff;
    enum guard_http2_result result = begin_frame(scan, now_mono_ns);
    if (result != GUARD_HTTP2_OK && result != GUARD_HTTP2_UPLOAD_UNPROVEN) {
        return result;
    }
    enum guard_http2_result settled = settle_state(scan, now_mono_ns);
    return settled != GUARD_HTTP2_OK ? settled : result;
}

/* The pad length comes first when there is one, then the priority, which nobody needs. */
static enum guard_http2_result read_prefix(struct guard_http2 *scan, uint8_t byte, int64_t now_mono_ns) {
    if (scan->padding_unread) {
        scan->padding_unread = false;
        if (byte > scan->fragment_left) {
            return GUARD_HTTP2_BAD_FRAME;
        }
        scan->fragment_left -= byte;
    }
    scan->prefix_left--;
    scan->payload_left--;
    return settle_state(scan, now_mono_ns);
}

static enum guard_http2_result read_fragment(struct guard_http2 *scan, const uint8_t *bytes, size_t count,
                                             int64_t now_mono_ns) {
    scan->block_bytes += (uint32_t)count;
    if (scan->block_bytes > scan->limits.block_bytes) {
        return GUARD_HTTP2_FIELDS;
    }
    enum guard_http2_result result = walk_fragment(scan, bytes, count);
    if (result != GUARD_HTTP2_OK) {
        return result;
    }
    scan->fragment_left -= (uint32_t)count;
    scan->payload_left -= (uint32_t)count;
    return settle_state(scan, now_mono_ns);
}

static enum guard_http2_result read_preface(struct guard_http2 *scan, uint8_t byte) {
    if (byte != (uint8_t)preface[scan->gathered]) {
        return GUARD_HTTP2_BAD_PREFACE;
    }
    scan->gathered++;
    if (scan->gathered == PREFACE_BYTES) {
        scan->gathered = 0;
        scan->state = STATE_FRAME_HEADER;
    }
    return GUARD_HTTP2_OK;
}

/* Reads one piece: a byte of something small, or a run. */
static enum guard_http2_result read_piece(struct guard_http2 *scan, const uint8_t *bytes, size_t len,
                                          int64_t now_mono_ns, size_t *count) {
    *count = 1;
    switch (scan->state) {
    case STATE_PREFACE:
        return read_preface(scan, bytes[0]);
    case STATE_FRAME_HEADER:
        return read_frame_header(scan, bytes[0], now_mono_ns);
    case STATE_PREFIX:
        return read_prefix(scan, bytes[0], now_mono_ns);
    case STATE_FRAGMENT:
        *count = scan->fragment_left < len ? scan->fragment_left : len;
        return read_fragment(scan, bytes, *count, now_mono_ns);
    default:
        *count = scan->payload_left < len ? scan->payload_left : len;
        scan->payload_left -= (uint32_t)*count;
        return settle_state(scan, now_mono_ns);
    }
}

/* ---- entry points ---- */

void guard_http2_init(struct guard_http2 *scan, const struct guard_http2_limits *limits, int64_t now_mono_ns) {
    memset(scan, 0, sizeof(*scan));
    scan->limits = *limits;
    scan->level_hundredths = limits->burst_units * 100;
    scan->filled_mono_ns = now_mono_ns;
}

void guard_http2_upgraded(struct guard_http2 *scan) {
    scan->last_opened = 1;
    scan->streams[scan->stream_count++] = (struct guard_http2_stream){.id = 1};
}

enum guard_http2_result guard_http2_feed(struct guard_http2 *scan, const uint8_t *bytes, size_t len,
                                         int64_t now_mono_ns, size_t *read_bytes) {
    fill_bucket(scan, now_mono_ns);
    enum guard_http2_result result = GUARD_HTTP2_OK;
    size_t at = 0;
    while (at < len && result == GUARD_HTTP2_OK) {
        size_t count;
        result = read_piece(scan, bytes + at, len - at, now_mono_ns, &count);
        at += count;
    }
    *read_bytes = at;
    return result;
}

void guard_http2_prove(struct guard_http2 *scan) {
    struct guard_http2_stream *stream = find_stream(scan, scan->stream_id);
    if (stream != NULL) {
        stream->proven = true;
    }
}

void guard_http2_cut(struct guard_http2 *scan) {
    struct guard_http2_stream *stream = find_stream(scan, scan->stream_id);
    if (stream != NULL) {
        end_upload(scan, stream);
    }
}

void guard_http2_forwarded(struct guard_http2 *scan) {
    bool unfinished =
        scan->state != STATE_FRAME_HEADER && scan->state != STATE_PREFACE && scan->type == FRAME_CONTINUATION;
    scan->continued = unfinished;
}

bool guard_http2_drain(struct guard_http2 *scan) {
    scan->draining = true;
    return !scan->continued;
}

void guard_http2_stream_ended(struct guard_http2 *scan, uint32_t stream_id, bool answered) {
    struct guard_http2_stream *stream = find_stream(scan, stream_id);
    if (stream == NULL) {
        return;
    }
    drop_stream(scan, stream);
    int64_t capacity = scan->limits.burst_units * 100;
    if (answered && scan->level_hundredths <= capacity - REFUND_ANSWERED) {
        scan->level_hundredths += REFUND_ANSWERED;
    }
}

bool guard_http2_began(const struct guard_http2 *scan) { return scan->state != STATE_PREFACE; }

int64_t guard_http2_oldest_upload_ns(const struct guard_http2 *scan) {
    int64_t oldest = INT64_MAX;
    for (uint32_t i = 0; i < scan->stream_count; i++) {
        if (scan->streams[i].uploading && scan->streams[i].progress_mono_ns < oldest) {
            oldest = scan->streams[i].progress_mono_ns;
        }
    }
    return oldest;
}
