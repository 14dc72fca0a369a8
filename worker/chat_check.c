#include "worker/chat_check.h"

#include <stdarg.h>
#include <stdio.h>

#include "worker/field_check.h"

static const struct field_rule rules[] = {
    [CHAT_MODEL] = {"model", FIELD_REQUIRED_STRING, true, 0, 0},
    [CHAT_MESSAGES] = {"messages", FIELD_REQUIRED_ARRAY, true, 0, 0},
    [CHAT_STREAM] = {"stream", FIELD_BOOL, true, 0, 0},
    [CHAT_STREAM_OPTIONS] = {"stream_options", FIELD_OBJECT, true, 0, 0},
    [CHAT_MAX_TOKENS] = {"max_tokens", FIELD_INT, true, 1, FIELD_INT32_TOP},
    [CHAT_MAX_COMPLETION_TOKENS] = {"max_completion_tokens", FIELD_INT, true, 1, FIELD_INT32_TOP},
    [CHAT_N] = {"n", FIELD_INT, true, 1, 128},
    [CHAT_TOOLS] = {"tools", FIELD_OTHER, true, 0, 0},
    [CHAT_FUNCTIONS] = {"functions", FIELD_ARRAY, true, 0, 0},
    [CHAT_USER] = {"user", FIELD_STRING, true, 0, 0},
    [CHAT_METADATA] = {"metadata", FIELD_OBJECT, true, 0, 0},
    {"tool_choice", FIELD_CHOICE, true, 0, 0},
    {"function_call", FIELD_CHOICE, true, 0, 0},
    {"response_format", FIELD_TYPED, true, 0, 0},
    {"reasoning_effort", FIELD_STRING, true, 0, 0},
    {"service_tier", FIELD_STRING, true, 0, 0},
    {"temperature", FIELD_NUMBER, false, 0, 2},
    {"top_p", FIELD_NUMBER, false, 0, 1},
    {"presence_penalty", FIELD_NUMBER, false, -2, 2},
    {"frequency_penalty", FIELD_NUMBER, false, -2, 2},
    {"stop", FIELD_STOP, false, 0, 4},
    {"logprobs", FIELD_BOOL, false, 0, 0},
    {"top_logprobs", FIELD_INT, false, 0, 20},
    {"logit_bias", FIELD_OBJECT, false, 0, 0},
    {"seed", FIELD_INT, false, -FIELD_INT53_TOP * 1024, FIELD_INT53_TOP * 1024},
    {"parallel_tool_calls", FIELD_BOOL, false, 0, 0},
    {"store", FIELD_BOOL, false, 0, 0},
    {"modalities", FIELD_ARRAY, false, 0, 0},
    {"audio", FIELD_OBJECT, false, 0, 0},
    {"prediction", FIELD_OBJECT, false, 0, 0},
    {"web_search_options", FIELD_OBJECT, false, 0, 0},
    {"verbosity", FIELD_STRING, false, 0, 0},
    {"safety_identifier", FIELD_STRING, false, 0, 0},
    {"prompt_cache_key", FIELD_STRING, false, 0, 0},
};
bool chat_refuse(struct chat_verdict *verdict, const char *code, const char *param, const char *format, ...) {
    *verdict = (struct chat_verdict){.status = 400, .code = code};
    (void)span_copy(span_text(param), verdict->param, sizeof(verdict->param));
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(verdict->message, sizeof(verdict->message), format, arguments);
    va_end(arguments);
    return false;
}

/* One element of tools: a type, and for a function its object with a name. Other types are the upstream's own. */
static bool check_tool(const struct json_doc *doc, int tool, int index, struct chat_verdict *verdict) {
    char param[CHAT_PARAM_BYTES];
    int type = json_member(doc, tool, "type");
    if (json_type_of(doc, tool) != JSON_OBJECT || json_type_of(doc, type) != JSON_STRING) {
        (void)snprintf(param, sizeof(param), "tools[%d].type", index);
        return chat_refuse(verdict, "invalid_value", param, "Each of 'tools' must be an object with a string 'type'.");
    }
    int name = json_member(doc, json_member(doc, tool, "function"), "name");
    if (json_string_is(doc, type, "function") &&
        (json_type_of(doc, name) != JSON_STRING || json_string_is(doc, name, ""))) {
        (void)snprintf(param, sizeof(param), "tools[%d].function.name", index);
        return chat_refuse(verdict, "invalid_value", param, "A tool of type 'function' needs a function with a name.");
    }
    return true;
}

