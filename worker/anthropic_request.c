#include "worker/anthropic_request.h"

#include "worker/anthropic_turns.h"
#include "worker/chat_check.h"

enum {
    FALLBACK_MAX_TOKENS = 4096,
    BUDGET_LEAST_TOKENS = 1024,
    /* Model versions as major * 100 + minor. */
    VERSION_STRICT = 405,
    VERSION_ADAPTIVE = 406,
    VERSION_UNSAMPLED = 407,
    NAME_BYTES_MOST = 32,
};

/* A request being made. */
struct making {
    const struct json_doc *doc;
    struct json_writer json;
    struct chat_verdict *wrong;
    char model[CHAT_MODEL_BYTES];
    int version; /* 0: not one of Anthropic's own names */
    int64_t max_tokens;
    int64_t budget_tokens; /* of thinking; 0: none */
    bool is_adaptive;
    const char *effort; /* for adaptive thinking */
};

/* How much an effort may think, in tokens, and what newer models call it. */
static const struct effort {
    const char *name;
    int64_t budget_tokens;
    const char *adaptive;
} efforts[] = {{"none", 0, NULL},          {"minimal", 1024, "low"}, {"low", 1024, "low"},
               {"medium", 8192, "medium"}, {"high", 24576, "high"},  {"xhigh", 32768, "max"}};

/* What becomes of a field. */
enum use {
    USE_MAPPED,
    USE_NOTHING,    /* left out: it changes no answer */
    USE_ONLY_OFF,   /* refused unless it asks for nothing */
    USE_ONLY_NULL,  /* refused, whatever it says */
    USE_ONLY_ONE,   /* refused unless it is 1 */
    USE_ONLY_TEXT,  /* refused unless it is ["text"] */
    USE_ONLY_MEDIUM /* refused unless it is "medium" */
};

static const struct field {
    const char *name;
    enum use use;
} fields[] = {
    {"model", USE_MAPPED},
    {"messages", USE_MAPPED},
    {"stream", USE_MAPPED},
    {"max_tokens", USE_MAPPED},
    {"max_completion_tokens", USE_MAPPED},
    {"tools", USE_MAPPED},
    {"tool_choice", USE_MAPPED},
    {"parallel_tool_calls", USE_MAPPED},
    {"functions", USE_MAPPED},
    {"function_call", USE_MAPPED},
    {"stop", USE_MAPPED},
    {"temperature", USE_MAPPED},
    {"top_p", USE_MAPPED},
    {"reasoning_effort", USE_MAPPED},
    {"response_format", USE_MAPPED},
    {"user", USE_MAPPED},
    {"safety_identifier", USE_MAPPED},
    {"metadata", USE_MAPPED},
    {"service_tier", USE_MAPPED},
    {"stream_options", USE_NOTHING},
    {"prompt_cache_key", USE_NOTHING},
    {"prompt_cache_retention", USE_NOTHING},
    {"n", USE_ONLY_ONE},
    {"logprobs", USE_ONLY_OFF},
    {"top_logprobs", USE_ONLY_OFF},
    {"presence_penalty", USE_ONLY_OFF},
    {"frequency_penalty", USE_ONLY_OFF},
    {"logit_bias", USE_ONLY_OFF},
    {"store", USE_ONLY_OFF},
    {"seed", USE_ONLY_NULL},
    {"audio", USE_ONLY_NULL},
    {"prediction", USE_ONLY_NULL},
    {"web_search_options", USE_ONLY_NULL},
    {"modalities", USE_ONLY_TEXT},
    {"verbosity", USE_ONLY_MEDIUM},
};

static bool refuse(struct making *making, const char *param, const char *must_be) {
    return chat_refuse(making->wrong, "invalid_value", param, "'%s' must be %s for this model.", param, must_be);
}

static int find(const struct making *making, const char *name) { return json_member(making->doc, 0, name); }

static bool is_number(const struct json_doc *doc, int value, double wanted) {
    double number = 0;
    return json_type_of(doc, value) == JSON_NUMBER && json_double(doc, value, &number) && number == wanted;
}

static bool is_off(const struct json_doc *doc, int value) {
    enum json_type type = json_type_of(doc, value);
    return type == JSON_FALSE || is_number(doc, value, 0) || (type == JSON_OBJECT && json_size(doc, value) == 0);
}

