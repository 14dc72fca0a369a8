/* Makes the table file of worker/vocabulary.h: vocabulary_pack OUT [O200K CL100K], each a list of tokens (base64, a
 * blank, the rank) in the order of their ranks. Without lists, or when one is not sound, OUT has no vocabularies and
 * the build goes on: the program then estimates. */
#include <stdio.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "worker/vocabulary.h"

enum { LIST_BYTES_MOST = 16 << 20, BLOCK_BYTES = 65536, LOAD_PERCENT_MOST = 80 };

/* One vocabulary in the making. */
struct table {
    uint64_t *slots;
    struct vocabulary_entry entry;
    bool has_byte[256];
};

static bool read_list(const char *path, struct buffer *out) {
    char block[BLOCK_BYTES];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return false;
    }
    for (size_t got = fread(block, 1, sizeof(block), file); got != 0; got = fread(block, 1, sizeof(block), file)) {
        buffer_append(out, block, got);
    }
    bool is_whole = ferror(file) == 0 && !out->failed;
    return fclose(file) == 0 && is_whole;
}

/* The value of a base64 digit, -1 for what is none. */
static int digit_value(char digit) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = digit != '\0' ? strchr(digits, digit) : NULL;
    return found != NULL ? (int)(found - digits) : -1;
}

/* Decodes base64 with its padding. Returns the number of bytes, 0 when it is not well-formed or too long. */
static size_t decode(struct span text, char out[static VOCABULARY_TOKEN_BYTES_MOST]) {
    size_t len = 0;
    uint32_t bits = 0;
    int count = 0;
    while (text.len != 0 && text.base[text.len - 1] == '=') {
        text.len--;
    }
    for (size_t i = 0; i < text.len; i++) {
        int value = digit_value(text.base[i]);
        if (value < 0 || len == VOCABULARY_TOKEN_BYTES_MOST) {
            return 0;
        }
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count >= 8) {
            count -= 8;
            out[len++] = (char)(bits >> count & 0xFFU);
        }
    }
    return len;
}

/* Puts a token into its slot. False when one of its hash is there already. */
static bool insert(struct table *table, const char *token, size_t len, uint32_t rank) {
    uint64_t hash = vocabulary_hash(token, len);
    uint64_t last = (UINT64_C(1) << table->entry.slot_bits) - 1;
    uint64_t at = vocabulary_home(hash, table->entry.slot_bits);
    for (; table->slots[at] != VOCABULARY_FREE_SLOT; at = (at + 1) & last) {
        if ((table->slots[at] ^ vocabulary_tag(hash)) >> VOCABULARY_RANK_BITS == 0) {
            return false;
        }
    }
    table->slots[at] = vocabulary_tag(hash) | rank;
    return true;
}

static bool take_line(struct table *table, struct span line, uint32_t rank) {
    char token[VOCABULARY_TOKEN_BYTES_MOST];
    char expected[16];
    const char *blank = memchr(line.base, ' ', line.len);
    if (blank == NULL) {
        return false;
    }
    size_t len = decode(span_of(line.base, (size_t)(blank - line.base)), token);
    (void)snprintf(expected, sizeof(expected), "%u", rank);
    struct span number = span_skip(line, (size_t)(blank - line.base) + 1);
    if (len == 0 || !span_is(number, expected) || !insert(table, token, len, rank)) {
        return false;
    }
    if (len == 1) {
        table->has_byte[(unsigned char)token[0]] = true;
    }
    table->entry.longest_bytes = len > table->entry.longest_bytes ? (uint32_t)len : table->entry.longest_bytes;
    return true;
}

static uint32_t count_lines(struct span text) {
    uint32_t lines = 0;
    for (size_t i = 0; i < text.len; i++) {
        lines += text.base[i] == '\n';
    }
    return lines;
}

static bool make_slots(struct table *table, uint32_t tokens) {
    table->entry.tokens = tokens;
    table->entry.slot_bits = 9;
    while ((UINT64_C(1) << table->entry.slot_bits) * LOAD_PERCENT_MOST / 100 < tokens) {
        table->entry.slot_bits++;
    }
    size_t bytes = sizeof(uint64_t) << table->entry.slot_bits;
    table->slots = tokens >= 256 && tokens < VOCABULARY_NO_RANK ? malloc(bytes) : NULL;
    if (table->slots != NULL) {
        memset(table->slots, 0xFF, bytes);
    }
    return table->slots != NULL;
}

static bool make_table(const char *path, struct table *table) {
    struct buffer list;
    buffer_init(&list, LIST_BYTES_MOST);
    bool is_sound = read_list(path, &list) && make_slots(table, count_lines(buffer_span(&list)));
    struct span rest = buffer_span(&list);
    for (uint32_t rank = 0; is_sound && rest.len != 0; rank++) {
        const char *end = memchr(rest.base, '\n', rest.len);
        size_t len = end != NULL ? (size_t)(end - rest.base) : rest.len;
        is_sound = end != NULL && take_line(table, span_of(rest.base, len), rank);
        rest = span_skip(rest, len + 1);
    }
    for (int byte = 0; byte < 256; byte++) {
        is_sound = is_sound && table->has_byte[byte];
    }
    buffer_fini(&list);
    if (!is_sound) {
        (void)fprintf(stderr, "vocabulary_pack: %s is no sound list of tokens; going on without\n", path);
    }
    return is_sound;
}

static bool write_file(const char *path, const struct table tables[static VOCABULARIES], uint32_t vocabularies) {
    struct vocabulary_header header = {.vocabularies = vocabularies};
    uint64_t at = sizeof(header);
    memcpy(header.magic, VOCABULARY_MAGIC, sizeof(header.magic));
    for (uint32_t i = 0; i < vocabularies; i++) {
        header.entries[i] = tables[i].entry;
        header.entries[i].offset = (uint32_t)at;
        at += sizeof(uint64_t) << tables[i].entry.slot_bits;
    }
    header.file_bytes = (uint32_t)at;
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        return false;
    }
    bool is_written = fwrite(&header, sizeof(header), 1, file) == 1;
    for (uint32_t i = 0; i < vocabularies; i++) {
        size_t slots = (size_t)1 << tables[i].entry.slot_bits;
        is_written = is_written && fwrite(tables[i].slots, sizeof(uint64_t), slots, file) == slots;
    }
    return fclose(file) == 0 && is_written;
}

int main(int argc, char **argv) {
    struct table tables[VOCABULARIES] = {{.slots = NULL}, {.slots = NULL}};
    if (argc != 2 && argc != 2 + VOCABULARIES) {
        (void)fprintf(stderr, "usage: vocabulary_pack OUT [O200K CL100K]\n");
        return 2;
    }
    bool has_all = argc > 2;
    for (int i = 0; i < VOCABULARIES && has_all; i++) {
        has_all = make_table(argv[2 + i], &tables[i]);
    }
    bool is_written = write_file(argv[1], tables, has_all ? VOCABULARIES : 0);
    for (int i = 0; i < VOCABULARIES; i++) {
        free(tables[i].slots);
    }
    if (!is_written) {
        (void)fprintf(stderr, "vocabulary_pack: cannot write %s\n", argv[1]);
    }
    return is_written ? 0 : 1;
}
