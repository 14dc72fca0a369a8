#include "worker/json_scan.h"

struct json_scan json_scan_of(struct span text) {
    return (struct json_scan){.at = text.base, .end = text.len != 0 ? text.base + text.len : text.base};
}

static bool fail(struct json_scan *scan) {
    scan->bad = true;
    scan->at = scan->end;
    return false;
}

char json_scan_peek(struct json_scan *scan) {
    while (scan->at != scan->end && (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t')) {
        scan->at++;
    }
    return scan->at != scan->end ? *scan->at : '\0';
}

/* Is the quote at `quote` escaped by an odd run of backslashes that begins no earlier than `from`? */
static bool is_escaped(const char *from, const char *quote) {
    const char *backslash = quote;
    while (backslash != from && backslash[-1] == '\\') {
        backslash--;
    }
    return ((quote - backslash) & 1) != 0;
}

/* Moves behind the string that begins at the cursor. */
static bool pass_string(struct json_scan *scan) {
    const char *inside = scan->at + 1;
    const char *search = inside;
    for (;;) {
        const char *quote = memchr(search, '"', (size_t)(scan->end - search));
        if (quote == NULL) {
            return fail(scan);
        }
        search = quote + 1;
        if (!is_escaped(inside, quote)) {
            scan->at = search;
            return true;
        }
    }
}

bool json_scan_string(struct json_scan *scan, struct span *inside) {
    if (json_scan_peek(scan) != '"') {
        return false;
    }
    const char *from = scan->at + 1;
    if (!pass_string(scan)) {
        return false;
    }
    *inside = span_of(from, (size_t)(scan->at - from) - 1);
    return true;
}

bool json_scan_enter(struct json_scan *scan, char opening) {
    if (json_scan_peek(scan) != opening) {
        return false;
    }
    scan->at++;
    return true;
}

/* Between two values of a container: consumes the comma, or the closing bracket and returns false. The first value has
 * no comma before it: then the cursor stands right behind the opening bracket, white space aside. */
static bool pass_separator(struct json_scan *scan, char opening, char closing) {
    const char *before = scan->at;
    char next = json_scan_peek(scan);
    if (next == closing) {
        scan->at++;
        return false;
    }
    if (before[-1] == opening) {
        return next != '\0' || fail(scan);
    }
    if (next != ',') {
        return fail(scan);
    }
    scan->at++;
    next = json_scan_peek(scan);
    return (next != '\0' && next != ',' && next != closing) || fail(scan);
}

bool json_scan_member(struct json_scan *scan, struct span *name) {
    if (scan->bad || !pass_separator(scan, '{', '}')) {
        return false;
    }
    if (!json_scan_string(scan, name) || json_scan_peek(scan) != ':') {
        return fail(scan);
    }
    scan->at++;
    return true;
}

bool json_scan_element(struct json_scan *scan) { return !scan->bad && pass_separator(scan, '[', ']'); }

static bool is_scalar_byte(char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '+' || byte == '.' ||
           byte == 'E';
}

/* Moves behind a number or a literal. */
static bool pass_scalar(struct json_scan *scan) {
    const char *from = scan->at;
    while (scan->at != scan->end && is_scalar_byte(*scan->at)) {
        scan->at++;
    }
    return scan->at != from || fail(scan);
}

/* Moves behind an object or array, whatever its depth; only the count of open brackets is looked at. */
static bool pass_container(struct json_scan *scan) {
    size_t depth = 0;
    while (scan->at != scan->end) {
        char byte = *scan->at;
        if (byte == '"') {
            if (!pass_string(scan)) {
                return false;
            }
            continue;
        }
        scan->at++;
        if (byte == '{' || byte == '[') {
            depth++;
        } else if ((byte == '}' || byte == ']') && --depth == 0) {
            return true;
        }
    }
    return fail(scan);
}

struct span json_scan_skip(struct json_scan *scan) {
    char next = json_scan_peek(scan);
    const char *from = scan->at;
    bool passed = !scan->bad && (next == '"'                  ? pass_string(scan)
                                 : next == '{' || next == '[' ? pass_container(scan)
                                                              : pass_scalar(scan));
    return passed ? span_of(from, (size_t)(scan->at - from)) : SPAN_EMPTY;
}

bool json_scan_is_over(struct json_scan *scan) {
    return !scan->bad && json_scan_peek(scan) == '\0' && scan->at == scan->end;
}

size_t json_scan_depth(struct span json) {
    struct json_scan scan = json_scan_of(json);
    size_t depth = 0;
    size_t deepest = 0;
    while (!scan.bad && scan.at != scan.end) {
        char byte = *scan.at;
        if (byte == '"') {
            (void)pass_string(&scan);
            continue;
        }
        scan.at++;
        if (byte == '{' || byte == '[') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if ((byte == '}' || byte == ']') && depth != 0) {
            depth--;
        }
    }
    return deepest;
}
