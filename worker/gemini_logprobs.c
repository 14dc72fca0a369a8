#include "worker/gemini_logprobs.h"

#include "base/json_write.h"

/* Opens the object of one {token, logProbability}; the caller closes it. */
static void begin_token(struct json_writer *writer, const struct json_doc *doc, int candidate) {
    int token = json_member(doc, candidate, "token");
    int logprob = json_member(doc, candidate, "logProbability");
    json_begin_object(writer, NULL);
    json_write_raw(writer, "token",
                   json_type_of(doc, token) == JSON_STRING ? json_raw(doc, token) : SPAN_LITERAL("\"\""));
    /* A probability of 1 has the logarithm 0, and zeros may be left out. */
    json_write_raw(writer, "logprob",
                   json_type_of(doc, logprob) == JSON_NUMBER ? json_raw(doc, logprob) : SPAN_LITERAL("0"));
    json_write_null(writer, "bytes");
}

static void write_alternatives(struct json_writer *writer, const struct json_doc *doc, int step) {
    int candidates = json_member(doc, step, "candidates");
    json_begin_array(writer, "top_logprobs");
    if (json_type_of(doc, candidates) == JSON_ARRAY) {
        for (int each = json_first(doc, candidates); each >= 0; each = json_next(doc, each)) {
            begin_token(writer, doc, each);
            json_end_object(writer);
        }
    }
    json_end_array(writer);
}

bool gemini_logprobs_write(const struct json_doc *doc, int result, struct buffer *out) {
    int chosen = json_member(doc, result, "chosenCandidates");
    int steps = json_member(doc, result, "topCandidates");
    if (json_type_of(doc, chosen) != JSON_ARRAY || json_size(doc, chosen) == 0) {
        return false;
    }
    struct json_writer writer = json_writer_on(out);
    int step = json_type_of(doc, steps) == JSON_ARRAY ? json_first(doc, steps) : -1;
    json_begin_object(&writer, NULL);
    json_begin_array(&writer, "content");
    for (int each = json_first(doc, chosen); each >= 0; each = json_next(doc, each)) {
        begin_token(&writer, doc, each);
        write_alternatives(&writer, doc, step);
        json_end_object(&writer);
        step = step >= 0 ? json_next(doc, step) : -1;
    }
    json_end_array(&writer);
    json_write_null(&writer, "refusal");
    json_end_object(&writer);
    return !out->failed;
}
