#include "worker/body.h"

#include "worker/anthropic_request.h"
#include "worker/budget.h"
#include "worker/dialect.h"
#include "worker/gemini_request.h"
#include "worker/messages_to_chat.h"
#include "worker/plain_request.h"
#include "worker/query.h"
#include "worker/resume.h"
#include "worker/tokenizer.h"
#include "worker/worker_state.h"

/* What an Anthropic upstream is told, which needs a cap, when neither the client nor the configuration has one. */
enum { UNKNOWN_MAX_TOKENS = 8192 };

static bool query_asks_stream(struct span query) {
    struct span value = SPAN_EMPTY;
    return query_find(query, "stream", &value) && (span_is(value, "true") || span_is(value, "1"));
}

static bool is_json_content(struct span type) {
    const char *semicolon = type.len != 0 ? memchr(type.base, ';', type.len) : NULL;
    struct span bare = span_trim(span_of(type.base, semicolon != NULL ? (size_t)(semicolon - type.base) : type.len));
    return type.len == 0 || span_is_nocase(bare, "application/json");
}

static enum error_kind kind_of_code(const char *code) {
    return strcmp(code, "invalid_json") == 0      ? ERROR_invalid_json
           : strcmp(code, "missing_field") == 0   ? ERROR_missing_field
           : strcmp(code, "model_not_found") == 0 ? ERROR_model_not_found
                                                  : ERROR_invalid_value;
}

struct verdict body_verdict(const struct chat_verdict *wrong) {
    return verdict_with(kind_of_code(wrong->code), wrong->param, "%s", wrong->message);
}

/* --- reading --- */

static bool read_messages(struct request *request, struct chat_verdict *wrong) {
    struct messages_request *messages = arena_take(&request->arena, sizeof(*messages));
    if (messages == NULL ||
        !messages_request_read(&request->worker->scratch, request->input.body, false, messages, wrong)) {
        return false;
    }
    request->messages = messages;
    request->chat = (struct chat_request){.body = messages->body,
                                          .stream = messages->stream,
                                          .include_usage = true,
                                          .has_tools = messages->has_tools,
                                          .max_tokens = messages->max_tokens,
                                          .choices = 1,
                                          .message_count = messages->message_count,
                                          .prompt_tokens = messages->prompt_tokens,
                                          .prompt_tokenizer = tokenizer_of(span_text(messages->model))};
    (void)span_copy(span_text(messages->model), request->chat.model, sizeof(request->chat.model));
    (void)span_copy(span_text(messages->end_user), request->chat.end_user, sizeof(request->chat.end_user));
    return true;
}

static bool read_by_form(struct request *request, struct chat_verdict *wrong) {
    switch (request->form) {
    case CLIENT_MESSAGES:
        return read_messages(request, wrong);
    case CLIENT_RESPONSES:
    case CLIENT_COMPLETIONS:
    case CLIENT_EMBEDDINGS:
        return plain_request_read(&request->worker->scratch, request->input.body, request->form, &request->chat, wrong);
    default:
        return chat_request_read(&request->worker->scratch, request->input.body, &request->chat, wrong);
    }
}

struct verdict body_read(struct request *request) {
    struct chat_verdict wrong = {.status = 0};
    if (!is_json_content(request->front->driver->header(request->front, "content-type"))) {
        return verdict_of(ERROR_unsupported_media_type);
    }
    int64_t most_bytes = request->worker->conf->request_limits.body_bytes;
    if (request->input.body.len > (size_t)most_bytes) {
        return verdict_with(ERROR_body_too_large, NULL, "The request body is larger than the %lld bytes allowed here.",
                            (long long)most_bytes);
    }
    struct verdict verdict = resume_keep_body(request);
    if (verdict.kind != ERROR_NONE) {
        return verdict;
    }
    if (!read_by_form(request, &wrong)) {
        return wrong.code != NULL ? body_verdict(&wrong) : verdict_of(ERROR_overloaded);
    }
    bool may_stream = request->form != CLIENT_EMBEDDINGS;
    request->stream = request->chat.stream || (may_stream && query_asks_stream(request->input.query));
    if (request->stream && request->input.is_http10) {
        return verdict_with(ERROR_invalid_value, "stream",
                            "Streams need HTTP/1.1 or HTTP/2; this request came by HTTP/1.0. Ask without \"stream\".");
    }
    return verdict_of(ERROR_NONE);
}

/* --- which upstreams can be asked --- */

static bool is_raw(const struct request *request) {
    return request->form != CLIENT_CHAT && request->form != CLIENT_MESSAGES;
}

bool body_fits(const struct request *request, const struct conf_upstream *upstream) {
    if (is_raw(request)) {
        return upstream->dialect == CONF_DIALECT_OPENAI;
    }
    bool is_unmapped = request->form == CLIENT_MESSAGES && request->messages->unmapped_param[0] != '\0';
    return !is_unmapped || upstream->dialect == CONF_DIALECT_ANTHROPIC;
}

