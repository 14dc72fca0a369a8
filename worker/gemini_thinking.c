#include "worker/gemini_thinking.h"

#include "worker/chat_check.h"

enum effort { EFFORT_NONE, EFFORT_MINIMAL, EFFORT_LOW, EFFORT_MEDIUM, EFFORT_HIGH, EFFORTS };

enum {
    BUDGET_LOW = 1024, /* Google's own translation of OpenAI's efforts */
    BUDGET_MEDIUM = 8192,
    BUDGET_HIGH = 24576,
    BUDGET_MOST_PRO = 32768,
    BUDGET_LEAST_PRO = 128, /* thinking cannot be turned off there */
};

/* What the request wants. */
struct thinking {
    bool is_wanted; /* it says anything at all */
    enum effort effort;
    int64_t budget_tokens; /* -1: not given */
    bool is_hidden;
};

static bool read_effort(const struct json_doc *doc, int value, const char *param, struct thinking *out,
                        struct chat_verdict *wrong) {
    static const struct {
        const char *name;
        enum effort effort;
    } efforts[] = {{"none", EFFORT_NONE}, {"minimal", EFFORT_MINIMAL}, {"low", EFFORT_LOW}, {"medium", EFFORT_MEDIUM},
                   {"high", EFFORT_HIGH}, {"xhigh", EFFORT_HIGH},      {"max", EFFORT_HIGH}};
    enum json_type type = json_type_of(doc, value);
    if (type == JSON_ABSENT || type == JSON_NULL) {
        return true;
    }
    for (size_t i = 0; i < sizeof(efforts) / sizeof(efforts[0]); i++) {
        if (json_string_is(doc, value, efforts[i].name)) {
            out->is_wanted = true;
            out->effort = efforts[i].effort;
            return true;
        }
    }
    return chat_refuse(wrong, "invalid_value", param,
                       "'%s' must be one of none, minimal, low, medium, high, xhigh for this model.", param);
}

/* OpenRouter's reasoning object. */
static bool read_reasoning(const struct json_doc *doc, int reasoning, struct thinking *out,
                           struct chat_verdict *wrong) {
    if (json_type_of(doc, reasoning) != JSON_OBJECT) {
        return true;
    }
    int enabled = json_member(doc, reasoning, "enabled");
    int budget = json_member(doc, reasoning, "max_tokens");
    if (!read_effort(doc, json_member(doc, reasoning, "effort"), "reasoning.effort", out, wrong)) {
        return false;
    }
    if (json_type_of(doc, enabled) == JSON_FALSE) {
        out->is_wanted = true;
        out->effort = EFFORT_NONE;
    } else if (json_type_of(doc, enabled) == JSON_TRUE) {
        out->is_wanted = true;
    }
    if (json_type_of(doc, budget) == JSON_NUMBER) {
        if (!json_int(doc, budget, &out->budget_tokens) || out->budget_tokens < 0) {
            return chat_refuse(wrong, "invalid_value", "reasoning.max_tokens",
                               "'reasoning.max_tokens' must be a whole number of at least 0.");
        }
        out->is_wanted = true;
    }
    out->is_hidden = json_type_of(doc, json_member(doc, reasoning, "exclude")) == JSON_TRUE;
    return true;
}

static const char *level_of(const struct gemini_generation *generation, const struct thinking *thinking) {
    static const char *const levels[EFFORTS] = {"minimal", "minimal", "low", "medium", "high"};
    enum effort effort = thinking->effort;
    if (thinking->budget_tokens >= 0) {
        effort = thinking->budget_tokens == 0               ? EFFORT_NONE
                 : thinking->budget_tokens <= BUDGET_LOW    ? EFFORT_LOW
                 : thinking->budget_tokens <= BUDGET_MEDIUM ? EFFORT_MEDIUM
                                                            : EFFORT_HIGH;
    }
    if (generation->is_pro && effort < EFFORT_LOW) {
        effort = EFFORT_LOW;
    }
    /* The first of the line knows low and high only. */
    if (generation->is_pro && generation->major == 3 && generation->minor == 0 && effort == EFFORT_MEDIUM) {
        effort = EFFORT_HIGH;
    }
    return levels[effort];
}

static int64_t budget_of(const struct gemini_generation *generation, const struct thinking *thinking) {
    static const int64_t budgets[EFFORTS] = {0, BUDGET_LOW, BUDGET_LOW, BUDGET_MEDIUM, BUDGET_HIGH};
    int64_t most = generation->is_pro ? BUDGET_MOST_PRO : BUDGET_HIGH;
    int64_t least = generation->is_pro ? BUDGET_LEAST_PRO : 0;
    int64_t budget = thinking->budget_tokens >= 0 ? thinking->budget_tokens : budgets[thinking->effort];
    return budget > most ? most : budget < least ? least : budget;
}

bool gemini_thinking_write(const struct json_doc *doc, const struct gemini_generation *generation,
                           struct json_writer *writer, struct chat_verdict *wrong) {
    struct thinking thinking = {.effort = EFFORT_MEDIUM, .budget_tokens = -1};
    if (!read_reasoning(doc, json_member(doc, 0, "reasoning"), &thinking, wrong) ||
        !read_effort(doc, json_member(doc, 0, "reasoning_effort"), "reasoning_effort", &thinking, wrong)) {
        return false;
    }
    bool is_old =
        generation->major != 0 && (generation->major < 2 || (generation->major == 2 && generation->minor < 5));
    if (!thinking.is_wanted || is_old) {
        return true;
    }
    bool is_off = thinking.budget_tokens == 0 || (thinking.budget_tokens < 0 && thinking.effort == EFFORT_NONE);
    json_begin_object(writer, "thinkingConfig");
    if (generation->major >= 3) {
        json_write_text(writer, "thinkingLevel", level_of(generation, &thinking));
    } else {
        json_write_int(writer, "thinkingBudget", budget_of(generation, &thinking));
    }
    json_write_bool(writer, "includeThoughts", !is_off && !thinking.is_hidden);
    json_end_object(writer);
    return true;
}
