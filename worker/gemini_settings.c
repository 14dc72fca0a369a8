#include "worker/gemini_settings.h"

#include <stdio.h>

#include "worker/chat_check.h"
#include "worker/gemini_thinking.h"

enum { CANDIDATES_MOST = 8, NAME_BYTES_MOST = 32 };

/* What a chat body may say. Anything else is refused: left out silently, it would change the answer or its price. */
static const char *const known[] = {
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "tools", "tool_choice",
    "parallel_tool_calls", "functions", "function_call", "stop", "temperature", "top_p", "top_k", "presence_penalty",
    "frequency_penalty", "seed", "n", "logprobs", "top_logprobs", "logit_bias", "response_format", "reasoning_effort",
    "reasoning", "modalities", "verbosity", "web_search_options", "service_tier", "store",
    /* These change no answer. */
    "user", "safety_identifier", "metadata", "prompt_cache_key", "prompt_cache_retention"};

/* Reads digits; *at is moved behind them. */
static int read_digits(const char **at) {
    int number = 0;
    for (; **at >= '0' && **at <= '9' && number < 1000; (*at)++) {
        number = number * 10 + (**at - '0');
    }
    return number;
}

struct gemini_generation gemini_generation_of(const char *model) {
    struct gemini_generation generation = {.is_pro = strstr(model, "-pro") != NULL};
    const char *at = strstr(model, "gemini-");
    if (at != NULL) {
        at += strlen("gemini-");
        generation.major = read_digits(&at);
        if (*at == '.') {
            at++;
            generation.minor = read_digits(&at);
        }
    }
    return generation;
}

static int find(const struct json_doc *doc, const char *name) { return json_member(doc, 0, name); }

static bool is_given(const struct json_doc *doc, int value) {
    return value >= 0 && json_type_of(doc, value) != JSON_NULL;
}

/* --- tools --- */

static void write_declaration(const struct json_doc *doc, int function, struct json_writer *writer) {
    int description = json_member(doc, function, "description");
    int parameters = json_member(doc, function, "parameters");
    json_begin_object(writer, NULL);
    json_write_raw(writer, "name", json_raw(doc, json_member(doc, function, "name")));
    if (json_type_of(doc, description) == JSON_STRING) {
        json_write_raw(writer, "description", json_raw(doc, description));
    }
    if (json_type_of(doc, parameters) == JSON_OBJECT) {
        json_write_raw(writer, "parametersJsonSchema", json_raw(doc, parameters));
    }
    json_end_object(writer);
}

/* Each element of `tools`, or of the older `functions`. */
static bool write_declarations(const struct json_doc *doc, int list, bool is_legacy, struct json_writer *writer,
                               struct chat_verdict *wrong) {
    char param[CHAT_PARAM_BYTES];
    int index = 0;
    for (int tool = json_first(doc, list); tool >= 0; tool = json_next(doc, tool), index++) {
        int function = is_legacy ? tool : json_member(doc, tool, "function");
        if (!is_legacy && !json_string_is(doc, json_member(doc, tool, "type"), "function")) {
            (void)snprintf(param, sizeof(param), "tools[%d].type", index);
            return chat_refuse(wrong, "invalid_value", param, "'%s' must be 'function' for this model.", param);
        }
        if (json_type_of(doc, json_member(doc, function, "name")) != JSON_STRING) {
            (void)snprintf(param, sizeof(param), is_legacy ? "functions[%d].name" : "tools[%d].function.name", index);
            return chat_refuse(wrong, "invalid_value", param, "'%s' must be a string.", param);
        }
        write_declaration(doc, function, writer);
    }
    return true;
}

static bool write_tools(const struct json_doc *doc, struct json_writer *writer, struct chat_verdict *wrong) {
    int tools = find(doc, "tools");
    int functions = find(doc, "functions");
    bool has_tools = json_type_of(doc, tools) == JSON_ARRAY;
    bool has_functions = json_type_of(doc, functions) == JSON_ARRAY;
    json_begin_array(writer, "tools");
    json_begin_object(writer, NULL);
    json_begin_array(writer, "functionDeclarations");
    if ((has_tools && !write_declarations(doc, tools, false, writer, wrong)) ||
        (has_functions && !write_declarations(doc, functions, true, writer, wrong))) {
        return false;
    }
    json_end_array(writer);
    json_end_object(writer);
    json_end_array(writer);
    return true;
}

