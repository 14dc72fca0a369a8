#include "worker/gemini_calls.h"

#include <stdlib.h>

struct gemini_call {
    const struct buffer *ids;
    size_t at; /* where its id stands in ids */
    size_t len;
    int64_t message;
    int name;
};

static struct span id_of(const struct gemini_call *call) { return span_of(call->ids->base + call->at, call->len); }

static int compare_ids(struct span a, struct span b) {
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter != 0 ? memcmp(a.base, b.base, shorter) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* qsort: by id, then by where they stand. */
static int compare_calls(const void *left, const void *right) {
    const struct gemini_call *a = left;
    const struct gemini_call *b = right;
    int order = compare_ids(id_of(a), id_of(b));
    return order != 0 ? order : (a->message > b->message) - (a->message < b->message);
}

static size_t count_calls(const struct json_doc *doc, int messages) {
    size_t count = 0;
    for (int message = json_first(doc, messages); message >= 0; message = json_next(doc, message)) {
        count += (size_t)json_size(doc, json_member(doc, message, "tool_calls"));
    }
    return count;
}

static bool take_call(struct gemini_calls *calls, const struct json_doc *doc, int call, int64_t message) {
    size_t at = calls->ids.len;
    int name = json_member(doc, json_member(doc, call, "function"), "name");
    if (json_type_of(doc, name) == JSON_STRING && json_string(doc, json_member(doc, call, "id"), &calls->ids)) {
        calls->calls[calls->count++] = (struct gemini_call){
            .ids = &calls->ids, .at = at, .len = calls->ids.len - at, .message = message, .name = name};
    }
    return !calls->ids.failed;
}

bool gemini_calls_init(struct gemini_calls *calls, const struct json_doc *doc, int messages) {
    *calls = (struct gemini_calls){.calls = NULL};
    buffer_init(&calls->ids, doc->text.len);
    size_t most = count_calls(doc, messages);
    if (most == 0) {
        return true;
    }
    calls->calls = calloc(most, sizeof(struct gemini_call));
    if (calls->calls == NULL) {
        return false;
    }
    int64_t number = 0;
    for (int message = json_first(doc, messages); message >= 0; message = json_next(doc, message), number++) {
        int list = json_member(doc, message, "tool_calls");
        if (json_type_of(doc, list) != JSON_ARRAY) {
            continue;
        }
        for (int call = json_first(doc, list); call >= 0; call = json_next(doc, call)) {
            if (!take_call(calls, doc, call, number)) {
                return false;
            }
        }
    }
    qsort(calls->calls, calls->count, sizeof(struct gemini_call), compare_calls);
    return true;
}

void gemini_calls_fini(struct gemini_calls *calls) {
    free(calls->calls);
    buffer_fini(&calls->ids);
}

int gemini_calls_find(const struct gemini_calls *calls, struct span id, int64_t before) {
    size_t low = 0;
    size_t high = calls->count;
    while (low < high) { /* the first call past what is wanted */
        size_t middle = low + (high - low) / 2;
        const struct gemini_call *call = &calls->calls[middle];
        int order = compare_ids(id_of(call), id);
        if (order < 0 || (order == 0 && call->message < before)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool is_found = low != 0 && span_equals(id_of(&calls->calls[low - 1]), id);
    return is_found ? calls->calls[low - 1].name : -1;
}
