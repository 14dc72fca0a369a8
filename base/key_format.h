/* base/key_format.h - the form of an API key: "sk-tg-", 32 random base62 characters, 6 base62 characters that are the
 * CRC-32 of all that precedes them (interface.md section 4; digits 0-9A-Za-z, most significant first).
 * Used by: the ledger and the command line to make keys, workers to refuse garbage before looking anything up. */
#ifndef TOLLGATE_BASE_KEY_FORMAT_H
#define TOLLGATE_BASE_KEY_FORMAT_H

#include "base/span.h"

enum { API_KEY_BYTES = 6 + 32 + 6, API_KEY_TEXT_BYTES = API_KEY_BYTES + 1 };

/* Makes a new key from the system's random source. The caller wipes it when it has been handed over. */
void key_format_make(char out[static API_KEY_TEXT_BYTES]);

/* Has the text the form of a key, its checksum included? Says nothing about whether such a key exists. */
bool key_format_valid(struct span text);

#endif
