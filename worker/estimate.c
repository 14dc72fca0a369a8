#include "worker/estimate.h"

/* How the estimate works: the text falls into runs of one class (a word, a group of digits, punctuation, blanks ...),
 * as a tokenizer's first step cuts it, and each run costs what runs of its kind cost on average. The averages below
 * were fitted (non-negative least squares) to o200k counts of prose in 60 languages, program messages, code, JSON,
 * Markdown. */

enum run_class {
    RUN_NONE,
    RUN_SPACE,
    RUN_NEWLINE,
    RUN_WORD,
    RUN_DIGITS,
    RUN_PUNCTUATION,
    RUN_CYRILLIC,
    RUN_GREEK,
    RUN_ARABIC,
    RUN_HEBREW,
    RUN_INDIC,
    RUN_THAI,
    RUN_HAN,
    RUN_KANA,
    RUN_HANGUL,
    RUN_SYMBOL,
    RUN_EMOJI,
    RUN_OTHER,
    RUN_BROKEN
};

enum { WORD_LENGTHS = 16 };
/* A word with an accent says that the words around it are no English ones either. */
enum { FOREIGN_STEP = 12, FOREIGN_MOST = 60 };
enum { LETTER_NONE, LETTER_UPPER, LETTER_LOWER };

/* What is counted, and costs. */
enum feature {
    WORD_SPACED = 0,                         /* a word after a blank, by length */
    WORD_BARE = WORD_SPACED + WORD_LENGTHS,  /* a word after anything else, by length */
    WORD_FOREIGN = WORD_BARE + WORD_LENGTHS, /* a word of another language in Latin letters, by length */
    WORD_MORE = WORD_FOREIGN + WORD_LENGTHS, /* each character beyond */
    CAPITALS_RUN,
    CAPITALS_CHARACTER,
    LATIN_ACCENTED,
    DIGIT_GROUP,
    SPACE_RUN,
    SPACE_BEFORE_DIGIT,
    NEWLINE,
    NEWLINE_AFTER_PUNCTUATION,
    PUNCTUATION_SPACED,
    PUNCTUATION_1,
    PUNCTUATION_2,
    PUNCTUATION_3,
    PUNCTUATION_MORE,
    SCRIPT_RUN,                                     /* a run of a script, by its class */
    SCRIPT_CHARACTER = SCRIPT_RUN + RUN_BROKEN + 1, /* each of its characters */
    FEATURES = SCRIPT_CHARACTER + RUN_BROKEN + 1
};

static const uint16_t cost_thousandths[FEATURES] = {
    /* WORD_SPACED */
    994,
    962,
    970,
    1087,
    1134,
    1095,
    1092,
    1034,
    1221,
    1279,
    1320,
    1477,
    1557,
    1640,
    1713,
    1758,
    /* WORD_BARE */
    1483,
    1461,
    1249,
    939,
    938,
    808,
    971,
    1091,
    1308,
    1412,
    1503,
    1585,
    1645,
    1675,
    1699,
    1717,
    /* WORD_FOREIGN */
    285,
    202,
    389,
    862,
    1534,
    1625,
    1741,
    1945,
    2309,
    2535,
    2934,
    3287,
    3363,
    3333,
    3400,
    3516,
    /* WORD_MORE to PUNCTUATION_MORE */
    457,
    423,
    145,
    794,
    1003,
    973,
    1004,
    1051,
    125,
    268,
    714,
    965,
    1103,
    78,
    /* SCRIPT_RUN: from RUN_CYRILLIC on */
    0,
    0,
    0,
    0,
    0,
    0,
    1755,
    0,
    368,
    794,
    0,
    28,
    0,
    1181,
    642,
    569,
    500,
    500,
    0,
    /* SCRIPT_CHARACTER */
    0,
    0,
    0,
    0,
    0,
    0,
    15,
    408,
    288,
    286,
    379,
    423,
    797,
    365,
    508,
    216,
    1500,
    1000,
    1000,
};

static void charge(struct estimate *estimate, int feature, uint32_t times) {
    estimate->token_thousandths += (int64_t)cost_thousandths[feature] * times;
}

void estimate_init(struct estimate *estimate) { *estimate = (struct estimate){0}; }

