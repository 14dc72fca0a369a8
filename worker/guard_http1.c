#include "worker/guard_http1.h"

#include <string.h>

enum {
    METHOD_BYTES_MOST = 32,
    CHUNK_EXTENSION_BYTES_MOST = 256,
    CHUNK_SIZE_DIGITS_MOST = 15,
    LENGTH_DIGITS_MOST = 18,
};

enum state {
    STATE_START,
    STATE_EMPTY_LINE_LF,
    STATE_METHOD,
    STATE_TARGET_FIRST,
    STATE_TARGET,
    STATE_TARGET_STAR,
    STATE_VERSION,
    STATE_VERSION_MINOR,
    STATE_REQUEST_LINE_CR,
    STATE_REQUEST_LINE_LF,
    STATE_LINE_FIRST, /* the first header line: may not be folded either */
    STATE_LINE,
    STATE_NAME,
    STATE_VALUE_SPACE,
    STATE_VALUE,
    STATE_VALUE_LF,
    STATE_HEAD_LF,
    STATE_BODY,
    STATE_CHUNK_SIZE_FIRST,
    STATE_CHUNK_SIZE,
    STATE_CHUNK_EXTENSION,
    STATE_CHUNK_SIZE_LF,
    STATE_CHUNK_DATA,
    STATE_CHUNK_DATA_CR,
    STATE_CHUNK_DATA_LF,
    STATE_TRAILER_LINE,
    STATE_TRAILER_TEXT,
    STATE_TRAILER_TEXT_LF,
    STATE_TRAILER_END_LF,
    STATE_UPGRADING,
    STATE_REFUSED,
};

enum header { HEADER_OTHER, HEADER_HOST, HEADER_LENGTH, HEADER_ENCODING, HEADER_UPGRADE };

#define BAD_REQUEST(text)                                                                                              \
    { 400, "invalid_request_error", "invalid_value", text }
#define TOO_LARGE(text)                                                                                                \
    { 431, "invalid_request_error", "invalid_value", text }

static const struct guard_refusal refuse_line = BAD_REQUEST("The request line is not METHOD TARGET HTTP/1.1.");
static const struct guard_refusal refuse_method =
    BAD_REQUEST("The request method is not a token of at most 32 characters.");
static const struct guard_refusal refuse_target =
    BAD_REQUEST("The request target must be a path that starts with '/', without spaces, control characters or '#'.");
static const struct guard_refusal refuse_version =
    BAD_REQUEST("The protocol version must be HTTP/1.0, HTTP/1.1 or HTTP/2.");
static const struct guard_refusal refuse_line_end = BAD_REQUEST("Every line of a request must end in CR LF.");
static const struct guard_refusal refuse_name = BAD_REQUEST("A header name is not a token followed by ':'.");
static const struct guard_refusal refuse_value = BAD_REQUEST("A header value holds a control character.");
static const struct guard_refusal refuse_fold = BAD_REQUEST("Header values may not go on in a second line.");
static const struct guard_refusal refuse_host =
    BAD_REQUEST("HTTP/1.1 needs exactly one Host header with a valid host in it.");
static const struct guard_refusal refuse_length =
    BAD_REQUEST("Content-Length must be given once and be a decimal number.");
static const struct guard_refusal refuse_encoding =
    BAD_REQUEST("Transfer-Encoding must be given once, be 'chunked', and needs HTTP/1.1.");
static const struct guard_refusal refuse_both =
    BAD_REQUEST("Content-Length and Transfer-Encoding may not be given together.");
static const struct guard_refusal refuse_chunk = BAD_REQUEST("The chunked request body is malformed.");
static const struct guard_refusal refuse_early =
    BAD_REQUEST("Nothing may follow a request with an Upgrade header until it was answered.");
static const struct guard_refusal refuse_fields = TOO_LARGE("The request has too many headers.");
static const struct guard_refusal refuse_head = TOO_LARGE("The request line and headers are too large.");

