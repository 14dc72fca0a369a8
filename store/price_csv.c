#include "store/price_csv.h"

#include "base/calendar.h"

enum csv_column {
    COLUMN_MODEL,
    COLUMN_INPUT,
    COLUMN_OUTPUT,
    COLUMN_CACHED_INPUT,
    COLUMN_CACHE_WRITE,
    COLUMN_FROM,
    COLUMNS
};
enum { FIELD_BYTES = 128, ERRORS_SHOWN = 10 };

static const char *const column_names[COLUMNS] = {"model", "input", "output", "cached_input", "cache_write", "from"};

struct reader {
    struct span rest;
    int line;
    int64_t now_wall_ns;
    int column_count;
    enum csv_column columns[COLUMNS];
};

struct fields {
    char texts[COLUMNS][FIELD_BYTES]; /* by column of the file */
    int count;
};

static bool next_line(struct reader *reader, struct span *line) {
    while (reader->rest.len != 0) {
        const char *end = memchr(reader->rest.base, '\n', reader->rest.len);
        size_t len = end != NULL ? (size_t)(end - reader->rest.base) : reader->rest.len;
        *line = span_of(reader->rest.base, len);
        reader->rest = span_skip(reader->rest, end != NULL ? len + 1 : len);
        reader->line++;
        if (line->len != 0 && line->base[line->len - 1] == '\r') {
            line->len--;
        }
        if (span_trim(*line).len != 0) {
            return true;
        }
    }
    return false;
}

/* Takes one field off the line's front into out. *last is set when no comma follows. NULL, or what is wrong. */
static const char *take_field(struct span *line, char out[static FIELD_BYTES], bool *last) {
    size_t len = 0;
    struct span rest = span_trim(*line);
    bool quoted = rest.len != 0 && rest.base[0] == '"';
    rest = quoted ? span_skip(rest, 1) : *line;
    while (rest.len != 0 && (quoted || rest.base[0] != ',')) {
        bool pair = quoted && rest.len > 1 && rest.base[0] == '"' && rest.base[1] == '"';
        if (quoted && rest.base[0] == '"' && !pair) {
            break;
        }
        if (len == FIELD_BYTES - 1) {
            return "a field is too long";
        }
        out[len++] = rest.base[0];
        rest = span_skip(rest, pair ? 2 : 1);
    }
    out[len] = '\0';
    if (quoted) {
        if (rest.len == 0) {
            return "a quote is not closed";
        }
        rest = span_trim(span_skip(rest, 1));
        if (rest.len != 0 && rest.base[0] != ',') {
            return "text after a quoted field";
        }
    }
    *last = rest.len == 0;
    *line = span_skip(rest, 1);
    return NULL;
}

static const char *split(struct span line, struct fields *fields) {
    bool last = false;
    for (fields->count = 0; !last; fields->count++) {
        if (fields->count == COLUMNS) {
            return "too many fields";
        }
        const char *wrong = take_field(&line, fields->texts[fields->count], &last);
        if (wrong != NULL) {
            return wrong;
        }
    }
    return NULL;
}

static const char *read_header(struct reader *reader) {
    struct span line = SPAN_EMPTY;
    struct fields fields;
    unsigned seen = 0;
    if (span_starts_with(reader->rest, "\xef\xbb\xbf")) {
        reader->rest = span_skip(reader->rest, 3);
    }
    const char *wrong = next_line(reader, &line) ? split(line, &fields) : "the file is empty";
    if (wrong != NULL) {
        return wrong;
    }
    for (int at = 0; at < fields.count; at++) {
        int column = 0;
        while (column < COLUMNS && !span_is(span_trim(span_text(fields.texts[at])), column_names[column])) {
            column++;
        }
        if (column == COLUMNS || (seen & (1U << column)) != 0) {
            return "the header must be model,input,output,cached_input,cache_write,from";
        }
        seen |= 1U << column;
        reader->columns[at] = (enum csv_column)column;
    }
    reader->column_count = fields.count;
    const unsigned needed = 1U << COLUMN_MODEL | 1U << COLUMN_INPUT | 1U << COLUMN_OUTPUT;
    return (seen & needed) == needed ? NULL : "the header must have model, input and output";
}

