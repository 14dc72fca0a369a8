/* worker/messages_request.h - reads and checks the body of POST /v1/messages (and of its count_tokens), and makes the
 * body for an Anthropic upstream from it. For upstreams of other dialects there is messages_to_chat.
 * Used by: the worker. Pure.
 * Ownership: a messages_request points into the body, which must outlive it; the json_doc is needed only during the
 * read. Errors: a verdict with the client's error; its texts never quote the body. */
#ifndef TOLLGATE_WORKER_MESSAGES_REQUEST_H
#define TOLLGATE_WORKER_MESSAGES_REQUEST_H

#include "worker/chat_request.h"

struct messages_request {
    struct span body;
    char model[CHAT_MODEL_BYTES];
    char end_user[CHAT_USER_BYTES]; /* metadata.user_id, cut at a character border; "" when not given */
    bool stream;
    bool has_tools;
    int64_t max_tokens; /* 0 only for count_tokens */
    int64_t message_count;
    int64_t prompt_tokens; /* estimated */
    /* The first thing that only an Anthropic upstream understands, such as "tools.0.type"; "" when the request can be
     * said in every dialect. Refuse it (400, this param) when no such upstream can serve it. */
    char unmapped_param[CHAT_PARAM_BYTES];
    /* for the rewrite */
    struct chat_member model_member;
    struct chat_member stream_member;
    struct chat_member max_tokens_member;
    struct chat_member thinking_member;
    struct chat_member budget_member; /* thinking.budget_tokens */
    int64_t thinking_budget_tokens;   /* 0: none */
    size_t end_at;                    /* where the root object's closing brace stands */
};

/* Reads and checks body; is_count: it is count_tokens', which has no max_tokens. False with *verdict set; then *out
 * must not be used. */
MUST_CHECK bool messages_request_read(struct json_doc *doc, struct span body, bool is_count,
                                      struct messages_request *out, struct chat_verdict *verdict);

/* Appends the Anthropic upstream's body to out: the client's bytes with only model, stream and a lower max_tokens
 * spliced in. Thinking has to fit under max_tokens: its budget is lowered with it, or thinking turned off. Returns
 * false when the buffer failed. */
MUST_CHECK bool messages_request_rewrite(const struct messages_request *request, const struct chat_rewrite *rewrite,
                                         struct buffer *out);

#endif
