#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json_read.h"
#include "base/log.h"

enum { LINE_MOST = 8192 };

static void render(struct buffer *out, enum log_format format, const struct log_field *fields, size_t count) {
    log_set_up(LOG_INFO, format, "worker 0");
    buffer_init(out, (size_t)1 << 20);
    log_render(out, LOG_WARN, "test_event", fields, count);
    assert_false(out->failed);
    assert_int_equal(out->base[out->len - 1], '\n');
    for (size_t i = 0; i < out->len - 1; i++) {
        unsigned char c = (unsigned char)out->base[i];
        assert_true(c >= 0x20 && c != 0x7F);
    }
}

/* What follows the time, which is checked for its form. */
static const char *skip_time(const char *line) {
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ ";
    for (size_t i = 0; i < sizeof(form) - 1; i++) {
        assert_true(form[i] == 'd' ? line[i] >= '0' && line[i] <= '9' : line[i] == form[i]);
    }
    return line + sizeof(form) - 1;
}

static void check_text(const struct log_field *fields, size_t count, const char *tail) {
    struct buffer line;
    char expected[256];
    render(&line, LOG_TEXT_FORMAT, fields, count);
    (void)snprintf(expected, sizeof(expected), "warn worker 0[%d] test_event%s\n", (int)getpid(), tail);
    assert_string_equal(skip_time(buffer_text(&line)), expected);
    buffer_fini(&line);
}

static void test_text(void **state) {
    (void)state;
    check_text(NULL, 0, "");
    const struct log_field fields[] = {log_text("key", "value"),      log_text("quoted", "two words"),
                                       log_int("n", INT64_MIN),       log_nusd("cost_nusd", 12500),
                                       log_span("empty", SPAN_EMPTY), log_text("absent", NULL),
                                       log_text("path", "/a?b#c:[d]")};
    check_text(fields, 7,
               " key=value quoted=\"two words\" n=-9223372036854775808 cost_nusd=0.000012500 empty=\"\" absent=\"\" "
               "path=/a?b#c:[d]");
}

static void test_text_escapes(void **state) {
    (void)state;
    const struct log_field fields[] = {
        log_text("a", "x\ny"),
        log_text("b", "q\"q"),
        log_text("c", "k=v"),
        log_text("d", "back\\slash"),
        log_text("e", "\x1b[1m"),
        log_text("f", "\xc3\xa9\xff"),
        log_span("g", SPAN_LITERAL("n\0n\r\x7f")),
        log_text("h", "\xc2\x85\xe2\x80\xa8"),
    };
    check_text(fields, 8,
               " a=\"x\\ny\" b=\"q\\\"q\" c=\"k=v\" d=\"back\\\\slash\" e=\"\\u001b[1m\" f=\"\xc3\xa9\xef\xbf\xbd\" "
               "g=\"n\\u0000n\\r\\u007f\" h=\"\\u0085\\u2028\"");
}

static void test_json(void **state) {
    (void)state;
    struct buffer line;
    struct json_doc doc;
    int64_t number = 0;
    const struct log_field fields[] = {log_text("text", "a\n\"b\" \xff"), log_int("n", -5), log_nusd("cost_usd", -1),
                                       log_text("bad\"name\n", "x")};
    render(&line, LOG_JSON_FORMAT, fields, 4);
    json_doc_init(&doc);
    assert_true(json_parse(&doc, buffer_span(&line)));
    static const char *const names[] = {"time", "level", "role", "pid", "event", "text", "n", "cost_usd", "bad_name_"};
    int at = json_first(&doc, 0);
    for (size_t i = 0; i < 9; i++) {
        assert_true(json_string_is(&doc, at, names[i]));
        at = json_next(&doc, at);
    }
    assert_int_equal(at, -1);
    assert_true(json_string_is(&doc, json_member(&doc, 0, "level"), "warn"));
    assert_true(json_string_is(&doc, json_member(&doc, 0, "role"), "worker 0"));
    assert_true(json_string_is(&doc, json_member(&doc, 0, "event"), "test_event"));
    assert_true(json_string_is(&doc, json_member(&doc, 0, "text"), "a\n\"b\" \xef\xbf\xbd"));
    assert_true(json_int(&doc, json_member(&doc, 0, "pid"), &number));
    assert_int_equal(number, getpid());
    assert_true(json_money(&doc, json_member(&doc, 0, "cost_usd"), &number));
    assert_int_equal(number, -1);
    json_doc_fini(&doc);
    buffer_fini(&line);
}

/* Whatever a value holds and however long it is: one line, at most 8 KiB, with valid JSON in JSON. */
static void test_long_lines_are_cut(void **state) {
    (void)state;
    static const char *const pieces[] = {"a", "\n", "\xf0\x9f\x98\x80", "\xff", "\"", "x\xe2\x80\xa8"};
    for (size_t i = 0; i < 6; i++) {
        struct buffer value;
        buffer_init(&value, 100000);
        while (value.len < 20000) {
            buffer_append_text(&value, pieces[i]);
        }
        for (size_t before = 0; before < 9000; before += before < 100 ? 1 : 977) {
            struct buffer line;
            struct json_doc doc;
            const struct log_field fields[] = {log_span("before", span_of(value.base, before)),
                                               log_span("long", buffer_span(&value)), log_int("after", 1)};
            render(&line, LOG_TEXT_FORMAT, fields, 3);
            assert_true(line.len <= LINE_MOST && line.len > LINE_MOST / 3);
            assert_non_null(strstr(buffer_text(&line), " cut=true\n"));
            buffer_fini(&line);
            render(&line, LOG_JSON_FORMAT, fields, 3);
            assert_true(line.len <= LINE_MOST && line.len > LINE_MOST / 3);
            json_doc_init(&doc);
            assert_true(json_parse(&doc, buffer_span(&line)));
            assert_int_equal(json_type_of(&doc, json_member(&doc, 0, "cut")), JSON_TRUE);
            assert_int_equal(json_member(&doc, 0, "after"), -1);
            json_doc_fini(&doc);
            buffer_fini(&line);
        }
        buffer_fini(&value);
    }
}

