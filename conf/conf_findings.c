#include "conf/conf_findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Shorter and longer names are not compared for suggestions. */
enum { SUGGEST_LEAST_BYTES = 3, SUGGEST_MOST_BYTES = 96 };

static bool has_power_of_two(int count) { return (count & (count - 1)) == 0; }

static void insert_sorted(struct conf_findings *findings, struct conf_finding finding) {
    int at = findings->count;
    while (at > 0 &&
           (findings->items[at - 1].line > finding.line ||
            (findings->items[at - 1].line == finding.line && findings->items[at - 1].column > finding.column))) {
        findings->items[at] = findings->items[at - 1];
        at--;
    }
    findings->items[at] = finding;
    findings->count++;
}

void conf_findings_add(struct conf_findings *findings, int line, int column, const char *format, ...) {
    if (findings->count == CONF_FINDINGS_MOST) {
        return;
    }
    if (has_power_of_two(findings->count)) { /* the array doubles when its count reaches a power of two */
        size_t size = findings->count == 0 ? 1 : (size_t)findings->count * 2;
        struct conf_finding *items = realloc(findings->items, size * sizeof(*items));
        CHECK(items != NULL);
        findings->items = items;
    }
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int len = vasprintf(&text, format, arguments);
    va_end(arguments);
    CHECK(len >= 0);
    insert_sorted(findings, (struct conf_finding){.line = line, .column = column, .text = text});
}

char *conf_findings_clean(struct span text, char out[static CONF_QUOTE_BYTES]) {
    bool whole = span_copy(text, out, CONF_QUOTE_BYTES - 3);
    size_t len = whole ? text.len : CONF_QUOTE_BYTES - 4;
    for (size_t i = 0; i < len; i++) {
        if (out[i] < 0x20 || out[i] > 0x7e) {
            out[i] = '?';
        }
    }
    if (!whole) {
        memcpy(out + len, "...", 4);
    }
    return out;
}

static int smallest(int a, int b, int c) {
    int least = a < b ? a : b;
    return least < c ? least : c;
}

/* Edits (insert, delete, replace, swap of neighbours) that lead from a to b. */
static int edit_distance(struct span a, struct span b) {
    int rows[3][SUGGEST_MOST_BYTES + 1];
    for (int j = 0; j <= (int)b.len; j++) {
        rows[0][j] = j;
    }
    for (int i = 1; i <= (int)a.len; i++) {
        int *row = rows[i % 3];
        const int *above = rows[(i - 1) % 3];
        row[0] = i;
        for (int j = 1; j <= (int)b.len; j++) {
            int differs = a.base[i - 1] != b.base[j - 1] ? 1 : 0;
            row[j] = smallest(row[j - 1] + 1, above[j] + 1, above[j - 1] + differs);
            if (i > 1 && j > 1 && a.base[i - 1] == b.base[j - 2] && a.base[i - 2] == b.base[j - 1]) {
                int swapped = rows[(i - 2) % 3][j - 2] + 1;
                row[j] = swapped < row[j] ? swapped : row[j];
            }
        }
    }
    return rows[a.len % 3][b.len];
}

void conf_suggestion_offer(struct conf_suggestion *suggestion, const char *name) {
    struct span known = span_text(name);
    size_t wanted_len = suggestion->wanted.len;
    if (known.len > SUGGEST_MOST_BYTES || wanted_len < SUGGEST_LEAST_BYTES || wanted_len > SUGGEST_MOST_BYTES) {
        return;
    }
    int distance = edit_distance(suggestion->wanted, known);
    int close = known.len < 6 ? 1 : (int)known.len / 3;
    if (distance <= close && (suggestion->best == NULL || distance < suggestion->distance)) {
        suggestion->best = name;
        suggestion->distance = distance;
    }
}

void conf_findings_free(struct conf_findings *findings) {
    for (int i = 0; i < findings->count; i++) {
        free(findings->items[i].text);
    }
    free(findings->items);
    free(findings->path);
    *findings = (struct conf_findings){.path = NULL};
}

void conf_findings_print(const struct conf_findings *findings, struct buffer *out) {
    for (int i = 0; i < findings->count; i++) {
        const struct conf_finding *finding = &findings->items[i];
        buffer_format(out, "%s:%d:%d: %s\n", findings->path != NULL ? findings->path : "-",
                      finding->line > 0 ? finding->line : 1, finding->column > 0 ? finding->column : 1, finding->text);
    }
}
