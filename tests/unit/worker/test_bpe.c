#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/json_read.h"
#include "worker/bpe.h"

enum { COUNTS_BYTES_MOST = 1 << 20, LONG_BYTES = 4 << 20 };

static const char *const kind_names[VOCABULARIES] = {"o200k", "cl100k"};

/* False, and a word about it, when none was built in. */
static bool load(enum vocabulary_kind kind, struct vocabulary *out) {
    if (vocabulary_get(kind, out)) {
        return true;
    }
    print_message("no vocabulary was built in: nothing to compare\n");
    return false;
}

static int64_t count_in_steps(const struct vocabulary *vocabulary, enum vocabulary_kind kind, struct span text,
                              size_t step) {
    struct bpe_counter counter = {.tokens = 0};
    for (size_t at = 0; at < text.len; at += step) {
        bpe_add(&counter, vocabulary, kind, span_of(text.base + at, text.len - at < step ? text.len - at : step));
    }
    bpe_break(&counter, vocabulary, kind);
    assert_int_equal(counter.open_bytes, 0);
    assert_int_equal(counter.ended_bytes, text.len);
    assert_int_equal(bpe_tokens(&counter, vocabulary, kind), counter.tokens);
    return counter.tokens;
}

static void read_counts(struct buffer *out) {
    char block[65536];
    buffer_init(out, COUNTS_BYTES_MOST);
    FILE *file = fopen(SOURCE_DIR "/tests/unit/worker/token_counts.json", "rb");
    assert_non_null(file);
    for (size_t got = fread(block, 1, sizeof(block), file); got != 0; got = fread(block, 1, sizeof(block), file)) {
        buffer_append(out, block, got);
    }
    (void)fclose(file);
    assert_false(out->failed);
}

/* One line of the recorded counts: the text, its tokens in each vocabulary. */
static void compare_line(const struct json_doc *doc, int line, enum vocabulary_kind kind,
                         const struct vocabulary *vocabulary) {
    static const size_t steps[] = {SIZE_MAX / 2, 1, 2, 3, 7, 64};
    struct buffer text;
    int64_t expected = 0;
    int value = json_first(doc, line);
    buffer_init(&text, COUNTS_BYTES_MOST);
    assert_true(json_string(doc, value, &text));
    for (int i = 0; i <= (int)kind; i++) {
        value = json_next(doc, value);
    }
    assert_true(json_int(doc, value, &expected));
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        int64_t counted = count_in_steps(vocabulary, kind, buffer_span(&text), steps[i]);
        if (counted != expected) {
            fail_msg("%s in steps of %zu: %lld, not %lld: %s", kind_names[kind], steps[i], (long long)counted,
                     (long long)expected, buffer_text(&text));
        }
    }
    buffer_fini(&text);
}

static void counts_equal_the_reference(void **state) {
    (void)state;
    struct buffer counts;
    struct json_doc doc;
    struct vocabulary vocabulary;
    read_counts(&counts);
    json_doc_init(&doc);
    assert_true(json_parse(&doc, buffer_span(&counts)));
    assert_true(json_size(&doc, 0) > 300);
    for (int kind = 0; kind < VOCABULARIES && load((enum vocabulary_kind)kind, &vocabulary); kind++) {
        for (int line = json_first(&doc, 0); line >= 0; line = json_next(&doc, line)) {
            compare_line(&doc, line, (enum vocabulary_kind)kind, &vocabulary);
        }
    }
    json_doc_fini(&doc);
    buffer_fini(&counts);
}

static void fill_long(char *text, size_t len, const char *unit) {
    size_t unit_bytes = strlen(unit);
    for (size_t i = 0; i < len; i++) {
        text[i] = unit[i % unit_bytes];
    }
}

/* What is hard on merging: runs without end. Speed is only told; the counts must be in bounds, and cut only costs
 * little.
 */
