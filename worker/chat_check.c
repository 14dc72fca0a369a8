#include "worker/chat_check.h"

#include <stdarg.h>
#include <stdio.h>

/* What a field's value must be. null passes for all but the required ones: it means "not given". */
enum kind {
    KIND_BOOL,
    KIND_INT,
    KIND_NUMBER,
    KIND_STRING,
    KIND_OBJECT,
    KIND_ARRAY,
    KIND_STOP,   /* a string, or an array of at most max of them */
    KIND_CHOICE, /* a string or an object */
    KIND_TYPED,  /* an object with a string `type` */
    KIND_TOOLS,
    KIND_REQUIRED_STRING,
    KIND_REQUIRED_ARRAY
};

struct rule {
    const char *name;
    enum kind kind;
    bool is_single; /* decides routing or money: may not stand twice */
    double min;
    double max;
};

#define INT32_TOP 2147483647.0
#define INT53_TOP 9007199254740991.0

static const struct rule rules[] = {
    [CHAT_MODEL] = {"model", KIND_REQUIRED_STRING, true, 0, 0},
    [CHAT_MESSAGES] = {"messages", KIND_REQUIRED_ARRAY, true, 0, 0},
    [CHAT_STREAM] = {"stream", KIND_BOOL, true, 0, 0},
    [CHAT_STREAM_OPTIONS] = {"stream_options", KIND_OBJECT, true, 0, 0},
    [CHAT_MAX_TOKENS] = {"max_tokens", KIND_INT, true, 1, INT32_TOP},
    [CHAT_MAX_COMPLETION_TOKENS] = {"max_completion_tokens", KIND_INT, true, 1, INT32_TOP},
    [CHAT_N] = {"n", KIND_INT, true, 1, 128},
    [CHAT_TOOLS] = {"tools", KIND_TOOLS, true, 0, 0},
    [CHAT_FUNCTIONS] = {"functions", KIND_ARRAY, true, 0, 0},
    [CHAT_USER] = {"user", KIND_STRING, true, 0, 0},
    [CHAT_METADATA] = {"metadata", KIND_OBJECT, true, 0, 0},
    {"tool_choice", KIND_CHOICE, true, 0, 0},
    {"function_call", KIND_CHOICE, true, 0, 0},
    {"response_format", KIND_TYPED, true, 0, 0},
    {"reasoning_effort", KIND_STRING, true, 0, 0},
    {"service_tier", KIND_STRING, true, 0, 0},
    {"temperature", KIND_NUMBER, false, 0, 2},
    {"top_p", KIND_NUMBER, false, 0, 1},
    {"presence_penalty", KIND_NUMBER, false, -2, 2},
    {"frequency_penalty", KIND_NUMBER, false, -2, 2},
    {"stop", KIND_STOP, false, 0, 4},
    {"logprobs", KIND_BOOL, false, 0, 0},
    {"top_logprobs", KIND_INT, false, 0, 20},
    {"logit_bias", KIND_OBJECT, false, 0, 0},
    {"seed", KIND_INT, false, -INT53_TOP * 1024, INT53_TOP * 1024},
    {"parallel_tool_calls", KIND_BOOL, false, 0, 0},
    {"store", KIND_BOOL, false, 0, 0},
    {"modalities", KIND_ARRAY, false, 0, 0},
    {"audio", KIND_OBJECT, false, 0, 0},
    {"prediction", KIND_OBJECT, false, 0, 0},
    {"web_search_options", KIND_OBJECT, false, 0, 0},
    {"verbosity", KIND_STRING, false, 0, 0},
    {"safety_identifier", KIND_STRING, false, 0, 0},
    {"prompt_cache_key", KIND_STRING, false, 0, 0},
};
enum { RULES = sizeof(rules) / sizeof(rules[0]) };

bool chat_refuse(struct chat_verdict *verdict, const char *code, const char *param, const char *format, ...) {
    *verdict = (struct chat_verdict){.status = 400, .code = code};
    (void)span_copy(span_text(param), verdict->param, sizeof(verdict->param));
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(verdict->message, sizeof(verdict->message), format, arguments);
    va_end(arguments);
    return false;
}

static bool refuse_type(struct chat_verdict *verdict, const char *param, const char *must_be) {
    return chat_refuse(verdict, "invalid_value", param, "'%s' must be %s.", param, must_be);
}

static bool is_bool(enum json_type type) { return type == JSON_TRUE || type == JSON_FALSE; }

static bool check_int(const struct json_doc *doc, int value, const struct rule *rule, struct chat_verdict *verdict) {
    int64_t number = 0;
    if (json_int(doc, value, &number) && (double)number >= rule->min && (double)number <= rule->max) {
        return true;
    }
    return chat_refuse(verdict, "invalid_value", rule->name, "'%s' must be a whole number from %.0f to %.0f.",
                       rule->name, rule->min, rule->max);
}

static bool check_number(const struct json_doc *doc, int value, const struct rule *rule, struct chat_verdict *verdict) {
    double number = 0;
    if (json_type_of(doc, value) == JSON_NUMBER && json_double(doc, value, &number) && number >= rule->min &&
        number <= rule->max) {
        return true;
    }
    return chat_refuse(verdict, "invalid_value", rule->name, "'%s' must be a number from %g to %g.", rule->name,
                       rule->min, rule->max);
}

