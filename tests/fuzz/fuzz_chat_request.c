/* Bodies of chat completions: what is read lies in bounds; each rewrite of a good body is a good body that says what it
 * was told to say and nothing else new. */
#include "fuzz.h"
#include "worker/chat_request.h"

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
    CHECK(before->has_tools == after->has_tools);
    CHECK(before->choices == after->choices);
    CHECK(before->message_count == after->message_count);
    CHECK(before->prompt_tokens == after->prompt_tokens || before->prompt_tokenizer != after->prompt_tokenizer);
}

static void rewrite(const struct chat_request *request, struct chat_rewrite wanted) {
    struct buffer out;
    struct chat_request after;
    struct chat_verdict verdict;
    buffer_init(&out, request->body.len + OUT_EXTRA_BYTES);
    CHECK(chat_request_rewrite(request, &wanted, &out));
    CHECK(chat_request_read(&doc, buffer_span(&out), &after, &verdict));
    expect_kept(request, &after);
    CHECK(after.stream == wanted.stream);
    CHECK(!wanted.stream || after.include_usage);
    CHECK(strcmp(after.model, wanted.model != NULL ? wanted.model : request->model) == 0);
    if (wanted.max_tokens != 0) {
        CHECK(after.max_tokens > 0 && after.max_tokens <= wanted.max_tokens);
        CHECK(after.max_tokens_value <= wanted.max_tokens && after.max_completion_tokens_value <= wanted.max_tokens);
    } else {
        CHECK(after.max_tokens == request->max_tokens);
    }
    buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct chat_request request;
    struct chat_verdict verdict;
    if (!chat_request_read(&doc, fuzz_span(data, size), &request, &verdict)) {
        expect_refusal(&verdict);
        return 0;
    }
    CHECK(verdict.status == 0 && request.message_count > 0 && request.choices > 0);
    CHECK(request.prompt_tokens >= 0 && request.max_tokens >= 0 && request.end_at < size);
    rewrite(&request, (struct chat_rewrite){.stream = request.stream});
    rewrite(&request, (struct chat_rewrite){.model = "up\"stream\\\n", .stream = true, .max_tokens = 7});
    rewrite(&request, (struct chat_rewrite){
                          .model = "m", .stream = false, .max_tokens = 1 << 20, .wants_max_completion_tokens = true});
    return 0;
}
