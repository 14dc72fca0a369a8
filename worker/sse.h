/* worker/sse.h - cuts an upstream's event stream (WHATWG HTML, text/event-stream) into whole events as the bytes
 * arrive. Used by: the worker, one splitter a stream. Pure: no I/O, no clock, no log. Accepts LF, CRLF and CR in any
 * mixture and drops one leading byte order mark. Bytes may be cut anywhere. An event that lies whole in the piece fed
 * in is not copied; only one that arrives in parts is gathered. Ownership: the splitter owns its buffers; the spans of
 * an event point into the piece fed in or into the splitter and are valid until the next call with this splitter, as
 * long as the piece itself lives. Errors: SSE_TOO_LONG, for an event beyond the cap (or no memory to gather one); it
 * stays. */
#ifndef TOLLGATE_WORKER_SSE_H
#define TOLLGATE_WORKER_SSE_H

#include "base/buffer.h"

enum sse_result { SSE_EVENT, SSE_NEED_MORE, SSE_TOO_LONG };

struct sse_event {
    struct span raw;  /* the block as it came, from its first field or comment to the end of its blank line */
    struct span name; /* the `event` field; empty when there is none */
    struct span data; /* the `data` lines joined with LF */
    bool has_data;    /* false: nothing to dispatch (comments, a lonely event name, lines that are no event stream) */
    bool data_in_raw; /* data points into raw: a single data line, so raw can be spliced through it */
    bool is_comment_only;
    bool is_unterminated; /* from sse_finish: the stream ended before the blank line, which raw has nevertheless */
};

struct sse_splitter {
    struct buffer gathered; /* an event that is arriving in parts */
    struct buffer joined;   /* the data of an event with several data lines */
    size_t cap_bytes;
    unsigned bom_bytes; /* bytes of the byte order mark seen; BOM_OVER once past the start */
    bool line_has_bytes;
    bool block_has_bytes;
    bool skip_lf;      /* the last byte was a CR, which ended its line: an LF now belongs to it */
    bool ends_crlf;    /* the block's last line end was CRLF */
    bool is_delivered; /* gathered holds an event already handed out */
    bool is_too_long;
};

/* An empty splitter; an event may have at most cap_bytes. Allocates nothing yet. */
void sse_init(struct sse_splitter *splitter, size_t cap_bytes);
void sse_fini(struct sse_splitter *splitter);

/* Consumes from *input up to the end of the next event. SSE_EVENT: *out is that event, call again with the rest.
 * SSE_NEED_MORE: all of *input was consumed. Blank lines between events are consumed silently. */
MUST_CHECK enum sse_result sse_next(struct sse_splitter *splitter, struct span *input, struct sse_event *out);

/* The stream has ended. True: a block without its blank line was pending and is *out (the standard would drop it, real
 * servers rely on its being read; raw was given its blank line). Whether its data is whole is for the caller to see. */
MUST_CHECK bool sse_finish(struct sse_splitter *splitter, struct sse_event *out);

#endif