static bool is_fine(const struct json_doc *doc, int value, enum use use) {
    switch (use) {
    case USE_ONLY_OFF:
        return is_off(doc, value);
    case USE_ONLY_ONE:
        return is_number(doc, value, 1);
    case USE_ONLY_TEXT:
        return json_size(doc, value) == 0 ||
               (json_size(doc, value) == 1 && json_string_is(doc, json_first(doc, value), "text"));
    case USE_ONLY_MEDIUM:
        return json_string_is(doc, value, "medium");
    case USE_ONLY_NULL:
        return false;
    default:
        return true;
    }
}

/* Refuses a field that nobody documented. It is named only when its name looks like one: it is the client's text. */
static bool refuse_unknown(struct making *making, int name) {
    char text[NAME_BYTES_MOST + 1];
    bool is_plain = json_string_copy(making->doc, name, text, sizeof(text)) &&
                    text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
    return chat_refuse(making->wrong, "invalid_value", is_plain ? text : "",
                       "This model's provider has nothing like the field '%s'. Leave it out.",
                       is_plain ? text : "(unknown)");
}

static bool check_fields(struct making *making) {
    const struct json_doc *doc = making->doc;
    for (int name = json_first(doc, 0); name >= 0; name = json_next(doc, name)) {
        int value = json_value_of(doc, name);
        size_t i = 0;
        while (i < sizeof(fields) / sizeof(fields[0]) && !json_string_is(doc, name, fields[i].name)) {
            i++;
        }
        if (json_type_of(doc, value) == JSON_NULL) {
            continue;
        }
        if (i == sizeof(fields) / sizeof(fields[0])) {
            return refuse_unknown(making, name);
        }
        if (!is_fine(doc, value, fields[i].use)) {
            return refuse(making, fields[i].name, "left out");
        }
    }
    return true;
}

static bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

/* Reads the version out of names such as claude-opus-4-7, claude-3-7-sonnet-20250219, anthropic.claude-sonnet-5-v1:0:
 * the first number, and the one behind it unless that is a date. */
static int read_version(const char *model) {
    const char *at = strcasestr(model, "claude");
    int numbers[2] = {0, 0};
    int count = 0;
    while (at != NULL && *at != '\0' && count < 2) {
        const char *from = at;
        int number = 0;
        while (is_digit(*at) && at - from < 9) {
            number = number * 10 + (*at++ - '0');
        }
        if (at == from) {
            /* Letters after the first number end the version: -v1, -sonnet. */
            bool is_letter = *at != '-' && *at != '.';
            at = count == 1 && is_letter ? NULL : at + 1;
        } else if (at - from <= 2) {
            numbers[count++] = number;
        } else {
            at = NULL;
        }
    }
    return numbers[0] * 100 + numbers[1];
}

static int64_t read_cap(const struct making *making) {
    int64_t first = 0;
    int64_t second = 0;
    bool has_first = json_int(making->doc, find(making, "max_tokens"), &first) && first > 0;
    bool has_second = json_int(making->doc, find(making, "max_completion_tokens"), &second) && second > 0;
    return has_first && has_second ? (first < second ? first : second) : has_first ? first : has_second ? second : 0;
}

static const struct effort *find_effort(const struct making *making) {
    for (size_t i = 0; i < sizeof(efforts) / sizeof(efforts[0]); i++) {
        if (json_string_is(making->doc, find(making, "reasoning_effort"), efforts[i].name)) {
            return &efforts[i];
        }
    }
    return NULL;
}

/* Decides how much is output and how much of it is thinking. What a budget leaves is what the client asked for, as far
 * as the most that may be billed allows. */