static const char *read_money(struct span text, bool required, int64_t *nusd) {
    if (text.len == 0) {
        return required ? "input and output are needed" : NULL;
    }
    if (!money_parse(text, nusd) || *nusd < 0 || *nusd > PRICE_MOST_NUSD) {
        return "a price must be a decimal from 0 to 100000 with at most nine places";
    }
    return NULL;
}

static const char *read_model(struct span text, struct price_book_row *row) {
    if (text.len == 0 || !span_copy(text, row->model, sizeof row->model)) {
        return "a model's name must be 1 to 95 characters";
    }
    for (size_t at = 0; at < text.len; at++) {
        if ((unsigned char)text.base[at] <= ' ' || text.base[at] == 0x7f) {
            return "a model's name can't have spaces";
        }
    }
    return NULL;
}

static const char *read_field(const struct reader *reader, enum csv_column column, struct span text,
                              struct price_book_row *row) {
    switch (column) {
    case COLUMN_MODEL:
        return read_model(text, row);
    case COLUMN_INPUT:
        return read_money(text, true, &row->price.input_nusd);
    case COLUMN_OUTPUT:
        return read_money(text, true, &row->price.output_nusd);
    case COLUMN_CACHED_INPUT:
        return read_money(text, false, &row->price.cached_input_nusd);
    case COLUMN_CACHE_WRITE:
        return read_money(text, false, &row->price.cache_write_nusd);
    default:
        return text.len == 0 || calendar_parse(text, reader->now_wall_ns, &row->from_wall_ns)
                   ? NULL
                   : "from must be a date such as 2027-01-01 or an RFC 3339 time";
    }
}

static const char *read_row(const struct reader *reader, struct span line, struct price_book_row *row) {
    struct fields fields;
    *row = (struct price_book_row){.from_wall_ns = reader->now_wall_ns, .price = {-1, -1, -1, -1}};
    const char *wrong = split(line, &fields);
    if (wrong == NULL && fields.count != reader->column_count) {
        wrong = fields.count < reader->column_count ? "too few fields" : "too many fields";
    }
    for (int at = 0; at < reader->column_count && wrong == NULL; at++) {
        wrong = read_field(reader, reader->columns[at], span_trim(span_text(fields.texts[at])), row);
    }
    struct price *price = &row->price;
    price->cached_input_nusd = price->cached_input_nusd < 0 ? price->input_nusd : price->cached_input_nusd;
    price->cache_write_nusd = price->cache_write_nusd < 0 ? price->input_nusd : price->cache_write_nusd;
    return wrong;
}

bool price_csv_check(struct span csv, int64_t now_wall_ns, struct buffer *errors) {
    struct reader reader = {.rest = csv, .now_wall_ns = now_wall_ns};
    struct price_book_row row;
    struct span line = SPAN_EMPTY;
    int rows = 0;
    int bad = 0;
    const char *wrong = read_header(&reader);
    if (wrong != NULL) {
        buffer_format(errors, "line %d: %s", reader.line == 0 ? 1 : reader.line, wrong);
        return false;
    }
    for (; next_line(&reader, &line); rows++) {
        wrong = read_row(&reader, line, &row);
        if (wrong != NULL && bad++ < ERRORS_SHOWN) {
            buffer_format(errors, "%sline %d: %s", errors->len != 0 ? "; " : "", reader.line, wrong);
        }
    }
    if (rows == 0) {
        buffer_append_text(errors, "the file has no prices");
    } else if (bad > ERRORS_SHOWN) {
        buffer_format(errors, "; and %d more", bad - ERRORS_SHOWN);
    }
    return rows != 0 && bad == 0;
}

bool price_csv_each(struct span csv, int64_t now_wall_ns,
                    bool (*visit)(void *context, const struct price_book_row *row), void *context) {
    struct reader reader = {.rest = csv, .now_wall_ns = now_wall_ns};
    struct price_book_row row;
    struct span line = SPAN_EMPTY;
    if (read_header(&reader) != NULL) {
        return false;
    }
    while (next_line(&reader, &line)) {
        if (read_row(&reader, line, &row) != NULL || !visit(context, &row)) {
            return false;
        }
    }
    return true;
}
