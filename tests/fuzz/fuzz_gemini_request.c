/* Bodies of chat completions, made into Gemini's: what is written is valid JSON with contents whose parts are never
 * missing, and as many functionResponses as there are results of tools; what is refused names a field. */
#include "fuzz.h"
#include "worker/gemini_request.h"

enum { OUT_EXTRA_BYTES = 1 << 16 };

static struct json_doc doc;
static struct json_doc made;

static int count_role(const char *role, const char *other) {
    int count = 0;
    int messages = json_member(&doc, 0, "messages");
    for (int message = json_first(&doc, messages); message >= 0; message = json_next(&doc, message)) {
        int value = json_member(&doc, message, "role");
        count += json_string_is(&doc, value, role) || json_string_is(&doc, value, other);
    }
    return count;
}

static void expect_contents(void) {
    int responses = 0;
    int contents = json_member(&made, 0, "contents");
    CHECK(json_type_of(&made, contents) == JSON_ARRAY);
    for (int content = json_first(&made, contents); content >= 0; content = json_next(&made, content)) {
        int role = json_member(&made, content, "role");
        int parts = json_member(&made, content, "parts");
        CHECK(json_string_is(&made, role, "user") || json_string_is(&made, role, "model"));
        CHECK(json_size(&made, parts) > 0);
        for (int part = json_first(&made, parts); part >= 0; part = json_next(&made, part)) {
            CHECK(json_type_of(&made, part) == JSON_OBJECT);
            int call = json_member(&made, part, "functionCall");
            CHECK(call < 0 || json_type_of(&made, json_member(&made, call, "args")) == JSON_OBJECT);
            responses += json_member(&made, part, "functionResponse") >= 0;
        }
    }
    CHECK(responses == count_role("tool", "function"));
    CHECK(json_type_of(&made, json_member(&made, 0, "generationConfig")) == JSON_OBJECT);
}

static void translate(const char *model, int64_t max_tokens, size_t body_len) {
    struct buffer out;
    struct chat_verdict wrong;
    const struct chat_rewrite rewrite = {.model = model, .max_tokens = max_tokens};
    buffer_init(&out, body_len * 16 + OUT_EXTRA_BYTES);
    if (gemini_request_write(&doc, &rewrite, &out, &wrong)) {
        int64_t cap = 0;
        CHECK(wrong.status == 0);
        /* Arguments that were a text may be as deep as the body. */
        if (json_parse(&made, buffer_span(&out))) {
            expect_contents();
            int config = json_member(&made, 0, "generationConfig");
            bool has_cap = json_int(&made, json_member(&made, config, "maxOutputTokens"), &cap);
            CHECK(max_tokens == 0 || (has_cap && cap > 0 && cap <= max_tokens));
        } else {
            CHECK(strcmp(made.error, "nested too deeply") == 0 || strstr(made.error, "deep") != NULL);
        }
    } else {
        CHECK(wrong.status == 400 && wrong.param[0] != '\0' && wrong.message[0] != '\0' && !out.failed);
    }
    buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct chat_request request;
    struct chat_verdict verdict;
    if (!chat_request_read(&doc, fuzz_span(data, size), &request, &verdict)) {
        return 0;
    }
    translate(NULL, 0, size);
    translate("gemini-2.5-pro", 7, size);
    translate("gemini-3.1-flash", 1 << 20, size);
    struct buffer path;
    buffer_init(&path, CHAT_MODEL_BYTES * 3 + 64);
    CHECK(gemini_request_path(request.model, true, &path));
    CHECK(span_starts_with(buffer_span(&path), "/"));
    for (size_t i = 0; i < path.len; i++) {
        CHECK(path.base[i] > ' ' && path.base[i] < 0x7F && path.base[i] != '#');
    }
    buffer_fini(&path);
    return 0;
}
