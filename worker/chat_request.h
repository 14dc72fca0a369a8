/* worker/chat_request.h - reads and checks the body of POST /v1/chat/completions and makes the upstream's body from it.
 * Used by: the worker. Pure.
 * Ownership: a chat_request points into the body, which must outlive it; the json_doc is needed only during the read.
 * Errors: a verdict with the client's error; its texts never quote the body. */
#ifndef TOLLGATE_WORKER_CHAT_REQUEST_H
#define TOLLGATE_WORKER_CHAT_REQUEST_H

#include <stdint.h>

#include "base/json_read.h"
#include "worker/client_form.h"
#include "worker/tokenizer.h"

enum { CHAT_MODEL_BYTES = 256, CHAT_USER_BYTES = 128, CHAT_PARAM_BYTES = 64, CHAT_MESSAGE_BYTES = 200 };

/* What is wrong with the request; status 0: nothing. The error's type is invalid_request_error. */
struct chat_verdict {
    int status;
    const char *code; /* invalid_json, missing_field, invalid_value, model_not_found; a literal */
    char param[CHAT_PARAM_BYTES];
    char message[CHAT_MESSAGE_BYTES];
};

/* A member of the body's object: where its value stands. */
struct chat_member {
    bool is_present; /* with null too */
    struct span value;
};

/* One request, whichever endpoint of OpenAI's form it came to. */
struct chat_request {
    struct span body;
    enum client_form form; /* not CLIENT_MESSAGES: those are a chat once they are read */
    char model[CHAT_MODEL_BYTES];
    char end_user[CHAT_USER_BYTES]; /* `user` (Responses and such: else safety_identifier), else metadata.user_id, cut
                                       at a character border; "" when not given */
    bool stream;                    /* the body says so; ?stream=true is the caller's */
    bool include_usage;             /* the client asked for the usage chunk; chat and completions only */
    bool has_tools;                 /* a non-empty tools or functions array */
    bool is_bound;                  /* continues what one upstream account keeps: no failover (Responses) */
    int64_t max_tokens;             /* the client's own cap, the smaller if it gave two; 0: none */
    int64_t choices;                /* answers that are generated, at most; n in a chat, 1 when not given */
    int64_t message_count;          /* chat only */
    int64_t prompt_tokens;          /* estimated, as by: */
    const struct tokenizer *prompt_tokenizer;
    /* for the rewrite */
    struct chat_member model_member;
    struct chat_member stream_member;
    struct chat_member stream_options_member;
    struct chat_member include_usage_member;
    struct chat_member max_tokens_member; /* Responses: max_output_tokens */
    struct chat_member max_completion_tokens_member;
    int64_t max_tokens_value; /* of each; 0: not given */
    int64_t max_completion_tokens_value;
    size_t end_at; /* where the root object's closing brace stands */
};

/* Reads and checks body. False with *verdict set; then *out must not be used. */
MUST_CHECK bool chat_request_read(struct json_doc *doc, struct span body, struct chat_request *out,
                                  struct chat_verdict *verdict);

/* What the upstream's body shall say. */
struct chat_rewrite {
    const char *model;                /* the upstream's name for the model; NULL leaves the client's */
    bool stream;                      /* sets "stream" where the body says otherwise, and asks for usage */
    int64_t max_tokens;               /* no more output than this; 0 leaves the client's cap */
    bool wants_max_completion_tokens; /* how a cap is named where the client gave none */
};

/* Appends the upstream's body to out: the client's bytes with only these values spliced in. Returns false when the
 * buffer failed. */
MUST_CHECK bool chat_request_rewrite(const struct chat_request *request, const struct chat_rewrite *rewrite,
                                     struct buffer *out);

#endif
