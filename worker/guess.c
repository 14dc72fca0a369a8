#include "worker/guess.h"

/* How the guess works: the text falls into runs of one class (a word, a group of digits, punctuation, blanks ...),
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

static void charge(struct guess *guess, int feature, uint32_t times) {
    guess->token_thousandths += (int64_t)cost_thousandths[feature] * times;
}

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
static void weigh_language(struct guess *guess) {
    if (guess->has_accent) {
        guess->has_accent = false;
        guess->foreign_words = guess->foreign_words < FOREIGN_MOST - FOREIGN_STEP
                                   ? (uint8_t)(guess->foreign_words + FOREIGN_STEP)
                                   : FOREIGN_MOST;
    } else if (guess->foreign_words != 0) {
        guess->foreign_words--;
    }
}

static void charge_word(struct guess *guess) {
    weigh_language(guess);
    uint32_t length = guess->run_length;
    if (guess->last_letter == LETTER_UPPER && length > 1) {
        charge(guess, CAPITALS_RUN, 1);
        charge(guess, CAPITALS_CHARACTER, length);
        return;
    }
    int by_place = guess->foreign_words != 0            ? WORD_FOREIGN
                   : guess->previous_class == RUN_SPACE ? WORD_SPACED
                                                        : WORD_BARE;
    uint32_t step = length < WORD_LENGTHS ? length : WORD_LENGTHS;
    charge(guess, by_place + (int)step - 1, 1);
    charge(guess, WORD_MORE, length - step);
}

static void charge_punctuation(struct guess *guess) {
    uint32_t length = guess->run_length;
    if (guess->previous_class == RUN_SPACE) {
        charge(guess, PUNCTUATION_SPACED, 1);
    }
    charge(guess, length == 1 ? PUNCTUATION_1 : length == 2 ? PUNCTUATION_2 : PUNCTUATION_3, 1);
    charge(guess, PUNCTUATION_MORE, length > 3 ? length - 3 : 0);
}

/* A blank joins the word after it; others of its run, and one before digits, stand alone. */
static void charge_space(struct guess *guess, enum run_class next) {
    if (guess->run_length > 1) {
        charge(guess, SPACE_RUN, 1);
    } else if (next == RUN_DIGITS) {
        charge(guess, SPACE_BEFORE_DIGIT, 1);
    }
}

/* Charges the open run; `next` is the class that follows, RUN_NONE at the end. */
static void end_run(struct guess *guess, enum run_class next) {
    enum run_class class = (enum run_class)guess->run_class;
    switch (class) {
    case RUN_NONE:
        return;
    case RUN_WORD:
        charge_word(guess);
        break;
    case RUN_DIGITS:
        charge(guess, DIGIT_GROUP, (guess->run_length + 2) / 3);
        guess->extra_digits += guess->run_length - (guess->run_length + 2) / 3;
        break;
    case RUN_SPACE:
        charge_space(guess, next);
        break;
    case RUN_NEWLINE:
        charge(guess, guess->previous_class == RUN_PUNCTUATION ? NEWLINE_AFTER_PUNCTUATION : NEWLINE, 1);
        break;
    case RUN_PUNCTUATION:
        charge_punctuation(guess);
        break;
    default:
        charge(guess, SCRIPT_RUN + (int)class, 1);
        charge(guess, SCRIPT_CHARACTER + (int)class, guess->run_length);
    }
    guess->previous_class = guess->run_class;
    guess->run_class = RUN_NONE;
    guess->run_length = 0;
    guess->last_letter = LETTER_NONE;
}

/* An apostrophe inside a word belongs to it. */
static bool is_apostrophe(uint32_t character) { return character == '\'' || character == 0x2019; }

/* Only ASCII tells capitals apart here; other letters count as small ones. */
static uint8_t letter_case(uint32_t character) { return is_between(character, 'A', 'Z') ? LETTER_UPPER : LETTER_LOWER; }

static void add_character(struct guess *guess, uint32_t character) {
    enum run_class class = classify(character);
    bool in_word = guess->run_class == RUN_WORD;
    if (in_word && is_apostrophe(character)) {
        class = RUN_WORD;
    }
    bool is_hump =
        in_word && class == RUN_WORD && guess->last_letter == LETTER_LOWER && letter_case(character) == LETTER_UPPER;
    if ((uint8_t) class != guess->run_class || is_hump) {
        end_run(guess, class);
        guess->run_class = (uint8_t) class;
    }
    guess->run_length += guess->run_length != UINT32_MAX;
    if (class == RUN_WORD) {
        if (guess->last_letter != LETTER_LOWER && !is_apostrophe(character)) {
            guess->last_letter = letter_case(character);
        }
        if (character >= 0x80) {
            guess->has_accent |= !is_apostrophe(character);
            charge(guess, LATIN_ACCENTED, 1);
        }
    }
}

/* A byte that is no UTF-8 where it stands: a run of its own kind. */
static void add_broken(struct guess *guess) {
    if (guess->run_class != RUN_BROKEN) {
        end_run(guess, RUN_BROKEN);
        guess->run_class = RUN_BROKEN;
    }
    guess->run_length += guess->run_length != UINT32_MAX;
}

static void start_character(struct guess *guess, unsigned char byte) {
    if (byte < 0x80) {
        add_character(guess, byte);
    } else if (is_between(byte, 0xC2, 0xDF)) {
        guess->character = byte & 0x1FU;
        guess->continuation_bytes = 1;
    } else if (is_between(byte, 0xE0, 0xEF)) {
        guess->character = byte & 0x0FU;
        guess->continuation_bytes = 2;
    } else if (is_between(byte, 0xF0, 0xF4)) {
        guess->character = byte & 0x07U;
        guess->continuation_bytes = 3;
    } else {
        add_broken(guess);
    }
}

void guess_add(struct guess *guess, struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.base[i];
        if (guess->continuation_bytes == 0) {
            start_character(guess, byte);
        } else if ((byte & 0xC0U) == 0x80U) {
            guess->character = guess->character << 6 | (byte & 0x3FU);
            if (--guess->continuation_bytes == 0) {
                add_character(guess, guess->character);
            }
        } else {
            guess->continuation_bytes = 0;
            add_broken(guess);
            start_character(guess, byte);
        }
    }
}

void guess_break(struct guess *guess) {
    if (guess->continuation_bytes != 0) {
        guess->continuation_bytes = 0;
        add_broken(guess);
    }
    end_run(guess, RUN_NONE);
    guess->previous_class = RUN_NONE;
}

int64_t guess_thousandths(const struct guess *guess) {
    struct guess ended = *guess;
    guess_break(&ended);
    return ended.token_thousandths;
}
