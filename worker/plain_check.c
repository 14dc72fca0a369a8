#include "worker/plain_check.h"

#include <stdio.h>

#include "worker/chat_check.h"
#include "worker/field_check.h"

static const struct field_rule completions_rules[] = {
    [PLAIN_MODEL] = {"model", FIELD_REQUIRED_STRING, true, 0, 0},
    [PLAIN_INPUT] = {"prompt", FIELD_OTHER, true, 0, 0},
    [PLAIN_STREAM] = {"stream", FIELD_BOOL, true, 0, 0},
    [PLAIN_STREAM_OPTIONS] = {"stream_options", FIELD_OBJECT, true, 0, 0},
    [PLAIN_CAP] = {"max_tokens", FIELD_INT, true, 0, FIELD_INT32_TOP},
    [PLAIN_USER] = {"user", FIELD_STRING, true, 0, 0},
    [PLAIN_SAFETY_IDENTIFIER] = {"safety_identifier", FIELD_STRING, true, 0, 0},
    [PLAIN_METADATA] = {"metadata", FIELD_OBJECT, true, 0, 0},
    [PLAIN_N] = {"n", FIELD_INT, true, 1, 128},
    [PLAIN_BEST_OF] = {"best_of", FIELD_INT, true, 1, 128},
    [PLAIN_FIELDS] = {"service_tier", FIELD_STRING, true, 0, 0},
    {"suffix", FIELD_STRING, true, 0, 0},
    {"echo", FIELD_BOOL, true, 0, 0},
    {"temperature", FIELD_NUMBER, false, 0, 2},
    {"top_p", FIELD_NUMBER, false, 0, 1},
    {"presence_penalty", FIELD_NUMBER, false, -2, 2},
    {"frequency_penalty", FIELD_NUMBER, false, -2, 2},
    {"stop", FIELD_STOP, false, 0, 4},
    {"logprobs", FIELD_INT, false, 0, 128},
    {"logit_bias", FIELD_OBJECT, false, 0, 0},
    {"seed", FIELD_INT, false, -FIELD_INT53_TOP * 1024, FIELD_INT53_TOP * 1024},
};

static const struct field_rule responses_rules[] = {
    [PLAIN_MODEL] = {"model", FIELD_REQUIRED_STRING, true, 0, 0},
    [PLAIN_INPUT] = {"input", FIELD_OTHER, true, 0, 0},
    [PLAIN_STREAM] = {"stream", FIELD_BOOL, true, 0, 0},
    [PLAIN_STREAM_OPTIONS] = {"stream_options", FIELD_OBJECT, true, 0, 0},
    [PLAIN_CAP] = {"max_output_tokens", FIELD_INT, true, 1, FIELD_INT32_TOP},
    [PLAIN_USER] = {"user", FIELD_STRING, true, 0, 0},
    [PLAIN_SAFETY_IDENTIFIER] = {"safety_identifier", FIELD_STRING, true, 0, 0},
    [PLAIN_METADATA] = {"metadata", FIELD_OBJECT, true, 0, 0},
    [PLAIN_INSTRUCTIONS] = {"instructions", FIELD_STRING, true, 0, 0},
    [PLAIN_TOOLS] = {"tools", FIELD_OTHER, true, 0, 0},
    [PLAIN_TEXT] = {"text", FIELD_OBJECT, true, 0, 0},
    [PLAIN_TEMPLATE] = {"prompt", FIELD_OBJECT, true, 0, 0},
    [PLAIN_PREVIOUS] = {"previous_response_id", FIELD_STRING, true, 0, 0},
    [PLAIN_CONVERSATION] = {"conversation", FIELD_CHOICE, true, 0, 0},
    [PLAIN_FIELDS] = {"background", FIELD_OTHER, true, 0, 0},
    {"tool_choice", FIELD_CHOICE, true, 0, 0},
    {"reasoning", FIELD_OBJECT, true, 0, 0},
    {"service_tier", FIELD_STRING, true, 0, 0},
    {"store", FIELD_BOOL, true, 0, 0},
    {"truncation", FIELD_STRING, true, 0, 0},
    {"max_tool_calls", FIELD_INT, true, 0, FIELD_INT32_TOP},
    {"include", FIELD_ARRAY, false, 0, 0},
    {"temperature", FIELD_NUMBER, false, 0, 2},
    {"top_p", FIELD_NUMBER, false, 0, 1},
    {"top_logprobs", FIELD_INT, false, 0, 20},
    {"parallel_tool_calls", FIELD_BOOL, false, 0, 0},
    {"prompt_cache_key", FIELD_STRING, false, 0, 0},
    {"prompt_cache_retention", FIELD_STRING, false, 0, 0},
};

