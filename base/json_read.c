#include "base/json_read.h"

#include <stdlib.h>

#include "base/json_text.h"
#include "base/json_validate.h"

/* Without parent links jsmn takes quadratic time on hostile texts. */
#define JSMN_STATIC
#define JSMN_PARENT_LINKS
#define JSMN_STRICT
#include <jsmn.h>

enum { FIRST_TOKENS = 64 };

/* Once jsmn is done, its `parent` is of no more use and holds the next sibling instead (for a member name: the next
 * name), or -1. */
struct json_token {
    jsmntok_t jsmn;
};
_Static_assert(sizeof(struct json_token) == sizeof(jsmntok_t), "an array of one must be an array of the other");

void json_doc_init(struct json_doc *doc) { *doc = (struct json_doc){.tokens = NULL}; }

void json_doc_fini(struct json_doc *doc) {
    free(doc->tokens);
    json_doc_init(doc);
}

static bool fail_parse(struct json_doc *doc, const char *error, size_t error_at) {
    doc->count = 0;
    doc->error = error;
    doc->error_at = error_at;
    return false;
}

/* Makes room for `count` tokens; what stood there is forgotten. */
static bool reserve_tokens(struct json_doc *doc, int count) {
    if (count <= doc->capacity) {
        return true;
    }
    int capacity = doc->capacity > FIRST_TOKENS / 2 ? doc->capacity * 2 : FIRST_TOKENS;
    capacity = capacity < count ? count : capacity;
    free(doc->tokens);
    doc->tokens = calloc((size_t)capacity, sizeof(*doc->tokens));
    doc->capacity = doc->tokens != NULL ? capacity : 0;
    return doc->tokens != NULL;
}

/* jsmn in strict mode refuses a number or literal that is the whole text. */
static void set_root_primitive(struct json_doc *doc) {
    struct span trimmed = doc->text;
    while (strchr(" \t\r\n", trimmed.base[0]) != NULL) {
        trimmed = span_skip(trimmed, 1);
    }
    while (strchr(" \t\r\n", trimmed.base[trimmed.len - 1]) != NULL) {
        trimmed.len--;
    }
    int start = (int)(trimmed.base - doc->text.base);
    doc->tokens[0].jsmn =
        (jsmntok_t){.type = JSMN_PRIMITIVE, .start = start, .end = start + (int)trimmed.len, .size = 0, .parent = -1};
    doc->count = 1;
}

struct open_container {
    int token;
    int last_child;
    bool value_next; /* in an object: the last child was a name, its value follows */
};

/* Appends token `child` to the chain of its container, leaving out the values of members. */
static void link_child(struct json_doc *doc, struct open_container *container, int child) {
    if (container->value_next) {
        container->value_next = false;
        return;
    }
    if (container->last_child >= 0) {
        doc->tokens[container->last_child].jsmn.parent = child;
    }
    container->last_child = child;
    container->value_next = doc->tokens[container->token].jsmn.type == JSMN_OBJECT;
}

static void link_siblings(struct json_doc *doc) {
    struct open_container open[JSON_DEPTH_MOST];
    int depth = 0;
    for (int i = 0; i < doc->count; i++) {
        jsmntok_t *token = &doc->tokens[i].jsmn;
        while (depth > 0 && doc->tokens[open[depth - 1].token].jsmn.end <= token->start) {
            depth--;
        }
        token->parent = -1;
        if (depth > 0) {
            link_child(doc, &open[depth - 1], i);
        }
        if (token->type == JSMN_OBJECT || token->type == JSMN_ARRAY) {
            CHECK(depth < JSON_DEPTH_MOST);
            open[depth++] = (struct open_container){.token = i, .last_child = -1, .value_next = false};
        }
    }
}

static bool tokenise(struct json_doc *doc, int tokens) {
    jsmn_parser parser;
    jsmn_init(&parser);
    doc->count = jsmn_parse(&parser, doc->text.base, doc->text.len, &doc->tokens->jsmn, (unsigned)tokens);
    if (doc->count != tokens) {
        return false;
    }
    link_siblings(doc);
    return true;
}

bool json_parse(struct json_doc *doc, struct span text) {
    struct json_findings findings;
    doc->text = text;
    doc->count = 0;
    doc->error = NULL;
    doc->error_at = 0;
    if (!json_validate(text, &findings)) {
        return fail_parse(doc, findings.error, findings.error_at);
    }
    if (!reserve_tokens(doc, findings.tokens)) {
        return fail_parse(doc, "not enough memory", 0);
    }
    if (findings.tokens == 1 && memchr(text.base, '"', text.len) == NULL && memchr(text.base, '{', text.len) == NULL &&
        memchr(text.base, '[', text.len) == NULL) {
        set_root_primitive(doc);
        return true;
    }
    return tokenise(doc, findings.tokens) ? true : fail_parse(doc, "not JSON", 0);
}

