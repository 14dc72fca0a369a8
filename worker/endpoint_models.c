#include "worker/endpoint_models.h"

#include <limits.h>

#include "base/calendar.h"
#include "base/clock.h"
#include "base/json_write.h"
#include "shm/shm_bucket.h"
#include "worker/auth.h"
#include "worker/query.h"
#include "worker/reply.h"
#include "worker/worker_state.h"

enum { ANSWER_BYTES_MOST = 4 << 20, MODEL_PATH_BYTES = 256, PAGE_MOST = 1000 };

bool endpoint_may_use_model(const struct request *request, int index) {
    const struct conf *conf = request->worker->conf;
    int target = conf_model_resolve(conf, index);
    const struct conf_model *model = &conf->models[target];
    for (int i = 0; i < model->rule_count; i++) {
        if (auth_allows_model(request, conf_model_resolve(conf, model->rules[i].model))) {
            return true;
        }
    }
    return model->rule_count == 0 && auth_allows_model(request, target);
}

/* --- one model --- */

static void write_pricing(struct json_writer *writer, const struct price *price) {
    json_begin_object(writer, "pricing");
    json_write_price(writer, "input", price->input_nusd);
    json_write_price(writer, "cached_input", price->cached_input_nusd);
    json_write_price(writer, "cache_write", price->cache_write_nusd);
    json_write_price(writer, "output", price->output_nusd);
    json_end_object(writer);
}

static void write_optional_int(struct json_writer *writer, const char *name, int64_t value) {
    if (value > 0) {
        json_write_int(writer, name, value);
    } else {
        json_write_null(writer, name);
    }
}

static void write_openai_form(const struct request *request, struct json_writer *writer,
                              const struct conf_model *model) {
    const struct conf *conf = request->worker->conf;
    json_write_text(writer, "object", "model");
    json_write_int(writer, "created", request->worker->map->header->created_wall_ns / NS_PER_S);
    json_write_text(writer, "owned_by",
                    model->route_count > 0 ? conf->upstreams[model->routes[0].upstream].name : "tollgate");
}

static void write_anthropic_form(const struct request *request, struct json_writer *writer, const char *name) {
    char created[RFC3339_BYTES];
    calendar_rfc3339(request->worker->map->header->created_wall_ns, created);
    json_write_text(writer, "type", "model");
    json_write_text(writer, "display_name", name);
    json_write_text(writer, "created_at", created);
}

static void write_model(const struct request *request, struct json_writer *writer, int index) {
    const struct conf *conf = request->worker->conf;
    const struct conf_model *model = &conf->models[conf_model_resolve(conf, index)];
    const char *name = conf->models[index].name;
    struct price price = model->price;
    bool priced =
        shm_price_at(request->worker->map, span_text(model->name), request->start_wall_ns, &price) || model->has_price;
    json_begin_object(writer, NULL);
    json_write_text(writer, "id", name);
    if (request->form == CLIENT_MESSAGES) {
        write_anthropic_form(request, writer, name);
    } else {
        write_openai_form(request, writer, model);
    }
    if (priced) {
        write_pricing(writer, &price);
    } else {
        json_write_null(writer, "pricing");
    }
    write_optional_int(writer, "context", model->context_tokens);
    write_optional_int(writer, "max_output", model->max_output_tokens);
    json_end_object(writer);
}

/* --- Anthropic's pages --- */

/* Those models that the key may use and whose index is in [begin, end). */
struct page {
    int begin;
    int end;
    bool has_more;
};

/* The index of the model that the query names there, or otherwise when it names none. False: an unknown one. */
static bool read_cursor(const struct request *request, const char *name, int otherwise, int *index) {
    struct span value;
    char model[MODEL_PATH_BYTES];
    *index = otherwise;
    if (!query_find(request->input.query, name, &value)) {
        return true;
    }
    *index = query_copy(value, model, sizeof(model)) ? conf_model_index(request->worker->conf, span_text(model)) : -1;
    return *index >= 0;
}

/* 1 to PAGE_MOST. Without a limit everything is one page. False: anything else. */
static bool read_limit(const struct request *request, int *limit) {
    struct span value;
    *limit = INT_MAX;
    if (!query_find(request->input.query, "limit", &value)) {
        return true;
    }
    int number = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.base[i] < '0' || value.base[i] > '9' || number > PAGE_MOST) {
            return false;
        }
        number = number * 10 + (value.base[i] - '0');
    }
    *limit = number;
    return number >= 1 && number <= PAGE_MOST;
}