static void plan_tokens(struct making *making, const struct chat_rewrite *rewrite, int64_t default_max_tokens) {
    const struct effort *effort = find_effort(making);
    int64_t most = rewrite->max_tokens > 0 ? rewrite->max_tokens : INT32_MAX;
    int64_t cap = read_cap(making);
    int64_t wanted = cap != 0 ? cap : default_max_tokens > 0 ? default_max_tokens : FALLBACK_MAX_TOKENS;
    making->max_tokens = wanted < most ? wanted : most;
    if (effort == NULL || effort->budget_tokens == 0) {
        return;
    }
    if (making->version >= VERSION_ADAPTIVE) {
        making->is_adaptive = true;
        making->effort = effort->adaptive;
        return;
    }
    if (anthropic_turns_lack_thinking(making->doc, find(making, "messages"))) {
        return;
    }
    int64_t raised = wanted > effort->budget_tokens ? wanted : wanted + effort->budget_tokens;
    raised = raised < most ? raised : most;
    if (raised > BUDGET_LEAST_TOKENS) {
        making->max_tokens = raised;
        making->budget_tokens = effort->budget_tokens < raised ? effort->budget_tokens : raised - 1;
    }
}

static void start(struct making *making, const struct json_doc *doc, const struct chat_rewrite *rewrite,
                  int64_t default_max_tokens) {
    making->doc = doc;
    if (rewrite->model != NULL) {
        (void)span_copy(span_text(rewrite->model), making->model, sizeof(making->model));
    } else if (!json_string_copy(doc, find(making, "model"), making->model, sizeof(making->model))) {
        making->model[0] = '\0';
    }
    making->version = read_version(making->model);
    plan_tokens(making, rewrite, default_max_tokens);
}

static bool write_stop(struct making *making) {
    const struct json_doc *doc = making->doc;
    int stop = find(making, "stop");
    bool is_array = json_type_of(doc, stop) == JSON_ARRAY;
    if (json_type_of(doc, stop) != JSON_STRING && json_size(doc, stop) == 0) {
        return true;
    }
    json_begin_array(&making->json, "stop_sequences");
    for (int item = is_array ? json_first(doc, stop) : stop; item >= 0; item = is_array ? json_next(doc, item) : -1) {
        struct span raw = json_raw(doc, item);
        bool is_blank = true;
        for (size_t i = 1; i + 1 < raw.len; i++) {
            bool is_escape = raw.base[i] == '\\' && strchr("ntr", raw.base[i + 1]) != NULL;
            is_blank &= raw.base[i] == ' ' || is_escape;
            i += is_escape;
        }
        if (json_type_of(doc, item) != JSON_STRING || is_blank) {
            return refuse(making, "stop", "made of texts that are not only white space");
        }
        json_write_raw(&making->json, NULL, raw);
    }
    json_end_array(&making->json);
    return true;
}

static bool write_sampling(struct making *making) {
    const struct json_doc *doc = making->doc;
    static const char *const names[] = {"temperature", "top_p"};
    for (size_t i = 0; i < 2; i++) {
        int value = find(making, names[i]);
        double number = 0;
        if (json_type_of(doc, value) != JSON_NUMBER || !json_double(doc, value, &number)) {
            continue;
        }
        bool is_top_p = i == 1;
        if (making->version >= VERSION_UNSAMPLED) {
            if (number != 1) {
                return refuse(making, names[i], "left out");
            }
        } else if ((making->budget_tokens != 0 || making->is_adaptive) && (!is_top_p || number < 0.95)) {
            continue; /* thinking goes with no other */
        } else if (!is_top_p && number > 1) {
            json_write_int(&making->json, names[i], 1);
        } else if (!is_top_p || number != 1) {
            json_write_raw(&making->json, names[i], json_raw(doc, value));
        }
    }
    return true;
}

/* A function's parameters as an input_schema, which must say that it is an object. */
static void write_schema(struct making *making, int parameters) {
    struct span raw = json_raw(making->doc, parameters);
    if (json_type_of(making->doc, parameters) != JSON_OBJECT || json_size(making->doc, parameters) == 0) {
        json_write_raw(&making->json, "input_schema", SPAN_LITERAL("{\"type\":\"object\",\"properties\":{}}"));
    } else if (json_member(making->doc, parameters, "type") < 0) {
        json_write_raw(&making->json, "input_schema", SPAN_LITERAL("{\"type\":\"object\","));
        buffer_append_span(making->json.out, span_skip(raw, 1));
    } else {
        json_write_raw(&making->json, "input_schema", raw);
    }
}

