#include "worker/messages_check.h"

#include <stdarg.h>
#include <stdio.h>

#include "worker/json_scan.h"

enum { STOP_SEQUENCES_MOST = 4, SCHEMA_DEPTH_MOST = 100, NAME_BYTES_MOST = 32 };

enum kind {
    KIND_STRING,
    KIND_BOOL,
    KIND_TOKENS,
    KIND_COUNT,
    KIND_SHARE, /* 0 to 1 */
    KIND_OBJECT,
    KIND_TYPED,
    KIND_ARRAY,
    KIND_STRINGS,
    KIND_TEXT /* a string or an array of blocks */
};

struct rule {
    const char *name;
    enum kind kind;
};

static const struct rule rules[MESSAGES_FIELDS] = {
    [MESSAGES_MODEL] = {"model", KIND_STRING},
    [MESSAGES_MESSAGES] = {"messages", KIND_ARRAY},
    [MESSAGES_MAX_TOKENS] = {"max_tokens", KIND_TOKENS},
    [MESSAGES_STREAM] = {"stream", KIND_BOOL},
    [MESSAGES_SYSTEM] = {"system", KIND_TEXT},
    [MESSAGES_TOOLS] = {"tools", KIND_ARRAY},
    [MESSAGES_TOOL_CHOICE] = {"tool_choice", KIND_TYPED},
    [MESSAGES_THINKING] = {"thinking", KIND_TYPED},
    [MESSAGES_OUTPUT_CONFIG] = {"output_config", KIND_OBJECT},
    [MESSAGES_OUTPUT_FORMAT] = {"output_format", KIND_TYPED},
    [MESSAGES_METADATA] = {"metadata", KIND_OBJECT},
    [MESSAGES_STOP_SEQUENCES] = {"stop_sequences", KIND_STRINGS},
    [MESSAGES_SERVICE_TIER] = {"service_tier", KIND_STRING},
    [MESSAGES_TEMPERATURE] = {"temperature", KIND_SHARE},
    [MESSAGES_TOP_P] = {"top_p", KIND_SHARE},
    [MESSAGES_TOP_K] = {"top_k", KIND_COUNT},
};

static void note_unmapped(struct messages_check *check, const char *format, ...) PRINTF_LIKE(2, 3);

static void note_unmapped(struct messages_check *check, const char *format, ...) {
    if (check->unmapped[0] == '\0') {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(check->unmapped, sizeof(check->unmapped), format, arguments);
        va_end(arguments);
    }
}

/* Names a place in the body. */
static void write_path(char out[static CHAT_PARAM_BYTES], const char *format, ...) PRINTF_LIKE(2, 3);

static void write_path(char out[static CHAT_PARAM_BYTES], const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(out, CHAT_PARAM_BYTES, format, arguments);
    va_end(arguments);
}

/* Refuses `path`.`name` ("" for the path itself). */
static bool refuse(struct messages_check *check, const char *path, const char *name, const char *must_be) {
    char param[CHAT_PARAM_BYTES];
    write_path(param, "%s%s%s", path, path[0] != '\0' && name[0] != '\0' ? "." : "", name);
    return chat_refuse(check->verdict, "invalid_value", param, "'%s' must be %s.", param, must_be);
}

/* Nothing, null, false, {} and [] say nothing that could be lost. */
static bool says_nothing(const struct json_doc *doc, int value) {
    enum json_type type = json_type_of(doc, value);
    return type == JSON_ABSENT || type == JSON_NULL || type == JSON_FALSE ||
           ((type == JSON_OBJECT || type == JSON_ARRAY) && json_size(doc, value) == 0);
}

/* Notes a member that is not among those known. Its name is told only when it looks like a field's: it is the client's
 * text. */
static void note_unknown(struct messages_check *check, const char *path, int name) {
    char text[NAME_BYTES_MOST + 1];
    bool is_plain = json_string_copy(check->doc, name, text, sizeof(text)) && text[0] != '\0' &&
                    text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
    const char *told = is_plain ? text : "(unknown field)";
    note_unmapped(check, "%s%s%s", path, path[0] != '\0' ? "." : "", told);
}

/* Notes the first member of `object` that is not in `known` (a list that ends with NULL) and says something. */
static void note_unknown_members(struct messages_check *check, int object, const char *path, const char *const *known) {
    for (int name = json_first(check->doc, object); name >= 0; name = json_next(check->doc, name)) {
        size_t i = 0;
        while (known[i] != NULL && !json_string_is(check->doc, name, known[i])) {
            i++;
        }
        if (known[i] == NULL && !says_nothing(check->doc, json_value_of(check->doc, name))) {
            note_unknown(check, path, name);
        }
    }
}

