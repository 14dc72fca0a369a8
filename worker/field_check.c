#include "worker/field_check.h"

#include "worker/chat_check.h"

bool field_refuse(struct chat_verdict *verdict, const char *param, const char *must_be) {
    return chat_refuse(verdict, "invalid_value", param, "'%s' must be %s.", param, must_be);
}

static bool is_bool(enum json_type type) { return type == JSON_TRUE || type == JSON_FALSE; }

static bool check_int(const struct json_doc *doc, int value, const struct field_rule *rule,
                      struct chat_verdict *verdict) {
    int64_t number = 0;
    if (json_int(doc, value, &number) && (double)number >= rule->min && (double)number <= rule->max) {
        return true;
    }
    return chat_refuse(verdict, "invalid_value", rule->name, "'%s' must be a whole number from %.0f to %.0f.",
                       rule->name, rule->min, rule->max);
}

static bool check_number(const struct json_doc *doc, int value, const struct field_rule *rule,
                         struct chat_verdict *verdict) {
    double number = 0;
    if (json_type_of(doc, value) == JSON_NUMBER && json_double(doc, value, &number) && number >= rule->min &&
        number <= rule->max) {
        return true;
    }
    return chat_refuse(verdict, "invalid_value", rule->name, "'%s' must be a number from %g to %g.", rule->name,
                       rule->min, rule->max);
}

static bool check_stop(const struct json_doc *doc, int value, const struct field_rule *rule,
                       struct chat_verdict *verdict) {
    bool is_right = json_type_of(doc, value) == JSON_STRING ||
                    (json_type_of(doc, value) == JSON_ARRAY && json_size(doc, value) <= (int)rule->max);
    if (is_right && json_type_of(doc, value) == JSON_ARRAY) {
        for (int item = json_first(doc, value); item >= 0; item = json_next(doc, item)) {
            is_right &= json_type_of(doc, item) == JSON_STRING;
        }
    }
    return is_right || field_refuse(verdict, rule->name, "a string or an array of at most 4 strings");
}

/* What a value of this kind must be, in words, when its JSON type alone decides; NULL when it is right. */
static const char *find_type_fault(const struct json_doc *doc, int value, enum field_kind kind) {
    enum json_type type = json_type_of(doc, value);
    switch (kind) {
    case FIELD_BOOL:
        return is_bool(type) ? NULL : "true or false";
    case FIELD_STRING:
        return type == JSON_STRING ? NULL : "a string";
    case FIELD_OBJECT:
        return type == JSON_OBJECT ? NULL : "an object";
    case FIELD_ARRAY:
        return type == JSON_ARRAY ? NULL : "an array";
    case FIELD_CHOICE:
        return type == JSON_STRING || type == JSON_OBJECT ? NULL : "a string or an object";
    case FIELD_TYPED:
        return json_type_of(doc, json_member(doc, value, "type")) == JSON_STRING ? NULL
                                                                                 : "an object with a string 'type'";
    case FIELD_REQUIRED_STRING:
        return type == JSON_STRING && !json_string_is(doc, value, "") ? NULL : "a string that is not empty";
    case FIELD_REQUIRED_ARRAY:
        return type == JSON_ARRAY && json_size(doc, value) != 0 ? NULL : "an array that is not empty";
    default:
        return NULL;
    }
}

static bool check_value(const struct json_doc *doc, int value, const struct field_rule *rule,
                        field_check_fn *check_other, struct chat_verdict *verdict) {
    if (rule->kind == FIELD_OTHER) {
        return check_other(doc, value, rule, verdict);
    }
    bool is_required = rule->kind == FIELD_REQUIRED_STRING || rule->kind == FIELD_REQUIRED_ARRAY;
    if (json_type_of(doc, value) == JSON_NULL && !is_required) {
        return true;
    }
    switch (rule->kind) {
    case FIELD_INT:
        return check_int(doc, value, rule, verdict);
    case FIELD_NUMBER:
        return check_number(doc, value, rule, verdict);
    case FIELD_STOP:
        return check_stop(doc, value, rule, verdict);
    default:
        break;
    }
    const char *fault = find_type_fault(doc, value, rule->kind);
    return fault == NULL || field_refuse(verdict, rule->name, fault);
}

/* The rule of a member's name, or -1. */
static int find_rule(const struct json_doc *doc, int name, const struct field_table *table) {
    for (int i = 0; i < table->rule_count; i++) {
        if (table->rules[i].name != NULL && json_string_is(doc, name, table->rules[i].name)) {
            return i;
        }
    }
    return -1;
}

static bool check_members(const struct json_doc *doc, int root, const struct field_table *table, int *values,
                          struct chat_verdict *verdict) {
    uint64_t seen = 0;
    for (int name = json_first(doc, root); name >= 0; name = json_next(doc, name)) {
        int index = find_rule(doc, name, table);
        if (index < 0) {
            continue;
        }
        const struct field_rule *rule = &table->rules[index];
        if (rule->is_single && (seen >> index & 1) != 0) {
            return chat_refuse(verdict, "invalid_value", rule->name, "'%s' must not be given twice.", rule->name);
        }
        seen |= UINT64_C(1) << index;
        if (!check_value(doc, json_value_of(doc, name), rule, table->check_other, verdict)) {
            return false;
        }
        if (index < table->kept) {
            values[index] = json_value_of(doc, name);
        }
    }
    return true;
}

bool field_check(const struct json_doc *doc, int root, const struct field_table *table, int *values,
                 struct chat_verdict *verdict) {
    CHECK(table->rule_count <= 64 && table->required <= table->kept);
    for (int i = 0; i < table->kept; i++) {
        values[i] = -1;
    }
    if (!check_members(doc, root, table, values, verdict)) {
        return false;
    }
    for (int i = 0; i < table->required; i++) {
        if (values[i] < 0) {
            const char *name = table->rules[i].name;
            return chat_refuse(verdict, "missing_field", name, "The body needs '%s'.", name);
        }
    }
    return true;
}

bool field_find_single(const struct json_doc *doc, int object, const char *name, int *value) {
    *value = -1;
    bool is_object = json_type_of(doc, object) == JSON_OBJECT;
    for (int member = is_object ? json_first(doc, object) : -1; member >= 0; member = json_next(doc, member)) {
        if (!json_string_is(doc, member, name)) {
            continue;
        }
        if (*value >= 0) {
            return false;
        }
        *value = json_value_of(doc, member);
    }
    return true;
}
