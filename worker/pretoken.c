#include "worker/pretoken.h"

#include "base/utf8.h"

/* The patterns' alternatives, in their order, each a function below that gives a match's end or NO_MATCH:
 * o200k:  word with small letters | word of capitals | 1 to 3 digits | signs | blanks up to a line end | blanks
 * cl100k: contraction | word | 1 to 3 digits | signs | blanks up to a line end | blanks
 * A word may take one character before it along that is neither letter, digit nor line end. o200k's words end where a
 * capital follows a small letter, and take a contraction ('s, 't, 're, 've, 'm, 'll, 'd) along. */

enum letters { OTHER, UPPER, LOWER, LETTER, MARK, NUMBER, SPACE, NEWLINE, END };

enum { NO_MATCH = 0, NUMBER_DIGITS_MOST = 3, CLASS_BITS = 3, FIRST_HAN = 0x4E00, LAST_HAN = 0x9FFF };

#define LETTERS(first, class) (first##U << CLASS_BITS | (class)),
static const uint32_t starts[] = {
#include "worker/vocabulary/letters.def"
};

/* A place in a text whose end has been, or has not been, looked at. */
struct cursor {
    const char *base;
    size_t len;
    bool is_last;  /* nothing follows the text */
    bool saw_end;  /* the outcome depends on what follows */
    size_t length; /* of the character last looked at */
};

static enum letters classify(uint32_t character) {
    if (character >= FIRST_HAN && character <= LAST_HAN) {
        return LETTER; /* as the table says, without the search */
    }
    size_t low = 0;
    size_t high = sizeof(starts) / sizeof(starts[0]);
    uint32_t wanted = character << CLASS_BITS | ((1U << CLASS_BITS) - 1);
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (starts[middle] <= wanted) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (enum letters)(starts[low] & ((1U << CLASS_BITS) - 1));
}

static enum letters classify_ascii(unsigned char byte) {
    unsigned char lower = byte | 0x20U;
    if (lower >= 'a' && lower <= 'z') {
        return byte == lower ? LOWER : UPPER;
    }
    if (byte >= '0' && byte <= '9') {
        return NUMBER;
    }
    return byte == '\n' || byte == '\r' ? NEWLINE : byte == ' ' || (byte >= '\t' && byte <= '\f') ? SPACE : OTHER;
}

/* Could these bytes be the start of a character whose rest is still to come? */
static bool may_be_cut(struct span text) {
    unsigned char lead = (unsigned char)text.base[0];
    size_t wanted = lead >= 0xF0 && lead <= 0xF4 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 1;
    for (size_t i = 1; i < text.len && i < wanted; i++) {
        if (((unsigned char)text.base[i] & 0xC0U) != 0x80U) {
            return false;
        }
    }
    return lead <= 0xF4 && text.len < wanted;
}

/* The class of the character at `at`, END past the text. */
static enum letters look(struct cursor *cursor, size_t at) {
    if (at >= cursor->len) {
        cursor->saw_end = true;
        return END;
    }
    unsigned char byte = (unsigned char)cursor->base[at];
    cursor->length = 1;
    if (byte < 0x80) {
        return classify_ascii(byte);
    }
    struct span rest = span_of(cursor->base + at, cursor->len - at);
    size_t length = utf8_length(rest);
    if (length == 0) {
        cursor->saw_end |= !cursor->is_last && may_be_cut(rest);
        return OTHER;
    }
    cursor->length = length;
    return classify(utf8_decode(rest));
}

static bool is_letter(enum letters class) { return class == UPPER || class == LOWER || class == LETTER; }
static bool is_blank(enum letters class) { return class == SPACE || class == NEWLINE; }
static bool is_sign(enum letters class) { return class == OTHER || class == MARK; }
/* o200k's words: what may stand before, and what after, a word's first small letter. */
static bool is_head(enum letters class) { return class == UPPER || class == LETTER || class == MARK; }
static bool is_tail(enum letters class) { return class == LOWER || class == LETTER || class == MARK; }

typedef bool class_fn(enum letters class);

/* The end of the run of such characters at `at`. */
static size_t run(struct cursor *cursor, size_t at, class_fn *belongs) {
    while (belongs(look(cursor, at))) {
        at += cursor->length;
    }
    return at;
}

static char lower_at(struct cursor *cursor, size_t at) {
    if (at >= cursor->len) {
        cursor->saw_end = true;
        return '\0';
    }
    return (char)(cursor->base[at] | 0x20);
}