static bool write_function(struct making *making, int function, const char *field) {
    const struct json_doc *doc = making->doc;
    int name = json_member(doc, function, "name");
    int description = json_member(doc, function, "description");
    if (json_type_of(doc, name) != JSON_STRING || json_string_is(doc, name, "")) {
        return refuse(making, field, "made of functions, each with a name");
    }
    json_begin_object(&making->json, NULL);
    json_write_raw(&making->json, "name", json_raw(doc, name));
    if (json_type_of(doc, description) == JSON_STRING && !json_string_is(doc, description, "")) {
        json_write_raw(&making->json, "description", json_raw(doc, description));
    }
    write_schema(making, json_member(doc, function, "parameters"));
    if (making->version >= VERSION_STRICT && json_type_of(doc, json_member(doc, function, "strict")) == JSON_TRUE) {
        json_write_bool(&making->json, "strict", true);
    }
    json_end_object(&making->json);
    return true;
}

static bool write_tools(struct making *making) {
    const struct json_doc *doc = making->doc;
    int tools = find(making, "tools");
    int functions = find(making, "functions");
    if (json_size(doc, tools) == 0 && json_size(doc, functions) == 0) {
        return true;
    }
    json_begin_array(&making->json, "tools");
    for (int tool = json_first(doc, tools); tool >= 0; tool = json_next(doc, tool)) {
        if (!json_string_is(doc, json_member(doc, tool, "type"), "function")) {
            return refuse(making, "tools", "made of tools of type 'function'");
        }
        if (!write_function(making, json_member(doc, tool, "function"), "tools")) {
            return false;
        }
    }
    for (int function = json_first(doc, functions); function >= 0; function = json_next(doc, function)) {
        if (!write_function(making, function, "functions")) {
            return false;
        }
    }
    json_end_array(&making->json);
    return true;
}

/* tool_choice or the older function_call: its type here, NULL when there is none that is known. *name is the tool's. */
static const char *read_choice(const struct making *making, const char *field, int *name) {
    const struct json_doc *doc = making->doc;
    int choice = find(making, field);
    *name = -1;
    if (json_type_of(doc, choice) == JSON_OBJECT) {
        bool is_older = strcmp(field, "function_call") == 0;
        bool is_function = is_older || json_string_is(doc, json_member(doc, choice, "type"), "function");
        *name = json_member(doc, is_older ? choice : json_member(doc, choice, "function"), "name");
        return is_function && json_type_of(doc, *name) == JSON_STRING ? "tool" : NULL;
    }
    return json_string_is(doc, choice, "auto")       ? "auto"
           : json_string_is(doc, choice, "none")     ? "none"
           : json_string_is(doc, choice, "required") ? "any"
                                                     : NULL;
}

static bool write_tool_choice(struct making *making) {
    const struct json_doc *doc = making->doc;
    int name = -1;
    bool is_serial = json_type_of(doc, find(making, "parallel_tool_calls")) == JSON_FALSE;
    int choice = find(making, "tool_choice");
    bool is_older = choice < 0 || json_type_of(doc, choice) == JSON_NULL;
    const char *field = is_older ? "function_call" : "tool_choice";
    bool is_given = find(making, field) >= 0 && json_type_of(doc, find(making, field)) != JSON_NULL;
    const char *type = read_choice(making, field, &name);
    bool is_forced = type != NULL && (strcmp(type, "any") == 0 || strcmp(type, "tool") == 0);
    bool has_tools = json_size(doc, find(making, "tools")) != 0 || json_size(doc, find(making, "functions")) != 0;
    if (is_given && type == NULL) {
        return refuse(making, field, "auto, none, required or a function");
    }
    if (is_forced && (!has_tools || making->budget_tokens != 0)) {
        return refuse(making, field, has_tools ? "auto or none beside reasoning_effort" : "auto or none without tools");
    }
    if (!has_tools || (!is_given && !is_serial)) {
        return true;
    }
    json_begin_object(&making->json, "tool_choice");
    json_write_text(&making->json, "type", type != NULL ? type : "auto");
    if (name >= 0) {
        json_write_raw(&making->json, "name", json_raw(doc, name));
    }
    if (is_serial && (type == NULL || strcmp(type, "none") != 0)) {
        json_write_bool(&making->json, "disable_parallel_tool_use", true);
    }
    json_end_object(&making->json);
    return true;
}

