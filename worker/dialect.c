#include "worker/dialect.h"

#include <string.h>

#include "worker/dialect_anthropic.h"
#include "worker/dialect_gemini.h"
#include "worker/dialect_openai.h"
#include "worker/gemini_request.h"

/* OpenAI-dialect servers put it at error.code. */
static struct answer_refusal judge_openai(struct json_doc *scratch, struct span body) {
    struct answer_refusal refusal = {.is_context_length = false};
    if (json_parse(scratch, body)) {
        int code = json_member(scratch, json_member(scratch, 0, "error"), "code");
        refusal.is_context_length = json_string_is(scratch, code, "context_length_exceeded");
    }
    return refusal;
}

static struct answer_refusal judge_gemini(struct json_doc *scratch, struct span body) {
    struct answer_refusal refusal;
    gemini_judge_refusal(scratch, body, &refusal);
    return refusal;
}

static const struct dialect openai = {
    .hear_event = openai_hear_event, .hear_answer = openai_hear_answer, .judge_refusal = judge_openai};

static const struct dialect anthropic = {.reasoning_format = "anthropic-claude-v1",
                                         .hear_event = anthropic_hear_event,
                                         .hear_answer = anthropic_hear_answer,
                                         .judge_refusal = anthropic_judge_refusal};

static const struct dialect gemini = {.reasoning_format = "google-gemini-v1",
                                      .hear_event = gemini_hear_event,
                                      .hear_answer = gemini_hear_answer,
                                      .hear_end = gemini_hear_end,
                                      .judge_refusal = judge_gemini};

const struct dialect *dialect_of(const struct conf_upstream *upstream) {
    switch (upstream->dialect) {
    case CONF_DIALECT_ANTHROPIC:
        return &anthropic;
    case CONF_DIALECT_GEMINI:
        return &gemini;
    default:
        return &openai;
    }
}

bool dialect_is_openai(const struct conf_upstream *upstream) { return dialect_of(upstream) == &openai; }

/* Is there no path behind the host? */
static bool is_bare(const char *base_url) {
    const char *host = base_url != NULL ? strstr(base_url, "://") : NULL;
    const char *slash = host != NULL ? strchr(host + 3, '/') : NULL;
    return slash == NULL || slash[1] == '\0';
}

bool dialect_path(const struct conf_upstream *upstream, const char *path, const char *model, bool stream,
                  struct buffer *out) {
    switch (upstream->dialect) {
    case CONF_DIALECT_ANTHROPIC:
        buffer_append_text(out, is_bare(upstream->base_url) ? "/v1/messages" : "/messages");
        return !out->failed;
    case CONF_DIALECT_GEMINI:
        buffer_append_text(out, is_bare(upstream->base_url) ? "/v1beta" : "");
        return gemini_request_path(model, stream, out);
    default:
        buffer_append_text(out, path);
        return !out->failed;
    }
}

bool dialect_wants_max_completion_tokens(const char *model) {
    const char *slash = strrchr(model, '/');
    struct span name = span_text(slash != NULL ? slash + 1 : model);
    return span_starts_with(name, "gpt-5") || span_starts_with(name, "o1") || span_starts_with(name, "o3") ||
           span_starts_with(name, "o4");
}