static bool is_between(uint32_t character, uint32_t first, uint32_t last) {
    return character >= first && character <= last;
}

static enum run_class classify_ascii(uint32_t character) {
    uint32_t lower = character | 0x20;
    if (is_between(lower, 'a', 'z')) {
        return RUN_WORD;
    }
    if (is_between(character, '0', '9')) {
        return RUN_DIGITS;
    }
    if (character == '\n' || character == '\r') {
        return RUN_NEWLINE;
    }
    return character == ' ' || character == '\t' ? RUN_SPACE : RUN_PUNCTUATION;
}

/* Scripts by their blocks of code points, in rising order; what lies between them is RUN_OTHER. */
static const struct {
    uint32_t first;
    uint32_t last;
    enum run_class class;
} scripts[] = {
    {0x80, 0xBF, RUN_SYMBOL},      {0xC0, 0x24F, RUN_WORD},      {0x250, 0x36F, RUN_OTHER},
    {0x370, 0x3FF, RUN_GREEK},     {0x400, 0x52F, RUN_CYRILLIC}, {0x590, 0x5FF, RUN_HEBREW},
    {0x600, 0x77F, RUN_ARABIC},    {0x900, 0xDFF, RUN_INDIC},    {0xE00, 0xEFF, RUN_THAI},
    {0x1100, 0x11FF, RUN_HANGUL},  {0x1E00, 0x1EFF, RUN_WORD},   {0x1F00, 0x1FFF, RUN_GREEK},
    {0x2000, 0x25FF, RUN_SYMBOL},  {0x2600, 0x27BF, RUN_EMOJI},  {0x27C0, 0x2BFF, RUN_SYMBOL},
    {0x3000, 0x303F, RUN_SYMBOL},  {0x3040, 0x30FF, RUN_KANA},   {0x3130, 0x318F, RUN_HANGUL},
    {0x3400, 0x9FFF, RUN_HAN},     {0xAC00, 0xD7AF, RUN_HANGUL}, {0xF900, 0xFAFF, RUN_HAN},
    {0xFB50, 0xFDFF, RUN_ARABIC},  {0xFE00, 0xFE0F, RUN_EMOJI},  {0xFF00, 0xFFEF, RUN_SYMBOL},
    {0x1F000, 0x1FAFF, RUN_EMOJI}, {0x20000, 0x323AF, RUN_HAN},
};

