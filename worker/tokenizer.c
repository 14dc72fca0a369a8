#include "worker/tokenizer.h"

/* Where the numbers come from.
 * Ratios: the families' public tokenizers (DeepSeek V3, Gemma 3, Llama 3, Qwen 3, Mistral's tekken) over English prose,
 * Markdown, code and JSON, beside o200k, digits put aside where a tokenizer takes them one by one: DeepSeek 1.00 to
 * 1.05, Gemma 1.02 to 1.14, Llama and Qwen 0.99 to 1.01, tekken 1.00 to 1.05; other languages are up to 1.3 in Llama
 * and Qwen. Where a tokenizer is not public, from what providers count: Claude's plain answers are 1.17 to 1.21 times
 * o200k's, Gemini's 1.00 to 1.02. Where nothing is known the ratio is chosen rather too high, for budgets rest on it.
 * Tokens beside the text follow from the formats that models write: OpenAI's harmony (a channel's name and marks around
 * each message: 4 for the answer, 6 for reasoning, 11 for a call), thinking marks and an end mark (1 each), JSON or XML
 * around calls; where a format is not published, from what providers counted for the shortest answers. */

/* Looked through in order; the first whose name is in the model's holds. A name that begins with `^` must begin a part
 * of the model's name and be followed by no letter or digit. */
static const struct tokenizer tokenizers[] = {
    {"distill-llama", VOCABULARY_O200K, false, false, 1010, 1, 2, 16, 16},
    {"distill-qwen", VOCABULARY_O200K, false, true, 1010, 1, 4, 16, 16},
    {"claude", VOCABULARY_O200K, false, false, 1190, 3, 6, 36, 36},
    {"gemini", VOCABULARY_O200K, false, true, 1030, 0, 0, 6, 6},
    {"gemma", VOCABULARY_O200K, false, true, 1060, 1, 0, 6, 6},
    {"deepseek", VOCABULARY_O200K, false, false, 1020, 0, 1, 24, 24},
    {"llama", VOCABULARY_O200K, false, false, 1010, 1, 2, 16, 16},
    {"qwen", VOCABULARY_O200K, false, true, 1010, 1, 4, 16, 16},
    {"qwq", VOCABULARY_O200K, false, true, 1010, 1, 4, 16, 16},
    {"stral", VOCABULARY_O200K, false, true, 1010, 1, 2, 8, 8},
    {"xtral", VOCABULARY_O200K, false, true, 1010, 1, 2, 8, 8},
    {"moonshot", VOCABULARY_O200K, false, false, 1020, 2, 3, 13, 13},
    {"kimi", VOCABULARY_O200K, false, false, 1020, 2, 3, 13, 13},
    {"grok", VOCABULARY_O200K, false, false, 1020, 1, 2, 12, 12},
    {"gpt-oss", VOCABULARY_O200K, true, false, 1000, 4, 6, 11, 11},
    {"gpt-5.", VOCABULARY_O200K, true, false, 1000, 4, 0, 17, 17},
    {"gpt-5", VOCABULARY_O200K, true, false, 1000, 9, 0, 16, 16},
    {"^o1", VOCABULARY_O200K, true, false, 1000, 9, 0, 16, 16},
    {"^o3", VOCABULARY_O200K, true, false, 1000, 9, 0, 16, 16},
    {"^o4", VOCABULARY_O200K, true, false, 1000, 9, 0, 16, 16},
    {"gpt-4o", VOCABULARY_O200K, true, false, 1000, 0, 0, 8, 14},
    {"gpt-4.", VOCABULARY_O200K, true, false, 1000, 0, 0, 8, 14},
    {"gpt-4", VOCABULARY_CL100K, true, false, 1000, 0, 0, 8, 14},
    {"gpt-3", VOCABULARY_CL100K, true, false, 1000, 0, 0, 8, 14},
    {"babbage-002", VOCABULARY_CL100K, true, false, 1000, 0, 0, 0, 0},
    {"davinci-002", VOCABULARY_CL100K, true, false, 1000, 0, 0, 0, 0},
    {"text-embedding", VOCABULARY_CL100K, true, false, 1000, 0, 0, 0, 0},
    {"^demo", VOCABULARY_O200K, true, false, 1000, 0, 0, 0, 0},
};

static const struct tokenizer unknown = {"", VOCABULARY_O200K, false, false, 1050, 1, 2, 12, 12};

static bool is_name_character(char character) {
    char lower = (char)(character | 0x20);
    return (lower >= 'a' && lower <= 'z') || (character >= '0' && character <= '9');
}

static bool is_in(struct span model, const char *name) {
    bool is_whole = name[0] == '^';
    struct span wanted = span_text(name + is_whole);
    for (size_t at = 0; at + wanted.len <= model.len; at++) {
        if (strncasecmp(model.base + at, wanted.base, wanted.len) != 0) {
            continue;
        }
        size_t end = at + wanted.len;
        bool begins = at == 0 || !is_name_character(model.base[at - 1]);
        bool ends = end == model.len || !is_name_character(model.base[end]);
        if (!is_whole || (begins && ends)) {
            return true;
        }
    }
    return false;
}

const struct tokenizer *tokenizer_of(struct span model) {
    for (size_t i = 0; i < sizeof(tokenizers) / sizeof(tokenizers[0]); i++) {
        if (is_in(model, tokenizers[i].name)) {
            return &tokenizers[i];
        }
    }
    return &unknown;
}
