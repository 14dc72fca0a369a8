#include "worker/json_splice.h"

#include <inttypes.h>

#include "base/json_write.h"

/* What is put in are names, numbers and small objects. */
enum { TEXTS_BYTES_MOST = 64 << 10 };

void json_splice_init(struct json_splice *splice, struct span text, size_t end_at) {
    *splice = (struct json_splice){.text = text, .end_at = end_at};
    buffer_init(&splice->texts, TEXTS_BYTES_MOST);
    buffer_init(&splice->added, TEXTS_BYTES_MOST);
}

void json_splice_fini(struct json_splice *splice) {
    buffer_fini(&splice->texts);
    buffer_fini(&splice->added);
}

/* Makes the edit whose text was put at the end of texts, from text_at on. */
static void insert_edit(struct json_splice *splice, struct span replaced, size_t text_at) {
    CHECK(splice->count < JSON_SPLICE_EDITS_MOST);
    size_t at = (size_t)(replaced.base - splice->text.base);
    int place = splice->count++;
    for (; place > 0 && splice->edits[place - 1].at > at; place--) {
        splice->edits[place] = splice->edits[place - 1];
    }
    splice->edits[place] = (struct json_edit){
        .at = at, .removes = replaced.len, .text_at = text_at, .text_len = splice->texts.len - text_at};
}

void json_splice_replace(struct json_splice *splice, struct span replaced, struct span json) {
    size_t text_at = splice->texts.len;
    buffer_append_span(&splice->texts, json);
    insert_edit(splice, replaced, text_at);
}

void json_splice_replace_text(struct json_splice *splice, struct span replaced, const char *text) {
    size_t text_at = splice->texts.len;
    json_quote(&splice->texts, span_text(text));
    insert_edit(splice, replaced, text_at);
}

void json_splice_replace_int(struct json_splice *splice, struct span replaced, int64_t number) {
    size_t text_at = splice->texts.len;
    buffer_format(&splice->texts, "%" PRId64, number);
    insert_edit(splice, replaced, text_at);
}

static void add_name(struct json_splice *splice, const char *name) {
    buffer_append_byte(&splice->added, ',');
    json_quote(&splice->added, span_text(name));
    buffer_append_byte(&splice->added, ':');
}

void json_splice_add(struct json_splice *splice, const char *name, struct span json) {
    add_name(splice, name);
    buffer_append_span(&splice->added, json);
}

void json_splice_add_int(struct json_splice *splice, const char *name, int64_t number) {
    add_name(splice, name);
    buffer_format(&splice->added, "%" PRId64, number);
}

bool json_splice_write(struct json_splice *splice, struct buffer *out) {
    size_t at = 0;
    if (splice->texts.failed || splice->added.failed) {
        return false;
    }
    for (int i = 0; i < splice->count; i++) {
        const struct json_edit *edit = &splice->edits[i];
        CHECK(edit->at >= at && edit->at + edit->removes <= splice->end_at);
        buffer_append(out, splice->text.base + at, edit->at - at);
        buffer_append_span(out, span_skip(span_of(splice->texts.base, edit->text_at + edit->text_len), edit->text_at));
        at = edit->at + edit->removes;
    }
    buffer_append(out, splice->text.base + at, splice->end_at - at);
    buffer_append_span(out, buffer_span(&splice->added));
    buffer_append_span(out, span_skip(splice->text, splice->end_at));
    return !out->failed;
}
