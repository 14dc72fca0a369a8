#include "worker/sse.h"

/* How far find_line_end looks for one kind of line end before it looks for the other. */
enum { EOL_WINDOW_BYTES = 512 };
enum { BOM_BYTES = 3, BOM_OVER = 4 };
/* Gathering memory beyond this is given back before the next event. */
enum { KEPT_BYTES = 16 * 1024 };

static const char bom[BOM_BYTES] = {'\xEF', '\xBB', '\xBF'};

void sse_init(struct sse_splitter *splitter, size_t cap_bytes) {
    *splitter = (struct sse_splitter){.cap_bytes = cap_bytes};
    /* Room for the blank line that sse_finish and a cut CRLF add. */
    buffer_init(&splitter->gathered, cap_bytes + 4);
    buffer_init(&splitter->joined, cap_bytes);
}

void sse_fini(struct sse_splitter *splitter) {
    buffer_fini(&splitter->gathered);
    buffer_fini(&splitter->joined);
}

/* Where the first CR or LF of text stands, or text.len. */
static size_t find_line_end(struct span text) {
    for (size_t at = 0; at < text.len; at += EOL_WINDOW_BYTES) {
        size_t window = text.len - at < EOL_WINDOW_BYTES ? text.len - at : EOL_WINDOW_BYTES;
        const char *lf = memchr(text.base + at, '\n', window);
        const char *cr = memchr(text.base + at, '\r', lf != NULL ? (size_t)(lf - text.base) - at : window);
        if (cr != NULL || lf != NULL) {
            return (size_t)((cr != NULL ? cr : lf) - text.base);
        }
    }
    return text.len;
}

/* How many bytes the line end at `at` has; 0 when there is none. A CR that ends the text counts as one. */
static size_t line_end_bytes(struct span text, size_t at) {
    if (at == text.len) {
        return 0;
    }
    return text.base[at] == '\r' && at + 1 < text.len && text.base[at + 1] == '\n' ? 2 : 1;
}

/* Takes the byte order mark, whole or its next part, off the front. When its first bytes came and the rest did not,
 * they are text and go into gathered. */
static void drop_bom(struct sse_splitter *splitter, struct span *input) {
    while (splitter->bom_bytes < BOM_BYTES && input->len != 0) {
        if (input->base[0] != bom[splitter->bom_bytes]) {
            if (splitter->bom_bytes != 0) {
                buffer_append(&splitter->gathered, bom, splitter->bom_bytes);
                splitter->line_has_bytes = true;
                splitter->block_has_bytes = true;
            }
            splitter->bom_bytes = BOM_OVER;
            return;
        }
        splitter->bom_bytes++;
        *input = span_skip(*input, 1);
    }
}

/* Prepares for the next block once the last one was handed out. */
static void start_block(struct sse_splitter *splitter) {
    if (splitter->gathered.size > KEPT_BYTES) {
        buffer_fini(&splitter->gathered);
    }
    buffer_clear(&splitter->gathered);
    if (splitter->joined.size > KEPT_BYTES) {
        buffer_fini(&splitter->joined);
    }
    splitter->line_has_bytes = false;
    splitter->block_has_bytes = false;
    splitter->ends_crlf = false;
    splitter->is_delivered = false;
}

/* Consumes what can follow a block without belonging to the next: the LF of a CRLF cut in two, and blank lines. */
static void skip_between_blocks(struct sse_splitter *splitter, struct span *input) {
    if (splitter->skip_lf && input->len != 0) {
        splitter->skip_lf = false;
        if (input->base[0] == '\n') {
            *input = span_skip(*input, 1);
        }
    }
    while (!splitter->block_has_bytes && input->len != 0 && (input->base[0] == '\n' || input->base[0] == '\r')) {
        size_t bytes = line_end_bytes(*input, 0);
        splitter->skip_lf = input->base[0] == '\r' && bytes == 1 && input->len == 1;
        *input = span_skip(*input, bytes);
    }
}

/* Walks the lines of input, going on where the last piece stopped. Returns how many bytes belong to the block when its
 * blank line is reached, else 0; the state then says how the piece ends. */
static size_t find_block_end(struct sse_splitter *splitter, struct span input) {
    size_t at = 0;
    while (at < input.len) {
        if (splitter->skip_lf) {
            splitter->skip_lf = false;
            if (input.base[at] == '\n') {
                splitter->ends_crlf = true;
                at++;
                continue;
            }
        }
        size_t length = find_line_end(span_skip(input, at));
        size_t end_bytes = line_end_bytes(input, at + length);
        splitter->line_has_bytes |= length != 0;
        splitter->block_has_bytes |= length != 0;
        at += length + end_bytes;
        if (end_bytes == 0) {
            return 0;
        }
        splitter->skip_lf = end_bytes == 1 && input.base[at - 1] == '\r' && at == input.len;
        if (!splitter->line_has_bytes) {
            return at;
        }
        splitter->line_has_bytes = false;
        splitter->ends_crlf = end_bytes == 2;
    }
    return 0;
}