/* Of type field_check_fn: tools. */
static bool check_tools(const struct json_doc *doc, int value, const struct field_rule *rule,
                        struct chat_verdict *verdict) {
    if (json_type_of(doc, value) == JSON_NULL) {
        return true;
    }
    if (json_type_of(doc, value) != JSON_ARRAY) {
        return field_refuse(verdict, rule->name, "an array");
    }
    int index = 0;
    for (int tool = json_first(doc, value); tool >= 0; tool = json_next(doc, tool)) {
        if (!check_tool(doc, tool, index++, verdict)) {
            return false;
        }
    }
    return true;
}

bool chat_check_fields(const struct json_doc *doc, int root, int values[static CHAT_FIELDS],
                       struct chat_verdict *verdict) {
    static const struct field_table table = {.rules = rules,
                                             .rule_count = sizeof(rules) / sizeof(rules[0]),
                                             .kept = CHAT_FIELDS,
                                             .required = CHAT_MESSAGES + 1,
                                             .check_other = check_tools};
    return field_check(doc, root, &table, values, verdict);
}

/* Refuses message `index` over its field `name` ("" for the message itself). */
static bool refuse_message(struct chat_verdict *verdict, const char *code, int64_t index, const char *name,
                           const char *must_be) {
    char param[CHAT_PARAM_BYTES];
    (void)snprintf(param, sizeof(param), "messages[%lld]%s%s", (long long)index, name[0] != '\0' ? "." : "", name);
    return chat_refuse(verdict, code, param, "'%s' must be %s.", param, must_be);
}

/* The members of a message that are looked at. A null counts as absent. */
struct message {
    int role;
    int content;
    int name;
    int tool_calls;
    int tool_call_id;
    int function_call;
};

/* Finds them; false when role or content stands twice, for which readers would disagree on what is said and billed. */
static bool read_message(const struct json_doc *doc, int object, struct message *out) {
    static const char *const names[] = {"role", "content", "name", "tool_calls", "tool_call_id", "function_call"};
    int *fields[] = {&out->role, &out->content, &out->name, &out->tool_calls, &out->tool_call_id, &out->function_call};
    *out = (struct message){-1, -1, -1, -1, -1, -1};
    unsigned seen = 0;
    for (int name = json_first(doc, object); name >= 0; name = json_next(doc, name)) {
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            if (!json_string_is(doc, name, names[i])) {
                continue;
            }
            if ((seen >> i & 1) != 0) {
                return false;
            }
            seen |= 1U << i;
            int value = json_value_of(doc, name);
            *fields[i] = json_type_of(doc, value) != JSON_NULL ? value : -1;
            break;
        }
    }
    return true;
}

/* A content part: an object with a string type; a text part with its text, an image part with its image_url. */
static bool is_part(const struct json_doc *doc, int part) {
    int type = json_member(doc, part, "type");
    if (json_type_of(doc, type) != JSON_STRING) {
        return false;
    }
    if (json_string_is(doc, type, "text")) {
        return json_type_of(doc, json_member(doc, part, "text")) == JSON_STRING;
    }
    if (json_string_is(doc, type, "image_url")) {
        int image = json_member(doc, part, "image_url");
        return json_type_of(doc, image) == JSON_STRING ||
               json_type_of(doc, json_member(doc, image, "url")) == JSON_STRING;
    }
    return true;
}

static bool is_content(const struct json_doc *doc, int content) {
    if (json_type_of(doc, content) == JSON_STRING) {
        return true;
    }
    if (json_type_of(doc, content) != JSON_ARRAY || json_size(doc, content) == 0) {
        return false;
    }
    for (int part = json_first(doc, content); part >= 0; part = json_next(doc, part)) {
        if (!is_part(doc, part)) {
            return false;
        }
    }
    return true;
}

