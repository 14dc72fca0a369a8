#include "base/json_write.h"

#include "base/money.h"
#include "base/utf8.h"

struct json_writer json_writer_on(struct buffer *out) {
    return (struct json_writer){.out = out, .needs_comma = false};
}

/* The comma before a value when one is due, and the member's name. */
static void begin_value(struct json_writer *writer, const char *name) {
    if (writer->needs_comma) {
        buffer_append_byte(writer->out, ',');
    }
    if (name != NULL) {
        json_quote(writer->out, span_text(name));
        buffer_append_byte(writer->out, ':');
    }
    writer->needs_comma = true;
}

static void begin_container(struct json_writer *writer, const char *name, char bracket) {
    begin_value(writer, name);
    buffer_append_byte(writer->out, bracket);
    writer->needs_comma = false;
}

static void end_container(struct json_writer *writer, char bracket) {
    buffer_append_byte(writer->out, bracket);
    writer->needs_comma = true;
}

void json_begin_object(struct json_writer *writer, const char *name) { begin_container(writer, name, '{'); }

void json_end_object(struct json_writer *writer) { end_container(writer, '}'); }

void json_begin_array(struct json_writer *writer, const char *name) { begin_container(writer, name, '['); }

void json_end_array(struct json_writer *writer) { end_container(writer, ']'); }

void json_write_text(struct json_writer *writer, const char *name, const char *text) {
    if (text == NULL) {
        json_write_null(writer, name);
    } else {
        json_write_span(writer, name, span_text(text));
    }
}

void json_write_span(struct json_writer *writer, const char *name, struct span text) {
    begin_value(writer, name);
    json_quote(writer->out, text);
}

void json_write_int(struct json_writer *writer, const char *name, int64_t value) {
    begin_value(writer, name);
    buffer_format(writer->out, "%lld", (long long)value);
}

void json_write_bool(struct json_writer *writer, const char *name, bool value) {
    begin_value(writer, name);
    buffer_append_text(writer->out, value ? "true" : "false");
}

void json_write_null(struct json_writer *writer, const char *name) {
    begin_value(writer, name);
    buffer_append_text(writer->out, "null");
}

void json_write_nusd(struct json_writer *writer, const char *name, int64_t nusd) {
    char text[NUSD_TEXT_BYTES];
    begin_value(writer, name);
    buffer_append_text(writer->out, money_format(nusd, text));
}

void json_write_price(struct json_writer *writer, const char *name, int64_t nusd) {
    char text[NUSD_TEXT_BYTES];
    begin_value(writer, name);
    buffer_append_text(writer->out, money_format_short(nusd, text));
}

void json_write_raw(struct json_writer *writer, const char *name, struct span json) {
    begin_value(writer, name);
    buffer_append_span(writer->out, json);
}

/* JSON asks for the first 32, quote and backslash only. The rest would pass as JSON but break lines in terminals, logs
 * and scripts: DEL, the C1 controls, and the line and paragraph separators. */
static bool needs_escape(uint32_t character) {
    return character < 0x20 || character == '"' || character == '\\' || (character >= 0x7F && character < 0xA0) ||
           character == 0x2028 || character == 0x2029;
}

static void append_escape(struct buffer *out, uint32_t character) {
    static const char kinds[] = "btn?fr"; /* U+0008 to U+000D; U+000B has no short form */
    if (character == '"' || character == '\\') {
        buffer_append_byte(out, '\\');
        buffer_append_byte(out, (char)character);
    } else if (character >= 0x08 && character <= 0x0D && character != 0x0B) {
        buffer_append_byte(out, '\\');
        buffer_append_byte(out, kinds[character - 0x08]);
    } else {
        buffer_format(out, "\\u%04x", (unsigned)character);
    }
}

/* How many bytes at the start of text can be copied as they are. */
static size_t measure_plain(struct span text) {
    size_t at = 0;
    while (at < text.len) {
        unsigned char c = (unsigned char)text.base[at];
        if (c >= 0x20 && c < 0x7F) {
            if (c == '"' || c == '\\') {
                break;
            }
            at++;
            continue;
        }
        struct span rest = span_skip(text, at);
        size_t len = utf8_length(rest);
        if (len == 0 || needs_escape(utf8_decode(rest))) {
            break;
        }
        at += len;
    }
    return at;
}

void json_quote(struct buffer *out, struct span text) {
    buffer_append_byte(out, '"');
    while (text.len != 0 && !out->failed) {
        size_t plain = measure_plain(text);
        buffer_append(out, text.base, plain);
        text = span_skip(text, plain);
        if (text.len == 0) {
            break;
        }
        size_t len = utf8_length(text);
        if (len == 0) {
            buffer_append_text(out, "\xEF\xBF\xBD");
        } else {
            append_escape(out, utf8_decode(text));
        }
        text = span_skip(text, len != 0 ? len : 1);
    }
    buffer_append_byte(out, '"');
}
