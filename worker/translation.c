#include "worker/translation.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "worker/answer_told.h"
#include "worker/chat_writer.h"
#include "worker/messages_writer.h"

struct translation {
    enum translation_form form;
    union {
        struct chat_writer chat;
        struct messages_writer messages;
    } writer;
    struct answer_told told;
    struct answer_sink sink;
    struct buffer out;
    bool failed;
};

static void on_part(void *context, const struct answer_part *part) {
    struct translation *translation = context;
    bool good = translation->form == TRANSLATION_CHAT
                    ? chat_writer_part(&translation->writer.chat, part, &translation->out)
                    : messages_writer_part(&translation->writer.messages, part, &translation->out);
    translation->failed |= !good;
}

struct translation *translation_new(const struct translation_spec *spec) {
    char id[CHAT_WRITER_ID_BYTES];
    struct translation *translation = calloc(1, sizeof(*translation));
    if (translation == NULL) {
        return NULL;
    }
    translation->form = spec->form;
    translation->sink = (struct answer_sink){.on_part = on_part, .context = translation, .told = &translation->told};
    answer_told_init(&translation->told);
    buffer_init(&translation->out, spec->cap_bytes);
    if (spec->form == TRANSLATION_CHAT) {
        (void)snprintf(id, sizeof(id), "chatcmpl-%.50s", spec->request_id);
        chat_writer_init(&translation->writer.chat, id, spec->model, clock_wall_ns() / NS_PER_S, spec->reasoning_format,
                         !spec->is_stream, spec->cap_bytes);
    } else {
        (void)snprintf(id, sizeof(id), "msg_%.50s", spec->request_id);
        messages_writer_init(&translation->writer.messages, id, spec->model, spec->input_tokens, spec->is_stream,
                             spec->cap_bytes);
    }
    return translation;
}

void translation_free(struct translation *translation) {
    if (translation == NULL) {
        return;
    }
    if (translation->form == TRANSLATION_CHAT) {
        chat_writer_fini(&translation->writer.chat);
    } else {
        messages_writer_free(&translation->writer.messages);
    }
    buffer_fini(&translation->out);
    free(translation);
}

const struct answer_sink *translation_sink(struct translation *translation) {
    buffer_clear(&translation->out);
    return &translation->sink;
}

struct span translation_take(struct translation *translation) {
    return buffer_span(&translation->out);
}

bool translation_failed(const struct translation *translation) {
    return translation->failed || translation->out.failed;
}

bool translation_end(struct translation *translation, enum answer_finish finish, bool with_usage,
                     const struct token_counts *tokens, int64_t cost_nusd) {
    bool good =
        translation->form == TRANSLATION_CHAT
            ? chat_writer_end(&translation->writer.chat, finish, with_usage, tokens, cost_nusd, &translation->out)
            : messages_writer_end(&translation->writer.messages, finish, tokens, &translation->out);
    return good && !translation_failed(translation);
}

bool translation_write_whole(struct translation *translation, const struct token_counts *tokens, struct buffer *out) {
    bool good = translation->form == TRANSLATION_CHAT
                    ? chat_writer_write_whole(&translation->writer.chat, tokens, -1, out)
                    : messages_writer_write_whole(&translation->writer.messages, tokens, out);
    return good && !translation_failed(translation);
}
