#include "worker/gemini_request.h"

#include "base/json_write.h"
#include "worker/gemini_contents.h"
#include "worker/gemini_settings.h"

bool gemini_request_write(const struct json_doc *doc, const struct chat_rewrite *rewrite, struct buffer *out,
                          struct chat_verdict *wrong) {
    char model[CHAT_MODEL_BYTES] = "";
    *wrong = (struct chat_verdict){0};
    if (rewrite->model != NULL) {
        (void)span_copy(span_text(rewrite->model), model, sizeof(model));
    } else {
        (void)!json_string_copy(doc, json_member(doc, 0, "model"), model, sizeof(model));
    }
    const struct gemini_generation generation = gemini_generation_of(model);
    struct json_writer writer = json_writer_on(out);
    json_begin_object(&writer, NULL);
    if (!gemini_contents_write(doc, generation.major >= 3, &writer, wrong) ||
        !gemini_settings_write(doc, &generation, rewrite->max_tokens, &writer, wrong)) {
        return false;
    }
    json_end_object(&writer);
    return !out->failed;
}

static bool is_plain(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.' || c == '~';
}

bool gemini_request_path(const char *model, bool stream, struct buffer *out) {
    struct span name = span_text(model);
    bool has_kind = span_starts_with(name, "models/") || span_starts_with(name, "tunedModels/");
    const char *slash = has_kind ? memchr(name.base, '/', name.len) : NULL;
    buffer_append_text(out, has_kind ? "/" : "/models/");
    for (size_t i = 0; i < name.len; i++) {
        if (is_plain(name.base[i]) || name.base + i == slash) {
            buffer_append_byte(out, name.base[i]);
        } else {
            buffer_format(out, "%%%02X", (unsigned)(unsigned char)name.base[i]);
        }
    }
    buffer_append_text(out, stream ? ":streamGenerateContent?alt=sse" : ":generateContent");
    return !out->failed;
}
