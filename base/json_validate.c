#include "base/json_validate.h"

#include <limits.h>

#include "base/json_read.h"
#include "base/utf8.h"

enum expectation { WANT_VALUE, WANT_VALUE_OR_END, WANT_NAME, WANT_NAME_OR_END, WANT_COMMA_OR_END };

struct scan {
    const char *at;
    const char *end;
    const char *error;
    int tokens;
    int depth;
    enum expectation want;
    bool in_object[JSON_DEPTH_MOST]; /* for each open container: is it an object? */
};

static bool refuse(struct scan *scan, const char *error) {
    scan->error = error;
    return false;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

static void skip_space(struct scan *scan) {
    while (scan->at < scan->end && (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\t' || *scan->at == '\r')) {
        scan->at++;
    }
}

static bool count_token(struct scan *scan) {
    return ++scan->tokens <= JSON_TOKENS_MOST ? true : refuse(scan, "too many values");
}

static bool scan_escape(struct scan *scan) {
    if (scan->end - scan->at < 2) {
        return refuse(scan, "the string does not end");
    }
    char kind = scan->at[1];
    if (kind == '\0' || strchr("\"\\/bfnrtu", kind) == NULL) {
        return refuse(scan, "unknown escape in a string");
    }
    if (kind != 'u') {
        scan->at += 2;
        return true;
    }
    for (int i = 2; i < 6; i++) {
        if (scan->end - scan->at <= i || !is_hex(scan->at[i])) {
            return refuse(scan, "a \\u escape needs four hexadecimal digits");
        }
    }
    scan->at += 6;
    return true;
}

/* Anything in a string that is not a plain ASCII character. */
static bool scan_special(struct scan *scan) {
    unsigned char c = (unsigned char)*scan->at;
    if (c == '\\') {
        return scan_escape(scan);
    }
    if (c < 0x20) {
        return refuse(scan, "control character in a string (it must be escaped)");
    }
    size_t len = utf8_length(span_of(scan->at, (size_t)(scan->end - scan->at)));
    if (len == 0) {
        return refuse(scan, "invalid UTF-8");
    }
    scan->at += len;
    return true;
}

static bool is_plain(char c) { return c >= 0x20 && c < 0x7F && c != '"' && c != '\\'; }

static bool scan_string(struct scan *scan) {
    scan->at++;
    while (scan->at < scan->end) {
        if (is_plain(*scan->at)) {
            scan->at++;
        } else if (*scan->at == '"') {
            scan->at++;
            return count_token(scan);
        } else if (!scan_special(scan)) {
            return false;
        }
    }
    return refuse(scan, "the string does not end");
}

static bool scan_digits(struct scan *scan) {
    if (scan->at == scan->end || !is_digit(*scan->at)) {
        return refuse(scan, "malformed number");
    }
    while (scan->at < scan->end && is_digit(*scan->at)) {
        scan->at++;
    }
    return true;
}

static bool scan_number(struct scan *scan) {
    scan->at += *scan->at == '-' ? 1 : 0;
    if (scan->at < scan->end && *scan->at == '0') {
        scan->at++;
        if (scan->at < scan->end && is_digit(*scan->at)) {
            return refuse(scan, "a number has a leading zero");
        }
    } else if (!scan_digits(scan)) {
        return false;
    }
    if (scan->at < scan->end && *scan->at == '.') {
        scan->at++;
        if (!scan_digits(scan)) {
            return false;
        }
    }
    if (scan->at < scan->end && (*scan->at == 'e' || *scan->at == 'E')) {
        scan->at++;
        if (scan->at < scan->end && (*scan->at == '+' || *scan->at == '-')) {
            scan->at++;
        }
        if (!scan_digits(scan)) {
            return false;
        }
    }
    return count_token(scan);
}

static bool scan_literal(struct scan *scan, const char *literal) {
    if (!span_starts_with(span_of(scan->at, (size_t)(scan->end - scan->at)), literal)) {
        return refuse(scan, "expected a value");
    }
    scan->at += strlen(literal);
    return count_token(scan);
}

static bool open_container(struct scan *scan, bool object) {
    if (scan->depth == JSON_DEPTH_MOST) {
        return refuse(scan, "nested too deeply");
    }
    scan->in_object[scan->depth++] = object;
    scan->at++;
    scan->want = object ? WANT_NAME_OR_END : WANT_VALUE_OR_END;
    return count_token(scan);
}

static bool close_container(struct scan *scan) {
    scan->depth--;
    scan->at++;
    scan->want = WANT_COMMA_OR_END;
    return true;
}

static bool scan_value(struct scan *scan) {
    enum expectation want = scan->want;
    scan->want = WANT_COMMA_OR_END;
    switch (*scan->at) {
    case '{':
        return open_container(scan, true);
    case '[':
        return open_container(scan, false);
    case ']':
        return want == WANT_VALUE_OR_END ? close_container(scan) : refuse(scan, "expected a value");
    case '"':
        return scan_string(scan);
    case 't':
        return scan_literal(scan, "true");
    case 'f':
        return scan_literal(scan, "false");
    case 'n':
        return scan_literal(scan, "null");
    default:
        return is_digit(*scan->at) || *scan->at == '-' ? scan_number(scan) : refuse(scan, "expected a value");
    }
}

/* A member name and its colon. */
static bool scan_name(struct scan *scan) {
    if (*scan->at == '}' && scan->want == WANT_NAME_OR_END) {
        return close_container(scan);
    }
    if (*scan->at != '"') {
        return refuse(scan, "expected a member name in double quotes");
    }
    if (!scan_string(scan)) {
        return false;
    }
    skip_space(scan);
    if (scan->at == scan->end || *scan->at != ':') {
        return refuse(scan, "expected a colon after a member name");
    }
    scan->at++;
    scan->want = WANT_VALUE;
    return true;
}

static bool scan_separator(struct scan *scan) {
    bool object = scan->in_object[scan->depth - 1];
    if (*scan->at == ',') {
        scan->at++;
        scan->want = object ? WANT_NAME : WANT_VALUE;
        return true;
    }
    if (*scan->at == (object ? '}' : ']')) {
        return close_container(scan);
    }
    return refuse(scan,
                  object ? "expected a comma or the end of the object" : "expected a comma or the end of the array");
}

static bool scan_step(struct scan *scan) {
    switch (scan->want) {
    case WANT_VALUE:
    case WANT_VALUE_OR_END:
        return scan_value(scan);
    case WANT_NAME:
    case WANT_NAME_OR_END:
        return scan_name(scan);
    case WANT_COMMA_OR_END:
        break;
    }
    return scan_separator(scan);
}

static bool scan_document(struct scan *scan) {
    for (;;) {
        skip_space(scan);
        bool complete = scan->depth == 0 && scan->want == WANT_COMMA_OR_END;
        if (scan->at == scan->end) {
            return complete ? true : refuse(scan, scan->tokens == 0 ? "empty" : "ends too early");
        }
        if (complete) {
            return refuse(scan, "more text after the end of the value");
        }
        if (!scan_step(scan)) {
            return false;
        }
    }
}

bool json_validate(struct span text, struct json_findings *findings) {
    struct scan scan = {.want = WANT_VALUE};
    bool valid = false;
    if (text.len == 0) {
        (void)refuse(&scan, "empty");
    } else if (text.len >= INT_MAX) {
        (void)refuse(&scan, "too long");
    } else {
        scan.at = text.base;
        scan.end = text.base + text.len;
        valid = scan_document(&scan);
    }
    findings->tokens = scan.tokens;
    findings->error = scan.error;
    findings->error_at = scan.at != NULL ? (size_t)(scan.at - text.base) : 0;
    return valid;
}
