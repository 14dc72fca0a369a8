/* Bodies of Anthropic Messages: what is read lies in bounds; each rewrite of a good body is a good body that says what
 * it was told to say; what can be said in other dialects is a good chat body, which is made into a Messages body again
 * or refused with a reason. */
#include "fuzz.h"
#include "worker/anthropic_request.h"
#include "worker/messages_request.h"
#include "worker/messages_to_chat.h"

enum { OUT_EXTRA_BYTES = 4096, GROWTH_MOST = 8 };

static struct json_doc doc;

static void expect_refusal(const struct chat_verdict *verdict) {
    CHECK(verdict->status == 400 || verdict->status == 404);
    CHECK(verdict->code != NULL && verdict->message[0] != '\0');
    CHECK(memchr(verdict->param, '\0', sizeof(verdict->param)) != NULL);
    CHECK(memchr(verdict->message, '\0', sizeof(verdict->message)) != NULL);
}

static void rewrite(const struct messages_request *request, struct chat_rewrite wanted) {
    struct buffer out;
    struct messages_request after;
    struct chat_verdict verdict;
    buffer_init(&out, request->body.len + OUT_EXTRA_BYTES);
    CHECK(messages_request_rewrite(request, &wanted, &out));
    CHECK(messages_request_read(&doc, buffer_span(&out), false, &after, &verdict));
    CHECK(strcmp(request->end_user, after.end_user) == 0 && request->has_tools == after.has_tools);
    CHECK(request->message_count == after.message_count);
    CHECK(wanted.model != NULL || request->prompt_tokens == after.prompt_tokens); /* models count in their own ways */
    CHECK(after.stream == wanted.stream);
    CHECK(strcmp(after.model, wanted.model != NULL ? wanted.model : request->model) == 0);
    CHECK(wanted.max_tokens == 0 ? after.max_tokens == request->max_tokens : after.max_tokens <= wanted.max_tokens);
    CHECK(wanted.max_tokens == 0 || request->max_tokens <= wanted.max_tokens ||
          after.thinking_budget_tokens < after.max_tokens);
    buffer_fini(&out);
}

/* doc holds a chat body made here. */
static void say_back(void) {
    struct buffer back;
    struct chat_verdict wrong;
    struct messages_request again;
    const struct chat_rewrite as_it_is = {.max_tokens = 0};
    buffer_init(&back, doc.text.len * GROWTH_MOST + OUT_EXTRA_BYTES);
    if (anthropic_request_write(&doc, &as_it_is, 100, &back, &wrong)) {
        CHECK(messages_request_read(&doc, buffer_span(&back), false, &again, &wrong));
    } else {
        expect_refusal(&wrong);
    }
    buffer_fini(&back);
}

static void say_as_chat(const struct messages_request *request) {
    struct buffer chat;
    struct chat_request read;
    struct chat_verdict verdict;
    struct messages_request same;
    CHECK(messages_request_read(&doc, request->body, false, &same, &verdict));
    buffer_init(&chat, request->body.len * GROWTH_MOST + OUT_EXTRA_BYTES);
    CHECK(messages_to_chat_write(&doc, false, true, &chat));
    CHECK(chat_request_read(&doc, buffer_span(&chat), &read, &verdict));
    CHECK(strcmp(read.model, request->model) == 0 && strcmp(read.end_user, request->end_user) == 0);
    CHECK(read.stream == request->stream && read.max_tokens == request->max_tokens);
    CHECK(read.has_tools == request->has_tools && read.choices == 1);
    say_back();
    buffer_fini(&chat);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct messages_request request;
    struct chat_verdict verdict;
    if (!messages_request_read(&doc, fuzz_span(data, size), false, &request, &verdict)) {
        expect_refusal(&verdict);
        return 0;
    }
    CHECK(verdict.status == 0 && request.message_count > 0 && request.max_tokens > 0);
    CHECK(request.prompt_tokens >= 0 && request.end_at < size);
    CHECK(memchr(request.unmapped_param, '\0', sizeof(request.unmapped_param)) != NULL);
    rewrite(&request, (struct chat_rewrite){.stream = request.stream});
    rewrite(&request, (struct chat_rewrite){.model = "up\"stream\\\n", .stream = true, .max_tokens = 7});
    rewrite(&request, (struct chat_rewrite){.model = "m", .stream = false, .max_tokens = 2000});
    if (request.unmapped_param[0] == '\0') {
        say_as_chat(&request);
    }
    return 0;
}