static bool check_stop(const struct json_doc *doc, int value, const struct rule *rule, struct chat_verdict *verdict) {
    bool is_right = json_type_of(doc, value) == JSON_STRING ||
                    (json_type_of(doc, value) == JSON_ARRAY && json_size(doc, value) <= (int)rule->max);
    if (is_right && json_type_of(doc, value) == JSON_ARRAY) {
        for (int item = json_first(doc, value); item >= 0; item = json_next(doc, item)) {
            is_right &= json_type_of(doc, item) == JSON_STRING;
        }
    }
    return is_right || refuse_type(verdict, rule->name, "a string or an array of at most 4 strings");
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

static bool check_tools(const struct json_doc *doc, int value, struct chat_verdict *verdict) {
    if (json_type_of(doc, value) != JSON_ARRAY) {
        return refuse_type(verdict, "tools", "an array");
    }
    int index = 0;
    for (int tool = json_first(doc, value); tool >= 0; tool = json_next(doc, tool)) {
        if (!check_tool(doc, tool, index++, verdict)) {
            return false;
        }
    }
    return true;
}

/* What a value of this kind must be, in words, when its JSON type alone decides; NULL when it is right. */
static const char *find_type_fault(const struct json_doc *doc, int value, enum kind kind) {
    enum json_type type = json_type_of(doc, value);
    switch (kind) {
    case KIND_BOOL:
        return is_bool(type) ? NULL : "true or false";
    case KIND_STRING:
        return type == JSON_STRING ? NULL : "a string";
    case KIND_OBJECT:
        return type == JSON_OBJECT ? NULL : "an object";
    case KIND_ARRAY:
        return type == JSON_ARRAY ? NULL : "an array";
    case KIND_CHOICE:
        return type == JSON_STRING || type == JSON_OBJECT ? NULL : "a string or an object";
    case KIND_TYPED:
        return json_type_of(doc, json_member(doc, value, "type")) == JSON_STRING ? NULL
                                                                                 : "an object with a string 'type'";
    case KIND_REQUIRED_STRING:
        return type == JSON_STRING && !json_string_is(doc, value, "") ? NULL : "a string that is not empty";
    case KIND_REQUIRED_ARRAY:
        return type == JSON_ARRAY && json_size(doc, value) != 0 ? NULL : "an array that is not empty";
    default:
        return NULL;
    }
}

static bool check_value(const struct json_doc *doc, int value, const struct rule *rule, struct chat_verdict *verdict) {
    bool is_required = rule->kind == KIND_REQUIRED_STRING || rule->kind == KIND_REQUIRED_ARRAY;
    if (json_type_of(doc, value) == JSON_NULL && !is_required) {
        return true;
    }
    switch (rule->kind) {
    case KIND_INT:
        return check_int(doc, value, rule, verdict);
    case KIND_NUMBER:
        return check_number(doc, value, rule, verdict);
    case KIND_STOP:
        return check_stop(doc, value, rule, verdict);
    case KIND_TOOLS:
        return check_tools(doc, value, verdict);
    default:
        break;
    }
    const char *fault = find_type_fault(doc, value, rule->kind);
    return fault == NULL || refuse_type(verdict, rule->name, fault);
}

/* The rule of a member's name, or -1. */
static int find_rule(const struct json_doc *doc, int name) {
    for (int i = 0; i < RULES; i++) {
        if (json_string_is(doc, name, rules[i].name)) {
            return i;
        }
    }
    return -1;
}

bool chat_check_fields(const struct json_doc *doc, int root, int values[static CHAT_FIELDS],
                       struct chat_verdict *verdict) {
    uint64_t seen = 0;
    for (int i = 0; i < CHAT_FIELDS; i++) {
        values[i] = -1;
    }
    for (int name = json_first(doc, root); name >= 0; name = json_next(doc, name)) {
        int index = find_rule(doc, name);
        if (index < 0) {
            continue;
        }
        const struct rule *rule = &rules[index];
        if (rule->is_single && (seen >> index & 1) != 0) {
            return chat_refuse(verdict, "invalid_value", rule->name, "'%s' must not be given twice.", rule->name);
        }
        seen |= UINT64_C(1) << index;
        if (!check_value(doc, json_value_of(doc, name), rule, verdict)) {
            return false;
        }
        if (index < CHAT_FIELDS) {
            values[index] = json_value_of(doc, name);
        }
    }
    for (int i = CHAT_MODEL; i <= CHAT_MESSAGES; i++) {
        if (values[i] < 0) {
            return chat_refuse(verdict, "missing_field", rules[i].name, "The body needs '%s'.", rules[i].name);
        }
    }
    return true;
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
    for (int name = json_first(doc, options); name >= 0; name = json_next(doc, name)) {
        if (!json_string_is(doc, name, "include_usage")) {
            continue;
        }
        if (*include_usage >= 0) {
            return chat_refuse(verdict, "invalid_value", param, "'%s' must not be given twice.", param);
        }
        *include_usage = json_value_of(doc, name);
    }
    enum json_type type = json_type_of(doc, *include_usage);
    return type == JSON_ABSENT || type == JSON_NULL || is_bool(type) || refuse_type(verdict, param, "true or false");
}
