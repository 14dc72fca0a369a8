/* Broken, random and huge input: findings, never a crash, and never a secret in them. Run under the sanitizers too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "conf_testing.h"

/* A repeatable sequence (xorshift). */
static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Whatever the text, what comes back can be used. */
static void parse_leniently(struct span text, bool is_valid) {
    struct conf_findings findings;
    struct conf *conf = conf_parse_lenient(text, "t.yaml", NULL, &findings);
    assert_true(conf != NULL || findings.count != 0);
    assert_false(is_valid && (conf == NULL || findings.count != 0));
    if (conf != NULL) {
        check_sound(conf);
    }
    conf_free(conf);
    conf_findings_free(&findings);
    conf = conf_parse_lenient(text, "t.yaml", "elsewhere", &findings);
    assert_non_null(conf);
    assert_string_equal(conf->state_dir, "elsewhere");
    check_sound(conf);
    conf_free(conf);
    conf_findings_free(&findings);
}

/* Parses a copy of exactly len bytes, so that a sanitizer sees each read past the end. */
static void parse_copy(const char *text, size_t len) {
    char *copy = malloc(len + (len == 0 ? 1 : 0));
    assert_non_null(copy);
    memcpy(copy, text, len);
    char *findings = findings_of(span_of(copy, len), "t.yaml");
    assert_null(strstr(findings, "secret-of"));
    parse_leniently(span_of(copy, len), findings[0] == '\0');
    free(findings);
    free(copy);
}

static void test_every_truncation_of_the_sample(void **state) {
    (void)state;
    set_sample_environment();
    size_t len = 0;
    char *text = read_sample(&len);
    for (size_t cut = 0; cut <= len; cut++) {
        parse_copy(text, cut);
    }
    free(text);
}

static void test_changed_bytes_of_the_sample(void **state) {
    (void)state;
    static const char interesting[] = "\n\t :-[]{}'\"#&*!|>%@`,?\\$~<=0\xff";
    set_sample_environment();
    size_t len = 0;
    char *text = read_sample(&len);
    uint64_t seed = 20261121;
    for (int round = 0; round < 3000; round++) {
        size_t places[4];
        char before[4];
        for (int i = 0; i < 4; i++) {
            places[i] = (size_t)(next_random(&seed) % len);
            before[i] = text[places[i]];
            text[places[i]] = interesting[next_random(&seed) % (sizeof(interesting) - 1)];
        }
        parse_copy(text, len);
        for (int i = 3; i >= 0; i--) {
            text[places[i]] = before[i];
        }
    }
    free(text);
}

static void test_lines_left_out_of_the_sample(void **state) {
    (void)state;
    set_sample_environment();
    size_t len = 0;
    char *text = read_sample(&len);
    char *without = malloc(len + 1);
    assert_non_null(without);
    for (size_t start = 0; start < len;) {
        const char *newline = memchr(text + start, '\n', len - start);
        size_t end = newline != NULL ? (size_t)(newline - text) + 1 : len;
        memcpy(without, text, start);
        memcpy(without + start, text + end, len - end);
        parse_copy(without, len - (end - start));
        start = end;
    }
    free(without);
    free(text);
}

static void test_random_bytes(void **state) {
    (void)state;
    uint64_t seed = 42;
    for (int round = 0; round < 3000; round++) {
        char bytes[256];
        size_t len = (size_t)(next_random(&seed) % sizeof(bytes));
        for (size_t i = 0; i < len; i++) {
            uint64_t number = next_random(&seed);
            bytes[i] = (char)(round % 2 == 0 ? number : 0x20 + number % 0x5f);
        }
        parse_copy(bytes, len);
    }
}

/* A file of the largest size out of one repeated piece. */
static void parse_repeated(const char *head, const char *piece) {
    enum { MOST = 1 << 20 };
    struct buffer text;
    buffer_init(&text, MOST);
    buffer_append_text(&text, head);
    while (text.len + strlen(piece) <= MOST) {
        buffer_append_text(&text, piece);
    }
    parse_copy(text.base, text.len);
    buffer_fini(&text);
}

static void test_huge_files_end_soon(void **state) {
    (void)state;
    static const char *const pieces[][2] = {{"", "["},
                                            {"", "{"},
                                            {"", "- "},
                                            {"", "? "},
                                            {"", "a: 1\n"},
                                            {"a: [", "a,"},
                                            {"a: {", "a,"},
                                            {"", "a:"},
                                            {"", "'"},
                                            {"state: ", "a"},
                                            {"", "&a "},
                                            {"", "%a\n"},
                                            {"", "---\n"},
                                            {"", "#\n"},
                                            {"a: [", "*a,"},
                                            {"", "!a "},
                                            {"state: >\n", " a\n"},
                                            {"a:\n", " - a\n"},
                                            {"", "\n"},
                                            {"state: ", "${A}"}};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        parse_repeated(pieces[i][0], pieces[i][1]);
    }
}

static void test_a_file_that_is_too_large(void **state) {
    (void)state;
    size_t len = (1 << 20) + 1;
    char *text = malloc(len);
    assert_non_null(text);
    memset(text, '#', len);
    char *findings = findings_of(span_of(text, len), "t.yaml");
    assert_string_equal(findings, "t.yaml:1:1: the file is larger than 1048576 bytes\n");
    free(findings);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_truncation_of_the_sample),
        cmocka_unit_test(test_changed_bytes_of_the_sample),
        cmocka_unit_test(test_lines_left_out_of_the_sample),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_huge_files_end_soon),
        cmocka_unit_test(test_a_file_that_is_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
