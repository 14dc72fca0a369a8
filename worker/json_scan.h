/* worker/json_scan.h - a cursor that walks JSON of a known shape without tokenising it.
 * Used by: the worker's dialects, on every streamed event. Pure, allocates nothing, linear in the text.
 * It checks structure (brackets, commas, strings closed), not every rule of JSON; json_parse is for what must be
 * strict. After any failure `bad` is set, stays set, and every call returns false. Names are compared as written. */
#ifndef TOLLGATE_WORKER_JSON_SCAN_H
#define TOLLGATE_WORKER_JSON_SCAN_H

#include "base/check.h"
#include "base/span.h"

struct json_scan {
    const char *at;
    const char *end;
    bool bad;
};

struct json_scan json_scan_of(struct span text);

/* The next byte that is not white space; '\0' at the end. Moves to it. */
char json_scan_peek(struct json_scan *scan);

/* Steps into an object or array ('{' or '['); false when the next value is another. */
MUST_CHECK bool json_scan_enter(struct json_scan *scan, char opening);

/* In an object: the next member's name (between its quotes, escapes left); the cursor is then at its value, which must
 * be read or skipped. False at the closing brace, which is consumed. */
MUST_CHECK bool json_scan_member(struct json_scan *scan, struct span *name);

/* In an array: is there another element? False at the closing bracket, which is consumed. */
MUST_CHECK bool json_scan_element(struct json_scan *scan);

/* Reads a string value: what stands between its quotes, escapes left. False, having moved nothing, for other values. */
MUST_CHECK bool json_scan_string(struct json_scan *scan, struct span *inside);

/* Skips the next value, of any kind, and returns its bytes. */
struct span json_scan_skip(struct json_scan *scan);

/* Nothing but white space is left, and nothing went wrong. */
bool json_scan_is_over(struct json_scan *scan);

/* How deep objects and arrays are nested in a text that is JSON. */
size_t json_scan_depth(struct span json);

#endif