static void long_runs_are_linear(void **state) {
    (void)state;
    static const struct {
        const char *unit;
        double least; /* tokens a byte */
        double most;
    } runs[] = {{"a", 0.1, 0.3},
                {" ", 0.005, 0.02},
                {"\xE8\xAA\x9E", 0.2, 0.5},
                {"qzxjkvwy", 0.3, 0.9},
                {"!", 0.01, 0.2},
                {"\xFF", 0.9, 1.1},
                {"The relay counts words. ", 0.15, 0.3}};
    struct vocabulary vocabulary;
    if (!load(VOCABULARY_O200K, &vocabulary)) {
        return;
    }
    char *text = malloc(LONG_BYTES);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
        fill_long(text, LONG_BYTES, runs[i].unit);
        int64_t begin_ns = clock_mono_ns();
        int64_t tokens = count_in_steps(&vocabulary, VOCABULARY_O200K, span_of(text, LONG_BYTES), LONG_BYTES);
        double seconds = (double)(clock_mono_ns() - begin_ns) / (double)NS_PER_S;
        print_message("%4.0f MB/s, %.3f tokens a byte: %s...\n", LONG_BYTES / seconds / 1e6,
                      (double)tokens / LONG_BYTES, runs[i].unit);
        assert_true((double)tokens >= runs[i].least * LONG_BYTES && (double)tokens <= runs[i].most * LONG_BYTES);
    }
    free(text);
}

/* Any bytes, however they are cut, give the same, and no more tokens than bytes. */
static void any_bytes_are_counted_alike(void **state) {
    (void)state;
    unsigned seed = 11;
    struct vocabulary vocabulary;
    for (int kind = 0; kind < VOCABULARIES && load((enum vocabulary_kind)kind, &vocabulary); kind++) {
        for (int round = 0; round < 300; round++) {
            char bytes[700];
            for (size_t i = 0; i < sizeof(bytes); i++) {
                seed = seed * 1103515245U + 12345U;
                bytes[i] = round % 2 == 0 ? (char)(seed >> 16) : "aA \n1!\xE8\xAA\x9E\xCC\x81'"[(seed >> 16) % 12];
            }
            struct span text = span_of(bytes, sizeof(bytes));
            int64_t whole = count_in_steps(&vocabulary, (enum vocabulary_kind)kind, text, sizeof(bytes));
            assert_in_range(whole, 1, sizeof(bytes));
            assert_int_equal(count_in_steps(&vocabulary, (enum vocabulary_kind)kind, text, 1 + (seed >> 16) % 40),
                             whole);
        }
    }
}

/* The pieces of a text, joined by bars. */
static void expect_pieces(enum vocabulary_kind kind, const char *text, const char *expected) {
    struct buffer joined;
    struct span rest = span_text(text);
    buffer_init(&joined, 1024);
    while (rest.len != 0) {
        bool is_number = false;
        size_t len = pretoken_next(kind, rest, true, &is_number);
        assert_in_range(len, 1, rest.len);
        assert_int_equal(is_number, rest.base[0] >= '0' && rest.base[0] <= '9');
        buffer_append(&joined, rest.base, len);
        buffer_append_text(&joined, rest.len != len ? "|" : "");
        rest = span_skip(rest, len);
    }
    assert_string_equal(buffer_text(&joined), expected);
    buffer_fini(&joined);
}

static void texts_fall_into_pieces(void **state) {
    (void)state;
    expect_pieces(VOCABULARY_O200K, "Hello world's end", "Hello| world's| end");
    expect_pieces(VOCABULARY_CL100K, "Hello world's end", "Hello| world|'s| end");
    expect_pieces(VOCABULARY_O200K, "HTTPServer getId", "HTTPServer| get|Id");
    expect_pieces(VOCABULARY_CL100K, "HTTPServer getId", "HTTPServer| getId");
    expect_pieces(VOCABULARY_O200K, "a   b\n\n c", "a|  | b|\n\n| c");
    expect_pieces(VOCABULARY_O200K, "12345.6", "123|45|.|6");
    expect_pieces(VOCABULARY_O200K, "x.\n/y", "x|.\n/|y");
    expect_pieces(VOCABULARY_CL100K, "x.\n/y", "x|.\n|/y");
    expect_pieces(VOCABULARY_O200K, "end \n ", "end| \n| ");
    expect_pieces(VOCABULARY_CL100K, "end \n ", "end| \n ");
    expect_pieces(VOCABULARY_O200K,
                  "\xE8\xAA\x9E"
                  "ABC",
                  "\xE8\xAA\x9E|ABC");
    expect_pieces(VOCABULARY_O200K, "(foo) \"bar\"", "(foo|)| \"|bar|\"");
}

/* A piece that what follows could change is not given out. */
static void open_pieces_wait(void **state) {
    (void)state;
    static const char *const open[] = {"word", "a'", "a'r", " ", "  ", "\n", "12", ".", "x\xE8\xAA", ""};
    bool is_number = false;
    for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
        assert_int_equal(pretoken_next(VOCABULARY_O200K, span_text(open[i]), false, &is_number), 0);
    }
    assert_int_equal(pretoken_next(VOCABULARY_O200K, SPAN_LITERAL("123"), false, &is_number), 3);
    assert_int_equal(pretoken_next(VOCABULARY_O200K, SPAN_LITERAL("word "), false, &is_number), 4);
}