struct verdict body_misfit(const struct request *request) {
    if (is_raw(request)) {
        return verdict_with(ERROR_invalid_value, "model",
                            "This model is not served at this endpoint; ask for it at /v1/chat/completions.");
    }
    return verdict_with(ERROR_invalid_value, request->messages->unmapped_param,
                        "The providers of this model have nothing like this field; leave it out or ask another model.");
}

bool body_is_translated(const struct request *request) {
    enum conf_dialect dialect = request->attempt.upstream->dialect;
    return request->form == CLIENT_CHAT       ? !dialect_is_openai(request->attempt.upstream)
           : request->form == CLIENT_MESSAGES ? dialect != CONF_DIALECT_ANTHROPIC
                                              : false;
}

/* --- writing --- */

static struct chat_rewrite rewrite_of(const struct request *request) {
    const struct conf_model *model = &request->worker->conf->models[request->attempt.model];
    const char *name = request->attempt.route->model;
    return (struct chat_rewrite){
        .model = name,
        .stream = request->stream,
        .max_tokens = request->budget_max_tokens > 0 ? request->budget_max_tokens
                      : request->chat.max_tokens > 0 ? model->max_output_tokens
                                                     : 0,
        .wants_max_completion_tokens = dialect_wants_max_completion_tokens(name != NULL ? name : request->chat.model),
    };
}

/* The most an Anthropic upstream may be asked for: what is held when the answer does not stream, for thinking may raise
 * the client's own cap. */
static int64_t anthropic_cap(const struct request *request, const struct conf_model *model) {
    if (request->budget_max_tokens > 0) {
        return request->budget_max_tokens;
    }
    return !request->stream && budget_applies(request) ? budget_worst_case_tokens(request) : model->max_output_tokens;
}

/* From a chat body into the upstream's own dialect. */
static bool write_translated(struct request *request, struct span chat_body, struct chat_verdict *wrong) {
    struct json_doc *doc = &request->worker->scratch;
    const struct conf_model *model = &request->worker->conf->models[request->attempt.model];
    struct chat_rewrite rewrite = rewrite_of(request);
    rewrite.model = rewrite.model != NULL ? rewrite.model : model->name;
    if (!json_parse(doc, chat_body)) {
        return false;
    }
    if (request->attempt.upstream->dialect == CONF_DIALECT_GEMINI) {
        return gemini_request_write(doc, &rewrite, &request->upstream_body, wrong);
    }
    int64_t cap = anthropic_cap(request, model);
    rewrite.max_tokens = cap;
    return anthropic_request_write(doc, &rewrite, cap > 0 ? cap : UNKNOWN_MAX_TOKENS, &request->upstream_body, wrong);
}

/* A Messages body for an upstream that speaks another dialect goes by way of a chat body. */
static bool write_from_messages(struct request *request, struct chat_verdict *wrong) {
    struct json_doc *doc = &request->worker->scratch;
    struct chat_rewrite rewrite = rewrite_of(request);
    bool is_gemini = request->attempt.upstream->dialect == CONF_DIALECT_GEMINI;
    struct chat_request chat;
    struct buffer body;
    buffer_init(&body, (size_t)request->worker->conf->request_limits.body_bytes * 2 + 4096);
    bool good = json_parse(doc, request->messages->body) &&
                messages_to_chat_write(doc, rewrite.wants_max_completion_tokens, is_gemini, &body);
    if (good && is_gemini) {
        good = write_translated(request, buffer_span(&body), wrong);
    } else if (good) {
        good = chat_request_read(doc, buffer_span(&body), &chat, wrong) &&
               chat_request_rewrite(&chat, &rewrite, &request->upstream_body);
    }
    buffer_fini(&body);
    return good;
}

static bool write_by_form(struct request *request, struct chat_verdict *wrong) {
    struct chat_rewrite rewrite = rewrite_of(request);
    if (request->form == CLIENT_MESSAGES) {
        return body_is_translated(request)
                   ? write_from_messages(request, wrong)
                   : messages_request_rewrite(request->messages, &rewrite, &request->upstream_body);
    }
    if (is_raw(request)) {
        return plain_request_rewrite(&request->chat, &rewrite, &request->upstream_body);
    }
    return body_is_translated(request) ? write_translated(request, request->chat.body, wrong)
                                       : chat_request_rewrite(&request->chat, &rewrite, &request->upstream_body);
}

struct verdict body_write(struct request *request) {
    struct chat_verdict wrong = {.status = 0};
    buffer_clear(&request->upstream_body);
    if (write_by_form(request, &wrong)) {
        return verdict_of(ERROR_NONE);
    }
    return wrong.status != 0 ? body_verdict(&wrong) : verdict_of(ERROR_body_too_large);
}
