/* Chat bodies for an Anthropic upstream: what is written of a good one is a good Messages body with the cap that was
 * announced; what cannot be said is refused with a reason. Bodies nobody checked must do no harm either. */
#include "fuzz.h"
#include "worker/anthropic_request.h"
#include "worker/messages_request.h"

enum { OUT_EXTRA_BYTES = 4096, GROWTH_MOST = 8, DEFAULT_MAX_TOKENS = 100 };

static struct json_doc doc;
static struct json_doc written;

static void write_body(struct chat_rewrite rewrite, bool is_good) {
    struct buffer out;
    struct chat_verdict wrong;
    struct messages_request request;
    buffer_init(&out, doc.text.len * GROWTH_MOST + OUT_EXTRA_BYTES);
    bool is_said = anthropic_request_write(&doc, &rewrite, DEFAULT_MAX_TOKENS, &out, &wrong);
    CHECK(!out.failed);
    if (!is_said) {
        CHECK(wrong.status == 400 && wrong.message[0] != '\0');
        CHECK(memchr(wrong.param, '\0', sizeof(wrong.param)) != NULL);
    } else if (is_good) {
        CHECK(messages_request_read(&written, buffer_span(&out), false, &request, &wrong));
        CHECK(request.max_tokens == anthropic_request_max_tokens(&doc, &rewrite, DEFAULT_MAX_TOKENS));
        CHECK(request.thinking_budget_tokens < request.max_tokens);
        CHECK(request.stream == rewrite.stream);
        CHECK(rewrite.max_tokens == 0 || request.max_tokens <= rewrite.max_tokens);
    } else {
        CHECK(json_parse(&written, buffer_span(&out)));
    }
    buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct chat_request request;
    struct chat_verdict verdict;
    bool is_good = chat_request_read(&doc, fuzz_span(data, size), &request, &verdict);
    if (!is_good && (!json_parse(&doc, fuzz_span(data, size)) || json_type_of(&doc, 0) != JSON_OBJECT)) {
        return 0;
    }
    write_body((struct chat_rewrite){.max_tokens = 0}, is_good);
    write_body((struct chat_rewrite){.model = "claude-opus-4-7", .stream = true, .max_tokens = 2000}, is_good);
    write_body((struct chat_rewrite){.model = "claude-sonnet-4-5", .max_tokens = 9}, is_good);
    return 0;
}