static const struct field_rule embeddings_rules[] = {
    [PLAIN_MODEL] = {"model", FIELD_REQUIRED_STRING, true, 0, 0},
    [PLAIN_INPUT] = {"input", FIELD_OTHER, true, 0, 0},
    [PLAIN_STREAM] = {"stream", FIELD_OTHER, true, 0, 0},
    [PLAIN_USER] = {"user", FIELD_STRING, true, 0, 0},
    [PLAIN_SAFETY_IDENTIFIER] = {"safety_identifier", FIELD_STRING, true, 0, 0},
    [PLAIN_METADATA] = {"metadata", FIELD_OBJECT, true, 0, 0},
    [PLAIN_FIELDS] = {"encoding_format", FIELD_STRING, true, 0, 0},
    {"dimensions", FIELD_INT, true, 1, FIELD_INT32_TOP},
};

/* A whole number that can be a token's. */
static bool is_token(const struct json_doc *doc, int value) {
    int64_t number = 0;
    return json_int(doc, value, &number) && number >= 0 && number <= INT32_MAX;
}

static bool are_tokens(const struct json_doc *doc, int array) {
    bool is_right = json_type_of(doc, array) == JSON_ARRAY && json_size(doc, array) != 0;
    for (int item = is_right ? json_first(doc, array) : -1; item >= 0 && is_right; item = json_next(doc, item)) {
        is_right = is_token(doc, item);
    }
    return is_right;
}

static bool are_strings(const struct json_doc *doc, int array) {
    for (int item = json_first(doc, array); item >= 0; item = json_next(doc, item)) {
        if (json_type_of(doc, item) != JSON_STRING) {
            return false;
        }
    }
    return true;
}

static bool are_token_arrays(const struct json_doc *doc, int array) {
    for (int item = json_first(doc, array); item >= 0; item = json_next(doc, item)) {
        if (!are_tokens(doc, item)) {
            return false;
        }
    }
    return true;
}

int64_t plain_check_count(const struct json_doc *doc, int input) {
    bool is_array = json_type_of(doc, input) == JSON_ARRAY;
    bool has_several = is_array && json_type_of(doc, json_first(doc, input)) != JSON_NUMBER;
    return has_several ? json_size(doc, input) : 1;
}

/* A text, texts, tokens or arrays of tokens. */
static bool check_texts(const struct json_doc *doc, int value, const struct field_rule *rule,
                        struct chat_verdict *verdict) {
    enum json_type type = json_type_of(doc, value);
    bool is_array = type == JSON_ARRAY && json_size(doc, value) != 0;
    bool is_right = type == JSON_STRING ||
                    (is_array && (are_strings(doc, value) || are_tokens(doc, value) || are_token_arrays(doc, value)));
    if (!is_right) {
        return field_refuse(verdict, rule->name,
                            "a string, an array of strings, an array of tokens or an array of token arrays, not empty");
    }
    if (plain_check_count(doc, value) > PLAIN_INPUTS_MOST) {
        return chat_refuse(verdict, "invalid_value", rule->name, "'%s' must have at most %d elements.", rule->name,
                           PLAIN_INPUTS_MOST);
    }
    return true;
}