/* RFC 9110 token characters. */
static bool is_token(unsigned char byte) {
    static const bool table[256] = {
        ['!'] = true, ['#'] = true, ['$'] = true, ['%'] = true,         ['&'] = true,         ['\''] = true,
        ['*'] = true, ['+'] = true, ['-'] = true, ['.'] = true,         ['^'] = true,         ['_'] = true,
        ['`'] = true, ['|'] = true, ['~'] = true, ['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true};
    return table[byte];
}

static bool is_value(unsigned char byte) { return byte == '\t' || (byte >= ' ' && byte != 0x7f); }

static bool is_host(unsigned char byte) {
    return byte > ' ' && byte < 0x7f && memchr("/?#@\\,\"<>^`{|}", byte, 14) == NULL;
}

static int hex_value(unsigned char byte) {
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    unsigned char lower = byte | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static void add_to_word(struct guard_http1 *scan, unsigned char byte) {
    if (scan->word_len < sizeof(scan->word)) {
        scan->word[scan->word_len] = (char)(byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte);
    }
    if (scan->word_len != UINT16_MAX) {
        scan->word_len++;
    }
}

static bool word_is(const struct guard_http1 *scan, const char *text) {
    return scan->word_len == strlen(text) && memcmp(scan->word, text, scan->word_len) == 0;
}

static const struct guard_refusal *go(struct guard_http1 *scan, enum state state) {
    scan->state = state;
    return NULL;
}

/* ---- request line ---- */

static const struct guard_refusal *begin_request(struct guard_http1 *scan, unsigned char byte) {
    if (byte == '\r' && !scan->skipped_line) {
        scan->skipped_line = true;
        return go(scan, STATE_EMPTY_LINE_LF);
    }
    if (byte == '\n') {
        return &refuse_line_end;
    }
    struct guard_http1 fresh = {.limits = scan->limits, .requests = scan->requests, .head_bytes = scan->head_bytes};
    *scan = fresh;
    if (!is_token(byte)) {
        return &refuse_method;
    }
    add_to_word(scan, byte);
    return go(scan, STATE_METHOD);
}

static const struct guard_refusal *read_method(struct guard_http1 *scan, unsigned char byte) {
    if (byte == ' ') {
        scan->options_method = word_is(scan, "options");
        return go(scan, STATE_TARGET_FIRST);
    }
    if (byte == '\n') {
        return &refuse_line_end;
    }
    if (!is_token(byte) || scan->word_len >= METHOD_BYTES_MOST) {
        return &refuse_method;
    }
    add_to_word(scan, byte);
    return NULL;
}

static const struct guard_refusal *read_target(struct guard_http1 *scan, unsigned char byte) {
    if (byte == ' ') {
        scan->word_len = 0;
        return go(scan, STATE_VERSION);
    }
    return scan->state == STATE_TARGET_STAR || byte < ' ' || byte == 0x7f || byte == '#' ? &refuse_target : NULL;
}

static const struct guard_refusal *read_target_first(struct guard_http1 *scan, unsigned char byte) {
    if (byte == '/') {
        return go(scan, STATE_TARGET);
    }
    return byte == '*' && scan->options_method ? go(scan, STATE_TARGET_STAR) : &refuse_target;
}

static const struct guard_refusal *read_version(struct guard_http1 *scan, unsigned char byte) {
    static const char prefix[] = "HTTP/1.";
    if (byte != (unsigned char)prefix[scan->word_len]) {
        return &refuse_version;
    }
    scan->word_len++;
    return scan->word_len == sizeof(prefix) - 1 ? go(scan, STATE_VERSION_MINOR) : NULL;
}

static const struct guard_refusal *read_minor(struct guard_http1 *scan, unsigned char byte) {
    if (byte != '0' && byte != '1') {
        return &refuse_version;
    }
    scan->minor = (uint8_t)(byte - '0');
    return go(scan, STATE_REQUEST_LINE_CR);
}

/* ---- headers ---- */

static const struct guard_refusal *begin_line(struct guard_http1 *scan, unsigned char byte) {
    if (byte == '\r') {
        return go(scan, STATE_HEAD_LF);
    }
    if (byte == ' ' || byte == '\t') {
        return &refuse_fold;
    }
    if (byte == '\n') {
        return &refuse_line_end;
    }
    if (!is_token(byte)) {
        return &refuse_name;
    }
    scan->fields++;
    if (scan->fields > scan->limits.fields) {
        return &refuse_fields;
    }
    scan->word_len = 0;
    add_to_word(scan, byte);
    return go(scan, STATE_NAME);
}

static enum header find_header(const struct guard_http1 *scan) {
    if (word_is(scan, "host")) {
        return HEADER_HOST;
    }
    if (word_is(scan, "content-length")) {
        return HEADER_LENGTH;
    }
    if (word_is(scan, "transfer-encoding")) {
        return HEADER_ENCODING;
    }
    return word_is(scan, "upgrade") ? HEADER_UPGRADE : HEADER_OTHER;
}

static const struct guard_refusal *read_name(struct guard_http1 *scan, unsigned char byte) {
    if (byte != ':') {
        if (!is_token(byte)) {
            return &refuse_name;
        }
        add_to_word(scan, byte);
        return NULL;
    }
    scan->header = (uint8_t)find_header(scan);
    scan->word_len = 0;
    return go(scan, STATE_VALUE_SPACE);
}

static const struct guard_refusal *end_length(struct guard_http1 *scan) {
    if (scan->lengths++ != 0 || scan->word_len == 0 || scan->word_len > LENGTH_DIGITS_MOST) {
        return &refuse_length;
    }
    uint64_t length = 0;
    for (size_t i = 0; i < scan->word_len; i++) {
        if (scan->word[i] < '0' || scan->word[i] > '9') {
            return &refuse_length;
        }
        length = length * 10 + (uint64_t)(scan->word[i] - '0');
    }
    scan->body_declared = length;
    return scan->encodings != 0 ? &refuse_both : NULL;
}

static const struct guard_refusal *end_encoding(struct guard_http1 *scan) {
    if (scan->encodings++ != 0 || scan->minor == 0 || !word_is(scan, "chunked")) {
        return &refuse_encoding;
    }
    return scan->lengths != 0 ? &refuse_both : NULL;
}

/* Judges a header that matters, once its value ended. Blanks at the value's end were kept until here. */
static const struct guard_refusal *end_value(struct guard_http1 *scan) {
    while (scan->word_len != 0 && scan->word_len <= sizeof(scan->word) &&
           (scan->word[scan->word_len - 1] == ' ' || scan->word[scan->word_len - 1] == '\t')) {
        scan->word_len--;
    }
    switch ((enum header)scan->header) {
    case HEADER_HOST:
        return scan->hosts++ != 0 ? &refuse_host : NULL;
    case HEADER_LENGTH:
        return end_length(scan);
    case HEADER_ENCODING:
        return end_encoding(scan);
    case HEADER_UPGRADE:
        scan->upgrade = true;
        scan->upgrade_h2c = scan->word_len >= 3 && memcmp(scan->word, "h2c", 3) == 0;
        return NULL;
    case HEADER_OTHER:
        return NULL;
    }
    return NULL;
}

/* A host may be followed by blanks, but by nothing after them; word_len remembers that one was seen. */
static const struct guard_refusal *read_host(struct guard_http1 *scan, unsigned char byte) {
    bool blank = byte == ' ' || byte == '\t';
    if (!blank && (scan->word_len != 0 || !is_host(byte))) {
        return &refuse_host;
    }
    scan->word_len = blank ? 1 : 0;
    return NULL;
}

static const struct guard_refusal *read_value(struct guard_http1 *scan, unsigned char byte) {
    if (byte == '\r') {
        scan->state = STATE_VALUE_LF;
        return end_value(scan);
    }
    if (!is_value(byte)) {
        return byte == '\n' ? &refuse_line_end : &refuse_value;
    }
    if (scan->header == HEADER_HOST) {
        return read_host(scan, byte);
    }
    if (scan->header != HEADER_OTHER) {
        add_to_word(scan, byte);
    }
    return NULL;
}

static const struct guard_refusal *skip_value_space(struct guard_http1 *scan, unsigned char byte) {
    if (byte == ' ' || byte == '\t') {
        return NULL;
    }
    scan->state = STATE_VALUE;
    return read_value(scan, byte);
}

/* ---- bodies ---- */

static const struct guard_refusal *end_request(struct guard_http1 *scan) {
    scan->requests++;
    scan->head_bytes = 0;
    scan->skipped_line = false;
    return go(scan, scan->upgrade ? STATE_UPGRADING : STATE_START);
}

static const struct guard_refusal *end_head(struct guard_http1 *scan) {
    if (scan->minor == 1 && scan->hosts != 1) {
        return &refuse_host;
    }
    scan->head_bytes = 0;
    scan->body_bytes = 0;
    if (scan->encodings != 0) {
        return go(scan, STATE_CHUNK_SIZE_FIRST);
    }
    scan->body_left = scan->body_declared;
    return scan->body_left == 0 ? end_request(scan) : go(scan, STATE_BODY);
}

static const struct guard_refusal *read_chunk_size(struct guard_http1 *scan, unsigned char byte) {
    int digit = hex_value(byte);
    if (scan->state == STATE_CHUNK_SIZE_FIRST) {
        scan->body_left = 0;
        scan->word_len = 0;
        scan->state = STATE_CHUNK_SIZE;
        if (digit < 0) {
            return &refuse_chunk;
        }
    }
    if (digit >= 0) {
        scan->body_left = scan->body_left * 16 + (uint64_t)digit;
        return ++scan->word_len > CHUNK_SIZE_DIGITS_MOST ? &refuse_chunk : NULL;
    }
    scan->word_len = 0;
    if (byte == '\r') {
        return go(scan, STATE_CHUNK_SIZE_LF);
    }
    return byte == ';' ? go(scan, STATE_CHUNK_EXTENSION) : &refuse_chunk;
}

static const struct guard_refusal *read_chunk_extension(struct guard_http1 *scan, unsigned char byte) {
    if (byte == '\r') {
        return go(scan, STATE_CHUNK_SIZE_LF);
    }
    return !is_value(byte) || ++scan->word_len > CHUNK_EXTENSION_BYTES_MOST ? &refuse_chunk : NULL;
}

static const struct guard_refusal *begin_trailer_line(struct guard_http1 *scan, unsigned char byte) {
    if (byte == '\r') {
        return go(scan, STATE_TRAILER_END_LF);
    }
    scan->fields++;
    if (scan->fields > scan->limits.fields) {
        return &refuse_fields;
    }
    return is_token(byte) ? go(scan, STATE_TRAILER_TEXT) : &refuse_chunk;
}

static const struct guard_refusal *read_trailer_text(struct guard_http1 *scan, unsigned char byte) {
    if (byte == '\r') {
        return go(scan, STATE_TRAILER_TEXT_LF);
    }
    return is_value(byte) ? NULL : &refuse_chunk;
}

/* A byte that must be `expected`, then `next`. */
static const struct guard_refusal *expect(struct guard_http1 *scan, unsigned char byte, char expected, enum state next,
                                          const struct guard_refusal *otherwise) {
    return byte == (unsigned char)expected ? go(scan, next) : otherwise;
}

static const struct guard_refusal *read_head_byte(struct guard_http1 *scan, unsigned char byte) {
    switch ((enum state)scan->state) {
    case STATE_START:
        return begin_request(scan, byte);
    case STATE_EMPTY_LINE_LF:
        return expect(scan, byte, '\n', STATE_START, &refuse_line_end);
    case STATE_METHOD:
        return read_method(scan, byte);
    case STATE_TARGET_FIRST:
        return read_target_first(scan, byte);
    case STATE_TARGET:
    case STATE_TARGET_STAR:
        return read_target(scan, byte);
    case STATE_VERSION:
        return read_version(scan, byte);
    case STATE_VERSION_MINOR:
        return read_minor(scan, byte);
    case STATE_REQUEST_LINE_CR:
        return expect(scan, byte, '\r', STATE_REQUEST_LINE_LF, byte == '\n' ? &refuse_line_end : &refuse_line);
    case STATE_REQUEST_LINE_LF:
        return expect(scan, byte, '\n', STATE_LINE_FIRST, &refuse_line_end);
    case STATE_LINE_FIRST:
    case STATE_LINE:
        return begin_line(scan, byte);
    case STATE_NAME:
        return read_name(scan, byte);
    case STATE_VALUE_SPACE:
        return skip_value_space(scan, byte);
    case STATE_VALUE:
        return read_value(scan, byte);
    case STATE_VALUE_LF:
        return expect(scan, byte, '\n', STATE_LINE, &refuse_line_end);
    case STATE_HEAD_LF:
        return byte == '\n' ? end_head(scan) : &refuse_line_end;
    default:
        return &refuse_line;
    }
}

static const struct guard_refusal *read_chunked_byte(struct guard_http1 *scan, unsigned char byte) {
    switch ((enum state)scan->state) {
    case STATE_CHUNK_SIZE_FIRST:
    case STATE_CHUNK_SIZE:
        return read_chunk_size(scan, byte);
    case STATE_CHUNK_EXTENSION:
        return read_chunk_extension(scan, byte);
    case STATE_CHUNK_SIZE_LF:
        return expect(scan, byte, '\n', scan->body_left == 0 ? STATE_TRAILER_LINE : STATE_CHUNK_DATA, &refuse_chunk);
    case STATE_CHUNK_DATA_CR:
        return expect(scan, byte, '\r', STATE_CHUNK_DATA_LF, &refuse_chunk);
    case STATE_CHUNK_DATA_LF:
        return expect(scan, byte, '\n', STATE_CHUNK_SIZE_FIRST, &refuse_chunk);
    case STATE_TRAILER_LINE:
        return begin_trailer_line(scan, byte);
    case STATE_TRAILER_TEXT:
        return read_trailer_text(scan, byte);
    case STATE_TRAILER_TEXT_LF:
        return expect(scan, byte, '\n', STATE_TRAILER_LINE, &refuse_chunk);
    case STATE_TRAILER_END_LF:
        return byte == '\n' ? end_request(scan) : &refuse_chunk;
    default:
        return &refuse_chunk;
    }
}

/* ---- driving ---- */

static bool is_in_trailer(const struct guard_http1 *scan) {
    return scan->state >= STATE_TRAILER_LINE && scan->state <= STATE_TRAILER_END_LF;
}

static const struct guard_refusal *read_byte(struct guard_http1 *scan, unsigned char byte) {
    if (scan->state <= STATE_HEAD_LF || is_in_trailer(scan)) {
        scan->head_bytes++;
        if (scan->head_bytes > scan->limits.head_bytes) {
            return &refuse_head;
        }
    }
    if (scan->state <= STATE_HEAD_LF) {
        return read_head_byte(scan, byte);
    }
    return scan->state == STATE_UPGRADING ? &refuse_early : read_chunked_byte(scan, byte);
}

/* Passes over body bytes; returns how many. */
static size_t skip_body(struct guard_http1 *scan, size_t len) {
    size_t count = scan->body_left < len ? (size_t)scan->body_left : len;
    scan->body_left -= count;
    scan->body_bytes += count;
    if (scan->body_left == 0) {
        if (scan->state == STATE_BODY) {
            (void)end_request(scan);
        } else {
            scan->state = STATE_CHUNK_DATA_CR;
        }
    }
    return count;
}

/* Most of a head is targets and values whose bytes need no more than a look; returns how many such bytes begin here. */
static size_t skip_plain(struct guard_http1 *scan, const char *bytes, size_t len) {
    bool value = scan->state == STATE_VALUE && scan->header == HEADER_OTHER;
    if (!value && scan->state != STATE_TARGET) {
        return 0;
    }
    size_t room = scan->limits.head_bytes - scan->head_bytes;
    size_t most = len < room ? len : room;
    size_t count = 0;
    while (count < most && (unsigned char)bytes[count] > ' ' && bytes[count] != 0x7f &&
           (value || bytes[count] != '#')) {
        count++;
    }
    scan->head_bytes += (uint32_t)count;
    return count;
}

void guard_http1_init(struct guard_http1 *scan, const struct guard_http1_limits *limits) {
    struct guard_http1 fresh = {.limits = *limits, .state = STATE_START};
    *scan = fresh;
}

const struct guard_refusal *guard_http1_feed(struct guard_http1 *scan, const char *bytes, size_t len,
                                             size_t *safe_bytes) {
    *safe_bytes = 0;
    size_t at = 0;
    while (at < len && scan->refusal == NULL) {
        uint64_t requests = scan->requests;
        if (scan->state == STATE_BODY || scan->state == STATE_CHUNK_DATA) {
            at += skip_body(scan, len - at);
        } else {
            at += skip_plain(scan, bytes + at, len - at);
            if (at < len) {
                scan->refusal = read_byte(scan, (unsigned char)bytes[at]);
                at++;
            }
        }
        if (scan->requests != requests) {
            *safe_bytes = at;
        }
    }
    if (scan->refusal != NULL) {
        scan->state = STATE_REFUSED;
    }
    return scan->refusal;
}

enum guard_http1_place guard_http1_place(const struct guard_http1 *scan) {
    switch ((enum state)scan->state) {
    case STATE_START:
    case STATE_EMPTY_LINE_LF:
        return GUARD_HTTP1_BETWEEN;
    case STATE_UPGRADING:
        return GUARD_HTTP1_UPGRADING;
    case STATE_REFUSED:
        return GUARD_HTTP1_REFUSED;
    default:
        return scan->state <= STATE_HEAD_LF ? GUARD_HTTP1_IN_HEAD : GUARD_HTTP1_IN_BODY;
    }
}

void guard_http1_upgrade_declined(struct guard_http1 *scan) {
    if (scan->state == STATE_UPGRADING) {
        scan->state = STATE_START;
    }
}
