/* The guard's way to libh2o's requests: finding the one it was only shown the bytes of. */
#include <h2o.h>

#include <h2o/http1.h>
#include <h2o/http2.h>

#include "worker/front_guard_private.h"

struct request_search {
    void *connection;
    uint32_t stream_id; /* 0: any */
    h2o_req_t *found;
};

uint32_t guard_stream_id(h2o_req_t *req) {
    if (req->version < 0x200 || req->conn->callbacks->log_.http2.stream_id == NULL) {
        return 0;
    }
    h2o_iovec_t text = req->conn->callbacks->log_.http2.stream_id(req);
    size_t number = h2o_strtosize(text.base, text.len);
    return number <= UINT32_MAX ? (uint32_t)number : 0;
}

/* For h2o_protocol_callbacks_t.foreach_request */
static int match_request(h2o_req_t *req, void *data) {
    struct request_search *search = data;
    if ((void *)req->conn != search->connection ||
        (search->stream_id != 0 && guard_stream_id(req) != search->stream_id)) {
        return 0;
    }
    search->found = req;
    return 1;
}

/* The request sits at a fixed place in libh2o's connection; the first search tells where. */
h2o_req_t *guard_find_http1_request(struct guard *guard) {
    struct guard_context *context = guard->context;
    char *connection = guard->sock->data;
    if (context->http1_request_offset == 0) {
        struct request_search search = {.connection = connection};
        (void)H2O_HTTP1_CALLBACKS.foreach_request(context->h2o, match_request, &search);
        if (search.found == NULL) {
            return NULL;
        }
        context->http1_request_offset = (size_t)((char *)search.found - connection);
    }
    return (h2o_req_t *)(void *)(connection + context->http1_request_offset);
}

h2o_req_t *guard_find_http2_request(struct guard *guard, uint32_t stream_id) {
    struct request_search search = {.connection = guard->sock->data, .stream_id = stream_id};
    (void)H2O_HTTP2_CALLBACKS.foreach_request(guard->context->h2o, match_request, &search);
    return search.found;
}

bool guard_was_answered(const h2o_req_t *req) {
    return req->res.status != 0 && req->_generator == NULL && req->bytes_sent != 0 &&
           (req->res.content_length == SIZE_MAX || req->bytes_sent >= req->res.content_length);
}
