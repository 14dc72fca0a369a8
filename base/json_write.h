/* base/json_write.h - writes JSON into a buffer, minding commas and escapes.
 * Used by: every process. Errors: a full buffer sets buffer.failed, looked at once at the end. */
#ifndef TOLLGATE_BASE_JSON_WRITE_H
#define TOLLGATE_BASE_JSON_WRITE_H

#include <stdint.h>

#include "base/buffer.h"

struct json_writer {
    struct buffer *out;
    bool needs_comma;
};

/* A writer that appends to out. */
struct json_writer json_writer_on(struct buffer *out);

/* In an object pass the member's name; in an array, or for the root, pass NULL. */
void json_begin_object(struct json_writer *writer, const char *name);
void json_end_object(struct json_writer *writer);
void json_begin_array(struct json_writer *writer, const char *name);
void json_end_array(struct json_writer *writer);
/* Invalid UTF-8 in text is written as U+FFFD. NULL writes null. */
void json_write_text(struct json_writer *writer, const char *name, const char *text);
void json_write_span(struct json_writer *writer, const char *name, struct span text);
void json_write_int(struct json_writer *writer, const char *name, int64_t value);
void json_write_bool(struct json_writer *writer, const char *name, bool value);
void json_write_null(struct json_writer *writer, const char *name);
/* Money as a JSON number with nine decimals: 0.000012500. */
void json_write_nusd(struct json_writer *writer, const char *name, int64_t nusd);
/* As money_format_short: for prices, 2.00. */
void json_write_price(struct json_writer *writer, const char *name, int64_t nusd);
/* Already valid JSON, copied as it is. */
void json_write_raw(struct json_writer *writer, const char *name, struct span json);

/* Appends text as a quoted, escaped JSON string. */
void json_quote(struct buffer *out, struct span text);

#endif