/* A small table file: every byte is a token, and nothing else. */
struct small_file {
    struct vocabulary_header header;
    uint64_t slots[VOCABULARIES][512];
};

static void make_file(struct small_file *file) {
    memset(file, 0xFF, sizeof(*file));
    file->header.vocabularies = VOCABULARIES;
    file->header.file_bytes = sizeof(*file);
    memcpy(file->header.magic, VOCABULARY_MAGIC, sizeof(file->header.magic));
    for (int kind = 0; kind < VOCABULARIES; kind++) {
        file->header.entries[kind] = (struct vocabulary_entry){
            .offset = (uint32_t)((const char *)file->slots[kind] - (const char *)file),
            .slot_bits = 9,
            .tokens = 256,
            .longest_bytes = 1,
        };
        for (uint32_t byte = 0; byte < 256; byte++) {
            char token = (char)byte;
            uint64_t hash = vocabulary_hash(&token, 1);
            uint64_t at = vocabulary_home(hash, 9);
            while (file->slots[kind][at] != VOCABULARY_FREE_SLOT) {
                at = (at + 1) % 512;
            }
            file->slots[kind][at] = vocabulary_tag(hash) | byte;
        }
    }
}

static bool can_read(const struct small_file *file, size_t bytes) {
    struct vocabulary vocabulary;
    return vocabulary_read(span_of((const char *)file, bytes), VOCABULARY_CL100K, &vocabulary);
}

static void unsound_tables_are_refused(void **state) {
    (void)state;
    struct small_file file;
    struct vocabulary vocabulary;
    make_file(&file);
    struct span bytes = span_of((const char *)&file, sizeof(file));
    assert_true(vocabulary_read(bytes, VOCABULARY_CL100K, &vocabulary));
    assert_int_equal(vocabulary_rank(&vocabulary, "A", 1), 'A');
    assert_int_equal(vocabulary_rank(&vocabulary, "AB", 2), VOCABULARY_NO_RANK);
    assert_int_equal(bpe_count_piece(&vocabulary, SPAN_LITERAL("relay")), 5);
    for (size_t len = 0; len < sizeof(file); len += 7) {
        assert_false(can_read(&file, len));
    }
    struct vocabulary_entry *entry = &file.header.entries[VOCABULARY_CL100K];
    const struct vocabulary_entry good = *entry;
    const struct vocabulary_entry bad[] = {
        {.offset = 0, .slot_bits = 9, .tokens = 256, .longest_bytes = 1},
        {.offset = good.offset + 4, .slot_bits = 9, .tokens = 256, .longest_bytes = 1},
        {.offset = good.offset + 8, .slot_bits = 9, .tokens = 256, .longest_bytes = 1},
        {.offset = UINT32_MAX - 7, .slot_bits = 9, .tokens = 256, .longest_bytes = 1},
        {.offset = good.offset, .slot_bits = 10, .tokens = 256, .longest_bytes = 1},
        {.offset = good.offset, .slot_bits = 0, .tokens = 256, .longest_bytes = 1},
        {.offset = good.offset, .slot_bits = 64, .tokens = 256, .longest_bytes = 1},
        {.offset = good.offset, .slot_bits = 9, .tokens = 512, .longest_bytes = 1},
        {.offset = good.offset, .slot_bits = 9, .tokens = 255, .longest_bytes = 1},
        {.offset = good.offset, .slot_bits = 9, .tokens = 256, .longest_bytes = 0},
        {.offset = good.offset, .slot_bits = 9, .tokens = 256, .longest_bytes = 4096},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        *entry = bad[i];
        assert_false(can_read(&file, sizeof(file)));
    }
    *entry = good;
    assert_true(can_read(&file, sizeof(file)));
    file.header.vocabularies = 0;
    assert_false(can_read(&file, sizeof(file)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_equal_the_reference),
        cmocka_unit_test(long_runs_are_linear),
        cmocka_unit_test(any_bytes_are_counted_alike),
        cmocka_unit_test(texts_fall_into_pieces),
        cmocka_unit_test(open_pieces_wait),
        cmocka_unit_test(unsound_tables_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