static bool is_string(const struct json_doc *doc, int object, const char *name) {
    return json_type_of(doc, json_member(doc, object, name)) == JSON_STRING;
}

static bool is_tokens(const struct json_doc *doc, int value, int64_t least) {
    int64_t number = 0;
    return json_int(doc, value, &number) && number >= least && number <= INT32_MAX;
}

static bool is_share(const struct json_doc *doc, int value) {
    double number = 0;
    return json_type_of(doc, value) == JSON_NUMBER && json_double(doc, value, &number) && number >= 0 && number <= 1;
}

static bool are_strings(const struct json_doc *doc, int value) {
    bool is_right = json_type_of(doc, value) == JSON_ARRAY;
    for (int item = is_right ? json_first(doc, value) : -1; item >= 0; item = json_next(doc, item)) {
        is_right &= json_type_of(doc, item) == JSON_STRING;
    }
    return is_right;
}

/* What a value must be, in words, or NULL when it is. */
static const char *find_fault(const struct json_doc *doc, int value, enum kind kind) {
    enum json_type type = json_type_of(doc, value);
    switch (kind) {
    case KIND_STRING:
        return type == JSON_STRING && !json_string_is(doc, value, "") ? NULL : "a string that is not empty";
    case KIND_BOOL:
        return type == JSON_TRUE || type == JSON_FALSE ? NULL : "true or false";
    case KIND_TOKENS:
        return is_tokens(doc, value, 1) ? NULL : "a whole number from 1 to 2147483647";
    case KIND_COUNT:
        return is_tokens(doc, value, 0) ? NULL : "a whole number from 0 to 2147483647";
    case KIND_SHARE:
        return is_share(doc, value) ? NULL : "a number from 0 to 1";
    case KIND_OBJECT:
        return type == JSON_OBJECT ? NULL : "an object";
    case KIND_TYPED:
        return is_string(doc, value, "type") ? NULL : "an object with a string 'type'";
    case KIND_ARRAY:
        return type == JSON_ARRAY ? NULL : "an array";
    case KIND_STRINGS:
        return are_strings(doc, value) ? NULL : "an array of strings";
    case KIND_TEXT:
        return type == JSON_STRING || type == JSON_ARRAY ? NULL : "a string or an array of blocks";
    }
    return NULL;
}

static int find_rule(const struct json_doc *doc, int name) {
    for (int i = 0; i < MESSAGES_FIELDS; i++) {
        if (json_string_is(doc, name, rules[i].name)) {
            return i;
        }
    }
    return -1;
}

static bool check_required(struct messages_check *check, const int values[static MESSAGES_FIELDS]) {
    for (int i = MESSAGES_MODEL; i <= MESSAGES_MAX_TOKENS; i++) {
        if (values[i] < 0 && !(check->is_count && i == MESSAGES_MAX_TOKENS)) {
            return chat_refuse(check->verdict, "missing_field", rules[i].name, "The body needs '%s'.", rules[i].name);
        }
    }
    return json_size(check->doc, values[MESSAGES_MESSAGES]) != 0 ||
           refuse(check, "messages", "", "an array that is not empty");
}

/* Members that change no answer, or are hints, may be left out of a translation. */
static bool is_hint(const struct json_doc *doc, int name) {
    return json_string_is(doc, name, "cache_control") || json_string_is(doc, name, "anthropic_version");
}

static void note_settings(struct messages_check *check, const int values[static MESSAGES_FIELDS]);

bool messages_check_fields(struct messages_check *check, int root, int values[static MESSAGES_FIELDS]) {
    const struct json_doc *doc = check->doc;
    uint32_t seen = 0;
    for (int i = 0; i < MESSAGES_FIELDS; i++) {
        values[i] = -1;
    }
    for (int name = json_first(doc, root); name >= 0; name = json_next(doc, name)) {
        int value = json_value_of(doc, name);
        int index = find_rule(doc, name);
        if (index < 0) {
            if (!is_hint(doc, name) && !says_nothing(doc, value)) {
                note_unknown(check, "", name);
            }
            continue;
        }
        if ((seen >> index & 1) != 0) {
            return chat_refuse(check->verdict, "invalid_value", rules[index].name, "'%s' must not be given twice.",
                               rules[index].name);
        }
        seen |= UINT32_C(1) << index;
        if (json_type_of(doc, value) == JSON_NULL) {
            continue;
        }
        const char *fault = find_fault(doc, value, rules[index].kind);
        if (fault != NULL) {
            return refuse(check, rules[index].name, "", fault);
        }
        values[index] = value;
    }
    note_settings(check, values);
    return check_required(check, values);
}

