/* tests/unit/worker/parts_testing.h - a sink that keeps the parts of an answer, as text a test can compare. Include
 * after cmocka.h. The texts of a choice are gathered, unescaped, by kind; tool calls as "name(arguments)id;". */
#ifndef TOLLGATE_TESTS_UNIT_WORKER_PARTS_TESTING_H
#define TOLLGATE_TESTS_UNIT_WORKER_PARTS_TESTING_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"
#include "worker/answer_told.h"

enum { TOLD_CHOICES = 4, TOLD_CALLS = 16, TOLD_BYTES_MOST = 4 << 20 };

struct told_call {
    struct buffer id;
    struct buffer name;
    struct buffer arguments;
    struct buffer signature;
};

struct told_choice {
    struct buffer content;
    struct buffer reasoning;
    struct buffer refusal;
    struct buffer signature;
    struct buffer redacted;
    struct buffer logprobs;
    struct buffer sequence;
    struct told_call calls[TOLD_CALLS];
    int call_count;
    enum answer_finish finish;
    int finishes; /* how often it was told */
    bool spoke_after_finish;
};

struct told_parts {
    struct told_choice choices[TOLD_CHOICES];
    struct answer_told told;
    struct answer_sink sink;
    int part_count;
};

/* Appends the inside of a JSON string, unescaped. */
static inline void told_append(struct buffer *out, struct span inside) {
    struct buffer quoted;
    struct json_doc doc;
    buffer_init(&quoted, inside.len + 2);
    json_doc_init(&doc);
    buffer_append_byte(&quoted, '"');
    buffer_append_span(&quoted, inside);
    buffer_append_byte(&quoted, '"');
    if (!json_parse(&doc, buffer_span(&quoted))) {
        fail_msg("no inside of a string: %.*s", SPAN_ARGUMENTS(inside));
    }
    assert_true(json_string(&doc, 0, out));
    json_doc_fini(&doc);
    buffer_fini(&quoted);
}

static inline void told_take_call(struct told_choice *choice, const struct answer_part *part) {
    assert_in_range((int)part->tool, 0, TOLD_CALLS - 1);
    if (part->kind == ANSWER_PART_TOOL) {
        assert_int_equal(part->tool, choice->call_count); /* numbers run without gaps */
        choice->call_count++;
        told_append(&choice->calls[part->tool].id, part->id);
        told_append(&choice->calls[part->tool].name, part->name);
        return;
    }
    assert_true(part->tool < choice->call_count);
    told_append(part->kind == ANSWER_PART_ARGUMENTS ? &choice->calls[part->tool].arguments
                                                    : &choice->calls[part->tool].signature,
                part->text);
}

/* answer_sink.on_part */
static inline void told_on_part(void *context, const struct answer_part *part) {
    struct told_parts *parts = context;
    assert_in_range((int)part->choice, 0, TOLD_CHOICES - 1);
    struct told_choice *choice = &parts->choices[part->choice];
    parts->part_count++;
    choice->spoke_after_finish |= choice->finishes != 0;
    switch (part->kind) {
    case ANSWER_PART_TEXT:
        told_append(&choice->content, part->text);
        break;
    case ANSWER_PART_REASONING:
        told_append(&choice->reasoning, part->text);
        break;
    case ANSWER_PART_REFUSAL:
        told_append(&choice->refusal, part->text);
        break;
    case ANSWER_PART_REDACTED:
        told_append(&choice->redacted, part->text);
        break;
    case ANSWER_PART_LOGPROBS:
        buffer_append_span(&choice->logprobs, part->text);
        break;
    case ANSWER_PART_FINISH:
        choice->finish = part->finish;
        choice->finishes++;
        told_append(&choice->sequence, part->text);
        break;
    case ANSWER_PART_SIGNATURE:
        if (part->tool < 0) {
            told_append(&choice->signature, part->text);
            break;
        }
        told_take_call(choice, part);
        break;
    case ANSWER_PART_TOOL:
    case ANSWER_PART_ARGUMENTS:
        told_take_call(choice, part);
        break;
    }
}

static inline void told_each_buffer(struct told_parts *parts, void (*visit)(struct buffer *buffer)) {
    for (int i = 0; i < TOLD_CHOICES; i++) {
        struct told_choice *choice = &parts->choices[i];
        struct buffer *const texts[] = {&choice->content,  &choice->reasoning, &choice->refusal, &choice->signature,
                                        &choice->redacted, &choice->logprobs,  &choice->sequence};
        for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++) {
            visit(texts[k]);
        }
        for (int k = 0; k < TOLD_CALLS; k++) {
            visit(&choice->calls[k].id);
            visit(&choice->calls[k].name);
            visit(&choice->calls[k].arguments);
            visit(&choice->calls[k].signature);
        }
    }
}

static inline void told_init_buffer(struct buffer *buffer) { buffer_init(buffer, TOLD_BYTES_MOST); }

static inline void told_init(struct told_parts *parts) {
    memset(parts, 0, sizeof(*parts));
    told_each_buffer(parts, told_init_buffer);
    answer_told_init(&parts->told);
    parts->sink = (struct answer_sink){.on_part = told_on_part, .context = parts, .told = &parts->told};
}

static inline void told_fini(struct told_parts *parts) { told_each_buffer(parts, buffer_fini); }

static inline void told_expect_same_text(const struct buffer *a, const struct buffer *b, const char *what,
                                         const char *name) {
    if (strcmp(buffer_text(a), buffer_text(b)) != 0) {
        fail_msg("%s: %s is \"%s\", not \"%s\"", name, what, buffer_text(b), buffer_text(a));
    }
}

/* The same answer, told twice. `ids_may_differ`: where there were none, they were made. */
static inline void told_expect_same(const struct told_parts *a, const struct told_parts *b, const char *name) {
    for (int i = 0; i < TOLD_CHOICES; i++) {
        const struct told_choice *x = &a->choices[i];
        const struct told_choice *y = &b->choices[i];
        told_expect_same_text(&x->content, &y->content, "content", name);
        told_expect_same_text(&x->reasoning, &y->reasoning, "reasoning", name);
        told_expect_same_text(&x->refusal, &y->refusal, "refusal", name);
        told_expect_same_text(&x->signature, &y->signature, "signature", name);
        told_expect_same_text(&x->redacted, &y->redacted, "redacted", name);
        assert_int_equal(x->call_count, y->call_count);
        for (int k = 0; k < x->call_count; k++) {
            told_expect_same_text(&x->calls[k].name, &y->calls[k].name, "name", name);
            told_expect_same_text(&x->calls[k].arguments, &y->calls[k].arguments, "arguments", name);
            told_expect_same_text(&x->calls[k].signature, &y->calls[k].signature, "signature of a call", name);
            if (x->calls[k].id.len != 0) {
                told_expect_same_text(&x->calls[k].id, &y->calls[k].id, "id", name);
            }
        }
    }
}

#endif