/* --- tool_choice --- */

static void begin_mode(struct json_writer *writer, const char *mode) {
    json_begin_object(writer, "toolConfig");
    json_begin_object(writer, "functionCallingConfig");
    json_write_text(writer, "mode", mode);
}

static void end_mode(struct json_writer *writer) {
    json_end_object(writer);
    json_end_object(writer);
}

static bool refuse_choice(struct chat_verdict *wrong, const char *param) {
    return chat_refuse(wrong, "invalid_value", param,
                       "'%s' must be auto, none, required, or an object that names functions that must be called.",
                       param);
}

/* {"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name"}}]}} */
static bool write_allowed(const struct json_doc *doc, int allowed, const char *param, struct json_writer *writer,
                          struct chat_verdict *wrong) {
    int tools = json_member(doc, allowed, "tools");
    if (!json_string_is(doc, json_member(doc, allowed, "mode"), "required") || json_size(doc, tools) == 0 ||
        json_type_of(doc, tools) != JSON_ARRAY) {
        return refuse_choice(wrong, param);
    }
    begin_mode(writer, "ANY");
    json_begin_array(writer, "allowedFunctionNames");
    for (int tool = json_first(doc, tools); tool >= 0; tool = json_next(doc, tool)) {
        int name = json_member(doc, json_member(doc, tool, "function"), "name");
        if (json_type_of(doc, name) != JSON_STRING) {
            return refuse_choice(wrong, param);
        }
        json_write_raw(writer, NULL, json_raw(doc, name));
    }
    json_end_array(writer);
    end_mode(writer);
    return true;
}

static bool write_choice(const struct json_doc *doc, int choice, const char *param, struct json_writer *writer,
                         struct chat_verdict *wrong) {
    if (json_type_of(doc, choice) == JSON_OBJECT) {
        int allowed = json_member(doc, choice, "allowed_tools");
        if (json_type_of(doc, allowed) == JSON_OBJECT) {
            return write_allowed(doc, allowed, param, writer, wrong);
        }
        int function = json_member(doc, choice, "function");
        int name = json_member(doc, function >= 0 ? function : choice, "name"); /* function_call has no inner object */
        if (json_type_of(doc, name) != JSON_STRING) {
            return refuse_choice(wrong, param);
        }
        begin_mode(writer, "ANY");
        json_begin_array(writer, "allowedFunctionNames");
        json_write_raw(writer, NULL, json_raw(doc, name));
        json_end_array(writer);
        end_mode(writer);
        return true;
    }
    const char *mode = json_string_is(doc, choice, "auto")       ? "AUTO"
                       : json_string_is(doc, choice, "none")     ? "NONE"
                       : json_string_is(doc, choice, "required") ? "ANY"
                                                                 : NULL;
    if (mode == NULL) {
        return refuse_choice(wrong, param);
    }
    begin_mode(writer, mode);
    end_mode(writer);
    return true;
}

/* Without tools only choices that ask for none make sense. */
static bool write_tool_settings(const struct json_doc *doc, struct json_writer *writer, struct chat_verdict *wrong) {
    int choice = find(doc, "tool_choice");
    const char *param = is_given(doc, choice) ? "tool_choice" : "function_call";
    choice = is_given(doc, choice) ? choice : find(doc, "function_call");
    int tool_count = json_size(doc, find(doc, "tools")) + json_size(doc, find(doc, "functions"));
    bool is_idle = !is_given(doc, choice) || json_string_is(doc, choice, "auto") || json_string_is(doc, choice, "none");
    if (tool_count <= 0) {
        return is_idle || chat_refuse(wrong, "invalid_value", param, "'%s' needs 'tools' to choose from.", param);
    }
    bool is_one_call = tool_count == 1 && !is_idle; /* how some clients ask for an object: one call is meant */
    if (json_type_of(doc, find(doc, "parallel_tool_calls")) == JSON_FALSE && !is_one_call) {
        return chat_refuse(wrong, "invalid_value", "parallel_tool_calls",
                           "'parallel_tool_calls' cannot be false for this model; leave it out.");
    }
    return write_tools(doc, writer, wrong) &&
           (!is_given(doc, choice) || write_choice(doc, choice, param, writer, wrong));
}