static bool are_tool_calls(const struct json_doc *doc, int calls) {
    if (json_type_of(doc, calls) != JSON_ARRAY) {
        return false;
    }
    for (int call = json_first(doc, calls); call >= 0; call = json_next(doc, call)) {
        int function = json_member(doc, call, "function");
        if (json_type_of(doc, call) != JSON_OBJECT ||
            (function >= 0 && (json_type_of(doc, json_member(doc, function, "name")) != JSON_STRING ||
                               json_type_of(doc, json_member(doc, function, "arguments")) != JSON_STRING))) {
            return false;
        }
    }
    return true;
}

static bool is_known_role(const struct json_doc *doc, int role) {
    static const char *const roles[] = {"user", "assistant", "system", "developer", "tool", "function"};
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        if (json_string_is(doc, role, roles[i])) {
            return true;
        }
    }
    return false;
}

static bool check_message(const struct json_doc *doc, int object, int64_t index, struct chat_verdict *verdict) {
    struct message message;
    if (json_type_of(doc, object) != JSON_OBJECT) {
        return refuse_message(verdict, "invalid_value", index, "", "an object with 'role' and 'content'");
    }
    if (!read_message(doc, object, &message)) {
        return refuse_message(verdict, "invalid_value", index, "", "without fields given twice");
    }
    if (message.role < 0) {
        return refuse_message(verdict, "missing_field", index, "role", "given");
    }
    if (!is_known_role(doc, message.role)) {
        return refuse_message(verdict, "invalid_value", index, "role",
                              "one of system, developer, user, assistant, tool, function");
    }
    bool may_lack_content =
        json_string_is(doc, message.role, "assistant") || json_string_is(doc, message.role, "function");
    if (message.content < 0 && !may_lack_content) {
        return refuse_message(verdict, "missing_field", index, "content", "a string or an array of parts");
    }
    if (message.content >= 0 && !is_content(doc, message.content)) {
        return refuse_message(verdict, "invalid_value", index, "content", "a string or an array of content parts");
    }
    if (message.name >= 0 && json_type_of(doc, message.name) != JSON_STRING) {
        return refuse_message(verdict, "invalid_value", index, "name", "a string");
    }
    if (message.tool_call_id >= 0 && json_type_of(doc, message.tool_call_id) != JSON_STRING) {
        return refuse_message(verdict, "invalid_value", index, "tool_call_id", "a string");
    }
    if (message.function_call >= 0 && json_type_of(doc, message.function_call) != JSON_OBJECT) {
        return refuse_message(verdict, "invalid_value", index, "function_call", "an object");
    }
    return message.tool_calls < 0 || are_tool_calls(doc, message.tool_calls) ||
           refuse_message(verdict, "invalid_value", index, "tool_calls",
                          "an array of calls, each function with string 'name' and 'arguments'");
}

bool chat_check_messages(const struct json_doc *doc, int messages, int64_t *count, struct chat_verdict *verdict) {
    *count = 0;
    for (int message = json_first(doc, messages); message >= 0; message = json_next(doc, message)) {
        if (!check_message(doc, message, *count, verdict)) {
            return false;
        }
        (*count)++;
    }
    return true;
}

bool chat_check_stream_options(const struct json_doc *doc, int options, int *include_usage,
                               struct chat_verdict *verdict) {
    static const char *const param = "stream_options.include_usage";
    *include_usage = -1;
    if (json_type_of(doc, options) != JSON_OBJECT) {
        return true;
    }
    if (!field_find_single(doc, options, "include_usage", include_usage)) {
        return chat_refuse(verdict, "invalid_value", param, "'%s' must not be given twice.", param);
    }
    enum json_type type = json_type_of(doc, *include_usage);
    return type == JSON_ABSENT || type == JSON_NULL || type == JSON_TRUE || type == JSON_FALSE ||
           field_refuse(verdict, param, "true or false");
}
