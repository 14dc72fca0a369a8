/* Scalars as they stand in the file: environment variables, secrets from files, file names. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/conf_lenient.h"

static bool is_variable_character(char c, bool first) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || (!first && c >= '0' && c <= '9');
}

static bool is_variable_name(struct span name) {
    for (size_t i = 0; i < name.len; i++) {
        if (!is_variable_character(name.base[i], i == 0)) {
            return false;
        }
    }
    return name.len != 0 && name.len < CONF_QUOTE_BYTES - 4;
}

/* Appends the variable that `rest` (after "${") names and returns the bytes it takes with its '}', or 0 after a report.
 */
static size_t expand_variable(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *value,
                              struct span rest, struct buffer *out) {
    const char *end = rest.len != 0 ? memchr(rest.base, '}', rest.len) : NULL;
    struct span name = span_of(rest.base, end != NULL ? (size_t)(end - rest.base) : 0);
    if (!is_variable_name(name)) {
        conf_report(reader, place, value, "has a ${ that is no ${NAME} of an environment variable");
        return 0;
    }
    char variable[CONF_QUOTE_BYTES];
    (void)span_copy(name, variable, sizeof(variable));
    const char *content = getenv(variable);
    if (content == NULL && conf_lenient_tolerates(reader)) {
        return 0;
    }
    if (content == NULL) {
        conf_report(reader, place, value, "the environment variable %s is not set; set it or take ${%s} out", variable,
                    variable);
        return 0;
    }
    buffer_append_text(out, content);
    return name.len + 1;
}

static bool expand(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *value,
                   struct buffer *out) {
    struct span rest = value->text;
    while (rest.len != 0) {
        const char *dollar = memmem(rest.base, rest.len, "${", 2);
        size_t before = dollar != NULL ? (size_t)(dollar - rest.base) : rest.len;
        buffer_append(out, rest.base, before);
        rest = span_skip(rest, before);
        if (rest.len != 0) {
            size_t taken = expand_variable(reader, place, value, span_skip(rest, 2), out);
            if (taken == 0) {
                return false;
            }
            rest = span_skip(rest, 2 + taken);
        }
    }
    if (out->failed) {
        conf_report(reader, place, value, "is longer than %d bytes", CONF_VALUE_MOST_BYTES);
    }
    return !out->failed;
}

static bool fill_text(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *value,
                      struct conf_scalar *out) {
    struct buffer expanded;
    buffer_init(&expanded, CONF_VALUE_MOST_BYTES);
    bool done = expand(reader, place, value, &expanded);
    if (done) {
        out->text = span_text(conf_keep(reader, buffer_span(&expanded)));
    }
    if (expanded.base != NULL) {
        explicit_bzero(expanded.base, expanded.size);
    }
    buffer_fini(&expanded);
    return done;
}

static void fill_quote(struct conf_scalar *out) {
    char clean[CONF_QUOTE_BYTES];
    struct buffer quote;
    buffer_init(&quote, sizeof(out->quote) - 1);
    if (out->is_expanded || out->names_file) {
        buffer_append_text(&quote, "this value");
    } else {
        buffer_format(&quote, "\"%s\"", conf_findings_clean(out->text, clean));
    }
    (void)span_copy(buffer_span(&quote), out->quote, sizeof(out->quote));
    buffer_fini(&quote);
}

bool conf_take_scalar(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *value,
                      const char *label, struct conf_scalar *out) {
    *out = (struct conf_scalar){.text = SPAN_EMPTY};
    if (value->kind == CONF_NODE_BROKEN) {
        conf_lenient_drop(reader, place);
        return false;
    }
    if (value->kind != CONF_NODE_SCALAR) {
        conf_report(reader, place, value, "needs %s, not a %s", label,
                    value->kind == CONF_NODE_LIST ? "list" : "mapping");
        return false;
    }
    if (conf_tree_is_null(value)) {
        conf_report(reader, place, value, "has no value; it needs %s", label);
        return false;
    }
    out->is_expanded = value->text.len != 0 && memmem(value->text.base, value->text.len, "${", 2) != NULL;
    out->names_file = span_starts_with(value->text, "file:");
    out->plain = value->plain && !out->is_expanded;
    if (!fill_text(reader, place, value, out)) {
        return false;
    }
    fill_quote(out);
    if (out->text.len == 0 && out->is_expanded && conf_lenient_tolerates(reader)) {
        return false;
    }
    if (out->text.len == 0) {
        conf_report(reader, place, value, "is empty; it needs %s", label);
        return false;
    }
    return true;
}