static void test_plain_value_is_cut_at_the_limit(void **state) {
    (void)state;
    char value[9000];
    struct buffer line;
    memset(value, 'a', sizeof(value));
    const struct log_field field = log_span("long", span_of(value, sizeof(value)));
    render(&line, LOG_TEXT_FORMAT, &field, 1);
    assert_in_range(line.len, LINE_MOST - 4, LINE_MOST);
    buffer_fini(&line);
}

static void test_many_fields_are_cut(void **state) {
    (void)state;
    struct log_field fields[1000];
    struct buffer line;
    for (size_t i = 0; i < 1000; i++) {
        fields[i] = log_int("number", INT64_MAX);
    }
    render(&line, LOG_JSON_FORMAT, fields, 1000);
    assert_true(line.len <= LINE_MOST);
    buffer_fini(&line);
}

static void test_levels(void **state) {
    (void)state;
    log_set_up(LOG_WARN, LOG_TEXT_FORMAT, "cli");
    assert_true(log_enabled(LOG_ERROR));
    assert_true(log_enabled(LOG_WARN));
    assert_false(log_enabled(LOG_INFO));
    assert_false(log_enabled(LOG_DEBUG));
}

static size_t read_all(int fd, char *out, size_t size) {
    size_t len = 0;
    ssize_t got = 0;
    while (len < size - 1 && (got = read(fd, out + len, size - 1 - len)) > 0) {
        len += (size_t)got;
    }
    out[len] = '\0';
    return len;
}

static void test_writes_enabled_lines(void **state) {
    (void)state;
    int ends[2];
    char got[4096];
    assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    log_set_descriptor(ends[1]);
    log_set_up(LOG_INFO, LOG_TEXT_FORMAT, "master");
    LOG(LOG_DEBUG, "not_shown");
    LOG(LOG_INFO, "shown_bare");
    LOG(LOG_ERROR, "shown_fields", log_text("a", "b"), log_int("n", 1));
    log_write(LOG_DEBUG, "not_shown_either", NULL, 0);
    (void)read_all(ends[0], got, sizeof(got));
    assert_null(strstr(got, "not_shown"));
    assert_non_null(strstr(got, " shown_bare\n"));
    assert_non_null(strstr(got, " shown_fields a=b n=1\n"));
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* A full pipe drops lines and counts them; what comes through later still stands on lines of its own. */
static void test_full_pipe_drops(void **state) {
    (void)state;
    static char got[300000];
    char value[5000];
    int ends[2];
    int64_t dropped_before = log_dropped_lines();
    memset(value, 'v', sizeof(value));
    assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    log_set_descriptor(ends[1]);
    log_set_up(LOG_INFO, LOG_TEXT_FORMAT, "worker 1");
    for (int i = 0; i < 100; i++) {
        errno = ENOENT;
        LOG(LOG_INFO, "filler", log_span("v", span_of(value, sizeof(value))));
        assert_int_equal(errno, ENOENT);
    }
    int64_t dropped = log_dropped_lines() - dropped_before;
    assert_in_range(dropped, 80, 99);
    (void)read_all(ends[0], got, sizeof(got));
    LOG(LOG_INFO, "afterwards");
    LOG(LOG_INFO, "and_again");
    size_t len = strlen(got);
    (void)read_all(ends[0], got + len, sizeof(got) - len);
    int whole = 0;
    int last = 0;
    char *rest = got;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        whole += strstr(line, "filler") != NULL && strlen(line) > sizeof(value) ? 1 : 0;
        const char *end = strstr(line, "worker 1[");
        bool is_late = end != NULL && (strstr(end, "] afterwards") != NULL || strstr(end, "] and_again") != NULL);
        last += is_late && strlen(line) < 100 ? 1 : 0;
    }
    assert_int_equal(whole, 100 - dropped);
    assert_int_equal(last, 2);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void test_closed_descriptor_is_counted(void **state) {
    (void)state;
    int64_t before = log_dropped_lines();
    log_set_descriptor(-1);
    LOG(LOG_ERROR, "lost_line");
    assert_int_equal(log_dropped_lines(), before + 1);
    log_set_descriptor(STDERR_FILENO);
}

static void test_long_role_is_cut(void **state) {
    (void)state;
    struct buffer line;
    buffer_init(&line, 10000);
    log_set_up(LOG_INFO, LOG_TEXT_FORMAT, "a role much longer than any role that tollgate has ever had");
    log_render(&line, LOG_INFO, "x", NULL, 0);
    assert_non_null(strstr(buffer_text(&line), "a role much longer than any rol["));
    buffer_fini(&line);
}

static void test_defaults(void **state) {
    (void)state;
    struct buffer line;
    buffer_init(&line, 10000);
    assert_true(log_enabled(LOG_INFO));
    assert_false(log_enabled(LOG_DEBUG));
    log_render(&line, LOG_INFO, "early", NULL, 0);
    assert_non_null(strstr(buffer_text(&line), "Z info tollgate["));
    buffer_fini(&line);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_text_escapes),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_long_lines_are_cut),
        cmocka_unit_test(test_plain_value_is_cut_at_the_limit),
        cmocka_unit_test(test_many_fields_are_cut),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_writes_enabled_lines),
        cmocka_unit_test(test_full_pipe_drops),
        cmocka_unit_test(test_closed_descriptor_is_counted),
        cmocka_unit_test(test_long_role_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