/* The end of a contraction at `at`, or `at`. */
static size_t contraction(struct cursor *cursor, size_t at) {
    if (at >= cursor->len) {
        cursor->saw_end = true;
        return at;
    }
    if (cursor->base[at] != '\'') {
        return at;
    }
    char first = lower_at(cursor, at + 1);
    if (first == '\0' || first == 's' || first == 't' || first == 'm' || first == 'd') {
        return first != '\0' ? at + 2 : at;
    }
    if (first != 'r' && first != 'v' && first != 'l') {
        return at;
    }
    return lower_at(cursor, at + 2) == (first == 'l' ? 'l' : 'e') ? at + 3 : at;
}

/* Capitals, then at least one small letter or letter without case; these may also stand among the capitals, and then
 * the last of them may have to serve as the small one. */
static size_t cased_word(struct cursor *cursor, size_t at) {
    size_t end = NO_MATCH;
    enum letters class;
    for (; is_head(class = look(cursor, at)); at += cursor->length) {
        end = class != UPPER ? at + cursor->length : end;
    }
    return class == LOWER ? run(cursor, at, is_tail) : end;
}

static size_t capitals(struct cursor *cursor, size_t at) {
    size_t end = run(cursor, at, is_head);
    return end != at ? end : NO_MATCH;
}

/* May the character at 0 be taken along by a word? Then *after is where the word would begin. */
static bool may_lead(struct cursor *cursor, size_t *after) {
    enum letters class = look(cursor, 0);
    *after = cursor->length;
    return is_sign(class) || class == SPACE;
}

static size_t match_o200k_word(struct cursor *cursor) {
    size_t after = 0;
    bool has_lead = may_lead(cursor, &after);
    size_t end = has_lead ? cased_word(cursor, after) : NO_MATCH;
    end = end != NO_MATCH ? end : cased_word(cursor, 0);
    end = end == NO_MATCH && has_lead ? capitals(cursor, after) : end;
    end = end != NO_MATCH ? end : capitals(cursor, 0);
    return end != NO_MATCH ? contraction(cursor, end) : NO_MATCH;
}

static size_t match_cl100k_word(struct cursor *cursor) {
    size_t after = 0;
    size_t end = contraction(cursor, 0);
    if (end != 0) {
        return end;
    }
    size_t at = may_lead(cursor, &after) ? after : 0;
    end = run(cursor, at, is_letter);
    return end != at ? end : NO_MATCH;
}

static size_t match_number(struct cursor *cursor) {
    size_t at = 0;
    for (int digits = 0; digits < NUMBER_DIGITS_MOST && look(cursor, at) == NUMBER; digits++) {
        at += cursor->length;
    }
    return at;
}

/* Signs, with a blank before them and line ends (o200k: slashes too) after them. */
static size_t match_signs(struct cursor *cursor, enum vocabulary_kind kind) {
    size_t first = cursor->base[0] == ' ' ? 1 : 0;
    size_t at = run(cursor, first, is_sign);
    if (at == first) {
        return NO_MATCH;
    }
    while (look(cursor, at) == NEWLINE || (kind == VOCABULARY_O200K && at < cursor->len && cursor->base[at] == '/')) {
        at++;
    }
    return at;
}

/* Blanks: up to their last line end, else all but the one before the next word. At the text's end cl100k takes all. */
static size_t match_blanks(struct cursor *cursor, enum vocabulary_kind kind) {
    size_t at = 0;
    size_t after_line = NO_MATCH;
    size_t before_last = NO_MATCH;
    enum letters class;
    for (; is_blank(class = look(cursor, at)); at += cursor->length) {
        before_last = at;
        after_line = class == NEWLINE ? at + 1 : after_line;
    }
    if (after_line != NO_MATCH && !(class == END && kind == VOCABULARY_CL100K)) {
        return after_line;
    }
    return class == END || before_last == 0 ? at : before_last;
}

size_t pretoken_next(enum vocabulary_kind kind, struct span text, bool is_last, bool *is_number) {
    struct cursor cursor = {.base = text.base, .len = text.len, .is_last = is_last};
    *is_number = false;
    if (text.len == 0) {
        return 0;
    }
    size_t end = kind == VOCABULARY_O200K ? match_o200k_word(&cursor) : match_cl100k_word(&cursor);
    if (end == NO_MATCH) {
        end = match_number(&cursor);
        *is_number = end != NO_MATCH;
    }
    end = end != NO_MATCH ? end : match_signs(&cursor, kind);
    end = end != NO_MATCH ? end : match_blanks(&cursor, kind);
    return is_last || !cursor.saw_end ? end : 0;
}

size_t pretoken_cut(struct span text, size_t most) {
    size_t len = text.len < most ? text.len : most;
    size_t back = 0;
    while (back < UTF8_MOST_BYTES - 1 && back < len && ((unsigned char)text.base[len - 1 - back] & 0xC0U) == 0x80U) {
        back++;
    }
    bool is_cut = back < len && may_be_cut(span_of(text.base + len - 1 - back, back + 1));
    return is_cut && back + 1 < len ? len - 1 - back : len;
}