static struct span without_line_end(struct span text) {
    while (text.len != 0 && (text.base[text.len - 1] == '\n' || text.base[text.len - 1] == '\r')) {
        text.len--;
    }
    return text;
}

/* False with errno set; ENODATA when nothing in the file can be a secret. */
static bool read_secret_file(const char *path, struct buffer *content) {
    if (!conf_read_file(path, CONF_VALUE_MOST_BYTES, false, content)) {
        return false;
    }
    struct span text = without_line_end(buffer_span(content));
    errno = ENODATA;
    return text.len != 0 && memchr(text.base, '\0', text.len) == NULL;
}

static const char *why_unreadable(void) {
    return errno == EFBIG ? "it is too large" : errno == EINVAL ? "it is no regular file" : strerror(errno);
}

static void report_secret_file(struct conf_reader *reader, const struct conf_place *place,
                               const struct conf_node *value) {
    if (errno == ENODATA) {
        conf_report(reader, place, value, "the secret's file is empty or holds a zero byte");
    } else {
        conf_report(reader, place, value, "the secret's file cannot be read: %s", why_unreadable());
    }
}

bool conf_take_secret(struct conf_reader *reader, const struct conf_place *place, const struct conf_node *value,
                      const char *label, struct conf_scalar *out) {
    if (!conf_take_scalar(reader, place, value, label, out)) {
        return false;
    }
    if (!out->names_file) {
        return true;
    }
    const char *path = conf_keep_path(reader, span_skip(out->text, strlen("file:")));
    struct buffer content;
    buffer_init(&content, CONF_VALUE_MOST_BYTES);
    bool done = read_secret_file(path, &content);
    if (done) {
        out->text = span_text(conf_keep(reader, without_line_end(buffer_span(&content))));
    } else if (!conf_lenient_tolerates(reader)) {
        report_secret_file(reader, place, value);
    }
    if (content.base != NULL) {
        explicit_bzero(content.base, content.size);
    }
    buffer_fini(&content);
    return done;
}

char *conf_keep(struct conf_reader *reader, struct span text) {
    char *out = arena_take_or_die(reader->arena, text.len + 1);
    if (text.len != 0) {
        memcpy(out, text.base, text.len);
    }
    return out;
}

char *conf_keep_path(struct conf_reader *reader, struct span path) {
    bool absolute = path.len != 0 && path.base[0] == '/';
    if (absolute || strcmp(reader->directory, ".") == 0) {
        return conf_keep(reader, path);
    }
    char *out = arena_format(reader->arena, "%s/%.*s", reader->directory, SPAN_ARGUMENTS(path));
    CHECK(out != NULL);
    return out;
}

static bool read_all(int fd, size_t most, struct buffer *out) {
    for (;;) {
        char bytes[4096];
        ssize_t got = read(fd, bytes, sizeof(bytes));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got == 0;
        }
        if (out->len + (size_t)got > most) {
            errno = EFBIG;
            return false;
        }
        buffer_append(out, bytes, (size_t)got);
        if (out->failed) {
            errno = ENOMEM;
            return false;
        }
    }
}

bool conf_read_file(const char *path, size_t most, bool any_type, struct buffer *out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (any_type ? 0 : O_NONBLOCK));
    if (fd < 0) {
        return false;
    }
    struct stat info;
    bool done = fstat(fd, &info) == 0;
    if (done && !any_type && !S_ISREG(info.st_mode)) {
        errno = S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
        done = false;
    }
    done = done && read_all(fd, most, out);
    int error = errno;
    close(fd);
    errno = error;
    return done;
}
