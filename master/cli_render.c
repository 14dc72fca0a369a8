#include "master/cli_render.h"

#include "base/money.h"

enum { CELL_MOST = 1 << 20 };

void cli_render_safe(struct span text, struct buffer *out) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.base[i];
        /* U+0080 to U+009F are control characters too: C2 80 to C2 9F. */
        bool is_c1 = byte == 0xC2 && i + 1 < text.len && (unsigned char)text.base[i + 1] < 0xA0;
        if (byte < 0x20 || byte == 0x7F || is_c1) {
            buffer_append_byte(out, '?');
            i += is_c1 ? 1 : 0;
        } else {
            buffer_append_byte(out, text.base[i]);
        }
    }
}

/* Characters of a text, as a terminal counts them. */
static size_t width_of(struct span text) {
    size_t width = 0;
    for (size_t i = 0; i < text.len; i++) {
        width += ((unsigned char)text.base[i] & 0xC0) != 0x80 ? 1 : 0;
    }
    return width;
}

/* The member a column names: as it stands, or through "a.b". */
static int find_field(const struct json_doc *doc, int object, const char *field) {
    int value = json_member(doc, object, field);
    const char *dot = strchr(field, '.');
    char outer[64];
    if (value < 0 && dot != NULL && span_copy(span_of(field, (size_t)(dot - field)), outer, sizeof(outer))) {
        value = json_member(doc, json_member(doc, object, outer), dot + 1);
    }
    return value;
}

static void append_scalar(const struct json_doc *doc, int value, struct buffer *out) {
    if (json_type_of(doc, value) == JSON_STRING) {
        (void)!json_string(doc, value, out);
    } else if (json_type_of(doc, value) != JSON_NULL) {
        buffer_append_span(out, json_raw(doc, value));
    }
}

/* "a,b" of an array, "a=1,b=2" of an object. */
static void append_list(const struct json_doc *doc, int value, struct buffer *out) {
    bool is_object = json_type_of(doc, value) == JSON_OBJECT;
    for (int child = json_first(doc, value); child >= 0; child = json_next(doc, child)) {
        if (out->len != 0) {
            buffer_append_byte(out, ',');
        }
        append_scalar(doc, child, out);
        if (is_object) {
            buffer_append_byte(out, '=');
            append_scalar(doc, json_value_of(doc, child), out);
        }
    }
}

static void append_bytes(int64_t bytes, struct buffer *out) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    int64_t tenths = bytes > INT64_MAX / 10 ? INT64_MAX : bytes * 10;
    while (tenths >= 10240 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        tenths /= 1024;
        unit++;
    }
    buffer_format(out, "%lld.%lld %s", (long long)(tenths / 10), (long long)(tenths % 10), units[unit]);
}

static void append_seconds(int64_t seconds, struct buffer *out) {
    if (seconds >= 86400) {
        buffer_format(out, "%lldd%lldh", (long long)(seconds / 86400), (long long)(seconds % 86400 / 3600));
    } else if (seconds >= 3600) {
        buffer_format(out, "%lldh%lldm", (long long)(seconds / 3600), (long long)(seconds % 3600 / 60));
    } else if (seconds >= 60) {
        buffer_format(out, "%lldm%llds", (long long)(seconds / 60), (long long)(seconds % 60));
    } else {
        buffer_format(out, "%llds", (long long)seconds);
    }
}

/* A value as a table shows it; anything unexpected is shown as it stands. */
static void append_shown(const struct json_doc *doc, int value, enum cli_column_kind kind, struct buffer *out) {
    char money[NUSD_TEXT_BYTES];
    int64_t number = 0;
    enum json_type type = json_type_of(doc, value);
    if (kind == CLI_COLUMN_MONEY && json_money(doc, value, &number)) {
        buffer_append_text(out, money_format_short(number, money));
    } else if (kind == CLI_COLUMN_BYTES && json_int(doc, value, &number)) {
        append_bytes(number, out);
    } else if (kind == CLI_COLUMN_SPAN && json_int(doc, value, &number)) {
        append_seconds(number, out);
    } else if (type == JSON_TRUE || type == JSON_FALSE) {
        buffer_append_text(out, type == JSON_TRUE ? "yes" : "no");
    } else {
        append_scalar(doc, value, out);
    }
}

/* The cell's text, into cell (cleared first). */
static void read_cell(const struct json_doc *doc, int object, const struct cli_column *column, bool csv,
                      struct buffer *cell) {
    int value = find_field(doc, object, column->field);
    enum json_type type = json_type_of(doc, value);
    buffer_clear(cell);
    if (type == JSON_ARRAY || type == JSON_OBJECT) {
        append_list(doc, value, cell);
    } else if (csv) {
        append_scalar(doc, value, cell);
    } else {
        append_shown(doc, value, column->kind, cell);
    }
    if (!csv && cell->len == 0) {
        buffer_append_byte(cell, '-');
    }
}

static void append_csv_cell(struct span text, struct buffer *out) {
    bool plain = true;
    for (size_t i = 0; i < text.len; i++) {
        plain = plain && strchr(",\"\r\n", text.base[i]) == NULL;
    }
    if (plain) {
        buffer_append_span(out, text);
        return;
    }
    buffer_append_byte(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] == '"') {
            buffer_append_byte(out, '"');
        }
        buffer_append_byte(out, text.base[i]);
    }
    buffer_append_byte(out, '"');
}

