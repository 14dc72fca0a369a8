/* Bodies of completions, Responses and embeddings: what is read lies in bounds; each rewrite of a good body is a good
 * body that says what it was told to say and nothing else new. */
#include "fuzz.h"
#include "worker/plain_request.h"

enum { OUT_EXTRA_BYTES = 4096 };

static struct json_doc doc;

static void expect_refusal(const struct chat_verdict *verdict) {
    CHECK(verdict->status == 400 || verdict->status == 404);
    CHECK(verdict->code != NULL && verdict->message[0] != '\0');
    CHECK(memchr(verdict->param, '\0', sizeof(verdict->param)) != NULL);
    CHECK(memchr(verdict->message, '\0', sizeof(verdict->message)) != NULL);
}

static void expect_kept(const struct chat_request *before, const struct chat_request *after) {
    CHECK(strcmp(before->end_user, after->end_user) == 0);
    CHECK(before->has_tools == after->has_tools && before->is_bound == after->is_bound);
    CHECK(before->choices == after->choices);
    CHECK(before->prompt_tokens == after->prompt_tokens || before->prompt_tokenizer != after->prompt_tokenizer);
}

static void expect_capped(const struct chat_request *before, const struct chat_request *after, int64_t most) {
    bool is_cappable = most != 0 && before->form != CLIENT_EMBEDDINGS;
    CHECK(after->max_tokens_value <= before->max_tokens_value || before->max_tokens == 0);
    if (is_cappable) {
        CHECK(after->max_tokens > 0 && after->max_tokens <= most && after->max_tokens_value <= most);
    } else {
        CHECK(after->max_tokens == before->max_tokens && after->max_tokens_value == before->max_tokens_value);
    }
}

static void rewrite(const struct chat_request *request, struct chat_rewrite wanted) {
    struct buffer out;
    struct chat_request after;
    struct chat_verdict verdict;
    buffer_init(&out, request->body.len + OUT_EXTRA_BYTES);
    CHECK(plain_request_rewrite(request, &wanted, &out));
    CHECK(plain_request_read(&doc, buffer_span(&out), request->form, &after, &verdict));
    expect_kept(request, &after);
    expect_capped(request, &after, wanted.max_tokens);
    CHECK(strcmp(after.model, wanted.model != NULL ? wanted.model : request->model) == 0);
    CHECK(after.stream == (wanted.stream && request->form != CLIENT_EMBEDDINGS));
    CHECK(after.include_usage == (request->include_usage || (wanted.stream && request->form == CLIENT_COMPLETIONS)));
    buffer_fini(&out);
}

static void read_as(enum client_form form, struct span body) {
    struct chat_request request;
    struct chat_verdict verdict;
    if (!plain_request_read(&doc, body, form, &request, &verdict)) {
        expect_refusal(&verdict);
        return;
    }
    CHECK(verdict.status == 0 && request.form == form);
    CHECK(request.choices > 0 && (request.choices == 1 || form == CLIENT_COMPLETIONS));
    CHECK(request.prompt_tokens >= 0 && request.max_tokens >= 0 && request.end_at < body.len);
    CHECK(!request.stream || form != CLIENT_EMBEDDINGS);
    rewrite(&request, (struct chat_rewrite){.stream = request.stream});
    rewrite(&request, (struct chat_rewrite){.model = "up\"stream\\\n", .stream = true, .max_tokens = 7});
    rewrite(&request, (struct chat_rewrite){.model = "m", .stream = false, .max_tokens = 1 << 20});
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (int form = CLIENT_RESPONSES; form <= CLIENT_EMBEDDINGS; form++) {
        read_as((enum client_form)form, fuzz_span(data, size));
    }
    return 0;
}