static bool is_one_of(const struct json_doc *doc, int value, const char *const *texts) {
    for (; *texts != NULL; texts++) {
        if (json_string_is(doc, value, *texts)) {
            return true;
        }
    }
    return false;
}

static void note_thinking(struct messages_check *check, int thinking) {
    static const char *const known[] = {"type", "budget_tokens", "display", NULL};
    static const char *const types[] = {"enabled", "disabled", "adaptive", NULL};
    if (thinking >= 0 && !is_one_of(check->doc, json_member(check->doc, thinking, "type"), types)) {
        note_unmapped(check, "thinking.type");
    }
    note_unknown_members(check, thinking, "thinking", known);
}

static void note_format(struct messages_check *check, int format, const char *path) {
    static const char *const known[] = {"type", "schema", "name", NULL};
    const struct json_doc *doc = check->doc;
    int schema = json_member(doc, format, "schema");
    if (format >= 0 && !json_string_is(doc, json_member(doc, format, "type"), "json_schema")) {
        note_unmapped(check, "%s.type", path);
    } else if (format >= 0 && (json_type_of(doc, schema) != JSON_OBJECT ||
                               json_scan_depth(json_raw(doc, schema)) > SCHEMA_DEPTH_MOST)) {
        note_unmapped(check, "%s.schema", path);
    }
    note_unknown_members(check, format, path, known);
}

static void note_output_config(struct messages_check *check, const int values[static MESSAGES_FIELDS]) {
    static const char *const known[] = {"effort", "format", NULL};
    static const char *const efforts[] = {"low", "medium", "high", "xhigh", "max", NULL};
    const struct json_doc *doc = check->doc;
    int effort = json_member(doc, values[MESSAGES_OUTPUT_CONFIG], "effort");
    int format = json_member(doc, values[MESSAGES_OUTPUT_CONFIG], "format");
    bool is_off = json_string_is(doc, json_member(doc, values[MESSAGES_THINKING], "type"), "disabled");
    if (!says_nothing(doc, effort) &&
        (!is_one_of(doc, effort, efforts) || (is_off && !json_string_is(doc, effort, "high")))) {
        note_unmapped(check, "output_config.effort");
    }
    if (!says_nothing(doc, format)) {
        note_format(check, format, "output_config.format");
    }
    note_unknown_members(check, values[MESSAGES_OUTPUT_CONFIG], "output_config", known);
}

/* Notes what the settings say that has no twin. top_k is left out by every translation (the reference says so). */
static void note_settings(struct messages_check *check, const int values[static MESSAGES_FIELDS]) {
    static const char *const tiers[] = {"auto", "standard_only", NULL};
    static const char *const choices[] = {"auto", "any", "tool", "none", NULL};
    static const char *const choice_members[] = {"type", "name", "disable_parallel_tool_use", NULL};
    static const char *const metadata_members[] = {"user_id", NULL};
    const struct json_doc *doc = check->doc;
    int choice = values[MESSAGES_TOOL_CHOICE];
    int type = json_member(doc, choice, "type");
    if (json_size(doc, values[MESSAGES_STOP_SEQUENCES]) > STOP_SEQUENCES_MOST) {
        note_unmapped(check, "stop_sequences");
    }
    if (values[MESSAGES_SERVICE_TIER] >= 0 && !is_one_of(doc, values[MESSAGES_SERVICE_TIER], tiers)) {
        note_unmapped(check, "service_tier");
    }
    if (choice >= 0 && !is_one_of(doc, type, choices)) {
        note_unmapped(check, "tool_choice.type");
    }
    if (json_string_is(doc, type, "tool") && !is_string(doc, choice, "name")) {
        note_unmapped(check, "tool_choice.name");
    }
    int user = json_member(doc, values[MESSAGES_METADATA], "user_id");
    if (!says_nothing(doc, user) && json_type_of(doc, user) != JSON_STRING) {
        note_unmapped(check, "metadata.user_id");
    }
    note_unknown_members(check, choice, "tool_choice", choice_members);
    note_unknown_members(check, values[MESSAGES_METADATA], "metadata", metadata_members);
    note_thinking(check, values[MESSAGES_THINKING]);
    note_output_config(check, values);
    note_format(check, values[MESSAGES_OUTPUT_FORMAT], "output_format");
}

enum { ROLE_SYSTEM = 1, ROLE_USER = 2, ROLE_ASSISTANT = 4, ROLE_RESULT = 8 };

