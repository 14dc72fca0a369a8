/* JSON: what the parser takes can be walked and read; a text that is written again reads back the same. */
#include <stdlib.h>

#include "base/json_read.h"
#include "base/json_write.h"
#include "fuzz.h"

enum { TEXT_BYTES_MOST = 8 << 20 };

static struct json_doc doc;
static struct json_doc again;
static struct buffer text;
static struct buffer written;

/* What a string says is written, read, and must be the same. */
static void rewrite_string(int value) {
    buffer_clear(&text);
    buffer_clear(&written);
    CHECK(json_string(&doc, value, &text));
    json_quote(&written, buffer_span(&text));
    CHECK(!written.failed && json_parse(&again, buffer_span(&written)));
    buffer_clear(&written);
    struct buffer back;
    buffer_init(&back, TEXT_BYTES_MOST);
    CHECK(json_string(&again, 0, &back));
    CHECK(span_equals(buffer_span(&text), buffer_span(&back)));
    buffer_fini(&back);
}

static void read_number(int value) {
    int64_t whole = 0;
    int64_t count = 0;
    double real = 0;
    if (json_int(&doc, value, &whole)) {
        CHECK(json_count(&doc, value, &count) && count == whole);
        CHECK(json_double(&doc, value, &real));
    }
    (void)!json_count(&doc, value, &count);
    (void)!json_double(&doc, value, &real);
    (void)!json_money(&doc, value, &whole);
}

static void walk(int value, int depth) {
    CHECK(depth <= JSON_DEPTH_MOST);
    struct span raw = json_raw(&doc, value);
    CHECK(raw.base >= doc.text.base && raw.base + raw.len <= doc.text.base + doc.text.len);
    enum json_type type = json_type_of(&doc, value);
    if (type == JSON_STRING) {
        rewrite_string(value);
    } else if (type == JSON_NUMBER) {
        read_number(value);
    }
    int children = 0;
    for (int child = json_first(&doc, value); child >= 0; child = json_next(&doc, child)) {
        if (type == JSON_OBJECT) {
            rewrite_string(child);
            walk(json_value_of(&doc, child), depth + 1);
        } else {
            walk(child, depth + 1);
        }
        children++;
    }
    CHECK(children == json_size(&doc, value));
    int duplicate = json_duplicate(&doc, value);
    CHECK(duplicate < 0 || children > 1);
    (void)json_member(&doc, value, "a");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (text.cap == 0) {
        buffer_init(&text, TEXT_BYTES_MOST);
        buffer_init(&written, TEXT_BYTES_MOST);
    }
    if (json_parse(&doc, fuzz_span(data, size))) {
        walk(0, 1);
    } else {
        CHECK(doc.error != NULL && doc.error_at <= size);
    }
    return 0;
}
