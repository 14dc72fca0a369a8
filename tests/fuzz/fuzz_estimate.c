/* Feeds the token estimate: its counts do not depend on where text is cut, and stay in bounds. The first byte says how
 * the rest is cut, and as whose model's text it is counted. */
#include "fuzz.h"

#include "base/check.h"
#include "worker/estimate.h"

enum { FRAMING_MOST = 4 };

static const char *const models[] = {"gpt-4o", "gpt-4", "claude-sonnet-4-5", "mistral-large", ""};

static int64_t count(struct span model, struct span text, size_t step, bool is_json) {
    struct estimate estimate;
    struct estimate copy;
    estimate_init(&estimate, model);
    for (size_t at = 0; at < text.len; at += step) {
        struct span piece = span_of(text.base + at, text.len - at < step ? text.len - at : step);
        if (is_json) {
            estimate_add_json(&estimate, piece);
        } else {
            estimate_add(&estimate, piece);
        }
        CHECK(estimate_tokens(&estimate) >= 0);
    }
    estimate_break(&estimate);
    estimate_copy(&copy, &estimate);
    CHECK(estimate_tokens(&copy) == estimate_tokens(&estimate));
    return estimate_tokens(&estimate);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    struct span text = span_skip(fuzz_span(data, size), 1);
    struct span model = span_text(models[data[0] % (sizeof(models) / sizeof(models[0]))]);
    size_t step = 1 + data[0] / 8U;
    for (int is_json = 0; is_json <= 1; is_json++) {
        int64_t whole = count(model, text, SIZE_MAX / 2, is_json != 0);
        CHECK(whole <= (int64_t)text.len * 4 + FRAMING_MOST);
        CHECK(count(model, text, step, is_json != 0) == whole);
    }
    return 0;
}
