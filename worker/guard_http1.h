/* worker/guard_http1.h - reads the bytes of an HTTP/1 connection beside libh2o and refuses what can be read two ways.
 * libh2o 2.2.5 takes Content-Length beside Transfer-Encoding, bare line feeds, folded headers and more; behind a proxy
 * that reads them otherwise this is request smuggling. The scanner follows messages (heads and bodies) byte by byte, so
 * it may be fed pieces of any size and never takes a body's byte for a head's.
 * Used by: the worker (front_guard.c). Pure: no sockets, no clock, no allocation. Blocking: never.
 * Ownership: the struct is the caller's; texts in a refusal are literals. */
#ifndef TOLLGATE_WORKER_GUARD_HTTP1_H
#define TOLLGATE_WORKER_GUARD_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guard_http1_limits {
    uint32_t head_bytes; /* request line and headers of one request */
    uint32_t fields;     /* headers of one request */
};

/* What a client is told. type and code as in the interface's error table. */
struct guard_refusal {
    int status;
    const char *type;
    const char *code;
    const char *message;
};

enum guard_http1_place {
    GUARD_HTTP1_BETWEEN, /* no byte of the next request was seen */
    GUARD_HTTP1_IN_HEAD,
    GUARD_HTTP1_IN_BODY,
    GUARD_HTTP1_UPGRADING, /* a request asked for another protocol: nothing may follow until it was answered */
    GUARD_HTTP1_REFUSED
};

enum { GUARD_HTTP1_WORD_MOST = 24 };

struct guard_http1 {
    struct guard_http1_limits limits;
    uint32_t state;
    uint32_t head_bytes;    /* of the head being read; also counts the trailer section */
    uint32_t fields;        /* headers seen in it */
    uint64_t body_left;     /* bytes left of the body or of the chunk */
    uint64_t body_bytes;    /* body bytes seen of this request, without chunk framing */
    uint64_t body_declared; /* Content-Length, or 0 */
    uint64_t requests;      /* requests read to their end so far */
    const struct guard_refusal *refusal;
    uint16_t word_len; /* of the method, header name or value being read; counts past the buffer */
    uint8_t header;    /* which of the headers that matter is being read */
    uint8_t minor;     /* HTTP/1.minor */
    uint8_t hosts;
    uint8_t lengths;
    uint8_t encodings;
    bool options_method;
    bool upgrade;     /* an Upgrade header was seen in this head */
    bool upgrade_h2c; /* and it names h2c */
    bool skipped_line;
    char word[GUARD_HTTP1_WORD_MOST];
};

/* Ready for the first byte of a connection. */
void guard_http1_init(struct guard_http1 *scan, const struct guard_http1_limits *limits);

/* Reads the next len bytes. Returns NULL when all may be passed on; otherwise the refusal, and the scanner stays
 * refused. *safe_bytes is how many of these bytes end the last complete request among them (0: none ended here): up to
 * there they may be passed on even when the rest is refused. */
const struct guard_refusal *guard_http1_feed(struct guard_http1 *scan, const char *bytes, size_t len,
                                             size_t *safe_bytes);

enum guard_http1_place guard_http1_place(const struct guard_http1 *scan);

/* Goes on with the next request after an upgrade that the server did not take. */
void guard_http1_upgrade_declined(struct guard_http1 *scan);

#endif