static const jsmntok_t *find_token(const struct json_doc *doc, int value) {
    return value >= 0 && value < doc->count ? &doc->tokens[value].jsmn : NULL;
}

enum json_type json_type_of(const struct json_doc *doc, int value) {
    const jsmntok_t *token = find_token(doc, value);
    if (token == NULL) {
        return JSON_ABSENT;
    }
    switch (token->type) {
    case JSMN_OBJECT:
        return JSON_OBJECT;
    case JSMN_ARRAY:
        return JSON_ARRAY;
    case JSMN_STRING:
        return JSON_STRING;
    default:
        break;
    }
    switch (doc->text.base[token->start]) {
    case 'n':
        return JSON_NULL;
    case 't':
        return JSON_TRUE;
    case 'f':
        return JSON_FALSE;
    default:
        return JSON_NUMBER;
    }
}

struct span json_raw(const struct json_doc *doc, int value) {
    const jsmntok_t *token = find_token(doc, value);
    if (token == NULL) {
        return SPAN_EMPTY;
    }
    int quote = token->type == JSMN_STRING ? 1 : 0;
    return span_of(doc->text.base + token->start - quote,
                   (size_t)(token->end + quote) - (size_t)(token->start - quote));
}

/* What stands between the quotes of a string token, escapes and all. */
static struct span inner_text(const struct json_doc *doc, int string) {
    const jsmntok_t *token = &doc->tokens[string].jsmn;
    return span_of(doc->text.base + token->start, (size_t)(token->end - token->start));
}

int json_member(const struct json_doc *doc, int object, const char *name) {
    if (json_type_of(doc, object) != JSON_OBJECT) {
        return -1;
    }
    struct span wanted = span_text(name);
    for (int i = json_first(doc, object); i >= 0; i = doc->tokens[i].jsmn.parent) {
        if (json_text_is(inner_text(doc, i), wanted)) {
            return i + 1;
        }
    }
    return -1;
}

int json_first(const struct json_doc *doc, int container) { return json_size(doc, container) > 0 ? container + 1 : -1; }

int json_next(const struct json_doc *doc, int child) {
    const jsmntok_t *token = find_token(doc, child);
    return token != NULL ? token->parent : -1;
}

int json_value_of(const struct json_doc *doc, int name) {
    const jsmntok_t *token = find_token(doc, name);
    return token != NULL && token->type == JSMN_STRING && token->size == 1 ? name + 1 : -1;
}

int json_size(const struct json_doc *doc, int container) {
    const jsmntok_t *token = find_token(doc, container);
    return token != NULL && (token->type == JSMN_OBJECT || token->type == JSMN_ARRAY) ? token->size : 0;
}

/* For qsort_r: by name, equal names in the order of the text. */
static int compare_names(const void *left, const void *right, void *context) {
    const struct json_doc *doc = context;
    int a = *(const int *)left;
    int b = *(const int *)right;
    int order = json_text_compare(inner_text(doc, a), inner_text(doc, b));
    return order != 0 ? order : (a > b) - (a < b);
}

/* Names stand sorted; the earliest in the text that repeats one before it. */
static int find_earliest_repeat(const struct json_doc *doc, const int *names, int count) {
    int found = -1;
    for (int i = 1; i < count; i++) {
        if ((found < 0 || names[i] < found) &&
            json_text_compare(inner_text(doc, names[i - 1]), inner_text(doc, names[i])) == 0) {
            found = names[i];
        }
    }
    return found;
}

int json_duplicate(const struct json_doc *doc, int object) {
    int few[FIRST_TOKENS];
    int size = json_type_of(doc, object) == JSON_OBJECT ? json_size(doc, object) : 0;
    if (size < 2) {
        return -1;
    }
    int *names = size <= FIRST_TOKENS ? few : calloc((size_t)size, sizeof(*names));
    if (names == NULL) {
        return json_first(doc, object);
    }
    int count = 0;
    for (int i = json_first(doc, object); i >= 0 && count < size; i = doc->tokens[i].jsmn.parent) {
        names[count++] = i;
    }
    qsort_r(names, (size_t)count, sizeof(*names), compare_names, (void *)doc);
    int found = find_earliest_repeat(doc, names, count);
    if (names != few) {
        free(names);
    }
    return found;
}