/* Refuses item `index` of a Responses input over its field `name` ("" for the item itself). */
static bool refuse_item(struct chat_verdict *verdict, const char *code, int index, const char *name,
                        const char *must_be) {
    char param[CHAT_PARAM_BYTES];
    (void)snprintf(param, sizeof(param), "input[%d]%s%s", index, name[0] != '\0' ? "." : "", name);
    return chat_refuse(verdict, code, param, "'%s' must be %s.", param, must_be);
}

static bool are_parts(const struct json_doc *doc, int content) {
    bool is_right = json_type_of(doc, content) == JSON_ARRAY;
    for (int part = is_right ? json_first(doc, content) : -1; part >= 0 && is_right; part = json_next(doc, part)) {
        is_right = json_type_of(doc, json_member(doc, part, "type")) == JSON_STRING;
    }
    return is_right;
}

static bool check_message(const struct json_doc *doc, int item, int index, struct chat_verdict *verdict) {
    int role = json_member(doc, item, "role");
    int content = json_member(doc, item, "content");
    if (role < 0) {
        return refuse_item(verdict, "missing_field", index, "role", "given");
    }
    if (json_type_of(doc, role) != JSON_STRING || json_string_is(doc, role, "")) {
        return refuse_item(verdict, "invalid_value", index, "role", "one of user, assistant, system, developer");
    }
    if (content < 0) {
        return refuse_item(verdict, "missing_field", index, "content", "a string or an array of parts");
    }
    return json_type_of(doc, content) == JSON_STRING || are_parts(doc, content) ||
           refuse_item(verdict, "invalid_value", index, "content", "a string or an array of parts with a 'type'");
}

/* One item of a Responses input: a message, or whatever its type says, which is the upstream's affair. */
static bool check_item(const struct json_doc *doc, int item, int index, struct chat_verdict *verdict) {
    if (json_type_of(doc, item) != JSON_OBJECT) {
        return refuse_item(verdict, "invalid_value", index, "", "an object");
    }
    if (json_duplicate(doc, item) >= 0) {
        return refuse_item(verdict, "invalid_value", index, "", "without fields given twice");
    }
    int type = json_member(doc, item, "type");
    bool has_type = type >= 0 && json_type_of(doc, type) != JSON_NULL;
    if (has_type && json_type_of(doc, type) != JSON_STRING) {
        return refuse_item(verdict, "invalid_value", index, "type", "a string");
    }
    /* {"id"} alone refers to an item that the upstream keeps. */
    bool is_message = has_type ? json_string_is(doc, type, "message") : json_member(doc, item, "id") < 0;
    return !is_message || check_message(doc, item, index, verdict);
}

static bool check_items(const struct json_doc *doc, int value, const struct field_rule *rule,
                        struct chat_verdict *verdict) {
    enum json_type type = json_type_of(doc, value);
    if (type != JSON_NULL && type != JSON_STRING && type != JSON_ARRAY) {
        return field_refuse(verdict, rule->name, "a string or an array of items");
    }
    int index = 0;
    for (int item = type == JSON_ARRAY ? json_first(doc, value) : -1; item >= 0; item = json_next(doc, item)) {
        if (!check_item(doc, item, index++, verdict)) {
            return false;
        }
    }
    return true;
}

static bool check_tools(const struct json_doc *doc, int value, const struct field_rule *rule,
                        struct chat_verdict *verdict) {
    if (json_type_of(doc, value) == JSON_NULL) {
        return true;
    }
    if (json_type_of(doc, value) != JSON_ARRAY) {
        return field_refuse(verdict, rule->name, "an array");
    }
    int index = 0;
    for (int tool = json_first(doc, value); tool >= 0; tool = json_next(doc, tool), index++) {
        char param[CHAT_PARAM_BYTES];
        int type = json_member(doc, tool, "type");
        int name = json_member(doc, tool, "name");
        if (json_type_of(doc, type) != JSON_STRING) {
            (void)snprintf(param, sizeof(param), "tools[%d].type", index);
            return chat_refuse(verdict, "invalid_value", param,
                               "Each of 'tools' must be an object with a string 'type'.");
        }
        if (json_string_is(doc, type, "function") &&
            (json_type_of(doc, name) != JSON_STRING || json_string_is(doc, name, ""))) {
            (void)snprintf(param, sizeof(param), "tools[%d].name", index);
            return chat_refuse(verdict, "invalid_value", param, "A tool of type 'function' needs a name.");
        }
    }
    return true;
}