/* Adds one data line's value to the event: the first points into the block, more are joined. */
static void add_data(struct sse_splitter *splitter, struct span value, struct sse_event *out) {
    if (!out->has_data) {
        out->has_data = true;
        out->data_in_raw = true;
        out->data = value;
        return;
    }
    if (out->data_in_raw) {
        out->data_in_raw = false;
        buffer_clear(&splitter->joined);
        buffer_append_span(&splitter->joined, out->data);
    }
    buffer_append_byte(&splitter->joined, '\n');
    buffer_append_span(&splitter->joined, value);
}

static void read_line(struct sse_splitter *splitter, struct span line, struct sse_event *out) {
    if (line.base[0] == ':') {
        return;
    }
    out->is_comment_only = false;
    const char *colon = memchr(line.base, ':', line.len);
    struct span name = span_of(line.base, colon != NULL ? (size_t)(colon - line.base) : line.len);
    struct span value = span_skip(line, name.len + 1);
    if (value.len != 0 && value.base[0] == ' ') {
        value = span_skip(value, 1);
    }
    if (span_equals(name, SPAN_LITERAL("data"))) {
        add_data(splitter, value, out);
    } else if (span_equals(name, SPAN_LITERAL("event"))) {
        out->name = value;
    }
}

static enum sse_result read_block(struct sse_splitter *splitter, struct span block, struct sse_event *out) {
    *out = (struct sse_event){.raw = block, .is_comment_only = true};
    for (size_t at = 0; at < block.len;) {
        size_t length = find_line_end(span_skip(block, at));
        if (length != 0) {
            read_line(splitter, span_of(block.base + at, length), out);
        }
        at += length + line_end_bytes(block, at + length);
    }
    if (out->has_data && !out->data_in_raw) {
        out->data = buffer_span(&splitter->joined);
    }
    splitter->is_delivered = true;
    splitter->block_has_bytes = false;
    splitter->is_too_long |= splitter->joined.failed;
    return splitter->is_too_long ? SSE_TOO_LONG : SSE_EVENT;
}

/* Keeps a part of a block for later; false when the event becomes too long. */
static bool gather(struct sse_splitter *splitter, struct span part) {
    if (part.len > splitter->cap_bytes || splitter->gathered.len > splitter->cap_bytes - part.len) {
        splitter->is_too_long = true;
        return false;
    }
    if (part.len != 0) { /* appending nothing would allocate */
        buffer_append_span(&splitter->gathered, part);
    }
    splitter->is_too_long |= splitter->gathered.failed;
    return !splitter->is_too_long;
}

enum sse_result sse_next(struct sse_splitter *splitter, struct span *input, struct sse_event *out) {
    if (splitter->is_too_long) {
        return SSE_TOO_LONG;
    }
    if (input->len == 0) {
        return SSE_NEED_MORE;
    }
    if (splitter->is_delivered) {
        start_block(splitter);
    }
    if (splitter->bom_bytes < BOM_BYTES) {
        drop_bom(splitter, input);
    }
    if (!splitter->block_has_bytes) {
        skip_between_blocks(splitter, input);
    }
    size_t end = find_block_end(splitter, *input);
    struct span part = span_of(input->base, end != 0 ? end : input->len);
    *input = span_skip(*input, part.len);
    /* The blank line's CRLF was cut after its CR: the event goes out now, with the LF that is on its way. */
    bool is_cut = end != 0 && splitter->skip_lf && splitter->ends_crlf;
    if (end != 0 && splitter->gathered.len == 0 && !is_cut) {
        splitter->is_too_long = part.len > splitter->cap_bytes;
        return splitter->is_too_long ? SSE_TOO_LONG : read_block(splitter, part, out);
    }
    if (!gather(splitter, part)) {
        return SSE_TOO_LONG;
    }
    if (end == 0) {
        return SSE_NEED_MORE;
    }
    if (is_cut) {
        buffer_append_byte(&splitter->gathered, '\n');
    }
    return read_block(splitter, buffer_span(&splitter->gathered), out);
}

bool sse_finish(struct sse_splitter *splitter, struct sse_event *out) {
    if (splitter->is_too_long || splitter->is_delivered || !splitter->block_has_bytes) {
        return false;
    }
    const char *line_end = splitter->ends_crlf ? "\r\n" : "\n";
    if (splitter->line_has_bytes) {
        buffer_append_text(&splitter->gathered, line_end);
    } else if (splitter->skip_lf) {
        line_end = "\r"; /* after a CR an LF would end the same line, not the next */
    }
    buffer_append_text(&splitter->gathered, line_end);
    if (splitter->gathered.failed || read_block(splitter, buffer_span(&splitter->gathered), out) != SSE_EVENT) {
        return false;
    }
    out->is_unterminated = true;
    return true;
}
