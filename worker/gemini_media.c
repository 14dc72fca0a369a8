#include "worker/gemini_media.h"

#include <stdio.h>

#include "worker/chat_check.h"

enum { MEDIA_TYPE_BYTES = 96 };

int gemini_media_text(const struct json_doc *doc, int part) {
    int type = json_member(doc, part, "type");
    if (json_string_is(doc, type, "text")) {
        return json_member(doc, part, "text");
    }
    return json_string_is(doc, type, "refusal") ? json_member(doc, part, "refusal") : -1;
}

static bool is_base64(struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' ||
                    c == '/' || c == '-' || c == '_' || c == '=';
        if (!good) {
            return false;
        }
    }
    return text.len != 0;
}

static bool is_media_type(struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    (c != '\0' && strchr("/+-._", c) != NULL);
        if (!good) {
            return false;
        }
    }
    return text.len != 0 && text.len < MEDIA_TYPE_BYTES && memchr(text.base, '/', text.len) != NULL;
}

static void write_inline(struct json_writer *writer, struct span type, struct span data) {
    json_begin_object(writer, NULL);
    json_begin_object(writer, "inlineData");
    json_write_span(writer, "mimeType", type);
    json_write_span(writer, "data", data);
    json_end_object(writer);
    json_end_object(writer);
}

/* data:TYPE[;parameters];base64,DATA */
static bool write_data_uri(struct span uri, const char *param, struct json_writer *writer, struct chat_verdict *wrong) {
    static const char marker[] = ";base64";
    struct span rest = span_skip(uri, strlen("data:"));
    const char *comma = rest.len != 0 ? memchr(rest.base, ',', rest.len) : NULL;
    struct span head = span_of(rest.base, comma != NULL ? (size_t)(comma - rest.base) : 0);
    size_t marker_len = sizeof(marker) - 1;
    bool is_marked = head.len > marker_len && memcmp(head.base + head.len - marker_len, marker, marker_len) == 0;
    const char *semicolon = is_marked ? memchr(head.base, ';', head.len) : head.base;
    struct span type = span_of(head.base, (size_t)(semicolon - head.base));
    struct span data = span_skip(rest, head.len + 1);
    if (!is_marked || !is_media_type(type) || !is_base64(data)) {
        return chat_refuse(wrong, "invalid_value", param, "'%s' must be a data: URI with a media type and base64 data.",
                           param);
    }
    write_inline(writer, type, data);
    return true;
}

/* The media type that an address' ending tells; NULL: it tells none, and the upstream looks for itself. */
static const char *guess_type(struct span uri) {
    static const char *const types[][2] = {
        {".png", "image/png"},  {".jpg", "image/jpeg"},      {".jpeg", "image/jpeg"}, {".webp", "image/webp"},
        {".gif", "image/gif"},  {".heic", "image/heic"},     {".heif", "image/heif"}, {".pdf", "application/pdf"},
        {".txt", "text/plain"}, {".mp3", "audio/mp3"},       {".wav", "audio/wav"},   {".flac", "audio/flac"},
        {".mp4", "video/mp4"},  {".mov", "video/quicktime"}, {".webm", "video/webm"}, {".mpeg", "video/mpeg"},
        {".html", "text/html"}, {".csv", "text/csv"},        {".md", "text/md"},      {".ogg", "audio/ogg"},
        {".aac", "audio/aac"},
    };
    for (size_t i = 0; i < uri.len; i++) {
        if (uri.base[i] == '?' || uri.base[i] == '#') {
            uri.len = i;
        }
    }
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        size_t len = strlen(types[i][0]);
        if (uri.len > len && span_is_nocase(span_of(uri.base + uri.len - len, len), types[i][0])) {
            return types[i][1];
        }
    }
    return NULL;
}

static void write_address(struct json_writer *writer, struct span uri) {
    const char *type = guess_type(uri);
    json_begin_object(writer, NULL);
    json_begin_object(writer, "fileData");
    if (type != NULL) {
        json_write_text(writer, "mimeType", type);
    }
    json_write_span(writer, "fileUri", uri);
    json_end_object(writer);
    json_end_object(writer);
}

/* A string that is a data: URI or an address. */
static bool write_uri(const struct json_doc *doc, int value, const char *param, struct buffer *scratch,
                      struct json_writer *writer, struct chat_verdict *wrong) {
    buffer_clear(scratch);
    struct span uri = json_string(doc, value, scratch) ? buffer_span(scratch) : SPAN_EMPTY;
    if (span_starts_with(uri, "data:")) {
        return write_data_uri(uri, param, writer, wrong);
    }
    if (span_starts_with(uri, "https://") || span_starts_with(uri, "http://") || span_starts_with(uri, "gs://")) {
        write_address(writer, uri);
        return true;
    }
    return chat_refuse(wrong, "invalid_value", param, "'%s' must be a data: URI or an http(s) address.", param);
}

/* {"data": base64, "format": "wav"} */
static bool write_audio(const struct json_doc *doc, int audio, const char *param, struct buffer *scratch,
                        struct json_writer *writer, struct chat_verdict *wrong) {
    char format[16];
    char type[MEDIA_TYPE_BYTES];
    buffer_clear(scratch);
    bool is_good = json_string_copy(doc, json_member(doc, audio, "format"), format, sizeof(format)) &&
                   json_string(doc, json_member(doc, audio, "data"), scratch);
    (void)snprintf(type, sizeof(type), "audio/%s", is_good ? format : "");
    if (!is_good || format[0] == '\0' || !is_media_type(span_text(type)) || !is_base64(buffer_span(scratch))) {
        return chat_refuse(wrong, "invalid_value", param, "'%s' must have base64 'data' and a 'format'.", param);
    }
    write_inline(writer, span_text(type), buffer_span(scratch));
    return true;
}

/* Some clients write the address itself in place of the object that holds it. */
static int find_url(const struct json_doc *doc, int value) {
    return json_type_of(doc, value) == JSON_STRING ? value : json_member(doc, value, "url");
}

bool gemini_media_write(const struct json_doc *doc, int part, const char *param, struct buffer *scratch,
                        struct json_writer *writer, struct chat_verdict *wrong) {
    static const char *const types[] = {"image_url", "video_url", "file", "input_audio"};
    int type = json_member(doc, part, "type");
    char name[CHAT_PARAM_BYTES];
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (!json_string_is(doc, type, types[i])) {
            continue;
        }
        int value = json_member(doc, part, types[i]);
        (void)snprintf(name, sizeof(name), "%s.%s", param, types[i]);
        if (i == 3) {
            return write_audio(doc, value, name, scratch, writer, wrong);
        }
        int data = json_member(doc, value, "file_data");
        int uri = i != 2 ? find_url(doc, value) : data >= 0 ? data : json_member(doc, value, "file_id");
        return write_uri(doc, uri, name, scratch, writer, wrong);
    }
    (void)snprintf(name, sizeof(name), "%s.type", param);
    return chat_refuse(wrong, "invalid_value", name, "'%s' is a type of content that this model does not take.", name);
}