/* A flag that may be false, or not given, but not true. */
static bool check_never(const struct json_doc *doc, int value, const struct field_rule *rule, const char *why,
                        struct chat_verdict *verdict) {
    enum json_type type = json_type_of(doc, value);
    if (type == JSON_TRUE) {
        return chat_refuse(verdict, "invalid_value", rule->name, "'%s' must not be true: %s", rule->name, why);
    }
    return type == JSON_NULL || type == JSON_FALSE || field_refuse(verdict, rule->name, "false, or left out");
}

/* Of type field_check_fn. */
static bool check_responses_other(const struct json_doc *doc, int value, const struct field_rule *rule,
                                  struct chat_verdict *verdict) {
    if (rule == &responses_rules[PLAIN_INPUT]) {
        return check_items(doc, value, rule, verdict);
    }
    if (rule == &responses_rules[PLAIN_TOOLS]) {
        return check_tools(doc, value, rule, verdict);
    }
    return check_never(doc, value, rule,
                       "what runs on after its answer could not be counted here. Ask for a stream instead.", verdict);
}

/* Of type field_check_fn. */
static bool check_embeddings_other(const struct json_doc *doc, int value, const struct field_rule *rule,
                                   struct chat_verdict *verdict) {
    return rule == &embeddings_rules[PLAIN_INPUT]
               ? check_texts(doc, value, rule, verdict)
               : check_never(doc, value, rule, "embeddings come in one piece.", verdict);
}

/* The conversation goes on without new input only where the upstream holds the rest of it. */
static bool check_responses_input(const struct json_doc *doc, const int values[static PLAIN_FIELDS],
                                  struct chat_verdict *verdict) {
    static const enum plain_field others[] = {PLAIN_TEMPLATE, PLAIN_PREVIOUS, PLAIN_CONVERSATION};
    enum json_type type = json_type_of(doc, values[PLAIN_INPUT]);
    bool is_given = type == JSON_STRING || json_size(doc, values[PLAIN_INPUT]) != 0;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        enum json_type other = json_type_of(doc, values[others[i]]);
        is_given |= other != JSON_ABSENT && other != JSON_NULL;
    }
    if (is_given) {
        return true;
    }
    return type == JSON_ABSENT ? chat_refuse(verdict, "missing_field", "input", "The body needs 'input'.")
                               : field_refuse(verdict, "input", "a string or an array of items, not empty");
}

#define RULES(table) .rules = (table), .rule_count = sizeof(table) / sizeof((table)[0]), .kept = PLAIN_FIELDS

bool plain_check_fields(const struct json_doc *doc, int root, enum client_form form, int values[static PLAIN_FIELDS],
                        struct chat_verdict *verdict) {
    static const struct field_table completions = {RULES(completions_rules), .required = PLAIN_INPUT + 1,
                                                   .check_other = check_texts};
    static const struct field_table embeddings = {RULES(embeddings_rules), .required = PLAIN_INPUT + 1,
                                                  .check_other = check_embeddings_other};
    static const struct field_table responses = {RULES(responses_rules), .required = PLAIN_MODEL + 1,
                                                 .check_other = check_responses_other};
    const struct field_table *table = form == CLIENT_COMPLETIONS  ? &completions
                                      : form == CLIENT_EMBEDDINGS ? &embeddings
                                                                  : &responses;
    return field_check(doc, root, table, values, verdict) &&
           (table != &responses || check_responses_input(doc, values, verdict));
}