/* The blocks that other dialects know: who may say them, what they must have, and what else they may. */
struct block_rule {
    const char *type;
    unsigned roles;
    const char *const strings[3];
    const char *const members[8];
};

static const struct block_rule block_rules[] = {
    {"text", ROLE_SYSTEM | ROLE_USER | ROLE_ASSISTANT | ROLE_RESULT, {"text"}, {"type", "text", "cache_control"}},
    {"image", ROLE_USER | ROLE_RESULT, {NULL}, {"type", "source", "cache_control"}},
    {"document", ROLE_USER, {NULL}, {"type", "source", "cache_control", "title", "context"}},
    {"tool_use", ROLE_ASSISTANT, {"id", "name"}, {"type", "id", "name", "input", "cache_control", "caller"}},
    {"tool_result", ROLE_USER, {"tool_use_id"}, {"type", "tool_use_id", "content", "is_error", "cache_control"}},
    {"thinking", ROLE_ASSISTANT, {"thinking", "signature"}, {"type", "thinking", "signature", "cache_control"}},
    {"redacted_thinking", ROLE_ASSISTANT, {"data"}, {"type", "data", "cache_control"}},
};

/* The source of an image or document: an object with a type, base64 and URL sources with their texts. */
static bool check_source(struct messages_check *check, int block, const char *path, bool is_image) {
    const struct json_doc *doc = check->doc;
    int source = json_member(doc, block, "source");
    int type = json_member(doc, source, "type");
    if (json_type_of(doc, type) != JSON_STRING) {
        return refuse(check, path, "source", "an object with a string 'type'");
    }
    if (json_string_is(doc, type, "base64")) {
        if (!is_string(doc, source, "media_type") || !is_string(doc, source, "data")) {
            return refuse(check, path, "source", "an object with strings 'media_type' and 'data'");
        }
        if (!is_image && !json_string_is(doc, json_member(doc, source, "media_type"), "application/pdf")) {
            note_unmapped(check, "%s.source.media_type", path);
        }
    } else if (is_image && json_string_is(doc, type, "url")) {
        return is_string(doc, source, "url") || refuse(check, path, "source.url", "a string");
    } else if (!is_image && json_string_is(doc, type, "text")) {
        return is_string(doc, source, "data") || refuse(check, path, "source.data", "a string");
    } else {
        note_unmapped(check, "%s.source.type", path);
    }
    return true;
}

static bool check_blocks(struct messages_check *check, int blocks, const char *path, unsigned role);

/* What is particular to one type of block. */
static bool check_special(struct messages_check *check, int block, const char *path, const char *type) {
    const struct json_doc *doc = check->doc;
    if (strcmp(type, "image") == 0) {
        return check_source(check, block, path, true);
    }
    if (strcmp(type, "document") == 0) {
        return check_source(check, block, path, false);
    }
    if (strcmp(type, "tool_use") == 0) {
        return json_type_of(doc, json_member(doc, block, "input")) == JSON_OBJECT ||
               refuse(check, path, "input", "an object");
    }
    int content = json_member(doc, block, "content");
    enum json_type content_type = json_type_of(doc, content);
    if (strcmp(type, "tool_result") != 0 || content_type == JSON_ABSENT || content_type == JSON_NULL ||
        content_type == JSON_STRING) {
        return true;
    }
    char inner[CHAT_PARAM_BYTES];
    write_path(inner, "%s.content", path);
    return check_blocks(check, content, inner, ROLE_RESULT);
}

static bool check_block(struct messages_check *check, int block, const char *path, unsigned role) {
    const struct json_doc *doc = check->doc;
    int type = json_member(doc, block, "type");
    if (json_type_of(doc, type) != JSON_STRING) {
        return refuse(check, path, "type", "a string in an object");
    }
    const struct block_rule *rule = NULL;
    for (size_t i = 0; i < sizeof(block_rules) / sizeof(block_rules[0]) && rule == NULL; i++) {
        rule = json_string_is(doc, type, block_rules[i].type) ? &block_rules[i] : NULL;
    }
    if (rule == NULL || (rule->roles & role) == 0) {
        note_unmapped(check, "%s.type", path);
        return true;
    }
    for (size_t i = 0; i < sizeof(rule->strings) / sizeof(rule->strings[0]) && rule->strings[i] != NULL; i++) {
        if (!is_string(doc, block, rule->strings[i])) {
            return refuse(check, path, rule->strings[i], "a string");
        }
    }
    note_unknown_members(check, block, path, rule->members);
    return check_special(check, block, path, rule->type);
}

