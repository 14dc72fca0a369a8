#include "base/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json_write.h"
#include "base/money.h"
#include "base/utf8.h"

enum {
    LINE_MOST_BYTES = 8192, /* newline included */
    ROLE_BYTES = 32,
    TIME_BYTES = 32,
    NAME_MOST_BYTES = 64,
};

static const char cut_text[] = " cut=true";
static const char cut_json[] = ",\"cut\":true";
enum { TAIL_BYTES = sizeof(cut_json) + 1 }; /* the longer mark, the brace and the newline */

static struct {
    enum log_level level;
    enum log_format format;
    int fd;
    bool torn; /* the last line went out in part: the next begins with a newline */
    char role[ROLE_BYTES];
} log_state = {.level = LOG_INFO, .format = LOG_TEXT_FORMAT, .fd = STDERR_FILENO, .role = "tollgate"};

static _Atomic int64_t dropped_lines;

void log_set_up(enum log_level level, enum log_format format, const char *role) {
    log_state.level = level;
    log_state.format = format;
    struct span shown = utf8_cut(span_text(role), sizeof(log_state.role) - 1);
    (void)span_copy(shown, log_state.role, sizeof(log_state.role));
}

void log_set_descriptor(int fd) {
    log_state.fd = fd;
    log_state.torn = false;
}

bool log_enabled(enum log_level level) { return level <= log_state.level; }

int64_t log_dropped_lines(void) { return atomic_load_explicit(&dropped_lines, memory_order_relaxed); }

static const char *name_level(enum log_level level) {
    switch (level) {
    case LOG_ERROR:
        return "error";
    case LOG_WARN:
        return "warn";
    case LOG_INFO:
        return "info";
    case LOG_DEBUG:
        break;
    }
    return "debug";
}

/* Lines carry UTC whatever zone reports use. */
static void format_time(char out[static TIME_BYTES]) {
    int64_t wall_ns = clock_wall_ns();
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm tm;
    size_t len = gmtime_r(&seconds, &tm) != NULL ? strftime(out, TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &tm) : 0;
    (void)snprintf(out + len, TIME_BYTES - len, ".%03dZ", (int)(wall_ns % NS_PER_S / NS_PER_MS));
}

/* Names are literals; should one ever hold something else, it still cannot break the line apart. */
static void append_name(struct buffer *out, const char *name) {
    struct span text = utf8_cut(span_text(name), NAME_MOST_BYTES);
    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];
        bool plain =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("_-.:", c) != NULL;
        buffer_append_byte(out, plain && c != '\0' ? c : '_');
    }
}

static bool needs_quotes(struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];
        if (c <= ' ' || c >= 0x7F || c == '"' || c == '\\' || c == '=') {
            return true;
        }
    }
    return text.len == 0;
}

static void append_text_value(struct buffer *out, struct span text) {
    if (needs_quotes(text)) {
        json_quote(out, text);
    } else {
        buffer_append_span(out, text);
    }
}

static void append_field(struct buffer *out, const struct log_field *field, struct span text) {
    char money[NUSD_TEXT_BYTES];
    bool json = log_state.format == LOG_JSON_FORMAT;
    buffer_append_text(out, json ? ",\"" : " ");
    append_name(out, field->name);
    buffer_append_text(out, json ? "\":" : "=");
    switch (field->kind) {
    case LOG_FIELD_INT:
        buffer_format(out, "%lld", (long long)field->number);
        break;
    case LOG_FIELD_NUSD:
        buffer_append_text(out, money_format(field->number, money));
        break;
    case LOG_FIELD_TEXT:
        if (json) {
            json_quote(out, text);
        } else {
            append_text_value(out, text);
        }
        break;
    }
}

/* Appends a field so that out holds at most `most` bytes, shortening its text as needed. Returns false when something
 * was left out. */
static bool append_field_within(struct buffer *out, const struct log_field *field, size_t most) {
    size_t before = out->len;
    bool is_text = field->kind == LOG_FIELD_TEXT;
    struct span text = is_text ? utf8_cut(field->text, LINE_MOST_BYTES) : SPAN_EMPTY;
    append_field(out, field, text);
    while (out->len > most && text.len != 0) {
        size_t room = most > before ? most - before : 0;
        text = utf8_cut(text, text.len * room / (out->len - before)); /* always shorter than it was */
        buffer_truncate(out, before);
        append_field(out, field, text);
    }
    if (out->len > most) {
        buffer_truncate(out, before);
        return false;
    }
    return !is_text || text.len == field->text.len;
}

static void append_head(struct buffer *out, enum log_level level, const char *event) {
    char when[TIME_BYTES];
    format_time(when);
    if (log_state.format == LOG_JSON_FORMAT) {
        struct json_writer writer = json_writer_on(out);
        json_begin_object(&writer, NULL);
        json_write_text(&writer, "time", when);
        json_write_text(&writer, "level", name_level(level));
        json_write_text(&writer, "role", log_state.role);
        json_write_int(&writer, "pid", getpid());
        buffer_append_text(out, ",\"event\":\"");
        append_name(out, event);
        buffer_append_text(out, "\"");
    } else {
        buffer_format(out, "%s %s %s[%d] ", when, name_level(level), log_state.role, (int)getpid());
        append_name(out, event);
    }
}

void log_render(struct buffer *out, enum log_level level, const char *event, const struct log_field *fields,
                size_t count) {
    bool json = log_state.format == LOG_JSON_FORMAT;
    size_t most = out->len + LINE_MOST_BYTES - TAIL_BYTES;
    bool whole = true;
    append_head(out, level, event);
    for (size_t i = 0; i < count && whole; i++) {
        whole = append_field_within(out, &fields[i], most);
    }
    if (!whole) {
        buffer_append_text(out, json ? cut_json : cut_text);
    }
    buffer_append_text(out, json ? "}\n" : "\n");
}

static void count_dropped(void) { (void)atomic_fetch_add_explicit(&dropped_lines, 1, memory_order_relaxed); }

/* One write a line. A pipe that takes only a part of it has lost the line; the newline that is missing goes out with
 * the next. */
static void write_line(struct span line) {
    ssize_t written = -1;
    do {
        written = write(log_state.fd, line.base, line.len);
    } while (written < 0 && errno == EINTR);
    if (written < 0) {
        count_dropped();
        return;
    }
    log_state.torn = (size_t)written < line.len;
    if (log_state.torn) {
        count_dropped();
    }
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count) {
    if (!log_enabled(level)) {
        return;
    }
    int saved_errno = errno;
    struct buffer line;
    buffer_init(&line, (size_t)16 * LINE_MOST_BYTES);
    if (log_state.torn) {
        buffer_append_byte(&line, '\n');
    }
    log_render(&line, level, event, fields, count);
    if (line.failed) {
        count_dropped();
    } else {
        write_line(buffer_span(&line));
    }
    buffer_fini(&line);
    errno = saved_errno;
}