/* --- generationConfig --- */

static int64_t read_count(const struct json_doc *doc, const char *name) {
    int64_t count = 0;
    return json_int(doc, find(doc, name), &count) && count > 0 ? count : 0;
}

static int64_t smaller(int64_t a, int64_t b) { return a == 0 || (b != 0 && b < a) ? b : a; }

static void write_number(const struct json_doc *doc, const char *name, const char *twin, struct json_writer *writer) {
    int value = find(doc, name);
    if (json_type_of(doc, value) == JSON_NUMBER) {
        json_write_raw(writer, twin, json_raw(doc, value));
    }
}

/* A penalty of 0 is none, and some models know none. */
static void write_penalty(const struct json_doc *doc, const char *name, const char *twin, struct json_writer *writer) {
    double penalty = 0;
    if (json_double(doc, find(doc, name), &penalty) && penalty != 0) {
        write_number(doc, name, twin, writer);
    }
}

/* Gemini's seeds have 32 bits: larger ones are folded, so that the same seed stays the same. */
static void write_seed(const struct json_doc *doc, struct json_writer *writer) {
    int64_t seed = 0;
    if (!json_int(doc, find(doc, "seed"), &seed)) {
        return;
    }
    if (seed < INT32_MIN || seed > INT32_MAX) {
        uint64_t bits = (uint64_t)seed;
        seed = (int64_t)((bits ^ bits >> 32) & INT32_MAX);
    }
    json_write_int(writer, "seed", seed);
}

static void write_stop(const struct json_doc *doc, struct json_writer *writer) {
    int stop = find(doc, "stop");
    if (json_type_of(doc, stop) == JSON_STRING) {
        json_begin_array(writer, "stopSequences");
        json_write_raw(writer, NULL, json_raw(doc, stop));
        json_end_array(writer);
    } else if (json_type_of(doc, stop) == JSON_ARRAY && json_size(doc, stop) != 0) {
        json_write_raw(writer, "stopSequences", json_raw(doc, stop));
    }
}

static bool write_format(const struct json_doc *doc, struct json_writer *writer, struct chat_verdict *wrong) {
    int format = find(doc, "response_format");
    int type = json_member(doc, format, "type");
    if (!is_given(doc, format) || json_string_is(doc, type, "text")) {
        return true;
    }
    if (!json_string_is(doc, type, "json_object") && !json_string_is(doc, type, "json_schema")) {
        return chat_refuse(wrong, "invalid_value", "response_format.type",
                           "'response_format.type' must be one of text, json_object, json_schema for this model.");
    }
    json_write_text(writer, "responseMimeType", "application/json");
    int schema = json_member(doc, json_member(doc, format, "json_schema"), "schema");
    if (json_string_is(doc, type, "json_schema") && json_type_of(doc, schema) == JSON_OBJECT) {
        json_write_raw(writer, "responseJsonSchema", json_raw(doc, schema));
    }
    return true;
}

static bool write_choices(const struct json_doc *doc, struct json_writer *writer, struct chat_verdict *wrong) {
    int64_t choices = read_count(doc, "n");
    if (choices > CANDIDATES_MOST) {
        return chat_refuse(wrong, "invalid_value", "n", "'n' must be at most %d for this model.", CANDIDATES_MOST);
    }
    if (choices > 1) {
        json_write_int(writer, "candidateCount", choices);
    }
    if (json_type_of(doc, find(doc, "logprobs")) == JSON_TRUE) {
        json_write_bool(writer, "responseLogprobs", true);
        write_number(doc, "top_logprobs", "logprobs", writer);
    }
    return true;
}

/* --- what has no twin --- */