static bool check_blocks(struct messages_check *check, int blocks, const char *path, unsigned role) {
    if (json_type_of(check->doc, blocks) != JSON_ARRAY) {
        return refuse(check, path, "", "a string or an array of blocks");
    }
    int index = 0;
    for (int block = json_first(check->doc, blocks); block >= 0; block = json_next(check->doc, block)) {
        char inner[CHAT_PARAM_BYTES];
        write_path(inner, "%s.%d", path, index++);
        if (!check_block(check, block, inner, role)) {
            return false;
        }
    }
    return true;
}

/* role and content of a message, each given once: readers would disagree on what is said and billed. */
static bool find_message(const struct json_doc *doc, int message, int *role, int *content) {
    *role = -1;
    *content = -1;
    for (int name = json_first(doc, message); name >= 0; name = json_next(doc, name)) {
        int *field = json_string_is(doc, name, "role") ? role : json_string_is(doc, name, "content") ? content : NULL;
        if (field != NULL && *field >= 0) {
            return false;
        }
        if (field != NULL) {
            *field = json_value_of(doc, name);
        }
    }
    return true;
}

static bool check_message(struct messages_check *check, int message, int64_t index) {
    static const char *const known[] = {"role", "content", NULL};
    const struct json_doc *doc = check->doc;
    char path[CHAT_PARAM_BYTES];
    int role = -1;
    int content = -1;
    write_path(path, "messages.%lld", (long long)index);
    if (json_type_of(doc, message) != JSON_OBJECT) {
        return refuse(check, path, "", "an object with 'role' and 'content'");
    }
    if (!find_message(doc, message, &role, &content)) {
        return refuse(check, path, "", "without fields given twice");
    }
    unsigned speaker = json_string_is(doc, role, "user")        ? ROLE_USER
                       : json_string_is(doc, role, "assistant") ? ROLE_ASSISTANT
                       : json_string_is(doc, role, "system")    ? ROLE_SYSTEM
                                                                : 0U;
    if (speaker == 0) {
        return refuse(check, path, "role", "'user', 'assistant' or 'system'");
    }
    note_unknown_members(check, message, path, known);
    if (json_type_of(doc, content) == JSON_STRING) {
        return true;
    }
    write_path(path, "messages.%lld.content", (long long)index);
    return check_blocks(check, content, path, speaker);
}

/* A tool of the client's own needs a name and a schema. Others run at the provider. */
static bool check_tool(struct messages_check *check, int tool, int index) {
    static const char *const known[] = {"type",          "name",   "description",           "input_schema",
                                        "cache_control", "strict", "eager_input_streaming", NULL};
    const struct json_doc *doc = check->doc;
    char path[CHAT_PARAM_BYTES];
    write_path(path, "tools.%d", index);
    if (json_type_of(doc, tool) != JSON_OBJECT) {
        return refuse(check, path, "", "an object");
    }
    int type = json_member(doc, tool, "type");
    if (!says_nothing(doc, type) && !json_string_is(doc, type, "custom")) {
        note_unmapped(check, "%s.type", path);
        return true;
    }
    int schema = json_member(doc, tool, "input_schema");
    if (!is_string(doc, tool, "name") || json_string_is(doc, json_member(doc, tool, "name"), "")) {
        return refuse(check, path, "name", "a string that is not empty");
    }
    if (json_type_of(doc, schema) != JSON_OBJECT) {
        return refuse(check, path, "input_schema", "an object");
    }
    int description = json_member(doc, tool, "description");
    if (!says_nothing(doc, description) && json_type_of(doc, description) != JSON_STRING) {
        return refuse(check, path, "description", "a string");
    }
    if (json_scan_depth(json_raw(doc, schema)) > SCHEMA_DEPTH_MOST) {
        note_unmapped(check, "%s.input_schema", path);
    }
    note_unknown_members(check, tool, path, known);
    return true;
}

bool messages_check_content(struct messages_check *check, const int values[static MESSAGES_FIELDS]) {
    const struct json_doc *doc = check->doc;
    int index = 0;
    check->message_count = 0;
    for (int item = json_first(doc, values[MESSAGES_MESSAGES]); item >= 0; item = json_next(doc, item)) {
        if (!check_message(check, item, check->message_count++)) {
            return false;
        }
    }
    for (int tool = json_first(doc, values[MESSAGES_TOOLS]); tool >= 0; tool = json_next(doc, tool)) {
        if (!check_tool(check, tool, index++)) {
            return false;
        }
    }
    int system = values[MESSAGES_SYSTEM];
    return system < 0 || json_type_of(doc, system) == JSON_STRING || check_blocks(check, system, "system", ROLE_SYSTEM);
}