static enum run_class classify(uint32_t character) {
    if (character < 0x80) {
        return classify_ascii(character);
    }
    size_t low = 0;
    size_t high = sizeof(scripts) / sizeof(scripts[0]);
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (character > scripts[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool is_known = low < sizeof(scripts) / sizeof(scripts[0]) && character >= scripts[low].first;
    return is_known ? scripts[low].class : RUN_OTHER;
}

/* Keeps count of the words that still count as foreign. */
static void weigh_language(struct estimate *estimate) {
    if (estimate->has_accent) {
        estimate->has_accent = false;
        estimate->foreign_words = estimate->foreign_words < FOREIGN_MOST - FOREIGN_STEP
                                      ? (uint8_t)(estimate->foreign_words + FOREIGN_STEP)
                                      : FOREIGN_MOST;
    } else if (estimate->foreign_words != 0) {
        estimate->foreign_words--;
    }
}

static void charge_word(struct estimate *estimate) {
    weigh_language(estimate);
    uint32_t length = estimate->run_length;
    if (estimate->last_letter == LETTER_UPPER && length > 1) {
        charge(estimate, CAPITALS_RUN, 1);
        charge(estimate, CAPITALS_CHARACTER, length);
        return;
    }
    int by_place = estimate->foreign_words != 0            ? WORD_FOREIGN
                   : estimate->previous_class == RUN_SPACE ? WORD_SPACED
                                                           : WORD_BARE;
    uint32_t step = length < WORD_LENGTHS ? length : WORD_LENGTHS;
    charge(estimate, by_place + (int)step - 1, 1);
    charge(estimate, WORD_MORE, length - step);
}

static void charge_punctuation(struct estimate *estimate) {
    uint32_t length = estimate->run_length;
    if (estimate->previous_class == RUN_SPACE) {
        charge(estimate, PUNCTUATION_SPACED, 1);
    }
    charge(estimate, length == 1 ? PUNCTUATION_1 : length == 2 ? PUNCTUATION_2 : PUNCTUATION_3, 1);
    charge(estimate, PUNCTUATION_MORE, length > 3 ? length - 3 : 0);
}

/* A blank joins the word after it; others of its run, and one before digits, stand alone. */
static void charge_space(struct estimate *estimate, enum run_class next) {
    if (estimate->run_length > 1) {
        charge(estimate, SPACE_RUN, 1);
    } else if (next == RUN_DIGITS) {
        charge(estimate, SPACE_BEFORE_DIGIT, 1);
    }
}

/* Charges the open run; `next` is the class that follows, RUN_NONE at the end. */
static void end_run(struct estimate *estimate, enum run_class next) {
    enum run_class class = (enum run_class)estimate->run_class;
    switch (class) {
    case RUN_NONE:
        return;
    case RUN_WORD:
        charge_word(estimate);
        break;
    case RUN_DIGITS:
        charge(estimate, DIGIT_GROUP, (estimate->run_length + 2) / 3);
        break;
    case RUN_SPACE:
        charge_space(estimate, next);
        break;
    case RUN_NEWLINE:
        charge(estimate, estimate->previous_class == RUN_PUNCTUATION ? NEWLINE_AFTER_PUNCTUATION : NEWLINE, 1);
        break;
    case RUN_PUNCTUATION:
        charge_punctuation(estimate);
        break;
    default:
        charge(estimate, SCRIPT_RUN + (int)class, 1);
        charge(estimate, SCRIPT_CHARACTER + (int)class, estimate->run_length);
    }
    estimate->previous_class = estimate->run_class;
    estimate->run_class = RUN_NONE;
    estimate->run_length = 0;
    estimate->last_letter = LETTER_NONE;
}

/* An apostrophe inside a word belongs to it. */
static bool is_apostrophe(uint32_t character) { return character == '\'' || character == 0x2019; }

/* Only ASCII tells capitals apart here; other letters count as small ones. */
static uint8_t letter_case(uint32_t character) { return is_between(character, 'A', 'Z') ? LETTER_UPPER : LETTER_LOWER; }

static void add_character(struct estimate *estimate, uint32_t character) {
    enum run_class class = classify(character);
    bool in_word = estimate->run_class == RUN_WORD;
    if (in_word && is_apostrophe(character)) {
        class = RUN_WORD;
    }
    bool is_hump =
        in_word && class == RUN_WORD && estimate->last_letter == LETTER_LOWER && letter_case(character) == LETTER_UPPER;
    if ((uint8_t) class != estimate->run_class || is_hump) {
        end_run(estimate, class);
        estimate->run_class = (uint8_t) class;
    }
    estimate->run_length += estimate->run_length != UINT32_MAX;
    if (class == RUN_WORD) {
        if (estimate->last_letter != LETTER_LOWER && !is_apostrophe(character)) {
            estimate->last_letter = letter_case(character);
        }
        if (character >= 0x80) {
            estimate->has_accent |= !is_apostrophe(character);
            charge(estimate, LATIN_ACCENTED, 1);
        }
    }
}

/* A byte that is no UTF-8 where it stands: a run of its own kind. */
static void add_broken(struct estimate *estimate) {
    if (estimate->run_class != RUN_BROKEN) {
        end_run(estimate, RUN_BROKEN);
        estimate->run_class = RUN_BROKEN;
    }
    estimate->run_length += estimate->run_length != UINT32_MAX;
}

static void start_character(struct estimate *estimate, unsigned char byte) {
    if (byte < 0x80) {
        add_character(estimate, byte);
    } else if (is_between(byte, 0xC2, 0xDF)) {
        estimate->character = byte & 0x1FU;
        estimate->continuation_bytes = 1;
    } else if (is_between(byte, 0xE0, 0xEF)) {
        estimate->character = byte & 0x0FU;
        estimate->continuation_bytes = 2;
    } else if (is_between(byte, 0xF0, 0xF4)) {
        estimate->character = byte & 0x07U;
        estimate->continuation_bytes = 3;
    } else {
        add_broken(estimate);
    }
}

void estimate_add(struct estimate *estimate, struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.base[i];
        if (estimate->continuation_bytes == 0) {
            start_character(estimate, byte);
        } else if ((byte & 0xC0U) == 0x80U) {
            estimate->character = estimate->character << 6 | (byte & 0x3FU);
            if (--estimate->continuation_bytes == 0) {
                add_character(estimate, estimate->character);
            }
        } else {
            estimate->continuation_bytes = 0;
            add_broken(estimate);
            start_character(estimate, byte);
        }
    }
}

void estimate_break(struct estimate *estimate) {
    if (estimate->continuation_bytes != 0 || estimate->escape_bytes != 0) {
        estimate->continuation_bytes = 0;
        estimate->escape_bytes = 0;
        add_broken(estimate);
    }
    estimate->high_surrogate = 0;
    end_run(estimate, RUN_NONE);
    estimate->previous_class = RUN_NONE;
}

int64_t estimate_tokens(const struct estimate *estimate) {
    struct estimate ended = *estimate;
    estimate_break(&ended);
    return (ended.token_thousandths + 500) / 1000;
}

int64_t estimate_text(struct span text) {
    struct estimate estimate;
    estimate_init(&estimate);
    estimate_add(&estimate, text);
    int64_t tokens = estimate_tokens(&estimate);
    return tokens == 0 && text.len != 0 ? 1 : tokens;
}

static uint32_t hex_value(char digit) {
    return is_between((unsigned char)digit, '0', '9') ? (uint32_t)(digit - '0')
                                                      : (uint32_t)((digit | 0x20) - 'a' + 10) & 0x0FU;
}

/* One \uXXXX: half of a pair waits for the other. */
static void add_unicode_escape(struct estimate *estimate) {
    uint32_t character = 0;
    for (int i = 2; i < 6; i++) {
        character = character << 4 | hex_value(estimate->escape[i]);
    }
    if (is_between(character, 0xD800, 0xDBFF)) {
        estimate->high_surrogate = (uint16_t)character;
        return;
    }
    if (is_between(character, 0xDC00, 0xDFFF) && estimate->high_surrogate != 0) {
        character = 0x10000U + ((uint32_t)(estimate->high_surrogate - 0xD800U) << 10) + (character - 0xDC00U);
    }
    estimate->high_surrogate = 0;
    add_character(estimate, character);
}

/* Takes one more byte of the escape that is open; acts on it when it is whole. */
static void add_escape_byte(struct estimate *estimate, char byte) {
    estimate->escape[estimate->escape_bytes++] = byte;
    if (estimate->escape[1] == 'u' && estimate->escape_bytes < sizeof(estimate->escape)) {
        return;
    }
    switch (estimate->escape[1]) {
    case 'u':
        add_unicode_escape(estimate);
        break;
    case 'n':
    case 'r':
        add_character(estimate, '\n');
        break;
    case 't':
        add_character(estimate, '\t');
        break;
    default:
        add_character(estimate, (unsigned char)estimate->escape[1]);
    }
    estimate->escape_bytes = 0;
}

void estimate_add_json(struct estimate *estimate, struct span escaped) {
    while (escaped.len != 0) {
        if (estimate->escape_bytes != 0) {
            add_escape_byte(estimate, escaped.base[0]);
            escaped = span_skip(escaped, 1);
            continue;
        }
        const char *backslash = memchr(escaped.base, '\\', escaped.len);
        size_t plain = backslash != NULL ? (size_t)(backslash - escaped.base) : escaped.len;
        estimate_add(estimate, span_of(escaped.base, plain));
        if (backslash != NULL) {
            estimate->escape[0] = '\\';
            estimate->escape_bytes = 1;
        }
        escaped = span_skip(escaped, plain + (backslash != NULL));
    }
}

/* ---- prompts ---- */

/* What a server adds around messages, and flat rates for what is no text. */
enum {
    MESSAGE_TOKENS = 4,
    ANSWER_PRIMER_TOKENS = 3,
    NAME_TOKENS = 1,
    TOOL_TOKENS = 8,
    IMAGE_TOKENS = 765,
    IMAGE_LOW_TOKENS = 85,
    AUDIO_TOKENS = 500,
    FILE_TOKENS = 2000
};

/* The inside of a string value; empty for any other. */
static struct span string_inside(const struct json_doc *doc, int value) {
    if (json_type_of(doc, value) != JSON_STRING) {
        return SPAN_EMPTY;
    }
    struct span raw = json_raw(doc, value);
    return span_of(raw.base + 1, raw.len - 2);
}

static void add_string(struct estimate *estimate, const struct json_doc *doc, int value) {
    estimate_add_json(estimate, string_inside(doc, value));
    estimate_break(estimate);
}

/* A JSON value as it is written, when there is one: schemas and the like reach the model as text. */
static void add_raw(struct estimate *estimate, const struct json_doc *doc, int value) {
    estimate_add(estimate, json_raw(doc, value));
    estimate_break(estimate);
}

/* Tokens of a content part that is no text. */
static int64_t flat_tokens(const struct json_doc *doc, int part) {
    int image = json_member(doc, part, "image_url");
    if (image >= 0) {
        return json_string_is(doc, json_member(doc, image, "detail"), "low") ? IMAGE_LOW_TOKENS : IMAGE_TOKENS;
    }
    return json_member(doc, part, "input_audio") >= 0 ? AUDIO_TOKENS
           : json_member(doc, part, "file") >= 0      ? FILE_TOKENS
                                                      : 0;
}

/* A message's content: a text, or parts. Returns the flat tokens in it. */
static int64_t add_content(struct estimate *estimate, const struct json_doc *doc, int content) {
    int64_t flat = 0;
    add_string(estimate, doc, content);
    if (json_type_of(doc, content) != JSON_ARRAY) {
        return 0;
    }
    for (int part = json_first(doc, content); part >= 0; part = json_next(doc, part)) {
        add_string(estimate, doc, part);
        add_string(estimate, doc, json_member(doc, part, "text"));
        add_string(estimate, doc, json_member(doc, part, "refusal"));
        flat += flat_tokens(doc, part);
    }
    return flat;
}

static int64_t add_tool_calls(struct estimate *estimate, const struct json_doc *doc, int message) {
    int64_t flat = 0;
    int calls = json_member(doc, message, "tool_calls");
    for (int call = json_type_of(doc, calls) == JSON_ARRAY ? json_first(doc, calls) : -1; call >= 0;
         call = json_next(doc, call)) {
        int function = json_member(doc, call, "function");
        add_string(estimate, doc, json_member(doc, function, "name"));
        add_string(estimate, doc, json_member(doc, function, "arguments"));
        flat += TOOL_TOKENS;
    }
    add_raw(estimate, doc, json_member(doc, message, "function_call"));
    return flat;
}

static int64_t add_message(struct estimate *estimate, const struct json_doc *doc, int message) {
    int64_t flat = MESSAGE_TOKENS + add_content(estimate, doc, json_member(doc, message, "content"));
    int name = json_member(doc, message, "name");
    add_string(estimate, doc, name);
    return flat + (name >= 0 ? NAME_TOKENS : 0) + add_tool_calls(estimate, doc, message);
}

int64_t estimate_chat_prompt(const struct json_doc *doc, int root) {
    struct estimate estimate;
    estimate_init(&estimate);
    int64_t flat = ANSWER_PRIMER_TOKENS;
    int messages = json_member(doc, root, "messages");
    for (int message = json_type_of(doc, messages) == JSON_ARRAY ? json_first(doc, messages) : -1; message >= 0;
         message = json_next(doc, message)) {
        flat += add_message(&estimate, doc, message);
    }
    int tools = json_member(doc, root, "tools");
    flat += (int64_t)json_size(doc, tools) * TOOL_TOKENS;
    add_raw(&estimate, doc, tools);
    add_raw(&estimate, doc, json_member(doc, root, "functions"));
    int format = json_member(doc, root, "response_format");
    add_raw(&estimate, doc, json_member(doc, format, "json_schema"));
    int64_t tokens = flat + estimate_tokens(&estimate);
    return tokens < INT32_MAX ? tokens : INT32_MAX;
}