static bool refuse_field(struct chat_verdict *wrong, const char *param, const char *must_be) {
    return chat_refuse(wrong, "invalid_value", param, "'%s' must be %s for this model, or left out.", param, must_be);
}

/* An unknown field is named only when its name looks like one: it is the client's text. */
static bool refuse_unknown(const struct json_doc *doc, int name, struct chat_verdict *wrong) {
    char text[NAME_BYTES_MOST + 1];
    bool is_plain = json_string_copy(doc, name, text, sizeof(text)) &&
                    text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
    return chat_refuse(wrong, "invalid_value", is_plain ? text : "",
                       "This model's provider has nothing like the field '%s'. Leave it out.",
                       is_plain ? text : "(unknown)");
}

static bool check_known(const struct json_doc *doc, struct chat_verdict *wrong) {
    for (int name = json_first(doc, 0); name >= 0; name = json_next(doc, name)) {
        size_t i = 0;
        while (i < sizeof(known) / sizeof(known[0]) && !json_string_is(doc, name, known[i])) {
            i++;
        }
        if (i == sizeof(known) / sizeof(known[0]) && is_given(doc, json_value_of(doc, name))) {
            return refuse_unknown(doc, name, wrong);
        }
    }
    return true;
}

/* What OpenAI would store, or bill otherwise. */
static bool check_service(const struct json_doc *doc, struct chat_verdict *wrong) {
    int tier = find(doc, "service_tier");
    if (is_given(doc, tier) && !json_string_is(doc, tier, "auto") && !json_string_is(doc, tier, "default")) {
        return refuse_field(wrong, "service_tier", "auto or default");
    }
    if (json_type_of(doc, find(doc, "store")) == JSON_TRUE) {
        return refuse_field(wrong, "store", "false");
    }
    return true;
}

static bool check_rest(const struct json_doc *doc, struct chat_verdict *wrong) {
    int modalities = find(doc, "modalities");
    int verbosity = find(doc, "verbosity");
    if (!check_known(doc, wrong) || !check_service(doc, wrong)) {
        return false;
    }
    if (json_size(doc, find(doc, "logit_bias")) > 0) {
        return refuse_field(wrong, "logit_bias", "empty");
    }
    if (is_given(doc, find(doc, "web_search_options"))) {
        return refuse_field(wrong, "web_search_options", "null");
    }
    if (is_given(doc, verbosity) && !json_string_is(doc, verbosity, "medium")) {
        return refuse_field(wrong, "verbosity", "medium");
    }
    if (json_type_of(doc, modalities) == JSON_ARRAY) {
        for (int each = json_first(doc, modalities); each >= 0; each = json_next(doc, each)) {
            if (!json_string_is(doc, each, "text")) {
                return refuse_field(wrong, "modalities", "[\"text\"]");
            }
        }
    }
    return true;
}

bool gemini_settings_write(const struct json_doc *doc, const struct gemini_generation *generation, int64_t max_tokens,
                           struct json_writer *writer, struct chat_verdict *wrong) {
    int64_t cap = smaller(read_count(doc, "max_tokens"), read_count(doc, "max_completion_tokens"));
    if (!check_rest(doc, wrong) || !write_tool_settings(doc, writer, wrong)) {
        return false;
    }
    cap = smaller(cap, max_tokens > 0 ? max_tokens : 0);
    json_begin_object(writer, "generationConfig");
    if (cap > 0) {
        json_write_int(writer, "maxOutputTokens", cap < INT32_MAX ? cap : INT32_MAX);
    }
    write_number(doc, "temperature", "temperature", writer);
    write_number(doc, "top_p", "topP", writer);
    write_number(doc, "top_k", "topK", writer);
    write_penalty(doc, "presence_penalty", "presencePenalty", writer);
    write_penalty(doc, "frequency_penalty", "frequencyPenalty", writer);
    write_seed(doc, writer);
    write_stop(doc, writer);
    if (!write_choices(doc, writer, wrong) || !write_format(doc, writer, wrong) ||
        !gemini_thinking_write(doc, generation, writer, wrong)) {
        return false;
    }
    json_end_object(writer);
    return true;
}