static bool write_thinking(struct making *making) {
    const struct effort *effort = find_effort(making);
    int given = find(making, "reasoning_effort");
    if (given >= 0 && json_type_of(making->doc, given) != JSON_NULL && effort == NULL) {
        return refuse(making, "reasoning_effort", "none, minimal, low, medium, high or xhigh");
    }
    if (making->is_adaptive || making->budget_tokens != 0 || effort == &efforts[0]) {
        json_begin_object(&making->json, "thinking");
        json_write_text(&making->json, "type",
                        making->is_adaptive          ? "adaptive"
                        : making->budget_tokens != 0 ? "enabled"
                                                     : "disabled");
        if (making->budget_tokens != 0) {
            json_write_int(&making->json, "budget_tokens", making->budget_tokens);
        }
        json_end_object(&making->json);
    }
    return true;
}

static bool write_output_config(struct making *making) {
    const struct json_doc *doc = making->doc;
    int format = find(making, "response_format");
    int type = json_member(doc, format, "type");
    int schema = json_member(doc, json_member(doc, format, "json_schema"), "schema");
    bool has_schema = json_string_is(doc, type, "json_schema") && json_type_of(doc, schema) == JSON_OBJECT;
    bool is_given = format >= 0 && json_type_of(doc, format) != JSON_NULL;
    if (is_given && !has_schema && !json_string_is(doc, type, "text")) {
        return refuse(making, "response_format", "of type text, or json_schema with a schema,");
    }
    if (!has_schema && making->effort == NULL) {
        return true;
    }
    json_begin_object(&making->json, "output_config");
    if (making->effort != NULL) {
        json_write_text(&making->json, "effort", making->effort);
    }
    if (has_schema) {
        json_begin_object(&making->json, "format");
        json_write_text(&making->json, "type", "json_schema");
        json_write_raw(&making->json, "schema", json_raw(doc, schema));
        json_end_object(&making->json);
    }
    json_end_object(&making->json);
    return true;
}

static bool write_service(struct making *making) {
    const struct json_doc *doc = making->doc;
    const int users[] = {find(making, "user"), find(making, "safety_identifier"),
                         json_member(doc, find(making, "metadata"), "user_id")};
    for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
        if (json_type_of(doc, users[i]) == JSON_STRING && !json_string_is(doc, users[i], "")) {
            json_begin_object(&making->json, "metadata");
            json_write_raw(&making->json, "user_id", json_raw(doc, users[i]));
            json_end_object(&making->json);
            break;
        }
    }
    int tier = find(making, "service_tier");
    if (json_string_is(doc, tier, "default")) {
        json_write_text(&making->json, "service_tier", "standard_only");
    } else if (json_type_of(doc, tier) == JSON_STRING && !json_string_is(doc, tier, "auto")) {
        return refuse(making, "service_tier", "auto or default");
    }
    return true;
}

bool anthropic_request_write(const struct json_doc *doc, const struct chat_rewrite *rewrite, int64_t default_max_tokens,
                             struct buffer *out, struct chat_verdict *wrong) {
    struct making making = {.json = json_writer_on(out), .wrong = wrong};
    *wrong = (struct chat_verdict){0};
    start(&making, doc, rewrite, default_max_tokens);
    if (!check_fields(&making)) {
        return false;
    }
    int messages = find(&making, "messages");
    json_begin_object(&making.json, NULL);
    json_write_text(&making.json, "model", making.model);
    json_write_int(&making.json, "max_tokens", making.max_tokens);
    if (rewrite->stream) {
        json_write_bool(&making.json, "stream", true);
    }
    bool is_said = anthropic_turns_write_system(doc, messages, &making.json, wrong) &&
                   anthropic_turns_write_messages(doc, messages, &making.json, wrong) && write_tools(&making) &&
                   write_tool_choice(&making) && write_stop(&making) && write_sampling(&making) &&
                   write_thinking(&making) && write_output_config(&making) && write_service(&making);
    json_end_object(&making.json);
    return is_said && !out->failed;
}

int64_t anthropic_request_max_tokens(const struct json_doc *doc, const struct chat_rewrite *rewrite,
                                     int64_t default_max_tokens) {
    struct making making = {.wrong = NULL};
    start(&making, doc, rewrite, default_max_tokens);
    return making.max_tokens;
}