/* Leaves the limit's first models of the page, or its last ones for a client that goes backwards. */
static void cut_page(const struct request *request, int limit, bool is_backwards, struct page *page) {
    int step = is_backwards ? -1 : 1;
    int past = is_backwards ? page->begin - 1 : page->end;
    for (int i = is_backwards ? page->end - 1 : page->begin; i != past; i += step) {
        if (!endpoint_may_use_model(request, i)) {
            continue;
        }
        if (limit-- > 0) {
            continue;
        }
        page->has_more = true;
        *(is_backwards ? &page->begin : &page->end) = is_backwards ? i + 1 : i;
        return;
    }
}

static struct verdict read_page(const struct request *request, struct page *page) {
    int count = request->worker->conf->model_count;
    int after;
    int limit;
    *page = (struct page){.begin = 0, .end = count};
    if (request->form != CLIENT_MESSAGES) {
        return verdict_of(ERROR_NONE);
    }
    if (!read_limit(request, &limit)) {
        return verdict_with(ERROR_invalid_value, "limit", "\"limit\" must be a whole number from 1 to 1000.");
    }
    if (!read_cursor(request, "after_id", -1, &after)) {
        return verdict_with(ERROR_invalid_value, "after_id", "\"after_id\" names no model of this list.");
    }
    if (!read_cursor(request, "before_id", count, &page->end)) {
        return verdict_with(ERROR_invalid_value, "before_id", "\"before_id\" names no model of this list.");
    }
    page->begin = after + 1 < page->end ? after + 1 : page->end;
    cut_page(request, limit, page->end < count, page);
    return verdict_of(ERROR_NONE);
}

static void write_page_members(struct json_writer *writer, const struct page *page, const char *first,
                               const char *last) {
    json_write_bool(writer, "has_more", page->has_more);
    json_write_text(writer, "first_id", first);
    json_write_text(writer, "last_id", last);
}

/* --- the answers --- */

struct verdict endpoint_answer_models(struct request *request) {
    struct page page;
    struct verdict verdict = read_page(request, &page);
    if (verdict.kind != ERROR_NONE) {
        return verdict;
    }
    struct buffer body;
    const char *first = NULL;
    const char *last = NULL;
    buffer_init(&body, ANSWER_BYTES_MOST);
    struct json_writer writer = json_writer_on(&body);
    json_begin_object(&writer, NULL);
    if (request->form != CLIENT_MESSAGES) {
        json_write_text(&writer, "object", "list");
    }
    json_begin_array(&writer, "data");
    for (int i = page.begin; i < page.end; i++) {
        if (endpoint_may_use_model(request, i)) {
            last = request->worker->conf->models[i].name;
            first = first == NULL ? last : first;
            write_model(request, &writer, i);
        }
    }
    json_end_array(&writer);
    if (request->form == CLIENT_MESSAGES) {
        write_page_members(&writer, &page, first, last);
    }
    json_end_object(&writer);
    reply_json(request, 200, buffer_span(&body));
    buffer_fini(&body);
    return verdict_of(ERROR_NONE);
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Undoes %XX; false when the result does not fit or holds a NUL. */
static bool decode_path(struct span text, char *out, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < text.len && n + 1 < size; i++) {
        char c = text.base[i];
        if (c == '%' && i + 2 < text.len && hex_digit(text.base[i + 1]) >= 0 && hex_digit(text.base[i + 2]) >= 0) {
            c = (char)(hex_digit(text.base[i + 1]) * 16 + hex_digit(text.base[i + 2]));
            i += 2;
        }
        if (c == '\0') {
            return false;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return n + 1 < size;
}

struct verdict endpoint_answer_model(struct request *request) {
    char name[MODEL_PATH_BYTES];
    struct span rest = span_skip(request->input.path, sizeof("/v1/models/") - 1);
    int index = decode_path(rest, name, sizeof(name)) ? conf_model_index(request->worker->conf, span_text(name)) : -1;
    if (index < 0 || !endpoint_may_use_model(request, index)) {
        return verdict_with(ERROR_model_not_found, "model",
                            "This key has no such model. GET /v1/models lists its models.");
    }
    struct buffer body;
    buffer_init(&body, ANSWER_BYTES_MOST);
    struct json_writer writer = json_writer_on(&body);
    write_model(request, &writer, index);
    reply_json(request, 200, buffer_span(&body));
    buffer_fini(&body);
    return verdict_of(ERROR_NONE);
}
