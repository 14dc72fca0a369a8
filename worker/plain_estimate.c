#include "worker/plain_estimate.h"

#include "worker/estimate.h"

/* What a server adds around items, and flat rates for what is no text; as for chats (estimate.c). */
enum {
    ITEM_TOKENS = 4,
    ANSWER_PRIMER_TOKENS = 3,
    TOOL_TOKENS = 8,
    IMAGE_TOKENS = 765,
    IMAGE_LOW_TOKENS = 85,
    AUDIO_TOKENS = 500,
    FILE_TOKENS = 2000,
    ENCRYPTED_BYTES_PER_TOKEN = 6 /* reasoning that only its provider can read, in base64 */
};

/* A prompt being added up. */
struct sum {
    const struct json_doc *doc;
    struct estimate text;
    int64_t flat_tokens;
};

static void add_string(struct sum *sum, int value) {
    struct span raw = json_raw(sum->doc, value);
    if (json_type_of(sum->doc, value) == JSON_STRING) {
        estimate_add_json(&sum->text, span_of(raw.base + 1, raw.len - 2));
        estimate_break(&sum->text);
    }
}

/* A JSON value as it is written: schemas and the like reach the model as text. */
static void add_raw(struct sum *sum, int value) {
    estimate_add(&sum->text, json_raw(sum->doc, value));
    estimate_break(&sum->text);
}

/* ---- completions, embeddings ---- */

static void add_texts(struct sum *sum, int input) {
    add_string(sum, input);
    if (json_type_of(sum->doc, input) != JSON_ARRAY) {
        return;
    }
    for (int item = json_first(sum->doc, input); item >= 0; item = json_next(sum->doc, item)) {
        add_string(sum, item);
        sum->flat_tokens += json_type_of(sum->doc, item) == JSON_NUMBER ? 1 : json_size(sum->doc, item);
    }
}

/* ---- Responses ---- */

/* Tokens of an object that stands for an image, a sound or a file; 0 when it is none. */
static int64_t media_tokens(const struct json_doc *doc, int object) {
    int type = json_member(doc, object, "type");
    if (json_string_is(doc, type, "input_image") || json_string_is(doc, type, "computer_screenshot")) {
        return json_string_is(doc, json_member(doc, object, "detail"), "low") ? IMAGE_LOW_TOKENS : IMAGE_TOKENS;
    }
    return json_string_is(doc, type, "input_audio")  ? AUDIO_TOKENS
           : json_string_is(doc, type, "input_file") ? FILE_TOKENS
                                                     : 0;
}

static bool is_one_of(const struct json_doc *doc, int name, const char *const *names) {
    size_t i = 0;
    while (names[i] != NULL && !json_string_is(doc, name, names[i])) {
        i++;
    }
    return names[i] != NULL;
}

static void add_value(struct sum *sum, int value);

/* One member of an item: its texts, unless it only names or orders things. */
static void add_member(struct sum *sum, int name) {
    static const char *const labels[] = {"type",   "id",     "call_id",      "role",    "status",
                                         "detail", "result", "server_label", "item_id", NULL};
    static const char *const holders[] = {"content", "summary", "output",    "outputs",
                                          "results", "queries", "variables", NULL};
    int value = json_value_of(sum->doc, name);
    if (is_one_of(sum->doc, name, labels)) {
        return;
    }
    if (json_string_is(sum->doc, name, "encrypted_content")) {
        sum->flat_tokens += (int64_t)json_raw(sum->doc, value).len / ENCRYPTED_BYTES_PER_TOKEN;
    } else if (json_type_of(sum->doc, value) == JSON_STRING || is_one_of(sum->doc, name, holders)) {
        add_value(sum, value);
    } else if (json_size(sum->doc, value) != 0) {
        add_raw(sum, value);
    }
}

/* All that is said in a value. Nests no deeper than json_parse lets it. */
static void add_value(struct sum *sum, int value) {
    enum json_type type = json_type_of(sum->doc, value);
    int64_t media = media_tokens(sum->doc, value);
    add_string(sum, value);
    sum->flat_tokens += media;
    if ((type != JSON_OBJECT && type != JSON_ARRAY) || media != 0) {
        return;
    }
    for (int child = json_first(sum->doc, value); child >= 0; child = json_next(sum->doc, child)) {
        if (type == JSON_OBJECT) {
            add_member(sum, child);
        } else {
            add_value(sum, child);
        }
    }
}

static void add_response(struct sum *sum, const int values[static PLAIN_FIELDS]) {
    int input = values[PLAIN_INPUT];
    int64_t items = json_type_of(sum->doc, input) == JSON_ARRAY ? json_size(sum->doc, input) : input >= 0;
    bool has_instructions = json_type_of(sum->doc, values[PLAIN_INSTRUCTIONS]) == JSON_STRING;
    sum->flat_tokens += ANSWER_PRIMER_TOKENS + (items + has_instructions) * ITEM_TOKENS;
    add_string(sum, values[PLAIN_INSTRUCTIONS]);
    add_value(sum, input);
    add_value(sum, json_member(sum->doc, values[PLAIN_TEMPLATE], "variables"));
    sum->flat_tokens += (int64_t)json_size(sum->doc, values[PLAIN_TOOLS]) * TOOL_TOKENS;
    add_raw(sum, values[PLAIN_TOOLS]);
    add_raw(sum, json_member(sum->doc, json_member(sum->doc, values[PLAIN_TEXT], "format"), "schema"));
}

int64_t plain_estimate(const struct json_doc *doc, enum client_form form, const int values[static PLAIN_FIELDS],
                       struct span model) {
    struct sum sum = {.doc = doc};
    estimate_init(&sum.text, model);
    if (form == CLIENT_RESPONSES) {
        add_response(&sum, values);
    } else {
        add_texts(&sum, values[PLAIN_INPUT]);
    }
    int64_t tokens = sum.flat_tokens + estimate_tokens(&sum.text);
    return tokens < INT32_MAX ? tokens : INT32_MAX;
}