static bool is_right(const struct cli_column *column) {
    return column->kind != CLI_COLUMN_TEXT && column->kind != CLI_COLUMN_LIST;
}

static void append_padded(struct span text, size_t width, bool right, bool last, struct buffer *out) {
    size_t own = width_of(text);
    size_t padding = own < width ? width - own : 0;
    for (size_t i = 0; right && i < padding; i++) {
        buffer_append_byte(out, ' ');
    }
    cli_render_safe(text, out);
    for (size_t i = 0; !right && !last && i < padding; i++) {
        buffer_append_byte(out, ' ');
    }
}

/* Appends one cell and what separates it from the cell before. */
static void append_cell(const struct cli_table *table, int at, struct span text, struct buffer *out) {
    if (table->csv) {
        if (at != 0) {
            buffer_append_byte(out, ',');
        }
        append_csv_cell(text, out);
        return;
    }
    if (at != 0) {
        buffer_append_text(out, "  ");
    }
    append_padded(text, table->widths[at], is_right(&table->columns[at]), at == table->column_count - 1, out);
}

static void end_line(const struct cli_table *table, struct buffer *out) {
    buffer_append_text(out, table->csv ? "\r\n" : "\n");
}

static void append_heading(struct cli_table *table, struct buffer *out) {
    for (int i = 0; i < table->column_count; i++) {
        const struct cli_column *column = &table->columns[i];
        if (table->csv || !column->is_detail) {
            append_cell(table, i, span_text(table->csv ? column->field : column->title), out);
        }
    }
    end_line(table, out);
    table->has_heading = true;
}

static void append_row(struct cli_table *table, const struct json_doc *doc, int object, bool is_total,
                       struct buffer *out) {
    for (int i = 0; i < table->column_count; i++) {
        const struct cli_column *column = &table->columns[i];
        if (!table->csv && column->is_detail) {
            continue;
        }
        read_cell(doc, object, column, table->csv, &table->cell);
        if (is_total && find_field(doc, object, column->field) < 0) {
            buffer_clear(&table->cell);
            buffer_append_text(&table->cell, i == 0 ? "total" : "");
        }
        append_cell(table, i, buffer_span(&table->cell), out);
    }
    end_line(table, out);
}

static void widen(struct cli_table *table, const struct json_doc *doc, int object) {
    for (int i = 0; i < table->column_count; i++) {
        read_cell(doc, object, &table->columns[i], false, &table->cell);
        size_t width = width_of(buffer_span(&table->cell));
        table->widths[i] = width > table->widths[i] ? width : table->widths[i];
    }
}

/* The rows of an array one after another, or an object as the only row; start with -1, ends with -1. */
static int next_row(const struct json_doc *doc, int rows, int row) {
    if (json_type_of(doc, rows) != JSON_ARRAY) {
        return row < 0 ? rows : -1;
    }
    return row < 0 ? json_first(doc, rows) : json_next(doc, row);
}

void cli_table_init(struct cli_table *table, const struct cli_column *columns, int column_count, bool csv) {
    CHECK(column_count > 0 && column_count <= CLI_COLUMNS_MOST);
    *table = (struct cli_table){.columns = columns, .column_count = column_count, .csv = csv};
    buffer_init(&table->cell, CELL_MOST);
    for (int i = 0; i < column_count; i++) {
        table->widths[i] = width_of(span_text(columns[i].title));
    }
}

void cli_table_fini(struct cli_table *table) { buffer_fini(&table->cell); }

void cli_table_append(struct cli_table *table, const struct json_doc *doc, int rows, int total, struct buffer *out) {
    if (!table->csv) {
        for (int row = next_row(doc, rows, -1); row >= 0; row = next_row(doc, rows, row)) {
            widen(table, doc, row);
        }
        if (total >= 0) {
            widen(table, doc, total);
            table->widths[0] = table->widths[0] > strlen("total") ? table->widths[0] : strlen("total");
        }
    }
    if (!table->has_heading) {
        append_heading(table, out);
    }
    for (int row = next_row(doc, rows, -1); row >= 0; row = next_row(doc, rows, row)) {
        append_row(table, doc, row, false, out);
    }
    if (total >= 0) {
        append_row(table, doc, total, true, out);
    }
}

void cli_render_object(const struct json_doc *doc, int object, const struct cli_column *columns, int column_count,
                       bool csv, struct buffer *out) {
    struct cli_table table;
    cli_table_init(&table, columns, column_count, csv);
    if (csv) {
        cli_table_append(&table, doc, object, -1, out);
        cli_table_fini(&table);
        return;
    }
    size_t width = 0;
    for (int i = 0; i < column_count; i++) {
        width = table.widths[i] > width ? table.widths[i] : width;
    }
    for (int i = 0; i < column_count; i++) {
        append_padded(span_text(columns[i].title), width, false, false, out);
        buffer_append_text(out, "  ");
        read_cell(doc, object, &columns[i], false, &table.cell);
        cli_render_safe(buffer_span(&table.cell), out);
        buffer_append_byte(out, '\n');
    }
    cli_table_fini(&table);
}
